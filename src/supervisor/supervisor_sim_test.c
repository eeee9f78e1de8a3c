/*
 * The supervisor's machine under seeded histories: a model of the shell and of children that crash,
 * hang, refuse, leave late or cannot be killed, with signals in every phase and a clock that
 * sometimes stands still. After each event it is held against what an operator is promised, worked
 * out here a second time and not looked up in the machine.
 *
 *     supervisor_sim_test [FIRST [COUNT]]
 *
 * runs the seeds from FIRST on; a failure names its seed and moment.
 */
#include "supervisor/supervisor.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND SUPERVISOR_SECOND
#define MILLISECOND (SECOND / 1000)
#define NEVER UINT64_MAX

enum {
    SEEDS = 3000,
    WORKERS_MAX = 5,
    SLOTS = SUPERVISOR_SLOT_WORKERS + WORKERS_MAX,
    EVENTS_MAX = 20000,
    PENDING_MAX = 2 * SLOTS + 4,
    FIRST_WORKER = SUPERVISOR_SLOT_WORKERS,
    LOGGER = SUPERVISOR_SLOT_LOGGER,
    CONTROLLER = SUPERVISOR_SLOT_CONTROLLER,
    EXIT_CODE_1 = 1 << 8,
    EXIT_CODE_127 = 127 << 8,
};

/* One child, as it is and as it will behave. */
struct child {
    bool alive;
    bool ready;
    bool hangs;    /* turns no more */
    bool immortal; /* not even a SIGKILL ends it, for long */
    uint64_t ready_at;
    uint64_t exit_at;
    int exit_status;
    uint64_t turns;
    /* What is owed to it, or what it owes. */
    uint64_t spawned_at;
    uint64_t died_at;
    uint32_t failures; /* in a row, as an operator would count them */
    uint64_t earliest; /* of the restart that is owed */
    uint64_t latest;   /* NEVER: none is owed */
    uint64_t told;     /* the turns told last */
    uint64_t told_at;  /* when they were new */
    uint32_t stale;
    bool aborted;
    uint64_t kill_by; /* NEVER: nothing owed */
    bool killed;      /* SIGKILL was sent */
    bool drained;
    bool quitted;
    uint32_t incarnations;
};

struct world {
    uint64_t seed;
    struct prng prng;
    struct supervisor machine;
    struct supervisor_actions actions;
    struct supervisor_event pending[PENDING_MAX];
    size_t pending_count;
    uint64_t now;
    uint64_t timer_at;
    uint64_t tick_at;
    uint64_t signal_at;
    uint64_t end_at; /* of the history: then TERM, and TERM again if that is this seed's way */
    uint32_t workers;
    uint32_t calm; /* one in so many decisions goes wrong */
    uint64_t shutdown_timeout;
    struct child children[SLOTS];
    bool listening;
    bool tickets;        /* workers issue them */
    uint32_t rotations;  /* of their key */
    uint64_t rotated_at; /* the last one */
    bool was_running;    /* all were ready once */
    bool stopping;       /* TERM came, or a start was refused: the way down has begun */
    bool hurried;
    bool refused; /* the exit is to be 1 */
    uint64_t exit_by;
    bool exited;
    int exit_code;
    uint32_t events;
};

#define CHECK(world, condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_msg("seed %llu at %llu us: %s", (unsigned long long)(world)->seed,                \
                     (unsigned long long)(world)->now, #condition);                                \
        }                                                                                          \
    } while (0)

static bool one_in(struct world *world, uint32_t n)
{
    return prng_below(&world->prng, n) == 0;
}

static uint64_t up_to(struct world *world, uint64_t most)
{
    return prng_below(&world->prng, (uint32_t)most + 1);
}

static uint32_t slots_of(const struct world *world)
{
    return FIRST_WORKER + world->workers;
}

/* ---- The model's children ---- */

static void push(struct world *world, struct supervisor_event event)
{
    CHECK(world, world->pending_count < PENDING_MAX);
    world->pending[world->pending_count++] = event;
}

static uint64_t patience_with(const struct world *world, const struct child *child)
{
    bool logger = child == &world->children[LOGGER];
    return logger ? SUPERVISOR_LOGGER_HANG_AFTER : SUPERVISOR_HANG_AFTER;
}

