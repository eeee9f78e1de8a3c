/* What an origin of HTTP/2 does with its connections, and what it hears on them. */
#include <stdlib.h>

#include "base/assert.h"
#include "multi.h"

enum { GOODBYE_TIME = 2 * SECOND };

static const uint32_t ALL_STREAMS = INT32_MAX;

/* ---- What is heard ---- */

static struct multi_connection *connection_of(struct peer *peer)
{
    return CONTAINER_OF(peer, struct multi_connection, peer);
}

static void check_fields(struct peer *peer, uint32_t number)
{
    const struct server_seen seen = {
        .number = peer_value(peer, "x-number"),
        .via = peer_value(peer, "via"),
        .host = peer_value(peer, ":authority"),
        .forwarded_for = peer_value(peer, "x-forwarded-for"),
    };
    server_check_request(&connection_of(peer)->base, number, &seen);
}

static struct multi_response *read_request(struct peer *peer)
{
    struct multi_response *response = calloc(1, sizeof(*response));
    struct span path = peer_value(peer, ":path");
    ASSERT(response != NULL);
    if (!verb_read(peer_value(peer, ":method"), &response->verb) ||
        !span_starts_with(path, SPAN("/x/")) ||
        !span_equal(peer_value(peer, ":scheme"), SPAN("http"))) {
        run_failed("an origin got a request for \"%.*s\"", SPAN_ARGS(path));
    }
    response->number = (uint32_t)digits_at(path, 3);
    response->expects = peer_value(peer, "expect").data != NULL;
    bool extended = peer_value(peer, ":protocol").data != NULL;
    if (extended != (response->verb == VERB_CONNECT) || (extended && !peer->manners.connects)) {
        run_failed("an origin got a CONNECT that it has not asked for");
    }
    check_fields(peer, response->number);
    struct server_connection *base = &connection_of(peer)->base;
    response->call = server_check_call(base, response->number,
                                       &(struct server_call){
                                           .content_type = peer_value(peer, "content-type"),
                                           .te = peer_value(peer, "te"),
                                           .timeout = peer_value(peer, "grpc-timeout"),
                                       });
    return response;
}

static void refuse(struct multi_connection *connection, const struct multi_response *response,
                   const char *how)
{
    sim_note(connection->base.server->io, "exchange %u is %s unseen", response->number, how);
    ledger_refused(server_ledger(&connection->base), response->number, response->verb);
}

/* A request is refused by a reset at most once where everything is to be answered. */
static bool draws_refusal(struct multi_connection *connection, uint32_t number)
{
    const struct habits *habits = &connection->base.server->world->habits;
    bool before = ledger_get(server_ledger(&connection->base), number)->refusals > 0;
    return !(habits->strict && before) &&
           sim_chance(&connection->base.server->prng, habits->multi.refuses);
}

static void on_head(struct peer *peer, struct peer_stream *stream)
{
    struct multi_connection *connection = connection_of(peer);
    struct server *server = connection->base.server;
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
    response->take_at = io_now(server->io);
    if (sim_chance(&server->prng, server->world->habits.multi.holds)) {
        response->take_at += sim_magnitude(&server->prng, 1, 2 * SECOND);
    }
}

static void on_data(struct peer *peer, struct peer_stream *stream, struct span bytes)
{
    struct multi_connection *connection = connection_of(peer);
    struct multi_response *response = multi_response_of(stream);
    const struct ledger_exchange *exchange =
        ledger_get(server_ledger(&connection->base), response->number);
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
    ledger_body_arrived(server_ledger(&connection->base), response->number, response->body_in);
}

static void on_reset(struct peer *peer, struct peer_stream *stream, uint32_t code)
{
    sim_note(connection_of(peer)->base.server->io, "exchange %u was reset with %u",
             multi_response_of(stream)->number, code);
}

static void on_goaway(struct peer *peer, uint32_t last)
{
    (void)peer, (void)last;
}

static const struct peer_ops PEER_OPS = {
    .head = on_head, .data = on_data, .ended = on_ended, .reset = on_reset, .goaway = on_goaway};

/* ---- A connection ---- */

static void look_at(struct multi_connection *connection, struct peer_stream *stream)
{
    struct multi_response *response = multi_response_of(stream);
    response->taken = true;
    response->attempt =
        ledger_arrived(server_ledger(&connection->base), response->number, response->verb);
    if (stream->id > connection->last_taken) {
        connection->last_taken = stream->id;
    }
    multi_origin_plan(connection, response);
    if (response->expects && !response->early && !stream->in_ended &&
        sim_chance(&connection->base.server->prng, 800)) {
        peer_draft(&connection->peer);
        peer_add(&connection->peer, ":status", "100");
        peer_push_head(&connection->peer, stream, false);
    }
}

static void serve_streams(struct multi_connection *connection)
{
    struct peer *peer = &connection->peer;
    uint64_t now = io_now(connection->base.server->io);
    for (uint32_t i = 0; i < peer->stream_count && !connection->over; i++) {
        struct peer_stream *stream = peer->streams[i];
        if (stream == NULL || stream->owner == NULL || peer_stream_is_over(stream)) {
            continue;
        }
        struct multi_response *response = multi_response_of(stream);
        if (!response->taken && now >= response->take_at) {
            look_at(connection, stream);
        }
        if (response->taken &&
            (stream->in_ended || response->early || response->verb == VERB_CONNECT)) {
            multi_origin_respond(connection, stream);
        }
    }
}

