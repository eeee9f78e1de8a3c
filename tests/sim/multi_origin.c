/* What an origin of HTTP/2 does with its connections, and what it hears on them. */
#include <stdlib.h>

#include "base/assert.h"
#include "multi.h"
#include "origin.h"

enum {
    READS_MAX = 32, /* in one turn of a connection */
    GOODBYE_TIME = 2 * SECOND,
};

static const uint32_t ALL_STREAMS = INT32_MAX;

/* ---- What is heard ---- */

static struct multi_connection *connection_of(struct peer *peer)
{
    return CONTAINER_OF(peer->wire, struct multi_connection, wire);
}

static bool read_verb(struct span method, enum verb *verb)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        if (span_equal(method, span_of_string(verb_name((enum verb)i)))) {
            *verb = (enum verb)i;
            return true;
        }
    }
    return false;
}

static void check_fields(const struct peer *peer, uint32_t number)
{
    struct span mark = peer_value(peer, "x-number");
    if (digits_at(mark, 0) != number) {
        run_failed("exchange %u arrived with the fields of %.*s", number, SPAN_ARGS(mark));
    }
    if (peer_value(peer, "via").data == NULL || peer_value(peer, ":authority").data == NULL ||
        peer_value(peer, "x-forwarded-for").data == NULL) {
        run_failed("exchange %u reached an origin without Via, authority or X-Forwarded-For",
                   number);
    }
}

static struct multi_response *read_request(struct peer *peer)
{
    struct multi_response *response = calloc(1, sizeof(*response));
    struct span path = peer_value(peer, ":path");
    ASSERT(response != NULL);
    if (!read_verb(peer_value(peer, ":method"), &response->verb) ||
        !span_starts_with(path, SPAN("/x/")) ||
        !span_equal(peer_value(peer, ":scheme"), SPAN("http"))) {
        run_failed("an origin got a request for \"%.*s\"", SPAN_ARGS(path));
    }
    response->number = (uint32_t)digits_at(path, 3);
    response->expects = peer_value(peer, "expect").data != NULL;
    check_fields(peer, response->number);
    return response;
}

static struct ledger *ledger_of(struct multi_connection *connection)
{
    return &connection->origin->world->ledger;
}

static void refuse(struct multi_connection *connection, const struct multi_response *response,
                   const char *how)
{
    sim_note(connection->origin->io, "exchange %u is %s unseen", response->number, how);
    ledger_refused(ledger_of(connection), response->number, response->verb);
}

/* A request is refused by a reset at most once where everything is to be answered. */
static bool draws_refusal(struct multi_connection *connection, uint32_t number)
{
    const struct habits *habits = &connection->origin->world->habits;
    bool before = ledger_get(ledger_of(connection), number)->refusals > 0;
    return !(habits->strict && before) &&
           sim_chance(&connection->origin->prng, habits->multi.refuses);
}

static void on_head(struct peer *peer, struct peer_stream *stream)
{
    struct multi_connection *connection = connection_of(peer);
    struct multi_origin *origin = connection->origin;
    if (stream->final_head) {
        run_failed("a request came with trailers, which it is not sent with");
    }
    struct multi_response *response = read_request(peer);
    stream->owner = response;
    if (stream->excluded) {
        refuse(connection, response, "excluded");
        return;
    }
    if (draws_refusal(connection, response->number)) {
        refuse(connection, response, "refused");
        peer_push_reset(peer, stream, NGHTTP2_REFUSED_STREAM);
        return;
    }
    response->take_at = io_now(origin->io);
    if (sim_chance(&origin->prng, origin->world->habits.multi.holds)) {
        response->take_at += sim_magnitude(&origin->prng, 1, 2 * SECOND);
    }
}

static void on_data(struct peer *peer, struct peer_stream *stream, struct span bytes)
{
    struct multi_connection *connection = connection_of(peer);
    struct multi_response *response = multi_response_of(stream);
    const struct ledger_exchange *exchange = ledger_get(ledger_of(connection), response->number);
    if (exchange->request_size != LEDGER_NEVER_COMPLETE) {
        payload_verify(response->number, SIDE_REQUEST, response->body_in, bytes);
    }
    response->body_in += bytes.size;
}

static void on_ended(struct peer *peer, struct peer_stream *stream)
{
    struct multi_connection *connection = connection_of(peer);
    struct multi_response *response = multi_response_of(stream);
    response->body_whole = true;
    ledger_body_arrived(ledger_of(connection), response->number, response->body_in);
}

static void on_reset(struct peer *peer, struct peer_stream *stream, uint32_t code)
{
    sim_note(connection_of(peer)->origin->io, "exchange %u was reset with %u",
             multi_response_of(stream)->number, code);
}

static void on_goaway(struct peer *peer, uint32_t last)
{
    (void)peer, (void)last;
}