static void choose_fate(struct world *world, struct child *child, uint32_t slot)
{
    static const int ends[] = {SIGKILL, SIGSEGV, SIGABRT, 0, EXIT_CODE_1, EXIT_CODE_127, 3 << 8};
    child->ready_at = world->now + up_to(world, 300 * MILLISECOND);
    child->exit_at = NEVER;
    if (slot == SUPERVISOR_SLOT_COMPILER) {
        child->ready_at = NEVER;
        child->exit_at = world->now + up_to(world, 2 * SECOND);
        child->exit_status = one_in(world, world->calm) ? ends[up_to(world, 5)] : 0;
        if (one_in(world, 4 * world->calm)) {
            child->exit_at = NEVER;
        }
        return;
    }
    if (one_in(world, world->calm)) { /* dies by itself, maybe before it is ready */
        child->exit_at = world->now + (one_in(world, 2) ? up_to(world, 400 * MILLISECOND)
                                                        : up_to(world, 30 * SECOND));
        child->exit_status = ends[up_to(world, 5)];
    }
    child->hangs = one_in(world, world->calm);
    child->immortal = one_in(world, 2 * world->calm);
}

/* How a child takes an order or a signal. */
static void will_end(struct world *world, struct child *child, uint64_t within, int status)
{
    uint64_t at = world->now + up_to(world, within);
    if (at < child->exit_at) {
        child->exit_at = at;
        child->exit_status = status;
    }
}

static void take_kill(struct world *world, struct child *child, int signal)
{
    if (signal == SIGABRT) {
        child->aborted = true;
        if (!child->immortal && !one_in(world, 3)) {
            will_end(world, child, 200 * MILLISECOND, SIGABRT);
        }
        return;
    }
    CHECK(world, signal == SIGKILL);
    child->killed = true;
    will_end(world, child, child->immortal ? 4000 * SECOND : 50 * MILLISECOND, SIGKILL);
}

static void take_order(struct world *world, struct child *child, enum supervisor_order order)
{
    child->drained |= order == SUPERVISOR_ORDER_DRAIN;
    child->quitted |= order == SUPERVISOR_ORDER_QUIT;
    if (child->hangs || child->immortal || one_in(world, world->calm)) {
        return; /* deaf */
    }
    if (order == SUPERVISOR_ORDER_QUIT || child - world->children >= FIRST_WORKER) {
        will_end(world, child, one_in(world, 3) ? 40 * SECOND : SECOND / 2, 0);
    }
}

/* ---- What is promised about single actions ---- */

static void check_spawn(struct world *world, struct child *child, uint32_t slot)
{
    CHECK(world, slot < slots_of(world) || slot == SUPERVISOR_SLOT_COMPILER);
    CHECK(world, !child->alive); /* never more than one process in a slot */
    if (slot == SUPERVISOR_SLOT_COMPILER) {
        CHECK(world, child->incarnations == 0);
        return;
    }
    CHECK(world, !world->stopping || (slot < FIRST_WORKER && !world->hurried));
    CHECK(world, world->listening || world->stopping); /* bound before anyone is made */
    if (child->incarnations > 0) {
        CHECK(world, child->latest != NEVER);
        CHECK(world, world->now >= child->earliest);
    }
}

static void do_spawn(struct world *world, uint32_t slot)
{
    struct child *child = &world->children[slot];
    check_spawn(world, child, slot);
    CHECK(world, slot < FIRST_WORKER || !world->tickets || world->rotations > 0);
    uint32_t incarnations = child->incarnations + 1;
    uint32_t failures = child->failures;
    *child = (struct child){.alive = true,
                            .spawned_at = world->now,
                            .told_at = world->now,
                            .failures = failures,
                            .latest = NEVER,
                            .kill_by = NEVER,
                            .incarnations = incarnations};
    choose_fate(world, child, slot);
    /* The first of a slot that cannot be made ends the start: most histories shall get further. */
    if (one_in(world, (world->was_running ? 2 : 16) * world->calm)) {
        push(world, (struct supervisor_event){.kind = SUPERVISOR_SPAWN_FAILED, .slot = slot});
        child->ready_at = NEVER;
        child->exit_at = NEVER;
    }
}

