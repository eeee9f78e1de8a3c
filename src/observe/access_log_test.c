#include "observe/access_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "config/compile.h"
#include "config/schema.h"

enum { TEST_ARENA_SIZE = 8 * 1024 * 1024 };

struct fixture {
    void *memory; /* of the generation */
    uint8_t *ring;
    uint8_t *cells;
    struct generation generation;
    struct metrics metrics;
    struct access_log log;
    struct ring_reader reader;
    _Atomic uint64_t cursor;
};

static void compile(struct fixture *fixture, const char *children)
{
    char text[2048];
    int size = snprintf(text, sizeof(text),
                        "observability {\n  access-log \"stdout\" {\n%s\n}\n}\n", children);
    assert_true(size > 0 && (size_t)size < sizeof(text));
    fixture->memory = malloc(TEST_ARENA_SIZE);
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    assert_non_null(fixture->memory);
    assert_non_null(diagnostics);
    struct arena arena;
    arena_init(&arena, fixture->memory, TEST_ARENA_SIZE);
    diagnostics_init(diagnostics, &arena);
    struct environment environment = {.cores = 1};
    struct compile_input input = {SPAN("t.kdl"), span_of_string(text), &environment};
    struct span block = SPAN_EMPTY;
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    if (status != OK) {
        diagnostics_print(diagnostics, stderr);
    }
    assert_int_equal(status, OK);
    free(diagnostics);
    assert_true(generation_open(&fixture->generation, block));
}

/* A log with such children of access-log, in place of the one before. */
static void configure(struct fixture *fixture, const char *children)
{
    free(fixture->memory);
    free(fixture->cells);
    compile(fixture, children);
    fixture->cells = aligned_alloc(64, (metrics_size(&fixture->generation) + 63) / 64 * 64);
    assert_non_null(fixture->cells);
    atomic_store(&fixture->cursor, 0);
    metrics_init(&fixture->metrics, fixture->cells, &fixture->generation);
    access_log_init(&fixture->log, fixture->ring, 1, &fixture->metrics, &fixture->generation);
    access_log_attach(&fixture->log, &fixture->cursor);
    ring_reader_init(&fixture->reader, fixture->ring, RING_CAPACITY_DEFAULT, &fixture->cursor);
}

static uint64_t count_of(struct fixture *fixture, enum metric metric)
{
    return metrics_cell_read(fixture->cells, fixture->metrics.layout.offsets[metric]);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->ring = aligned_alloc(64, ring_size(RING_CAPACITY_DEFAULT));
    assert_non_null(fixture->ring);
    configure(fixture, "");
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    free(fixture->memory);
    free(fixture->ring);
    free(fixture->cells);
    free(fixture);
    return 0;
}

static struct access_record good_record(void)
{
    return (struct access_record){
        .time = UINT64_C(1769860800123456),
        .request_id = SPAN("0123456789abcdef0123456789abcdef"),
        .client = SPAN("192.0.2.7"),
        .listener = SPAN("http"),
        .route = SPAN("api"),
        .method = SPAN("GET"),
        .host = SPAN("example.com"),
        .path = SPAN("/api/users?page=2"),
        .protocol = SPAN("HTTP/1.1"),
        .upstream = SPAN("backend"),
        .endpoint = SPAN("10.0.1.10:8080"),
        .place_file = SPAN("sentinel.kdl"),
        .place_line = 30,
        .status = 200,
        .reason = REASON_NONE,
        .attempts = 1,
        .bytes_in = 0,
        .bytes_out = 5120,
        .queue = 0,
        .connect = 1234,
        .first_byte = 20005,
        .total = 21000,
        .tls_version = SPAN("TLSv1.3"),
        .tls_cipher = SPAN("TLS_AES_256_GCM_SHA384"),
        .tls_resumed = ACCESS_NO,
        .sni = SPAN("example.com"),
        .client_subject = SPAN("CN=user"),
        .client_fingerprint = SPAN("0123"),
        .client_verified = ACCESS_YES,
    };
}

static void expect_line(struct fixture *fixture, struct span expected)
{
    struct span line = SPAN_EMPTY;
    assert_int_equal(ring_read(&fixture->reader, &line), OK);
    ring_release(&fixture->reader);
    if (!span_equal(line, expected)) {
        print_error("%.*s", SPAN_ARGS(line));
    }
    assert_true(span_equal(line, expected));
}

