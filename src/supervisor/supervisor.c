#include "supervisor/supervisor.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "supervisor/spawn.h"

static_assert((uint64_t)SUPERVISOR_HANG_TELLINGS * SUPERVISOR_SECOND <= SUPERVISOR_HANG_AFTER,
              "tellings, one a second, do not delay the verdict");
static_assert(SUPERVISOR_BACKOFF_MAX < SUPERVISOR_STABLE_AFTER, "a restart is no stable time");

/* One run of the machine. */
struct run {
    struct supervisor *supervisor;
    struct supervisor_actions *actions;
    uint64_t now;
};

/* ---- Actions ---- */

static struct supervisor_action *act(struct run *run, enum supervisor_action_kind kind)
{
    ASSERT(run->actions->count < SUPERVISOR_ACTIONS_MAX);
    struct supervisor_action *action = &run->actions->items[run->actions->count++];
    *action = (struct supervisor_action){.kind = kind};
    return action;
}

static void say(struct run *run, enum log_level level, const char *format, ...) PRINTF_LIKE(3, 4);

static void say(struct run *run, enum log_level level, const char *format, ...)
{
    struct supervisor_action *action = act(run, SUPERVISOR_LOG);
    action->level = level;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(action->text, sizeof(action->text), format, arguments);
    va_end(arguments);
}

static void tell(struct run *run, uint32_t slot, enum supervisor_order order)
{
    struct supervisor_action *action = act(run, SUPERVISOR_TELL);
    action->slot = slot;
    action->order = order;
}

static void kill_child(struct run *run, uint32_t slot, int signal)
{
    struct supervisor_action *action = act(run, SUPERVISOR_KILL);
    action->slot = slot;
    action->signal = signal;
}

static void stop(struct run *run, int code)
{
    run->supervisor->phase = SUPERVISOR_STOPPED;
    run->supervisor->deadline = 0;
    run->supervisor->rotate_at = 0;
    run->supervisor->exit_code = code;
    act(run, SUPERVISOR_EXIT)->code = code;
}

/* ---- Slots ---- */

enum process_role supervisor_role(uint32_t slot)
{
    ASSERT(slot < SUPERVISOR_SLOTS_MAX);
    switch (slot) {
    case SUPERVISOR_SLOT_COMPILER:
        return PROCESS_COMPILER;
    case SUPERVISOR_SLOT_LOGGER:
        return PROCESS_LOGGER;
    case SUPERVISOR_SLOT_CONTROLLER:
        return PROCESS_CONTROLLER;
    default:
        return PROCESS_WORKER;
    }
}

uint32_t supervisor_index(uint32_t slot)
{
    ASSERT(slot < SUPERVISOR_SLOTS_MAX);
    return slot < SUPERVISOR_SLOT_WORKERS ? 0 : slot - SUPERVISOR_SLOT_WORKERS;
}

/* `worker 3`, `controller`: the process's name in messages. */
struct name {
    char text[24];
};

static struct name name_of(uint32_t slot)
{
    static const char *const names[PROCESS_ROLE_COUNT] = {"compiler", "logger", "controller",
                                                          "worker"};
    struct name name;
    enum process_role role = supervisor_role(slot);
    if (role == PROCESS_WORKER) {
        (void)snprintf(name.text, sizeof(name.text), "worker %u", supervisor_index(slot));
    } else {
        (void)snprintf(name.text, sizeof(name.text), "%s", names[role]);
    }
    return name;
}

static uint32_t slot_end(const struct supervisor *supervisor)
{
    return SUPERVISOR_SLOT_WORKERS + supervisor->workers;
}

static bool is_alive(const struct supervisor_slot *slot)
{
    return slot->state == SUPERVISOR_SLOT_SPAWNED || slot->state == SUPERVISOR_SLOT_READY;
}

static bool any_alive(const struct supervisor *supervisor, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++) {
        if (is_alive(&supervisor->slots[i])) {
            return true;
        }
    }
    return false;
}

/* The workers' order to leave also ends their restarts; the helpers stay until it is their turn. */
static bool may_restart(const struct supervisor *supervisor, uint32_t slot)
{
    switch (supervisor->phase) {
    case SUPERVISOR_STARTING:
    case SUPERVISOR_RUNNING:
        return slot != SUPERVISOR_SLOT_COMPILER;
    case SUPERVISOR_DRAINING:
        return slot == SUPERVISOR_SLOT_LOGGER || slot == SUPERVISOR_SLOT_CONTROLLER;
    case SUPERVISOR_CLOSING:
        return slot == SUPERVISOR_SLOT_LOGGER;
    case SUPERVISOR_COMPILING:
    case SUPERVISOR_OPENING:
    case SUPERVISOR_FLUSHING:
    case SUPERVISOR_STOPPED:
        return false;
    }
    UNREACHABLE("a phase");
}

