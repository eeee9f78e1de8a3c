#include "control/metrics_text.h"

#include <stdio.h>

#include "control/certificate_fixture_test.h"

static const char CONFIG[] = "server {\n  workers 3\n}\n"
                             "listener \"http\" {\n  address \"127.0.0.1:8080\"\n}\n"
                             "upstream \"backend\" {\n  target \"127.0.0.1:8081\"\n"
                             "  target \"127.0.0.1:8082\"\n}\n"
                             "route \"api\" {\n  match path-prefix=\"/api\"\n"
                             "  upstream \"backend\"\n}\n"
                             "route \"quoted\" {\n  match path-prefix=\"/q\"\n"
                             "  upstream \"backend\"\n}\n";

enum { WORKERS = 3, TEXT_MAX = 512 * 1024, SERIES_MAX = 2000 };

struct fixture {
    struct fixture_generation compiled;
    struct metrics workers[WORKERS];
    void *cells[WORKERS];
    const void *shown[WORKERS];
    void *words;
    void *totals_cells;
    struct metrics totals;
    struct health_board board;
    struct metrics_source source;
    uint8_t *text;
    size_t text_size;
    struct span series[SERIES_MAX]; /* name and labels of each sample */
    size_t series_count;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_compile(&fixture->compiled, CONFIG);
    const struct generation *generation = &fixture->compiled.generation;
    for (unsigned i = 0; i < WORKERS; i++) {
        fixture->cells[i] = fixture_region(metrics_size(generation));
        metrics_init(&fixture->workers[i], fixture->cells[i], generation);
        fixture->shown[i] = fixture->cells[i];
    }
    fixture->words = fixture_region(health_size(generation));
    health_board_init(&fixture->board, fixture->words, generation);
    fixture->totals_cells = fixture_region(metrics_size(generation));
    metrics_init(&fixture->totals, fixture->totals_cells, generation);
    fixture->source = (struct metrics_source){
        .generation = generation,
        .workers = fixture->shown,
        .worker_count = WORKERS,
        .totals = &fixture->totals,
        .health = &fixture->board,
        .started = UINT64_C(1769860800250000),
        .now = UINT64_C(1769860861750000),
        .config_hash = UINT64_C(0x0123456789abcdef),
    };
    fixture->text = malloc(TEXT_MAX);
    assert_non_null(fixture->text);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    for (unsigned i = 0; i < WORKERS; i++) {
        free(fixture->cells[i]);
    }
    free(fixture->words);
    free(fixture->totals_cells);
    free(fixture->text);
    fixture_free(&fixture->compiled);
    free(fixture);
    return 0;
}

/* A small reader of the exposition format, strict about what Prometheus is strict about. */
struct family {
    struct span name;
    struct span type;
};

static bool is_name_byte(uint8_t byte)
{
    uint8_t lower = ascii_lower(byte);
    return (lower >= 'a' && lower <= 'z') || ascii_is_digit(byte) || byte == '_';
}

static size_t label_end(struct span line, size_t at)
{
    size_t begin = at;
    while (is_name_byte(line.data[at])) {
        at++;
    }
    assert_true(at > begin);
    assert_memory_equal(line.data + at, "=\"", 2);
    at += 2;
    while (line.data[at] != '"') {
        if (line.data[at] == '\\') {
            at++;
            assert_true(line.data[at] == '\\' || line.data[at] == '"' || line.data[at] == 'n');
        }
        at++;
        assert_true(at < line.size);
    }
    return at + 1;
}

static void check_value(struct span value)
{
    char copy[64];
    assert_true(value.size > 0 && value.size < sizeof(copy));
    memcpy(copy, value.data, value.size);
    copy[value.size] = '\0';
    char *end = NULL;
    (void)strtod(copy, &end);
    assert_ptr_equal(end, copy + value.size);
}

