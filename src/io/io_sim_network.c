/*
 * The simulated network: connections, the bytes on their way, and what arrives. Every arrival is an
 * event for one end; one direction never reorders, two connections often do.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "io/io_sim.h"

enum {
    RING_MIN = 1024,
    GROW_AFTER = 48, /* buffers' worth of bytes that doubles a buffer */
    SYN_TRIES_MAX = 6,
    LATE_MAX = 20000,    /* microseconds of a late wake-up */
    SYN_RETRY = 1000000, /* doubling */
};

static void pipe_init(struct sim *sim, struct sim_pipe *pipe)
{
    const struct sim_options *options = &sim->options;
    struct prng *prng = &sim->prng;
    *pipe = (struct sim_pipe){0};
    pipe->limit = (uint32_t)sim_magnitude(prng, options->buffer_min, options->buffer_max);
    pipe->segment = (uint32_t)sim_magnitude(
        prng, options->segment_min,
        pipe->limit < options->segment_min ? options->segment_min : pipe->limit);
    pipe->delay = sim_between(prng, options->delay_min, options->delay_max);
    pipe->last_arrival = sim->now;
    if (sim_chance(prng, options->slow_link)) {
        pipe->rate = sim_magnitude(prng, 1024, 64 * 1024);
    }
}

static void end_init(struct sim_connection *connection, struct sim_end *end, struct sim_end *peer)
{
    struct sim *sim = connection->sim;
    end->connection = connection;
    end->peer = peer;
    end->state = SIM_CONNECTING;
    list_init(&end->node_link);
    list_init(&end->pending_link);
    pipe_init(sim, &end->out);
    if (sim->end_count == sim->end_room) {
        sim->end_room = sim->end_room == 0 ? 64 : sim->end_room * 2;
        sim->ends = sim_allocate(sim->ends, sim->end_room, sizeof(struct sim_end *));
    }
    end->fd = (int)sim->end_count;
    sim->ends[sim->end_count++] = end;
    ASSERT(end->fd < SIM_FD_LISTENER);
}

struct sim_connection *sim_connection_create(struct sim *sim, struct io *client,
                                             const struct address *server)
{
    struct sim_connection *connection = sim_allocate(NULL, 1, sizeof(*connection));
    *connection = (struct sim_connection){.sim = sim};
    list_push_back(&sim->connections, &connection->link);
    list_init(&connection->backlog_link);
    end_init(connection, &connection->client, &connection->server);
    end_init(connection, &connection->server, &connection->client);
    connection->server.address = *server;
    connection->client.address = client->host;
    connection->client.address.port = sim->next_port;
    sim->next_port = sim->next_port == UINT16_MAX ? 10000 : (uint16_t)(sim->next_port + 1);
    bool breaks = sim_chance(&sim->prng, sim->options.reset);
    bool stalls = !breaks && sim_chance(&sim->prng, sim->options.stall);
    if (breaks || stalls) {
        uint64_t within = sim_magnitude(&sim->prng, 1, sim->options.trouble_within);
        sim_schedule(&connection->client, sim->now + within, SIM_TROUBLE, stalls ? 1 : 0);
    }
    return connection;
}

static void free_rings(struct sim_connection *connection)
{
    free(connection->client.out.ring);
    free(connection->server.out.ring);
    connection->client.out.ring = NULL;
    connection->server.out.ring = NULL;
}

void sim_connection_free(struct sim_connection *connection)
{
    free_rings(connection);
    free(connection);
}

struct sim_listener *sim_find_listener(struct sim *sim, const struct address *address)
{
    for (uint32_t i = 0; i < sim->listener_count; i++) {
        if (address_equal(&sim->listeners[i].address, address)) {
            return &sim->listeners[i];
        }
    }
    return NULL;
}

unsigned sim_end_level(const struct sim_end *end)
{
    const struct sim_pipe *in = &end->peer->out;
    if (end->failed != 0) {
        return IO_READABLE | IO_WRITABLE | IO_PEER_CLOSED | IO_FAILED;
    }
    if (end->state != SIM_OPEN) {
        return 0;
    }
    unsigned level = 0;
    if (in->readable > 0 || in->fin_arrived) {
        level |= IO_READABLE;
    }
    if (in->fin_arrived) {
        level |= IO_PEER_CLOSED;
    }
    if (!end->out.starved && sim_pipe_room(&end->out) > 0) {
        level |= IO_WRITABLE;
    }
    if (in->fin_arrived && end->out.fin_sent) {
        level |= IO_FAILED | IO_WRITABLE; /* Linux: EPOLLHUP once both directions are shut */
    }
    return level;
}

