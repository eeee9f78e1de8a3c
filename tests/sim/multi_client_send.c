/* What a client of HTTP/2 says. */
#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"
#include "multi.h"

enum {
    CONTINUE_PATIENCE = SECOND,
    PIECE_MAX = 2048,
};

static void draft_call(struct multi_client *client, const struct multi_request *request)
{
    struct prng *prng = &client->caller.prng;
    char timeout[CALL_TIMEOUT_MAX];
    peer_add(&client->peer, "content-type", "application/grpc%s",
             sim_chance(prng, 500) ? "+proto" : "");
    if (sim_chance(prng, 500)) {
        call_draw_timeout(client->caller.world, prng,
                          caller_exchange(&client->caller, request->number), timeout);
        peer_add(&client->peer, "grpc-timeout", "%s", timeout);
    }
}

static void draft_head(struct multi_client *client, const struct multi_request *request)
{
    struct peer *peer = &client->peer;
    struct prng *prng = &client->caller.prng;
    peer_draft(peer);
    peer_add(peer, ":method", "%s", verb_name(request->verb));
    peer_add(peer, ":scheme", client->caller.wire.secure != NULL ? "https" : "http");
    peer_add(peer, ":authority", "sim.test");
    peer_add(peer, ":path", "/x/%u?%llu", request->number, (unsigned long long)prng_next(prng));
    peer_add(peer, "x-number", "%u", request->number);
    for (uint64_t i = sim_between(prng, 0, 3); i > 0; i--) {
        char name[32];
        (void)snprintf(name, sizeof(name), "x-filler-%llu", (unsigned long long)i);
        peer_add(peer, name, "%0*d", (int)sim_magnitude(prng, 1, 500), 7);
    }
    for (uint64_t i = sim_between(prng, 0, 2); i > 0; i--) {
        peer_add(peer, "cookie", "crumb=%llu", (unsigned long long)i);
    }
    if (request->call || caller_draws(&client->caller, 200)) {
        peer_add(peer, "te", "trailers");
    }
    if (request->call) {
        draft_call(client, request);
    }
    if (request->announces) {
        peer_add(peer, "content-length", "%llu", (unsigned long long)request->size);
    }
    if (request->expects) {
        peer_add(peer, "expect", "100-continue");
    }
}

/* A request of this verb and size on a stream of its own. */
static struct multi_request *add_request(struct multi_client *client, enum verb verb, uint64_t size)
{
    struct peer_stream *stream = peer_open(&client->peer);
    struct multi_request *request = calloc(1, sizeof(*request));
    ASSERT(request != NULL);
    *request = (struct multi_request){
        .number = caller_add_exchange(&client->caller, verb, size),
        .verb = verb,
        .size = size,
        .body_mark = UINT64_MAX,
        .silent_after = UINT64_MAX,
        .reset_at = UINT64_MAX,
        .length = UINT64_MAX,
    };
    stream->owner = request;
    client->begun++;
    return request;
}

static struct peer_stream *last_stream(const struct multi_client *client)
{
    return client->peer.streams[client->peer.stream_count - 1];
}

/* Nothing but DATA on its stream, from the moment on that it is granted. */
static void begin_tunnel(struct multi_client *client)
{
    struct caller *caller = &client->caller;
    const struct habits *habits = &caller->world->habits;
    struct peer *peer = &client->peer;
    uint64_t size = sim_magnitude(&caller->prng, 1, habits->request_body_max) - 1;
    struct multi_request *request = add_request(client, VERB_CONNECT, size);
    request->tunnel = true;
    request->listens = request->number % 2 == 1 && caller_draws(caller, 400); /* one side does */
    if (!habits->strict && caller_draws(caller, 100)) {
        request->silent_after = size;
    }
    request->reset_at = caller_draw_time(caller, habits->multi.resets, 3 * SECOND);
    caller_exchange(caller, request->number)->tunnel_may_end =
        !habits->strict || fault_has_struck();
    peer_draft(peer);
    peer_add(peer, ":method", "CONNECT");
    peer_add(peer, ":protocol", "toy");
    peer_add(peer, ":scheme", caller->wire.secure != NULL ? "https" : "http");
    peer_add(peer, ":authority", "sim.test");
    peer_add(peer, ":path", "/x/%u", request->number);
    peer_add(peer, "x-number", "%u", request->number);
    peer_push_head(peer, last_stream(client), false);
    request->head_mark = peer->said;
    sim_note(caller->io, "request %u: tunnel of %llu bytes on stream %u%s%s", request->number,
             (unsigned long long)size, last_stream(client)->id, request->listens ? ", listens" : "",
             request->silent_after == size ? ", silent" : "");
}