static void check_sample(struct fixture *fixture, const struct family *family, struct span line)
{
    size_t at = 0;
    while (at < line.size && is_name_byte(line.data[at])) {
        at++;
    }
    struct span name = span_first(line, at);
    assert_true(span_starts_with(name, family->name));
    struct span suffix = span_from(name, family->name.size);
    bool histogram = span_equal(family->type, SPAN("histogram"));
    assert_true(histogram
                    ? span_equal(suffix, SPAN("_bucket")) || span_equal(suffix, SPAN("_sum")) ||
                          span_equal(suffix, SPAN("_count"))
                    : suffix.size == 0);
    if (line.data[at] == '{') {
        do {
            at = label_end(line, at + 1);
        } while (line.data[at] == ',');
        assert_int_equal(line.data[at], '}');
        at++;
    }
    assert_int_equal(line.data[at], ' ');
    struct span series = span_first(line, at);
    for (size_t i = 0; i < fixture->series_count; i++) {
        assert_false(span_equal(fixture->series[i], series));
    }
    assert_true(fixture->series_count < SERIES_MAX);
    fixture->series[fixture->series_count++] = series;
    check_value(span_from(line, at + 1));
}

static struct span second_word(struct span line, size_t from, struct span *rest)
{
    struct span tail = span_from(line, from);
    size_t size = span_find(tail, ' ');
    *rest = span_from(tail, size + 1);
    return span_first(tail, size);
}

/* Scrapes in pieces as small as allowed, and reads all of it. */
static void scrape(struct fixture *fixture)
{
    struct metrics_text text = {0};
    fixture->text_size = 0;
    fixture->series_count = 0;
    while (!text.ended) {
        struct output output =
            output_over(fixture->text + fixture->text_size, METRICS_TEXT_PIECE_MAX);
        metrics_text_write(&text, &fixture->source, &output);
        assert_true(text.ended || output.size > 0);
        fixture->text_size += output.size;
        assert_true(fixture->text_size + METRICS_TEXT_PIECE_MAX <= TEXT_MAX);
    }
    struct span rest = span_of(fixture->text, fixture->text_size);
    struct family family = {0};
    while (rest.size > 0) {
        size_t size = span_find(rest, '\n');
        assert_true(size < rest.size);
        struct span line = span_first(rest, size);
        rest = span_from(rest, size + 1);
        struct span tail = SPAN_EMPTY;
        if (span_starts_with(line, SPAN("# HELP "))) {
            family.name = second_word(line, 7, &tail);
            assert_true(tail.size > 0);
        } else if (span_starts_with(line, SPAN("# TYPE "))) {
            assert_true(span_equal(second_word(line, 7, &family.type), family.name));
        } else {
            check_sample(fixture, &family, line);
        }
    }
}

/* The value behind exactly this series, or -1. */
static double value_of(const struct fixture *fixture, const char *series)
{
    struct span wanted = span_of_string(series);
    for (size_t i = 0; i < fixture->series_count; i++) {
        if (span_equal(fixture->series[i], wanted)) {
            return strtod((const char *)fixture->series[i].data + wanted.size, NULL);
        }
    }
    return -1;
}

#define EXPECT_VALUE(fixture, series, value)                                                       \
    assert_float_equal(value_of((fixture), (series)), (value), 1e-9)

static void what_the_workers_count_is_summed(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    for (unsigned i = 0; i < WORKERS; i++) {
        metrics_request(&fixture->workers[i], 0, 200, 1500);
        metrics_connection_enter(&fixture->workers[i], 0, METRICS_STATE_ACTIVE);
        metrics_count(&fixture->workers[i], METRIC_WORKERS);
    }
    metrics_request(&fixture->workers[1], METRICS_NO_ROUTE, 418, 40000000);
    metrics_request(&fixture->workers[1], 0, 0, 0);
    metrics_upstream_failure(&fixture->workers[2], 0, REASON_CONNECT_FAILED);
    metrics_failure(&fixture->workers[2], REASON_NO_ROUTE);
    metrics_grpc_request(&fixture->workers[0], 0, GRPC_UNAVAILABLE);
    metrics_grpc_request(&fixture->workers[2], METRICS_NO_ROUTE, GRPC_STATUS_NONE);
    metrics_count_at(&fixture->workers[0], METRIC_ENDPOINT_EJECTIONS, 1);
    scrape(fixture);
    EXPECT_VALUE(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"}", 3);
    EXPECT_VALUE(fixture, "sentinel_requests_total{route=\"api\",status=\"none\"}", 1);
    EXPECT_VALUE(fixture, "sentinel_requests_total{route=\"none\",status=\"other\"}", 1);
    EXPECT_VALUE(fixture, "sentinel_grpc_requests_total{route=\"api\",grpc_status=\"14\"}", 1);
    EXPECT_VALUE(fixture, "sentinel_grpc_requests_total{route=\"none\",grpc_status=\"none\"}", 1);
    EXPECT_VALUE(fixture, "sentinel_connections{listener=\"http\",state=\"active\"}", 3);
    EXPECT_VALUE(fixture, "sentinel_connections{listener=\"http\",state=\"idle\"}", 0);
    EXPECT_VALUE(fixture, "sentinel_workers", 3);
    EXPECT_VALUE(fixture,
                 "sentinel_upstream_failures_total{upstream=\"backend\",reason=\"connect_failed\"}",
                 1);
    EXPECT_VALUE(fixture, "sentinel_failures_total{reason=\"no_route\"}", 1);
    EXPECT_VALUE(
        fixture,
        "sentinel_endpoint_ejections_total{upstream=\"backend\",endpoint=\"127.0.0.1:8082\"}", 1);
    EXPECT_VALUE(fixture, "process_start_time_seconds", 1769860800.25);
    EXPECT_VALUE(fixture, "sentinel_uptime_seconds", 61.5);
    EXPECT_VALUE(fixture, "sentinel_config_info{hash=\"0123456789abcdef\"}", 1);
}

