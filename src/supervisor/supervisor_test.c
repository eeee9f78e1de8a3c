#include "supervisor/supervisor.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A machine with its clock, what it said last, and which processes its actions have made. */
struct fixture {
    struct supervisor supervisor;
    struct supervisor_actions actions;
    uint64_t now;
    uint64_t timer_at;
    bool alive[SUPERVISOR_SLOTS_MAX];
    bool killed[SUPERVISOR_SLOTS_MAX];  /* SIGKILL or SIGABRT is on its way */
    bool leaving[SUPERVISOR_SLOTS_MAX]; /* was told to drain or quit */
    uint32_t spawns[SUPERVISOR_SLOTS_MAX];
    bool listening;
    uint32_t rotations; /* of the ticket key */
    bool exited;
    int exit_code;
};

enum { EXIT_CODE_1 = 1 << 8, FIRST = SUPERVISOR_SLOT_WORKERS };

#define SECOND SUPERVISOR_SECOND

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->now = SECOND;
    fixture->timer_at = UINT64_MAX;
    supervisor_init(&fixture->supervisor, 1);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

/* The invariants that the shell relies on, checked at each action. */
static void apply(struct fixture *fixture, const struct supervisor_action *action)
{
    assert_false(fixture->exited); /* nothing follows an exit */
    switch (action->kind) {
    case SUPERVISOR_SPAWN:
        assert_false(fixture->alive[action->slot]); /* never two children in a slot */
        fixture->alive[action->slot] = true;
        fixture->killed[action->slot] = false;
        fixture->leaving[action->slot] = false;
        fixture->spawns[action->slot]++;
        return;
    case SUPERVISOR_TELL:
        assert_true(fixture->alive[action->slot]);
        fixture->leaving[action->slot] = true;
        return;
    case SUPERVISOR_KILL:
        assert_true(fixture->alive[action->slot]);
        fixture->killed[action->slot] = true;
        return;
    case SUPERVISOR_OPEN_LISTENERS:
        assert_false(fixture->listening);
        fixture->listening = true;
        return;
    case SUPERVISOR_CLOSE_LISTENERS:
        assert_true(fixture->listening);
        fixture->listening = false;
        return;
    case SUPERVISOR_REOPEN_LOGS:
        return;
    case SUPERVISOR_ROTATE_TICKETS:
        assert_false(fixture->alive[FIRST] && fixture->rotations == 0); /* workers are handed it */
        fixture->rotations++;
        return;
    case SUPERVISOR_SET_TIMER:
        fixture->timer_at = action->at;
        return;
    case SUPERVISOR_LOG:
        assert_true(strlen(action->text) > 0);
        return;
    case SUPERVISOR_EXIT:
        fixture->exited = true;
        fixture->exit_code = action->code;
        return;
    }
    fail();
}

static void send(struct fixture *fixture, struct supervisor_event event)
{
    event.now = fixture->now;
    if (event.kind == SUPERVISOR_CHILD_EXITED || event.kind == SUPERVISOR_SPAWN_FAILED) {
        fixture->alive[event.slot] = false;
    }
    supervisor_handle(&fixture->supervisor, &event, &fixture->actions);
    for (size_t i = 0; i < fixture->actions.count; i++) {
        apply(fixture, &fixture->actions.items[i]);
    }
}

static void child(struct fixture *fixture, enum supervisor_event_kind kind, uint32_t slot,
                  int wait_status)
{
    send(fixture,
         (struct supervisor_event){.kind = kind, .slot = slot, .wait_status = wait_status});
}

static void signalled(struct fixture *fixture, int signal)
{
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_SIGNALLED, .signal = signal});
}

/* Lets time pass up to `until`, firing the timer whenever it is due. */
static void pass(struct fixture *fixture, uint64_t until)
{
    uint32_t fired = 0;
    while (!fixture->exited && fixture->timer_at <= until) {
        if (fixture->timer_at > fixture->now) {
            fixture->now = fixture->timer_at;
        }
        assert_true(fired++ < 10000); /* a due timer is dealt with, not set again for the past */
        send(fixture, (struct supervisor_event){.kind = SUPERVISOR_TIMER});
    }
    if (until > fixture->now) {
        fixture->now = until;
    }
}

