/*
 * The story of a tunnel: a client asks for one, its origin grants it with a toy 101, and from then
 * on each direction is a lane of raw bytes that ends for itself. Both peers may send their first
 * raw bytes together with their head; both may stop speaking, and either network may break.
 */
#include <stdalign.h>
#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"
#include "proxy/lane.h"
#include "seam.h"

enum {
    TUNNELS_MAX = 8,
    IDLE_TIMEOUT = 15 * SECOND,
    PEER_PATIENCE = 100 * SECOND, /* without a byte read: longer than any timer between */
    ARENA_SIZE = 24 * 1024,
    BUFFERED_MAX = 8 * 1024,
};

/* ---- the node between: two streams, two lanes ---- */

enum tunnel_step { TUNNEL_REQUEST, TUNNEL_CONNECT, TUNNEL_ANSWER, TUNNEL_GRANT, TUNNEL_OPEN };

struct tunnel_lane {
    struct stream_sink sink;
    struct lane lane;
};

struct tunnel {
    struct seam_task task;
    struct stream *client;
    struct stream *upstream;
    enum tunnel_step step;
    bool over;
    uint64_t moved;
    uint64_t deadline;
    struct tunnel_lane up;
    struct tunnel_lane down;
    struct request_head request;
    struct response_head response;
    struct arena arena;
    alignas(max_align_t) uint8_t memory[ARENA_SIZE];
};

static const struct switching TOY = {.protocol = {(const uint8_t *)"toy", 3}};

static void finish(struct tunnel *tunnel, bool whole)
{
    struct seam *seam = tunnel->task.seam;
    sim_note(seam->io, "the tunnel ends: %s, %llu up, %llu down", whole ? "whole" : "cut off",
             (unsigned long long)tunnel->up.lane.bytes,
             (unsigned long long)tunnel->down.lane.bytes);
    lane_abort(&tunnel->up.lane);
    lane_abort(&tunnel->down.lane);
    if (tunnel->upstream != NULL) {
        seam_release(seam, tunnel->upstream, false);
    }
    seam_release(seam, tunnel->client, false);
    seam_task_deinit(&tunnel->task);
    tunnel->over = true;
}

static void open_direction(struct tunnel_lane *direction, struct stream *from, struct stream *to,
                           enum reason failure)
{
    struct source source = lane_stream_source(from);
    source.trailers = NULL;
    direction->sink = (struct stream_sink){.stream = to, .failure = failure};
    const struct sink sink = lane_stream_sink(&direction->sink);
    lane_open(&direction->lane, &source, &sink);
}

static enum status read_request(struct tunnel *tunnel)
{
    const struct address address = origin_address(0);
    enum reason reason = REASON_NONE;
    enum status status = tunnel->client->ops->read_request(tunnel->client, &tunnel->arena,
                                                           &tunnel->request, &reason);
    if (status != OK) {
        return status;
    }
    tunnel->upstream = seam_connect(tunnel->task.seam, &address, &tunnel->task);
    return tunnel->upstream == NULL ? ERROR : OK;
}

static enum status send_request(struct tunnel *tunnel)
{
    enum status status = seam_connected(tunnel->upstream);
    if (status != OK) {
        return status;
    }
    const struct request_message message = {
        .method = tunnel->request.method_text,
        .path = tunnel->request.path,
        .host = tunnel->request.host,
        .fields = &tunnel->request.fields,
        .framing = FRAMING_TUNNEL,
        .switching = &TOY,
    };
    return tunnel->upstream->ops->write_request(tunnel->upstream, &message);
}

static enum status read_answer(struct tunnel *tunnel)
{
    enum reason reason = REASON_NONE;
    if (tunnel->upstream->ops->flush(tunnel->upstream) == ERROR) {
        return ERROR;
    }
    enum status status = tunnel->upstream->ops->read_response(
        tunnel->upstream, &tunnel->arena, METHOD_GET, &tunnel->response, &reason);
    ASSERT(status != OK ||
           (tunnel->response.status == 101 && tunnel->response.framing == FRAMING_TUNNEL));
    return status;
}

static enum status grant(struct tunnel *tunnel)
{
    const struct response_message message = {.status = 101,
                                             .fields = &tunnel->response.fields,
                                             .framing = FRAMING_TUNNEL,
                                             .switching = &TOY};
    enum status status = tunnel->client->ops->write_response(tunnel->client, &message);
    if (status != OK) {
        return status;
    }
    open_direction(&tunnel->up, tunnel->client, tunnel->upstream, REASON_UPSTREAM_CLOSED);
    open_direction(&tunnel->down, tunnel->upstream, tunnel->client, REASON_CLIENT_CLOSED);
    return OK;
}

