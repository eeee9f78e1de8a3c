#include "http/http1_parse.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct http1_limits limits = {
    .request_line_max = 200, .head_max = 1000, .fields_max = 8, .merge_slashes = true};

/* Room for one parsed head. */
struct fixture {
    _Alignas(max_align_t) uint8_t memory[1280];
    struct arena arena;
    struct request_head request;
    struct response_head response;
};

/* As a session does it: find the head's end, then parse. REASON_NONE when accepted. */
static enum reason read_request_bytes(struct fixture *fixture, struct span bytes)
{
    struct http1_scan scan;
    enum reason reason = REASON_NONE;
    arena_init(&fixture->arena, fixture->memory, sizeof(fixture->memory));
    http1_scan_init(&scan, HTTP1_REQUEST);
    enum status status = http1_scan_head(&scan, bytes, &limits, &reason);
    assert_int_not_equal(status, AGAIN);
    if (status == OK) {
        assert_int_equal(scan.head_size, bytes.size);
        status = http1_parse_request(http1_scan_head_bytes(&scan, bytes), &limits, &fixture->arena,
                                     &fixture->request, &reason);
    }
    assert_int_equal(status, reason == REASON_NONE ? OK : ERROR);
    return reason;
}

static enum reason read_request(struct fixture *fixture, const char *text)
{
    return read_request_bytes(fixture, span_of_string(text));
}

static enum reason read_response(struct fixture *fixture, enum method method, const char *text)
{
    struct http1_scan scan;
    struct span bytes = span_of_string(text);
    enum reason reason = REASON_NONE;
    arena_init(&fixture->arena, fixture->memory, sizeof(fixture->memory));
    http1_scan_init(&scan, HTTP1_RESPONSE);
    enum status status = http1_scan_head(&scan, bytes, &limits, &reason);
    assert_int_not_equal(status, AGAIN);
    if (status == OK) {
        assert_int_equal(scan.head_size, bytes.size);
        status = http1_parse_response(bytes, method, &limits, &fixture->arena, &fixture->response,
                                      &reason);
    }
    assert_int_equal(status, reason == REASON_NONE ? OK : ERROR);
    return reason;
}

static void assert_span(struct span actual, const char *expected)
{
    assert_int_equal(actual.size, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.size);
}

/* A request and how it is answered; REASON_NONE: accepted. */
struct verdict {
    const char *head;
    enum reason reason;
};

static void check_requests(const struct verdict *verdicts, size_t count)
{
    struct fixture fixture;
    for (size_t i = 0; i < count; i++) {
        enum reason reason = read_request(&fixture, verdicts[i].head);
        if (reason != verdicts[i].reason) {
            fail_msg("\"%s\" gives %s", verdicts[i].head, reason_info(reason)->label);
        }
    }
}

static void check_responses(const struct verdict *verdicts, size_t count)
{
    struct fixture fixture;
    for (size_t i = 0; i < count; i++) {
        enum reason reason = read_response(&fixture, METHOD_GET, verdicts[i].head);
        if (reason != verdicts[i].reason) {
            fail_msg("\"%s\" gives %s", verdicts[i].head, reason_info(reason)->label);
        }
    }
}

#define CHECK_REQUESTS(verdicts) check_requests(verdicts, sizeof(verdicts) / sizeof((verdicts)[0]))
#define CHECK_RESPONSES(verdicts)                                                                  \
    check_responses(verdicts, sizeof(verdicts) / sizeof((verdicts)[0]))

/* A request with one more field line, and one with a body to come. */
#define GET(fields) "GET / HTTP/1.1\r\nHost: a\r\n" fields "\r\n"
#define POST(fields) "POST / HTTP/1.1\r\nHost: a\r\n" fields "\r\n"
#define ANSWER(fields) "HTTP/1.1 200 OK\r\n" fields "\r\n"