void sim_end_edge(struct sim_end *end)
{
    if (end->socket != NULL && !list_is_linked(&end->pending_link)) {
        list_push_back(&end->node->pending, &end->pending_link);
    }
}

uint32_t sim_pipe_room(const struct sim_pipe *pipe)
{
    uint32_t used = pipe->readable + pipe->flying;
    return used >= pipe->limit ? 0 : pipe->limit - used;
}

/* Makes the ring hold at least `need` bytes, moving what it has to its front. */
static void ring_reserve(struct sim_pipe *pipe, uint32_t need)
{
    if (need <= pipe->ring_size) {
        return;
    }
    uint32_t size = pipe->ring_size == 0 ? RING_MIN : pipe->ring_size;
    while (size < need) {
        size *= 2;
    }
    uint8_t *ring = sim_allocate(NULL, size, 1);
    uint32_t used = pipe->readable + pipe->flying;
    uint32_t straight = pipe->ring_size - pipe->head;
    uint32_t first = used < straight ? used : straight;
    if (used > 0) {
        memcpy(ring, pipe->ring + pipe->head, first);
        memcpy(ring + first, pipe->ring, used - first);
    }
    free(pipe->ring);
    pipe->ring = ring;
    pipe->ring_size = size;
    pipe->head = 0;
}

static void ring_append(struct sim_pipe *pipe, const uint8_t *bytes, uint32_t size)
{
    uint32_t used = pipe->readable + pipe->flying;
    ring_reserve(pipe, used + size);
    uint32_t tail = (pipe->head + used) % pipe->ring_size;
    uint32_t straight = pipe->ring_size - tail;
    uint32_t first = size < straight ? size : straight;
    memcpy(pipe->ring + tail, bytes, first);
    memcpy(pipe->ring, bytes + first, size - first);
}

/* When a piece of this size, sent now, arrives: never before the one sent last. */
static uint64_t arrival_time(struct sim *sim, struct sim_pipe *pipe, uint32_t size)
{
    uint64_t arrival = sim->now + pipe->delay + sim_between(&sim->prng, 0, pipe->delay / 4);
    if (arrival < pipe->last_arrival) {
        arrival = pipe->last_arrival;
    }
    if (pipe->rate > 0) {
        arrival += (uint64_t)size * 1000000 / pipe->rate;
    }
    pipe->last_arrival = arrival;
    return arrival;
}

static void grow(struct sim_pipe *pipe, uint32_t buffer_max)
{
    if (pipe->carried / GROW_AFTER >= pipe->limit && pipe->limit < buffer_max) {
        pipe->limit = pipe->limit * 2 < buffer_max ? pipe->limit * 2 : buffer_max;
    }
    if (pipe->carried / GROW_AFTER >= pipe->segment && pipe->segment < buffer_max) {
        pipe->segment *= 2;
    }
}

void sim_end_send(struct sim_end *end, const uint8_t *bytes, uint32_t size)
{
    struct sim *sim = end->connection->sim;
    struct sim_pipe *pipe = &end->out;
    ASSERT(size > 0 && size <= sim_pipe_room(pipe));
    ASSERT(!pipe->fin_sent);
    ring_append(pipe, bytes, size);
    pipe->flying += size;
    pipe->carried += size;
    sim_record(sim, "send", end, size);
    uint32_t left = size;
    while (left > 0) {
        uint32_t most = left < pipe->segment ? left : pipe->segment;
        uint32_t piece = most;
        if (sim_chance(&sim->prng, sim->options.split)) {
            piece = (uint32_t)sim_between(&sim->prng, 1, most);
        }
        sim_schedule(end->peer, arrival_time(sim, pipe, piece), SIM_DATA, piece);
        left -= piece;
    }
    grow(pipe, sim->options.buffer_max);
}