static enum status run_direction(struct tunnel *tunnel, struct tunnel_lane *direction)
{
    enum reason reason = REASON_NONE;
    if (!lane_is_active(&direction->lane)) {
        return END;
    }
    enum status status = lane_run(&direction->lane, &reason);
    if (status == OK) {
        seam_wake(&tunnel->task);
    }
    return status;
}

/* END: both directions are through. */
static enum status carry(struct tunnel *tunnel)
{
    enum status up = run_direction(tunnel, &tunnel->up);
    enum status down = run_direction(tunnel, &tunnel->down);
    if (up == ERROR || down == ERROR) {
        return ERROR;
    }
    return up == END && down == END ? END : AGAIN;
}

static enum status run_step(struct tunnel *tunnel)
{
    switch (tunnel->step) {
    case TUNNEL_REQUEST:
        return read_request(tunnel);
    case TUNNEL_CONNECT:
        return send_request(tunnel);
    case TUNNEL_ANSWER:
        return read_answer(tunnel);
    case TUNNEL_GRANT:
        return grant(tunnel);
    case TUNNEL_OPEN:
        return carry(tunnel);
    }
    UNREACHABLE("a tunnel in no step");
}

static void set_deadline(struct tunnel *tunnel)
{
    struct seam *seam = tunnel->task.seam;
    uint64_t moved = tunnel->client->progress_out + tunnel->up.lane.bytes + tunnel->down.lane.bytes;
    moved += tunnel->upstream == NULL ? 0 : tunnel->upstream->progress_out;
    if (moved != tunnel->moved || tunnel->deadline == 0) {
        tunnel->moved = moved;
        tunnel->deadline = io_now(seam->io) + IDLE_TIMEOUT;
    }
    timer_set(&seam->wheel, &tunnel->task.timer, tunnel->deadline);
}

static void run(struct seam_task *task)
{
    struct tunnel *tunnel = CONTAINER_OF(task, struct tunnel, task);
    enum status status = OK;
    while (status == OK) {
        status = run_step(tunnel);
        tunnel->step += status == OK;
    }
    if (status == AGAIN) {
        if (tunnel->client->starved || (tunnel->upstream != NULL && tunnel->upstream->starved)) {
            seam_wait_for_buffers(task);
        }
        set_deadline(tunnel);
        return;
    }
    finish(tunnel, status == END);
    free(tunnel);
}

static void expire(struct seam_task *task)
{
    struct tunnel *tunnel = CONTAINER_OF(task, struct tunnel, task);
    finish(tunnel, false);
    free(tunnel);
}

static void begin_tunnel(struct seam *seam, struct stream *stream)
{
    struct tunnel *tunnel = calloc(1, sizeof(*tunnel));
    ASSERT(tunnel != NULL);
    tunnel->task.run = run;
    tunnel->task.expire = expire;
    seam_task_init(&tunnel->task, seam);
    arena_init(&tunnel->arena, tunnel->memory, sizeof(tunnel->memory));
    tunnel->client = stream;
    stream->holder = &tunnel->task;
    seam_wake(&tunnel->task);
}

/* ---- the peers: one speaks as a client, one as an origin, and then they are alike ---- */

struct peer {
    struct seam *seam;
    struct io *io;
    struct prng prng;
    struct wire wire;
    struct peer *other; /* an origin's: known once the request has told its number */
    struct reader head;
    bool is_client;
    bool active; /* connected, or about to be */
    bool raw;    /* its peer's head is read, and its own sent */
    bool over;
    uint32_t number;
    uint64_t size; /* it will send */
    uint64_t produced;
    uint64_t received;
    bool fin_sent;
    bool fin_received;
    bool listens;       /* sends only when the other has ended: needs its FIN */
    bool silent;        /* sends no FIN and nothing else at its end */
    uint64_t resets_at; /* of its bytes; UINT64_MAX: never */
    uint64_t begin_at;
    uint64_t progress_at;
};

struct peers {
    uint32_t count;
    struct io *origin; /* all origins' peers share a node */
    struct io_socket listener;
    struct peer clients[TUNNELS_MAX];
    struct peer origins[TUNNELS_MAX];
    uint32_t accepted;
};

static enum side side_of(const struct peer *peer)
{
    return peer->is_client ? SIDE_REQUEST : SIDE_RESPONSE;
}

static void push_raw(struct peer *peer)
{
    uint8_t bytes[1024];
    while (peer->produced < peer->size && wire_unsent(&peer->wire) < BUFFERED_MAX) {
        uint64_t left = peer->size - peer->produced;
        size_t piece = (size_t)sim_magnitude(&peer->prng, 1, sizeof(bytes));
        piece = piece < left ? piece : (size_t)left;
        payload_fill(peer->number, side_of(peer), peer->produced, bytes, piece);
        wire_push(&peer->wire, bytes, piece);
        peer->produced += piece;
    }
}