static void a_request_is_taken_apart(void **state)
{
    (void)state;
    struct fixture fixture;
    struct request_head *head = &fixture.request;
    assert_int_equal(read_request(&fixture, "POST //a/./b/../%7ec%2fd?x=%2e&y HTTP/1.1\r\n"
                                            "HOST: Example.COM:8080\r\n"
                                            "X-One: \t 1 \t\r\n"
                                            "Empty:\r\n"
                                            "Content-Length: 007\r\n"
                                            "TE: deflate;q=0.5, Trailers\r\n"
                                            "Max-Forwards: 3\r\n"
                                            "Expect: 100-Continue\r\n\r\n"),
                     REASON_NONE);
    assert_int_equal(head->method, METHOD_POST);
    assert_int_equal(head->version, HTTP_1_1);
    assert_int_equal(head->target_form, TARGET_ORIGIN);
    assert_span(head->method_text, "POST");
    assert_span(head->target, "//a/./b/../%7ec%2fd?x=%2e&y");
    assert_span(head->path, "/a/~c%2Fd");
    assert_span(head->query, "x=%2e&y");
    assert_span(head->authority, "Example.COM:8080");
    assert_span(head->host, "example.com");
    assert_int_equal(head->framing, FRAMING_LENGTH);
    assert_int_equal(head->content_length, 7);
    assert_int_equal(head->max_forwards, 3);
    assert_true(head->keep_alive && head->expect_continue && head->te_trailers);
    assert_true(head->encoded_slash);
    assert_false(head->encoded_backslash);
    assert_int_equal(head->fields.count, 7);
    assert_span(head->fields.entries[1].name, "X-One");
    assert_span(head->fields.entries[1].value, "1");
    assert_span(head->fields.entries[2].value, "");
    assert_int_equal(head->fields.entries[3].id, FIELD_CONTENT_LENGTH);
}

static void an_absent_query_differs_from_an_empty_one(void **state)
{
    (void)state;
    struct fixture fixture;
    assert_int_equal(read_request(&fixture, GET("")), REASON_NONE);
    assert_null(fixture.request.query.data);
    assert_int_equal(read_request(&fixture, "GET /? HTTP/1.1\r\nHost: a\r\n\r\n"), REASON_NONE);
    assert_non_null(fixture.request.query.data);
    assert_int_equal(fixture.request.query.size, 0);
}

static void a_malformed_request_line_is_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"GET /\r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET / HTTP/11\r\nHost: a\r\n\r\n", REASON_BAD_REQUEST_LINE},
        {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_METHOD},
        {"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_METHOD},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_METHOD},
        {"GET a HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /?\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", REASON_AMBIGUOUS_PATH},
        {"GET /a/..;/x HTTP/1.1\r\nHost: a\r\n\r\n", REASON_AMBIGUOUS_PATH},
    };
    CHECK_REQUESTS(verdicts);
}

static void other_versions_are_505(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"GET / HTTP/0.9\r\n\r\n", REASON_BAD_VERSION},
        {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", REASON_BAD_VERSION},
        {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", REASON_BAD_VERSION},
        {"PRI * HTTP/2.0\r\n\r\n", REASON_BAD_VERSION},
    };
    CHECK_REQUESTS(verdicts);
    assert_int_equal(reason_info(REASON_BAD_VERSION)->status, 505);
}

static void smuggling_by_content_length_is_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {POST("Content-Length: 5\r\n"), REASON_NONE},
        {POST("Content-Length: 5\r\nContent-Length: 5\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 5\r\ncontent-length: 6\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 5, 5\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 5,\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length:\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: +5\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: -1\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 0x5\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 5 5\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 5.0\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 9223372036854775807\r\n"), REASON_NONE},
        {POST("Content-Length: 9223372036854775808\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 18446744073709551616\r\n"), REASON_BAD_CONTENT_LENGTH},
        {POST("Content-Length: 99999999999999999999999\r\n"), REASON_BAD_CONTENT_LENGTH},
    };
    CHECK_REQUESTS(verdicts);
}

