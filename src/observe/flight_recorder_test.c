#include "observe/flight_recorder.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/death_test.h"

enum { RECENT = 8, FAILURES = 3, SLOTS = 2 + 1 + 1 + FLIGHT_RESERVE };

/* The few figures that the recorder takes from a generation. */
struct fixture {
    struct generation_header header;
    struct generation generation;
    struct flight_recorder recorder;
    struct flight_view view;
    void *memory;
    size_t size;
};

static void begin(struct fixture *fixture, uint32_t recent)
{
    *fixture = (struct fixture){.header = {.server = {.workers = 1, .flight_recorder = recent}}};
    fixture->header.server.limits.requests = 2;
    fixture->header.routes.count = 4;
    fixture->header.listeners.count = 2;
    fixture->header.endpoints.count = 3;
    fixture->generation.header = &fixture->header;
    fixture->size = flight_size(PROCESS_WORKER, &fixture->generation);
    fixture->memory = mmap(NULL, fixture->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                           -1, 0); /* as a segment: another process can look */
    assert_true(fixture->memory != MAP_FAILED);
    assert_true(flight_recorder_init(&fixture->recorder, fixture->memory, PROCESS_WORKER,
                                     &fixture->generation, 1000));
    flight_view_init(&fixture->view, fixture->memory, PROCESS_WORKER, &fixture->generation);
}

static void end(struct fixture *fixture)
{
    flight_recorder_deinit(&fixture->recorder);
    assert_int_equal(munmap(fixture->memory, fixture->size), 0);
}

/* A request all of whose parts tell the same number. */
struct numbered {
    char id[40];
    char host[40];
    char path[80];
    struct flight_request request;
};

static void number_request(struct numbered *numbered, unsigned number)
{
    (void)snprintf(numbered->id, sizeof(numbered->id), "%032u", number);
    (void)snprintf(numbered->host, sizeof(numbered->host), "h%u.test", number);
    (void)snprintf(numbered->path, sizeof(numbered->path), "/%0*u", (int)(number % 60) + 1, number);
    numbered->request = (struct flight_request){
        .began = number,
        .client = {.family = ADDRESS_IPV4, .port = (uint16_t)number, .ip = {127, 0, 0, 1}},
        .listener = 1,
        .id = span_of_string(numbered->id),
        .method = SPAN("GET"),
        .host = span_of_string(numbered->host),
        .path = span_of_string(numbered->path),
        .has_query = number % 2 == 1,
    };
}

static void expect_number(const struct flight_entry *entry, unsigned number)
{
    struct numbered expected = {.request = {0}};
    number_request(&expected, number);
    assert_int_equal(entry->began, number);
    assert_true(span_equal(flight_id(entry), expected.request.id));
    assert_true(span_equal(flight_method(entry), expected.request.method));
    assert_true(span_equal(flight_host(entry), expected.request.host));
    assert_true(span_equal(flight_path(entry), expected.request.path));
    assert_true(address_equal(&entry->client, &expected.request.client));
    assert_int_equal(entry->has_query, expected.request.has_query);
    assert_int_equal(entry->listener, 1);
}

static uint32_t start(struct flight_recorder *recorder, unsigned number)
{
    struct numbered numbered = {.request = {0}};
    number_request(&numbered, number);
    struct flight_request bare = {
        .began = number, .client = numbered.request.client, .listener = 1};
    uint32_t slot = flight_begin(recorder, &bare);
    assert_true(slot != FLIGHT_NONE);
    flight_step(recorder, slot, 0, 0, number);
    flight_describe(recorder, slot, &numbered.request);
    return slot;
}

static const struct flight_outcome GOOD = {
    .route = 2, .endpoint = 1, .attempts = 1, .status = 200, .total = 77, .first_byte = 7};
static const struct flight_outcome BAD = {.route = FLIGHT_NONE,
                                          .endpoint = FLIGHT_NONE,
                                          .status = 404,
                                          .reason = REASON_NO_ROUTE,
                                          .detail = TLS_DETAIL_COUNT - 1,
                                          .first_byte = FLIGHT_NO_TIME};

