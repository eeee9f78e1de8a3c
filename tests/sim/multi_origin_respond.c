/* What an origin of HTTP/2 answers, and how it fails to. */
#include "base/assert.h"
#include "multi.h"

enum { PIECE_MAX = 2048 };

static enum multi_fate draw_fate(const struct habits *habits, struct prng *prng)
{
    if (sim_chance(prng, habits->origin_fails)) {
        static const enum multi_fate fates[] = {MULTI_RESET, MULTI_RESET, MULTI_CLOSE, MULTI_ABORT};
        return fates[prng_below(prng, 4)];
    }
    if (sim_chance(prng, habits->origin_truncates)) {
        static const enum multi_fate fates[] = {MULTI_TRUNCATE, MULTI_TRUNCATE, MULTI_SHORT,
                                                MULTI_CUT};
        return fates[prng_below(prng, 4)];
    }
    if (sim_chance(prng, habits->origin_malformed)) {
        return MULTI_MALFORMED;
    }
    if (sim_chance(prng, habits->origin_silent)) {
        return MULTI_SILENT;
    }
    return sim_chance(prng, habits->origin_extra) ? MULTI_LONG : MULTI_COMPLETE;
}

/* A response without a body can be cut short before its head only. */
static void drop_body(struct multi_response *response)
{
    response->bodiless = true;
    response->size = 0;
    response->announces = response->has_trailers = false;
    if (response->fate == MULTI_TRUNCATE || response->fate == MULTI_SHORT ||
        response->fate == MULTI_LONG || response->fate == MULTI_CUT) {
        response->fate = MULTI_RESET;
    }
}

static bool is_cut(const struct multi_response *response)
{
    return response->fate == MULTI_TRUNCATE || response->fate == MULTI_SHORT ||
           response->fate == MULTI_CUT;
}

/* The answer to a call ends with trailers, or is nothing but a head; now and then it is none. */
static void plan_call(struct server *server, struct multi_response *response)
{
    struct prng *prng = &server->prng;
    response->status = sim_chance(prng, 900) ? 200 : 503;
    response->grpc_status = response->status == 200 ? call_draw_status(prng) : CALL_NO_STATUS;
    response->announces = sim_chance(prng, 100);
    response->has_trailers = response->status == 200;
    response->early = sim_chance(prng, server->world->habits.origin_early + 200);
    response->trailers_only = response->status == 200 && response->fate == MULTI_COMPLETE &&
                              !response->announces && sim_chance(prng, 200);
    if (response->trailers_only) {
        response->size = 0;
    }
}

static void add_grpc_status(struct peer *peer, const struct multi_response *response)
{
    peer_add(peer, "grpc-status", "%u", response->grpc_status);
    peer_add(peer, "grpc-message", "such%%20is life");
}

/* Refused, or granted: from then on both sides are alike, and each ends for itself. */
static void plan_tunnel(struct server *server, struct multi_response *response)
{
    struct prng *prng = &server->prng;
    if (sim_chance(prng, 100)) {
        response->status = 404; /* any 2xx would be a grant */
        return;
    }
    response->tunnel = true;
    response->status = 200;
    response->fate = response->fate == MULTI_TRUNCATE || response->fate == MULTI_CUT
                         ? response->fate
                         : MULTI_COMPLETE;
    response->announces = response->has_trailers = false;
    response->listens =
        response->number % 2 == 0 && response->fate == MULTI_COMPLETE && sim_chance(prng, 400);
    response->silent = !server->world->habits.strict && sim_chance(prng, 100);
    ledger_get(&server->world->ledger, response->number)->tunnel_open = true;
}

void multi_origin_plan(struct multi_connection *connection, struct multi_response *response)
{
    struct server *server = connection->base.server;
    const struct habits *habits = &server->world->habits;
    struct prng *prng = &server->prng;
    response->fate = draw_fate(habits, prng);
    response->status = server_draw_status(server);
    response->size = sim_magnitude(prng, 1, habits->response_max + 1) - 1;
    response->announces = sim_chance(prng, 500);
    response->has_trailers = sim_chance(prng, 100);
    response->early = sim_chance(prng, habits->origin_early);
    response->slow = sim_chance(prng, habits->origin_slow);
    if (response->verb == VERB_CONNECT) {
        plan_tunnel(server, response);
    } else if (response->call) {
        plan_call(server, response);
    } else if (response->verb == VERB_HEAD || response->status == 204 || response->status == 304) {
        drop_body(response);
    }
    if (is_cut(response)) {
        response->size += response->size == 0 ? 1 : 0;
        response->cut_at = sim_between(prng, 0, response->size - 1);
    }
    response->announces |= response->fate == MULTI_SHORT || response->fate == MULTI_LONG;
    response->next_send = io_now(server->io);
    if (response->slow) {
        response->next_send += sim_magnitude(prng, 1000, 2 * SECOND);
    }
    struct ledger_exchange *exchange = ledger_get(&server->world->ledger, response->number);
    exchange->attempt[response->attempt] = (struct ledger_attempt){
        .status = response->status,
        .size = response->size,
        .grpc_status = response->grpc_status,
        .sound = response->fate != MULTI_MALFORMED && response->fate != MULTI_CLOSE &&
                 response->fate != MULTI_ABORT && response->fate != MULTI_RESET,
    };
    sim_note(server->io, "exchange %u, attempt %u: fate %d, status %u, %llu bytes%s%s%s",
             response->number, response->attempt, (int)response->fate, response->status,
             (unsigned long long)response->size, response->announces ? ", announced" : "",
             response->early ? ", early" : "", response->slow ? ", slow" : "");
}

