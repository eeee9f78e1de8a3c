#include "http/http1_chunked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { BODY_MAX = 8192 };

/* One decoder and what came out of it; too large for the stack, so each test borrows the one of
 * main. */
struct fixture {
    _Alignas(max_align_t) uint8_t memory[HTTP1_TRAILERS_ARENA_MAX];
    struct arena arena;
    struct http1_chunked chunked;
    uint8_t input[BODY_MAX];
    uint8_t body[BODY_MAX];
    size_t body_size;
    size_t consumed;
    enum status status;
    enum reason reason;
};

static void start(struct fixture *fixture, enum http1_kind kind)
{
    arena_init(&fixture->arena, fixture->memory, sizeof(fixture->memory));
    http1_chunked_init(&fixture->chunked, kind, &fixture->arena);
    fixture->body_size = 0;
    fixture->consumed = 0;
    fixture->status = OK;
    fixture->reason = REASON_NONE;
}

/* Feeds the bytes in pieces of this size, each copied into the same buffer as a socket would. */
static void feed(struct fixture *fixture, struct span bytes, size_t piece)
{
    while (bytes.size > 0 && fixture->status == OK) {
        struct http1_chunked_result result = {0};
        size_t size = piece < bytes.size ? piece : bytes.size;
        assert_true(size <= BODY_MAX);
        memcpy(fixture->input, bytes.data, size);
        fixture->status = http1_chunked_decode(&fixture->chunked, fixture->input, size, &result,
                                               &fixture->reason);
        assert_true(fixture->body_size + result.body.size <= BODY_MAX);
        if (result.body.size > 0) {
            memcpy(fixture->body + fixture->body_size, result.body.data, result.body.size);
        }
        fixture->body_size += result.body.size;
        fixture->consumed += result.consumed;
        bytes = span_from(bytes, size);
    }
}

/* The same outcome whole, by single bytes and by threes; so many bytes are left over. */
static void assert_decodes(struct fixture *fixture, struct span bytes, struct span body,
                           size_t beyond)
{
    static const size_t pieces[] = {BODY_MAX, 1, 3};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        start(fixture, HTTP1_REQUEST);
        feed(fixture, bytes, pieces[i]);
        assert_int_equal(fixture->status, END);
        assert_int_equal(fixture->consumed, bytes.size - beyond);
        assert_true(span_equal(span_of(fixture->body, fixture->body_size), body));
    }
}

static void assert_refuses(struct fixture *fixture, struct span bytes, enum reason reason)
{
    static const size_t pieces[] = {BODY_MAX, 1, 3};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        start(fixture, HTTP1_REQUEST);
        feed(fixture, bytes, pieces[i]);
        if (fixture->status != ERROR || fixture->reason != reason) {
            fail_msg("\"%.*s\" is not refused as it should be", SPAN_ARGS(bytes));
        }
    }
}

static void assert_more_is_needed(struct fixture *fixture, struct span bytes)
{
    start(fixture, HTTP1_REQUEST);
    feed(fixture, bytes, BODY_MAX);
    assert_int_equal(fixture->status, OK);
}

static void chunks_are_joined(void **state)
{
    struct fixture *fixture = *state;
    assert_decodes(fixture, SPAN("5\r\nhello\r\n0\r\n\r\n"), SPAN("hello"), 0);
    assert_decodes(fixture, SPAN("0\r\n\r\n"), SPAN(""), 0);
    assert_decodes(fixture, SPAN("1\r\na\r\n2\r\nbc\r\nA\r\n0123456789\r\n00\r\n\r\n"),
                   SPAN("abc0123456789"), 0);
}