/* An impatient client sends raw bytes before it knows whether it may. */
static void push_request(struct peer *peer)
{
    wire_printf(&peer->wire,
                "GET /tunnel HTTP/1.1\r\nHost: sim.test\r\nX-Number: %u\r\nUpgrade: toy\r\n\r\n",
                peer->number);
    if (sim_chance(&peer->prng, 500)) {
        push_raw(peer);
    }
}

static void on_head(struct peer *peer)
{
    struct peers *peers = peer->seam->actors;
    struct span number = reader_field(&peer->head, "X-Number");
    if (!peer->is_client) {
        peer->number = (uint32_t)digits_at(number, 0);
        peer->other = &peers->clients[peer->number];
        peer->other->other = peer;
        wire_printf(&peer->wire, "HTTP/1.1 101 Switching Protocols\r\nX-Number: %u\r\n\r\n",
                    peer->number);
    } else if (!span_starts_with(reader_first_line(&peer->head), SPAN("HTTP/1.1 101 ")) ||
               digits_at(number, 0) != peer->number) {
        run_failed("tunnel %u got another answer", peer->number);
    }
    peer->raw = true;
}

static void digest(struct peer *peer, struct span bytes)
{
    if (!peer->raw) {
        struct span none = SPAN_EMPTY;
        bytes = span_from(bytes, reader_feed(&peer->head, bytes.data, bytes.size, &none));
        if (peer->head.state != READER_HEAD_READY) {
            ASSERT(bytes.size == 0);
            return;
        }
        on_head(peer);
    }
    enum side side = peer->is_client ? SIDE_RESPONSE : SIDE_REQUEST;
    payload_verify(peer->number, side, peer->received, bytes);
    peer->received += bytes.size;
}

static bool receive(struct peer *peer)
{
    uint8_t bytes[2048];
    enum { READS = 16 };
    for (int i = 0; i < READS && !peer->fin_received; i++) {
        size_t got = 0;
        enum status status = wire_read(&peer->wire, bytes, sizeof(bytes), &got);
        if (status == AGAIN || status == ERROR) {
            return status == AGAIN;
        }
        if (status == END) {
            peer->fin_received = true;
        } else {
            digest(peer, span_of(bytes, got));
        }
        peer->progress_at = io_now(peer->io);
    }
    if (!peer->fin_received) {
        io_requeue(peer->io, &peer->wire.socket);
    }
    return true;
}

/* Whoever reads a FIN has read all that was sent, unless something broke before. */
static void check_end(const struct peer *peer)
{
    if (peer->fin_received && peer->raw &&
        (!peer->other->fin_sent || peer->received != peer->other->size)) {
        run_failed("tunnel %u: %s read its end after %llu of %llu bytes", peer->number,
                   peer->is_client ? "the client" : "the origin",
                   (unsigned long long)peer->received, (unsigned long long)peer->other->size);
    }
}

static void end_peer(struct peer *peer, bool abruptly)
{
    wire_close(&peer->wire, abruptly);
    peer->active = false;
    peer->over = true;
    bool quiet = peer->silent || peer->resets_at != UINT64_MAX;
    bool calm = peer->seam->manners.calm && !quiet && peer->raw && !peer->other->silent &&
                peer->other->resets_at == UINT64_MAX;
    if (calm && !fault_has_struck() && !(peer->fin_sent && peer->fin_received)) {
        run_failed("tunnel %u broke though nobody had broken it", peer->number);
    }
    sim_note(peer->io, "tunnel %u: %s has ended, %llu bytes read", peer->number,
             peer->is_client ? "the client" : "the origin", (unsigned long long)peer->received);
}

static void talk(struct peer *peer)
{
    bool waits = io_now(peer->io) < peer->progress_at + PEER_PATIENCE;
    if (!wire_is_connected(&peer->wire)) {
        if (peer->wire.failed || !waits) {
            end_peer(peer, false);
        }
        return;
    }
    bool lives = receive(peer) && waits;
    size_t sent = peer->fin_sent ? 0 : 1;
    while (sent > 0) {
        if (peer->raw && (!peer->listens || peer->fin_received)) {
            push_raw(peer);
        }
        sent = wire_pump(&peer->wire, UINT64_MAX);
    }
    bool all = peer->raw && peer->produced == peer->size && wire_unsent(&peer->wire) == 0;
    if (all && !peer->silent && !peer->fin_sent && !peer->wire.failed) {
        io_shutdown(peer->io, &peer->wire.socket);
        peer->fin_sent = true;
    }
    check_end(peer);
    if (peer->produced + peer->received >= peer->resets_at) {
        end_peer(peer, true);
    } else if (!lives || peer->wire.failed || (peer->fin_received && peer->fin_sent) ||
               (peer->fin_received && !peer->raw)) {
        end_peer(peer, false);
    }
}

