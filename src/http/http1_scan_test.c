#include "http/http1_parse.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct http1_limits limits = {
    .request_line_max = 20, .head_max = 60, .fields_max = 8, .merge_slashes = true};

struct outcome {
    enum status status;
    enum reason reason;
    size_t told_at; /* bytes given when the scan told its result */
    struct http1_scan scan;
};

static struct outcome scan_whole(enum http1_kind kind, struct span bytes)
{
    struct outcome outcome = {.told_at = bytes.size};
    http1_scan_init(&outcome.scan, kind);
    outcome.status = http1_scan_head(&outcome.scan, bytes, &limits, &outcome.reason);
    return outcome;
}

/* One byte more at each call, each time at another address. */
static struct outcome scan_by_bytes(enum http1_kind kind, struct span bytes)
{
    struct outcome outcome = {.status = AGAIN};
    uint8_t copies[2][256] = {0};
    assert_true(bytes.size <= sizeof(copies[0]));
    http1_scan_init(&outcome.scan, kind);
    while (outcome.status == AGAIN && outcome.told_at < bytes.size) {
        uint8_t *copy = copies[outcome.told_at++ % 2];
        memcpy(copy, bytes.data, outcome.told_at);
        outcome.status = http1_scan_head(&outcome.scan, span_of(copy, outcome.told_at), &limits,
                                         &outcome.reason);
    }
    return outcome;
}

static struct outcome scan_both_ways(enum http1_kind kind, struct span bytes)
{
    struct outcome whole = scan_whole(kind, bytes);
    struct outcome stepped = scan_by_bytes(kind, bytes);
    assert_int_equal(whole.status, stepped.status);
    assert_int_equal(whole.reason, stepped.reason);
    assert_int_equal(whole.scan.head_size, stepped.scan.head_size);
    return stepped;
}

static void assert_refused(enum http1_kind kind, struct span bytes, enum reason reason,
                           size_t told_at)
{
    struct outcome outcome = scan_both_ways(kind, bytes);
    assert_int_equal(outcome.status, ERROR);
    assert_int_equal(outcome.reason, reason);
    assert_int_equal(outcome.told_at, told_at);
}

static void assert_found(enum http1_kind kind, struct span bytes, size_t start, size_t size)
{
    struct outcome outcome = scan_both_ways(kind, bytes);
    assert_int_equal(outcome.status, OK);
    assert_int_equal(outcome.scan.head_start, start);
    assert_int_equal(outcome.scan.head_size, size);
    assert_int_equal(outcome.told_at, size);
}

static void a_head_ends_at_its_empty_line(void **state)
{
    (void)state;
    assert_found(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET "), 0, 27);
    assert_found(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\n\r\n\r\n\r\n"), 0, 18);
    assert_found(HTTP1_RESPONSE, SPAN("HTTP/1.1 200 OK\r\n\r\nbody"), 0, 19);
    assert_found(HTTP1_TRAILERS, SPAN("a: b\r\n\r\nGET"), 0, 8);
    assert_found(HTTP1_TRAILERS, SPAN("\r\n"), 0, 2);
}

static void an_incomplete_head_asks_for_more(void **state)
{
    (void)state;
    struct span head = SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (size_t size = 0; size < head.size; size++) {
        assert_int_equal(scan_whole(HTTP1_REQUEST, span_first(head, size)).status, AGAIN);
    }
}

static void one_empty_line_before_a_request_is_skipped(void **state)
{
    (void)state;
    struct span bytes = SPAN("\r\nGET / HTTP/1.1\r\n\r\n");
    assert_found(HTTP1_REQUEST, bytes, 2, 20);
    struct outcome outcome = scan_whole(HTTP1_REQUEST, bytes);
    struct span head = http1_scan_head_bytes(&outcome.scan, bytes);
    assert_true(span_equal(head, SPAN("GET / HTTP/1.1\r\n\r\n")));
    assert_refused(HTTP1_REQUEST, SPAN("\r\n\r\nGET / HTTP/1.1\r\n"), REASON_BAD_METHOD, 3);
    assert_refused(HTTP1_REQUEST, SPAN("\nGET / HTTP/1.1\r\n"), REASON_BAD_METHOD, 1);
    assert_refused(HTTP1_REQUEST, SPAN("\rGET / HTTP/1.1\r\n"), REASON_BAD_REQUEST_LINE, 2);
    assert_refused(HTTP1_RESPONSE, SPAN("\r\nHTTP/1.1 200 OK\r\n"), REASON_BAD_RESPONSE, 1);
}

static void what_cannot_be_http_is_refused_at_once(void **state)
{
    (void)state;
    assert_refused(HTTP1_REQUEST, SPAN("\x16\x03\x01\x02\x00\x01"), REASON_BAD_METHOD, 1);
    assert_refused(HTTP1_REQUEST, SPAN("\x80\x2e\x01\x03"), REASON_BAD_METHOD, 1);
    assert_refused(HTTP1_REQUEST, SPAN("\0\0"), REASON_BAD_METHOD, 1);
    assert_refused(HTTP1_REQUEST, SPAN(" GET"), REASON_BAD_METHOD, 1);
    assert_refused(HTTP1_REQUEST, SPAN("GET\r\n"), REASON_BAD_METHOD, 4);
    assert_refused(HTTP1_REQUEST, SPAN("{\"a\": 1}"), REASON_BAD_METHOD, 1);
    assert_refused(HTTP1_RESPONSE, SPAN("SSH-2.0"), REASON_BAD_RESPONSE, 1);
    assert_refused(HTTP1_RESPONSE, SPAN("HTTP/2 200"), REASON_BAD_RESPONSE, 6);
}

static void a_method_without_end_is_refused(void **state)
{
    (void)state;
    static const struct http1_limits wide = {
        .request_line_max = 100, .head_max = 200, .fields_max = 1};
    uint8_t bytes[HTTP1_METHOD_MAX + 1];
    struct http1_scan scan;
    enum reason reason = REASON_NONE;
    memset(bytes, 'A', sizeof(bytes));
    http1_scan_init(&scan, HTTP1_REQUEST);
    assert_int_equal(http1_scan_head(&scan, span_of(bytes, HTTP1_METHOD_MAX), &wide, &reason),
                     AGAIN);
    assert_int_equal(http1_scan_head(&scan, span_of(bytes, sizeof(bytes)), &wide, &reason), ERROR);
    assert_int_equal(reason, REASON_BAD_METHOD);
}

static void line_ends_other_than_crlf_are_refused_early(void **state)
{
    (void)state;
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\nHost"), REASON_BAD_REQUEST_LINE, 15);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\rHost"), REASON_BAD_REQUEST_LINE, 16);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\nA: b\nC"), REASON_BAD_FIELD, 21);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\nA: b\rC"), REASON_BAD_FIELD, 22);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\n\n"), REASON_BAD_FIELD, 17);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\n\rX"), REASON_BAD_FIELD, 18);
    assert_refused(HTTP1_RESPONSE, SPAN("HTTP/1.1 200 OK\n"), REASON_BAD_RESPONSE, 16);
}

