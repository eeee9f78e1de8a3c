#include "control/recent_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LINE                                                                                       \
    SPAN("{\"kind\":\"finished\",\"path\":\"/a\\\"b\\\\c\\u001bd\",\"status\":503,"                \
         "\"total_ms\":12.750,\"reason\":null,\"query\":true}")

static void members_are_found_and_unescaped(void **state)
{
    (void)state;
    char text[32];
    assert_true(recent_line_is_sound(LINE));
    assert_true(recent_line_get(LINE, "path", text, sizeof(text)));
    assert_string_equal(text, "/a\"b\\c?d");
    assert_true(recent_line_get(LINE, "status", text, sizeof(text)));
    assert_string_equal(text, "503");
    assert_true(recent_line_is(LINE, "query", "true") && recent_line_is(LINE, "kind", "finished"));
    assert_int_equal(recent_line_number(LINE, "status"), 503);
    assert_int_equal(recent_line_number(LINE, "total_ms"), 12);
    assert_int_equal(recent_line_number(LINE, "path"), 0);
}

static void what_is_absent_or_null_is_not_there(void **state)
{
    (void)state;
    char text[8] = "before";
    assert_false(recent_line_get(LINE, "reason", text, sizeof(text)));
    assert_string_equal(text, "");
    assert_false(recent_line_get(LINE, "none", text, sizeof(text)));
    assert_false(recent_line_is(LINE, "reason", ""));
    assert_int_equal(recent_line_number(LINE, "none"), 0);
}

static void a_long_value_is_cut(void **state)
{
    (void)state;
    char text[4];
    assert_true(recent_line_get(LINE, "kind", text, sizeof(text)));
    assert_string_equal(text, "fin");
}

static void what_is_no_flat_object_is_not_sound(void **state)
{
    (void)state;
    static const char *const LINES[] = {
        "",
        "{",
        "{}",
        "[1]",
        "{\"a\":1",
        "{\"a\":1} ",
        "{\"a\"",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":\"x}",
        "{\"a\":{\"b\":1}}",
        "{\"a\":1,}",
        "null",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\",
        "{\"a\":1 }",
        "{\"a\":\"\x1b[2J\"}", /* what steers a terminal, escaped or not */
        "{\"a\":\"\\\x1b[2J\"}",
        "{\"a\":\"\x7f\"}",
        "{\"a\":\"\x9b\"}",
        "{\"a\":\"\xc2\x9b\"}",
        "{\"\xc2\x9b\":1}",
        "{\"a\":\"\xc3\"}", /* no UTF-8 */
    };
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        if (recent_line_is_sound(span_of_string(LINES[i]))) {
            fail_msg("sound: %s", LINES[i]);
        }
    }
    assert_true(recent_line_is_sound(SPAN("{\"a\":\"\\\"\\\\\",\"b\":\"caf\xc3\xa9\"}")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found_and_unescaped),
        cmocka_unit_test(what_is_absent_or_null_is_not_there),
        cmocka_unit_test(a_long_value_is_cut),
        cmocka_unit_test(what_is_no_flat_object_is_not_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