static void begin_call(struct multi_client *client, struct multi_request *request)
{
    struct ledger_exchange *exchange = caller_exchange(&client->caller, request->number);
    request->call = exchange->call = true;
    request->announces = request->expects = request->has_trailers = false;
    exchange->grpc_status = CALL_NO_STATUS;
    exchange->timeout = exchange->deadline = client->caller.world->habits.timeout;
}

static void begin_request(struct multi_client *client)
{
    const struct habits *habits = &client->caller.world->habits;
    struct prng *prng = &client->caller.prng;
    bool call = sim_chance(prng, habits->multi.calls);
    enum verb verb = call ? VERB_POST : caller_draw_verb(&client->caller);
    bool has_body = verb == VERB_POST || verb == VERB_PUT;
    bool empty = !has_body || caller_draws(&client->caller, 150);
    uint64_t size = empty ? 0 : sim_magnitude(prng, 1, habits->request_body_max);
    struct multi_request *request = add_request(client, verb, size);
    bool ends = size == 0 && (!has_body || caller_draws(&client->caller, 500));
    request->announces = has_body && !caller_draws(&client->caller, habits->chunked);
    request->expects = size > 0 && caller_draws(&client->caller, habits->expects);
    request->continue_until = io_now(client->caller.io) + CONTINUE_PATIENCE;
    request->has_trailers = has_body && caller_draws(&client->caller, 100);
    if (call) {
        begin_call(client, request);
    }
    if (caller_draws(&client->caller, habits->silent)) {
        request->silent_after = sim_magnitude(prng, 1, size + 2) - 1;
    }
    if (caller_draws(&client->caller, habits->multi.resets)) {
        request->reset_at = io_now(client->caller.io) + sim_magnitude(prng, 1, 3 * SECOND) - 1;
    }
    draft_head(client, request);
    peer_push_head(&client->peer, last_stream(client), ends);
    request->head_mark = client->peer.said;
    bool said = ends || (request->announces && size == 0); /* the length says so, too */
    request->body_mark = said ? client->peer.said : UINT64_MAX;
    sim_note(client->caller.io, "request %u: %s%s of %llu bytes on stream %u%s%s%s",
             request->number, call ? "call, " : "", verb_name(verb), (unsigned long long)size,
             last_stream(client)->id, request->announces ? ", announced" : "",
             request->expects ? ", expects 100" : "", request->has_trailers ? ", trailers" : "");
}

static void end_body(struct multi_client *client, struct peer_stream *stream)
{
    struct multi_request *request = multi_request_of(stream);
    if (request->has_trailers) {
        peer_draft(&client->peer);
        peer_add(&client->peer, "x-checksum", "%u", request->number);
        peer_push_head(&client->peer, stream, true);
    } else if (!stream->out_ended) {
        peer_push_data(&client->peer, stream, SPAN_EMPTY, true);
    }
    if (request->body_mark == UINT64_MAX) {
        request->body_mark = client->peer.said;
    }
}

/* Something more of a stream's body, if it has any. */
static bool push_some_body(struct multi_client *client, struct peer_stream *stream)
{
    struct multi_request *request = multi_request_of(stream);
    uint8_t bytes[PIECE_MAX];
    if (request->tunnel && (!request->open || (request->listens && !stream->in_ended))) {
        return false;
    }
    bool waits = request->expects && !request->got_continue &&
                 io_now(client->caller.io) < request->continue_until;
    if (stream->out_ended || peer_stream_is_over(stream) || waits ||
        request->offset >= request->silent_after) {
        return false;
    }
    size_t piece = (size_t)sim_magnitude(&client->caller.prng, 1, sizeof(bytes));
    size_t room = peer_room(&client->peer, stream);
    uint64_t left = request->size - request->offset;
    piece = piece < room ? piece : room;
    piece = piece < left ? piece : (size_t)left;
    if (left > 0 && piece == 0) {
        return false;
    }
    if (piece > 0) {
        payload_fill(request->number, SIDE_REQUEST, request->offset, bytes, piece);
        bool ends = piece == left && !request->has_trailers && caller_draws(&client->caller, 500);
        peer_push_data(&client->peer, stream, span_of(bytes, piece), ends);
        request->offset += piece;
        left -= piece;
    }
    if (left == 0 && (stream->out_ended || piece == 0)) {
        end_body(client, stream);
    } else if (left == 0 && request->announces) {
        request->body_mark = client->peer.said; /* the length says so, whatever follows */
    }
    return true;
}

static bool may_begin(const struct multi_client *client)
{
    const struct peer *peer = &client->peer;
    uint32_t open = peer_open_streams(peer);
    if (open > 0 && peer->settings_due && client->caller.world->habits.strict) {
        return false; /* nobody has said yet how many there may be */
    }
    return client->begun < client->count && !peer->goaway_came && open < client->streams &&
           open < peer->out_streams_max;
}