/* As expect_line; %s in the text stands for the hint of the reason. */
static void expect_line_with_hint(struct fixture *fixture, const char *expected, enum reason reason)
{
    char line[2048];
    char *place = NULL;
    assert_true(strlen(expected) + strlen(reason_info(reason)->hint) < sizeof(line));
    memcpy(line, expected, strlen(expected) + 1);
    place = strstr(line, "%s");
    assert_non_null(place);
    const char *rest = expected + (place - line) + 2;
    (void)snprintf(place, sizeof(line) - (size_t)(place - line), "%s%s", reason_info(reason)->hint,
                   rest);
    expect_line(fixture, span_of_string(line));
}

static void a_record_is_one_line_in_the_documented_order(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_record record = good_record();
    access_log_write(&fixture->log, &record);
    expect_line(fixture,
                SPAN("{\"time\":\"2026-01-31T12:00:00.123Z\","
                     "\"request_id\":\"0123456789abcdef0123456789abcdef\",\"client\":\"192.0.2.7\","
                     "\"listener\":\"http\",\"route\":\"api\",\"method\":\"GET\","
                     "\"host\":\"example.com\",\"path\":\"/api/users?page=2\","
                     "\"protocol\":\"HTTP/1.1\",\"status\":200,\"reason\":null,\"bytes_in\":0,"
                     "\"bytes_out\":5120,\"upstream\":\"backend\",\"endpoint\":\"10.0.1.10:8080\","
                     "\"attempts\":1,\"queue_ms\":0.000,\"connect_ms\":1.234,"
                     "\"first_byte_ms\":20.005,\"total_ms\":21.000}\n"));
}

static void what_is_absent_is_null_and_a_failure_says_where_and_why(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_record record = {
        .client = SPAN("::1"),
        .listener = SPAN("http"),
        .reason = REASON_CLIENT_CLOSED,
        .place_file = SPAN("a \"b\".kdl"),
        .place_line = 7,
        .detail = TLS_DETAIL_VERIFY_CERT_HAS_EXPIRED,
        .queue = ACCESS_NO_TIME,
        .connect = ACCESS_NO_TIME,
        .first_byte = ACCESS_NO_TIME,
        .total = 1,
    };
    access_log_write(&fixture->log, &record);
    expect_line_with_hint(fixture,
                          "{\"time\":\"1970-01-01T00:00:00.000Z\",\"request_id\":null,"
                          "\"client\":\"::1\",\"listener\":\"http\",\"route\":null,"
                          "\"method\":null,\"host\":null,\"path\":null,\"protocol\":null,"
                          "\"status\":null,\"reason\":\"client_closed\",\"bytes_in\":0,"
                          "\"bytes_out\":0,\"upstream\":null,\"endpoint\":null,\"attempts\":0,"
                          "\"queue_ms\":null,\"connect_ms\":null,\"first_byte_ms\":null,"
                          "\"total_ms\":0.001,\"place\":\"a \\\"b\\\".kdl:7\",\"hint\":\"%s\","
                          "\"detail\":\"certificate has expired\"}\n",
                          REASON_CLIENT_CLOSED);
}

static const char *const kinds[] = {
    "fields \"time\" \"request_id\" \"client\" \"listener\" \"route\" \"method\" \"host\" \"path\" "
    "\"protocol\" \"status\" \"reason\" \"bytes_in\" \"bytes_out\" \"upstream\" \"endpoint\" "
    "\"attempts\" \"queue_ms\" \"connect_ms\" \"first_byte_ms\" \"total_ms\" \"place\" \"hint\" "
    "\"detail\" \"tls_version\" \"tls_cipher\" \"tls_resumed\" \"sni\" \"client_subject\" "
    "\"client_fingerprint\" \"client_verified\"\n"
    "redact-query \"a\"\n"
    "request-header \"A\" \"B\" \"C\" \"D\" \"E\" \"F\" \"G\" \"Referer\"\n"
    "response-header \"A\" \"B\" \"C\" \"D\" \"E\" \"F\" \"G\" \"Location\"",
    "format \"combined\"",
    "format \"combined\"; redact-query \"b\"",
};

