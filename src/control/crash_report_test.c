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

/* A controller that has made so many reports, each of one exchange. */
static void make_reports(struct fixture *fixture, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        (void)start(fixture, 1000 + i, "/a");
        (void)die(fixture, SIGKILL);
    }
}

static uint32_t kept_of(const struct crash_reports *reports)
{
    uint32_t count = 0;
    while (crash_reports_get(reports, count) != NULL) {
        count++;
    }
    return count;
}

static void a_successor_goes_on_with_the_reports_and_their_numbers(void **state)
{
    (void)state;
    struct fixture *fixture = begin();
    struct crash_reports *heir = calloc(1, sizeof(*heir));
    assert_non_null(heir);
    make_reports(fixture, CRASH_REPORTS_MAX + 2);
    crash_reports_inherit(heir, &fixture->reports, &fixture->compiled.generation);
    assert_int_equal(kept_of(heir), CRASH_REPORTS_MAX);
    for (uint32_t i = 0; i < CRASH_REPORTS_MAX; i++) {
        const struct crash_report *report = crash_reports_get(heir, i);
        assert_int_equal(report->number, i + 3);
        assert_int_equal(report->told, i + 3 < CRASH_EXCHANGES_MAX ? i + 3 : CRASH_EXCHANGES_MAX);
        assert_true(span_equal(flight_path(&report->exchanges[0]), SPAN("/a")));
    }
    memcpy(&fixture->reports, heir, sizeof(*heir));
    assert_int_equal(die(fixture, SIGKILL)->number, CRASH_REPORTS_MAX + 3);
    assert_int_equal(crash_reports_get(&fixture->reports, 0)->number, 4);
    free(heir);
    end(fixture);
}

/* One that had made two, of which something is wrong in the first: how many are taken over. */
static uint32_t inherited(struct fixture *fixture, void (*spoil)(struct crash_reports *))
{
    struct crash_reports *heir = calloc(1, sizeof(*heir));
    struct crash_reports *former = malloc(sizeof(*former));
    assert_non_null(heir);
    assert_non_null(former);
    memcpy(former, &fixture->reports, sizeof(*former));
    spoil(former);
    crash_reports_inherit(heir, former, &fixture->compiled.generation);
    uint32_t kept = kept_of(heir);
    assert_true(kept == 0 || crash_reports_get(heir, kept - 1)->number == 2);
    free(former);
    free(heir);
    return kept;
}

static void spoil_nothing(struct crash_reports *reports)
{
    (void)reports;
}

static void spoil_number(struct crash_reports *reports) /* killed over it */
{
    reports->items[0].number = 0;
}

static void spoil_role(struct crash_reports *reports)
{
    reports->items[0].identity.role = (enum process_role)PROCESS_ROLE_COUNT;
}

static void spoil_phase(struct crash_reports *reports)
{
    reports->items[0].activity.phase = FLIGHT_PHASE_COUNT;
}

static void spoil_fault(struct crash_reports *reports)
{
    reports->items[0].activity.fault = FLIGHT_FAULT_COUNT;
}

static void spoil_told(struct crash_reports *reports)
{
    reports->items[0].told = CRASH_EXCHANGES_MAX + 1;
}

static void spoil_finished(struct crash_reports *reports)
{
    reports->items[0].finished.count = CRASH_FINISHED_MAX + 1;
}

static void spoil_boolean(struct crash_reports *reports)
{
    memset(&reports->items[0].exchanges[0].torn, 2, 1);
}

static void spoil_route(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].route = 1000;
}

static void spoil_endpoint(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].endpoint = 1000;
}

static void spoil_reason(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].reason = REASON_COUNT;
}

static void spoil_detail(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].detail = TLS_DETAIL_COUNT;
}

static void spoil_family(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].client.family = ADDRESS_UNIX + 1;
}

static void spoil_sizes(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].id_size = 255;
    reports->items[0].exchanges[0].path_size = 255;
    reports->items[0].exchanges[0].host_size = 255;
    memset(reports->items[0].exchanges[0].text, 'a', FLIGHT_TEXT_MAX);
}

static void spoil_text(struct crash_reports *reports)
{
    reports->items[0].exchanges[0].text[0] = 0x1b;
}

static void spoil_count(struct crash_reports *reports)
{
    reports->count = UINT64_MAX;
    reports->before = 3;
}

static void what_a_controller_was_killed_over_or_cannot_have_written_is_not_taken_over(void **state)
{
    (void)state;
    static void (*const SPOILED[])(struct crash_reports *) = {
        spoil_number,   spoil_role,    spoil_phase, spoil_fault,    spoil_told,
        spoil_finished, spoil_boolean, spoil_route, spoil_endpoint, spoil_reason,
        spoil_detail,   spoil_family,  spoil_sizes, spoil_text};
    struct fixture *fixture = begin();
    make_reports(fixture, 2);
    assert_int_equal(inherited(fixture, spoil_nothing), 2);
    for (size_t i = 0; i < sizeof(SPOILED) / sizeof(SPOILED[0]); i++) {
        assert_int_equal(inherited(fixture, SPOILED[i]), 1);
    }
    assert_int_equal(inherited(fixture, spoil_count), 0);
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exchange_that_was_running_stands_first_and_is_named),
        cmocka_unit_test(beyond_the_oldest_they_are_counted),
        cmocka_unit_test(what_finished_before_is_kept_failures_apart),
        cmocka_unit_test(a_successor_goes_on_with_the_reports_and_their_numbers),
        cmocka_unit_test(
            what_a_controller_was_killed_over_or_cannot_have_written_is_not_taken_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