static void spawn(struct run *run, uint32_t index)
{
    struct supervisor_slot *slot = &run->supervisor->slots[index];
    ASSERT(!is_alive(slot));
    *slot = (struct supervisor_slot){
        .state = SUPERVISOR_SLOT_SPAWNED,
        .failures = slot->failures,
        .spawned_at = run->now,
        .turned_at = run->now,
    };
    act(run, SUPERVISOR_SPAWN)->slot = index;
    if (index == SUPERVISOR_SLOT_CONTROLLER && run->supervisor->phase == SUPERVISOR_DRAINING) {
        tell(run, index, SUPERVISOR_ORDER_DRAIN);
    }
}

/* How long a child that failed so often in a row stays away; half of it is jitter. */
static uint64_t backoff(struct run *run, uint32_t failures)
{
    if (failures <= 1) {
        return 0;
    }
    uint32_t doublings = failures - 2 < 16 ? failures - 2 : 16;
    uint64_t delay = SUPERVISOR_BACKOFF_FIRST << doublings;
    if (delay > SUPERVISOR_BACKOFF_MAX) {
        delay = SUPERVISOR_BACKOFF_MAX;
    }
    uint32_t half = (uint32_t)(delay / 2);
    return half + prng_below(&run->supervisor->jitter, half + 1);
}

/* Ends what a slot holds and, where its process is still wanted, plans or begins the next one. */
static void retire(struct run *run, uint32_t index, const char *how)
{
    struct supervisor_slot *slot = &run->supervisor->slots[index];
    bool failed_to_spawn = how == NULL;
    if (!failed_to_spawn && run->now - slot->spawned_at >= SUPERVISOR_STABLE_AFTER) {
        slot->failures = 0;
    }
    slot->state = SUPERVISOR_SLOT_EMPTY;
    slot->kill_at = 0;
    if (!may_restart(run->supervisor, index)) {
        return;
    }
    struct name name = name_of(index);
    const char *what = failed_to_spawn ? "could not be started" : how;
    /* A process that could not even be made is not tried again at once: the system is short. */
    slot->failures += failed_to_spawn && slot->failures == 0 ? 2 : 1;
    uint64_t delay = backoff(run, slot->failures);
    if (delay == 0) {
        say(run, LOG_ERROR, "%s %s; starting it anew", name.text, what);
        spawn(run, index);
        return;
    }
    say(run, LOG_ERROR, "%s %s; starting it anew in %u ms", name.text, what,
        (unsigned)(delay / 1000));
    slot->state = SUPERVISOR_SLOT_WAITING;
    slot->restart_at = run->now + delay;
}

/* ---- The way down ---- */

static void forget_restarts(struct supervisor *supervisor)
{
    for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
        struct supervisor_slot *slot = &supervisor->slots[i];
        if (slot->state == SUPERVISOR_SLOT_WAITING && !may_restart(supervisor, i)) {
            slot->state = SUPERVISOR_SLOT_EMPTY;
        }
    }
}

/* The slots whose processes keep a phase of the way down from ending: from first on, before end. */
static uint32_t phase_first(const struct supervisor *supervisor)
{
    switch (supervisor->phase) {
    case SUPERVISOR_CLOSING:
        return SUPERVISOR_SLOT_CONTROLLER;
    case SUPERVISOR_FLUSHING:
        return SUPERVISOR_SLOT_LOGGER;
    case SUPERVISOR_COMPILING:
    case SUPERVISOR_OPENING:
    case SUPERVISOR_STARTING:
    case SUPERVISOR_RUNNING:
    case SUPERVISOR_DRAINING:
    case SUPERVISOR_STOPPED:
        return SUPERVISOR_SLOT_WORKERS;
    }
    UNREACHABLE("a phase");
}

static uint32_t phase_end(const struct supervisor *supervisor)
{
    uint32_t first = phase_first(supervisor);
    return first == SUPERVISOR_SLOT_WORKERS ? slot_end(supervisor) : first + 1;
}

