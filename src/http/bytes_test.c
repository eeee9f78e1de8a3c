#include "http/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/prng.h"

static bool occurs(const char *text, unsigned byte)
{
    return byte != 0 && strchr(text, (int)byte) != NULL;
}

/* The table, byte by byte, against the grammars as the RFCs write them. */
static void the_classes_follow_the_grammars(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool alphanumeric = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                            (byte >= '0' && byte <= '9');
        bool unreserved = alphanumeric || occurs("-._~", byte);
        bool path = unreserved || occurs("!$&'()*+,;=:@/", byte);
        unsigned classes = 0;
        classes |= alphanumeric || occurs("!#$%&'*+-.^_`|~", byte) ? BYTE_TOKEN : 0U;
        classes |= unreserved ? BYTE_UNRESERVED : 0U;
        classes |= path ? BYTE_PATH : 0U;
        classes |= occurs("\"<>[]^`{|}", byte) ? BYTE_PATH_ENCODE : 0U;
        classes |= byte == '_' ? BYTE_UNDERSCORE : 0U;
        classes |= alphanumeric || byte == '-' ? BYTE_NAME : 0U;
        assert_int_equal(byte_classes[byte], classes);
    }
}

static void the_fast_search_agrees_with_the_portable_one(void **state)
{
    (void)state;
    enum { SIZE_MAX_TRIED = 80 };
    uint8_t bytes[SIZE_MAX_TRIED];
    for (unsigned byte = 0; byte < 256; byte++) {
        for (size_t size = 0; size <= SIZE_MAX_TRIED; size++) {
            memset(bytes, 'x', sizeof(bytes));
            assert_int_equal(bytes_find_control(bytes, size), size);
            for (size_t at = 0; at < size; at++) {
                bytes[at] = (uint8_t)byte;
                bool control = (byte < 0x20 && byte != '\t') || byte == 0x7F;
                assert_int_equal(bytes_find_control(bytes, size), control ? at : size);
                assert_int_equal(bytes_find_control_portable(bytes, size), control ? at : size);
                bytes[at] = 'x';
            }
        }
    }
}

static void the_fast_span_of_a_name_agrees_with_the_portable_one(void **state)
{
    (void)state;
    enum { SIZE_MAX_TRIED = 40 };
    uint8_t bytes[SIZE_MAX_TRIED];
    for (unsigned byte = 0; byte < 256; byte++) {
        bool plain = (byte_classes[byte] & BYTE_NAME) != 0;
        for (size_t size = 0; size <= SIZE_MAX_TRIED; size++) {
            memset(bytes, 'x', sizeof(bytes));
            assert_int_equal(bytes_span_name(bytes, size), size);
            for (size_t at = 0; at < size; at++) {
                bytes[at] = (uint8_t)byte;
                assert_int_equal(bytes_span_name(bytes, size), plain ? size : at);
                assert_int_equal(bytes_span_name_portable(bytes, size), plain ? size : at);
                bytes[at] = 'x';
            }
        }
    }
}

static void the_fast_count_agrees_with_the_portable_one(void **state)
{
    (void)state;
    static const uint8_t values[] = {'\r', '\n', '\0', 'a'};
    /* Above 255 blocks of 16 bytes, where the lanes of the fast one are summed in between. */
    enum { ROUNDS = 400, COUNT_MAX = 9000 };
    static uint8_t bytes[COUNT_MAX];
    struct prng prng;
    prng_init(&prng, 11);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t size = prng_below(&prng, COUNT_MAX);
        for (uint32_t i = 0; i < size; i++) {
            bytes[i] = values[prng_below(&prng, sizeof(values))];
        }
        struct line_count fast = bytes_count_lines(span_of(bytes, size));
        struct line_count portable = bytes_count_lines_portable(span_of(bytes, size));
        assert_memory_equal(&fast, &portable, sizeof(fast));
    }
    memset(bytes, '\n', sizeof(bytes));
    struct line_count feeds = bytes_count_lines(span_of(bytes, sizeof(bytes)));
    assert_int_equal(feeds.line_feeds, COUNT_MAX);
    assert_int_equal(feeds.carriage_returns + feeds.nuls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_classes_follow_the_grammars),
        cmocka_unit_test(the_fast_search_agrees_with_the_portable_one),
        cmocka_unit_test(the_fast_span_of_a_name_agrees_with_the_portable_one),
        cmocka_unit_test(the_fast_count_agrees_with_the_portable_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
