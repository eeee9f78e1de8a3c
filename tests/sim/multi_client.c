/* What a client of HTTP/2 does with its connections, and what it hears on them. */
#include <stdlib.h>

#include "base/assert.h"
#include "multi.h"

enum {
    PATIENCE = 300 * SECOND, /* without a byte either way: every timer of a proxy is shorter */
    READS_MAX = 32,          /* in one turn */
};

static bool draws(struct multi_client *client, uint32_t permille)
{
    return sim_chance(&client->prng, permille);
}

/* ---- What is heard ---- */

static struct ledger_exchange *exchange_of(const struct multi_client *client,
                                           const struct multi_request *request)
{
    return ledger_get(&client->world->ledger, request->number);
}

void multi_client_settle(struct multi_client *client, struct multi_request *request,
                         enum outcome outcome)
{
    if (!request->settled) {
        request->settled = true;
        struct ledger_exchange *exchange = exchange_of(client, request);
        exchange->outcome = outcome;
        exchange->received = request->received;
        sim_note(client->io, "request %u: outcome %d, status %u, %llu bytes", request->number,
                 (int)outcome, exchange->status, (unsigned long long)request->received);
    }
}

/* The origin's mark, `number-attempt`: whose response is this? */
static void read_mark(struct peer *peer, const struct multi_request *request,
                      struct ledger_exchange *exchange)
{
    struct span mark = peer_value(peer, "x-exchange");
    exchange->from_origin = mark.data != NULL;
    if (mark.data == NULL) {
        return;
    }
    size_t dash = span_find(mark, '-');
    if (digits_at(mark, 0) != request->number || dash == mark.size) {
        run_failed("the response of exchange %.*s reached the stream of %u", SPAN_ARGS(mark),
                   request->number);
    }
    exchange->answered_by = (uint32_t)digits_at(mark, dash + 1);
}

static void on_head(struct peer *peer, struct peer_stream *stream)
{
    struct multi_client *client = multi_client_of(peer);
    struct multi_request *request = multi_request_of(stream);
    struct ledger_exchange *exchange = exchange_of(client, request);
    if (stream->final_head) {
        return; /* trailers */
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
    exchange->status = (uint16_t)status;
    read_mark(peer, request, exchange);
    if (exchange->hostile && status < 400) {
        run_failed("exchange %u: a request that must be refused got %u", request->number,
                   exchange->status);
    }
    bool bodiless = exchange->verb == VERB_HEAD || status == 204 || status == 304;
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
    sim_note(client->io, "request %u was reset with %u", request->number, code);
    if (code == NGHTTP2_REFUSED_STREAM) {
        exchange_of(client, request)->unprocessed = true;
    }
    multi_client_settle(client, request, stream->final_head ? OUTCOME_CUT : OUTCOME_CLOSED);
}

/* What it excludes was not looked at. */
static void on_goaway(struct peer *peer, uint32_t last)
{
    struct multi_client *client = multi_client_of(peer);
    sim_note(client->io, "is told goodbye behind stream %u", last);
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        struct peer_stream *stream = peer->streams[i];
        if (stream->id > last && !multi_request_of(stream)->settled) {
            stream->reset_came = true;
            exchange_of(client, multi_request_of(stream))->unprocessed = true;
            multi_client_settle(client, multi_request_of(stream), OUTCOME_CLOSED);
        }
    }
}

const struct peer_ops multi_client_ops = {
    .head = on_head, .data = on_data, .ended = on_ended, .reset = on_reset, .goaway = on_goaway};

/* ---- A connection ---- */

/* It has ended: what was not answered will not be. */
static void settle_all(struct multi_client *client, bool gave_up)
{
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        const struct peer_stream *stream = client->peer.streams[i];
        enum outcome outcome = stream->final_head ? OUTCOME_CUT : OUTCOME_CLOSED;
        multi_client_settle(client, multi_request_of(stream), gave_up ? OUTCOME_NONE : outcome);
    }
}

static uint64_t draw_time(struct multi_client *client, uint32_t permille, uint64_t most)
{
    bool happens = draws(client, permille);
    return happens ? io_now(client->io) + sim_magnitude(&client->prng, 100, most) : UINT64_MAX;
}