static bool did(const struct fixture *fixture, enum supervisor_action_kind kind, uint32_t slot)
{
    for (size_t i = 0; i < fixture->actions.count; i++) {
        if (fixture->actions.items[i].kind == kind && fixture->actions.items[i].slot == slot) {
            return true;
        }
    }
    return false;
}

static bool told(const struct fixture *fixture, uint32_t slot, enum supervisor_order order)
{
    for (size_t i = 0; i < fixture->actions.count; i++) {
        const struct supervisor_action *action = &fixture->actions.items[i];
        if (action->kind == SUPERVISOR_TELL && action->slot == slot && action->order == order) {
            return true;
        }
    }
    return false;
}

static bool said(const struct fixture *fixture, const char *part)
{
    for (size_t i = 0; i < fixture->actions.count; i++) {
        const struct supervisor_action *action = &fixture->actions.items[i];
        if (action->kind == SUPERVISOR_LOG && strstr(action->text, part) != NULL) {
            return true;
        }
    }
    return false;
}

static void compile(struct fixture *fixture, uint32_t workers)
{
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_COMPILER, 0);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_COMPILED,
                                            .workers = workers,
                                            .shutdown_timeout = 30 * SECOND});
}

static void begin(struct fixture *fixture, uint32_t workers)
{
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
    for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i < FIRST + workers; i++) {
        child(fixture, SUPERVISOR_CHILD_READY, i, 0);
    }
    assert_int_equal(fixture->supervisor.phase, SUPERVISOR_RUNNING);
}

static void start(struct fixture *fixture, uint32_t workers)
{
    compile(fixture, workers);
    begin(fixture, workers);
}

static void a_start_compiles_then_listens_then_spawns_everyone(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    assert_true(did(fixture, SUPERVISOR_SPAWN, SUPERVISOR_SLOT_COMPILER));
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_COMPILER, 0);
    assert_false(fixture->exited);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_COMPILED, .workers = 2});
    assert_true(fixture->listening);
    assert_false(fixture->alive[FIRST]); /* bound before the first worker */
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
    for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i < FIRST + 2; i++) {
        assert_true(fixture->alive[i]);
    }
    assert_false(fixture->alive[FIRST + 2]);
    child(fixture, SUPERVISOR_CHILD_READY, FIRST, 0);
    assert_false(said(fixture, "ready"));
    child(fixture, SUPERVISOR_CHILD_READY, FIRST + 1, 0);
    child(fixture, SUPERVISOR_CHILD_READY, SUPERVISOR_SLOT_CONTROLLER, 0);
    assert_false(said(fixture, "ready"));
    child(fixture, SUPERVISOR_CHILD_READY, SUPERVISOR_SLOT_LOGGER, 0);
    assert_true(said(fixture, "ready: 2 workers"));
}

static void a_refused_configuration_exits_with_1(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_COMPILER, EXIT_CODE_1);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 1);
    assert_int_equal(fixture->spawns[FIRST], 0);
}

static void a_compiler_that_crashes_is_a_veto_with_a_message(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_COMPILER, SIGSEGV);
    assert_true(said(fixture, "the compiler was ended by SIGSEGV"));
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 1);
}

static void a_compiler_that_lasts_10_seconds_is_killed(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    pass(fixture, fixture->now + 10 * SECOND - 1);
    assert_false(fixture->exited);
    pass(fixture, fixture->now + 1);
    assert_true(fixture->killed[SUPERVISOR_SLOT_COMPILER]);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 1);
}

static void a_compiler_that_cannot_be_spawned_ends_the_start(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    child(fixture, SUPERVISOR_SPAWN_FAILED, SUPERVISOR_SLOT_COMPILER, 0);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 1);
}

static void a_listener_that_cannot_be_bound_exits_with_1(void **state)
{
    struct fixture *fixture = *state;
    compile(fixture, 2);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_REFUSED});
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 1);
    assert_int_equal(fixture->spawns[FIRST], 0);
}

static void a_signal_while_compiling_exits_at_once(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    signalled(fixture, SIGINT);
    assert_true(fixture->killed[SUPERVISOR_SLOT_COMPILER]);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 0);
}