/* Tells a starved writer of room, once there is enough. */
static void wake_writer(struct sim_end *writer)
{
    struct sim *sim = writer->connection->sim;
    struct sim_pipe *pipe = &writer->out;
    if (!pipe->starved || pipe->wake_due || sim_pipe_room(pipe) < pipe->wake_at) {
        return;
    }
    uint64_t time = sim->now + pipe->delay;
    if (sim_chance(&sim->prng, sim->options.late_writable)) {
        time += sim_between(&sim->prng, 1, LATE_MAX);
    }
    pipe->wake_due = true;
    sim_schedule(writer, time, SIM_SPACE, 0);
}

void sim_end_starve(struct sim_end *end)
{
    struct sim_pipe *pipe = &end->out;
    uint32_t third = pipe->limit / 3 > 0 ? pipe->limit / 3 : 1;
    pipe->starved = true;
    pipe->wake_at = (uint32_t)sim_between(&end->connection->sim->prng, 1, third);
    wake_writer(end);
}

uint32_t sim_end_peek(const struct sim_end *end, uint8_t *bytes, uint32_t size)
{
    const struct sim_pipe *pipe = &end->peer->out;
    uint32_t seen = size < pipe->readable ? size : pipe->readable;
    ASSERT(seen > 0);
    uint32_t straight = pipe->ring_size - pipe->head;
    uint32_t first = seen < straight ? seen : straight;
    memcpy(bytes, pipe->ring + pipe->head, first);
    memcpy(bytes + first, pipe->ring, seen - first);
    return seen;
}

uint32_t sim_end_receive(struct sim_end *end, uint8_t *bytes, uint32_t size)
{
    struct sim_pipe *pipe = &end->peer->out;
    uint32_t taken = sim_end_peek(end, bytes, size);
    pipe->head = (pipe->head + taken) % pipe->ring_size;
    pipe->readable -= taken;
    wake_writer(end->peer);
    return taken;
}

void sim_end_send_fin(struct sim_end *end)
{
    struct sim *sim = end->connection->sim;
    struct sim_pipe *pipe = &end->out;
    if (pipe->fin_sent || end->failed != 0) {
        return;
    }
    pipe->fin_sent = true;
    uint64_t time = pipe->last_arrival;
    if (pipe->flying == 0 || time < sim->now || sim_chance(&sim->prng, sim->options.fin_alone)) {
        time = arrival_time(sim, pipe, 0);
    }
    pipe->last_arrival = time;
    sim_record(sim, "fin", end, 0);
    sim_schedule(end->peer, time, SIM_FIN, 0);
}

/* A reset comes after the bytes before it, or overtakes them (they are lost then). */
void sim_end_send_reset(struct sim_end *end)
{
    struct sim *sim = end->connection->sim;
    uint64_t time = sim->now + end->out.delay;
    if (time < end->out.last_arrival && sim_chance(&sim->prng, 500)) {
        time = end->out.last_arrival;
    }
    sim_record(sim, "reset", end, 0);
    sim_schedule(end->peer, time, SIM_RESET, sim_chance(&sim->prng, 500) ? 1 : 0);
}

void sim_end_close(struct sim_end *end, bool abrupt)
{
    bool unread = end->peer->out.readable > 0;
    bool spoke = end->state == SIM_OPEN && end->failed == 0;
    if (spoke && (abrupt || unread)) {
        sim_end_send_reset(end);
    } else if (spoke) {
        sim_end_send_fin(end);
    }
    end->state = SIM_CLOSED;
    end->peer->out.readable = 0;
    if (end->peer->state == SIM_CLOSED) {
        free_rings(end->connection);
    }
}

/* ---- what arrives ---- */

static void break_end(struct sim_end *end, int error, bool lose_unread)
{
    if (end->state == SIM_CLOSED || end->failed != 0) {
        return;
    }
    end->failed = error;
    if (lose_unread) {
        end->peer->out.readable = 0;
    }
    sim_end_edge(end);
}

bool sim_handshake(struct sim_connection *connection)
{
    struct sim *sim = connection->sim;
    struct sim_listener *listener = sim_find_listener(sim, &connection->server.address);
    if (listener == NULL || listener->closed || listener->waiting >= sim->options.backlog) {
        return false;
    }
    connection->listener = listener;
    list_push_back(&listener->backlog, &connection->backlog_link);
    listener->waiting++;
    connection->server.state = SIM_OPEN;
    connection->server.out.last_arrival = sim->now + connection->server.out.delay;
    return true;
}