static void parts_of_a_shared_bound_add_up_and_of_others_the_fullest_counts(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    for (unsigned i = 0; i < WORKERS; i++) {
        metrics_set_at(&fixture->workers[i], METRIC_LIMIT_UTILIZATION, LIMIT_CONNECTIONS, 200000);
        metrics_set_at(&fixture->workers[i], METRIC_LIMIT_UTILIZATION, LIMIT_BUFFERS,
                       UINT64_C(100000) * i);
        metrics_count_at(&fixture->workers[i], METRIC_SHED, SHED_SLOW_READER);
    }
    scrape(fixture);
    EXPECT_VALUE(fixture, "sentinel_limit_utilization_ratio{limit=\"max-connections\"}", 0.6);
    EXPECT_VALUE(fixture, "sentinel_limit_utilization_ratio{limit=\"buffer-pool\"}", 0.2);
    EXPECT_VALUE(fixture, "sentinel_limit_utilization_ratio{limit=\"rate-table\"}", 0);
    EXPECT_VALUE(fixture, "sentinel_shed_total{kind=\"slow_reader\"}", 3);
    EXPECT_VALUE(fixture, "sentinel_shed_total{kind=\"slow_head\"}", 0);
}

static void what_never_occurred_is_left_out_where_labels_are_many(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    scrape(fixture);
    assert_true(value_of(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"}") < 0);
    EXPECT_VALUE(fixture, "sentinel_retries_total{upstream=\"backend\"}", 0);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_count{route=\"api\"}", 0);
}

static void a_histogram_is_cumulative_and_in_seconds(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    metrics_request(&fixture->workers[0], 0, 200, 400);
    metrics_request(&fixture->workers[1], 0, 200, 2000);
    metrics_request(&fixture->workers[2], 0, 200, 60000000);
    scrape(fixture);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_bucket{route=\"api\",le=\"0.0005\"}",
                 1);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_bucket{route=\"api\",le=\"0.001\"}",
                 1);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_bucket{route=\"api\",le=\"0.0025\"}",
                 2);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_bucket{route=\"api\",le=\"30\"}", 2);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_bucket{route=\"api\",le=\"+Inf\"}", 3);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_count{route=\"api\"}", 3);
    EXPECT_VALUE(fixture, "sentinel_request_duration_seconds_sum{route=\"api\"}", 60.0024);
}

static void totals_outlive_their_worker_and_gauges_do_not(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    metrics_request(&fixture->workers[0], 0, 200, 1000);
    metrics_connection_enter(&fixture->workers[0], 0, METRICS_STATE_IDLE);
    metrics_request(&fixture->workers[1], 0, 200, 1000);
    metrics_fold(&fixture->totals, fixture->cells[0]);
    fixture->shown[0] = NULL;
    scrape(fixture);
    EXPECT_VALUE(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"}", 2);
    EXPECT_VALUE(fixture, "sentinel_connections{listener=\"http\",state=\"idle\"}", 0);
}