static void a_worker_that_refuses_to_start_ends_the_start_with_1(void **state)
{
    struct fixture *fixture = *state;
    compile(fixture, 2);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
    child(fixture, SUPERVISOR_CHILD_READY, FIRST, 0);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST + 1, EXIT_CODE_1);
    assert_true(said(fixture, "worker 1 could not start"));
    assert_true(told(fixture, FIRST, SUPERVISOR_ORDER_DRAIN));
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, 0);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_CONTROLLER, 0);
    assert_false(fixture->exited);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER, 0);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 1);
}

static void a_worker_that_crashes_while_starting_gets_another_chance(void **state)
{
    struct fixture *fixture = *state;
    compile(fixture, 1);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    assert_true(did(fixture, SUPERVISOR_SPAWN, FIRST));
    for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i <= FIRST; i++) {
        child(fixture, SUPERVISOR_CHILD_READY, i, 0);
    }
    assert_int_equal(fixture->supervisor.phase, SUPERVISOR_RUNNING);
}

static void a_logger_or_controller_that_cannot_start_ends_the_start_with_1(void **state)
{
    static const int ends[] = {EXIT_CODE_1, 127 << 8, -1}; /* -1: it cannot even be made */
    for (unsigned i = 0; i < 6; i++) {
        uint32_t slot = SUPERVISOR_SLOT_LOGGER + i % 2;
        struct fixture *fixture = *state;
        *fixture = (struct fixture){.now = SECOND, .timer_at = UINT64_MAX};
        supervisor_init(&fixture->supervisor, 1);
        compile(fixture, 1);
        send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
        child(fixture, SUPERVISOR_CHILD_READY, FIRST, 0); /* quicker than the refusal */
        child(fixture, i < 4 ? SUPERVISOR_CHILD_EXITED : SUPERVISOR_SPAWN_FAILED, slot,
              ends[i / 2]);
        assert_true(said(fixture, "could not start; giving up"));
        assert_true(told(fixture, FIRST, SUPERVISOR_ORDER_DRAIN));
        assert_false(fixture->listening);
        child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, 0);
        child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER + (i + 1) % 2, 0);
        assert_true(fixture->exited);
        assert_int_equal(fixture->exit_code, 1);
        assert_int_equal(fixture->spawns[slot], 1);
    }
}

static void a_log_that_cannot_be_opened_later_ends_nothing(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER, SIGKILL);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER, EXIT_CODE_1);
    assert_int_equal(fixture->supervisor.phase, SUPERVISOR_RUNNING);
    pass(fixture, fixture->now + SECOND);
    assert_true(fixture->alive[SUPERVISOR_SLOT_LOGGER]);
}

static void a_replaced_process_that_refuses_during_the_start_is_tried_again(void **state)
{
    struct fixture *fixture = *state;
    compile(fixture, 1);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
    child(fixture, SUPERVISOR_CHILD_READY, FIRST, 0);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGKILL); /* a logger that hangs may keep us */
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, EXIT_CODE_1);
    assert_int_equal(fixture->supervisor.phase, SUPERVISOR_STARTING);
    pass(fixture, fixture->now + SECOND);
    assert_true(fixture->alive[FIRST]);
}

static void the_first_restart_is_immediate_for_every_role(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 2);
    for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i < FIRST + 2; i++) {
        child(fixture, SUPERVISOR_CHILD_EXITED, i, SIGKILL);
        assert_true(did(fixture, SUPERVISOR_SPAWN, i));
        assert_int_equal(fixture->spawns[i], 2);
    }
    assert_true(said(fixture, "worker 1 was ended by SIGKILL"));
}

static void restarts_back_off_to_two_seconds_with_jitter(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    uint64_t expected = SUPERVISOR_BACKOFF_FIRST;
    bool varied = false;
    for (int i = 0; i < 12; i++) {
        child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
        assert_false(fixture->alive[FIRST]);
        uint64_t delay = fixture->timer_at - fixture->now;
        assert_in_range(delay, expected / 2, expected);
        varied |= delay != expected && delay != expected / 2;
        pass(fixture, fixture->timer_at);
        assert_true(fixture->alive[FIRST]);
        expected = expected * 2 < SUPERVISOR_BACKOFF_MAX ? expected * 2 : SUPERVISOR_BACKOFF_MAX;
    }
    assert_true(varied);
}