static void do_kill(struct world *world, struct child *child, int signal)
{
    CHECK(world, child->alive);
    bool hangs = child->stale >= SUPERVISOR_HANG_TELLINGS &&
                 world->now - child->told_at >= patience_with(world, child);
    if (signal == SIGABRT) {
        CHECK(world, hangs && !child->aborted); /* who turns is never accused */
        child->kill_by = world->now + SUPERVISOR_ABORT_GRACE;
    } else {
        /* Only who was aborted and stayed, or is in the way of the end, or compiles for too long.
         */
        CHECK(world, child->aborted || world->stopping || child == &world->children[0]);
        child->kill_by = NEVER;
    }
    take_kill(world, child, signal);
}

/* The logger leaves last: nobody else may still have something to tell it. */
static void check_tell(struct world *world, uint32_t slot, enum supervisor_order order)
{
    CHECK(world, world->children[slot].alive);
    CHECK(world, world->stopping);
    if (slot != LOGGER) {
        return;
    }
    CHECK(world, order == SUPERVISOR_ORDER_QUIT);
    for (uint32_t i = CONTROLLER; i < slots_of(world); i++) {
        CHECK(world, !world->children[i].alive || world->children[i].killed);
    }
}

/* Nothing is left behind: who lives was killed, and is only not yet gone. */
static void do_exit(struct world *world, int code)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        CHECK(world, !world->children[i].alive || world->children[i].killed);
    }
    world->exited = true;
    world->exit_code = code;
}

static void do_action(struct world *world, const struct supervisor_action *action)
{
    CHECK(world, !world->exited); /* nothing follows an exit */
    switch (action->kind) {
    case SUPERVISOR_SPAWN:
        do_spawn(world, action->slot);
        return;
    case SUPERVISOR_TELL:
        check_tell(world, action->slot, action->order);
        take_order(world, &world->children[action->slot], action->order);
        return;
    case SUPERVISOR_KILL:
        do_kill(world, &world->children[action->slot], action->signal);
        return;
    case SUPERVISOR_OPEN_LISTENERS:
        CHECK(world, !world->listening);
        world->listening = !one_in(world, 4 * world->calm);
        push(world, (struct supervisor_event){.kind = world->listening ? SUPERVISOR_LISTENING
                                                                       : SUPERVISOR_REFUSED});
        return;
    case SUPERVISOR_CLOSE_LISTENERS:
        CHECK(world, world->listening && world->stopping);
        world->listening = false;
        return;
    case SUPERVISOR_REOPEN_LOGS:
        return;
    case SUPERVISOR_ROTATE_TICKETS:
        CHECK(world, world->tickets && world->listening && !world->stopping);
        CHECK(world, world->rotations == 0 || world->now - world->rotated_at >= TICKET_KEYS_PERIOD);
        world->rotations++;
        world->rotated_at = world->now;
        return;
    case SUPERVISOR_SET_TIMER:
        world->timer_at = action->at;
        return;
    case SUPERVISOR_LOG:
        CHECK(world, strlen(action->text) > 0);
        return;
    case SUPERVISOR_EXIT:
        do_exit(world, action->code);
        return;
    }
    fail();
}

/* ---- What is promised between events ---- */

static bool is_up(const struct world *world)
{
    for (uint32_t i = LOGGER; i < slots_of(world); i++) {
        if (!world->children[i].ready) {
            return false;
        }
    }
    return true;
}

/* Whatever is owed at some time has a timer that comes no later: nothing can be forgotten. */
static void check_debts(struct world *world)
{
    if (world->exited) {
        return;
    }
    for (uint32_t i = LOGGER; i < slots_of(world); i++) {
        const struct child *child = &world->children[i];
        bool owed = child->latest != NEVER && !child->alive;
        bool wanted = world->stopping ? false : child->incarnations > 0;
        CHECK(world, !wanted || child->alive || owed);
        CHECK(world, !owed || world->stopping || world->timer_at <= child->latest);
        CHECK(world, child->kill_by == NEVER || world->timer_at <= child->kill_by);
    }
    bool rotates = world->rotations > 0 && !world->stopping;
    CHECK(world, !rotates || world->timer_at <= world->rotated_at + TICKET_KEYS_PERIOD);
    CHECK(world, !world->stopping || !world->listening); /* new clients go elsewhere */
    CHECK(world, !world->stopping || world->now <= world->exit_by);
    CHECK(world, !world->stopping || world->timer_at != NEVER);
}

static void begin_way_down(struct world *world)
{
    world->stopping = true;
    /* Each phase may run into its deadline, and then into the time for the killed to go. */
    world->exit_by = world->now + world->shutdown_timeout + SUPERVISOR_DRAIN_GRACE +
                     SUPERVISOR_CLOSE_TIMEOUT + SUPERVISOR_FLUSH_TIMEOUT +
                     3 * SUPERVISOR_KILL_GRACE;
}

