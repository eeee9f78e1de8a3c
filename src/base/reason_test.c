#include "base/reason.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/death_test.h"

/* The error types of RFC 9209, section 2.3, with nothing of our own among them. */
static const char *const ERROR_TYPES[] = {
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
};

static bool is_error_type(const char *text)
{
    for (size_t i = 0; i < sizeof(ERROR_TYPES) / sizeof(ERROR_TYPES[0]); i++) {
        if (strcmp(text, ERROR_TYPES[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void no_reason_has_no_status_and_no_text(void **state)
{
    (void)state;
    const struct reason_info *none = reason_info(REASON_NONE);
    assert_int_equal(none->status, 0);
    assert_string_equal(none->label, "none");
    assert_string_equal(none->proxy_status, "");
    assert_string_equal(none->keys, "");
    assert_string_equal(none->text, "");
    assert_string_equal(none->hint, "");
}

static void labels_are_unique_words_for_metrics(void **state)
{
    (void)state;
    for (int i = 0; i < REASON_COUNT; i++) {
        const char *label = reason_info((enum reason)i)->label;
        assert_in_range(strlen(label), 1, 40);
        assert_int_equal(strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(label));
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(label, reason_info((enum reason)j)->label);
        }
    }
}

/* Clients get the text inside JSON and a quoted string, so it needs no escapes. */
static void texts_are_single_clauses_and_hints_are_sentences(void **state)
{
    (void)state;
    for (int i = 1; i < REASON_COUNT; i++) {
        const struct reason_info *info = reason_info((enum reason)i);
        size_t size = strlen(info->text);
        assert_in_range(size, 10, 100);
        for (size_t j = 0; j < size; j++) {
            assert_in_range(info->text[j], ' ', '~');
            assert_null(strchr("\"\\<>&%", info->text[j]));
        }
        assert_true(info->text[size - 1] != '.');
        assert_in_range(strlen(info->hint), 40, 300);
        assert_null(strpbrk(info->hint, "|<>\n"));               /* a cell of docs/errors.md */
        bool command = strncmp(info->hint, "sentinel ", 9) == 0; /* written as it is typed */
        assert_true((info->hint[0] >= 'A' && info->hint[0] <= 'Z') || command);
        assert_int_equal(info->hint[strlen(info->hint) - 1], '.');
    }
}

static void statuses_are_errors_that_the_design_knows(void **state)
{
    (void)state;
    static const uint16_t known[] = {0,   400, 403, 404, 408, 413, 414, 417, 421,
                                     429, 431, 500, 501, 502, 503, 504, 505};
    for (int i = 1; i < REASON_COUNT; i++) {
        bool found = false;
        for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++) {
            found = found || reason_info((enum reason)i)->status == known[j];
        }
        assert_true(found);
    }
}

static void error_types_are_registered_and_fit_the_status(void **state)
{
    (void)state;
    for (int i = 1; i < REASON_COUNT; i++) {
        const struct reason_info *info = reason_info((enum reason)i);
        assert_true(is_error_type(info->proxy_status));
        bool client_fault = info->status >= 400 && info->status < 500;
        if (client_fault && info->status != 404) {
            assert_memory_equal(info->proxy_status, "http_request_", strlen("http_request_"));
        }
        if (info->status == 504) {
            assert_non_null(strstr(info->proxy_status, "timeout"));
        }
    }
}

static void the_promised_statuses_hold(void **state)
{
    (void)state;
    static const struct {
        enum reason reason;
        uint16_t status;
    } cases[] = {
        {REASON_URI_TOO_LONG, 414},
        {REASON_HEAD_TOO_LARGE, 431},
        {REASON_TOO_MANY_FIELDS, 431},
        {REASON_BAD_VERSION, 505},
        {REASON_BAD_HOST, 400},
        {REASON_BAD_TRANSFER_ENCODING, 400},
        {REASON_BAD_CONTENT_LENGTH, 400},
        {REASON_BAD_EXPECT, 417},
        {REASON_CONNECT_REFUSED, 501},
        {REASON_AMBIGUOUS_PATH, 400},
        {REASON_BODY_TOO_LARGE, 413},
        {REASON_REQUEST_HEAD_TIMEOUT, 408},
        {REASON_REQUEST_BODY_TIMEOUT, 408},
        {REASON_REQUEST_BODY_TOO_SLOW, 408},
        {REASON_CONNECTIONS_FULL, 503},
        {REASON_CLIENT_CONNECTIONS, 429},
        {REASON_NO_ROUTE, 404},
        {REASON_CONNECT_FAILED, 502},
        {REASON_CONNECT_TIMEOUT, 502},
        {REASON_NO_ENDPOINT, 503},
        {REASON_QUEUE_TIMEOUT, 503},
        {REASON_UPSTREAM_TIMEOUT, 504},
        {REASON_BAD_RESPONSE, 502},
        {REASON_UPSTREAM_TRUNCATED, 0},
        {REASON_CLIENT_CLOSED, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(reason_info(cases[i].reason)->status, cases[i].status);
    }
}

static void ask_out_of_range(void *context)
{
    (void)context;
    (void)reason_info(REASON_COUNT);
}

static void a_reason_out_of_range_aborts(void **state)
{
    (void)state;
    assert_true(aborts(ask_out_of_range, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_reason_has_no_status_and_no_text),
        cmocka_unit_test(labels_are_unique_words_for_metrics),
        cmocka_unit_test(texts_are_single_clauses_and_hints_are_sentences),
        cmocka_unit_test(statuses_are_errors_that_the_design_knows),
        cmocka_unit_test(error_types_are_registered_and_fit_the_status),
        cmocka_unit_test(the_promised_statuses_hold),
        cmocka_unit_test(a_reason_out_of_range_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