static void plan_connection(struct multi_client *client)
{
    const struct habits *habits = &client->world->habits;
    struct prng *prng = &client->prng;
    client->count = (uint32_t)sim_between(prng, 1, habits->multi.requests);
    client->streams = (uint32_t)sim_between(prng, 1, habits->multi.streams);
    client->begun = 0;
    client->hostile = draws(client, habits->hostile);
    client->loiters = draws(client, 200);
    client->noisy = false;
    client->slow_sender = draws(client, habits->slow_sender);
    client->slow_reader = draws(client, habits->slow_reader);
    client->next_send = client->next_read = client->progress_at = io_now(client->io);
    client->abort_at = draw_time(client, habits->aborts, 20 * SECOND);
    client->change_at = draw_time(client, habits->multi.changes, 3 * SECOND);
    client->goodbye_at = draw_time(client, habits->multi.goodbyes, 3 * SECOND);
}

static void connection_over(struct multi_client *client)
{
    peer_end(&client->peer);
    client->connections_left--;
    client->state = client->connections_left == 0 ? MULTI_FINISHED : MULTI_PAUSED;
    client->begin_at = io_now(client->io) + sim_magnitude(&client->prng, 1, 5 * SECOND);
}

static void open_connection(struct multi_client *client)
{
    plan_connection(client);
    if (!wire_connect(&client->wire, &client->world->entry)) {
        connection_over(client);
        return;
    }
    client->state = MULTI_TALKING;
    peer_begin(&client->peer, &(struct peer_setup){
                                  .wire = &client->wire,
                                  .prng = &client->prng,
                                  .ops = &multi_client_ops,
                                  .manners = multi_manners(client->world, &client->prng),
                                  .client = true,
                              });
    sim_note(client->io, "plans %u requests, %u at a time%s%s%s%s", client->count, client->streams,
             client->slow_sender ? ", sends slowly" : "",
             client->slow_reader ? ", reads slowly" : "", client->hostile ? ", hostile" : "",
             client->loiters ? ", loiters" : "");
}

/* Tells the ledger whose last byte has left. */
static void note_sent(struct multi_client *client)
{
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        const struct multi_request *request = multi_request_of(client->peer.streams[i]);
        struct ledger_exchange *exchange = exchange_of(client, request);
        exchange->head_sent |= client->wire.sent >= request->head_mark;
        exchange->body_sent |= client->wire.sent >= request->body_mark;
    }
}

static void send_some(struct multi_client *client)
{
    uint64_t now = io_now(client->io);
    uint64_t most = UINT64_MAX;
    if (client->slow_sender) {
        if (now < client->next_send) {
            return;
        }
        most = sim_magnitude(&client->prng, 1, 2000);
        client->next_send = now + sim_magnitude(&client->prng, 100, SECOND);
    }
    while (!client->wire.failed && most > 0) {
        multi_client_produce(client);
        size_t sent = wire_pump(&client->wire, most);
        note_sent(client);
        if (sent == 0) {
            break;
        }
        most -= sent;
        client->progress_at = now;
    }
}

/* Everything that was asked is answered, and nothing keeps the client here. */
static bool is_content(const struct multi_client *client)
{
    if (client->begun < client->count && !client->peer.goaway_came) {
        return false;
    }
    for (uint32_t i = 0; i < client->peer.stream_count; i++) {
        if (!multi_request_of(client->peer.streams[i])->settled) {
            return false;
        }
    }
    return !client->loiters && (!client->hostile || client->peer.goaway_came);
}

/* False: the connection is over. */
static bool receive(struct multi_client *client)
{
    uint64_t now = io_now(client->io);
    uint8_t bytes[2048];
    size_t size = sizeof(bytes);
    for (int reads = 0; reads < READS_MAX; reads++) {
        if (client->slow_reader) {
            if (now < client->next_read) {
                return true;
            }
            size = (size_t)sim_magnitude(&client->prng, 1, sizeof(bytes));
            client->next_read = now + sim_magnitude(&client->prng, 1000, SECOND / 2);
        }
        size_t got = 0;
        enum status status = wire_read(&client->wire, bytes, size, &got);
        if (status == AGAIN) {
            return true;
        }
        if (status != OK) {
            settle_all(client, false);
            return false;
        }
        client->progress_at = now;
        if (!client->noisy) { /* then nothing that comes means anything */
            peer_feed(&client->peer, span_of(bytes, got));
            peer_tend(&client->peer);
        }
    }
    io_requeue(client->io, &client->wire.socket);
    return true;
}