static void smuggling_by_transfer_encoding_is_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {POST("Transfer-Encoding: chunked\r\n"), REASON_NONE},
        {POST("Transfer-Encoding: CHUNKED\r\n"), REASON_NONE},
        {POST("Transfer-Encoding: \t chunked \r\n"), REASON_NONE},
        {POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
         REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
         REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: gzip, chunked\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: chunked, identity\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: identity\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: xchunked\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: chunked;q=1\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding: \"chunked\"\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {POST("Transfer-Encoding:\r\n"), REASON_BAD_TRANSFER_ENCODING},
        {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
         REASON_BAD_TRANSFER_ENCODING},
    };
    CHECK_REQUESTS(verdicts);
}

static void malformed_field_lines_are_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {GET("X : 1\r\n"), REASON_BAD_FIELD},
        {GET("X\t: 1\r\n"), REASON_BAD_FIELD},
        {GET(": 1\r\n"), REASON_BAD_FIELD},
        {GET("X\r\n"), REASON_BAD_FIELD},
        {GET("X(: 1\r\n"), REASON_BAD_FIELD},
        {GET("X\xC3: 1\r\n"), REASON_BAD_FIELD},
        {GET("X: 1\r\n 2\r\n"), REASON_BAD_FIELD},
        {GET("X: 1\r\n\t2\r\n"), REASON_BAD_FIELD},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", REASON_BAD_FIELD},
        {GET("X: a\nY: b\r\n"), REASON_BAD_FIELD},
        {GET("X: a\rY: b\r\n"), REASON_BAD_FIELD},
        {GET("X: a\x01\r\n"), REASON_BAD_FIELD},
        {GET("X: a\x7F\r\n"), REASON_BAD_FIELD},
        {GET("X: a\tb \xC3\xA9\r\n"), REASON_NONE},
    };
    struct fixture fixture;
    CHECK_REQUESTS(verdicts);
    assert_int_equal(read_request_bytes(&fixture, SPAN(GET("X: a\0b\r\n"))), REASON_BAD_FIELD);
    assert_int_equal(read_request_bytes(&fixture, SPAN(GET("X\0: b\r\n"))), REASON_BAD_FIELD);
}

static void host_is_required_single_and_well_formed(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"GET / HTTP/1.1\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", REASON_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", REASON_NONE},
        {"GET / HTTP/1.0\r\n\r\n", REASON_NONE},
    };
    CHECK_REQUESTS(verdicts);
}