static void tell_living(struct run *run, uint32_t first, uint32_t end, enum supervisor_order order)
{
    for (uint32_t i = first; i < end; i++) {
        if (is_alive(&run->supervisor->slots[i])) {
            tell(run, i, order);
        }
    }
}

/* Enters a phase of the way down: who lives in the slots gets the order and until then to obey. */
static void leave(struct run *run, enum supervisor_phase phase, uint64_t patience)
{
    struct supervisor *supervisor = run->supervisor;
    ASSERT(phase >= SUPERVISOR_DRAINING && phase <= SUPERVISOR_FLUSHING);
    ASSERT(phase > supervisor->phase);
    supervisor->phase = phase;
    supervisor->overdue = false;
    supervisor->deadline = run->now + patience;
    supervisor->rotate_at = 0; /* nobody who comes now would use the ticket */
    forget_restarts(supervisor);
    if (phase == SUPERVISOR_DRAINING) {
        /* The controller as well: from now on it says that we are not ready. */
        tell_living(run, SUPERVISOR_SLOT_CONTROLLER, slot_end(supervisor), SUPERVISOR_ORDER_DRAIN);
        return;
    }
    uint32_t slot = phase_first(supervisor);
    tell_living(run, slot, slot + 1, SUPERVISOR_ORDER_QUIT);
}

/* Takes the way down as far as nobody is left to wait for; at most three steps. */
static void descend(struct run *run, bool regardless)
{
    struct supervisor *supervisor = run->supervisor;
    while (supervisor->phase >= SUPERVISOR_DRAINING && supervisor->phase < SUPERVISOR_STOPPED) {
        if (!regardless && any_alive(supervisor, phase_first(supervisor), phase_end(supervisor))) {
            return;
        }
        regardless = false;
        if (supervisor->phase == SUPERVISOR_DRAINING) {
            leave(run, SUPERVISOR_CLOSING, SUPERVISOR_CLOSE_TIMEOUT);
        } else if (supervisor->phase == SUPERVISOR_CLOSING) {
            leave(run, SUPERVISOR_FLUSHING, SUPERVISOR_FLUSH_TIMEOUT);
        } else {
            say(run, LOG_INFO, "stopped");
            stop(run, supervisor->exit_code);
        }
    }
}

static void begin_drain(struct run *run, int exit_code)
{
    struct supervisor *supervisor = run->supervisor;
    supervisor->exit_code = exit_code;
    (void)act(run, SUPERVISOR_CLOSE_LISTENERS);
    leave(run, SUPERVISOR_DRAINING, supervisor->shutdown_timeout + SUPERVISOR_DRAIN_GRACE);
    descend(run, false);
}

/* The deadline of a phase: first whoever remains is killed, then nobody is waited for. */
static void phase_overdue(struct run *run)
{
    struct supervisor *supervisor = run->supervisor;
    if (supervisor->phase == SUPERVISOR_COMPILING) {
        say(run, LOG_ERROR,
            "the compiler took longer than 10 s: does a host name take so long to resolve, or "
            "is the configuration a pipe that nobody writes to?");
        kill_child(run, SUPERVISOR_SLOT_COMPILER, SIGKILL);
        stop(run, 1);
        return;
    }
    if (supervisor->overdue) {
        descend(run, true);
        return;
    }
    supervisor->overdue = true;
    supervisor->deadline = run->now + SUPERVISOR_KILL_GRACE;
    for (uint32_t i = phase_first(supervisor); i < phase_end(supervisor); i++) {
        if (is_alive(&supervisor->slots[i])) {
            say(run, LOG_WARNING, "%s did not end in time; killed", name_of(i).text);
            kill_child(run, i, SIGKILL);
        }
    }
}

/* A second signal: no more patience, but what has been logged reaches the log if that is quick. */
static void hurry(struct run *run)
{
    struct supervisor *supervisor = run->supervisor;
    say(run, LOG_WARNING, "second signal: stopping at once");
    for (uint32_t i = SUPERVISOR_SLOT_CONTROLLER; i < slot_end(supervisor); i++) {
        if (is_alive(&supervisor->slots[i])) {
            kill_child(run, i, SIGKILL);
        }
    }
    if (supervisor->phase == SUPERVISOR_FLUSHING) {
        /* It already is the logger's turn. */
        kill_child(run, SUPERVISOR_SLOT_LOGGER, SIGKILL);
        stop(run, supervisor->exit_code);
        return;
    }
    leave(run, SUPERVISOR_FLUSHING, SUPERVISOR_FLUSH_AT_ONCE);
    descend(run, false);
}

