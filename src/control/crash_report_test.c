/* What a report makes of a flight recorder that a worker has left in the middle of its work. */
#include "control/crash_report.h"

#include <signal.h>

#include "control/control_fixture.h"

struct fixture {
    struct fixture_generation compiled;
    void *memory;
    struct flight_recorder recorder;
    struct crash_reports reports;
    char line[CRASH_LINE_MAX];
};

static struct fixture *begin(void)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_compile(&fixture->compiled, "");
    const struct generation *generation = &fixture->compiled.generation;
    fixture->memory = fixture_region(flight_size(PROCESS_WORKER, generation));
    assert_true(flight_recorder_init(&fixture->recorder, fixture->memory, PROCESS_WORKER,
                                     generation, 1000));
    return fixture;
}

static void end(struct fixture *fixture)
{
    flight_recorder_deinit(&fixture->recorder);
    fixture_free(&fixture->compiled);
    free(fixture->memory);
    free(fixture);
}

/* An exchange that began at this time, with its request. */
static uint32_t start(struct fixture *fixture, uint64_t began, const char *path)
{
    const struct flight_request request = {.began = began,
                                           .id = SPAN("id"),
                                           .method = SPAN("GET"),
                                           .host = SPAN("a"),
                                           .path = span_of_string(path)};
    uint32_t slot = flight_begin(&fixture->recorder, &request);
    assert_true(slot != FLIGHT_NONE);
    flight_step(&fixture->recorder, slot, 0, 0, began);
    return slot;
}

static const struct crash_report *die(struct fixture *fixture, int wait_status)
{
    const struct generation *generation = &fixture->compiled.generation;
    const struct recent_clock clock = {5000000, 5000000};
    struct recent_process process = {.identity = {.role = PROCESS_WORKER, .incarnation = 1},
                                     .pid = 77};
    flight_view_init(&process.view, fixture->memory, PROCESS_WORKER, generation);
    return crash_reports_add(&fixture->reports, &process, wait_status, &clock);
}

static const char *line(struct fixture *fixture, const struct crash_report *report, uint32_t index)
{
    bool there = crash_report_line(report, &fixture->compiled.generation, index, fixture->line);
    return there ? fixture->line : NULL;
}

static void the_exchange_that_was_running_stands_first_and_is_named(void **state)
{
    (void)state;
    struct fixture *fixture = begin();
    (void)start(fixture, 1000, "/oldest");
    uint32_t culprit = start(fixture, 3000, "/culprit");
    (void)start(fixture, 2000, "/older");
    flight_doing(&fixture->recorder, FLIGHT_EXCHANGE, culprit);
    const struct crash_report *report = die(fixture, SIGSEGV);
    assert_non_null(strstr(line(fixture, report, 0), "ended by SIGSEGV"));
    assert_non_null(strstr(fixture->line, "exchanges in flight: 3"));
    assert_non_null(strstr(line(fixture, report, 1), "running GET a/culprit"));
    assert_non_null(strstr(line(fixture, report, 2), "in flight GET a/oldest"));
    assert_non_null(strstr(line(fixture, report, 3), "in flight GET a/older"));
    assert_null(line(fixture, report, 4));
    end(fixture);
}

static void beyond_the_oldest_they_are_counted(void **state)
{
    (void)state;
    struct fixture *fixture = begin();
    for (unsigned i = 0; i < CRASH_EXCHANGES_MAX + 3; i++) {
        (void)start(fixture, CRASH_EXCHANGES_MAX + 3 - i, i == 0 ? "/newest" : "/old");
    }
    flight_doing(&fixture->recorder, FLIGHT_EXCHANGE, 0);
    const struct crash_report *report = die(fixture, SIGABRT);
    assert_non_null(strstr(line(fixture, report, 1), "running GET a/newest"));
    for (uint32_t i = 2; i <= CRASH_EXCHANGES_MAX; i++) {
        assert_non_null(strstr(line(fixture, report, i), "in flight GET a/old"));
    }
    assert_non_null(strstr(line(fixture, report, CRASH_EXCHANGES_MAX + 1), "and 3 more in flight"));
    assert_null(line(fixture, report, CRASH_EXCHANGES_MAX + 2));
    end(fixture);
}

static void what_finished_before_is_kept_failures_apart(void **state)
{
    (void)state;
    struct fixture *fixture = begin();
    const struct flight_outcome good = {
        .route = FLIGHT_NONE, .endpoint = FLIGHT_NONE, .status = 200};
    const struct flight_outcome bad = {
        .route = FLIGHT_NONE, .endpoint = FLIGHT_NONE, .status = 502};
    flight_end(&fixture->recorder, start(fixture, 1, "/bad"), &bad);
    for (unsigned i = 0; i < 2 * fixture->recorder.recent; i++) {
        flight_end(&fixture->recorder, start(fixture, 2 + i, "/good"), &good);
    }
    const struct crash_report *report = die(fixture, SIGKILL);
    assert_int_equal(report->finished.count, CRASH_FINISHED_MAX);
    assert_int_equal(report->failures.count, 1);
    const struct flight_entry *last = crash_report_finished(report, CRASH_FINISHED_MAX);
    assert_true(span_equal(flight_path(last), SPAN("/bad")));
    assert_int_equal(last->status, 502);
    assert_null(crash_report_finished(report, CRASH_FINISHED_MAX + 1));
    assert_null(line(fixture, report, 1));
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exchange_that_was_running_stands_first_and_is_named),
        cmocka_unit_test(beyond_the_oldest_they_are_counted),
        cmocka_unit_test(what_finished_before_is_kept_failures_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
