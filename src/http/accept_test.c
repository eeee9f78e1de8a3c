#include "http/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/death_test.h"

enum { JSON, TEXT, HTML, OFFERS };

static const struct media_type offers[OFFERS] = {
    [JSON] = {"application", "json"},
    [TEXT] = {"text", "plain"},
    [HTML] = {"text", "html"},
};

/* What is chosen for these lines of Accept, NULL behind the last. */
static size_t choice_of(const char *const *lines)
{
    struct field entries[8];
    struct fields fields = {.entries = entries, .capacity = 8};
    for (; *lines != NULL; lines++) {
        struct span value = span_of_string(*lines);
        assert_true(fields_add(&fields, FIELD_ACCEPT, field_name(FIELD_ACCEPT), value));
    }
    return accept_choose(&fields, offers, OFFERS);
}

static void check_choice(const char *line, size_t expected)
{
    const char *const lines[] = {line, NULL};
    size_t choice = choice_of(lines);
    if (choice != expected) {
        fail_msg("Accept: %s chooses %zu, not %zu", line, choice, expected);
    }
}

static void without_the_field_the_first_offer_is_chosen(void **state)
{
    (void)state;
    const char *const none[] = {NULL};
    assert_int_equal(choice_of(none), JSON);
    check_choice("", JSON);
    check_choice(" , ,, ", JSON);
}

static void what_clients_send_gets_what_they_mean(void **state)
{
    (void)state;
    check_choice("*/*", JSON); /* curl, wget, fetch */
    check_choice("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
                 "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
                 HTML);                                          /* Chromium */
    check_choice("text/html, application/xhtml+xml, */*", HTML); /* of old */
    check_choice("application/json, text/plain, */*", JSON);     /* axios */
    check_choice("application/json, text/javascript, */*; q=0.01", JSON);
    check_choice("text/html, text/plain, text/sgml, text/css, */*;q=0.01", HTML); /* lynx */
    check_choice("image/avif,image/webp,*/*;q=0.8", JSON); /* an image that is not there */
    check_choice("text/css,*/*;q=0.1", JSON);
}

static void the_highest_quality_wins(void **state)
{
    (void)state;
    check_choice("application/json;q=0.5, text/html;q=0.6", HTML);
    check_choice("application/json;q=0.501, text/html;q=0.5", JSON);
    check_choice("text/plain;q=0.001, */*;q=0", TEXT);
    check_choice("application/json;q=0.9, text/plain;q=1.000, text/html;q=0.999", TEXT);
    check_choice("application/json ; q=0.1 , text/plain\t;\tQ=0.2", TEXT);
}

static void the_closest_range_decides_the_quality(void **state)
{
    (void)state;
    check_choice("*/*, application/json;q=0.1", TEXT); /* the first of the others */
    check_choice("text/*;q=0.9, text/plain;q=0.1, */*;q=0.5", HTML);
    check_choice("text/*;q=0.3, text/html;q=0.7, text/html;level=1;q=0.9, */*;q=0.5", HTML);
    check_choice("text/html;q=0.2, text/html;level=1, application/json;q=0.5", JSON);
    check_choice("text/*, application/json;q=0.9", TEXT);
    check_choice("text/html;q=0.1, text/html;q=0.8, application/json;q=0.5", HTML);
}

static void of_equals_the_closer_then_the_earlier_is_chosen(void **state)
{
    (void)state;
    check_choice("*/*, text/html", HTML);
    check_choice("text/*, application/json", JSON);
    check_choice("text/html, application/json", HTML);
    check_choice("application/json, text/html", JSON);
    check_choice("text/*", TEXT);
}

static void what_nothing_satisfies_gets_the_first_offer(void **state)
{
    (void)state;
    check_choice("image/png", JSON);
    check_choice("application/vnd.api+json", JSON);
    check_choice("*/*;q=0", JSON);
    check_choice("application/json;q=0", JSON);
    check_choice("application/json;q=0, text/*", TEXT);
}

static void parameters_ask_for_more_than_there_is(void **state)
{
    (void)state;
    check_choice("application/json;version=1, text/html;q=0.5", JSON); /* better than nothing */
    check_choice("application/json;version=1, */*;q=0.5, text/html;q=0.6", HTML);
    check_choice("text/html;charset=UTF-8, application/json;q=0.9", HTML);
    check_choice("text/html;charset=\"utf-8\", */*;q=0.9", HTML);
    check_choice("text/html;charset=latin1;q=0.9, text/html;q=0.1, application/json;q=0.5", JSON);
    check_choice("text/html;a=\"q=0, x/y\";q=0.9, application/json;q=0.8", HTML);
    check_choice("text/html;a=\"\\\",\";q=0.1, application/json;q=0.2", JSON);
    check_choice("text/html;q=0.9;q=0.1;x;y=z;;, application/json;q=0.8", HTML);
}