static void names_cannot_break_a_label(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    /* The compiler refuses such names; the text does not rely on it. */
    const struct generation *generation = &fixture->compiled.generation;
    uint8_t *block = fixture->compiled.memory;
    size_t base = (size_t)(generation->base - block);
    for (uint32_t i = 0; i < generation->header->routes.count; i++) {
        struct ref name = generation_route(generation, i)->name;
        if (span_equal(generation_text(generation, name), SPAN("quoted"))) {
            memcpy(block + base + name.offset, "\"a\\\n}{", 6);
            metrics_request(&fixture->workers[0], i, 200, 1);
        }
    }
    scrape(fixture);
    EXPECT_VALUE(fixture, "sentinel_requests_total{route=\"\\\"a\\\\\\n}{\",status=\"200\"}", 1);
}

static void an_endpoint_is_shown_down_only_where_checks_say_so(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    health_set(&fixture->board, 1, HEALTH_DOWN);
    scrape(fixture);
    EXPECT_VALUE(fixture, "sentinel_endpoint_up{upstream=\"backend\",endpoint=\"127.0.0.1:8081\"}",
                 1);
    EXPECT_VALUE(fixture, "sentinel_endpoint_up{upstream=\"backend\",endpoint=\"127.0.0.1:8082\"}",
                 0);
}

static void the_expiry_of_each_certificate_is_shown_once(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const struct certificate_row rows[] = {
        {"a.test", "/etc/a.pem", 1, UINT64_C(1800000000)},
        {"a.test", "/etc/a-rsa.pem", 1, UINT64_C(1800000001)},
        {"a.test", "/etc/a.pem", 1, UINT64_C(1800000000)}, /* with another OCSP response */
        {"we\"ird", "/etc/b\\.pem", 1, UINT64_C(1800000002)},
    };
    void *memory = NULL;
    struct generation generation =
        fixture_add_certificates(fixture->source.generation, rows, 4, &memory);
    fixture->source.generation = &generation;
    scrape(fixture);
#define EXPIRY(certificate, file)                                                                  \
    "sentinel_certificate_expiry_timestamp_seconds{certificate=\"" certificate "\",file=\"" file   \
    "\"}"
    EXPECT_VALUE(fixture, EXPIRY("a.test", "/etc/a.pem"), 1800000000);
    EXPECT_VALUE(fixture, EXPIRY("a.test", "/etc/a-rsa.pem"), 1800000001);
    EXPECT_VALUE(fixture, EXPIRY("we\\\"ird", "/etc/b\\\\.pem"), 1800000002);
    free(memory);
}

static void what_processes_take_is_shown_for_those_that_are_there(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct process_row *rows = fixture_region(process_table_size(&fixture->compiled.generation));
    assert_int_equal(process_table_rows(&fixture->compiled.generation), 3 + WORKERS);
    const struct process_sample sample = {1500000, 4096000, 17};
    process_row_begin(&rows[PROCESS_ROW_SUPERVISOR], UINT64_C(1769860801000000));
    process_row_begin(&rows[PROCESS_ROW_WORKERS + 1], UINT64_C(1769860802500000));
    process_row_set(&rows[PROCESS_ROW_WORKERS + 1], &sample);
    process_row_begin(&rows[PROCESS_ROW_LOGGER], 1);
    process_row_end(&rows[PROCESS_ROW_LOGGER]);
    process_row_begin(&rows[PROCESS_ROW_LOGGER], 1);
    process_row_end(&rows[PROCESS_ROW_LOGGER]);
    fixture->source.processes = rows;
    scrape(fixture);
#define OF(name, process, index) name "{process=\"" process "\",index=\"" index "\"}"
    EXPECT_VALUE(fixture, OF("sentinel_process_cpu_seconds_total", "worker", "1"), 1.5);
    EXPECT_VALUE(fixture, OF("sentinel_process_resident_memory_bytes", "worker", "1"), 4096000);
    EXPECT_VALUE(fixture, OF("sentinel_process_open_fds", "worker", "1"), 17);
    EXPECT_VALUE(fixture, OF("sentinel_process_start_time_seconds", "worker", "1"), 1769860802.5);
    EXPECT_VALUE(fixture, OF("sentinel_process_restarts_total", "worker", "1"), 0);
    EXPECT_VALUE(fixture, OF("sentinel_process_restarts_total", "logger", "0"), 1);
    assert_true(value_of(fixture, OF("sentinel_process_open_fds", "logger", "0")) < 0);
    assert_true(value_of(fixture, OF("sentinel_process_open_fds", "worker", "0")) < 0);
    assert_true(value_of(fixture, OF("sentinel_process_open_fds", "supervisor", "0")) < 0);
#undef OF
    EXPECT_VALUE(fixture, "process_start_time_seconds", 1769860801);
    EXPECT_VALUE(fixture, "sentinel_uptime_seconds", 60.75);
    free(rows);
}

