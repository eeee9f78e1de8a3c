/* What a client of HTTP/2 does with its connections, and what it hears on them. */
#include <stdlib.h>

#include "base/assert.h"
#include "multi.h"

/* ---- What is heard ---- */

static struct ledger_exchange *exchange_of(const struct multi_client *client,
                                           const struct multi_request *request)
{
    return caller_exchange(&client->caller, request->number);
}

void multi_client_settle(struct multi_client *client, struct multi_request *request,
                         enum outcome outcome)
{
    if (!request->settled) {
        request->settled = true;
        struct ledger_exchange *exchange = exchange_of(client, request);
        exchange->outcome = outcome;
        exchange->received = request->received;
        sim_note(client->caller.io, "request %u: outcome %d, status %u, %llu bytes",
                 request->number, (int)outcome, exchange->status,
                 (unsigned long long)request->received);
    }
}

static void on_head(struct peer *peer, struct peer_stream *stream)
{
    struct multi_client *client = multi_client_of(peer);
    struct multi_request *request = multi_request_of(stream);
    if (stream->final_head) { /* trailers */
        call_note_status(exchange_of(client, request), request->number,
                         peer_value(peer, "grpc-status"));
        return;
    }
    struct span text = peer_value(peer, ":status");
    uint64_t status = digits_at(text, 0);
    if (text.size != 3 || status < 100 || status > 599 || status == 101) {
        run_failed("a client got the status \"%.*s\"", SPAN_ARGS(text));
    }
    if (status < 200) {
        request->got_continue |= status == 100;
        return;
    }
    caller_note_status(&client->caller, request->number, (uint16_t)status);
    caller_read_mark(&client->caller, request->number, peer_value(peer, "x-exchange"));
    call_note_status(exchange_of(client, request), request->number,
                     peer_value(peer, "grpc-status"));
    request->open = request->tunnel && status == 200;
    if (request->tunnel && !request->open) { /* nothing is left to say */
        request->open = true;
        request->listens = false;
        request->offset = request->size;
        request->silent_after = UINT64_MAX;
    }
    bool bodiless = request->verb == VERB_HEAD || status == 204 || status == 304;
    struct span length = peer_value(peer, "content-length");
    request->length = bodiless ? 0 : length.data == NULL ? UINT64_MAX : digits_at(length, 0);
}

static void on_data(struct peer *peer, struct peer_stream *stream, struct span bytes)
{
    struct multi_client *client = multi_client_of(peer);
    struct multi_request *request = multi_request_of(stream);
    if (exchange_of(client, request)->from_origin) {
        payload_verify(request->number, SIDE_RESPONSE, request->received, bytes);
    }
    request->received += bytes.size;
    if (request->received > request->length) {
        run_failed("exchange %u: %llu bytes of response came, %llu were announced", request->number,
                   (unsigned long long)request->received, (unsigned long long)request->length);
    }
}

static void on_ended(struct peer *peer, struct peer_stream *stream)
{
    struct multi_client *client = multi_client_of(peer);
    struct multi_request *request = multi_request_of(stream);
    if (!stream->final_head) {
        run_failed("exchange %u ended with an interim response", request->number);
    }
    if (request->length != UINT64_MAX && request->received != request->length) {
        run_failed("exchange %u: a response of %llu bytes ended after %llu", request->number,
                   (unsigned long long)request->length, (unsigned long long)request->received);
    }
    multi_client_settle(client, request, OUTCOME_ANSWERED);
}

static void on_reset(struct peer *peer, struct peer_stream *stream, uint32_t code)
{
    struct multi_client *client = multi_client_of(peer);
    struct multi_request *request = multi_request_of(stream);
    sim_note(client->caller.io, "request %u was reset with %u", request->number, code);
    if (code == NGHTTP2_REFUSED_STREAM) {
        exchange_of(client, request)->unprocessed = true;
    }
    multi_client_settle(client, request, stream->final_head ? OUTCOME_CUT : OUTCOME_CLOSED);
}

/* What it excludes was not looked at. */
static void on_goaway(struct peer *peer, uint32_t last)
{
    struct multi_client *client = multi_client_of(peer);
    sim_note(client->caller.io, "is told goodbye behind stream %u", last);
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        struct peer_stream *stream = peer->streams[i];
        if (stream->id > last && !multi_request_of(stream)->settled) {
            stream->reset_came = true;
            exchange_of(client, multi_request_of(stream))->unprocessed = true;
            multi_client_settle(client, multi_request_of(stream), OUTCOME_CLOSED);
        }
    }
}

static const struct peer_ops PEER_OPS = {
    .head = on_head, .data = on_data, .ended = on_ended, .reset = on_reset, .goaway = on_goaway};

/* ---- A connection ---- */

static void plan(struct caller *caller)
{
    const struct habits *habits = &caller->world->habits;
    struct multi_client *client = multi_caller(caller);
    client->count = (uint32_t)sim_between(&caller->prng, 1, habits->multi.requests);
    client->streams = (uint32_t)sim_between(&caller->prng, 1, habits->multi.streams);
    client->begun = 0;
    client->hostile = caller_draws(caller, habits->hostile);
    client->loiters = caller_draws(caller, 200);
    client->noisy = false;
    client->change_at = caller_draw_time(caller, habits->multi.changes, 3 * SECOND);
    client->goodbye_at = caller_draw_time(caller, habits->multi.goodbyes, 3 * SECOND);
}

