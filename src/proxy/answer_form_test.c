#include "proxy/answer_form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/death_test.h"

static uint8_t memory[ANSWER_FORM_MAX];

static struct span written(enum answer_form form, const struct reason_info *info, struct span id)
{
    struct output output = output_over(memory, sizeof(memory));
    answer_form_write(form, info, id, &output);
    assert_false(output.overflowed);
    return output_bytes(&output);
}

static void assert_bytes(struct span actual, const char *expected)
{
    assert_int_equal(actual.size, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.size);
}

static bool has(struct span bytes, const char *part)
{
    return memmem(bytes.data, bytes.size, part, strlen(part)) != NULL;
}

static enum answer_form chosen(const char *accept)
{
    struct field entry;
    struct fields fields = {.entries = &entry, .capacity = 1};
    struct span value = span_of_string(accept);
    assert_true(fields_add(&fields, FIELD_ACCEPT, field_name(FIELD_ACCEPT), value));
    return answer_form_choose(&fields);
}

static void the_client_chooses_the_form(void **state)
{
    (void)state;
    const struct fields none = {0};
    assert_int_equal(answer_form_choose(&none), ANSWER_JSON);
    assert_int_equal(chosen("*/*"), ANSWER_JSON);
    assert_int_equal(chosen("application/json"), ANSWER_JSON);
    assert_int_equal(chosen("text/html,application/xhtml+xml,*/*;q=0.8"), ANSWER_HTML);
    assert_int_equal(chosen("text/*"), ANSWER_TEXT);
    assert_int_equal(chosen("image/png"), ANSWER_JSON);
}

static void json_has_its_four_members(void **state)
{
    (void)state;
    const struct reason_info *info = reason_info(REASON_NO_ROUTE);
    assert_bytes(written(ANSWER_JSON, info, SPAN("abc-1")),
                 "{\"status\":404,\"reason\":\"no_route\",\"message\":\"no route matches the "
                 "request\",\"request_id\":\"abc-1\"}\n");
    assert_bytes(answer_form_type(ANSWER_JSON), "application/json");
    assert_int_equal(answer_form_front(ANSWER_JSON).size, 0);
    assert_int_equal(answer_form_policy(ANSWER_JSON).size, 0);
}

static void text_is_for_reading(void **state)
{
    (void)state;
    const struct reason_info *info = reason_info(REASON_NO_ROUTE);
    assert_bytes(written(ANSWER_TEXT, info, SPAN("abc-1")),
                 "404 Not Found: no route matches the request\n"
                 "\n"
                 "reason: no_route\n"
                 "request id: abc-1\n");
    assert_bytes(answer_form_type(ANSWER_TEXT), "text/plain; charset=utf-8");
    assert_int_equal(answer_form_policy(ANSWER_TEXT).size, 0);
}

static void html_is_a_whole_page_without_script_or_reference(void **state)
{
    (void)state;
    struct span front = answer_form_front(ANSWER_HTML);
    struct span body = written(ANSWER_HTML, reason_info(REASON_NO_ROUTE), SPAN("abc-1"));
    assert_true(span_starts_with(front, SPAN("<!doctype html>\n<html lang=\"en\">\n<head>\n")));
    assert_true(span_starts_with(body, SPAN("<title>404 Not Found</title>\n</head>\n<body>\n")));
    assert_true(span_ends_with(body, SPAN("</main>\n</body>\n</html>\n")));
    assert_true(has(body, "<h1><span>404</span> Not Found</h1>"));
    assert_true(has(body, "<p>no route matches the request.</p>"));
    assert_true(has(body, "<dd>no_route</dd>"));
    assert_true(has(body, "<dd>abc-1</dd>"));
    assert_true(has(front, "prefers-color-scheme:dark"));
    static const char *const unwanted[] = {
        "<script", "http:", "https:", "url(", "src=", "href", "@import", "style=", "onload"};
    for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
        assert_false(has(front, unwanted[i]) || has(body, unwanted[i]));
    }
    assert_in_range(front.size + body.size, 1000, 2500);
}

static void the_policy_of_html_allows_its_own_style_and_nothing_else(void **state)
{
    (void)state;
    struct span policy = answer_form_policy(ANSWER_HTML);
    assert_true(span_starts_with(policy, SPAN("default-src 'none'; style-src 'sha256-")));
    assert_true(has(policy, "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"));
    assert_false(has(policy, "unsafe"));
}

/* No reason and no id that gets here holds markup; should one ever, it stays text. */
static void whatever_comes_in_stays_text(void **state)
{
    (void)state;
    struct reason_info hostile = *reason_info(REASON_NO_ROUTE);
    hostile.text = "</p><script>\"'&\\";
    hostile.label = "<b>\"\n";
    const struct span id = SPAN("\"}<img>\r\n");
    struct span html = written(ANSWER_HTML, &hostile, id);
    assert_false(has(html, "<script") || has(html, "<b>") || has(html, "<img"));
    assert_true(has(html, "<p>&lt;/p&gt;&lt;script&gt;\"'&amp;\\.</p>"));
    struct span json = written(ANSWER_JSON, &hostile, id);
    assert_true(has(json, "\"request_id\":\"\\\"}<img>"));
    assert_false(has(json, "\n\"") || has(json, "\r"));
    assert_true(has(json, "\"message\":\"</p><script>\\\"'&\\\\\""));
}

static void every_reason_fits_every_form(void **state)
{
    (void)state;
    uint8_t longest[64]; /* of the ids that trusted peers may send */
    memset(longest, 'a', sizeof(longest));
    struct span id = span_of(longest, sizeof(longest));
    for (enum reason reason = REASON_NONE + 1; reason < REASON_COUNT; reason++) {
        for (enum answer_form form = 0; form < ANSWER_FORM_COUNT; form++) {
            struct span body = written(form, reason_info(reason), id);
            assert_true(has(body, reason_info(reason)->label));
            assert_true(has(body, reason_info(reason)->text));
            assert_in_range(body.size, 1, ANSWER_FORM_MAX / 2);
        }
    }
}

static void write_no_form(void *context)
{
    (void)context;
    struct output output = output_over(memory, sizeof(memory));
    answer_form_write(ANSWER_FORM_COUNT, reason_info(REASON_NO_ROUTE), SPAN("a"), &output);
}

static void a_form_out_of_range_aborts(void **state)
{
    (void)state;
    assert_true(aborts(write_no_form, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_client_chooses_the_form),
        cmocka_unit_test(json_has_its_four_members),
        cmocka_unit_test(text_is_for_reading),
        cmocka_unit_test(html_is_a_whole_page_without_script_or_reference),
        cmocka_unit_test(the_policy_of_html_allows_its_own_style_and_nothing_else),
        cmocka_unit_test(whatever_comes_in_stays_text),
        cmocka_unit_test(every_reason_fits_every_form),
        cmocka_unit_test(a_form_out_of_range_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