static void control_bytes_and_folds_are_refused_early(void **state)
{
    (void)state;
    assert_refused(HTTP1_REQUEST, SPAN("GET /\0 HTTP/1.1"), REASON_BAD_REQUEST_LINE, 6);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\nA: \0b"), REASON_BAD_FIELD, 20);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\nA: \x7Fz"), REASON_BAD_FIELD, 20);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\nA: b\r\n c"), REASON_BAD_FIELD, 23);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\n\tc"), REASON_BAD_FIELD, 17);
    assert_refused(HTTP1_TRAILERS, SPAN(" c: d\r\n"), REASON_BAD_FIELD, 1);
}

static void a_long_request_line_is_414(void **state)
{
    (void)state;
    /* Exactly 20 bytes, and one more. */
    assert_found(HTTP1_REQUEST, SPAN("GET /234567 HTTP/1.1\r\n\r\n"), 0, 24);
    assert_found(HTTP1_REQUEST, SPAN("\r\nGET /234567 HTTP/1.1\r\n\r\n"), 2, 26);
    assert_refused(HTTP1_REQUEST, SPAN("GET /2345678 HTTP/1.1\r\n\r\n"), REASON_URI_TOO_LONG, 22);
    assert_int_equal(reason_info(REASON_URI_TOO_LONG)->status, 414);
}

/* Whichever bound is the smaller one: what does not end is the request line. */
static void a_request_line_without_end_is_414(void **state)
{
    (void)state;
    static const size_t line_maxima[] = {50, 58, 59, 60, 61, 1000};
    static const uint8_t start[] = "GET /";
    uint8_t bytes[100];
    memset(bytes, 'a', sizeof(bytes));
    memcpy(bytes, start, sizeof(start) - 1);
    for (size_t i = 0; i < sizeof(line_maxima) / sizeof(line_maxima[0]); i++) {
        const struct http1_limits both = {
            .request_line_max = line_maxima[i], .head_max = 60, .fields_max = 8};
        struct http1_scan scan;
        enum reason reason = REASON_NONE;
        size_t bound = line_maxima[i] < 58 ? line_maxima[i] + 2 : 60;
        http1_scan_init(&scan, HTTP1_REQUEST);
        assert_int_equal(http1_scan_head(&scan, span_of(bytes, bound - 1), &both, &reason), AGAIN);
        assert_int_equal(http1_scan_head(&scan, span_of(bytes, sizeof(bytes)), &both, &reason),
                         ERROR);
        assert_int_equal(reason, REASON_URI_TOO_LONG);
    }
}

static void a_large_head_is_431(void **state)
{
    (void)state;
    /* 16 bytes, then lines of 10, then the empty line: 16 + 4 * 10 + 2 = 58, and two more lines. */
#define LINES "A: 345678\r\nB: 345678\r\nC: 34567\r\n"
    assert_found(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\n" LINES "D: 45678\r\n\r\n"), 0, 60);
    assert_refused(HTTP1_REQUEST, SPAN("GET / HTTP/1.1\r\n" LINES "D: 456789\r\n\r\n"),
                   REASON_HEAD_TOO_LARGE, 60);
    assert_refused(HTTP1_REQUEST,
                   SPAN("GET / HTTP/1.1\r\nA: 0123456789012345678901234567890123456789"
                        "01234567890123456789"),
                   REASON_HEAD_TOO_LARGE, 60);
    assert_refused(HTTP1_RESPONSE, SPAN("HTTP/1.1 200 OK\r\n" LINES "D: 45678\r\n\r\n"),
                   REASON_RESPONSE_HEAD_TOO_LARGE, 60);
#undef LINES
    assert_int_equal(reason_info(REASON_HEAD_TOO_LARGE)->status, 431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_ends_at_its_empty_line),
        cmocka_unit_test(an_incomplete_head_asks_for_more),
        cmocka_unit_test(one_empty_line_before_a_request_is_skipped),
        cmocka_unit_test(what_cannot_be_http_is_refused_at_once),
        cmocka_unit_test(a_method_without_end_is_refused),
        cmocka_unit_test(line_ends_other_than_crlf_are_refused_early),
        cmocka_unit_test(control_bytes_and_folds_are_refused_early),
        cmocka_unit_test(a_long_request_line_is_414),
        cmocka_unit_test(a_request_line_without_end_is_414),
        cmocka_unit_test(a_large_head_is_431),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