static void ten_seconds_alive_reset_the_backoff(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    for (int i = 0; i < 5; i++) {
        child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
        pass(fixture, fixture->now + 3 * SECOND);
    }
    pass(fixture, fixture->now + 10 * SECOND);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    assert_true(did(fixture, SUPERVISOR_SPAWN, FIRST));
}

static void a_process_that_cannot_be_made_is_tried_again_later(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    child(fixture, SUPERVISOR_SPAWN_FAILED, FIRST, 0);
    assert_false(fixture->alive[FIRST]);
    assert_true(said(fixture, "worker 0 could not be started"));
    pass(fixture, fixture->now + SUPERVISOR_BACKOFF_MAX);
    assert_true(fixture->alive[FIRST]);
}

static void tellings(struct fixture *fixture, uint32_t slot, uint64_t turns, int count)
{
    for (int i = 0; i < count; i++) {
        fixture->now += SECOND;
        send(fixture, (struct supervisor_event){
                          .kind = SUPERVISOR_CHILD_TURNS, .slot = slot, .turns = turns});
    }
}

static void a_worker_without_a_turn_for_5_seconds_is_aborted_then_killed(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    tellings(fixture, FIRST, 7, 1);
    tellings(fixture, FIRST, 7, 4);
    assert_false(fixture->killed[FIRST]);
    tellings(fixture, FIRST, 7, 1);
    assert_true(fixture->killed[FIRST]);
    assert_true(said(fixture, "worker 0 has not turned for 5000 ms"));
    assert_int_equal(fixture->actions.items[1].signal, SIGABRT);
    tellings(fixture, FIRST, 7, 1);
    pass(fixture, fixture->now + SECOND);
    assert_true(did(fixture, SUPERVISOR_KILL, FIRST));
    assert_int_equal(fixture->actions.items[0].signal, SIGKILL);
    tellings(fixture, FIRST, 7, 1);
    assert_int_equal(fixture->actions.count, 0); /* once is enough, however long it takes to die */
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGKILL);
    assert_true(did(fixture, SUPERVISOR_SPAWN, FIRST));
}

static void a_worker_that_turns_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    for (uint64_t i = 1; i < 30; i++) {
        tellings(fixture, FIRST, i / 4, 1);
        assert_false(fixture->killed[FIRST]);
    }
}

static void a_machine_that_was_paused_accuses_nobody(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    tellings(fixture, FIRST, 7, 2);
    fixture->now += 3600 * SECOND;
    tellings(fixture, FIRST, 7, 1);
    assert_false(fixture->killed[FIRST]);
}

static void a_logger_on_a_slow_disk_is_given_half_a_minute(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    tellings(fixture, SUPERVISOR_SLOT_LOGGER, 7, 30);
    assert_false(fixture->killed[SUPERVISOR_SLOT_LOGGER]);
    tellings(fixture, SUPERVISOR_SLOT_LOGGER, 7, 1);
    assert_true(fixture->killed[SUPERVISOR_SLOT_LOGGER]);
    tellings(fixture, SUPERVISOR_SLOT_CONTROLLER, 7, 100);
    assert_true(fixture->killed[SUPERVISOR_SLOT_CONTROLLER]);
}

static void a_stop_drains_workers_then_the_controller_then_the_logger(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 2);
    signalled(fixture, SIGTERM);
    assert_false(fixture->listening);
    assert_true(told(fixture, FIRST, SUPERVISOR_ORDER_DRAIN));
    assert_true(told(fixture, FIRST + 1, SUPERVISOR_ORDER_DRAIN));
    assert_true(told(fixture, SUPERVISOR_SLOT_CONTROLLER, SUPERVISOR_ORDER_DRAIN));
    assert_false(fixture->leaving[SUPERVISOR_SLOT_LOGGER]);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, 0);
    assert_false(fixture->alive[FIRST]);
    assert_int_equal(fixture->supervisor.phase, SUPERVISOR_DRAINING);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST + 1,
          SIGSEGV); /* a crash on the way: no restart */
    assert_false(fixture->alive[FIRST + 1]);
    assert_true(told(fixture, SUPERVISOR_SLOT_CONTROLLER, SUPERVISOR_ORDER_QUIT));
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_CONTROLLER, 0);
    assert_true(told(fixture, SUPERVISOR_SLOT_LOGGER, SUPERVISOR_ORDER_QUIT));
    assert_false(fixture->exited);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER, 0);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 0);
}