static void greet(struct caller *caller)
{
    struct multi_client *client = multi_caller(caller);
    peer_begin(&client->peer, &(struct peer_setup){
                                  .wire = &caller->wire,
                                  .prng = &caller->prng,
                                  .ops = &PEER_OPS,
                                  .manners = multi_manners(caller->world, &caller->prng),
                                  .client = true,
                              });
    sim_note(caller->io, "plans %u requests, %u at a time%s%s", client->count, client->streams,
             client->hostile ? ", hostile" : "", client->loiters ? ", loiters" : "");
}

/* It has ended: what was not answered will not be. */
static void settle(struct caller *caller, bool gave_up)
{
    struct multi_client *client = multi_caller(caller);
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        const struct peer_stream *stream = client->peer.streams[i];
        enum outcome outcome = stream->final_head ? OUTCOME_CUT : OUTCOME_CLOSED;
        multi_client_settle(client, multi_request_of(stream), gave_up ? OUTCOME_NONE : outcome);
    }
}

static void note_sent(struct caller *caller)
{
    struct multi_client *client = multi_caller(caller);
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        const struct multi_request *request = multi_request_of(client->peer.streams[i]);
        struct ledger_exchange *exchange = exchange_of(client, request);
        exchange->head_sent |= client->caller.wire.sent >= request->head_mark;
        exchange->body_sent |= client->caller.wire.sent >= request->body_mark;
    }
}

static bool is_content(struct caller *caller)
{
    const struct multi_client *client = multi_caller(caller);
    if (client->begun < client->count && !client->peer.goaway_came) {
        return false;
    }
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        const struct peer_stream *stream = client->peer.streams[i];
        const struct multi_request *request = multi_request_of(stream);
        bool speaks = request->tunnel && request->silent_after == UINT64_MAX &&
                      !stream->out_ended && !peer_stream_is_over(stream);
        if (!request->settled || speaks) {
            return false;
        }
    }
    return !client->loiters && (!client->hostile || client->peer.goaway_came);
}

/* A connection that is refused before the worker has seen what is spoken is told so by HTTP/1. */
static bool is_refusal(const struct multi_client *client, struct span bytes)
{
    bool first = client->caller.wire.received == bytes.size && client->peer.settings_due &&
                 client->caller.wire.secure == NULL;
    return first && bytes.data[0] == 'H'; /* as no SETTINGS begin */
}

static bool take(struct caller *caller, struct span bytes)
{
    struct multi_client *client = multi_caller(caller);
    client->noisy |= is_refusal(client, bytes);
    if (!client->noisy) { /* then nothing that comes means anything */
        peer_feed(&client->peer, bytes);
        peer_tend(&client->peer);
    }
    return true;
}

static void keep_appointments(struct caller *caller)
{
    struct multi_client *client = multi_caller(caller);
    uint64_t now = io_now(caller->io);
    if (client->noisy) {
        return;
    }
    if (now >= client->change_at) {
        multi_change_settings(&client->peer, client->caller.world, &client->caller.prng);
        client->change_at = now + sim_magnitude(&client->caller.prng, 1000, 5 * SECOND);
    }
    if (now >= client->goodbye_at) {
        client->goodbye_at = UINT64_MAX;
        client->count = client->begun;
        client->hostile = client->loiters = false;
        peer_push_goaway(&client->peer, 0, NGHTTP2_NO_ERROR);
    }
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        struct peer_stream *stream = client->peer.streams[i];
        struct multi_request *request = multi_request_of(stream);
        if (now >= request->reset_at && !request->settled) {
            sim_note(client->caller.io, "resets request %u", request->number);
            peer_push_reset(&client->peer, stream, NGHTTP2_CANCEL);
            multi_client_settle(client, request, OUTCOME_NONE);
        }
    }
    peer_tend(&client->peer);
}

/* A GOAWAY, or the last acknowledgements, may still leave. */
static void end(struct caller *caller)
{
    (void)wire_pump(&caller->wire, UINT64_MAX);
    note_sent(caller);
    peer_end(&multi_caller(caller)->peer);
}

static uint64_t wake_time(struct caller *caller)
{
    const struct multi_client *client = multi_caller(caller);
    if (client->noisy) {
        return UINT64_MAX;
    }
    uint64_t wake = earliest(client->change_at, client->goodbye_at);
    wake = earliest(wake, peer_wake_time(&client->peer));
    return earliest(wake, multi_client_wake_time(client));
}

static const struct caller_ops OPS = {
    .name = "multi",
    .http2 = true,
    .plan = plan,
    .greet = greet,
    .keep_appointments = keep_appointments,
    .produce = multi_client_produce,
    .note_sent = note_sent,
    .take = take,
    .is_content = is_content,
    .settle = settle,
    .end = end,
    .wake_time = wake_time,
};

struct caller *multi_client_create(struct world *world, uint32_t index)
{
    struct multi_client *client = calloc(1, sizeof(*client));
    ASSERT(client != NULL);
    caller_init(&client->caller, &OPS, world, index);
    return &client->caller;
}
