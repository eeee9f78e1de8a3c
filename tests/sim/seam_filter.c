#include "seam_filter.h"

#include <stdlib.h>

#include "base/assert.h"

static const struct address AGENT = {.family = ADDRESS_IPV4, .port = 9000, .ip = {10, 3, 0, 1}};

static void decide(struct seam_filter *filter, enum verdict verdict)
{
    ASSERT(filter->verdict == VERDICT_PENDING && verdict != VERDICT_PENDING);
    filter->verdict = verdict;
    if (verdict == VERDICT_DROP) {
        filter->size = 0;
    }
    wire_close(&filter->agent.wire, false);
    timer_cancel(&filter->task.seam->wheel, &filter->task.timer);
    sim_note(filter->task.seam->io, "verdict on %u: %d, %u held", filter->number, (int)verdict,
             filter->size);
    seam_wake(filter->owner);
}

static enum verdict read_verdict(const struct seam_filter *filter)
{
    ASSERT(filter->answer[0] == filter->number);
    switch (filter->answer[1]) {
    case 'P':
        return VERDICT_PASS;
    case 'D':
        return VERDICT_DROP;
    default:
        return VERDICT_FAIL;
    }
}

/* An agent that is not there, or leaves without a word, has refused. */
static void filter_run(struct seam_task *task)
{
    struct seam_filter *filter = CONTAINER_OF(task, struct seam_filter, task);
    struct wire *wire = &filter->agent.wire;
    if (filter->verdict != VERDICT_PENDING) {
        return;
    }
    if (wire_is_connected(wire)) {
        (void)wire_pump(wire, UINT64_MAX);
    }
    enum status status = wire->connected && !wire->failed ? OK : AGAIN;
    while (status == OK && filter->answer_size < sizeof(filter->answer)) {
        size_t got = 0;
        status = wire_read(wire, filter->answer + filter->answer_size,
                           sizeof(filter->answer) - filter->answer_size, &got);
        filter->answer_size += status == OK ? got : 0;
    }
    if (filter->answer_size == sizeof(filter->answer)) {
        decide(filter, read_verdict(filter));
    } else if (status == END || wire->failed) {
        decide(filter, VERDICT_FAIL);
    }
}

static void filter_expire(struct seam_task *task)
{
    decide(CONTAINER_OF(task, struct seam_filter, task), VERDICT_FAIL);
}

static void ask(struct seam_filter *filter)
{
    struct seam *seam = filter->task.seam;
    if (filter->asked) {
        return;
    }
    filter->asked = true;
    timer_set(&seam->wheel, &filter->task.timer, io_now(seam->io) + seam->manners.verdict_within);
    if (wire_connect(&filter->agent.wire, &AGENT)) {
        wire_push(&filter->agent.wire, (uint8_t[]){filter->number, '?'}, 2);
        seam_wake(&filter->task);
    } else {
        decide(filter, VERDICT_FAIL);
    }
}

/* Hands on what is held: AGAIN while the next sink has no room for all of it. */
static enum status give(struct seam_filter *filter, enum reason *reason)
{
    struct sink *next = &filter->next;
    while (filter->given < filter->size) {
        size_t room = next->room(next->self);
        if (room == 0) {
            if (next->flush(next->self, reason) == ERROR) {
                return ERROR;
            }
            room = next->room(next->self);
        }
        if (room == 0) {
            return AGAIN;
        }
        uint32_t left = filter->size - filter->given;
        uint32_t part = left < room ? left : (uint32_t)room;
        struct span bytes = span_of(filter->held + filter->given, part);
        if (next->write(next->self, bytes, reason) != OK) {
            return ERROR;
        }
        filter->given += part;
    }
    filter->size = filter->given = 0;
    return OK;
}

static size_t filter_room(void *self)
{
    struct seam_filter *filter = self;
    switch (filter->verdict) {
    case VERDICT_PENDING:
        return filter->hold_max - filter->size;
    case VERDICT_PASS:
        return filter->size > 0 ? 0 : filter->next.room(filter->next.self);
    case VERDICT_DROP:
        return SIZE_MAX;
    case VERDICT_FAIL:
        return 0; /* the flush that follows says why */
    }
    UNREACHABLE("a verdict of no kind");
}

static enum status filter_write(void *self, struct span bytes, enum reason *reason)
{
    struct seam_filter *filter = self;
    if (filter->verdict == VERDICT_PASS) {
        ASSERT(filter->size == 0);
        return filter->next.write(filter->next.self, bytes, reason);
    }
    if (filter->verdict == VERDICT_PENDING) {
        ASSERT(bytes.size <= filter->hold_max - filter->size);
        memcpy(filter->held + filter->size, bytes.data, bytes.size);
        filter->size += (uint32_t)bytes.size;
    }
    return OK;
}

static enum status filter_flush(void *self, enum reason *reason)
{
    struct seam_filter *filter = self;
    switch (filter->verdict) {
    case VERDICT_PENDING:
        if (filter->size == filter->hold_max) {
            ask(filter);
        }
        return filter->size == 0 ? OK : AGAIN;
    case VERDICT_FAIL:
        *reason = REASON_NO_ENDPOINT;
        return ERROR;
    case VERDICT_PASS:
    case VERDICT_DROP: {
        enum status status = give(filter, reason);
        return status == OK ? filter->next.flush(filter->next.self, reason) : status;
    }
    }
    UNREACHABLE("a verdict of no kind");
}

static enum status filter_end(void *self, const struct fields *trailers, enum reason *reason)
{
    struct seam_filter *filter = self;
    if (filter->verdict == VERDICT_PENDING) {
        ask(filter);
        return AGAIN;
    }
    enum status status = filter_flush(filter, reason);
    if (status == ERROR || filter->size > 0) {
        return status;
    }
    return filter->next.end(filter->next.self, trailers, reason);
}