/* ---- Events ---- */

static void on_stop_signal(struct run *run)
{
    struct supervisor *supervisor = run->supervisor;
    switch (supervisor->phase) {
    case SUPERVISOR_COMPILING:
        if (is_alive(&supervisor->slots[SUPERVISOR_SLOT_COMPILER])) {
            kill_child(run, SUPERVISOR_SLOT_COMPILER, SIGKILL);
        }
        stop(run, 0);
        return;
    case SUPERVISOR_OPENING:
        stop(run, 0);
        return;
    case SUPERVISOR_STARTING:
    case SUPERVISOR_RUNNING:
        say(run, LOG_INFO, "stopping: requests in flight have %llu ms to finish",
            (unsigned long long)(supervisor->shutdown_timeout / 1000));
        begin_drain(run, 0);
        return;
    case SUPERVISOR_DRAINING:
    case SUPERVISOR_CLOSING:
    case SUPERVISOR_FLUSHING:
        hurry(run);
        return;
    case SUPERVISOR_STOPPED:
        break;
    }
    UNREACHABLE("a signal after the end");
}

static void on_signal(struct run *run, int signal)
{
    const struct supervisor *supervisor = run->supervisor;
    if (signal == SIGTERM || signal == SIGINT || signal == SIGQUIT) {
        on_stop_signal(run);
    } else if (signal == SIGHUP) {
        say(run, LOG_WARNING, "SIGHUP: reload is not in this build; nothing has changed");
    } else if (signal == SIGUSR2) { /* other servers replace their program on it */
        say(run, LOG_WARNING, "SIGUSR2: it means nothing to Sentinel; nothing has changed");
    } else if (signal == SIGUSR1 && supervisor->phase >= SUPERVISOR_STARTING) {
        (void)act(run, SUPERVISOR_REOPEN_LOGS); /* before that, none is open */
    }
}

static void on_compiled(struct run *run, const struct supervisor_event *event)
{
    struct supervisor *supervisor = run->supervisor;
    if (supervisor->phase != SUPERVISOR_COMPILING) {
        return;
    }
    ASSERT(event->workers >= 1 && event->workers <= SUPERVISOR_WORKERS_MAX);
    supervisor->workers = event->workers;
    supervisor->shutdown_timeout = event->shutdown_timeout;
    supervisor->tickets = event->tickets;
    supervisor->phase = SUPERVISOR_OPENING;
    supervisor->deadline = 0;
    (void)act(run, SUPERVISOR_OPEN_LISTENERS);
}

/* One key only, however late: those in between would open nothing. */
static void rotate_tickets(struct run *run)
{
    (void)act(run, SUPERVISOR_ROTATE_TICKETS);
    run->supervisor->rotate_at = run->now + TICKET_KEYS_PERIOD;
}

static void on_listening(struct run *run)
{
    struct supervisor *supervisor = run->supervisor;
    if (supervisor->phase != SUPERVISOR_OPENING) {
        return;
    }
    supervisor->phase = SUPERVISOR_STARTING;
    if (supervisor->tickets) {
        rotate_tickets(run); /* before the first worker, which is handed the memory */
    }
    for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i < slot_end(supervisor); i++) {
        spawn(run, i);
    }
}

static void on_ready(struct run *run, uint32_t index)
{
    struct supervisor *supervisor = run->supervisor;
    if (supervisor->slots[index].state != SUPERVISOR_SLOT_SPAWNED) {
        return;
    }
    supervisor->slots[index].state = SUPERVISOR_SLOT_READY;
    if (supervisor->phase != SUPERVISOR_STARTING) {
        return;
    }
    for (uint32_t i = SUPERVISOR_SLOT_LOGGER; i < slot_end(supervisor); i++) {
        if (supervisor->slots[i].state != SUPERVISOR_SLOT_READY) {
            return;
        }
    }
    supervisor->phase = SUPERVISOR_RUNNING;
    say(run, LOG_INFO, "ready: %u %s", supervisor->workers,
        supervisor->workers == 1 ? "worker" : "workers");
}

enum { END_TEXT_MAX = 112 };

static void describe_end(char *text, size_t size, int wait_status)
{
    if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS) {
        (void)snprintf(text, size,
                       "made a system call that its sandbox forbids, and was ended (SIGSYS; "
                       "the kernel's log may name it)");
    } else if (WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));
        (void)snprintf(text, size, "was ended by SIG%s", name != NULL ? name : "(unknown)");
    } else {
        (void)snprintf(text, size, "ended with code %d", WEXITSTATUS(wait_status));
    }
}

