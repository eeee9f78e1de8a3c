/*
 * The simulator's clock and schedule. A step is one turn of one node or one leap of the clock:
 *
 *     events due now are dealt out  ->  a node that has something to do, drawn at random, turns
 *                                   \-> nobody has: the clock leaps to the next event or `until`
 *
 * A node is left alone once an io_wait found nothing to report and nothing queued: there the real
 * one would block. So a node sees its own new timers in the turn after the one that armed them.
 */
#include "io/io_sim.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/assert.h"

enum {
    SECOND = 1000000,
    START = 1000 * SECOND, /* the virtual clock's first value */
    TURN_COST_MAX = 20,    /* microseconds that a turn takes */
};

static const uint64_t WALL_START = UINT64_C(1700000000) * SECOND;

uint64_t sim_between(struct prng *prng, uint64_t low, uint64_t high)
{
    ASSERT(low <= high);
    uint64_t range = high - low;
    return range == UINT64_MAX ? prng_next(prng) : low + prng_next(prng) % (range + 1);
}

uint64_t sim_magnitude(struct prng *prng, uint64_t low, uint64_t high)
{
    ASSERT(low > 0 && low <= high);
    unsigned first = 63 - (unsigned)__builtin_clzll(low);
    unsigned last = 63 - (unsigned)__builtin_clzll(high);
    unsigned bits = (unsigned)sim_between(prng, first, last);
    uint64_t floor = UINT64_C(1) << bits;
    uint64_t value = sim_between(prng, floor, floor + (floor - 1));
    return value < low ? low : value > high ? high : value;
}

bool sim_chance(struct prng *prng, uint32_t permille)
{
    return permille > 0 && prng_below(prng, 1000) < permille;
}

void *sim_allocate(void *old, size_t count, size_t size)
{
    void *memory = reallocarray(old, count, size);
    ASSERT(memory != NULL);
    return memory;
}

struct sim_options sim_options_quiet(void)
{
    return (struct sim_options){
        .delay_min = 50,
        .delay_max = 500,
        .buffer_min = 64 * 1024,
        .buffer_max = SIM_BUFFER_MAX,
        .segment_min = 16 * 1024,
        .split = 300,
        .backlog = 128,
        .trouble_within = SECOND,
    };
}

struct sim *sim_create(uint64_t seed, const struct sim_options *options)
{
    ASSERT(options->buffer_min > 0 && options->buffer_min <= options->buffer_max);
    ASSERT(options->buffer_max <= SIM_BUFFER_MAX && options->segment_min > 0);
    ASSERT(options->delay_min <= options->delay_max);
    struct sim *sim = sim_allocate(NULL, 1, sizeof(*sim));
    *sim = (struct sim){
        .options = *options,
        .now = START,
        .hash = seed,
        .next_port = 10000,
    };
    if (sim->options.backlog == 0) {
        sim->options.backlog = 128;
    }
    prng_init(&sim->prng, seed);
    list_init(&sim->connections);
    return sim;
}

void sim_destroy(struct sim *sim)
{
    if (sim == NULL) {
        return;
    }
    ASSERT(sim->running == NULL);
    struct list *link = NULL;
    while ((link = list_pop_front(&sim->connections)) != NULL) {
        sim_connection_free(CONTAINER_OF(link, struct sim_connection, link));
    }
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim_pipes_drop(sim->nodes[i]);
        free(sim->nodes[i]);
    }
    free(sim->events);
    free(sim->ends);
    free(sim);
}

struct io *sim_node_create(struct sim *sim, const char *name)
{
    ASSERT(sim->node_count < SIM_NODES_MAX);
    struct io *io = sim_allocate(NULL, 1, sizeof(*io));
    *io = (struct io){.sim = sim, .ordinal = sim->node_count + 1, .now = sim->now};
    (void)snprintf(io->name, sizeof(io->name), "%s", name);
    io->host = (struct address){.family = ADDRESS_IPV4, .ip = {10, 0, 0, (uint8_t)io->ordinal}};
    prng_init(&io->random, prng_next(&sim->prng));
    list_init(&io->ready);
    list_init(&io->pending);
    list_init(&io->sockets);
    list_init(&io->pipes);
    sim->nodes[sim->node_count++] = io;
    return io;
}

void sim_node_run(struct io *io, void (*turn)(void *context), void *context)
{
    io->turn = turn;
    io->context = context;
    io->blocked = false;
}

void sim_node_set_host(struct io *io, const struct address *host)
{
    io->host = *host;
}

uint32_t sim_node_sockets(const struct io *io)
{
    return io->socket_count;
}