static void an_exchange_in_flight_is_told_with_its_step_and_attempt(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_entry entry;
    begin(&fixture, RECENT);
    assert_int_equal(flight_count(&fixture.view, FLIGHT_IN_FLIGHT), 0);
    uint32_t slot = start(&fixture.recorder, 5);
    flight_step(&fixture.recorder, slot, 3, 6, 123456789);
    flight_route(&fixture.recorder, slot, 2);
    flight_attempt(&fixture.recorder, slot, 1, 2);
    assert_int_equal(flight_count(&fixture.view, FLIGHT_IN_FLIGHT), 1);
    assert_true(flight_read(&fixture.view, FLIGHT_IN_FLIGHT, 0, &entry));
    assert_false(entry.torn);
    expect_number(&entry, 5);
    assert_int_equal(entry.step, 3);
    assert_int_equal(entry.attempt_step, 6);
    assert_int_equal(entry.since, 123456789);
    assert_int_equal(entry.route, 2);
    assert_int_equal(entry.endpoint, 1);
    assert_int_equal(entry.attempts, 2);
    flight_end(&fixture.recorder, slot, &GOOD);
    assert_false(flight_read(&fixture.view, FLIGHT_IN_FLIGHT, 0, &entry));
    flight_recorder_check_idle(&fixture.recorder);
    end(&fixture);
}

static void finished_exchanges_are_kept_until_others_take_their_place(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_entry entry;
    begin(&fixture, RECENT);
    for (unsigned i = 1; i <= 2 * RECENT + 3; i++) {
        flight_end(&fixture.recorder, start(&fixture.recorder, i), &GOOD);
    }
    assert_int_equal(flight_count(&fixture.view, FLIGHT_FINISHED), RECENT);
    for (uint32_t i = 0; i < RECENT; i++) {
        assert_true(flight_read(&fixture.view, FLIGHT_FINISHED, i, &entry));
        assert_true(entry.number > RECENT + 3 && entry.number <= 2 * RECENT + 3);
        expect_number(&entry, (unsigned)entry.number);
        assert_int_equal(entry.status, 200);
        assert_int_equal(entry.detail, TLS_DETAIL_NONE);
        assert_int_equal(entry.total, 77);
        assert_int_equal(entry.first_byte, 7);
        assert_int_equal(entry.route, 2);
        assert_int_equal(entry.endpoint, 1);
    }
    end(&fixture);
}

static void failures_outlive_the_successes_after_them_and_are_told_once(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_entry entry;
    begin(&fixture, RECENT);
    flight_end(&fixture.recorder, start(&fixture.recorder, 1), &BAD);
    assert_int_equal(flight_count(&fixture.view, FLIGHT_FAILED), FAILURES);
    assert_true(flight_read(&fixture.view, FLIGHT_FINISHED, 0, &entry));
    assert_false(flight_read(&fixture.view, FLIGHT_FAILED, 0, &entry));
    for (unsigned i = 2; i <= 3 * RECENT; i++) {
        flight_end(&fixture.recorder, start(&fixture.recorder, i), &GOOD);
    }
    assert_true(flight_read(&fixture.view, FLIGHT_FAILED, 0, &entry));
    expect_number(&entry, 1);
    assert_int_equal(entry.reason, REASON_NO_ROUTE);
    assert_int_equal(entry.detail, TLS_DETAIL_COUNT - 1);
    assert_int_equal(entry.status, 404);
    assert_int_equal(entry.route, FLIGHT_NONE);
    assert_int_equal(entry.endpoint, FLIGHT_NONE);
    assert_true(entry.first_byte == FLIGHT_NO_TIME);
    end(&fixture);
}

static void long_and_strange_texts_come_out_cut_and_printable(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_entry entry;
    static char path[8192];
    begin(&fixture, RECENT);
    memset(path, 'p', sizeof(path));
    struct flight_request request = {
        .id = SPAN("id"),
        .method = SPAN("A\x1b[2J"),
        .host = SPAN("h\r\n\x7f\xff\0h"),
        .path = span_of(path, sizeof(path)),
    };
    uint32_t slot = flight_begin(&fixture.recorder, &request);
    flight_step(&fixture.recorder, slot, 0, 0, 1);
    assert_true(flight_read(&fixture.view, FLIGHT_IN_FLIGHT, slot, &entry));
    assert_true(span_equal(flight_method(&entry), SPAN("A?[2J")));
    assert_true(span_equal(flight_host(&entry), SPAN("h?????h")));
    assert_false(entry.host_cut);
    assert_int_equal(entry.path_size, FLIGHT_PATH_MAX);
    assert_true(entry.path_cut);
    end(&fixture);
}

