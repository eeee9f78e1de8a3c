#include "tunnel_peers.h"

#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"
#include "secure.h"

enum {
    PEER_PATIENCE = 100 * SECOND, /* without a byte read: longer than any timer between */
    BUFFERED_MAX = 8 * 1024,
    ACCEPTS_MAX = 4 * TUNNELS_MAX, /* an attempt that is lost may be followed by another */
};

struct peer {
    struct tunnel_peers *peers;
    struct io *io;
    struct prng prng;
    struct wire wire;
    struct secure secure; /* a client's, in a world that is */
    struct peer *other;   /* an origin's: known once the request has told its number */
    struct reader head;
    bool is_client;
    bool active; /* connected, or about to be */
    bool raw;    /* its peer's head is read, and its own sent */
    bool over;
    bool refused; /* the answer was no 101 */
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

struct tunnel_peers {
    const struct tunnel_manners *manners;
    struct world *world;
    uint32_t count;
    struct io *origin; /* all origins' peers share a node */
    struct io_socket listener;
    struct peer clients[TUNNELS_MAX];
    struct peer origins[ACCEPTS_MAX];
    uint32_t accepted;
};

/* Nothing between them may break. */
static bool is_calm(const struct tunnel_peers *peers)
{
    return peers->manners->calm && !fault_has_struck();
}

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
                "GET /tunnel HTTP/1.1\r\nHost: sim.test\r\nX-Number: %u\r\n"
                "Connection: upgrade\r\nUpgrade: toy\r\n\r\n",
                peer->number);
    if (sim_chance(&peer->prng, 500)) {
        push_raw(peer);
    }
}

/* False: there will be no tunnel, for a reason that the client was told. */
static bool on_head(struct peer *peer)
{
    struct tunnel_peers *peers = peer->peers;
    struct span number = reader_field(&peer->head, "X-Number");
    if (!peer->is_client) {
        peer->number = (uint32_t)digits_at(number, 0);
        peer->other = &peers->clients[peer->number];
        peer->other->other = peer;
        wire_printf(&peer->wire,
                    "HTTP/1.1 101 Switching Protocols\r\nX-Number: %u\r\n"
                    "Connection: Upgrade\r\nUpgrade: toy\r\n\r\n",
                    peer->number);
        peer->raw = true;
        return true;
    }
    bool granted = span_starts_with(reader_first_line(&peer->head), SPAN("HTTP/1.1 101 "));
    if (granted ? digits_at(number, 0) != peer->number : is_calm(peers)) {
        run_failed("tunnel %u got another answer", peer->number);
    }
    peer->raw = granted;
    return granted;
}

