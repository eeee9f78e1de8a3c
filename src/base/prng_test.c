#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The first outputs of the published algorithms for known states. */
static void sequence_is_xoshiro256_star_star(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        11520,
        0,
        1509978240,
        UINT64_C(1215971899390074240),
        UINT64_C(1216172134540287360),
        UINT64_C(607988272756665600),
        UINT64_C(16172922978634559625),
        UINT64_C(8476171486693032832),
    };
    struct prng prng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_true(prng_next(&prng) == expected[i]);
    }
}

static void seed_is_spread_by_split_mix(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 1234567);
    assert_true(prng.state[0] == UINT64_C(6457827717110365317));
    assert_true(prng.state[1] == UINT64_C(3203168211198807973));
    assert_true(prng.state[2] == UINT64_C(9817491932198370423));
    assert_true(prng.state[3] == UINT64_C(4593380528125082431));
}

static void same_seed_gives_the_same_sequence_and_another_does_not(void **state)
{
    (void)state;
    struct prng a;
    struct prng b;
    struct prng other;
    prng_init(&a, 0);
    prng_init(&b, 0);
    prng_init(&other, 1);
    unsigned equal = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t value = prng_next(&a);
        assert_true(value == prng_next(&b));
        equal += value == prng_next(&other) ? 1U : 0U;
    }
    assert_int_equal(equal, 0);
}

static void below_stays_below_and_reaches_every_value_evenly(void **state)
{
    (void)state;
    enum { DRAWS = 70000, BOUND = 7 };
    unsigned counts[BOUND] = {0};
    struct prng prng;
    prng_init(&prng, 42);
    for (int i = 0; i < DRAWS; i++) {
        uint32_t value = prng_below(&prng, BOUND);
        assert_in_range(value, 0, BOUND - 1);
        counts[value]++;
    }
    for (int i = 0; i < BOUND; i++) {
        assert_in_range(counts[i], 9600, 10400); /* four standard deviations */
    }
}

/*
 * With this bound, product and shift without redrawing would give every third value twice as often
 * as its neighbours.
 */
static void below_has_no_bias_for_a_bound_that_divides_badly(void **state)
{
    (void)state;
    enum { DRAWS = 60000 };
    const uint32_t bound = UINT32_C(3) << 30;
    unsigned counts[3] = {0};
    struct prng prng;
    prng_init(&prng, 7);
    for (int i = 0; i < DRAWS; i++) {
        counts[prng_below(&prng, bound) % 3]++;
    }
    for (int i = 0; i < 3; i++) {
        assert_in_range(counts[i], 19500, 20500);
    }
}

static void below_one_is_always_zero(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 3);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(prng_below(&prng, 1), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequence_is_xoshiro256_star_star),
        cmocka_unit_test(seed_is_spread_by_split_mix),
        cmocka_unit_test(same_seed_gives_the_same_sequence_and_another_does_not),
        cmocka_unit_test(below_stays_below_and_reaches_every_value_evenly),
        cmocka_unit_test(below_has_no_bias_for_a_bound_that_divides_badly),
        cmocka_unit_test(below_one_is_always_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