/* What the event itself means for what follows, before the machine hears of it. */
static void note_exit(struct world *world, struct child *child, bool failed_to_spawn)
{
    uint64_t lived = world->now - child->spawned_at;
    uint32_t failures = child->failures;
    if (failed_to_spawn) {
        failures = failures == 0 ? 2 : failures + 1;
    } else {
        failures = lived >= SUPERVISOR_STABLE_AFTER ? 1 : failures + 1;
    }
    uint64_t delay = 0;
    if (failures > 1) {
        uint32_t doublings = failures - 2 < 10 ? failures - 2 : 10;
        delay = SUPERVISOR_BACKOFF_FIRST << doublings;
        delay = delay < SUPERVISOR_BACKOFF_MAX ? delay : SUPERVISOR_BACKOFF_MAX;
    }
    child->alive = false;
    child->ready = false;
    child->exit_at = NEVER;
    child->ready_at = NEVER;
    child->kill_by = NEVER;
    child->failures = failures;
    child->died_at = world->now;
    child->earliest = world->now + delay / 2;
    child->latest = world->now + delay;
}

/* Its first process, before the start is complete, could not be made or refused to be. */
static bool refuses_the_start(const struct world *world, const struct supervisor_event *event)
{
    const struct child *child = &world->children[event->slot];
    bool refuses = event->kind == SUPERVISOR_SPAWN_FAILED || event->wait_status == EXIT_CODE_1 ||
                   event->wait_status == EXIT_CODE_127;
    return event->slot >= LOGGER && !world->was_running && !world->stopping && !child->ready &&
           child->failures == 0 && refuses;
}

static void handle(struct world *world, struct supervisor_event event)
{
    event.now = world->now;
    bool was_stopping = world->stopping;
    struct child *child = &world->children[event.slot];
    bool late = !child->alive;
    bool unmade = event.kind == SUPERVISOR_SPAWN_FAILED;
    if (unmade || (event.kind == SUPERVISOR_CHILD_EXITED && !late)) {
        if (refuses_the_start(world, &event)) {
            world->refused = true;
            begin_way_down(world);
        }
        note_exit(world, child, unmade);
    } else if (event.kind == SUPERVISOR_CHILD_READY && !late) {
        child->ready = true;
        world->was_running |= is_up(world);
    }
    supervisor_handle(&world->machine, &event, &world->actions);
    for (size_t i = 0; i < world->actions.count; i++) {
        do_action(world, &world->actions.items[i]);
    }
    bool of_child = event.kind == SUPERVISOR_CHILD_READY || event.kind == SUPERVISOR_CHILD_EXITED;
    CHECK(world, !of_child || !late || world->actions.count == 0); /* late messages do nothing */
    if (event.kind == SUPERVISOR_CHILD_EXITED && !world->stopping && !was_stopping && !late &&
        event.slot != SUPERVISOR_SLOT_COMPILER && child->failures == 1) {
        CHECK(world, child->alive); /* the first restart is at once */
    }
    check_debts(world);
}

/* One thing that happens, and all that doing the machine's actions leads to. */
static void happen(struct world *world, struct supervisor_event event)
{
    world->events++;
    push(world, event);
    for (size_t next = 0; next < world->pending_count && !world->exited; next++) {
        handle(world, world->pending[next]);
    }
    world->pending_count = 0;
}

/* ---- What happens ---- */

static void compiler_left(struct world *world, int status)
{
    if (world->exited || status != 0) {
        return;
    }
    if (one_in(world, 4 * world->calm)) {
        happen(world, (struct supervisor_event){.kind = SUPERVISOR_REFUSED});
        return;
    }
    happen(world, (struct supervisor_event){.kind = SUPERVISOR_COMPILED,
                                            .workers = world->workers,
                                            .tickets = world->tickets,
                                            .shutdown_timeout = world->shutdown_timeout});
}