static void more_exchanges_than_cells_are_counted(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_activity activity;
    uint32_t slots[SLOTS];
    begin(&fixture, RECENT);
    for (unsigned i = 0; i < SLOTS; i++) {
        slots[i] = start(&fixture.recorder, i + 1);
    }
    struct flight_request request = {.began = 1};
    assert_int_equal(flight_begin(&fixture.recorder, &request), FLIGHT_NONE);
    flight_describe(&fixture.recorder, FLIGHT_NONE, &request);
    flight_step(&fixture.recorder, FLIGHT_NONE, 1, 1, 1);
    flight_attempt(&fixture.recorder, FLIGHT_NONE, 1, 1);
    flight_read_activity(&fixture.view, &activity);
    assert_int_equal(activity.untold, 1);
    flight_end(&fixture.recorder, FLIGHT_NONE, &GOOD);
    flight_read_activity(&fixture.view, &activity);
    assert_int_equal(activity.untold, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        flight_end(&fixture.recorder, slots[i], &GOOD);
    }
    flight_recorder_check_idle(&fixture.recorder);
    end(&fixture);
}

static void switched_off_it_tells_the_phase_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_activity activity;
    struct flight_request request = {.began = 1};
    begin(&fixture, 0);
    assert_int_equal(fixture.size, sizeof(struct flight_header));
    uint32_t slot = flight_begin(&fixture.recorder, &request);
    assert_int_equal(slot, FLIGHT_NONE);
    flight_end(&fixture.recorder, slot, &GOOD);
    flight_doing(&fixture.recorder, FLIGHT_EXCHANGE, 3);
    flight_turn(&fixture.recorder, 2000);
    flight_read_activity(&fixture.view, &activity);
    assert_int_equal(activity.phase, FLIGHT_EXCHANGE);
    assert_int_equal(activity.detail, 3);
    assert_int_equal(activity.started, 1000);
    assert_int_equal(activity.turned, 2000);
    assert_int_equal(activity.signal, 0);
    assert_string_equal(flight_phase_label(activity.phase), "exchange");
    for (int list = 0; list < FLIGHT_LIST_COUNT; list++) {
        assert_int_equal(flight_count(&fixture.view, (enum flight_list)list), 0);
    }
    end(&fixture);
}

static void no_memory_is_nothing_to_see(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_entry entry;
    struct flight_activity activity;
    begin(&fixture, RECENT);
    flight_view_init(&fixture.view, NULL, PROCESS_WORKER, &fixture.generation);
    assert_int_equal(flight_count(&fixture.view, FLIGHT_IN_FLIGHT), 0);
    assert_false(flight_read(&fixture.view, FLIGHT_FINISHED, 0, &entry));
    flight_read_activity(&fixture.view, &activity);
    assert_int_equal(activity.started, 0);
    end(&fixture);
}

static void a_hostile_owner_cannot_lead_its_readers_astray(void **state)
{
    (void)state;
    struct fixture fixture;
    struct flight_entry entry;
    struct flight_activity activity;
    begin(&fixture, RECENT);
    memset(fixture.memory, 0xff, fixture.size);
    assert_int_equal(flight_count(&fixture.view, FLIGHT_IN_FLIGHT), SLOTS);
    flight_read_activity(&fixture.view, &activity);
    assert_true(activity.phase < FLIGHT_PHASE_COUNT);
    assert_true(activity.fault < FLIGHT_FAULT_COUNT);
    for (int list = 0; list < FLIGHT_LIST_COUNT; list++) {
        for (uint32_t i = 0; i < flight_count(&fixture.view, (enum flight_list)list); i++) {
            if (!flight_read(&fixture.view, (enum flight_list)list, i, &entry)) {
                continue;
            }
            assert_true(entry.route == FLIGHT_NONE || entry.route < 4);
            assert_true(entry.endpoint == FLIGHT_NONE || entry.endpoint < 3);
            assert_true(entry.reason < REASON_COUNT && entry.status < 1000);
            assert_true(entry.detail < TLS_DETAIL_COUNT);
            assert_true((size_t)(entry.id_size + entry.method_size + entry.host_size +
                                 entry.path_size) <= FLIGHT_TEXT_MAX);
        }
    }
    assert_false(flight_read(&fixture.view, FLIGHT_FINISHED, UINT32_MAX, &entry));
    end(&fixture);
}