static void an_absolute_target_must_agree_with_host(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", REASON_NONE},
        {"GET HTTPS://A:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n", REASON_NONE},
        {"GET http://a/ HTTP/1.0\r\n\r\n", REASON_NONE},
        {"GET http://a/ HTTP/1.1\r\n\r\n", REASON_BAD_HOST},
        {"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", REASON_BAD_HOST},
        {"GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", REASON_BAD_HOST},
        {"GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", REASON_BAD_HOST},
        {"GET http:/// HTTP/1.1\r\nHost:\r\n\r\n", REASON_BAD_HOST},
        {"GET http:///x HTTP/1.0\r\n\r\n", REASON_BAD_HOST},
        {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"GET http:a HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
    };
    struct fixture fixture;
    CHECK_REQUESTS(verdicts);
    assert_int_equal(read_request(&fixture, "GET http://A?q HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_span(fixture.request.path, "/");
    assert_span(fixture.request.query, "q");
    assert_span(fixture.request.host, "a");
    assert_int_equal(fixture.request.target_form, TARGET_ABSOLUTE);
}

static void the_asterisk_is_for_options_only(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"OPTIONS /* HTTP/1.1\r\nHost: a\r\n\r\n", REASON_NONE},
    };
    struct fixture fixture;
    CHECK_REQUESTS(verdicts);
    assert_int_equal(read_request(&fixture, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_span(fixture.request.path, "*");
    assert_int_equal(fixture.request.target_form, TARGET_ASTERISK);
    assert_int_equal(read_request(&fixture, "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_span(fixture.request.path, "*");
}

static void connect_is_checked_and_then_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", REASON_CONNECT_REFUSED},
        {"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_TARGET},
        {"CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n", REASON_BAD_HOST},
        {"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", REASON_BAD_HOST},
        {"GET a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", REASON_BAD_TARGET},
    };
    CHECK_REQUESTS(verdicts);
    assert_int_equal(reason_info(REASON_CONNECT_REFUSED)->status, 501);
}

static void expectations_other_than_continue_are_417(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {POST("Expect: 100-continue\r\nContent-Length: 1\r\n"), REASON_NONE},
        {POST("Expect: 200-ok\r\n"), REASON_BAD_EXPECT},
        {POST("Expect: y 100-continue\r\n"), REASON_BAD_EXPECT},
        {POST("Expect: 100-continue, x\r\n"), REASON_BAD_EXPECT},
        {POST("Expect: 100-continue\r\nExpect: 100-continue\r\n"), REASON_BAD_EXPECT},
        {POST("Expect:\r\n"), REASON_BAD_EXPECT},
    };
    struct fixture fixture;
    CHECK_REQUESTS(verdicts);
    assert_int_equal(reason_info(REASON_BAD_EXPECT)->status, 417);
    assert_int_equal(read_request(&fixture, GET("Expect: 100-continue\r\n")), REASON_NONE);
    assert_false(fixture.request.expect_continue);
    assert_int_equal(read_request(&fixture, "POST / HTTP/1.0\r\nContent-Length: 1\r\n"
                                            "Expect: 100-continue\r\n\r\n"),
                     REASON_NONE);
    assert_false(fixture.request.expect_continue);
}

static void malformed_max_forwards_is_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {GET("Max-Forwards: 0\r\n"), REASON_NONE},
        {GET("Max-Forwards: x\r\n"), REASON_TRACE_LOOP},
        {GET("Max-Forwards: -1\r\n"), REASON_TRACE_LOOP},
        {GET("Max-Forwards:\r\n"), REASON_TRACE_LOOP},
        {GET("Max-Forwards: 1\r\nMax-Forwards: 1\r\n"), REASON_TRACE_LOOP},
    };
    struct fixture fixture;
    CHECK_REQUESTS(verdicts);
    assert_int_equal(read_request(&fixture, GET("")), REASON_NONE);
    assert_true(fixture.request.max_forwards == UINT64_MAX);
}

static void underscore_aliases_of_protected_fields_are_dropped(void **state)
{
    (void)state;
    struct fixture fixture;
    assert_int_equal(
        read_request(&fixture, GET("Content_Length: 5\r\nTRANSFER_encoding: chunked\r\n"
                                   "X_Forwarded-For: 1\r\nX-Real_IP: 1\r\n"
                                   "User_Agent: kept\r\nX_Y: kept\r\n")),
        REASON_NONE);
    assert_int_equal(fixture.request.fields.count, 3);
    assert_span(fixture.request.fields.entries[1].name, "User_Agent");
    assert_span(fixture.request.fields.entries[2].name, "X_Y");
    assert_int_equal(fixture.request.framing, FRAMING_NONE);
}

static void persistence_follows_version_and_connection(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        bool keep_alive;
    } cases[] = {
        {GET(""), true},
        {GET("Connection: close\r\n"), false},
        {GET("Connection: x, CLOSE\r\n"), false},
        {GET("Connection: x\r\nConnection: close\r\n"), false},
        {GET("Connection: closed\r\n"), true},
        {GET("Connection: keep-alive, close\r\n"), false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
    };
    struct fixture fixture;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_request(&fixture, cases[i].head), REASON_NONE);
        assert_int_equal(fixture.request.keep_alive, cases[i].keep_alive);
    }
}