static void names_have_no_case(void **state)
{
    (void)state;
    check_choice("TEXT/HTML", HTML);
    check_choice("Text/Html;Q=1, application/json;q=0.9", HTML);
}

static void malformed_elements_count_as_absent(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "text/html;q=2",
        "text/html;q=",
        "text/html;q=.5",
        "text/html;q=-1",
        "text/html;q=1.001",
        "text/html;q=0,5x/",
        "text/html;q=\"1\"",
        "text/html;q = 1",
        "text/html;=1",
        "text/html;a",
        "text/html;a=",
        "text/html;a=\"",
        "text/html;a=\"\\",
        "text/html x",
        "text /html",
        "text/ html",
        "text",
        "text/",
        "/html",
        "/",
        "*/html",
        "text/html/x",
        "text\\html",
        "\"text/html\"",
        "text/html;q=1e0",
        "text/html;q=00.1",
        "text/html;q=1.0.0",
        "text/html;;;a",
        "\"",
        ";q=1",
        "=",
        "text/html;a=\x01",
        "text/html\x80",
        "text/html;q=0x1",
        "text/html;q=nan",
        "text/html;q=1 1",
    };
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        char line[100];
        check_choice(malformed[i], JSON);
        (void)snprintf(line, sizeof(line), "text/plain, %s", malformed[i]);
        check_choice(line, TEXT);
        const char *const lines[] = {malformed[i], "text/plain", NULL};
        assert_int_equal(choice_of(lines), TEXT);
    }
    check_choice("text/html;q=9, text/plain;q=0.5", TEXT);
    check_choice("text/html;q=0.12345, text/plain;q=0.122", HTML); /* too precise, yet clear */
}

static void lines_are_one_list(void **state)
{
    (void)state;
    const char *const lines[] = {"application/json;q=0.1", "", "text/plain;q=0.2",
                                 "text/html;q=0.3", NULL};
    assert_int_equal(choice_of(lines), HTML);
}

/* Each byte is looked at a fixed number of times: else the largest heads would take minutes here.
 */
static void hostile_lines_cost_no_more_than_their_length(void **state)
{
    (void)state;
    static const char *const patterns[] = {"\\\"",       "\"",   ",",    ";",
                                           "a/b;q=",     "*/*,", "\"\\", "a/b;c=\"\\\"",
                                           "text/html,", " \t",  "/",    "q=1;"};
    enum { SIZE = 1 << 20 };
    char *line = malloc(SIZE + 1);
    assert_non_null(line);
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        size_t size = strlen(patterns[i]);
        for (size_t j = 0; j < SIZE; j++) {
            line[j] = j == 0 ? '"' : patterns[i][j % size];
        }
        line[SIZE] = '\0';
        const char *const lines[] = {line, line + 1, NULL};
        assert_in_range(choice_of(lines), JSON, HTML);
    }
    free(line);
}

static void choose_from_nothing(void *context)
{
    (void)context;
    const struct fields none = {0};
    (void)accept_choose(&none, offers, 0);
}

static void choose_from_too_many(void *context)
{
    (void)context;
    const struct fields none = {0};
    (void)accept_choose(&none, offers, ACCEPT_OFFERS_MAX + 1);
}

static void there_must_be_a_bounded_number_of_offers(void **state)
{
    (void)state;
    assert_true(aborts(choose_from_nothing, NULL));
    assert_true(aborts(choose_from_too_many, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_field_the_first_offer_is_chosen),
        cmocka_unit_test(what_clients_send_gets_what_they_mean),
        cmocka_unit_test(the_highest_quality_wins),
        cmocka_unit_test(the_closest_range_decides_the_quality),
        cmocka_unit_test(of_equals_the_closer_then_the_earlier_is_chosen),
        cmocka_unit_test(what_nothing_satisfies_gets_the_first_offer),
        cmocka_unit_test(parameters_ask_for_more_than_there_is),
        cmocka_unit_test(names_have_no_case),
        cmocka_unit_test(malformed_elements_count_as_absent),
        cmocka_unit_test(lines_are_one_list),
        cmocka_unit_test(hostile_lines_cost_no_more_than_their_length),
        cmocka_unit_test(there_must_be_a_bounded_number_of_offers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