static void the_longest_texts_fit_into_a_line_and_cannot_break_it(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static uint8_t junk[20000];
    struct field fields[10];
    const struct fields all = {.entries = fields, .count = sizeof(fields) / sizeof(fields[0])};
    for (size_t i = 0; i < sizeof(junk); i++) {
        junk[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (unsigned round = 0; round < 3 * REASON_COUNT; round++) {
        unsigned reason = round % REASON_COUNT;
        if (reason == 0) {
            configure(fixture, kinds[round / REASON_COUNT]);
        }
        struct span text = span_of(junk + reason, sizeof(junk) - REASON_COUNT);
        struct access_record record = {
            .time = UINT64_MAX,
            .request_id = text,
            .client = text,
            .listener = text,
            .route = text,
            .method = text,
            .host = text,
            .path = text,
            .protocol = text,
            .upstream = text,
            .endpoint = text,
            .place_file = text,
            .place_line = UINT32_MAX,
            .tls_version = text,
            .tls_cipher = text,
            .sni = text,
            .client_subject = text,
            .client_fingerprint = text,
            .tls_resumed = ACCESS_YES,
            .client_verified = ACCESS_NO,
            .status = UINT16_MAX,
            .reason = (enum reason)reason,
            .detail = TLS_DETAIL_VERIFY_SIGNATURE_ALGORITHM_MISMATCH, /* the longest */
            .attempts = UINT32_MAX,
            .bytes_in = UINT64_MAX,
            .bytes_out = UINT64_MAX,
            .queue = UINT64_MAX - 1,
            .connect = UINT64_MAX - 1,
            .first_byte = UINT64_MAX - 1,
            .total = UINT64_MAX - 1,
            .request_fields = &all,
            .response_fields = &all,
        };
        for (size_t i = 0; i < all.count; i++) {
            fields[i] = (struct field){.name = span_of("ABCDEFGA" + i % 8, 1), .value = text};
        }
        fields[8].id = FIELD_REFERER;
        fields[9].id = FIELD_LOCATION;
        access_log_write(&fixture->log, &record);
        struct span line = SPAN_EMPTY;
        assert_int_equal(ring_read(&fixture->reader, &line), OK);
        ring_release(&fixture->reader);
        assert_true(line.size <= ACCESS_LINE_MAX);
        assert_int_equal(span_find(line, '\n'), line.size - 1);
    }
}

static void the_members_are_those_that_were_chosen_in_their_order(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    configure(fixture, "fields \"status\" \"path\" \"total_ms\" \"hint\" \"place\"");
    struct access_record record = good_record();
    access_log_write(&fixture->log, &record);
    expect_line(fixture,
                SPAN("{\"status\":200,\"path\":\"/api/users?page=2\",\"total_ms\":21.000}\n"));
    record.reason = REASON_CLIENT_CLOSED;
    access_log_write(&fixture->log, &record);
    expect_line_with_hint(fixture,
                          "{\"status\":200,\"path\":\"/api/users?page=2\",\"total_ms\":21.000,"
                          "\"hint\":\"%s\",\"place\":\"sentinel.kdl:30\"}\n",
                          REASON_CLIENT_CLOSED);
    configure(fixture, "fields \"detail\" \"status\"");
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"status\":200}\n"));
    record.detail = TLS_DETAIL_ALERT_UNKNOWN_CA;
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"detail\":\"alert unknown_ca (48)\",\"status\":200}\n"));
    record.detail = TLS_DETAIL_NONE;
    configure(fixture, "fields \"hint\"");
    record.reason = REASON_NONE;
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{}\n"));
}

static void the_status_of_a_call_is_a_number_and_null_for_others(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    configure(fixture, "fields \"grpc_status\" \"status\"");
    assert_false(fixture->log.tells_tls);
    struct access_record record = good_record();
    record.grpc_status = GRPC_UNAVAILABLE;
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"grpc_status\":14,\"status\":200}\n"));
    record.grpc_status = GRPC_STATUS_NONE;
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"grpc_status\":null,\"status\":200}\n"));
}