static void too_many_fields_are_431(void **state)
{
    (void)state;
    struct fixture fixture;
    assert_int_equal(
        read_request(&fixture, GET("a:1\r\na:2\r\na:3\r\na:4\r\na:5\r\na:6\r\na:7\r\n")),
        REASON_NONE);
    assert_int_equal(
        read_request(&fixture, GET("a:1\r\na:2\r\na:3\r\na:4\r\na:5\r\na:6\r\na:7\r\na:8\r\n")),
        REASON_TOO_MANY_FIELDS);
    /* Dropped aliases count: they cost work like all others. */
    assert_int_equal(
        read_request(&fixture, GET("a:1\r\na:2\r\na:3\r\na:4\r\na:5\r\na:6\r\nX_Real_IP:7\r\n"
                                   "X_Real_IP:8\r\n")),
        REASON_TOO_MANY_FIELDS);
}

/* Each field that is forwarded is held against each of them. */
static void too_many_connection_options_are_431(void **state)
{
#define OPTIONS_30 "c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c,c"
    (void)state;
    struct fixture fixture;
    const char *most = GET("Connection: " OPTIONS_30 ",, ,\r\nConnection: a,b\r\n");
    const char *more = GET("Connection: " OPTIONS_30 "\r\nConnection: a,b,c\r\n");
    assert_int_equal(HTTP1_CONNECTION_OPTIONS_MAX, 32);
    assert_int_equal(read_request(&fixture, most), REASON_NONE);
    assert_int_equal(read_request(&fixture, more), REASON_TOO_MANY_FIELDS);
    most = "HTTP/1.1 200 OK\r\nConnection: a,b," OPTIONS_30 "\r\n\r\n";
    more = "HTTP/1.1 200 OK\r\nConnection: a,b,c," OPTIONS_30 "\r\n\r\n";
    assert_int_equal(read_response(&fixture, METHOD_GET, most), REASON_NONE);
    assert_int_equal(read_response(&fixture, METHOD_GET, more), REASON_RESPONSE_HEAD_TOO_LARGE);
#undef OPTIONS_30
}

static void a_small_arena_is_told_apart_from_a_bad_request(void **state)
{
    (void)state;
    struct fixture fixture;
    enum reason reason = REASON_NONE;
    arena_init(&fixture.arena, fixture.memory, 64);
    assert_int_equal(
        http1_parse_request(SPAN(GET("")), &limits, &fixture.arena, &fixture.request, &reason),
        ERROR);
    assert_int_equal(reason, REASON_BUFFERS_FULL);
    /* What the log wants is there. */
    assert_span(fixture.request.target, "/");
    assert_span(fixture.request.method_text, "GET");
    arena_init(&fixture.arena, fixture.memory, http1_arena_max(&limits));
    assert_int_equal(
        http1_parse_request(SPAN(GET("")), &limits, &fixture.arena, &fixture.request, &reason), OK);
}

static void bytes_after_the_head_are_not_taken_for_fields(void **state)
{
    (void)state;
    struct fixture fixture;
    enum reason reason = REASON_NONE;
    arena_init(&fixture.arena, fixture.memory, sizeof(fixture.memory));
    assert_int_equal(http1_parse_request(SPAN(GET("") "X: 1\r\n\r\n"), &limits, &fixture.arena,
                                         &fixture.request, &reason),
                     ERROR);
    assert_int_equal(reason, REASON_BAD_FIELD);
}

static void a_response_is_taken_apart(void **state)
{
    (void)state;
    struct fixture fixture;
    const struct response_head *head = &fixture.response;
    assert_int_equal(read_response(&fixture, METHOD_GET,
                                   "HTTP/1.1 404 Not here, \xC3\xA9\r\nServer: x\r\n"
                                   "Keep-Alive: max=9, Timeout=5\r\nContent-Length: 12\r\n\r\n"),
                     REASON_NONE);
    assert_int_equal(head->status, 404);
    assert_int_equal(head->framing, FRAMING_LENGTH);
    assert_int_equal(head->content_length, 12);
    assert_int_equal(head->keep_alive_timeout_s, 5);
    assert_true(head->has_content_length && head->keep_alive);
    assert_int_equal(head->fields.count, 3);
    assert_int_equal(head->fields.entries[0].id, FIELD_SERVER);
}

