#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/utf8.h"

static void every_scalar_value_survives_encoding_and_decoding(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x10FFFF; code_point++) {
        if (!utf8_is_scalar(code_point)) {
            continue;
        }
        uint8_t bytes[UTF8_SIZE_MAX];
        uint32_t decoded = UINT32_MAX;
        size_t size = utf8_encode(code_point, bytes);
        assert_int_equal(utf8_decode(span_of(bytes, size), &decoded), size);
        assert_int_equal(decoded, code_point);
        if (size > 1) {
            assert_int_equal(utf8_decode(span_of(bytes, size - 1), &decoded), 0);
        }
    }
}

static void malformed_bytes_are_refused(void **state)
{
    (void)state;
    const struct span malformed[] = {
        SPAN("\x80"),             /* a continuation byte alone */
        SPAN("\xC0\x80"),         /* overlong NUL */
        SPAN("\xC1\xBF"),         /* overlong DEL */
        SPAN("\xE0\x9F\xBF"),     /* overlong U+07FF */
        SPAN("\xF0\x8F\xBF\xBF"), /* overlong U+FFFF */
        SPAN("\xED\xA0\x80"),     /* U+D800 */
        SPAN("\xED\xBF\xBF"),     /* U+DFFF */
        SPAN("\xF4\x90\x80\x80"), /* U+110000 */
        SPAN("\xF5\x80\x80\x80"),
        SPAN("\xFF"),
        SPAN("\xC3("),
        SPAN("\xE2\x82("),
    };
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        uint32_t code_point = 7;
        assert_int_equal(utf8_decode(malformed[i], &code_point), 0);
        assert_int_equal(code_point, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_survives_encoding_and_decoding),
        cmocka_unit_test(malformed_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