static void peer_init(struct peer *peer, struct seam *seam, struct io *io)
{
    peer->seam = seam;
    peer->io = io;
    prng_init(&peer->prng, prng_next(&seam->prng));
    wire_init(&peer->wire, io);
    reader_reset(&peer->head);
    peer->size = sim_magnitude(&peer->prng, 1, seam->world->habits.response_max) - 1;
    peer->silent = sim_chance(&peer->prng, 150);
    peer->listens = io == ((struct peers *)seam->actors)->origin && sim_chance(&peer->prng, 300);
    peer->resets_at = sim_chance(&peer->prng, seam->world->habits.aborts)
                          ? sim_magnitude(&peer->prng, 1, 20000)
                          : UINT64_MAX;
}

static uint64_t patience_end(const struct peer *peer)
{
    return peer->active ? peer->progress_at + PEER_PATIENCE : UINT64_MAX;
}

static void client_turn(void *context)
{
    struct peer *peer = context;
    bool waits = !peer->active && !peer->over;
    io_wait(peer->io, waits ? peer->begin_at : patience_end(peer));
    while (io_next_ready(peer->io) != NULL) {
    }
    if (waits && io_now(peer->io) >= peer->begin_at) {
        peer->active = true;
        peer->progress_at = io_now(peer->io);
        (void)wire_connect(&peer->wire, &peer->seam->world->entry);
        push_request(peer);
    }
    if (peer->active) {
        talk(peer);
    }
}

static void origin_turn(void *context)
{
    struct peers *peers = context;
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < peers->accepted; i++) {
        uint64_t end_at = patience_end(&peers->origins[i]);
        wake = end_at < wake ? end_at : wake;
    }
    io_wait(peers->origin, wake);
    while (io_next_ready(peers->origin) != NULL) {
    }
    while (peers->accepted < peers->count) {
        struct peer *peer = &peers->origins[peers->accepted];
        struct address address;
        if (io_accept(peers->origin, &peers->listener, &peer->wire.socket, 1, &address) != OK) {
            break;
        }
        peer->active = peer->wire.connected = true;
        peer->progress_at = io_now(peers->origin);
        peers->accepted++;
    }
    for (uint32_t i = 0; i < peers->accepted; i++) {
        if (peers->origins[i].active) {
            talk(&peers->origins[i]);
        }
    }
}

static void begin(struct seam *seam)
{
    struct peers *peers = calloc(1, sizeof(*peers));
    ASSERT(peers != NULL);
    seam->actors = peers;
    peers->count = (uint32_t)sim_between(&seam->prng, 1, TUNNELS_MAX);
    peers->origin = sim_node_create(seam->world->sim, "tunnel-origin");
    io_socket_init(&peers->listener);
    const struct address address = origin_address(0);
    enum status status =
        io_listen(peers->origin, &peers->listener, sim_listen(seam->world->sim, &address), 0);
    ASSERT(status == OK);
    sim_node_run(peers->origin, origin_turn, peers);
    for (uint32_t i = 0; i < peers->count; i++) {
        struct peer *client = &peers->clients[i];
        peer_init(client, seam, sim_node_create(seam->world->sim, "tunnel-client"));
        client->is_client = true;
        client->number = i;
        client->begin_at = sim_now(seam->world->sim) + sim_magnitude(&client->prng, 1, 2 * SECOND);
        sim_node_run(client->io, client_turn, client);
        peer_init(&peers->origins[i], seam, peers->origin);
    }
}

static void end(struct seam *seam)
{
    struct peers *peers = seam->actors;
    for (uint32_t i = 0; i < peers->count; i++) {
        wire_deinit(&peers->clients[i].wire);
        wire_deinit(&peers->origins[i].wire);
    }
    free(peers);
}

static bool is_finished(const struct seam *seam)
{
    const struct peers *peers = seam->actors;
    for (uint32_t i = 0; i < peers->count; i++) {
        if (!peers->clients[i].over) {
            return false;
        }
    }
    return true;
}

const struct seam_story seam_tunnel = {
    .begin = begin,
    .end = end,
    .is_finished = is_finished,
    .session_create = seam_http1_create,
    .session_start = seam_http1_start,
    .head = begin_tunnel,
};