uint32_t sim_node_pipes(const struct io *io)
{
    return io->pipe_count;
}

bool sim_socket_is_stalled(const struct io *io, const struct io_socket *socket)
{
    ASSERT(io_is_open(socket) && (size_t)socket->fd < io->sim->end_count);
    return io->sim->ends[socket->fd]->connection->stalled;
}

void sim_node_kill(struct io *io)
{
    ASSERT(io->sim->running != io);
    sim_record(io->sim, "kill", NULL, io->ordinal);
    io->turn = NULL;
    while (!list_is_empty(&io->sockets)) {
        struct sim_end *end = CONTAINER_OF(io->sockets.next, struct sim_end, node_link);
        struct io_socket *socket = end->socket;
        io_close(io, socket);
        socket->ready = IO_FAILED; /* who clears up behind the dead must not write any more */
    }
    for (size_t i = 0; i < SIM_LISTENERS_MAX; i++) {
        if (io->sharers[i].socket != NULL) {
            io_close(io, io->sharers[i].socket);
        }
    }
    ASSERT(io->socket_count == 0 && list_is_empty(&io->ready) && list_is_empty(&io->pending));
}

int sim_listen(struct sim *sim, const struct address *address)
{
    ASSERT(sim->listener_count < SIM_LISTENERS_MAX);
    ASSERT(sim_find_listener(sim, address) == NULL);
    struct sim_listener *listener = &sim->listeners[sim->listener_count];
    *listener = (struct sim_listener){.address = *address};
    list_init(&listener->backlog);
    return SIM_FD_LISTENER + (int)sim->listener_count++;
}

void sim_listener_close(struct sim *sim, int fd)
{
    ASSERT(fd >= SIM_FD_LISTENER && fd < SIM_FD_LISTENER + (int)sim->listener_count);
    struct sim_listener *listener = &sim->listeners[fd - SIM_FD_LISTENER];
    listener->closed = true;
    struct list *link = NULL;
    while ((link = list_pop_front(&listener->backlog)) != NULL) {
        struct sim_connection *connection = CONTAINER_OF(link, struct sim_connection, backlog_link);
        connection->listener = NULL;
        sim_end_close(&connection->server, true);
    }
    listener->waiting = 0;
}

uint64_t sim_now(const struct sim *sim)
{
    return sim->now;
}

uint64_t sim_steps(const struct sim *sim)
{
    return sim->steps;
}

uint64_t sim_trace_hash(const struct sim *sim)
{
    return sim->hash;
}

uint64_t io_now(const struct io *io)
{
    return io->now;
}

uint64_t io_wall(const struct io *io)
{
    return WALL_START + io->now + (uint64_t)io->sim->wall_offset;
}

void io_random(struct io *io, void *bytes, size_t size)
{
    uint8_t *out = bytes;
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(prng_next(&io->random) >> 56);
    }
}

