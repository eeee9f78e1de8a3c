#include "http/http1_write.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct http1_delivery no_body = {.framing = FRAMING_NONE};
static const struct http1_delivery chunked = {.framing = FRAMING_CHUNKED};

/* Every way in which a field could speak about framing, among two harmless ones. */
static struct field field_entries[] = {
    {.name = {(const uint8_t *)"X-A", 3}, .value = {(const uint8_t *)"1", 1}, .id = FIELD_OTHER},
    {.name = {(const uint8_t *)"host", 4}, .value = {(const uint8_t *)"evil", 4}, .id = FIELD_HOST},
    {.name = {(const uint8_t *)"content-length", 14},
     .value = {(const uint8_t *)"9", 1},
     .id = FIELD_CONTENT_LENGTH},
    {.name = {(const uint8_t *)"transfer-encoding", 17},
     .value = {(const uint8_t *)"chunked", 7},
     .id = FIELD_TRANSFER_ENCODING},
    {.name = {(const uint8_t *)"connection", 10},
     .value = {(const uint8_t *)"close", 5},
     .id = FIELD_CONNECTION},
    {.name = {(const uint8_t *)"keep-alive", 10},
     .value = {(const uint8_t *)"timeout=5", 9},
     .id = FIELD_KEEP_ALIVE},
    {.name = {(const uint8_t *)"X-B", 3}, .value = {NULL, 0}, .id = FIELD_OTHER},
};
static const struct fields all_fields = {.entries = field_entries, .count = 7, .capacity = 7};

static const struct http1_request_line get_line = {
    .method = {(const uint8_t *)"GET", 3},
    .path = {(const uint8_t *)"/p", 2},
    .host = {(const uint8_t *)"h:1", 3},
};

static void assert_rendered(const struct output *output, const char *expected)
{
    struct span bytes = output_bytes(output);
    if (!span_equal(bytes, span_of_string(expected))) {
        fail_msg("rendered \"%.*s\"", SPAN_ARGS(bytes));
    }
}

static void a_request_starts_with_its_line_and_host(void **state)
{
    (void)state;
    uint8_t memory[256];
    struct output output = output_over(memory, sizeof(memory));
    struct http1_request_line line = get_line;
    assert_true(http1_write_request(&output, &line, NULL, &no_body));
    assert_rendered(&output, "GET /p HTTP/1.1\r\nHost: h:1\r\n\r\n");
    output = output_over(memory, sizeof(memory));
    line.query = SPAN("");
    assert_true(http1_write_request(&output, &line, NULL, &no_body));
    assert_rendered(&output, "GET /p? HTTP/1.1\r\nHost: h:1\r\n\r\n");
    output = output_over(memory, sizeof(memory));
    line.query = SPAN("a=b");
    assert_true(http1_write_request(&output, &line, NULL, &no_body));
    assert_rendered(&output, "GET /p?a=b HTTP/1.1\r\nHost: h:1\r\n\r\n");
}

static void framing_in_a_request_comes_from_the_arguments_alone(void **state)
{
    (void)state;
    uint8_t memory[256];
    struct output output = output_over(memory, sizeof(memory));
    const struct http1_delivery length = {
        .framing = FRAMING_LENGTH,
        .content_length = UINT64_MAX,
        .connection = HTTP1_CONNECTION_CLOSE,
    };
    assert_true(http1_write_request(&output, &get_line, &all_fields, &no_body));
    assert_rendered(&output, "GET /p HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nX-B: \r\n\r\n");
    output = output_over(memory, sizeof(memory));
    assert_true(http1_write_request(&output, &get_line, &all_fields, &chunked));
    assert_rendered(&output, "GET /p HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nX-B: \r\n"
                             "Transfer-Encoding: chunked\r\n\r\n");
    output = output_over(memory, sizeof(memory));
    assert_true(http1_write_request(&output, &get_line, &all_fields, &length));
    assert_rendered(&output, "GET /p HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nX-B: \r\n"
                             "Content-Length: 18446744073709551615\r\nConnection: close\r\n\r\n");
}