static void on_syn(struct sim *sim, struct sim_end *server, uint32_t tries)
{
    struct sim_end *client = server->peer;
    struct sim_listener *listener = sim_find_listener(sim, &server->address);
    uint64_t answer = sim->now + server->out.delay;
    if (listener == NULL || listener->closed || tries == UINT32_MAX) {
        server->state = SIM_CLOSED;
        sim_schedule(client, answer, SIM_REFUSED, ECONNREFUSED);
    } else if (sim_handshake(server->connection)) {
        sim_schedule(client, answer, SIM_CONNECTED, 0);
    } else if (tries < SYN_TRIES_MAX) {
        sim_schedule(server, sim->now + ((uint64_t)SYN_RETRY << tries), SIM_SYN, tries + 1);
    } else {
        server->state = SIM_CLOSED;
        sim_schedule(client, answer, SIM_REFUSED, ETIMEDOUT);
    }
}

static void on_connected(struct sim *sim, struct sim_end *client)
{
    if (client->state == SIM_CLOSED) {
        sim_schedule(client->peer, sim->now + client->out.delay, SIM_RESET, 1);
        return;
    }
    if (client->failed == 0) {
        client->state = SIM_OPEN;
        sim_end_edge(client);
    }
}

static void on_data(struct sim *sim, struct sim_end *end, uint32_t amount)
{
    struct sim_pipe *in = &end->peer->out;
    ASSERT(in->flying >= amount);
    in->flying -= amount;
    if (end->failed != 0) {
        return;
    }
    if (end->state == SIM_CLOSED) {
        /* Nobody reads any more: the kernel answers with a reset. */
        sim_schedule(end->peer, sim->now + end->out.delay, SIM_RESET,
                     sim_chance(&sim->prng, 500) ? 1 : 0);
        return;
    }
    in->readable += amount;
    sim_end_edge(end);
}

static void on_space(struct sim_end *end)
{
    end->out.wake_due = false;
    if (sim_pipe_room(&end->out) >= end->out.wake_at) {
        end->out.starved = false;
        sim_end_edge(end);
    }
    /* Else a spurious bit let the writer fill it up again; the next read wakes it. */
}

static void on_trouble(struct sim *sim, struct sim_connection *connection, bool stall)
{
    sim_record(sim, stall ? "stall" : "break", &connection->client, 0);
    if (stall) {
        connection->stalled = true;
        return;
    }
    break_end(&connection->client, ECONNRESET, sim_chance(&sim->prng, 500));
    break_end(&connection->server, ECONNRESET, sim_chance(&sim->prng, 500));
}

static const char *event_name(enum sim_event_kind kind)
{
    switch (kind) {
    case SIM_SYN:
        return "< syn";
    case SIM_CONNECTED:
        return "< connected";
    case SIM_REFUSED:
        return "< refused";
    case SIM_DATA:
        return "< data";
    case SIM_FIN:
        return "< fin";
    case SIM_RESET:
        return "< reset";
    case SIM_SPACE:
        return "< space";
    case SIM_TROUBLE:
        return "< trouble";
    }
    UNREACHABLE("an event of no kind");
}

void sim_network_event(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *end = event->end;
    if (end->connection->stalled) {
        return;
    }
    sim_record(sim, event_name(event->kind), end, event->amount);
    switch (event->kind) {
    case SIM_SYN:
        on_syn(sim, end, event->amount);
        break;
    case SIM_CONNECTED:
        on_connected(sim, end);
        break;
    case SIM_REFUSED:
        break_end(end, (int)event->amount, true);
        break;
    case SIM_DATA:
        on_data(sim, end, event->amount);
        break;
    case SIM_FIN:
        end->peer->out.fin_arrived = true;
        sim_end_edge(end);
        break;
    case SIM_RESET:
        break_end(end, ECONNRESET, event->amount == 1);
        break;
    case SIM_SPACE:
        on_space(end);
        break;
    case SIM_TROUBLE:
        on_trouble(sim, end->connection, event->amount == 1);
        break;
    }
}