static void a_malformed_status_line_is_refused(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", REASON_NONE},
        {"HTTP/1.1 200 \r\n\r\n", REASON_NONE},
        {"HTTP/1.1 200\r\n\r\n", REASON_NONE},
        {"HTTP/1.0 599 x\r\n\r\n", REASON_NONE},
        {"HTTP/1.1 099 x\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1 600 x\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1 20 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1 2000 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1 200OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1  200 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1\t200 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.2 200 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/2 200\r\n\r\n", REASON_BAD_RESPONSE},
        {"http/1.1 200 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"ICY 200 OK\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1 200 O\x01K\r\n\r\n", REASON_BAD_RESPONSE},
    };
    CHECK_RESPONSES(verdicts);
}

static void a_response_is_held_to_the_rules_of_framing(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {ANSWER("Content-Length: 1\r\nContent-Length: 1\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("Content-Length: 1,1\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("Content-Length: -1\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("Transfer-Encoding: gzip, chunked\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("Transfer-Encoding: identity\r\n"), REASON_BAD_RESPONSE},
        {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", REASON_BAD_RESPONSE},
        {ANSWER("X : 1\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("X: 1\r\n 2\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("X: a\nSet-Cookie: b\r\n"), REASON_BAD_RESPONSE},
        {ANSWER("X: a\rb\r\n"), REASON_BAD_RESPONSE},
        {"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", REASON_BAD_RESPONSE},
        {"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n", REASON_BAD_RESPONSE},
        {ANSWER("a:1\r\na:2\r\na:3\r\na:4\r\na:5\r\na:6\r\na:7\r\na:8\r\na:9\r\n"),
         REASON_RESPONSE_HEAD_TOO_LARGE},
    };
    CHECK_RESPONSES(verdicts);
}

static void the_body_of_a_response_depends_on_method_and_status(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        enum method method;
        enum framing framing;
        bool has_content_length;
        bool keep_alive;
    } cases[] = {
        {ANSWER("Content-Length: 0\r\n"), METHOD_GET, FRAMING_LENGTH, true, true},
        {ANSWER("Transfer-Encoding: Chunked\r\n"), METHOD_GET, FRAMING_CHUNKED, false, true},
        {ANSWER(""), METHOD_GET, FRAMING_CLOSE, false, false},
        {ANSWER("Connection: close\r\nContent-Length: 1\r\n"), METHOD_GET, FRAMING_LENGTH, true,
         false},
        {ANSWER("Content-Length: 9\r\n"), METHOD_HEAD, FRAMING_NONE, true, true},
        {ANSWER("Transfer-Encoding: chunked\r\n"), METHOD_HEAD, FRAMING_NONE, false, true},
        {ANSWER(""), METHOD_HEAD, FRAMING_NONE, false, true},
        {"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", METHOD_GET, FRAMING_NONE, true, true},
        {"HTTP/1.1 204 x\r\n\r\n", METHOD_GET, FRAMING_NONE, false, true},
        {"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", METHOD_GET, FRAMING_NONE, false, true},
        {"HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\n", METHOD_GET, FRAMING_NONE, false, false},
        {"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_GET, FRAMING_NONE, false,
         false},
        {"HTTP/1.1 100 x\r\n\r\n", METHOD_GET, FRAMING_NONE, false, true},
        {"HTTP/1.0 200 x\r\nContent-Length: 1\r\n\r\n", METHOD_GET, FRAMING_LENGTH, true, false},
        {"HTTP/1.0 200 x\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", METHOD_GET,
         FRAMING_LENGTH, true, true},
    };
    struct fixture fixture;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_response(&fixture, cases[i].method, cases[i].head), REASON_NONE);
        assert_int_equal(fixture.response.framing, cases[i].framing);
        assert_int_equal(fixture.response.has_content_length, cases[i].has_content_length);
        assert_int_equal(fixture.response.keep_alive, cases[i].keep_alive);
    }
}

