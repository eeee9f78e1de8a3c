#include "http/message.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void every_known_field_is_identified_in_any_case(void **state)
{
    (void)state;
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_COUNT; id++) {
        struct span name = field_name((enum field_id)id);
        uint8_t copy[FIELD_NAME_MAX];
        assert_in_range(name.size, 1, sizeof(copy));
        assert_int_equal(field_identify(name), id);
        for (size_t i = 0; i < name.size; i++) {
            uint8_t lower = ascii_lower(name.data[i]);
            copy[i] = lower >= 'a' && lower <= 'z' && i % 2 == 0 ? (uint8_t)(lower - 0x20) : lower;
        }
        assert_int_equal(field_identify(span_of(copy, name.size)), id);
    }
    assert_int_equal(field_name(FIELD_OTHER).size, 0);
    assert_int_equal(field_flags(FIELD_OTHER), 0);
}

/* Every change of one byte, but of a letter's case, makes an unknown name of a known one. */
static void no_other_name_is_taken_for_a_known_field(void **state)
{
    (void)state;
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_COUNT; id++) {
        struct span name = field_name((enum field_id)id);
        uint8_t copy[FIELD_NAME_MAX];
        memcpy(copy, name.data, name.size);
        assert_int_not_equal(field_identify(span_first(name, name.size - 1)), id);
        for (size_t i = 0; i < name.size; i++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                copy[i] = (uint8_t)byte;
                bool same = ascii_lower((uint8_t)byte) == ascii_lower(name.data[i]);
                assert_int_equal(field_identify(span_of(copy, name.size)) == id, same);
            }
            copy[i] = name.data[i];
        }
    }
    assert_int_equal(field_identify(SPAN("")), FIELD_OTHER);
    assert_int_equal(field_identify(SPAN("X-Very-Long-Name-Of-More-Than-Thirty-Two")), FIELD_OTHER);
}

static void aliases_of_protected_fields_are_known(void **state)
{
    (void)state;
    assert_true(field_aliases_protected(SPAN("Content_Length")));
    assert_true(field_aliases_protected(SPAN("X_Forwarded_For")));
    assert_true(field_aliases_protected(SPAN("x-forwarded_for")));
    assert_false(field_aliases_protected(SPAN("Content-Length")));
    assert_false(field_aliases_protected(SPAN("User_Agent")));
    assert_false(field_aliases_protected(SPAN("X_Custom")));
    assert_false(field_aliases_protected(SPAN("")));
    assert_false(field_aliases_protected(SPAN("x_very_long_name_of_more_than_thirty_two")));
}

static void methods_are_case_sensitive(void **state)
{
    (void)state;
    assert_int_equal(method_identify(SPAN("GET")), METHOD_GET);
    assert_int_equal(method_identify(SPAN("HEAD")), METHOD_HEAD);
    assert_int_equal(method_identify(SPAN("POST")), METHOD_POST);
    assert_int_equal(method_identify(SPAN("PUT")), METHOD_PUT);
    assert_int_equal(method_identify(SPAN("DELETE")), METHOD_DELETE);
    assert_int_equal(method_identify(SPAN("CONNECT")), METHOD_CONNECT);
    assert_int_equal(method_identify(SPAN("OPTIONS")), METHOD_OPTIONS);
    assert_int_equal(method_identify(SPAN("TRACE")), METHOD_TRACE);
    assert_int_equal(method_identify(SPAN("PATCH")), METHOD_PATCH);
    assert_int_equal(method_identify(SPAN("get")), METHOD_OTHER);
    assert_int_equal(method_identify(SPAN("GETS")), METHOD_OTHER);
    assert_int_equal(method_identify(SPAN("")), METHOD_OTHER);
}

static void methods_have_the_properties_of_rfc_9110(void **state)
{
    (void)state;
    static const struct {
        enum method method;
        bool safe;
        bool idempotent;
    } cases[] = {
        {METHOD_GET, true, true},       {METHOD_HEAD, true, true},    {METHOD_OPTIONS, true, true},
        {METHOD_TRACE, true, true},     {METHOD_PUT, false, true},    {METHOD_DELETE, false, true},
        {METHOD_POST, false, false},    {METHOD_PATCH, false, false}, {METHOD_OTHER, false, false},
        {METHOD_CONNECT, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(method_is_safe(cases[i].method), cases[i].safe);
        assert_int_equal(method_is_idempotent(cases[i].method), cases[i].idempotent);
    }
}

static void fields_keep_order_and_capacity(void **state)
{
    (void)state;
    _Alignas(max_align_t) uint8_t memory[256];
    struct arena arena;
    struct fields fields;
    arena_init(&arena, memory, sizeof(memory));
    assert_true(fields_init(&fields, &arena, 2));
    assert_null(fields_find(&fields, FIELD_VIA));
    assert_true(fields_add(&fields, FIELD_OTHER, SPAN("X-A"), SPAN("1")));
    assert_true(fields_add(&fields, FIELD_VIA, SPAN("Via"), SPAN("2")));
    assert_false(fields_add(&fields, FIELD_VIA, SPAN("Via"), SPAN("3")));
    assert_int_equal(fields.count, 2);
    assert_ptr_equal(fields_find(&fields, FIELD_VIA), &fields.entries[1]);
    assert_ptr_equal(fields_find_name(&fields, SPAN("x-a")), &fields.entries[0]);
    assert_null(fields_find_name(&fields, SPAN("x-b")));
    assert_false(fields_init(&fields, &arena, SIZE_MAX / 2));
    assert_false(fields_init(&fields, &arena, 100));
}

static void statuses_have_their_registered_phrase(void **state)
{
    (void)state;
    assert_string_equal(status_phrase(100), "Continue");
    assert_string_equal(status_phrase(200), "OK");
    assert_string_equal(status_phrase(431), "Request Header Fields Too Large");
    assert_string_equal(status_phrase(511), "Network Authentication Required");
    assert_string_equal(status_phrase(0), "Unknown");
    assert_string_equal(status_phrase(299), "Unknown");
    assert_string_equal(status_phrase(512), "Unknown");
    assert_string_equal(status_phrase(UINT16_MAX), "Unknown");
}

static void a_table_gives_back_what_it_did_not_need(void **state)
{
    (void)state;
    _Alignas(max_align_t) uint8_t memory[3072];
    struct arena arena;
    struct fields fields;
    arena_init(&arena, memory, sizeof(memory));
    assert_non_null(arena_alloc(&arena, 8));
    assert_true(fields_init(&fields, &arena, 50));
    assert_true(fields_add(&fields, FIELD_HOST, SPAN("Host"), SPAN("a.example")));
    assert_true(fields_add(&fields, FIELD_OTHER, SPAN("Name"), SPAN("value")));
    fields_trim(&fields, &arena);
    assert_ptr_equal(arena.memory + arena.used, fields.entries + 2);
    assert_false(fields_add(&fields, FIELD_OTHER, SPAN("Name"), SPAN("value")));
    assert_true(fields_have(&fields, FIELD_HOST));
    assert_int_equal(fields.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_gives_back_what_it_did_not_need),
        cmocka_unit_test(every_known_field_is_identified_in_any_case),
        cmocka_unit_test(no_other_name_is_taken_for_a_known_field),
        cmocka_unit_test(aliases_of_protected_fields_are_known),
        cmocka_unit_test(methods_are_case_sensitive),
        cmocka_unit_test(methods_have_the_properties_of_rfc_9110),
        cmocka_unit_test(fields_keep_order_and_capacity),
        cmocka_unit_test(statuses_have_their_registered_phrase),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
