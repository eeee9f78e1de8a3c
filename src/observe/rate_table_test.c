/* What a client may ask for, in a table that others fill, share and corrupt. */
#include "observe/rate_table.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { SECOND = 1000 * 1000, RATE = 100, BURST = 20, THREADS = 4, EACH = 5000, SET_CELLS = 8 };

#define CLIENT UINT64_C(0x123456789abcdef0)

struct fixture {
    struct generation_header header;
    struct generation generation;
    void *memory;
    struct commons commons;
    struct rate_table table;
    struct prng prng;
};

static struct fixture *begin(uint32_t rate, uint32_t burst)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->header.server.connections = 1; /* the smallest table */
    fixture->header.server.limits.request_rate = rate;
    fixture->header.server.limits.request_burst = burst;
    fixture->generation.header = &fixture->header;
    size_t size = commons_size(&fixture->generation);
    fixture->memory = aligned_alloc(64, size);
    assert_non_null(fixture->memory);
    memset(fixture->memory, 0, size);
    commons_init(&fixture->commons, fixture->memory, &fixture->generation);
    rate_table_init(&fixture->table, &fixture->commons, &fixture->generation);
    prng_init(&fixture->prng, rate);
    return fixture;
}

static void end(struct fixture *fixture)
{
    free(fixture->memory);
    free(fixture);
}

/* How many of so many requests at one moment are let in. */
static uint32_t let_in(const struct fixture *fixture, uint64_t client, uint64_t now, uint32_t count)
{
    uint32_t admitted = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t wait = 0;
        admitted += rate_table_admit(&fixture->table, client, now, &wait) ? 1 : 0;
    }
    return admitted;
}

static void without_a_rate_there_is_no_table(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0, 0);
    assert_false(rate_table_is_on(&fixture->table));
    end(fixture);
}

static void a_burst_comes_through_and_then_the_rate(void **state)
{
    (void)state;
    struct fixture *fixture = begin(RATE, BURST);
    uint64_t now = 77 * (uint64_t)SECOND;
    assert_int_equal(let_in(fixture, CLIENT, now, 100), BURST);
    for (int second = 1; second <= 10; second++) {
        uint32_t admitted = 0;
        for (int i = 0; i < 1000; i++) {
            now += SECOND / 1000;
            admitted += let_in(fixture, CLIENT, now, 1);
        }
        assert_in_range(admitted, RATE - 1, RATE + 1);
    }
    assert_int_equal(let_in(fixture, CLIENT, now + SECOND, 100), BURST);
    end(fixture);
}

static void who_keeps_to_the_rate_is_never_refused(void **state)
{
    (void)state;
    struct fixture *fixture = begin(RATE, 1);
    for (uint64_t i = 1; i < 10000; i++) {
        assert_int_equal(let_in(fixture, CLIENT, i * SECOND / RATE, 1), 1);
    }
    end(fixture);
}

static void a_refusal_says_how_long_to_wait(void **state)
{
    (void)state;
    struct fixture *fixture = begin(1, 3);
    uint64_t wait = 0;
    uint64_t now = 5 * SECOND;
    assert_int_equal(let_in(fixture, CLIENT, now, 3), 3);
    assert_false(rate_table_admit(&fixture->table, CLIENT, now, &wait));
    assert_int_equal(wait, SECOND);
    assert_int_equal(let_in(fixture, CLIENT, now + wait - 1, 1), 0);
    assert_int_equal(let_in(fixture, CLIENT, now + wait, 1), 1);
    end(fixture);
}

static void clients_do_not_share_what_they_may(void **state)
{
    (void)state;
    struct fixture *fixture = begin(RATE, BURST);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(let_in(fixture, prng_next(&fixture->prng), SECOND, 40), BURST);
    }
    end(fixture);
}

static void a_flood_of_addresses_gets_nobody_refused(void **state)
{
    (void)state;
    struct fixture *fixture = begin(1, BURST);
    uint64_t now = SECOND;
    for (int i = 0; i < 300 * 1000; i++) {
        assert_int_equal(let_in(fixture, prng_next(&fixture->prng), now, 1), 1);
        if (i % 30000 == 0) {
            now += SECOND; /* a client at its rate, all through the flood */
            assert_int_equal(let_in(fixture, CLIENT, now, 1), 1);
        }
    }
    assert_true(rate_table_sample(&fixture->table, now) > 900 * 1000);
    end(fixture);
}

