#include "observe/access_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
    uint8_t *ring;
    uint8_t *cells;
    struct generation_header header;
    struct generation generation;
    struct metrics metrics;
    struct access_log log;
    struct ring_reader reader;
    _Atomic uint64_t cursor;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->generation = (struct generation){(const uint8_t *)&fixture->header, &fixture->header};
    fixture->ring = aligned_alloc(64, ring_size(RING_CAPACITY_DEFAULT));
    fixture->cells = aligned_alloc(64, (metrics_size(&fixture->generation) + 63) / 64 * 64);
    assert_non_null(fixture->ring);
    assert_non_null(fixture->cells);
    metrics_init(&fixture->metrics, fixture->cells, &fixture->generation);
    access_log_init(&fixture->log, fixture->ring, 1, &fixture->metrics);
    access_log_attach(&fixture->log, &fixture->cursor);
    ring_reader_init(&fixture->reader, fixture->ring, RING_CAPACITY_DEFAULT, &fixture->cursor);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
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
        .queue = ACCESS_NO_TIME,
        .connect = ACCESS_NO_TIME,
        .first_byte = ACCESS_NO_TIME,
        .total = 1,
    };
    access_log_write(&fixture->log, &record);
    expect_line(fixture,
                SPAN("{\"time\":\"1970-01-01T00:00:00.000Z\",\"request_id\":null,"
                     "\"client\":\"::1\",\"listener\":\"http\",\"route\":null,\"method\":null,"
                     "\"host\":null,\"path\":null,\"protocol\":null,\"status\":null,"
                     "\"reason\":\"client_closed\",\"bytes_in\":0,\"bytes_out\":0,"
                     "\"upstream\":null,\"endpoint\":null,\"attempts\":0,\"queue_ms\":null,"
                     "\"connect_ms\":null,\"first_byte_ms\":null,\"total_ms\":0.001,"
                     "\"place\":\"a \\\"b\\\".kdl:7\",\"hint\":\"The client gave up before the "
                     "response was complete.\"}\n"));
}

static void the_longest_texts_fit_into_a_line_and_cannot_break_it(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static uint8_t junk[20000];
    for (size_t i = 0; i < sizeof(junk); i++) {
        junk[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
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
            .status = UINT16_MAX,
            .reason = (enum reason)reason,
            .attempts = UINT32_MAX,
            .bytes_in = UINT64_MAX,
            .bytes_out = UINT64_MAX,
            .queue = UINT64_MAX - 1,
            .connect = UINT64_MAX - 1,
            .first_byte = UINT64_MAX - 1,
            .total = UINT64_MAX - 1,
        };
        access_log_write(&fixture->log, &record);
        struct span line = SPAN_EMPTY;
        assert_int_equal(ring_read(&fixture->reader, &line), OK);
        ring_release(&fixture->reader);
        assert_true(line.size <= ACCESS_LINE_MAX);
        assert_int_equal(span_find(line, '\n'), line.size - 1);
    }
}

static void a_full_ring_drops_and_counts(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_record record = good_record();
    const uint32_t cell = fixture->metrics.layout.offsets[METRIC_ACCESS_LOG_DROPS];
    unsigned written = 0;
    while (metrics_cell_read(fixture->cells, cell) == 0) {
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
    assert_int_equal(metrics_cell_read(fixture->cells, cell), 1);
}

static void a_log_that_is_off_writes_and_drops_nothing(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct access_log log;
    access_log_init(&log, NULL, 1, &fixture->metrics);
    access_log_attach(&log, &fixture->cursor);
    struct access_record record = good_record();
    access_log_write(&log, &record);
    assert_int_equal(
        metrics_cell_read(fixture->cells, fixture->metrics.layout.offsets[METRIC_ACCESS_LOG_DROPS]),
        0);
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
    assert_int_equal(
        metrics_cell_read(fixture->cells, fixture->metrics.layout.offsets[METRIC_ACCESS_LOG_DROPS]),
        0);
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
        cmocka_unit_test_setup_teardown(a_full_ring_drops_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_that_is_off_writes_and_drops_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(its_cost_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