static void fold(struct sim *sim, uint64_t value)
{
    uint64_t mixed = (sim->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    sim->hash = mixed ^ mixed >> 29;
}

static void print_prefix(const struct sim *sim, const struct io *io)
{
    uint64_t elapsed = sim->now - START;
    (void)fprintf(sim->options.trace, "%6llu.%06llu %-10s ", (unsigned long long)(elapsed / SECOND),
                  (unsigned long long)(elapsed % SECOND), io == NULL ? "-" : io->name);
}

void sim_record(struct sim *sim, const char *what, const struct sim_end *end, uint64_t amount)
{
    fold(sim, sim->now);
    for (const char *letter = what; *letter != '\0'; letter++) {
        fold(sim, (uint8_t)*letter);
    }
    fold(sim, amount);
    fold(sim, end == NULL ? UINT64_MAX : (uint64_t)end->fd);
    if (sim->options.trace == NULL) {
        return;
    }
    print_prefix(sim, end == NULL ? sim->running : end->node);
    if (end == NULL) {
        (void)fprintf(sim->options.trace, "%s %llu\n", what, (unsigned long long)amount);
    } else {
        (void)fprintf(sim->options.trace, "%s %llu  fd %d (peer fd %d)\n", what,
                      (unsigned long long)amount, end->fd, end->peer->fd);
    }
}

void sim_note(struct io *io, const char *format, ...)
{
    FILE *trace = io->sim->options.trace;
    if (trace == NULL) {
        return;
    }
    print_prefix(io->sim, io);
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(trace, format, arguments);
    va_end(arguments);
    (void)fputc('\n', trace);
}

/* ---- events: a binary heap by time, then order ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->time < b->time || (a->time == b->time && a->order < b->order);
}

void sim_schedule(struct sim_end *end, uint64_t time, enum sim_event_kind kind, uint32_t amount)
{
    struct sim *sim = end->connection->sim;
    ASSERT(time >= sim->now);
    if (sim->event_count == sim->event_room) {
        sim->event_room = sim->event_room == 0 ? 256 : sim->event_room * 2;
        sim->events = sim_allocate(sim->events, sim->event_room, sizeof(*sim->events));
    }
    struct sim_event event = {time, sim->order++, kind, amount, end};
    size_t at = sim->event_count++;
    while (at > 0 && event_before(&event, &sim->events[(at - 1) / 2])) {
        sim->events[at] = sim->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->events[at] = event;
}

static struct sim_event take_event(struct sim *sim)
{
    ASSERT(sim->event_count > 0);
    struct sim_event first = sim->events[0];
    struct sim_event last = sim->events[--sim->event_count];
    size_t at = 0;
    for (size_t child = 1; child < sim->event_count; child = at * 2 + 1) {
        if (child + 1 < sim->event_count &&
            event_before(&sim->events[child + 1], &sim->events[child])) {
            child++;
        }
        if (!event_before(&sim->events[child], &last)) {
            break;
        }
        sim->events[at] = sim->events[child];
        at = child;
    }
    sim->events[at] = last;
    return first;
}

/* ---- the schedule ---- */

static bool has_waiting_client(const struct io *io)
{
    for (uint32_t i = 0; i < io->sim->listener_count; i++) {
        const struct sim_sharer *sharer = &io->sharers[i];
        if (sharer->socket != NULL && !sharer->paused && io->sim->listeners[i].waiting > 0) {
            return true;
        }
    }
    return false;
}

static bool is_runnable(const struct io *io)
{
    return io->turn != NULL &&
           (!io->blocked || io->until <= io->sim->now || !list_is_empty(&io->ready) ||
            !list_is_empty(&io->pending) || has_waiting_client(io));
}

static struct io *draw_runnable(struct sim *sim)
{
    struct io *candidates[SIM_NODES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (is_runnable(sim->nodes[i])) {
            candidates[count++] = sim->nodes[i];
        }
    }
    return count == 0 ? NULL : candidates[prng_below(&sim->prng, count)];
}

static void advance(struct sim *sim, uint64_t now)
{
    ASSERT(now >= sim->now);
    if (now / SECOND != sim->now / SECOND && sim_chance(&sim->prng, sim->options.clock_jump)) {
        int64_t leap = (int64_t)sim_magnitude(&sim->prng, 1, UINT64_C(86400) * SECOND);
        sim->wall_offset += sim_chance(&sim->prng, 500) ? leap : -leap;
        sim->now = now;
        sim_record(sim, "clock jump", NULL, (uint64_t)sim->wall_offset);
    }
    sim->now = now;
}

static void run_turn(struct sim *sim, struct io *io)
{
    io->waited = false;
    sim->running = io;
    fold(sim, io->ordinal);
    io->turn(io->context);
    sim->running = NULL;
    ASSERT(io->waited); /* a turn without io_wait would be a busy loop */
    advance(sim, sim->now + sim_between(&sim->prng, 1, TURN_COST_MAX));
}

/* The next instant at which anything happens by itself. */
static uint64_t next_instant(const struct sim *sim)
{
    uint64_t next = sim->event_count > 0 ? sim->events[0].time : UINT64_MAX;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct io *io = sim->nodes[i];
        if (io->turn != NULL && io->until < next) {
            next = io->until;
        }
    }
    return next;
}

/* One step that does not leap beyond `limit`. */
static bool step_until(struct sim *sim, uint64_t limit)
{
    sim->steps++;
    while (sim->event_count > 0 && sim->events[0].time <= sim->now) {
        struct sim_event event = take_event(sim);
        sim->steps++;
        sim_network_event(sim, &event);
    }
    struct io *io = draw_runnable(sim);
    if (io != NULL) {
        run_turn(sim, io);
        return true;
    }
    uint64_t next = next_instant(sim);
    if (next == UINT64_MAX) {
        return false;
    }
    advance(sim, next < limit ? next : limit);
    return true;
}

bool sim_step(struct sim *sim)
{
    return step_until(sim, UINT64_MAX);
}

bool sim_run(struct sim *sim, uint64_t until, uint64_t steps_max)
{
    uint64_t steps_end = sim->steps + steps_max;
    while (sim->now < until) {
        if (sim->steps >= steps_end) {
            return false;
        }
        if (!step_until(sim, until)) {
            advance(sim, until == UINT64_MAX ? sim->now : until);
            break;
        }
    }
    return true;
}