static void push_interim(struct peer *peer, struct peer_stream *stream)
{
    peer_draft(peer);
    peer_add(peer, ":status", "103");
    peer_add(peer, "link", "</style.css>; rel=preload");
    peer_push_head(peer, stream, false);
}

/* What is no head of a response (RFC 9113, 8.1.1). */
static void push_malformed(struct multi_connection *connection, struct peer_stream *stream)
{
    static const char *const fields[][2] = {
        {"x-no-status", "x"},
        {":status", "20"},
        {":status", "2000"},
        {":status", "101"},
        {":status", "two"},
        {":path", "/"},
        {"X-Upper", "x"},
        {"connection", "close"},
        {"transfer-encoding", "chunked"},
        {"x-split", "a\r\nx-other: b"},
        {"x y", "z"},
        {"content-length",
         "-5"}, /* the last: who asked for a tunnel ignores it (RFC 9110, 9.3.6) */
    };
    enum { COUNT = sizeof(fields) / sizeof(fields[0]), BAD_STATUSES = 5 };
    struct peer *peer = &connection->peer;
    struct prng *prng = &connection->base.server->prng;
    const struct multi_response *response = multi_response_of(stream);
    uint32_t kind = prng_below(prng, response->verb == VERB_CONNECT ? COUNT - 1 : COUNT);
    sim_note(connection->base.server->io, "malformed: %s", fields[kind][0]);
    peer_draft(peer);
    if (kind >= BAD_STATUSES) {
        peer_add(peer, ":status", "200");
    }
    peer_add(peer, fields[kind][0], "%s", fields[kind][1]);
    peer_add(peer, "x-exchange", "%u-%u", response->number, response->attempt);
    bool ends = sim_chance(prng, 500);
    peer_push_head(peer, stream, ends);
    if (!ends && peer_room(peer, stream) >= 5) {
        peer_push_data(peer, stream, SPAN("abcde"), true);
    }
}

static void note_complete(struct multi_connection *connection, const struct peer_stream *stream)
{
    struct multi_response *response = multi_response_of(stream);
    struct ledger *ledger = server_ledger(&connection->base);
    ledger_get(ledger, response->number)->attempt[response->attempt].complete =
        response->fate == MULTI_COMPLETE || response->fate == MULTI_LONG;
}

static void push_head(struct multi_connection *connection, struct peer_stream *stream)
{
    struct peer *peer = &connection->peer;
    struct prng *prng = &connection->base.server->prng;
    struct multi_response *response = multi_response_of(stream);
    response->head_made = true;
    if (sim_chance(prng, connection->base.server->world->habits.origin_interim)) {
        push_interim(peer, stream);
    }
    if (response->fate == MULTI_MALFORMED) {
        push_malformed(connection, stream);
        return;
    }
    peer_draft(peer);
    peer_add(peer, ":status", "%u", response->status);
    peer_add(peer, "x-exchange", "%u-%u", response->number, response->attempt);
    if (response->announces) {
        peer_add(peer, "content-length", "%llu", (unsigned long long)response->size);
    } else if (response->verb == VERB_HEAD && response->status == 200) {
        peer_add(peer, "content-length", "1234");
    }
    for (uint64_t i = sim_between(prng, 0, 2); i > 0; i--) {
        peer_add(peer, "set-cookie", "c%llu=%0*d", (unsigned long long)i,
                 (int)sim_magnitude(prng, 1, 200), 7);
    }
    if (response->call && response->status == 200) {
        peer_add(peer, "content-type", "application/grpc");
    }
    if (response->trailers_only) {
        add_grpc_status(peer, response);
    }
    bool bare = response->size == 0 && !response->has_trailers && response->fate == MULTI_COMPLETE;
    bare = bare && !response->tunnel;
    bool ends = response->trailers_only || (bare && (response->bodiless || sim_chance(prng, 500)));
    peer_push_head(peer, stream, ends);
    if (ends) {
        note_complete(connection, stream);
    }
}

