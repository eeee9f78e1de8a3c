#include "base/output.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/prng.h"

static void numbers_have_no_leading_zeros(void **state)
{
    (void)state;
    uint8_t memory[96];
    struct output output = output_over(memory, sizeof(memory));
    output_u64(&output, 0);
    output_byte(&output, ' ');
    output_u64(&output, 1090);
    output_byte(&output, ' ');
    output_u64(&output, UINT64_MAX);
    output_byte(&output, ' ');
    output_hex(&output, 0);
    output_byte(&output, ' ');
    output_hex(&output, 0x1f0);
    output_byte(&output, ' ');
    output_hex(&output, UINT64_MAX);
    assert_false(output.overflowed);
    assert_true(span_equal(output_bytes(&output),
                           SPAN("0 1090 18446744073709551615 0 1f0 ffffffffffffffff")));
}

static void a_piece_is_appended_whole_or_not_at_all(void **state)
{
    (void)state;
    uint8_t memory[4] = {0};
    struct output output = output_over(memory, 3);
    OUTPUT_LITERAL(&output, "ab");
    OUTPUT_LITERAL(&output, "cd");
    assert_true(output.overflowed);
    assert_true(span_equal(output_bytes(&output), SPAN("ab")));
    assert_int_equal(memory[2], 0);
}

static void an_overflow_is_sticky(void **state)
{
    (void)state;
    uint8_t memory[4];
    struct output output = output_over(memory, sizeof(memory));
    OUTPUT_LITERAL(&output, "12345");
    output_byte(&output, 'x');
    output_u64(&output, 1);
    output_span(&output, SPAN_EMPTY);
    assert_null(output_take(&output, 0));
    assert_true(output.overflowed);
    assert_int_equal(output.size, 0);
}

static void exactly_the_capacity_fits(void **state)
{
    (void)state;
    uint8_t memory[3];
    struct output output = output_over(memory, sizeof(memory));
    OUTPUT_LITERAL(&output, "abc");
    output_span(&output, SPAN_EMPTY);
    assert_false(output.overflowed);
    assert_null(output_take(&output, SIZE_MAX));
    assert_true(output.overflowed);
}

static void random_numbers_agree_with_the_library(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 11);
    for (int i = 0; i < 20000; i++) {
        uint64_t value = prng_next(&prng) >> prng_below(&prng, 64);
        char memory[64];
        char expected[64];
        struct output output = output_over(memory, sizeof(memory));
        output_u64(&output, value);
        output_byte(&output, '/');
        output_hex(&output, value);
        int size = snprintf(expected, sizeof(expected), "%" PRIu64 "/%" PRIx64, value, value);
        assert_int_equal(output.size, size);
        assert_memory_equal(memory, expected, output.size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_no_leading_zeros),
        cmocka_unit_test(a_piece_is_appended_whole_or_not_at_all),
        cmocka_unit_test(an_overflow_is_sticky),
        cmocka_unit_test(exactly_the_capacity_fits),
        cmocka_unit_test(random_numbers_agree_with_the_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