static void a_drain_ends_at_its_timeout(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 2);
    signalled(fixture, SIGTERM);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, 0);
    pass(fixture, fixture->now + 30 * SECOND);
    assert_false(fixture->killed[FIRST + 1]);
    pass(fixture, fixture->now + SUPERVISOR_DRAIN_GRACE);
    assert_true(fixture->killed[FIRST + 1]);
    assert_false(fixture->exited);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST + 1, SIGKILL);
    assert_true(fixture->leaving[SUPERVISOR_SLOT_CONTROLLER]);
}

static void a_stop_ends_even_when_nobody_can_be_killed(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 2);
    signalled(fixture, SIGTERM);
    uint64_t begin = fixture->now;
    pass(fixture, begin + 3600 * SECOND);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 0);
}

static void a_logger_that_dies_during_the_drain_is_replaced(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    signalled(fixture, SIGTERM);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER, SIGSEGV);
    assert_true(fixture->alive[SUPERVISOR_SLOT_LOGGER]);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, 0);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_CONTROLLER, 0);
    assert_true(told(fixture, SUPERVISOR_SLOT_LOGGER, SUPERVISOR_ORDER_QUIT));
}

static void a_controller_made_during_the_drain_knows_of_it(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    signalled(fixture, SIGTERM);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_CONTROLLER, SIGSEGV);
    assert_true(did(fixture, SUPERVISOR_SPAWN, SUPERVISOR_SLOT_CONTROLLER));
    assert_true(told(fixture, SUPERVISOR_SLOT_CONTROLLER, SUPERVISOR_ORDER_DRAIN));
}

static void a_stop_forgets_planned_restarts(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    assert_int_equal(fixture->supervisor.slots[FIRST].state, SUPERVISOR_SLOT_WAITING);
    signalled(fixture, SIGTERM);
    assert_true(told(fixture, SUPERVISOR_SLOT_CONTROLLER, SUPERVISOR_ORDER_QUIT));
    pass(fixture, fixture->now + SECOND);
    assert_false(fixture->alive[FIRST]);
}

static void a_second_signal_stops_at_once(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 2);
    signalled(fixture, SIGTERM);
    signalled(fixture, SIGINT);
    assert_true(fixture->killed[FIRST] && fixture->killed[FIRST + 1]);
    assert_true(fixture->killed[SUPERVISOR_SLOT_CONTROLLER]);
    assert_true(told(fixture, SUPERVISOR_SLOT_LOGGER, SUPERVISOR_ORDER_QUIT));
    pass(fixture, fixture->now + SUPERVISOR_FLUSH_AT_ONCE);
    assert_true(fixture->killed[SUPERVISOR_SLOT_LOGGER]);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_LOGGER, SIGKILL);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 0);
}

static void a_third_signal_does_not_even_wait_for_the_logger(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    for (int i = 0; i < 3; i++) {
        assert_false(fixture->exited);
        signalled(fixture, SIGTERM);
    }
    assert_true(fixture->killed[SUPERVISOR_SLOT_LOGGER]);
    assert_true(fixture->exited);
    assert_int_equal(fixture->exit_code, 0);
}

static void hup_changes_nothing_and_usr1_reopens_the_logs(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    signalled(fixture, SIGHUP);
    assert_true(said(fixture, "reload is not in this build"));
    assert_int_equal(fixture->actions.count, 1);
    signalled(fixture, SIGUSR1);
    assert_int_equal(fixture->actions.count, 1);
    assert_int_equal(fixture->actions.items[0].kind, SUPERVISOR_REOPEN_LOGS);
}