/* Where the body is cut: as its fate says. */
static void cut(struct multi_connection *connection, struct peer_stream *stream)
{
    struct prng *prng = &connection->base.server->prng;
    struct multi_response *response = multi_response_of(stream);
    if (response->fate == MULTI_SHORT) {
        peer_push_data(&connection->peer, stream, SPAN_EMPTY, true);
    } else if (response->fate == MULTI_TRUNCATE) {
        static const uint32_t codes[] = {NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR,
                                         NGHTTP2_REFUSED_STREAM, 0xdead};
        peer_push_reset(&connection->peer, stream, codes[prng_below(prng, 5)]);
    } else if (wire_unsent(&connection->base.wire) == 0) {
        connection->over = true;
        connection->base.abruptly = sim_chance(prng, 500);
    }
}

static void end_body(struct multi_connection *connection, struct peer_stream *stream)
{
    struct peer *peer = &connection->peer;
    struct multi_response *response = multi_response_of(stream);
    if (response->fate == MULTI_LONG) {
        if (peer_room(peer, stream) == 0) {
            return;
        }
        peer_push_data(peer, stream, SPAN("!"), true);
    } else if (response->has_trailers) {
        peer_draft(peer);
        peer_add(peer, "server-timing", "db;dur=5");
        if (response->call) {
            add_grpc_status(peer, response);
        }
        peer_push_head(peer, stream, true);
    } else {
        peer_push_data(peer, stream, SPAN_EMPTY, true);
    }
    note_complete(connection, stream);
}

/* More of the body, to its end. False: nothing can be pushed now. */
static bool push_body(struct multi_connection *connection, struct peer_stream *stream)
{
    struct peer *peer = &connection->peer;
    struct prng *prng = &connection->base.server->prng;
    struct multi_response *response = multi_response_of(stream);
    uint8_t bytes[PIECE_MAX];
    if (response->listens && !stream->in_ended) {
        return false;
    }
    uint64_t left = (is_cut(response) ? response->cut_at : response->size) - response->offset;
    if (left == 0) {
        if (is_cut(response)) {
            cut(connection, stream);
            return false;
        }
        if (!response->silent) {
            end_body(connection, stream);
        }
        return stream->out_ended;
    }
    size_t piece = (size_t)sim_magnitude(prng, 1, sizeof(bytes));
    size_t room = peer_room(peer, stream);
    piece = piece < room ? piece : room;
    piece = piece < left ? piece : (size_t)left;
    if (piece == 0) {
        return false;
    }
    payload_fill(response->number, SIDE_RESPONSE, response->offset, bytes, piece);
    bool ends = response->fate == MULTI_COMPLETE && piece == left && !response->has_trailers &&
                !response->silent && sim_chance(prng, 500);
    peer_push_data(peer, stream, span_of(bytes, piece), ends);
    response->offset += piece;
    if (ends || (response->announces && piece == left && !is_cut(response))) {
        note_complete(connection, stream); /* a length that is through says so, too */
    }
    return true;
}

/* A response that came before the request's end (RFC 9113, 8.1). */
static void end_early(struct multi_connection *connection, struct peer_stream *stream)
{
    if (!stream->in_ended && !stream->reset_sent && !multi_response_of(stream)->tunnel &&
        sim_chance(&connection->base.server->prng, 500)) {
        peer_push_reset(&connection->peer, stream, NGHTTP2_NO_ERROR);
    }
}

/* Instead of an answer. */
static void fail(struct multi_connection *connection, struct peer_stream *stream)
{
    struct prng *prng = &connection->base.server->prng;
    const struct multi_response *response = multi_response_of(stream);
    if (response->fate == MULTI_RESET) {
        static const uint32_t codes[] = {NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR,
                                         NGHTTP2_HTTP_1_1_REQUIRED, 0xdead};
        peer_push_reset(&connection->peer, stream, codes[prng_below(prng, 5)]);
    } else {
        connection->over = true;
        connection->base.abruptly = response->fate == MULTI_ABORT;
    }
}

void multi_origin_respond(struct multi_connection *connection, struct peer_stream *stream)
{
    struct multi_response *response = multi_response_of(stream);
    uint64_t now = io_now(connection->base.server->io);
    if (now < response->next_send || response->fate == MULTI_SILENT || stream->out_ended) {
        return;
    }
    if (response->fate == MULTI_RESET || response->fate == MULTI_CLOSE ||
        response->fate == MULTI_ABORT) {
        fail(connection, stream);
        return;
    }
    bool moved = true;
    for (int pieces = 0; moved && !stream->out_ended && pieces < 8; pieces++) {
        if (wire_unsent(&connection->base.wire) >= MULTI_BUFFERED_MAX ||
            (response->slow && pieces > 1)) {
            break;
        }
        if (!response->head_made) {
            push_head(connection, stream);
        } else if (response->fate == MULTI_MALFORMED) {
            moved = false;
        } else {
            moved = push_body(connection, stream);
        }
    }
    if (stream->out_ended) {
        end_early(connection, stream);
    }
    if (response->slow) {
        response->next_send = now + sim_magnitude(&connection->base.server->prng, 1000, SECOND);
    }
}