/* Whatever is read as whole must be one request; returns how many were found torn. */
static unsigned look(const struct flight_view *view)
{
    struct flight_entry entry;
    unsigned torn = 0;
    for (int list = 0; list < FLIGHT_LIST_COUNT; list++) {
        for (uint32_t i = 0; i < flight_count(view, (enum flight_list)list); i++) {
            if (!flight_read(view, (enum flight_list)list, i, &entry)) {
                continue;
            }
            if (entry.torn) {
                assert_int_equal(list, FLIGHT_IN_FLIGHT);
                torn++;
            } else if (entry.id_size > 0) {
                expect_number(&entry, (unsigned)entry.began);
            } else {
                assert_int_equal(list, FLIGHT_IN_FLIGHT); /* begun, and not yet described */
            }
        }
    }
    return torn;
}

static void live(struct flight_recorder *recorder, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        uint32_t slot = start(recorder, i);
        flight_step(recorder, slot, 4, 1, i);
        flight_end(recorder, slot, i % 3 == 0 ? &BAD : &GOOD);
    }
}

/*
 * The writer is stopped after each of its instructions, where a kill could have ended it for good:
 * its readers never take a torn record for a whole one.
 */
static void a_writer_killed_at_any_instruction_leaves_no_torn_record(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 2); /* a ring so short that places are taken anew */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        live(&fixture.recorder, 1, 3);
        (void)raise(SIGSTOP);
        live(&fixture.recorder, 4, 3);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSTOPPED(status));
    unsigned steps = 0;
    unsigned torn = 0;
    while (WIFSTOPPED(status)) {
        torn += look(&fixture.view);
        steps++;
        assert_true(steps < 2000000);
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(steps > 500 && torn > 0); /* it was met in the middle of its writes */
    struct flight_entry entry;
    assert_true(flight_read(&fixture.view, FLIGHT_FINISHED, 0, &entry) && entry.began >= 5);
    end(&fixture);
}

struct race {
    struct fixture fixture;
    _Atomic bool ended;
};

static void *write_all(void *context)
{
    struct race *race = context;
    live(&race->fixture.recorder, 1, 20000);
    atomic_store(&race->ended, true);
    return NULL;
}

static void a_reader_beside_a_busy_writer_sees_whole_records_only(void **state)
{
    (void)state;
    struct race race = {.ended = false};
    pthread_t writer;
    begin(&race.fixture, 2);
    assert_int_equal(pthread_create(&writer, NULL, write_all, &race), 0);
    while (!atomic_load(&race.ended)) {
        (void)look(&race.fixture.view);
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_int_equal(look(&race.fixture.view), 0);
    end(&race.fixture);
}

static void end_a_slot_that_is_none(void *context)
{
    struct fixture *fixture = context;
    flight_end(&fixture->recorder, SLOTS, &GOOD);
}

static void a_slot_that_is_none_is_a_defect(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, RECENT);
    assert_true(aborts(end_a_slot_that_is_none, &fixture));
    end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exchange_in_flight_is_told_with_its_step_and_attempt),
        cmocka_unit_test(finished_exchanges_are_kept_until_others_take_their_place),
        cmocka_unit_test(failures_outlive_the_successes_after_them_and_are_told_once),
        cmocka_unit_test(long_and_strange_texts_come_out_cut_and_printable),
        cmocka_unit_test(more_exchanges_than_cells_are_counted),
        cmocka_unit_test(switched_off_it_tells_the_phase_alone),
        cmocka_unit_test(no_memory_is_nothing_to_see),
        cmocka_unit_test(a_hostile_owner_cannot_lead_its_readers_astray),
        cmocka_unit_test(a_writer_killed_at_any_instruction_leaves_no_torn_record),
        cmocka_unit_test(a_reader_beside_a_busy_writer_sees_whole_records_only),
        cmocka_unit_test(a_slot_that_is_none_is_a_defect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