static void keep_appointments(struct multi_client *client)
{
    uint64_t now = io_now(client->io);
    if (now >= client->change_at) {
        multi_change_settings(&client->peer, client->world, &client->prng);
        client->change_at = now + sim_magnitude(&client->prng, 1000, 5 * SECOND);
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
            sim_note(client->io, "resets request %u", request->number);
            peer_push_reset(&client->peer, stream, NGHTTP2_CANCEL);
            multi_client_settle(client, request, OUTCOME_NONE);
        }
    }
}

static void lose_patience(struct multi_client *client)
{
    if (!sim_socket_is_stalled(client->io, &client->wire.socket)) {
        run_failed("a client waited %d s (of the virtual clock) without an answer or a close",
                   PATIENCE / SECOND);
    }
    settle_all(client, true);
}

/* False: nothing more can come of this connection. */
static bool talk(struct multi_client *client)
{
    uint64_t now = io_now(client->io);
    if (now >= client->abort_at) {
        sim_note(client->io, "gives up");
        settle_all(client, true);
        return false;
    }
    if (now - client->progress_at > PATIENCE) {
        lose_patience(client);
        return false;
    }
    if (!wire_is_connected(&client->wire)) {
        return !client->wire.failed;
    }
    if (!client->noisy) {
        keep_appointments(client);
        peer_tend(&client->peer);
    }
    send_some(client);
    /* A failed write says nothing of what the peer had sent before: read on. */
    return receive(client) && !is_content(client);
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t wake_time(const struct multi_client *client)
{
    if (client->state == MULTI_PAUSED) {
        return client->begin_at;
    }
    if (client->state == MULTI_FINISHED) {
        return UINT64_MAX;
    }
    uint64_t wake = earliest(client->abort_at, client->progress_at + PATIENCE + 1);
    if (!client->wire.connected) {
        return wake;
    }
    if (!client->noisy) {
        wake = earliest(wake, earliest(client->change_at, client->goodbye_at));
        wake = earliest(wake, peer_wake_time(&client->peer));
        wake = earliest(wake, multi_client_wake_time(client));
    }
    if (client->slow_sender && wire_unsent(&client->wire) > 0) {
        wake = earliest(wake, client->next_send);
    }
    return client->slow_reader ? earliest(wake, client->next_read) : wake;
}

static void client_turn(void *context)
{
    struct multi_client *client = context;
    io_wait(client->io, wake_time(client));
    while (io_next_ready(client->io) != NULL) {
    }
    if (client->state == MULTI_PAUSED && io_now(client->io) >= client->begin_at) {
        open_connection(client);
    }
    if (client->state == MULTI_TALKING && !talk(client)) {
        (void)wire_pump(&client->wire, UINT64_MAX); /* a GOAWAY, or the last acknowledgements */
        note_sent(client);
        wire_close(&client->wire, draws(client, 300));
        connection_over(client);
    }
}

struct multi_client *multi_client_create(struct world *world, uint32_t index)
{
    struct multi_client *client = calloc(1, sizeof(*client));
    ASSERT(client != NULL);
    char name[24];
    (void)snprintf(name, sizeof(name), "multi%u", index);
    client->world = world;
    client->io = sim_node_create(world->sim, name);
    if (world->habits.hosts > 0) {
        struct address host = client_host(index % world->habits.hosts);
        sim_node_set_host(client->io, &host);
    }
    prng_init(&client->prng, prng_next(&world->prng));
    client->connections_left = (uint32_t)sim_between(&client->prng, 1, world->habits.connections);
    client->begin_at = sim_now(world->sim) + sim_magnitude(&client->prng, 1, 3 * SECOND);
    wire_init(&client->wire, client->io);
    sim_node_run(client->io, client_turn, client);
    return client;
}

void multi_client_destroy(struct multi_client *client)
{
    if (client != NULL) {
        peer_end(&client->peer);
        wire_deinit(&client->wire);
        free(client);
    }
}

bool multi_client_is_finished(const struct multi_client *client)
{
    return client->state == MULTI_FINISHED;
}
