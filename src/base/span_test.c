#include "base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

static void assert_span(struct span span, const char *expected)
{
    assert_int_equal(span.size, strlen(expected));
    assert_memory_equal(span.data, expected, span.size);
}

static void spans_are_equal_by_their_bytes(void **state)
{
    (void)state;
    char copy[] = "abc";
    assert_true(span_equal(SPAN("abc"), span_of(copy, 3)));
    assert_true(span_equal(SPAN("abc"), span_of_string("abc")));
    assert_true(span_equal(SPAN("a\0b"), span_of("a\0b", 3)));
    assert_false(span_equal(SPAN("a\0b"), SPAN("a\0c")));
    assert_false(span_equal(SPAN("abc"), SPAN("ab")));
    assert_false(span_equal(SPAN("abc"), SPAN("Abc")));
    assert_true(span_equal(SPAN_EMPTY, SPAN("")));
    assert_true(span_equal(SPAN_EMPTY, SPAN_EMPTY));
}

static void prefixes_and_suffixes_are_found_at_their_end_only(void **state)
{
    (void)state;
    struct span span = SPAN("example.com");
    assert_true(span_starts_with(span, SPAN("exam")));
    assert_true(span_ends_with(span, SPAN(".com")));
    assert_false(span_starts_with(span, SPAN(".com")));
    assert_false(span_ends_with(span, SPAN("exam")));
    assert_true(span_starts_with(span, span) && span_ends_with(span, span));
    assert_false(span_starts_with(span, SPAN("example.comm")));
    assert_false(span_ends_with(span, SPAN("eexample.com")));
    assert_true(span_starts_with(span, SPAN_EMPTY) && span_ends_with(span, SPAN_EMPTY));
    assert_true(span_starts_with(SPAN_EMPTY, SPAN_EMPTY) && span_ends_with(SPAN_EMPTY, SPAN_EMPTY));
    assert_false(span_starts_with(SPAN_EMPTY, SPAN("x")) || span_ends_with(SPAN_EMPTY, SPAN("x")));
}

static void parts_of_a_span_borrow_the_same_bytes(void **state)
{
    (void)state;
    struct span span = SPAN("abcdef");
    assert_ptr_equal(span_from(span, 2).data, span.data + 2);
    assert_span(span_from(span, 2), "cdef");
    assert_span(span_first(span, 2), "ab");
    assert_span(span_from(span, 6), "");
    assert_span(span_first(span, 0), "");
}

static void case_is_ignored_for_ascii_letters_only(void **state)
{
    (void)state;
    assert_true(span_equal_nocase(SPAN("Content-LENGTH"), SPAN("cONTENT-length")));
    assert_true(span_equal_nocase(SPAN_EMPTY, SPAN("")));
    assert_false(span_equal_nocase(SPAN("abc"), SPAN("abcd")));
    for (unsigned a = 0; a < 256; a++) {
        uint8_t first = (uint8_t)a;
        bool upper = a >= 'A' && a <= 'Z';
        assert_int_equal(ascii_lower(first), upper ? a + 32 : a);
        for (unsigned b = 0; b < 256; b++) {
            uint8_t second = (uint8_t)b;
            bool letter = (a | 32) >= 'a' && (a | 32) <= 'z';
            bool same = a == b || (letter && (a ^ b) == 32);
            assert_true(span_equal_nocase(span_of(&first, 1), span_of(&second, 1)) == same);
        }
    }
}

static void digits_have_values_and_nothing_else_has(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 256; i++) {
        const char *found = i == 0 ? NULL : strchr(digits, ascii_lower((uint8_t)i));
        assert_int_equal(ascii_hex_value((uint8_t)i), found == NULL ? -1 : found - digits);
        assert_int_equal(ascii_is_digit((uint8_t)i), found != NULL && found - digits < 10);
    }
}

static void find_gives_the_first_offset_or_the_size(void **state)
{
    (void)state;
    assert_int_equal(span_find(SPAN("a,b,c"), ','), 1);
    assert_int_equal(span_find(SPAN("abc"), ','), 3);
    assert_int_equal(span_find(SPAN("ab\0c"), 0), 2);
    assert_int_equal(span_find(span_of("ab", 1), 'b'), 1); /* not beyond the end */
    assert_int_equal(span_find(SPAN_EMPTY, 'x'), 0);
}