static void te_is_named_by_connection_in_requests(void **state)
{
    (void)state;
    uint8_t memory[256];
    static const char *const expected[] = {
        [HTTP1_CONNECTION_DEFAULT] = "GET /p HTTP/1.1\r\nHost: h:1\r\n"
                                     "te: trailers\r\nConnection: TE\r\n\r\n",
        [HTTP1_CONNECTION_CLOSE] = "GET /p HTTP/1.1\r\nHost: h:1\r\n"
                                   "te: trailers\r\nConnection: close, TE\r\n\r\n",
        [HTTP1_CONNECTION_KEEP_ALIVE] = "GET /p HTTP/1.1\r\nHost: h:1\r\n"
                                        "te: trailers\r\nConnection: keep-alive, TE\r\n\r\n",
    };
    struct field entry = {.name = SPAN("te"), .value = SPAN("trailers"), .id = FIELD_TE};
    const struct fields fields = {.entries = &entry, .count = 1, .capacity = 1};
    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct output output = output_over(memory, sizeof(memory));
        const struct http1_delivery delivery = {.connection = (enum http1_connection)i};
        assert_true(http1_write_request(&output, &get_line, &fields, &delivery));
        assert_rendered(&output, expected[i]);
    }
    struct output output = output_over(memory, sizeof(memory));
    assert_true(http1_write_response(&output, 204, &fields, &no_body));
    assert_rendered(&output, "HTTP/1.1 204 No Content\r\nte: trailers\r\n\r\n");
}

/* Names and values of every size that a way of copying begins or ends at. */
static void every_size_is_copied_whole(void **state)
{
    (void)state;
    enum { SIZE_MAX_TRIED = 40 };
    uint8_t memory[256];
    uint8_t text[SIZE_MAX_TRIED];
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (uint8_t)('A' + i);
    }
    for (size_t size = 1; size <= SIZE_MAX_TRIED; size++) {
        struct field entry = {.name = span_of(text, size),
                              .value = span_of(text + sizeof(text) - size, size)};
        const struct fields fields = {.entries = &entry, .count = 1, .capacity = 1};
        uint8_t expected[256];
        struct output wanted = output_over(expected, sizeof(expected));
        struct output output = output_over(memory, sizeof(memory));
        OUTPUT_LITERAL(&wanted, "0\r\n");
        output_span(&wanted, entry.name);
        OUTPUT_LITERAL(&wanted, ": ");
        output_span(&wanted, entry.value);
        OUTPUT_LITERAL(&wanted, "\r\n\r\n");
        assert_true(http1_write_last_chunk(&output, &fields));
        assert_true(span_equal(output_bytes(&output), output_bytes(&wanted)));
    }
}