static void signal_machine(struct world *world, int signal)
{
    bool stop = signal == SIGTERM || signal == SIGINT || signal == SIGQUIT;
    bool started = world->children[LOGGER].incarnations > 0;
    bool second = world->stopping;
    if (stop && started && !second) {
        begin_way_down(world);
    } else if (stop && started) {
        world->hurried = true;
        uint64_t soon = world->now + SUPERVISOR_FLUSH_AT_ONCE + SUPERVISOR_KILL_GRACE;
        world->exit_by = soon < world->exit_by ? soon : world->exit_by;
    }
    if (stop && !started) {
        world->stopping = true; /* nothing runs yet: the end is in this event */
        world->exit_by = world->now;
        world->listening = false;
    }
    happen(world, (struct supervisor_event){.kind = SUPERVISOR_SIGNALLED, .signal = signal});
    CHECK(world, !stop || started || world->exited);
    if (!stop || world->exited) {
        return;
    }
    for (uint32_t i = CONTROLLER; i < slots_of(world); i++) {
        const struct child *child = &world->children[i];
        CHECK(world, !child->alive || (second ? child->killed : child->drained));
    }
}

static void tell_turns(struct world *world)
{
    for (uint32_t i = LOGGER; i < slots_of(world) && !world->exited; i++) {
        struct child *child = &world->children[i];
        if (!child->alive) {
            continue;
        }
        child->turns += child->hangs ? 0 : 1 + up_to(world, 3);
        bool watched = !child->aborted;
        if (child->turns != child->told) {
            child->told = child->turns;
            child->told_at = world->now;
            child->stale = 0;
        } else {
            child->stale++;
        }
        happen(world, (struct supervisor_event){
                          .kind = SUPERVISOR_CHILD_TURNS, .slot = i, .turns = child->turns});
        bool hangs = child->stale >= SUPERVISOR_HANG_TELLINGS &&
                     world->now - child->told_at >= patience_with(world, child);
        CHECK(world, !watched || !child->alive || child->aborted == hangs);
    }
}

static void child_events(struct world *world)
{
    for (uint32_t i = 0; i < slots_of(world) && !world->exited; i++) {
        struct child *child = &world->children[i];
        if (child->ready_at <= world->now) {
            child->ready_at = NEVER;
            happen(world, (struct supervisor_event){.kind = SUPERVISOR_CHILD_READY, .slot = i});
        }
        if (!world->exited && child->alive && child->exit_at <= world->now) {
            int status = child->exit_status;
            happen(world, (struct supervisor_event){
                              .kind = SUPERVISOR_CHILD_EXITED, .slot = i, .wait_status = status});
            if (i == SUPERVISOR_SLOT_COMPILER) {
                compiler_left(world, status);
            }
        }
    }
}