static void trim_removes_blanks_at_both_ends(void **state)
{
    (void)state;
    assert_span(span_trim(SPAN(" \t a b\t ")), "a b");
    assert_span(span_trim(SPAN("a")), "a");
    assert_span(span_trim(SPAN(" \t ")), "");
    assert_span(span_trim(SPAN("\r\na\v")), "\r\na\v"); /* these are no OWS */
    assert_int_equal(span_trim(SPAN_EMPTY).size, 0);
}

static void elements_of_a_list_come_trimmed_and_never_empty(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        const char *elements[4];
    } cases[] = {
        {"", {NULL}},
        {",", {NULL}},
        {" ,\t, ,", {NULL}},
        {"a", {"a"}},
        {"a,b", {"a", "b"}},
        {",a,,b,", {"a", "b"}},
        {" keep-alive ,\tUpgrade , a b", {"keep-alive", "Upgrade", "a b"}},
        {"\"x,y\"", {"\"x", "y\""}}, /* quoted strings are not known */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct span rest = span_of_string(cases[i].list);
        struct span element = SPAN("untouched");
        for (int j = 0; cases[i].elements[j] != NULL; j++) {
            assert_true(span_next_element(&rest, &element));
            assert_span(element, cases[i].elements[j]);
        }
        struct span last = element;
        assert_false(span_next_element(&rest, &element));
        assert_ptr_equal(element.data, last.data);
        assert_int_equal(rest.size, 0);
    }
    struct span nothing = SPAN_EMPTY;
    struct span element;
    assert_false(span_next_element(&nothing, &element));
}

static void only_decimal_numbers_up_to_the_maximum_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        bool good;
        uint64_t value;
    } cases[] = {
        {"0", 0, true, 0},
        {"1", 0, false, 0},
        {"0042", 42, true, 42},
        {"43", 42, false, 0},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"000000000000000000000018446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"18446744073709551625", UINT64_MAX, false, 0},
        {"184467440737095516150", UINT64_MAX, false, 0},
        {"99999999999999999999", UINT64_MAX, false, 0},
        {"340282366920938463463374607431768211456", UINT64_MAX, false, 0},
        {"", 9, false, 0},
        {"+1", 9, false, 0},
        {"-1", 9, false, 0},
        {" 1", 9, false, 0},
        {"1 ", 9, false, 0},
        {"0x1", 9, false, 0},
        {"1/", 99, false, 0},
        {"1:", 99, false, 0},
        {"\xd9\xa1", 9, false, 0}, /* an Arabic one */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 77;
        bool good = span_to_u64(span_of_string(cases[i].text), cases[i].max, &value);
        assert_int_equal(good, cases[i].good);
        assert_true(value == (good ? cases[i].value : 77));
    }
    uint64_t value = 77;
    assert_false(span_to_u64(SPAN("1\0"), 99, &value));
    assert_false(span_to_u64(SPAN_EMPTY, 99, &value));
}

/* strtoull is the oracle, on texts that are digits only. */
static void random_numbers_agree_with_the_library(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 5);
    for (int i = 0; i < 20000; i++) {
        char text[24] = {0};
        size_t size = 1 + prng_below(&prng, 19); /* up to 19 digits fit 64 bits */
        for (size_t j = 0; j < size; j++) {
            text[j] = (char)('0' + prng_below(&prng, 10));
        }
        uint64_t expected = strtoull(text, NULL, 10);
        uint64_t max = prng_next(&prng) >> prng_below(&prng, 64);
        uint64_t value = 0;
        assert_true(span_to_u64(span_of_string(text), max, &value) == (expected <= max));
        assert_true(value == (expected <= max ? expected : 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_equal_by_their_bytes),
        cmocka_unit_test(prefixes_and_suffixes_are_found_at_their_end_only),
        cmocka_unit_test(parts_of_a_span_borrow_the_same_bytes),
        cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(digits_have_values_and_nothing_else_has),
        cmocka_unit_test(find_gives_the_first_offset_or_the_size),
        cmocka_unit_test(trim_removes_blanks_at_both_ends),
        cmocka_unit_test(elements_of_a_list_come_trimmed_and_never_empty),
        cmocka_unit_test(only_decimal_numbers_up_to_the_maximum_are_read),
        cmocka_unit_test(random_numbers_agree_with_the_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