static void on_compiler_exited(struct run *run, int wait_status)
{
    run->supervisor->slots[SUPERVISOR_SLOT_COMPILER].state = SUPERVISOR_SLOT_EMPTY;
    if (run->supervisor->phase != SUPERVISOR_COMPILING) {
        return;
    }
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) {
        return; /* the shell looks at what it left: COMPILED or REFUSED follows */
    }
    if (WIFSIGNALED(wait_status)) {
        char how[END_TEXT_MAX];
        describe_end(how, sizeof(how), wait_status);
        say(run, LOG_ERROR, "the compiler %s", how);
    }
    stop(run, 1); /* otherwise it has said why itself */
}

/* Whether it is the first process of its slot, before all are ready, and was not ready itself. */
static bool is_first_start(const struct supervisor *supervisor, uint32_t index)
{
    const struct supervisor_slot *slot = &supervisor->slots[index];
    return supervisor->phase == SUPERVISOR_STARTING && slot->state == SUPERVISOR_SLOT_SPAWNED &&
           slot->failures == 0;
}

/* Whether it ended itself because it cannot be what it is to be. */
static bool is_refusal(int wait_status)
{
    return WIFEXITED(wait_status) &&
           (WEXITSTATUS(wait_status) == 1 || WEXITSTATUS(wait_status) == SPAWN_EXIT_FAILED);
}

/* Its successors would fail as well: better no start than a loop that looks like one. */
static void give_up(struct run *run, uint32_t index)
{
    run->supervisor->slots[index] = (struct supervisor_slot){.state = SUPERVISOR_SLOT_EMPTY};
    say(run, LOG_ERROR, "%s could not start; giving up", name_of(index).text);
    begin_drain(run, 1);
}

static void on_exited(struct run *run, uint32_t index, int wait_status)
{
    struct supervisor *supervisor = run->supervisor;
    struct supervisor_slot *slot = &supervisor->slots[index];
    if (!is_alive(slot)) {
        return;
    }
    if (index == SUPERVISOR_SLOT_COMPILER) {
        on_compiler_exited(run, wait_status);
        return;
    }
    if (is_first_start(supervisor, index) && is_refusal(wait_status)) {
        give_up(run, index);
        return;
    }
    char how[END_TEXT_MAX];
    describe_end(how, sizeof(how), wait_status);
    retire(run, index, how);
    descend(run, false);
}

static void on_spawn_failed(struct run *run, uint32_t index)
{
    if (index == SUPERVISOR_SLOT_COMPILER) {
        stop(run, 1);
    } else if (is_first_start(run->supervisor, index)) {
        give_up(run, index);
    } else if (is_alive(&run->supervisor->slots[index])) {
        retire(run, index, NULL);
        descend(run, false);
    }
}

static void on_turns(struct run *run, uint32_t index, uint64_t turns)
{
    struct supervisor_slot *slot = &run->supervisor->slots[index];
    uint64_t patience =
        index == SUPERVISOR_SLOT_LOGGER ? SUPERVISOR_LOGGER_HANG_AFTER : SUPERVISOR_HANG_AFTER;
    if (!is_alive(slot) || slot->kill_at != 0) {
        return;
    }
    if (slot->turns != turns) {
        slot->turns = turns;
        slot->turned_at = run->now;
        slot->stale = 0;
        return;
    }
    slot->stale++;
    if (run->now - slot->turned_at >= patience && slot->stale >= SUPERVISOR_HANG_TELLINGS) {
        say(run, LOG_ERROR, "%s has not turned for %llu ms; aborting it", name_of(index).text,
            (unsigned long long)((run->now - slot->turned_at) / 1000));
        kill_child(run, index, SIGABRT);
        slot->kill_at = run->now + SUPERVISOR_ABORT_GRACE;
    }
}

static void on_timer(struct run *run)
{
    struct supervisor *supervisor = run->supervisor;
    for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
        struct supervisor_slot *slot = &supervisor->slots[i];
        if (slot->state == SUPERVISOR_SLOT_WAITING && slot->restart_at <= run->now) {
            spawn(run, i);
        } else if (is_alive(slot) && slot->kill_at != 0 && slot->kill_at <= run->now) {
            kill_child(run, i, SIGKILL);
            slot->kill_at = UINT64_MAX; /* nothing more can be done, and nothing more be said */
        }
    }
    if (supervisor->rotate_at != 0 && supervisor->rotate_at <= run->now) {
        rotate_tickets(run);
    }
    if (supervisor->deadline != 0 && supervisor->deadline <= run->now) {
        phase_overdue(run);
    }
}