static const struct peer_ops OPS = {
    .head = on_head, .data = on_data, .ended = on_ended, .reset = on_reset, .goaway = on_goaway};

/* ---- A connection ---- */

static void take(struct multi_connection *connection, struct peer_stream *stream)
{
    struct multi_response *response = multi_response_of(stream);
    response->taken = true;
    response->attempt = ledger_arrived(ledger_of(connection), response->number, response->verb);
    if (stream->id > connection->last_taken) {
        connection->last_taken = stream->id;
    }
    multi_origin_plan(connection, response);
    if (response->expects && !response->early && !stream->in_ended &&
        sim_chance(&connection->origin->prng, 800)) {
        peer_draft(connection->peer);
        peer_add(connection->peer, ":status", "100");
        peer_push_head(connection->peer, stream, false);
    }
}

static void serve_streams(struct multi_connection *connection)
{
    struct peer *peer = connection->peer;
    uint64_t now = io_now(connection->origin->io);
    for (uint32_t i = 0; i < peer->stream_count && !connection->over; i++) {
        struct peer_stream *stream = peer->streams[i];
        if (stream == NULL || stream->owner == NULL || peer_stream_is_over(stream)) {
            continue;
        }
        struct multi_response *response = multi_response_of(stream);
        if (!response->taken && now >= response->take_at) {
            take(connection, stream);
        }
        if (response->taken && (stream->in_ended || response->early)) {
            multi_origin_respond(connection, stream);
        }
    }
}

/* GOAWAY: what was not looked at, and comes behind all that was, never will be. */
static void say_goodbye(struct multi_connection *connection)
{
    struct peer *peer = connection->peer;
    struct prng *prng = &connection->origin->prng;
    if (peer->excluded_above == UINT32_MAX && sim_chance(prng, 300)) {
        peer_push_goaway(peer, ALL_STREAMS, NGHTTP2_NO_ERROR);
        connection->goodbye_at = io_now(connection->origin->io) + sim_magnitude(prng, 1, SECOND);
        return;
    }
    connection->goodbye_at = UINT64_MAX;
    sim_note(connection->origin->io, "says goodbye behind stream %u", connection->last_taken);
    peer_push_goaway(peer, connection->last_taken, NGHTTP2_NO_ERROR);
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        struct peer_stream *stream = peer->streams[i];
        if (stream != NULL && stream->id > connection->last_taken && !peer_stream_is_over(stream)) {
            stream->excluded = true;
            refuse(connection, multi_response_of(stream), "excluded");
        }
    }
}

static uint64_t draw_time(struct multi_origin *origin, uint32_t permille, uint64_t most)
{
    bool happens = sim_chance(&origin->prng, permille);
    return happens ? io_now(origin->io) + sim_magnitude(&origin->prng, 100, most) : UINT64_MAX;
}

/* Feeds what has come. False: the connection is over. */
static bool receive(struct multi_connection *connection)
{
    uint8_t bytes[2048];
    for (int reads = 0; reads < READS_MAX; reads++) {
        size_t got = 0;
        enum status status = wire_read(&connection->wire, bytes, sizeof(bytes), &got);
        if (status == AGAIN) {
            return true;
        }
        if (status != OK) {
            return false; /* a client that closes has nothing to ask any more */
        }
        peer_feed(connection->peer, span_of(bytes, got));
    }
    io_requeue(connection->origin->io, &connection->wire.socket);
    return true;
}

static void keep_appointments(struct multi_connection *connection)
{
    struct multi_origin *origin = connection->origin;
    const struct habits *habits = &origin->world->habits;
    uint64_t now = io_now(origin->io);
    if (now >= connection->change_at) {
        multi_change_settings(connection->peer, origin->world, &origin->prng);
        connection->change_at = now + sim_magnitude(&origin->prng, 1000, 5 * SECOND);
    }
    /* Where everything is to be answered, no connection ends before it has served anything. */
    if (now >= connection->goodbye_at && (!habits->strict || connection->last_taken > 0)) {
        say_goodbye(connection);
    }
    bool idle = peer_open_streams(connection->peer) == 0;
    bool said = connection->peer->excluded_above < ALL_STREAMS; /* a final goodbye */
    if (!idle) {
        connection->close_at = UINT64_MAX;
    } else if (said && connection->close_at == UINT64_MAX) {
        /* What is excluded may be on its way: whoever stays sees it. */
        bool hurries = !habits->strict && sim_chance(&origin->prng, 300);
        connection->close_at = now + (hurries ? 1 : GOODBYE_TIME);
    } else if (!connection->idle) {
        connection->close_at = draw_time(origin, habits->origin_stale, 6 * SECOND);
    }
    connection->idle = idle;
    connection->over |= now >= connection->close_at;
}