static void an_unreadable_keep_alive_counts_as_absent(void **state)
{
    (void)state;
    static const char *const heads[] = {
        ANSWER(""),
        ANSWER("Keep-Alive: max=5\r\n"),
        ANSWER("Keep-Alive: timeout=\r\n"),
        ANSWER("Keep-Alive: timeout=x\r\n"),
        ANSWER("Keep-Alive: timeout=4294967295\r\n"),
    };
    struct fixture fixture;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        assert_int_equal(read_response(&fixture, METHOD_GET, heads[i]), REASON_NONE);
        assert_true(fixture.response.keep_alive_timeout_s == UINT32_MAX);
    }
}

static void check_refused(const char *text, const char *method, const char *target, size_t fields)
{
    struct fixture fixture;
    arena_init(&fixture.arena, fixture.memory, sizeof(fixture.memory));
    http1_parse_refused(span_of_string(text), &limits, &fixture.arena, &fixture.request);
    assert_span(fixture.request.method_text, method);
    assert_span(fixture.request.target, target);
    assert_int_equal(fixture.request.fields.count, fields);
    assert_true(fields_have(&fixture.request.fields, FIELD_HOST) == (fields > 0)); /* the first */
}

static void of_a_refused_head_is_told_what_came_whole(void **state)
{
    (void)state;
    check_refused("", "", "", 0);
    check_refused("GET", "", "", 0);
    check_refused("GET /a", "GET", "", 0); /* it may go on */
    check_refused("GET /a HT", "GET", "/a", 0);
    check_refused("GET /a HTTP/9.9\r\nHost: a\r\nAccept: text/html\r\n", "GET", "/a", 2);
    check_refused("GET /a HTTP/1.1\r\nHost: a\r\nAccept: text/ht", "GET", "/a", 1);
    check_refused("GET /a HTTP/1.1\r\nHost: a\r\nno colon\r\nAccept: */*\r\n\r\n", "GET", "/a", 1);
    check_refused("GET /a HTTP/1.1\nHost: a\r\n", "GET", "/a", 0);
    check_refused("GET /a\x01", "GET", "", 0);
    check_refused("\x16\x03\x01 / HTTP/1.1\r\n", "", "", 0);
    static char line[10000] = "HEAD /";
    memset(line + 6, 'a', limits.request_line_max);
    assert_true(limits.request_line_max + 6 < sizeof(line));
    line[limits.request_line_max + 6] = '\0';
    check_refused(line, "HEAD", line + 5, 0); /* as long as this it is too long anyway */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(an_absent_query_differs_from_an_empty_one),
        cmocka_unit_test(a_malformed_request_line_is_refused),
        cmocka_unit_test(other_versions_are_505),
        cmocka_unit_test(smuggling_by_content_length_is_refused),
        cmocka_unit_test(smuggling_by_transfer_encoding_is_refused),
        cmocka_unit_test(malformed_field_lines_are_refused),
        cmocka_unit_test(host_is_required_single_and_well_formed),
        cmocka_unit_test(an_absolute_target_must_agree_with_host),
        cmocka_unit_test(the_asterisk_is_for_options_only),
        cmocka_unit_test(connect_is_checked_and_then_refused),
        cmocka_unit_test(expectations_other_than_continue_are_417),
        cmocka_unit_test(malformed_max_forwards_is_refused),
        cmocka_unit_test(underscore_aliases_of_protected_fields_are_dropped),
        cmocka_unit_test(persistence_follows_version_and_connection),
        cmocka_unit_test(too_many_fields_are_431),
        cmocka_unit_test(too_many_connection_options_are_431),
        cmocka_unit_test(of_a_refused_head_is_told_what_came_whole),
        cmocka_unit_test(a_small_arena_is_told_apart_from_a_bad_request),
        cmocka_unit_test(bytes_after_the_head_are_not_taken_for_fields),
        cmocka_unit_test(a_response_is_taken_apart),
        cmocka_unit_test(a_malformed_status_line_is_refused),
        cmocka_unit_test(a_response_is_held_to_the_rules_of_framing),
        cmocka_unit_test(the_body_of_a_response_depends_on_method_and_status),
        cmocka_unit_test(an_unreadable_keep_alive_counts_as_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
