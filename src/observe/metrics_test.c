#include "observe/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "observe/health.h"
#include "observe/request_id.h"

struct fixture {
    struct generation_header header;
    struct generation generation;
    struct metrics metrics;
    void *memory;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->header.listeners.count = 2;
    fixture->header.routes.count = 3;
    fixture->header.upstreams.count = 2;
    fixture->header.endpoints.count = 5;
    fixture->generation = (struct generation){(const uint8_t *)&fixture->header, &fixture->header};
    fixture->memory = malloc(metrics_size(&fixture->generation));
    assert_non_null(fixture->memory);
    metrics_init(&fixture->metrics, fixture->memory, &fixture->generation);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    free(fixture->memory);
    free(fixture);
    return 0;
}

static uint64_t cell(const struct fixture *fixture, enum metric metric, uint32_t index)
{
    return metrics_cell_read(fixture->memory, fixture->metrics.layout.offsets[metric] + index);
}

static void each_metric_has_cells_of_its_own(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    const struct metrics_layout *layout = &fixture->metrics.layout;
    uint32_t next = 0;
    for (uint32_t i = 0; i < METRIC_COUNT; i++) {
        enum metric metric = (enum metric)i;
        bool histogram = metric_info(metric)->kind == METRIC_KIND_HISTOGRAM;
        assert_int_equal(layout->offsets[i], next);
        next += metrics_series(layout, metric) * (histogram ? METRICS_HISTOGRAM_CELLS : 1);
    }
    assert_int_equal(layout->cells, next);
    assert_int_equal(metrics_size(&fixture->generation), next * sizeof(uint64_t));
    assert_int_equal(metrics_series(layout, METRIC_REQUESTS), 4 * METRICS_STATUS_COUNT);
    assert_int_equal(metrics_series(layout, METRIC_CONNECTIONS), 4);
    assert_int_equal(metrics_series(layout, METRIC_ENDPOINT_EJECTIONS), 5);
}

static void a_call_counts_once_by_its_outcome(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    metrics_grpc_request(&fixture->metrics, 1, GRPC_UNAVAILABLE);
    metrics_grpc_request(&fixture->metrics, METRICS_NO_ROUTE, GRPC_STATUS_NONE);
    assert_int_equal(cell(fixture, METRIC_GRPC_REQUESTS, METRICS_GRPC_COUNT + 14), 1);
    assert_int_equal(cell(fixture, METRIC_GRPC_REQUESTS, 4 * METRICS_GRPC_COUNT - 1), 1);
}

static void a_request_counts_once_by_status_and_once_by_duration(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    metrics_request(&fixture->metrics, 1, 503, 700);
    metrics_request(&fixture->metrics, METRICS_NO_ROUTE, 404, 31000000);
    assert_int_equal(cell(fixture, METRIC_REQUESTS, METRICS_STATUS_COUNT + METRICS_STATUS_503), 1);
    assert_int_equal(cell(fixture, METRIC_REQUESTS, 3 * METRICS_STATUS_COUNT + METRICS_STATUS_404),
                     1);
    uint32_t row = METRICS_HISTOGRAM_CELLS;
    assert_int_equal(cell(fixture, METRIC_REQUEST_DURATION, row + 1), 1);
    assert_int_equal(cell(fixture, METRIC_REQUEST_DURATION, row + METRICS_BUCKETS + 1), 700);
    assert_int_equal(cell(fixture, METRIC_REQUEST_DURATION, 3 * row + METRICS_BUCKETS), 1);
}

static void unlisted_codes_share_one_label(void **state)
{
    (void)state;
    assert_string_equal(metrics_status_label(metrics_status_slot(200)), "200");
    assert_string_equal(metrics_status_label(metrics_status_slot(505)), "505");
    assert_string_equal(metrics_status_label(metrics_status_slot(0)), "none");
    const uint16_t others[] = {100, 199, 299, 418, 599, 600, 999, UINT16_MAX};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(metrics_status_slot(others[i]), METRICS_STATUS_OTHER);
    }
}

static void bucket_bounds_are_inclusive_and_reach_from_half_a_millisecond_to_30_s(void **state)
{
    (void)state;
    assert_int_equal(metrics_bucket(0), 0);
    assert_int_equal(metrics_bucket_bound_us(0), 500);
    assert_int_equal(metrics_bucket_bound_us(METRICS_BUCKETS - 1), 30000000);
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        assert_int_equal(metrics_bucket(metrics_bucket_bound_us(i)), i);
        assert_int_equal(metrics_bucket(metrics_bucket_bound_us(i) + 1), i + 1);
    }
    assert_int_equal(metrics_bucket(UINT64_MAX), METRICS_BUCKETS);
}