/* False: the connection is over. */
static bool serve(struct multi_connection *connection)
{
    if (!receive(connection)) {
        return false;
    }
    keep_appointments(connection);
    peer_tend(connection->peer);
    size_t before = 0;
    do {
        serve_streams(connection);
        before = wire_unsent(&connection->wire);
        (void)wire_pump(&connection->wire, UINT64_MAX);
    } while (!connection->over && !connection->wire.failed && before > 0 &&
             wire_unsent(&connection->wire) == 0);
    return !connection->over && !connection->wire.failed;
}

static void begin_connection(struct multi_connection *connection)
{
    struct multi_origin *origin = connection->origin;
    const struct multi_habits *habits = &origin->world->habits.multi;
    connection->wire.connected = true;
    connection->wire.failed = false;
    connection->wire.head = connection->wire.size = 0;
    connection->last_taken = 0;
    connection->over = connection->abruptly = connection->idle = false;
    connection->change_at = draw_time(origin, habits->changes, 3 * SECOND);
    connection->goodbye_at = draw_time(origin, habits->goodbyes, 5 * SECOND);
    connection->close_at = UINT64_MAX;
    struct peer_manners manners = multi_manners(origin->world, &origin->prng);
    if (sim_chance(&origin->prng, habits->few_streams)) {
        manners.streams_max = (uint32_t)sim_between(&origin->prng, 1, 4);
    }
    connection->peer = calloc(1, sizeof(*connection->peer));
    ASSERT(connection->peer != NULL);
    peer_begin(connection->peer, &(struct peer_setup){.wire = &connection->wire,
                                                      .prng = &origin->prng,
                                                      .ops = &OPS,
                                                      .manners = manners});
}

static void end_connection(struct multi_connection *connection)
{
    wire_close(&connection->wire, connection->abruptly);
    peer_end(connection->peer);
    free(connection->peer);
    connection->peer = NULL;
}

static void accept_some(struct multi_origin *origin)
{
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct multi_connection *connection = &origin->connections[i];
        if (connection->peer != NULL) {
            continue;
        }
        struct address peer;
        if (io_accept(origin->io, &origin->listener, &connection->wire.socket, 1, &peer) != OK) {
            return;
        }
        begin_connection(connection);
    }
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t connection_wake_time(const struct multi_connection *connection)
{
    const struct peer *peer = connection->peer;
    uint64_t now = io_now(connection->origin->io);
    uint64_t wake = earliest(peer_wake_time(peer), connection->change_at);
    wake = earliest(wake, connection->close_at);
    if (connection->goodbye_at > now) { /* else it waits for something else */
        wake = earliest(wake, connection->goodbye_at);
    }
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        const struct peer_stream *stream = peer->streams[i];
        if (stream == NULL || stream->owner == NULL || peer_stream_is_over(stream)) {
            continue;
        }
        const struct multi_response *response = multi_response_of(stream);
        uint64_t due = response->taken ? response->next_send : response->take_at;
        if (due > now) {
            wake = earliest(wake, due);
        }
    }
    return wake;
}

static uint64_t wake_time(const struct multi_origin *origin)
{
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        if (origin->connections[i].peer != NULL) {
            wake = earliest(wake, connection_wake_time(&origin->connections[i]));
        }
    }
    return wake;
}

static void origin_turn(void *context)
{
    struct multi_origin *origin = context;
    io_wait(origin->io, wake_time(origin));
    while (io_next_ready(origin->io) != NULL) {
    }
    accept_some(origin);
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct multi_connection *connection = &origin->connections[i];
        if (connection->peer != NULL && !serve(connection)) {
            end_connection(connection);
        }
    }
}

struct multi_origin *multi_origin_create(struct world *world, uint32_t index)
{
    struct multi_origin *origin = calloc(1, sizeof(*origin));
    ASSERT(origin != NULL);
    char name[24];
    (void)snprintf(name, sizeof(name), "origin%u", index);
    origin->world = world;
    origin->io = sim_node_create(world->sim, name);
    prng_init(&origin->prng, prng_next(&world->prng));
    io_socket_init(&origin->listener);
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        wire_init(&origin->connections[i].wire, origin->io);
        origin->connections[i].origin = origin;
    }
    if (sim_chance(&origin->prng, world->habits.origin_refuses)) {
        return origin; /* nobody listens there */
    }
    struct address address = origin_address(index);
    enum status status =
        io_listen(origin->io, &origin->listener, sim_listen(world->sim, &address), 0);
    ASSERT(status == OK);
    sim_node_run(origin->io, origin_turn, origin);
    return origin;
}

void multi_origin_destroy(struct multi_origin *origin)
{
    if (origin == NULL) {
        return;
    }
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct multi_connection *connection = &origin->connections[i];
        if (connection->peer != NULL) {
            peer_end(connection->peer);
            free(connection->peer);
        }
        wire_deinit(&connection->wire);
    }
    free(origin);
}