static void digest(struct peer *peer, struct span bytes)
{
    if (peer->refused) {
        return;
    }
    if (!peer->raw) {
        struct span none = SPAN_EMPTY;
        bytes = span_from(bytes, reader_feed(&peer->head, bytes.data, bytes.size, &none));
        if (peer->head.state != READER_HEAD_READY) {
            ASSERT(bytes.size == 0);
            return;
        }
        if (!on_head(peer)) {
            peer->refused = true;
            return;
        }
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

/*
 * Whoever reads a FIN has read all that was sent, unless something broke before, or whoever stands
 * between may end a tunnel by himself: in silence, in a drain, with a worker that is killed.
 */
static void check_end(const struct peer *peer)
{
    const struct tunnel_manners *manners = peer->peers->manners;
    if (!peer->fin_received || !peer->raw || manners->ends ||
        (manners->ends_silence && (peer->silent || peer->other->silent))) {
        return;
    }
    if (!peer->other->fin_sent || peer->received != peer->other->size) {
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
    bool calm = is_calm(peer->peers) && !quiet && peer->raw && !peer->other->silent &&
                peer->other->resets_at == UINT64_MAX;
    if (calm && !(peer->fin_sent && peer->fin_received)) {
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
        wire_shutdown(&peer->wire);
        (void)wire_pump(&peer->wire, UINT64_MAX);
        peer->fin_sent = wire_is_shut(&peer->wire);
    }
    check_end(peer);
    if (peer->produced + peer->received >= peer->resets_at) {
        bool cuts = peer->wire.secure != NULL && sim_chance(&peer->prng, 500);
        if (cuts) {
            secure_fall_silent(&peer->secure); /* a FIN follows that nobody has vouched for */
        }
        end_peer(peer, !cuts);
    } else if (!lives || peer->wire.failed || (peer->fin_received && peer->fin_sent) ||
               (peer->fin_received && !peer->raw)) {
        end_peer(peer, false);
    }
}

static void peer_init(struct peer *peer, struct tunnel_peers *peers, struct io *io)
{
    struct world *world = peers->world;
    peer->peers = peers;
    peer->io = io;
    prng_init(&peer->prng, prng_next(&world->prng));
    wire_init(&peer->wire, io);
    reader_reset(&peer->head);
    peer->size = sim_magnitude(&peer->prng, 1, world->habits.response_max) - 1;
    peer->silent = sim_chance(&peer->prng, 150);
    peer->listens = io == peers->origin && sim_chance(&peer->prng, 300);
    peer->resets_at = sim_chance(&peer->prng, world->habits.aborts)
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
        bool secured = secure_draw_good(peer->peers->world, &peer->prng, &peer->secure);
        peer->wire.secure = secured ? &peer->secure : NULL;
        (void)wire_connect(&peer->wire, &peer->peers->world->entry);
        push_request(peer);
    }
    if (peer->active) {
        talk(peer);
    }
}

static void origin_turn(void *context)
{
    struct tunnel_peers *peers = context;
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < peers->accepted; i++) {
        uint64_t end_at = patience_end(&peers->origins[i]);
        wake = end_at < wake ? end_at : wake;
    }
    io_wait(peers->origin, wake);
    while (io_next_ready(peers->origin) != NULL) {
    }
    while (peers->accepted < ACCEPTS_MAX) {
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

struct tunnel_peers *tunnel_peers_create(struct world *world, const struct address *origin,
                                         const struct tunnel_manners *manners)
{
    struct tunnel_peers *peers = calloc(1, sizeof(*peers));
    ASSERT(peers != NULL);
    peers->world = world;
    peers->manners = manners;
    peers->count = (uint32_t)sim_between(&world->prng, 1, TUNNELS_MAX);
    peers->origin = sim_node_create(world->sim, "tunnel-origin");
    io_socket_init(&peers->listener);
    enum status status =
        io_listen(peers->origin, &peers->listener, sim_listen(world->sim, origin), 0);
    ASSERT(status == OK);
    sim_node_run(peers->origin, origin_turn, peers);
    for (uint32_t i = 0; i < peers->count; i++) {
        struct peer *client = &peers->clients[i];
        peer_init(client, peers, sim_node_create(world->sim, "tunnel-client"));
        client->is_client = true;
        client->number = i;
        client->begin_at = sim_now(world->sim) + sim_magnitude(&client->prng, 1, 2 * SECOND);
        sim_node_run(client->io, client_turn, client);
    }
    for (uint32_t i = 0; i < ACCEPTS_MAX; i++) {
        peer_init(&peers->origins[i], peers, peers->origin);
    }
    return peers;
}

void tunnel_peers_destroy(struct tunnel_peers *peers)
{
    if (peers == NULL) {
        return;
    }
    for (uint32_t i = 0; i < peers->count; i++) {
        wire_deinit(&peers->clients[i].wire);
    }
    for (uint32_t i = 0; i < ACCEPTS_MAX; i++) {
        wire_deinit(&peers->origins[i].wire);
    }
    free(peers);
}

bool tunnel_peers_are_finished(const struct tunnel_peers *peers)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        if (!peers->clients[i].over) {
            return false;
        }
    }
    return true;
}