static void members_of_tls_are_null_without_tls(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    assert_false(fixture->log.tells_tls);
    configure(fixture, "fields \"tls_version\" \"tls_cipher\" \"tls_resumed\" \"sni\" "
                       "\"client_subject\" \"client_fingerprint\" \"client_verified\"");
    assert_true(fixture->log.tells_tls);
    struct access_record record = good_record();
    access_log_write(&fixture->log, &record);
    expect_line(fixture,
                SPAN("{\"tls_version\":\"TLSv1.3\",\"tls_cipher\":\"TLS_AES_256_GCM_SHA384\","
                     "\"tls_resumed\":false,\"sni\":\"example.com\","
                     "\"client_subject\":\"CN=user\",\"client_fingerprint\":\"0123\","
                     "\"client_verified\":true}\n"));
    record = (struct access_record){.status = 200};
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"tls_version\":null,\"tls_cipher\":null,\"tls_resumed\":null,"
                              "\"sni\":null,\"client_subject\":null,\"client_fingerprint\":null,"
                              "\"client_verified\":null}\n"));
}

/* The key's choices and the writer's members are two lists: they must agree. */
static void each_member_is_called_as_it_is_chosen(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    const struct schema_key *key = schema_key(KEY_ACCESS_LOG_FIELDS);
    for (int64_t i = 0; i < schema_choices(key); i++) {
        char children[64];
        char begin[64];
        struct span choice = schema_choice_text(key, i);
        (void)snprintf(children, sizeof(children), "fields \"%.*s\"", SPAN_ARGS(choice));
        int size = snprintf(begin, sizeof(begin), "{\"%.*s\":", SPAN_ARGS(choice));
        configure(fixture, children);
        struct access_record record = good_record();
        record.reason = REASON_TLS_REFUSED;
        record.detail = TLS_DETAIL_ALERT_UNKNOWN_CA;
        access_log_write(&fixture->log, &record);
        struct span line = SPAN_EMPTY;
        assert_int_equal(ring_read(&fixture->reader, &line), OK);
        assert_true(span_starts_with(line, span_of(begin, (size_t)size)));
        assert_false(span_starts_with(span_from(line, (size_t)size), SPAN("null")));
    }
}

static bool leaves_a_record(struct fixture *fixture, const struct access_record *record)
{
    struct span line = SPAN_EMPTY;
    access_log_write(&fixture->log, record);
    bool written = ring_read(&fixture->reader, &line) == OK;
    ring_release(&fixture->reader);
    return written;
}

static void the_most_specific_rate_counts(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    configure(fixture, "sample 204 1; sample \"2xx\" 0; sample \"4xx\" 0.0; sample \"404\" 1.0\n"
                       "sample \"none\" 0");
    static const struct {
        uint16_t status;
        enum reason reason;
        bool kept;
    } cases[] = {
        {200, REASON_NONE, false},         {204, REASON_NONE, true},
        {299, REASON_NONE, false},         {301, REASON_NONE, true},
        {404, REASON_NO_ROUTE, true},      {400, REASON_BAD_EXPECT, false},
        {503, REASON_NONE, true},          {0, REASON_CLIENT_CLOSED, false},
        {200, REASON_CLIENT_CLOSED, true}, /* cut short: never taken for a good one */
        {999, REASON_NONE, true},
    };
    struct access_record record = good_record();
    uint64_t sampled = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        record.status = cases[i].status;
        record.reason = cases[i].reason;
        assert_int_equal(leaves_a_record(fixture, &record), cases[i].kept);
        sampled += cases[i].kept ? 0 : 1;
    }
    assert_int_equal(count_of(fixture, METRIC_ACCESS_LOG_SAMPLED), sampled);
    assert_int_equal(count_of(fixture, METRIC_ACCESS_LOG_RECORDS),
                     sizeof(cases) / sizeof(cases[0]) - sampled);
}