static void ticket_keys_are_replaced_every_12_hours_until_the_end(void **state)
{
    struct fixture *fixture = *state;
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_COMPILER, 0);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_COMPILED,
                                            .workers = 1,
                                            .tickets = true,
                                            .shutdown_timeout = 30 * SECOND});
    assert_int_equal(fixture->rotations, 0);
    begin(fixture, 1);
    assert_int_equal(fixture->rotations, 1);
    pass(fixture, fixture->now + 12 * 3600 * SECOND - 1);
    assert_int_equal(fixture->rotations, 1);
    pass(fixture, fixture->now + 1);
    assert_int_equal(fixture->rotations, 2);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
    assert_int_equal(fixture->rotations, 2); /* the next worker gets the same keys */
    pass(fixture, fixture->now + 24 * 3600 * SECOND);
    assert_int_equal(fixture->rotations, 4);
    fixture->now += 240 * 3600 * SECOND; /* the machine was asleep */
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_TIMER});
    assert_int_equal(fixture->rotations, 5);
    signalled(fixture, SIGTERM);
    pass(fixture, fixture->now + 20 * SECOND);
    assert_int_equal(fixture->rotations, 5);
}

static void without_tickets_no_key_is_ever_drawn(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    pass(fixture, fixture->now + 240 * 3600 * SECOND);
    assert_int_equal(fixture->rotations, 0);
    assert_true(fixture->timer_at == UINT64_MAX);
}

static void late_news_of_the_dead_is_dropped(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    child(fixture, SUPERVISOR_CHILD_READY, FIRST + 7, 0);
    child(fixture, SUPERVISOR_CHILD_EXITED, FIRST + 7, 0);
    child(fixture, SUPERVISOR_CHILD_EXITED, SUPERVISOR_SLOT_COMPILER, 0);
    send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
    assert_int_equal(fixture->actions.count, 0);
}

/* One random step of a world in which anything that can go wrong does. */
static void random_step(struct fixture *fixture, struct prng *prng, uint32_t workers)
{
    uint32_t slot = SUPERVISOR_SLOT_LOGGER + prng_below(prng, workers + 2);
    static const int ends[] = {0, EXIT_CODE_1, SIGSEGV, SIGABRT, SIGKILL};
    switch (prng_below(prng, 8)) {
    case 0:
    case 1:
        pass(fixture, fixture->now + prng_below(prng, 3000000));
        return;
    case 2:
        child(fixture, SUPERVISOR_CHILD_READY, slot, 0);
        return;
    case 3:
    case 4:
        if (fixture->alive[slot]) {
            child(fixture, SUPERVISOR_CHILD_EXITED, slot, ends[prng_below(prng, 5)]);
        }
        return;
    case 5:
        if (fixture->alive[slot] && prng_below(prng, 4) == 0) {
            child(fixture, SUPERVISOR_SPAWN_FAILED, slot, 0);
        }
        return;
    case 6:
        tellings(fixture, slot, prng_below(prng, 2), 1 + (int)prng_below(prng, 6));
        return;
    default:
        signalled(fixture, prng_below(prng, 2) == 0 ? SIGHUP : SIGUSR1);
        return;
    }
}

/* After TERM: children obey late, die by what was sent to them, or do neither. */
static void random_end(struct fixture *fixture, struct prng *prng, uint32_t workers)
{
    signalled(fixture, SIGTERM);
    uint64_t limit = fixture->now + 60 * SECOND;
    while (!fixture->exited) {
        assert_true(fixture->now <= limit);
        pass(fixture, fixture->now + prng_below(prng, 4000000));
        for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i < FIRST + workers && !fixture->exited; i++) {
            bool goes = fixture->killed[i] || fixture->leaving[i];
            if (fixture->alive[i] && goes && prng_below(prng, 4) == 0) {
                child(fixture, SUPERVISOR_CHILD_EXITED, i, fixture->killed[i] ? SIGKILL : 0);
            }
        }
        if (!fixture->exited && prng_below(prng, 12) == 0) {
            signalled(fixture, SIGINT);
        }
    }
}

