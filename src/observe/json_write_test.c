#include "observe/json_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/prng.h"
#include "config/utf8.h"

static void expect(struct span text, size_t max, struct span expected)
{
    uint8_t memory[512];
    struct output output = output_over(memory, sizeof(memory));
    json_string(&output, text, max);
    assert_false(output.overflowed);
    assert_int_equal(output.size, expected.size);
    assert_memory_equal(output.data, expected.data, expected.size);
}

static void plain_text_stands_for_itself(void **state)
{
    (void)state;
    expect(SPAN(""), 100, SPAN("\"\""));
    expect(SPAN("/a/b?c=d~"), 100, SPAN("\"/a/b?c=d~\""));
    expect(SPAN("/a/long/path/of/more/than/eight/bytes"), 100,
           SPAN("\"/a/long/path/of/more/than/eight/bytes\""));
}

static void what_would_break_a_string_or_a_line_is_escaped(void **state)
{
    (void)state;
    expect(SPAN("a\"b\\c"), 100, SPAN("\"a\\\"b\\\\c\""));
    expect(SPAN("\r\n\t\0\x1b"), 100, SPAN("\"\\u000d\\u000a\\u0009\\u0000\\u001b\""));
    expect(SPAN("eight---\x7f"), 100, SPAN("\"eight---\\u007f\""));
}

static void valid_utf8_stays_and_other_bytes_are_escaped(void **state)
{
    (void)state;
    expect(SPAN("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 100,
           SPAN("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""));
    expect(SPAN("\xff\xc3"), 100, SPAN("\"\\u00ff\\u00c3\""));
    expect(SPAN("\xc0\xaf"), 100, SPAN("\"\\u00c0\\u00af\""));
    expect(SPAN("\xc2\x9b"), 100, SPAN("\"\\u009b\""));
}

static void long_text_is_cut_with_a_mark_and_no_character_is_torn(void **state)
{
    (void)state;
    expect(SPAN("0123456789"), 10, SPAN("\"0123456789\""));
    expect(SPAN("0123456789a"), 10, SPAN("\"01...[cut]\""));
    expect(SPAN("0\xe2\x82\xac"
                "456789a"),
           10, SPAN("\"0...[cut]\""));
    expect(SPAN("\n\n\n"), 12, SPAN("\"...[cut]\""));
    expect(SPAN("\n\n"), 12, SPAN("\"\\u000a\\u000a\""));
}

static void any_bytes_give_a_printable_string_within_the_bound(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 7);
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t text[64];
        size_t size = prng_below(&prng, sizeof(text) + 1);
        for (size_t i = 0; i < size; i++) {
            text[i] = (uint8_t)(prng_below(&prng, 3) == 0 ? prng_next(&prng) : 'a');
        }
        size_t max = sizeof(JSON_CUT_MARK) + prng_below(&prng, 100);
        uint8_t memory[256];
        struct output output = output_over(memory, sizeof(memory));
        json_escape(&output, span_of(text, size), max);
        assert_true(output.size <= max);
        struct span rest = output_bytes(&output);
        while (rest.size > 0) {
            uint32_t code_point = 0;
            size_t character = utf8_decode(rest, &code_point);
            assert_true(character > 0);
            assert_true(code_point >= 0x20 && code_point != 0x7f && code_point != '"');
            bool escape = code_point == '\\';
            if (escape) {
                assert_true(rest.size >= 2);
                character = rest.data[1] == 'u' ? 6 : 2;
                assert_true(rest.size >= character);
            }
            rest = span_from(rest, character);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_stands_for_itself),
        cmocka_unit_test(what_would_break_a_string_or_a_line_is_escaped),
        cmocka_unit_test(valid_utf8_stays_and_other_bytes_are_escaped),
        cmocka_unit_test(long_text_is_cut_with_a_mark_and_no_character_is_torn),
        cmocka_unit_test(any_bytes_give_a_printable_string_within_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