static void gauges_go_up_and_down(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    metrics_connection_enter(&fixture->metrics, 1, METRICS_STATE_IDLE);
    metrics_connection_enter(&fixture->metrics, 1, METRICS_STATE_IDLE);
    metrics_connection_leave(&fixture->metrics, 1, METRICS_STATE_IDLE);
    metrics_upstream_enter(&fixture->metrics, 0, METRICS_STATE_ACTIVE);
    metrics_upstream_leave(&fixture->metrics, 0, METRICS_STATE_ACTIVE);
    metrics_add(&fixture->metrics, METRIC_BUFFERS_IN_USE, 5);
    metrics_subtract(&fixture->metrics, METRIC_BUFFERS_IN_USE, 2);
    assert_int_equal(cell(fixture, METRIC_CONNECTIONS, 2 + METRICS_STATE_IDLE), 1);
    assert_int_equal(cell(fixture, METRIC_UPSTREAM_CONNECTIONS, METRICS_STATE_ACTIVE), 0);
    assert_int_equal(cell(fixture, METRIC_BUFFERS_IN_USE, 0), 3);
}

static void no_reason_is_no_failure(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    metrics_failure(&fixture->metrics, REASON_NONE);
    metrics_upstream_failure(&fixture->metrics, 1, REASON_NONE);
    metrics_failure(&fixture->metrics, REASON_NO_ROUTE);
    metrics_upstream_failure(&fixture->metrics, 1, REASON_CONNECT_FAILED);
    assert_int_equal(cell(fixture, METRIC_FAILURES, REASON_NONE), 0);
    assert_int_equal(cell(fixture, METRIC_FAILURES, REASON_NO_ROUTE), 1);
    assert_int_equal(cell(fixture, METRIC_UPSTREAM_FAILURES, REASON_COUNT + REASON_CONNECT_FAILED),
                     1);
}

static void folding_keeps_what_counts_and_forgets_what_was_in_flight(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    void *memory = malloc(metrics_size(&fixture->generation));
    assert_non_null(memory);
    struct metrics totals;
    metrics_init(&totals, memory, &fixture->generation);
    metrics_request(&fixture->metrics, 0, 200, 1000);
    metrics_count(&fixture->metrics, METRIC_REQUESTS_IN_FLIGHT);
    metrics_fold(&totals, fixture->memory);
    metrics_fold(&totals, fixture->memory);
    const uint32_t *offsets = totals.layout.offsets;
    assert_int_equal(metrics_cell_read(memory, offsets[METRIC_REQUESTS] + METRICS_STATUS_200), 2);
    assert_int_equal(metrics_cell_read(memory, offsets[METRIC_REQUEST_DURATION] + 1), 2);
    assert_int_equal(metrics_cell_read(memory, offsets[METRIC_REQUESTS_IN_FLIGHT]), 0);
    free(memory);
}

static void an_endpoint_is_up_unless_a_controller_says_down(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { WORDS = 5 };
    assert_int_equal(health_size(&fixture->generation), WORDS * sizeof(uint32_t));
    uint32_t *words = malloc(WORDS * sizeof(uint32_t));
    assert_non_null(words);
    struct health_board board;
    struct health_view view;
    health_board_init(&board, words, &fixture->generation);
    health_view_init(&view, words, &fixture->generation);
    assert_true(health_is_up(&view, 3));
    health_set(&board, 3, HEALTH_DOWN);
    assert_false(health_is_up(&view, 3));
    assert_true(health_is_up(&view, 2));
    assert_int_equal(health_get(&board, 3), HEALTH_DOWN);
    words[3] = 77;
    assert_true(health_is_up(&view, 3));
    health_set(&board, 3, HEALTH_DOWN);
    health_view_init(&view, NULL, &fixture->generation);
    assert_true(health_is_up(&view, 3));
    free(words);
}

static void a_foreign_request_id_is_kept_only_if_it_is_harmless(void **state)
{
    (void)state;
    assert_true(request_id_is_acceptable(SPAN("0123456789abcdef0123456789abcdef")));
    assert_true(request_id_is_acceptable(SPAN("a.B-c_9")));
    assert_false(request_id_is_acceptable(SPAN("")));
    assert_false(request_id_is_acceptable(SPAN("a b")));
    assert_false(request_id_is_acceptable(SPAN("a\"b")));
    assert_false(request_id_is_acceptable(SPAN("a\r\nb")));
    uint8_t longest[REQUEST_ID_SIZE_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    assert_true(request_id_is_acceptable(span_of(longest, REQUEST_ID_SIZE_MAX)));
    assert_false(request_id_is_acceptable(span_of(longest, sizeof(longest))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_metric_has_cells_of_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_counts_once_by_its_outcome, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_counts_once_by_status_and_once_by_duration, setup,
                                        teardown),
        cmocka_unit_test(unlisted_codes_share_one_label),
        cmocka_unit_test(bucket_bounds_are_inclusive_and_reach_from_half_a_millisecond_to_30_s),
        cmocka_unit_test_setup_teardown(gauges_go_up_and_down, setup, teardown),
        cmocka_unit_test_setup_teardown(no_reason_is_no_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(folding_keeps_what_counts_and_forgets_what_was_in_flight,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(an_endpoint_is_up_unless_a_controller_says_down, setup,
                                        teardown),
        cmocka_unit_test(a_foreign_request_id_is_kept_only_if_it_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