static void data_may_look_like_the_coding(void **state)
{
    struct fixture *fixture = *state;
    assert_decodes(fixture, SPAN("0000000000000009\r\n\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
                   SPAN("\r\n\r\n0\r\n\r\n"), 0);
}

static void bytes_after_the_body_belong_to_the_next_message(void **state)
{
    struct fixture *fixture = *state;
    assert_decodes(fixture, SPAN("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), SPAN("a"), 16);
    assert_decodes(fixture, SPAN("0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n"), SPAN(""), 16);
}

static void a_single_chunk_is_not_moved(void **state)
{
    struct fixture *fixture = *state;
    struct http1_chunked_result result;
    uint8_t data[] = "3\r\nabc\r\n";
    start(fixture, HTTP1_REQUEST);
    assert_int_equal(
        http1_chunked_decode(&fixture->chunked, data, sizeof(data) - 1, &result, &fixture->reason),
        OK);
    assert_ptr_equal(result.body.data, data + 3);
    assert_int_equal(result.body.size, 3);
}

static void an_incomplete_body_asks_for_more(void **state)
{
    struct fixture *fixture = *state;
    struct span whole = SPAN("2;a=\"b\"\r\nhi\r\n0\r\nX: y\r\n\r\n");
    for (size_t size = 0; size < whole.size; size++) {
        assert_more_is_needed(fixture, span_first(whole, size));
    }
}

static void sizes_are_checked_arithmetic(void **state)
{
    struct fixture *fixture = *state;
    assert_more_is_needed(fixture, SPAN("ffffffffffffffff\r\nabc"));
    assert_true(fixture->chunked.remaining == UINT64_MAX - 3);
    assert_refuses(fixture, SPAN("10000000000000000\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("00000000000000001\r\na"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("-1\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("+1\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("0x1\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN(" 1\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1g\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1_0\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN(";a\r\n"), REASON_BAD_CHUNK);
}

static void line_ends_other_than_crlf_are_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_refuses(fixture, SPAN("1\na\n0\n\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1\ra\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1\r\nab\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1\r\na\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1\r\na\rX"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("1\r\na0\r\n"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("0\r\n\rX"), REASON_BAD_CHUNK);
    assert_refuses(fixture, SPAN("0\r\n\n"), REASON_BAD_TRAILER);
}

static void well_formed_extensions_are_dropped(void **state)
{
    struct fixture *fixture = *state;
    assert_decodes(fixture, SPAN("1;a\r\nx\r\n0\r\n\r\n"), SPAN("x"), 0);
    assert_decodes(fixture, SPAN("1;a=b;c=\"d;\\\" e\t\";f\r\nx\r\n0;z\r\n\r\n"), SPAN("x"), 0);
    assert_decodes(fixture, SPAN("1 ; a = b ;\tc = \"\" ; d\r\nx\r\n0\r\n\r\n"), SPAN("x"), 0);
}

static void extensions_cannot_hide_a_line_end(void **state)
{
    struct fixture *fixture = *state;
    static const char *const cases[] = {
        "1;a\nx\r\n",       "1;a\rx\r\n",      "1;\r\nx",          "1; \r\nx",    "1 \r\nx",
        "1\t\r\nx",         "1;a \r\nx",       "1;a=\r\nx",        "1;a=b \r\nx", "1;a=\"b\r\nx",
        "1;a=\"b\nc\"\r\n", "1;a=\"b\\\r\n\"", "1;a=\"\x01\"\r\n", "1;a\x7F\r\n", "1;a=\"b\"c\r\n",
        "1;=b\r\n",         "1;a==b\r\n",      "1;a,b\r\n",        "1;\"a\"\r\n", "1;a=b=c\r\n",
        "1;a b\r\n",        "1 a\r\n",         "1;a=\xC3\xA9\r\n", "1;;\r\n",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_refuses(fixture, span_of_string(cases[i]), REASON_BAD_CHUNK);
    }
    assert_refuses(fixture, SPAN("1;a=\"\0\"\r\n"), REASON_BAD_CHUNK);
}

static void extensions_are_bounded_by_line_and_by_body(void **state)
{
    struct fixture *fixture = *state;
    enum { LINE_MAX = HTTP1_CHUNK_EXTENSION_MAX, LINES = HTTP1_CHUNK_EXTENSIONS_MAX / LINE_MAX };
    char line[1 + LINE_MAX + 1]; /* the size, the longest extension, and a byte too many */
    struct span chunk = SPAN("\r\nx\r\n");
    memset(line, 'a', sizeof(line));
    line[0] = '1';
    line[1] = ';';
    start(fixture, HTTP1_REQUEST);
    feed(fixture, span_of(line, 1 + LINE_MAX), BODY_MAX);
    feed(fixture, chunk, BODY_MAX);
    assert_int_equal(fixture->status, OK);
    start(fixture, HTTP1_REQUEST);
    feed(fixture, span_of(line, sizeof(line)), BODY_MAX);
    feed(fixture, chunk, BODY_MAX);
    assert_int_equal(fixture->reason, REASON_BAD_CHUNK);
    start(fixture, HTTP1_REQUEST);
    for (unsigned i = 0; i < LINES; i++) {
        feed(fixture, span_of(line, 1 + LINE_MAX), BODY_MAX);
        feed(fixture, chunk, BODY_MAX);
        assert_int_equal(fixture->status, OK);
    }
    feed(fixture, SPAN("1;a\r\n"), BODY_MAX);
    assert_int_equal(fixture->reason, REASON_BAD_CHUNK);
}

static void many_small_chunks_are_legal(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 1000 };
    static char bytes[COUNT * 6 + 6];
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(bytes + i * 6, 7, "1\r\n%c\r\n", (char)('a' + i % 26));
    }
    (void)snprintf(bytes + COUNT * 6, 6, "0\r\n\r\n");
    start(fixture, HTTP1_REQUEST);
    feed(fixture, span_of(bytes, sizeof(bytes) - 1), BODY_MAX);
    assert_int_equal(fixture->status, END);
    assert_int_equal(fixture->body_size, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(fixture->body[i], 'a' + i % 26);
    }
}

static void trailers_are_parsed_by_the_rules_of_fields(void **state)
{
    struct fixture *fixture = *state;
    assert_decodes(fixture,
                   SPAN("1\r\na\r\n0\r\nX-Digest:  abc \r\nHost: b\r\nX_Real_IP: c\r\n\r\n"),
                   SPAN("a"), 0);
    const struct fields *trailers = &fixture->chunked.trailers;
    assert_int_equal(trailers->count, 2);
    assert_true(span_equal(trailers->entries[0].name, SPAN("X-Digest")));
    assert_true(span_equal(trailers->entries[0].value, SPAN("abc")));
    assert_int_equal(trailers->entries[1].id, FIELD_HOST);
    assert_refuses(fixture, SPAN("0\r\nX : a\r\n\r\n"), REASON_BAD_TRAILER);
    assert_refuses(fixture, SPAN("0\r\n X: a\r\n\r\n"), REASON_BAD_TRAILER);
    assert_refuses(fixture, SPAN("0\r\nX: a\r\n b\r\n\r\n"), REASON_BAD_TRAILER);
    assert_refuses(fixture, SPAN("0\r\nX: a\n\r\n"), REASON_BAD_TRAILER);
    assert_refuses(fixture, SPAN("0\r\nX\r\n\r\n"), REASON_BAD_TRAILER);
    assert_refuses(fixture, SPAN("0\r\nX: \0\r\n\r\n"), REASON_BAD_TRAILER);
}

static void trailers_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    static char bytes[HTTP1_TRAILERS_MAX + 16];
    memset(bytes, 'a', sizeof(bytes));
    memcpy(bytes, "0\r\nX: ", 6);
    assert_refuses(fixture, span_of(bytes, sizeof(bytes)), REASON_BAD_TRAILER);
    memcpy(bytes + 3 + HTTP1_TRAILERS_MAX - 4, "\r\n\r\n", 4);
    start(fixture, HTTP1_REQUEST);
    feed(fixture, span_of(bytes, 3 + HTTP1_TRAILERS_MAX), 100);
    assert_int_equal(fixture->status, END);
    start(fixture, HTTP1_REQUEST);
    feed(fixture, SPAN("0\r\n"), BODY_MAX);
    for (unsigned i = 0; i <= HTTP1_TRAILER_FIELDS_MAX; i++) {
        feed(fixture, SPAN("a:b\r\n"), BODY_MAX);
    }
    feed(fixture, SPAN("\r\n"), BODY_MAX);
    assert_int_equal(fixture->reason, REASON_BAD_TRAILER);
}

static void memory_for_trailers_is_taken_only_when_they_come(void **state)
{
    struct fixture *fixture = *state;
    assert_decodes(fixture, SPAN("1\r\na\r\n0\r\n\r\n"), SPAN("a"), 0);
    assert_int_equal(fixture->arena.used, 0);
    start(fixture, HTTP1_RESPONSE);
    arena_init(&fixture->arena, fixture->memory, HTTP1_TRAILERS_MAX - 1);
    feed(fixture, SPAN("0\r\nA: b\r\n\r\n"), BODY_MAX);
    assert_int_equal(fixture->status, ERROR);
    assert_int_equal(fixture->reason, REASON_BUFFERS_FULL);
}

static void an_upstream_has_its_own_reason(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, HTTP1_RESPONSE);
    feed(fixture, SPAN("x"), BODY_MAX);
    assert_int_equal(fixture->reason, REASON_UPSTREAM_BAD_BODY);
    start(fixture, HTTP1_RESPONSE);
    feed(fixture, SPAN("0\r\n:\r\n\r\n"), BODY_MAX);
    assert_int_equal(fixture->reason, REASON_UPSTREAM_BAD_BODY);
}

static struct fixture shared_fixture;

static int lend_fixture(void **state)
{
    *state = &shared_fixture;
    return 0;
}

#define TEST(function) cmocka_unit_test_setup(function, lend_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(chunks_are_joined),
        TEST(data_may_look_like_the_coding),
        TEST(bytes_after_the_body_belong_to_the_next_message),
        TEST(a_single_chunk_is_not_moved),
        TEST(an_incomplete_body_asks_for_more),
        TEST(sizes_are_checked_arithmetic),
        TEST(line_ends_other_than_crlf_are_refused),
        TEST(well_formed_extensions_are_dropped),
        TEST(extensions_cannot_hide_a_line_end),
        TEST(extensions_are_bounded_by_line_and_by_body),
        TEST(many_small_chunks_are_legal),
        TEST(trailers_are_parsed_by_the_rules_of_fields),
        TEST(trailers_are_bounded),
        TEST(memory_for_trailers_is_taken_only_when_they_come),
        TEST(an_upstream_has_its_own_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