/* GOAWAY: what was not looked at, and comes behind all that was, never will be. */
static void say_goodbye(struct multi_connection *connection)
{
    struct peer *peer = &connection->peer;
    struct prng *prng = &connection->base.server->prng;
    if (peer->excluded_above == UINT32_MAX && sim_chance(prng, 300)) {
        peer_push_goaway(peer, ALL_STREAMS, NGHTTP2_NO_ERROR);
        connection->goodbye_at =
            io_now(connection->base.server->io) + sim_magnitude(prng, 1, SECOND);
        return;
    }
    connection->goodbye_at = UINT64_MAX;
    sim_note(connection->base.server->io, "says goodbye behind stream %u", connection->last_taken);
    peer_push_goaway(peer, connection->last_taken, NGHTTP2_NO_ERROR);
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        struct peer_stream *stream = peer->streams[i];
        if (stream != NULL && stream->id > connection->last_taken && !peer_stream_is_over(stream)) {
            stream->excluded = true;
            refuse(connection, multi_response_of(stream), "excluded");
        }
    }
}

static bool take(struct server_connection *base, struct span bytes)
{
    struct multi_connection *connection = CONTAINER_OF(base, struct multi_connection, base);
    peer_feed(&connection->peer, bytes);
    return true;
}

static void keep_appointments(struct multi_connection *connection)
{
    struct server *server = connection->base.server;
    const struct habits *habits = &server->world->habits;
    uint64_t now = io_now(server->io);
    if (now >= connection->change_at) {
        multi_change_settings(&connection->peer, server->world, &server->prng);
        connection->change_at = now + sim_magnitude(&server->prng, 1000, 5 * SECOND);
    }
    /* Where everything is to be answered, no connection ends before it has served anything. */
    if (now >= connection->goodbye_at && (!habits->strict || connection->last_taken > 0)) {
        say_goodbye(connection);
    }
    bool idle = peer_open_streams(&connection->peer) == 0;
    bool said = connection->peer.excluded_above < ALL_STREAMS; /* a final goodbye */
    if (!idle) {
        connection->close_at = UINT64_MAX;
    } else if (said && connection->close_at == UINT64_MAX) {
        /* What is excluded may be on its way: whoever stays sees it. */
        bool hurries = !habits->strict && sim_chance(&server->prng, 300);
        connection->close_at = now + (hurries ? 1 : GOODBYE_TIME);
    } else if (!connection->idle) {
        connection->close_at = server_draw_time(server, habits->origin_stale, 6 * SECOND);
    }
    connection->idle = idle;
    connection->over |= now >= connection->close_at;
}

static bool serve(struct server_connection *base)
{
    struct multi_connection *connection = CONTAINER_OF(base, struct multi_connection, base);
    if (server_read(base, take) != AGAIN) {
        return false; /* a client that closes has nothing to ask any more */
    }
    keep_appointments(connection);
    peer_tend(&connection->peer);
    size_t before = 0;
    do {
        serve_streams(connection);
        before = wire_unsent(&connection->base.wire);
        (void)wire_pump(&connection->base.wire, UINT64_MAX);
    } while (!connection->over && !connection->base.wire.failed && before > 0 &&
             wire_unsent(&connection->base.wire) == 0);
    return !connection->over && !connection->base.wire.failed;
}

static void begin(struct server_connection *base)
{
    struct multi_connection *connection = CONTAINER_OF(base, struct multi_connection, base);
    struct server *server = base->server;
    const struct multi_habits *habits = &server->world->habits.multi;
    connection->change_at = server_draw_time(server, habits->changes, 3 * SECOND);
    connection->goodbye_at = server_draw_time(server, habits->goodbyes, 5 * SECOND);
    connection->close_at = UINT64_MAX;
    struct peer_manners manners = multi_manners(server->world, &server->prng);
    if (sim_chance(&server->prng, habits->few_streams)) {
        manners.streams_max = (uint32_t)sim_between(&server->prng, 1, 4);
    }
    peer_begin(&connection->peer, &(struct peer_setup){.wire = &base->wire,
                                                       .prng = &server->prng,
                                                       .ops = &PEER_OPS,
                                                       .manners = manners});
}

static void end(struct server_connection *base)
{
    peer_end(&CONTAINER_OF(base, struct multi_connection, base)->peer);
}

static uint64_t wake_time(struct server_connection *base)
{
    const struct multi_connection *connection = CONTAINER_OF(base, struct multi_connection, base);
    const struct peer *peer = &connection->peer;
    uint64_t now = io_now(base->server->io);
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

struct server *multi_origin_create(struct world *world, uint32_t index)
{
    static const struct server_ops OPS = {
        .connection_size = sizeof(struct multi_connection),
        .begin = begin,
        .serve = serve,
        .end = end,
        .wake_time = wake_time,
    };
    return server_create(world, &OPS, index);
}