static void any_history_keeps_the_invariants_and_ends_after_term(void **state)
{
    struct fixture *fixture = *state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        memset(fixture, 0, sizeof(*fixture));
        fixture->now = SECOND;
        fixture->timer_at = UINT64_MAX;
        supervisor_init(&fixture->supervisor, seed);
        struct prng prng;
        prng_init(&prng, seed);
        uint32_t workers = 1 + prng_below(&prng, 6);
        compile(fixture, workers);
        send(fixture, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
        uint64_t begin = fixture->now;
        uint32_t steps = prng_below(&prng, 120);
        for (uint32_t i = 0; i < steps && !fixture->exited; i++) {
            random_step(fixture, &prng, workers);
        }
        if (!fixture->exited) {
            random_end(fixture, &prng, workers);
        }
        assert_false(fixture->listening);
        uint64_t seconds = (fixture->now - begin) / SECOND;
        assert_true(seconds < 1000);
    }
}

static void a_child_that_always_crashes_is_restarted_at_a_bounded_rate(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 1);
    uint64_t end = fixture->now + 600 * SECOND;
    while (fixture->now < end) {
        if (fixture->alive[FIRST]) {
            child(fixture, SUPERVISOR_CHILD_EXITED, FIRST, SIGSEGV);
        }
        pass(fixture, fixture->now + SECOND / 100);
    }
    /* At most one a second once the backoff is full, and a dozen on the way there; and it is alive
     * again within two seconds, for ever. */
    assert_in_range(fixture->spawns[FIRST], 300, 612);
}

static void the_largest_configuration_fits_the_list_of_actions(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, SUPERVISOR_WORKERS_MAX);
    signalled(fixture, SIGTERM);
    pass(fixture, fixture->now + 31 * SECOND); /* says and kills, for each worker */
    assert_true(fixture->killed[SUPERVISOR_SLOTS_MAX - 1]);
    assert_true(fixture->actions.count >= 2 * SUPERVISOR_WORKERS_MAX);
    signalled(fixture, SIGTERM);
    pass(fixture, fixture->now + 2 * SECOND);
    assert_true(fixture->exited);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_start_compiles_then_listens_then_spawns_everyone),
        TEST(a_refused_configuration_exits_with_1),
        TEST(a_compiler_that_crashes_is_a_veto_with_a_message),
        TEST(a_compiler_that_lasts_10_seconds_is_killed),
        TEST(a_compiler_that_cannot_be_spawned_ends_the_start),
        TEST(a_listener_that_cannot_be_bound_exits_with_1),
        TEST(a_signal_while_compiling_exits_at_once),
        TEST(a_worker_that_refuses_to_start_ends_the_start_with_1),
        TEST(a_worker_that_crashes_while_starting_gets_another_chance),
        TEST(a_logger_or_controller_that_cannot_start_ends_the_start_with_1),
        TEST(a_log_that_cannot_be_opened_later_ends_nothing),
        TEST(a_replaced_process_that_refuses_during_the_start_is_tried_again),
        TEST(the_first_restart_is_immediate_for_every_role),
        TEST(restarts_back_off_to_two_seconds_with_jitter),
        TEST(ten_seconds_alive_reset_the_backoff),
        TEST(a_process_that_cannot_be_made_is_tried_again_later),
        TEST(a_worker_without_a_turn_for_5_seconds_is_aborted_then_killed),
        TEST(a_worker_that_turns_is_left_alone),
        TEST(a_machine_that_was_paused_accuses_nobody),
        TEST(a_logger_on_a_slow_disk_is_given_half_a_minute),
        TEST(a_stop_drains_workers_then_the_controller_then_the_logger),
        TEST(a_drain_ends_at_its_timeout),
        TEST(a_stop_ends_even_when_nobody_can_be_killed),
        TEST(a_logger_that_dies_during_the_drain_is_replaced),
        TEST(a_controller_made_during_the_drain_knows_of_it),
        TEST(a_stop_forgets_planned_restarts),
        TEST(a_second_signal_stops_at_once),
        TEST(a_third_signal_does_not_even_wait_for_the_logger),
        TEST(hup_changes_nothing_and_usr1_reopens_the_logs),
        TEST(ticket_keys_are_replaced_every_12_hours_until_the_end),
        TEST(without_tickets_no_key_is_ever_drawn),
        TEST(late_news_of_the_dead_is_dropped),
        TEST(any_history_keeps_the_invariants_and_ends_after_term),
        TEST(a_child_that_always_crashes_is_restarted_at_a_bounded_rate),
        TEST(the_largest_configuration_fits_the_list_of_actions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