static void framing_in_a_response_comes_from_the_arguments_alone(void **state)
{
    (void)state;
    uint8_t memory[256];
    struct output output = output_over(memory, sizeof(memory));
    const struct fields first = {.entries = field_entries + 2, .count = 4, .capacity = 4};
    const struct http1_delivery length = {.framing = FRAMING_LENGTH,
                                          .connection = HTTP1_CONNECTION_KEEP_ALIVE};
    const struct http1_delivery close = {.framing = FRAMING_CLOSE,
                                         .connection = HTTP1_CONNECTION_CLOSE};
    assert_true(http1_write_response(&output, 200, &first, &length));
    assert_rendered(&output, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
                             "Connection: keep-alive\r\n\r\n");
    output = output_over(memory, sizeof(memory));
    assert_true(http1_write_response(&output, 499, &first, &chunked));
    assert_rendered(&output, "HTTP/1.1 499 Unknown\r\nTransfer-Encoding: chunked\r\n\r\n");
    output = output_over(memory, sizeof(memory));
    assert_true(http1_write_response(&output, 502, NULL, &close));
    assert_rendered(&output, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n");
}

static void statuses_without_a_body_have_no_framing(void **state)
{
    (void)state;
    uint8_t memory[256];
    struct output output = output_over(memory, sizeof(memory));
    const struct http1_delivery length = {
        .framing = FRAMING_LENGTH, .content_length = 5, .connection = HTTP1_CONNECTION_CLOSE};
    assert_true(http1_write_response(&output, 204, NULL, &length));
    assert_rendered(&output, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    output = output_over(memory, sizeof(memory));
    assert_true(http1_write_response(&output, 100, NULL, &length));
    assert_rendered(&output, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void chunks_are_framed(void **state)
{
    (void)state;
    uint8_t memory[64];
    struct output output = output_over(memory, sizeof(memory));
    assert_true(http1_write_chunk_header(&output, 0x1a2b));
    assert_true(http1_write_chunk_end(&output));
    assert_true(http1_write_last_chunk(&output, NULL));
    assert_rendered(&output, "1a2b\r\n\r\n0\r\n\r\n");
    output = output_over(memory, HTTP1_CHUNK_HEADER_MAX);
    assert_true(http1_write_chunk_header(&output, UINT64_MAX));
    assert_rendered(&output, "ffffffffffffffff\r\n");
    output = output_over(memory, sizeof(memory));
    assert_true(http1_write_last_chunk(&output, &all_fields));
    assert_rendered(&output, "0\r\nX-A: 1\r\nX-B: \r\n\r\n");
    output = output_over(memory, HTTP1_LAST_CHUNK_MAX);
    assert_true(http1_write_last_chunk(&output, NULL));
}

/* At every capacity that is too small: false, and not a byte beyond it. */
static void too_small_an_output_is_told_and_never_exceeded(void **state)
{
    (void)state;
    uint8_t memory[256];
    struct output output = output_over(memory, sizeof(memory));
    assert_true(http1_write_request(&output, &get_line, &all_fields, &chunked));
    size_t needed = output.size;
    for (size_t capacity = 0; capacity < needed; capacity++) {
        memset(memory, 0xAA, sizeof(memory));
        output = output_over(memory, capacity);
        assert_false(http1_write_request(&output, &get_line, &all_fields, &chunked));
        assert_true(output.overflowed);
        assert_int_equal(memory[capacity], 0xAA);
    }
    output = output_over(memory, needed);
    assert_true(http1_write_request(&output, &get_line, &all_fields, &chunked));
    output = output_over(memory, 4);
    assert_false(http1_write_response(&output, 200, &all_fields, &chunked));
    output = output_over(memory, 4);
    assert_false(http1_write_chunk_header(&output, 0x100));
    output = output_over(memory, 1);
    assert_false(http1_write_chunk_end(&output));
    output = output_over(memory, 4);
    assert_false(http1_write_last_chunk(&output, NULL));
}

/* Renders the value in a child and returns whether the child was aborted. */
static bool is_stopped(struct span value)
{
    int status = 0;
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        uint8_t memory[256];
        struct output output = output_over(memory, sizeof(memory));
        struct field entry = {.name = SPAN("X"), .value = value};
        const struct fields fields = {.entries = &entry, .count = 1, .capacity = 1};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)close(STDERR_FILENO);
        bool written = http1_write_response(&output, 200, &fields, &no_body);
        _exit(written ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void a_value_that_would_split_the_head_stops_the_process(void **state)
{
    (void)state;
    assert_false(is_stopped(SPAN("harmless")));
    assert_false(is_stopped(SPAN("a\tb\xC3\xA9 \t")));
    assert_true(is_stopped(SPAN("a\r\nSet-Cookie: b")));
    assert_true(is_stopped(SPAN("a\nb")));
    assert_true(is_stopped(SPAN("a\rb")));
    assert_true(is_stopped(SPAN("a\0b")));
    assert_true(is_stopped(SPAN("a\t\nb")));
    assert_true(is_stopped(SPAN("\xC3\xA9\r\xC3\xA9")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_starts_with_its_line_and_host),
        cmocka_unit_test(framing_in_a_request_comes_from_the_arguments_alone),
        cmocka_unit_test(te_is_named_by_connection_in_requests),
        cmocka_unit_test(every_size_is_copied_whole),
        cmocka_unit_test(framing_in_a_response_comes_from_the_arguments_alone),
        cmocka_unit_test(statuses_without_a_body_have_no_framing),
        cmocka_unit_test(chunks_are_framed),
        cmocka_unit_test(too_small_an_output_is_told_and_never_exceeded),
        cmocka_unit_test(a_value_that_would_split_the_head_stops_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