static void checks_are_counted_by_result_and_timed(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
#define OF(name, more) name "{upstream=\"backend\",endpoint=\"127.0.0.1:8082\"" more "}"
    scrape(fixture);
    assert_true(value_of(fixture, OF("sentinel_health_check_duration_seconds_count", "")) < 0);
    metrics_count_at(&fixture->totals, METRIC_HEALTH_CHECKS,
                     METRICS_RESULT_COUNT + METRICS_RESULT_SUCCESS);
    metrics_observe(&fixture->totals, METRIC_HEALTH_CHECK_DURATION, 1, 1500);
    scrape(fixture);
    EXPECT_VALUE(fixture, OF("sentinel_health_checks_total", ",result=\"success\""), 1);
    assert_true(value_of(fixture, OF("sentinel_health_checks_total", ",result=\"failure\"")) < 0);
    EXPECT_VALUE(fixture, OF("sentinel_health_check_duration_seconds_count", ""), 1);
    EXPECT_VALUE(fixture, OF("sentinel_health_check_duration_seconds_sum", ""), 0.0015);
#undef OF
}

/* A configuration with many parts, each name as long as can be. */
static char *large_config(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    (void)fputs("listener \"l\" { address \"127.0.0.1:1\"; }\n", stream);
    for (int i = 0; i < 60; i++) {
        (void)fprintf(stream,
                      "upstream \"%060d\" { target \"127.0.0.1:%d\"\n target \"127.0.0.2:%d\"; }\n",
                      i, 1000 + i, 1000 + i);
    }
    for (int i = 0; i < 300; i++) {
        (void)fprintf(stream, "route \"%064d\" { match path=\"/%d\"; upstream \"%060d\"; }\n", i, i,
                      i % 60);
    }
    (void)fclose(stream);
    return text;
}

static void the_size_of_the_text_has_a_bound(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct fixture_generation large;
    char *text = large_config();
    fixture_compile(&large, text);
    free(text);
    const struct generation *generation = &large.generation;
    struct metrics all;
    void *cells = fixture_region(metrics_size(generation));
    void *words = fixture_region(health_size(generation));
    struct process_row *rows = fixture_region(process_table_size(generation));
    struct health_board board;
    metrics_init(&all, cells, generation);
    health_board_init(&board, words, generation);
    for (uint32_t i = 0; i < all.layout.cells; i++) {
        metrics_cell_add(all.cells + i, UINT64_C(1) << 58); /* all there is, in many digits */
    }
    const struct process_sample sample = {UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX - 1};
    for (uint32_t i = 0; i < process_table_rows(generation); i++) {
        process_row_begin(&rows[i], UINT64_MAX - 1);
        process_row_set(&rows[i], &sample);
    }
    struct metrics_source source = fixture->source;
    source.generation = generation;
    source.worker_count = 0;
    source.totals = &all;
    source.health = &board;
    source.processes = rows;
    uint8_t *piece = malloc(METRICS_TEXT_PIECE_MAX);
    assert_non_null(piece);
    uint64_t size = 0;
    struct metrics_text progress = {0};
    while (!progress.ended) {
        struct output output = output_over(piece, METRICS_TEXT_PIECE_MAX);
        metrics_text_write(&progress, &source, &output);
        assert_true(output.size > 0);
        size += output.size;
    }
    assert_true(size > 300 * METRICS_STATUS_COUNT * 100);
    assert_true(size <= metrics_text_bound(generation));
    free(piece);
    free(rows);
    free(words);
    free(cells);
    fixture_free(&large);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_workers_count_is_summed),
        TEST(parts_of_a_shared_bound_add_up_and_of_others_the_fullest_counts),
        TEST(what_never_occurred_is_left_out_where_labels_are_many),
        TEST(a_histogram_is_cumulative_and_in_seconds),
        TEST(totals_outlive_their_worker_and_gauges_do_not),
        TEST(names_cannot_break_a_label),
        TEST(an_endpoint_is_shown_down_only_where_checks_say_so),
        TEST(the_expiry_of_each_certificate_is_shown_once),
        TEST(what_processes_take_is_shown_for_those_that_are_there),
        TEST(checks_are_counted_by_result_and_timed),
        TEST(the_size_of_the_text_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