static void a_flood_does_not_free_who_asked_for_too_much(void **state)
{
    (void)state;
    struct fixture *fixture = begin(1, BURST);
    assert_int_equal(let_in(fixture, CLIENT, SECOND, 100), BURST);
    for (int i = 0; i < 300 * 1000; i++) {
        assert_int_equal(let_in(fixture, prng_next(&fixture->prng), SECOND, 1), 1);
    }
    assert_int_equal(let_in(fixture, CLIENT, SECOND, 1), 0);
    end(fixture);
}

static void the_clock_may_be_of_any_age(void **state)
{
    (void)state;
    struct fixture *fixture = begin(RATE, BURST);
    uint64_t wrap = UINT64_C(1) << 42;
    for (uint64_t now = wrap - 1000; now < wrap + 1000; now += 50) {
        (void)let_in(fixture, CLIENT, now, 1);
    }
    assert_int_equal(let_in(fixture, CLIENT, wrap + SECOND, 100), BURST);
    assert_int_equal(let_in(fixture, CLIENT, 3 * wrap + 9 * (uint64_t)SECOND, 100), BURST);
    end(fixture);
}

static void no_word_refuses_a_client_for_longer_than_its_own_burst_could(void **state)
{
    (void)state;
    struct fixture *fixture = begin(RATE, BURST);
    _Atomic uint64_t *set =
        fixture->table.cells + (size_t)(CLIENT & fixture->table.set_mask) * SET_CELLS;
    for (int round = 0; round < 20000; round++) {
        uint64_t now = prng_next(&fixture->prng) >> 8;
        uint64_t wait = 0;
        for (int i = 0; i < SET_CELLS; i++) {
            uint64_t tag =
                prng_below(&fixture->prng, 2) == 0 ? CLIENT >> 42 : prng_next(&fixture->prng) >> 42;
            uint64_t time = (now + prng_below(&fixture->prng, SECOND)) & ((UINT64_C(1) << 42) - 1);
            atomic_store(set + i, tag << 42 | time);
        }
        if (!rate_table_admit(&fixture->table, CLIENT, now, &wait)) {
            assert_in_range(wait, 1, SECOND / RATE);
        }
        assert_true(let_in(fixture, CLIENT, now + SECOND, 1) == 1);
    }
    end(fixture);
}

struct racer {
    struct fixture *fixture;
    pthread_barrier_t *start;
    uint32_t admitted;
};

static void *race(void *context)
{
    struct racer *racer = context;
    (void)pthread_barrier_wait(racer->start);
    racer->admitted = let_in(racer->fixture, CLIENT, SECOND, EACH);
    return NULL;
}

/* Who loses a race is let in uncounted after a few tries: that is the only way to get more. */
static void many_workers_count_one_client_together(void **state)
{
    (void)state;
    struct fixture *fixture = begin(1, EACH);
    struct racer racers[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    uint32_t admitted = 0;
    assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){.fixture = fixture, .start = &start};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        admitted += racers[i].admitted;
    }
    assert_in_range(admitted, EACH, THREADS * EACH - 1);
    assert_int_equal(let_in(fixture, CLIENT, SECOND, 1), 0);
    assert_int_equal(pthread_barrier_destroy(&start), 0);
    end(fixture);
}

static void a_sample_tells_how_full_the_table_is(void **state)
{
    (void)state;
    struct fixture *fixture = begin(1, BURST);
    assert_int_equal(rate_table_sample(&fixture->table, SECOND), 0);
    for (uint32_t i = 0; i < fixture->commons.rate_cells / 2; i++) {
        (void)let_in(fixture, prng_next(&fixture->prng), SECOND, 1);
    }
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) { /* all of it */
        sum += rate_table_sample(&fixture->table, SECOND);
    }
    assert_in_range(sum / 8, 400 * 1000, 500 * 1000);
    assert_int_equal(rate_table_sample(&fixture->table, 3 * SECOND), 0);
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rate_there_is_no_table),
        cmocka_unit_test(a_burst_comes_through_and_then_the_rate),
        cmocka_unit_test(who_keeps_to_the_rate_is_never_refused),
        cmocka_unit_test(a_refusal_says_how_long_to_wait),
        cmocka_unit_test(clients_do_not_share_what_they_may),
        cmocka_unit_test(a_flood_of_addresses_gets_nobody_refused),
        cmocka_unit_test(a_flood_does_not_free_who_asked_for_too_much),
        cmocka_unit_test(the_clock_may_be_of_any_age),
        cmocka_unit_test(no_word_refuses_a_client_for_longer_than_its_own_burst_could),
        cmocka_unit_test(many_workers_count_one_client_together),
        cmocka_unit_test(a_sample_tells_how_full_the_table_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
