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

static void the_fast_span_of_printable_bytes_agrees_with_the_portable_one(void **state)
{
    (void)state;
    enum { SIZE_MAX_TRIED = 40 };
    uint8_t bytes[SIZE_MAX_TRIED];
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = byte >= 0x20 && byte < 0x7F;
        for (size_t size = 0; size <= SIZE_MAX_TRIED; size++) {
            memset(bytes, 'x', sizeof(bytes));
            assert_int_equal(bytes_span_printable(bytes, size), size);
            for (size_t at = 0; at < size; at++) {
                bytes[at] = (uint8_t)byte;
                assert_int_equal(bytes_span_printable(bytes, size), printable ? size : at);
                assert_int_equal(bytes_span_printable_portable(bytes, size), printable ? size : at);
                bytes[at] = 'x';
            }
        }
    }
}

/* The search for a control byte goes on behind a byte that is neither printable nor a control. */
static void a_control_is_found_behind_tabs_and_high_bytes(void **state)
{
    (void)state;
    enum { SIZE_MAX_TRIED = 70 };
    static const uint8_t passed[] = {'\t', 0x80, 0xFF};
    uint8_t bytes[SIZE_MAX_TRIED];
    for (size_t control = 1; control < SIZE_MAX_TRIED; control++) {
        for (size_t at = 0; at < control; at++) {
            memset(bytes, 'x', sizeof(bytes));
            bytes[at] = passed[at % sizeof(passed)];
            assert_int_equal(bytes_find_control(bytes, control), control);
            bytes[control] = '\r';
            assert_int_equal(bytes_find_control(bytes, SIZE_MAX_TRIED), control);
        }
    }
}

static void the_fast_counts_agree_with_the_portable_ones(void **state)
{
    (void)state;
    static const uint8_t values[] = {'\r', '\n', '\0', 'a', '\t', 0x80};
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
        assert_int_equal(bytes_count_breaks(span_of(bytes, size)),
                         bytes_count_breaks_portable(span_of(bytes, size)));
        assert_int_equal(bytes_count_unprintable(span_of(bytes, size)),
                         bytes_count_unprintable_portable(span_of(bytes, size)));
    }
    memset(bytes, '\n', sizeof(bytes));
    assert_int_equal(bytes_count_breaks(span_of(bytes, sizeof(bytes))), COUNT_MAX);
    assert_int_equal(bytes_count_unprintable(span_of(bytes, sizeof(bytes))), COUNT_MAX);
}

/* Each value against the definitions, in a whole vector and a part of one. */
static void what_is_counted_is_what_is_named(void **state)
{
    (void)state;
    for (unsigned value = 0; value < 256; value++) {
        uint8_t memory[40];
        memset(memory, (int)value, sizeof(memory));
        struct span bytes = span_of(memory, sizeof(memory));
        size_t breaks = value == '\r' || value == '\n' || value == 0 ? bytes.size : 0;
        size_t unprintable = value < 0x20 || value > 0x7E ? bytes.size : 0;
        assert_int_equal(bytes_count_breaks(bytes), breaks);
        assert_int_equal(bytes_count_breaks_portable(bytes), breaks);
        assert_int_equal(bytes_count_unprintable(bytes), unprintable);
        assert_int_equal(bytes_count_unprintable_portable(bytes), unprintable);
    }
}

static void only_ascii_capitals_become_small(void **state)
{
    (void)state;
    uint8_t bytes[256 + 7];
    uint8_t small[sizeof(bytes)];
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)i;
    }
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        memset(small, 0xEE, sizeof(small));
        bytes_copy_lower(small, span_of(bytes, size));
        for (size_t i = 0; i < size; i++) {
            bool capital = bytes[i] >= 'A' && bytes[i] <= 'Z';
            assert_int_equal(small[i], capital ? bytes[i] + ('a' - 'A') : bytes[i]);
        }
        assert_true(size == sizeof(bytes) || small[size] == 0xEE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_classes_follow_the_grammars),
        cmocka_unit_test(the_fast_search_agrees_with_the_portable_one),
        cmocka_unit_test(the_fast_span_of_a_name_agrees_with_the_portable_one),
        cmocka_unit_test(the_fast_span_of_printable_bytes_agrees_with_the_portable_one),
        cmocka_unit_test(a_control_is_found_behind_tabs_and_high_bytes),
        cmocka_unit_test(the_fast_counts_agree_with_the_portable_ones),
        cmocka_unit_test(what_is_counted_is_what_is_named),
        cmocka_unit_test(only_ascii_capitals_become_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