static void dispatch(struct run *run, const struct supervisor_event *event)
{
    switch (event->kind) {
    case SUPERVISOR_STARTED:
        spawn(run, SUPERVISOR_SLOT_COMPILER);
        run->supervisor->deadline = run->now + SUPERVISOR_COMPILE_TIMEOUT;
        return;
    case SUPERVISOR_COMPILED:
        on_compiled(run, event);
        return;
    case SUPERVISOR_REFUSED:
        if (run->supervisor->phase <= SUPERVISOR_OPENING) {
            stop(run, 1);
        }
        return;
    case SUPERVISOR_LISTENING:
        on_listening(run);
        return;
    case SUPERVISOR_SPAWN_FAILED:
        on_spawn_failed(run, event->slot);
        return;
    case SUPERVISOR_CHILD_READY:
        on_ready(run, event->slot);
        return;
    case SUPERVISOR_CHILD_TURNS:
        on_turns(run, event->slot, event->turns);
        return;
    case SUPERVISOR_CHILD_EXITED:
        on_exited(run, event->slot, event->wait_status);
        return;
    case SUPERVISOR_SIGNALLED:
        on_signal(run, event->signal);
        return;
    case SUPERVISOR_TIMER:
        on_timer(run);
        return;
    }
    UNREACHABLE("an event");
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void set_timer(struct run *run)
{
    struct supervisor *supervisor = run->supervisor;
    uint64_t at = supervisor->deadline != 0 ? supervisor->deadline : UINT64_MAX;
    if (supervisor->rotate_at != 0) {
        at = earlier(at, supervisor->rotate_at);
    }
    for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
        const struct supervisor_slot *slot = &supervisor->slots[i];
        if (slot->state == SUPERVISOR_SLOT_WAITING) {
            at = earlier(at, slot->restart_at);
        }
        if (slot->kill_at != 0) {
            at = earlier(at, slot->kill_at);
        }
    }
    if (at != supervisor->timer_at) {
        supervisor->timer_at = at;
        act(run, SUPERVISOR_SET_TIMER)->at = at;
    }
}

void supervisor_init(struct supervisor *supervisor, uint64_t seed)
{
    *supervisor = (struct supervisor){.phase = SUPERVISOR_COMPILING, .timer_at = UINT64_MAX};
    prng_init(&supervisor->jitter, seed);
}

void supervisor_handle(struct supervisor *supervisor, const struct supervisor_event *event,
                       struct supervisor_actions *actions)
{
    ASSERT(supervisor->phase != SUPERVISOR_STOPPED);
    ASSERT(event->slot < SUPERVISOR_SLOTS_MAX);
    actions->count = 0;
    struct run run = {.supervisor = supervisor, .actions = actions, .now = event->now};
    dispatch(&run, event);
    if (supervisor->phase != SUPERVISOR_STOPPED) {
        set_timer(&run);
    }
    supervisor_check(supervisor);
}

void supervisor_check(const struct supervisor *supervisor)
{
    ASSERT(supervisor->workers <= SUPERVISOR_WORKERS_MAX);
    bool going_down =
        supervisor->phase >= SUPERVISOR_DRAINING && supervisor->phase < SUPERVISOR_STOPPED;
    ASSERT(!going_down || supervisor->deadline != 0); /* no phase of the way down can last */
    bool serving =
        supervisor->phase == SUPERVISOR_STARTING || supervisor->phase == SUPERVISOR_RUNNING;
    ASSERT((supervisor->rotate_at != 0) == (serving && supervisor->tickets));
    for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
        const struct supervisor_slot *slot = &supervisor->slots[i];
        ASSERT(i < slot_end(supervisor) || slot->state == SUPERVISOR_SLOT_EMPTY);
        ASSERT(slot->state != SUPERVISOR_SLOT_WAITING || may_restart(supervisor, i));
        ASSERT(slot->kill_at == 0 || is_alive(slot));
        ASSERT(i == SUPERVISOR_SLOT_COMPILER || slot->state == SUPERVISOR_SLOT_EMPTY ||
               supervisor->phase >= SUPERVISOR_STARTING);
    }
}