/* Messages of the dead, ends that were told already, timers that nobody asked for. */
static void noise(struct world *world)
{
    uint32_t slot = LOGGER + prng_below(&world->prng, world->workers + 2);
    bool dead = !world->children[slot].alive;
    switch (prng_below(&world->prng, 4)) {
    case 0:
        happen(world, (struct supervisor_event){.kind = SUPERVISOR_TIMER});
        return;
    case 1:
        signal_machine(world, one_in(world, 2) ? SIGHUP : one_in(world, 2) ? SIGUSR2 : SIGUSR1);
        return;
    case 2:
        if (dead) {
            happen(world, (struct supervisor_event){.kind = SUPERVISOR_CHILD_READY, .slot = slot});
        }
        return;
    default:
        if (dead) {
            happen(world, (struct supervisor_event){.kind = SUPERVISOR_CHILD_EXITED,
                                                    .slot = slot,
                                                    .wait_status = SIGKILL});
        }
        return;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the next thing happens; the clock may jump past it, as for a machine that was paused. */
static void advance(struct world *world)
{
    uint64_t next = earlier(earlier(world->timer_at, world->tick_at), world->signal_at);
    for (uint32_t i = 0; i < slots_of(world); i++) {
        next = earlier(next, earlier(world->children[i].ready_at, world->children[i].exit_at));
    }
    CHECK(world, next != NEVER);
    uint64_t late = 0;
    if (one_in(world, 1000)) {
        late = up_to(world, 30 * 3600) * SECOND; /* as long as several ticket keys last */
        world->signal_at += world->signal_at == NEVER ? 0 : late;
    } else if (one_in(world, 200)) {
        late = up_to(world, 60 * SECOND);
    } else if (one_in(world, 4)) {
        late = up_to(world, 20 * MILLISECOND);
    }
    uint64_t at = (next > world->now ? next : world->now) + late;
    if (world->stopping && world->timer_at < at) {
        world->exit_by += at - world->timer_at; /* who hears of a timer late, acts late */
    }
    world->now = at;
}

static void turn(struct world *world)
{
    advance(world);
    child_events(world); /* the order of the shell: messages and ends, signals, the clock */
    if (!world->exited && world->signal_at <= world->now) {
        bool again = one_in(world, 2);
        world->signal_at = again ? world->now + up_to(world, 3 * SECOND) : NEVER;
        signal_machine(world, one_in(world, 2) ? SIGTERM : one_in(world, 2) ? SIGINT : SIGQUIT);
    }
    if (!world->exited && world->timer_at <= world->now) {
        happen(world, (struct supervisor_event){.kind = SUPERVISOR_TIMER});
        CHECK(world, world->exited || world->timer_at > world->now);
    }
    if (!world->exited && world->tick_at <= world->now) {
        world->tick_at = world->now + SECOND;
        tell_turns(world);
    }
    if (!world->exited && one_in(world, 20)) {
        noise(world);
    }
}

static void begin(struct world *world, uint64_t seed)
{
    *world = (struct world){.seed = seed, .now = SECOND, .timer_at = NEVER};
    prng_init(&world->prng, seed);
    world->workers = 1 + prng_below(&world->prng, WORKERS_MAX);
    world->tickets = one_in(world, 2);
    world->calm = 2 + prng_below(&world->prng, one_in(world, 2) ? 3 : 40);
    world->shutdown_timeout = up_to(world, 30 * SECOND);
    world->signal_at = world->now + up_to(world, one_in(world, 4) ? 3 * SECOND : 400 * SECOND);
    world->tick_at = world->now + SECOND;
    for (uint32_t i = 0; i < SLOTS; i++) {
        world->children[i] =
            (struct child){.ready_at = NEVER, .exit_at = NEVER, .latest = NEVER, .kill_by = NEVER};
    }
    supervisor_init(&world->machine, seed * 31 + 7);
}

static void run_seed(struct world *world, uint64_t seed)
{
    begin(world, seed);
    happen(world, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    while (!world->exited) {
        CHECK(world, world->events < EVENTS_MAX);
        turn(world);
    }
    if (world->stopping) {
        CHECK(world, world->exit_code == (world->refused ? 1 : 0));
    } else {
        CHECK(world, world->exit_code == 1 && world->children[LOGGER].incarnations == 0);
    }
}

struct range {
    uint64_t first;
    uint64_t count;
};

/* How far the histories came: a model whose worlds all end at once would prove little. */
struct reach {
    uint64_t events;
    uint64_t up;
    uint64_t stopped;
    uint64_t hurried;
    uint64_t restarts;
    uint64_t refusals;
    uint64_t rotations; /* beyond the first key of each world */
};

static void an_operator_gets_what_is_promised_in_every_history(void **state)
{
    const struct range *range = *state;
    struct reach reach = {0};
    struct world *world = malloc(sizeof(*world));
    assert_non_null(world);
    for (uint64_t seed = range->first; seed < range->first + range->count; seed++) {
        run_seed(world, seed);
        reach.events += world->events;
        reach.up += world->was_running;
        reach.stopped += world->stopping;
        reach.hurried += world->hurried;
        reach.refusals += world->refused;
        reach.rotations += world->rotations > 1 ? world->rotations - 1 : 0;
        for (uint32_t i = LOGGER; i < slots_of(world); i++) {
            uint32_t incarnations = world->children[i].incarnations;
            reach.restarts += incarnations > 1 ? incarnations - 1 : 0;
        }
    }
    free(world);
    print_message("%llu events, %llu starts complete, %llu stops, %llu hurried, %llu restarts, "
                  "%llu starts refused, %llu keys replaced\n",
                  (unsigned long long)reach.events, (unsigned long long)reach.up,
                  (unsigned long long)reach.stopped, (unsigned long long)reach.hurried,
                  (unsigned long long)reach.restarts, (unsigned long long)reach.refusals,
                  (unsigned long long)reach.rotations);
    if (range->count >= SEEDS) {
        assert_true(reach.up > range->count / 3 && reach.hurried > range->count / 10);
        assert_true(reach.restarts > range->count && reach.refusals > 0);
        assert_true(reach.rotations > 10);
    }
}

int main(int argc, char **argv)
{
    struct range range = {.first = 1, .count = SEEDS};
    if (argc > 1) {
        range.first = strtoull(argv[1], NULL, 10);
        range.count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(an_operator_gets_what_is_promised_in_every_history, &range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