struct sink seam_filter_sink(struct seam_filter *filter)
{
    return (struct sink){.room = filter_room,
                         .write = filter_write,
                         .end = filter_end,
                         .flush = filter_flush,
                         .self = filter};
}

void seam_filter_open(struct seam_filter *filter, struct seam_task *owner, const struct sink *next,
                      uint8_t number)
{
    struct seam *seam = owner->seam;
    *filter = (struct seam_filter){
        .task = {.run = filter_run, .expire = filter_expire},
        .owner = owner,
        .next = *next,
        .number = number,
        .hold_max = (uint32_t)sim_magnitude(&seam->prng, 1, seam->manners.hold_max),
    };
    seam_task_init(&filter->task, seam);
    filter->agent.task = &filter->task;
    wire_init(&filter->agent.wire, seam->io);
    filter->held = malloc(filter->hold_max);
    ASSERT(filter->held != NULL);
}

void seam_filter_close(struct seam_filter *filter)
{
    if (!seam_filter_is_used(filter)) {
        return;
    }
    wire_close(&filter->agent.wire, false);
    wire_deinit(&filter->agent.wire);
    seam_task_deinit(&filter->task);
    free(filter->held);
    filter->held = NULL;
}

/* ---- the agent's node ---- */

enum { AGENT_CALLS = 64 };

struct agent_call {
    struct wire wire;
    bool in_use;
    uint8_t question[2];
    size_t size;
    bool decided;       /* it says no more */
    uint64_t answer_at; /* UINT64_MAX: never */
};

struct seam_agent {
    struct seam *seam;
    struct prng prng;
    struct io *io;
    struct io_socket listener;
    struct agent_call calls[AGENT_CALLS];
};

static bool read_question(struct seam_agent *agent, struct agent_call *call)
{
    uint8_t bytes[sizeof(call->question)];
    size_t got = 0;
    enum status status = wire_read(&call->wire, bytes, sizeof(bytes), &got);
    if (status != OK) {
        return status == AGAIN;
    }
    ASSERT(call->size + got <= sizeof(call->question));
    memcpy(call->question + call->size, bytes, got);
    call->size += got;
    if (call->size < sizeof(call->question)) {
        return true;
    }
    ASSERT(call->question[1] == '?');
    const struct seam_manners *manners = &agent->seam->manners;
    bool silent = sim_chance(&agent->prng, manners->agent_silent);
    call->answer_at =
        silent ? UINT64_MAX : io_now(agent->io) + sim_magnitude(&agent->prng, 1, SECOND);
    return !sim_chance(&agent->prng, manners->agent_breaks);
}

static void answer(struct seam_agent *agent, struct agent_call *call)
{
    const struct seam_manners *manners = &agent->seam->manners;
    uint8_t verdict = 'P';
    if (sim_chance(&agent->prng, manners->agent_drops)) {
        verdict = 'D';
    } else if (sim_chance(&agent->prng, manners->agent_fails)) {
        verdict = 'F';
    }
    wire_push(&call->wire, (uint8_t[]){call->question[0], verdict}, 2);
    call->decided = true;
}

/* False: the call is over. */
static bool serve_call(struct seam_agent *agent, struct agent_call *call)
{
    enum { READS_MAX = 4 };
    for (int i = 0; i < READS_MAX; i++) {
        if (!read_question(agent, call)) {
            return false;
        }
    }
    bool complete = call->size == sizeof(call->question);
    if (complete && !call->decided && io_now(agent->io) >= call->answer_at) {
        answer(agent, call);
    }
    (void)wire_pump(&call->wire, UINT64_MAX);
    return !call->wire.failed;
}

static uint64_t agent_wake_time(const struct seam_agent *agent)
{
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < AGENT_CALLS; i++) {
        const struct agent_call *call = &agent->calls[i];
        bool waits = call->in_use && call->size == sizeof(call->question) && !call->decided;
        wake = waits && call->answer_at < wake ? call->answer_at : wake;
    }
    return wake;
}

static void agent_turn(void *context)
{
    struct seam_agent *agent = context;
    io_wait(agent->io, agent_wake_time(agent));
    while (io_next_ready(agent->io) != NULL) {
    }
    for (uint32_t i = 0; i < AGENT_CALLS; i++) {
        struct agent_call *call = &agent->calls[i];
        struct address peer;
        if (!call->in_use &&
            io_accept(agent->io, &agent->listener, &call->wire.socket, 1, &peer) == OK) {
            call->in_use = call->wire.connected = true;
            call->wire.failed = call->decided = false;
            call->size = 0;
        }
        if (call->in_use && !serve_call(agent, call)) {
            wire_close(&call->wire, sim_chance(&agent->prng, 500));
            call->in_use = false;
        }
    }
}

struct seam_agent *seam_agent_create(struct seam *seam)
{
    struct seam_agent *agent = calloc(1, sizeof(*agent));
    ASSERT(agent != NULL);
    agent->seam = seam;
    agent->io = sim_node_create(seam->world->sim, "agent");
    prng_init(&agent->prng, prng_next(&seam->prng));
    for (uint32_t i = 0; i < AGENT_CALLS; i++) {
        wire_init(&agent->calls[i].wire, agent->io);
    }
    io_socket_init(&agent->listener);
    enum status status =
        io_listen(agent->io, &agent->listener, sim_listen(seam->world->sim, &AGENT), 0);
    ASSERT(status == OK);
    sim_node_run(agent->io, agent_turn, agent);
    return agent;
}

void seam_agent_destroy(struct seam_agent *agent)
{
    for (uint32_t i = 0; i < AGENT_CALLS; i++) {
        wire_deinit(&agent->calls[i].wire);
    }
    free(agent);
}