/* Ids that an even hash spreads; what is kept at a low rate is kept at each higher one. */
static void a_request_is_sampled_alike_everywhere_and_the_rate_is_told(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { IDS = 4096 };
    static bool kept_at_tenth[IDS];
    unsigned kept[2] = {0};
    static const char *const children[] = {"fields \"status\"\nsample \"2xx\" 0.1",
                                           "fields \"status\"\nsample \"2xx\" \"0.25\""};
    for (int round = 0; round < 2; round++) {
        configure(fixture, children[round]);
        for (unsigned i = 0; i < IDS; i++) {
            char id[32];
            int size = snprintf(id, sizeof(id), "%08x", i);
            struct access_record record = good_record();
            record.request_id = span_of(id, (size_t)size);
            bool first = leaves_a_record(fixture, &record);
            assert_int_equal(leaves_a_record(fixture, &record), first);
            assert_true(round == 0 || first || !kept_at_tenth[i]);
            kept_at_tenth[i] = first;
            kept[round] += first ? 1 : 0;
        }
    }
    assert_in_range(kept[0], IDS * 8 / 100, IDS * 12 / 100);
    assert_in_range(kept[1], IDS * 22 / 100, IDS * 28 / 100);
    configure(fixture, "fields \"status\"\nsample \"2xx\" 0.999999\nsample 203 0.5");
    struct access_record record = good_record();
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"status\":200,\"sample_rate\":0.999999}\n"));
}

static void what_must_not_be_read_is_replaced_by_a_mark(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    configure(fixture, "fields \"client\" \"host\" \"method\" \"request_id\" \"path\"\n"
                       "redact \"client\" \"host\" \"method\" \"request_id\" \"query\"");
    struct access_record record = good_record();
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"client\":\"[redacted]\",\"host\":\"[redacted]\","
                              "\"method\":\"[redacted]\",\"request_id\":\"[redacted]\","
                              "\"path\":\"/api/users?[redacted]\"}\n"));
    configure(fixture, "fields \"sni\" \"client_subject\" \"client_fingerprint\"\n"
                       "redact \"client\" \"host\"");
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"sni\":\"[redacted]\",\"client_subject\":\"[redacted]\","
                              "\"client_fingerprint\":\"[redacted]\"}\n"));
    configure(fixture, "fields \"path\"\nredact \"path\"");
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"path\":\"[redacted]\"}\n"));
    record.path = SPAN_EMPTY;
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"path\":null}\n"));
}

static void secret_parameters_are_found_however_they_are_written(void **state)
{
    static const char *const cases[][2] = {
        {"/a", "/a"},
        {"/a?", "/a?"},
        {"/token=1", "/token=1"},
        {"/a?token=s", "/a?token=[redacted]"},
        {"/a?x=1&token=s&y=2", "/a?x=1&token=[redacted]&y=2"},
        {"/a?TOKEN=s", "/a?TOKEN=[redacted]"},
        {"/a?t%6Fken=s", "/a?t%6Fken=[redacted]"},
        {"/a?pass+word=s", "/a?pass+word=[redacted]"},
        {"/a?pass%20word=s", "/a?pass%20word=[redacted]"},
        {"/a?x=1;token=s", "/a?x=1;token=[redacted]"},
        {"/a?token=s;t&y=2", "/a?token=[redacted]&y=2"},
        {"/a?token=", "/a?token=[redacted]"},
        {"/a?token", "/a?token"},
        {"/a?tokens=s&atoken=t&toke=u", "/a?tokens=s&atoken=t&toke=u"},
        {"/a?token=s?token=t", "/a?token=[redacted]"},
        {"/a?%=1&%6=2&token%=s", "/a?%=1&%6=2&token%=s"},
        {"/a?&&token=s&&", "/a?&&token=[redacted]&&"},
        {"http://h/?token=s#f", "http://h/?token=[redacted]"},
        {"http://h/#token=s&y=2", "http://h/#token=[redacted]&y=2"},
        {"/a?x=1#token=s", "/a?x=1#token=[redacted]"},
        {"/a#/b?token=s", "/a#/b?token=[redacted]"},
        {"http://u:p@h/a@b?token=s", "http://[redacted]@h/a@b?token=[redacted]"},
        {"//u:p@h/", "//u:p@h/"}, /* a path */
        {"u:p@x@h:443", "[redacted]@h:443"},
        {"http://h:80/x:y@z", "http://h:80/x:y@z"},
        {"http://@h", "http://@h"},
        {"*", "*"},
    };
    struct fixture *fixture = (struct fixture *)*state;
    configure(fixture, "fields \"path\"");
    struct access_record plain = good_record();
    plain.path = SPAN("http://u:p@h/?token=s");
    access_log_write(&fixture->log, &plain);
    expect_line(fixture, SPAN("{\"path\":\"http://[redacted]@h/?token=s\"}\n"));
    configure(fixture, "fields \"path\"\nredact-query \"Token\" \"pass word\"");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[128];
        int size = snprintf(expected, sizeof(expected), "{\"path\":\"%s\"}\n", cases[i][1]);
        struct access_record record = good_record();
        record.path = span_of_string(cases[i][0]);
        access_log_write(&fixture->log, &record);
        expect_line(fixture, span_of(expected, (size_t)size));
    }
}