/* All requests are answered: what a hostile connection ends with. */
static void conclude(struct multi_client *client)
{
    bool all = client->begun == client->count && peer_open_streams(&client->peer) == 0;
    if (client->hostile && !client->noisy && all && !client->peer.goaway_came) {
        if (caller_draws(&client->caller, 600)) {
            client->count++;
            multi_hostile_push(client);
        } else {
            client->noisy = true;
            multi_hostile_end(client);
        }
    }
}

void multi_client_produce(struct caller *caller)
{
    struct multi_client *client = multi_caller(caller);
    struct peer *peer = &client->peer;
    bool moved = true;
    while (wire_unsent(&client->caller.wire) < MULTI_BUFFERED_MAX && !client->noisy && moved) {
        moved = false;
        if (may_begin(client)) {
            bool tunnel =
                peer->out_connects && caller_draws(caller, caller->world->habits.multi.tunnels);
            (tunnel ? begin_tunnel : begin_request)(client);
            moved = true;
        }
        uint32_t first =
            peer->stream_count == 0 ? 0 : prng_below(&client->caller.prng, peer->stream_count);
        for (uint32_t i = 0; i < peer->stream_count && !moved; i++) {
            moved = push_some_body(client, peer->streams[(first + i) % peer->stream_count]);
        }
    }
    conclude(client);
}

uint64_t multi_client_wake_time(const struct multi_client *client)
{
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        const struct peer_stream *stream = client->peer.streams[i];
        const struct multi_request *request = multi_request_of(stream);
        if (request->settled) {
            continue;
        }
        wake = request->reset_at < wake ? request->reset_at : wake;
        if (request->expects && !request->got_continue && request->offset == 0 &&
            request->continue_until > io_now(client->caller.io) && request->continue_until < wake) {
            wake = request->continue_until;
        }
    }
    return wake;
}

/* ---- What nobody may send ---- */

enum hostile_kind {
    NO_PATH,
    NO_METHOD,
    NO_SCHEME,
    TWO_PATHS,
    UNKNOWN_PSEUDO,
    LATE_PSEUDO,
    STATUS_PSEUDO,
    UPPER_CASE,
    CONNECTION,
    TRANSFER_ENCODING,
    TE_GZIP,
    TWO_LENGTHS,
    BAD_LENGTH,
    LINE_FEED,
    NUL,
    BAD_NAME,
    EMPTY_PATH,
    OTHER_HOST,
    BACKSLASH,
    DOTS,
    SHORT_BODY,
    LONG_BODY,
    BAD_TRAILERS,
    HOSTILE_KINDS,
};

static void add_pseudo_fields(struct peer *peer, enum hostile_kind kind, uint32_t number)
{
    bool posts = kind == SHORT_BODY || kind == LONG_BODY || kind == BAD_TRAILERS;
    if (kind == UNKNOWN_PSEUDO) {
        peer_add(peer, ":protocol-of-mine", "x");
    }
    if (kind == STATUS_PSEUDO) {
        peer_add(peer, ":status", "200");
    }
    if (kind != NO_METHOD) {
        peer_add(peer, ":method", "%s", posts ? "POST" : "GET");
    }
    if (kind != NO_SCHEME) {
        peer_add(peer, ":scheme", "http");
    }
    peer_add(peer, ":authority", "sim.test");
    if (kind == LATE_PSEUDO) {
        peer_add(peer, "x-early", "x");
    }
    if (kind == TWO_PATHS) {
        peer_add(peer, ":path", "/x/%u", number);
    }
    if (kind == EMPTY_PATH) {
        peer_add_bytes(peer, SPAN(":path"), SPAN_EMPTY);
    } else if (kind != NO_PATH) {
        peer_add(peer, ":path", "/x/%u%s", number,
                 kind == BACKSLASH ? "\\y"
                 : kind == DOTS    ? "/../../../y"
                                   : "");
    }
}

static void add_regular_fields(struct peer *peer, enum hostile_kind kind)
{
    static const struct {
        const char *name;
        const char *value;
        const char *again; /* another value of the same name */
    } fields[HOSTILE_KINDS] = {
        [UPPER_CASE] = {"X-Upper", "x", NULL},
        [CONNECTION] = {"connection", "close", NULL},
        [TRANSFER_ENCODING] = {"transfer-encoding", "chunked", NULL},
        [TE_GZIP] = {"te", "gzip", NULL},
        [TWO_LENGTHS] = {"content-length", "1", "2"},
        [BAD_LENGTH] = {"content-length", "+0", NULL},
        [LINE_FEED] = {"x-split", "a\r\nx-other: b", NULL},
        [BAD_NAME] = {"x y", "z", NULL},
        [OTHER_HOST] = {"host", "other.test", NULL},
        [SHORT_BODY] = {"content-length", "5", NULL},
        [LONG_BODY] = {"content-length", "5", NULL},
    };
    if (fields[kind].name != NULL) {
        peer_add(peer, fields[kind].name, "%s", fields[kind].value);
    }
    if (fields[kind].again != NULL) {
        peer_add(peer, fields[kind].name, "%s", fields[kind].again);
    }
    if (kind == NUL) {
        peer_add_bytes(peer, SPAN("x-nul"), SPAN("a\0b"));
    }
}