static struct field field(const char *name, const char *value)
{
    struct span text = span_of_string(name);
    return (struct field){.name = text, .value = span_of_string(value), .id = field_identify(text)};
}

static void recorded_fields_show_no_credentials(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct field sent[] = {field("cookie", "secret"),        field("X-Two", "a"),
                           field("authorization", "b"),      field("x-two", "c\"d"),
                           field("X-Key", "secret"),         field("Referer", "/p?token=secret"),
                           field("proxy-authorization", "x")};
    struct field answered[] = {field("Set-Cookie", "secret"), field("Content-Type", "text/plain"),
                               field("Location", "/?token=secret&a=b#token=s")};
    const struct fields request = {.entries = sent, .count = sizeof(sent) / sizeof(sent[0])};
    const struct fields response = {.entries = answered,
                                    .count = sizeof(answered) / sizeof(answered[0])};
    struct access_record record = good_record();
    record.request_fields = &request;
    record.response_fields = &response;
    configure(fixture,
              "fields \"status\"\nredact-query \"token\"\nredact-header \"x-key\"\n"
              "request-header \"X-Two\" \"Cookie\" \"Authorization\" \"X-Key\" \"Absent\" \\\n"
              "    \"Referer\" \"Proxy-Authorization\"\n"
              "response-header \"set-cookie\" \"Content-Type\" \"Location\"");
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"status\":200,\"request_headers\":{\"X-Two\":\"a, c\\\"d\","
                              "\"Cookie\":\"[redacted]\",\"Authorization\":\"[redacted]\","
                              "\"X-Key\":\"[redacted]\",\"Absent\":null,"
                              "\"Referer\":\"/p?token=[redacted]\","
                              "\"Proxy-Authorization\":\"[redacted]\"},"
                              "\"response_headers\":{\"set-cookie\":\"[redacted]\","
                              "\"Content-Type\":\"text/plain\",\"Location\":\"/"
                              "?token=[redacted]&a=b#token=[redacted]\"}}"
                              "\n"));
    record.request_fields = NULL;
    record.response_fields = NULL;
    configure(fixture, "fields \"status\"\nrequest-header \"Cookie\"\nresponse-header \"A\"");
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("{\"status\":200,\"request_headers\":{\"Cookie\":null},"
                              "\"response_headers\":{\"A\":null}}\n"));
}

static void urls_in_fields_show_no_password(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char *const cases[][2] = {
        {"http://u:p@h/a", "http://[redacted]@h/a"},
        {"//u:p@h/a@b", "//[redacted]@h/a@b"}, /* of the scheme of the page: RFC 3986, 4.2 */
        {"//h/a:b@c", "//h/a:b@c"},
        {"/a@b", "/a@b"},
        {"//", "//"},
    };
    configure(fixture, "fields \"status\"\nresponse-header \"Location\"");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct field answered[] = {field("Location", cases[i][0])};
        const struct fields response = {.entries = answered, .count = 1};
        struct access_record record = good_record();
        record.response_fields = &response;
        char expected[128];
        int size =
            snprintf(expected, sizeof(expected),
                     "{\"status\":200,\"response_headers\":{\"Location\":\"%s\"}}\n", cases[i][1]);
        access_log_write(&fixture->log, &record);
        expect_line(fixture, span_of(expected, (size_t)size));
    }
}

static void the_combined_format_is_apaches(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct field sent[] = {field("User-Agent", "a \"b\" \\ \n\t\x01\x7f\xc3"),
                           field("Referer", "http://h/?token=secret")};
    const struct fields request = {.entries = sent, .count = 2};
    struct access_record record = good_record();
    record.request_fields = &request;
    configure(fixture, "format \"combined\"\nredact-query \"token\"");
    access_log_write(&fixture->log, &record);
    expect_line(
        fixture,
        SPAN("192.0.2.7 - - [31/Jan/2026:12:00:00 +0000] \"GET /api/users?page=2 HTTP/1.1\" "
             "200 5120 \"http://h/?token=[redacted]\" "
             "\"a \\\"b\\\" \\\\ \\n\\t\\x01\\x7f\\xc3\"\n"));
    record.method = SPAN_EMPTY;
    record.status = 0;
    record.bytes_out = 0;
    record.request_fields = NULL;
    access_log_write(&fixture->log, &record);
    expect_line(fixture,
                SPAN("192.0.2.7 - - [31/Jan/2026:12:00:00 +0000] \"-\" 444 - \"-\" \"-\"\n"));
    configure(fixture, "format \"combined\"\nredact \"client\" \"path\" \"method\"\n"
                       "redact-header \"User-Agent\"");
    record = good_record();
    record.request_fields = &request;
    record.status = 0;
    record.reason = REASON_CLIENT_CLOSED;
    access_log_write(&fixture->log, &record);
    expect_line(fixture, SPAN("0.0.0.0 - - [31/Jan/2026:12:00:00 +0000] \"[redacted] [redacted] "
                              "HTTP/1.1\" 499 5120 \"[redacted]\" \"[redacted]\"\n"));
}

static void a_full_ring_drops_and_counts(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_record record = good_record();
    unsigned written = 0;
    while (count_of(fixture, METRIC_ACCESS_LOG_DROPS) == 0) {
        access_log_write(&fixture->log, &record);
        assert_true(++written < RING_CAPACITY_DEFAULT / 100);
    }
    unsigned read = 0;
    struct span line = SPAN_EMPTY;
    while (ring_read(&fixture->reader, &line) == OK) {
        read++;
    }
    assert_int_equal(read, written - 1);
    ring_release(&fixture->reader);
    access_log_write(&fixture->log, &record);
    assert_int_equal(count_of(fixture, METRIC_ACCESS_LOG_DROPS), 1);
    assert_int_equal(count_of(fixture, METRIC_ACCESS_LOG_RECORDS), written);
}

static void a_log_that_is_off_writes_and_drops_nothing(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_log log;
    access_log_init(&log, NULL, 1, &fixture->metrics, &fixture->generation);
    access_log_attach(&log, &fixture->cursor);
    struct access_record record = good_record();
    access_log_write(&log, &record);
    assert_int_equal(count_of(fixture, METRIC_ACCESS_LOG_DROPS), 0);
}

/* No bound is asserted: machines differ. The figure is for whoever works on the speed. */
static void its_cost_is_told(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_record record = good_record();
    enum { ROUNDS = 100000 };
    struct timespec begin;
    struct timespec end;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &begin), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        record.time += 50;
        access_log_write(&fixture->log, &record);
        struct span line = SPAN_EMPTY;
        assert_int_equal(ring_read(&fixture->reader, &line), OK);
        ring_release(&fixture->reader);
    }
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &end), 0);
    double nanoseconds =
        (double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec);
    print_message("access_log_write: %.0f ns a record\n", nanoseconds / ROUNDS);
    assert_int_equal(count_of(fixture, METRIC_ACCESS_LOG_DROPS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_record_is_one_line_in_the_documented_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_absent_is_null_and_a_failure_says_where_and_why,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_longest_texts_fit_into_a_line_and_cannot_break_it,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_status_of_a_call_is_a_number_and_null_for_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(members_of_tls_are_null_without_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(the_members_are_those_that_were_chosen_in_their_order,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(each_member_is_called_as_it_is_chosen, setup, teardown),
        cmocka_unit_test_setup_teardown(the_most_specific_rate_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_is_sampled_alike_everywhere_and_the_rate_is_told,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_must_not_be_read_is_replaced_by_a_mark, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(secret_parameters_are_found_however_they_are_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(recorded_fields_show_no_credentials, setup, teardown),
        cmocka_unit_test_setup_teardown(urls_in_fields_show_no_password, setup, teardown),
        cmocka_unit_test_setup_teardown(the_combined_format_is_apaches, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_ring_drops_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_that_is_off_writes_and_drops_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(its_cost_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