void multi_hostile_push(struct multi_client *client)
{
    struct peer *peer = &client->peer;
    enum hostile_kind kind = (enum hostile_kind)prng_below(&client->caller.prng, HOSTILE_KINDS);
    bool posts = kind == SHORT_BODY || kind == LONG_BODY || kind == BAD_TRAILERS;
    /* What is too long comes too late where its first five bytes have gone on already. */
    uint64_t whole = !posts ? 0 : kind == LONG_BODY ? 5 : LEDGER_NEVER_COMPLETE;
    struct multi_request *request = add_request(client, posts ? VERB_POST : VERB_GET, whole);
    caller_exchange(&client->caller, request->number)->hostile |= !posts;
    struct peer_stream *stream = last_stream(client);
    peer_draft(peer);
    add_pseudo_fields(peer, kind, request->number);
    peer_add(peer, "x-number", "%u", request->number);
    add_regular_fields(peer, kind);
    peer_push_head(peer, stream, !posts);
    request->head_mark = client->caller.wire.sent; /* from its first byte on it may be seen */
    request->body_mark = kind == LONG_BODY ? request->head_mark : UINT64_MAX;
    request->silent_after = 0;
    sim_note(client->caller.io, "request %u is hostile, kind %d", request->number, (int)kind);
    if (!posts) {
        return;
    }
    uint8_t body[6];
    payload_fill(request->number, SIDE_REQUEST, 0, body, sizeof(body));
    size_t size = kind == SHORT_BODY ? 4 : kind == LONG_BODY ? 6 : 5;
    if (size > peer_room(peer, stream)) {
        return;
    }
    peer_push_data(peer, stream, span_of(body, size), kind != BAD_TRAILERS);
    if (kind == BAD_TRAILERS) {
        peer_draft(peer);
        peer_add(peer, ":path", "/x/%u", request->number);
        peer_push_head(peer, stream, true);
    }
}

void multi_hostile_end(struct multi_client *client)
{
    static const uint8_t zeros[64] = {0};
    struct peer *peer = &client->peer;
    struct prng *prng = &client->caller.prng;
    uint32_t next = 2 * peer->stream_count + 1;
    uint32_t kind = prng_below(prng, 10);
    sim_note(client->caller.io, "ends the connection with hostility %u", kind);
    switch (kind) {
    case 0: /* data on nothing */
        peer_push_frame(peer, NGHTTP2_DATA, 0, next, span_of(zeros, 5));
        break;
    case 1: /* a head of an even stream */
        peer_push_frame(peer, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, next + 1,
                        span_of(zeros, 0));
        break;
    case 2: /* a frame beyond its bound, which never comes whole */
        wire_push(&client->caller.wire, "\xff\xff\xff\0\0\0\0\0\1", 9);
        break;
    case 3: /* a window beyond its bound */
        peer_push_frame(peer, NGHTTP2_WINDOW_UPDATE, 0, 0, SPAN("\x7f\xff\xff\xff"));
        break;
    case 4:
        peer_push_frame(peer, NGHTTP2_CONTINUATION, 0, 1, SPAN_EMPTY);
        break;
    case 5: /* a head without an end */
        peer_push_frame(peer, NGHTTP2_HEADERS, 0, next, span_of(zeros, 0));
        peer_push_frame(peer, NGHTTP2_PING, 0, 0, span_of(zeros, 8));
        break;
    case 6:
        peer_push_frame(peer, NGHTTP2_SETTINGS, 0, 0, SPAN("\0\4\xff\xff\xff\xff"));
        break;
    case 7: /* a field that no table has */
        peer_push_frame(peer, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, next,
                        SPAN("\xff\xff\x7f"));
        break;
    case 8: /* a flood */
        for (int i = 0; i < 3000; i++) {
            peer_push_frame(peer, NGHTTP2_PING, 0, 0, span_of(zeros, 8));
        }
        break;
    default:
        for (uint64_t i = sim_magnitude(prng, 1, 300); i > 0; i--) {
            uint8_t byte = (uint8_t)prng_below(prng, 256);
            wire_push(&client->caller.wire, &byte, 1);
        }
    }
}
