/*
 * The story of many streams on one connection: clients of the toy protocol, and the real exchanges'
 * upstreams. Some streams are never read until all others are over, some are reset by their client:
 * neither may be felt by the others.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"
#include "seam_mux.h"

enum {
    MUX_CLIENTS = 2,
    MUX_REQUESTS = 80, /* of a client */
    MUX_FROZEN = 8,
    MUX_PATIENCE = 300 * SECOND,
    BUFFERED_MAX = 8 * 1024,
};

struct mux_call {
    uint32_t number;
    uint16_t id; /* 0: not begun */
    bool over;
    bool frozen;       /* gives no window until the others are over */
    uint64_t reset_at; /* bytes moved after which the client resets it; UINT64_MAX: never */
    uint64_t size;     /* of the request's body */
    uint64_t sent;
    bool end_sent;
    uint32_t window; /* it may send */
    uint32_t owed;   /* window it has not given back */
    bool head_read;
    uint64_t received;
};

struct mux_client {
    struct seam *seam;
    struct io *io;
    struct prng prng;
    struct wire wire;
    uint64_t begin_at;
    uint64_t progress_at;
    bool begun;
    bool finished;
    uint32_t count;
    uint32_t started;
    uint32_t over;
    uint32_t frozen; /* ever */
    uint32_t parallel;
    uint32_t next; /* to send */
    struct mux_call calls[MUX_REQUESTS];
    uint8_t inbox[2 * MUX_FRAME_MAX];
    size_t inbox_size;
};

struct mux_clients {
    uint32_t count;
    struct mux_client clients[MUX_CLIENTS];
};

static struct ledger_exchange *exchange_of(struct mux_client *client, const struct mux_call *call)
{
    return ledger_get(&client->seam->world->ledger, call->number);
}

static void push_frame(struct mux_client *client, uint8_t type, uint16_t id, struct span payload)
{
    uint8_t header[MUX_HEADER];
    mux_put_header(header, type, id, payload.size);
    wire_push(&client->wire, header, sizeof(header));
    wire_push(&client->wire, payload.data, payload.size);
}

static void end_call(struct mux_client *client, struct mux_call *call, enum outcome outcome)
{
    exchange_of(client, call)->outcome = outcome;
    call->over = true;
    client->over++;
    sim_note(client->io, "stream %u (exchange %u) is over: %d, %llu bytes", call->id, call->number,
             (int)outcome, (unsigned long long)call->received);
    if (client->seam->manners.calm && !fault_has_struck() && call->reset_at == UINT64_MAX &&
        (outcome != OUTCOME_ANSWERED || !exchange_of(client, call)->from_origin)) {
        run_failed("exchange %u was hurt though only others had reason to be", call->number);
    }
}

static void start_call(struct mux_client *client)
{
    static const enum verb verbs[] = {VERB_GET, VERB_GET, VERB_POST, VERB_PUT};
    const struct habits *habits = &client->seam->world->habits;
    struct mux_call *call = &client->calls[client->started++];
    enum verb verb = verbs[prng_below(&client->prng, 4)];
    bool body = verb == VERB_POST || verb == VERB_PUT;
    uint64_t size = body ? sim_magnitude(&client->prng, 1, habits->request_body_max) : 0;
    *call = (struct mux_call){
        .number = ledger_add(&client->seam->world->ledger, verb, size),
        .id = (uint16_t)client->started,
        .frozen = client->frozen < MUX_FROZEN && sim_chance(&client->prng, 60),
        .reset_at = UINT64_MAX,
        .size = size,
        .end_sent = !body,
        .window = MUX_WINDOW,
    };
    client->frozen += call->frozen;
    if (!call->frozen && sim_chance(&client->prng, habits->aborts)) {
        call->reset_at = sim_magnitude(&client->prng, 1, 20000) - 1;
    }
    char text[MUX_TEXT_MAX];
    int length =
        snprintf(text, sizeof(text), "%s %u %d", verb_name(verb), call->number, body ? 1 : 0);
    push_frame(client, 'H', call->id, span_of(text, (size_t)length));
    if (!body) {
        push_frame(client, 'E', call->id, SPAN_EMPTY);
    }
    exchange_of(client, call)->head_sent = true; /* its origin cannot see it sooner */
    exchange_of(client, call)->body_sent = !body;
    sim_note(client->io, "stream %u: %s %u of %llu bytes%s", call->id, verb_name(verb),
             call->number, (unsigned long long)size, call->frozen ? ", frozen" : "");
}

static void send_body(struct mux_client *client, struct mux_call *call)
{
    uint8_t bytes[MUX_DATA_MAX];
    uint64_t left = call->size - call->sent;
    left = left < call->window ? left : call->window;
    if (left > 0) {
        size_t size = (size_t)sim_magnitude(&client->prng, 1, sizeof(bytes));
        size = size < left ? size : (size_t)left;
        payload_fill(call->number, SIDE_REQUEST, call->sent, bytes, size);
        push_frame(client, 'D', call->id, span_of(bytes, size));
        call->sent += size;
        call->window -= (uint32_t)size;
    }
    if (call->sent == call->size) {
        push_frame(client, 'E', call->id, SPAN_EMPTY);
        call->end_sent = true;
        exchange_of(client, call)->body_sent = true;
    }
}

/* Only the frozen ones are left: now they are read, too. */
static bool may_thaw(const struct mux_client *client)
{
    uint32_t frozen = 0;
    for (uint32_t i = 0; i < client->started; i++) {
        frozen += client->calls[i].frozen && !client->calls[i].over;
    }
    return client->started == client->count && client->over + frozen == client->count;
}

static void give_window(struct mux_client *client, struct mux_call *call)
{
    uint8_t number[4];
    if (call->owed > 0 && !(call->frozen && !may_thaw(client))) {
        mux_put_number(number, call->owed);
        push_frame(client, 'W', call->id, span_of(number, sizeof(number)));
        call->owed = 0;
    }
}

static void tend_call(struct mux_client *client, struct mux_call *call)
{
    if (call->over || call->id == 0) {
        return;
    }
    if (call->sent + call->received >= call->reset_at) {
        push_frame(client, 'R', call->id, SPAN_EMPTY);
        end_call(client, call, OUTCOME_NONE);
        return;
    }
    give_window(client, call);
    if (!call->end_sent) {
        send_body(client, call);
    }
}

static void produce(struct mux_client *client)
{
    while (client->started < client->count &&
           client->started - client->over < client->parallel + client->frozen) {
        start_call(client);
    }
    for (uint32_t i = 0; i < client->started && wire_unsent(&client->wire) < BUFFERED_MAX; i++) {
        client->next = (client->next + 1) % client->started;
        tend_call(client, &client->calls[client->next]);
    }
}

static void on_head(struct mux_client *client, struct mux_call *call, struct span text)
{
    struct ledger_exchange *exchange = exchange_of(client, call);
    size_t space = span_find(text, ' ');
    struct span mark = span_from(text, space + 1);
    exchange->status = (uint16_t)digits_at(text, 0);
    exchange->from_origin = mark.size > 0;
    call->head_read = true;
    if (mark.size > 0) {
        if (digits_at(mark, 0) != call->number) {
            run_failed("the response %.*s reached the stream of %u", SPAN_ARGS(mark), call->number);
        }
        exchange->answered_by = (uint32_t)digits_at(mark, span_find(mark, '-') + 1);
    }
}

static void on_data(struct mux_call *call, struct span bytes)
{
    if (call->owed + bytes.size > MUX_WINDOW) {
        run_failed("exchange %u: %zu bytes beyond the window", call->number, bytes.size);
    }
    payload_verify(call->number, SIDE_RESPONSE, call->received, bytes);
    call->received += bytes.size;
    call->owed += (uint32_t)bytes.size;
}

static void on_frame(struct mux_client *client, const struct mux_frame *frame)
{
    struct mux_call *call = frame->stream >= 1 && frame->stream <= client->started
                                ? &client->calls[frame->stream - 1]
                                : NULL;
    if (call == NULL || (frame->type != 'H' && frame->type != 'R' && frame->type != 'W' &&
                         !call->over && !call->head_read)) {
        run_failed("a client got a frame %c of stream %u", frame->type, frame->stream);
    }
    if (call->over) {
        return; /* on its way when the client had reset it */
    }
    switch (frame->type) {
    case 'H':
        on_head(client, call, frame->payload);
        return;
    case 'D':
        on_data(call, frame->payload);
        return;
    case 'E':
        exchange_of(client, call)->received = call->received;
        if (!call->end_sent) {
            push_frame(client, 'R', call->id, SPAN_EMPTY); /* early: the rest is not wanted */
        }
        end_call(client, call, OUTCOME_ANSWERED);
        return;
    case 'R':
        end_call(client, call, call->head_read ? OUTCOME_CUT : OUTCOME_CLOSED);
        return;
    default:
        call->window += mux_read_number(frame->payload);
    }
}

/* False: the connection is over. */
static bool receive(struct mux_client *client)
{
    enum { READS = 32 };
    for (int i = 0; i < READS; i++) {
        size_t got = 0;
        enum status status = wire_read(&client->wire, client->inbox + client->inbox_size,
                                       sizeof(client->inbox) - client->inbox_size, &got);
        if (status != OK) {
            return status == AGAIN;
        }
        client->progress_at = io_now(client->io);
        struct span bytes = span_of(client->inbox, client->inbox_size + got);
        struct mux_frame frame;
        while ((status = mux_next_frame(&bytes, &frame)) == OK) {
            on_frame(client, &frame);
        }
        if (status == ERROR) {
            run_failed("a client got bytes that are no frames");
        }
        memmove(client->inbox, bytes.data, bytes.size);
        client->inbox_size = bytes.size;
    }
    io_requeue(client->io, &client->wire.socket);
    return true;
}

static void finish(struct mux_client *client)
{
    for (uint32_t i = 0; i < client->started; i++) {
        struct mux_call *call = &client->calls[i];
        if (!call->over) {
            end_call(client, call, call->head_read ? OUTCOME_CUT : OUTCOME_CLOSED);
        }
    }
    wire_close(&client->wire, sim_chance(&client->prng, 300));
    client->finished = true;
}

static void talk(struct mux_client *client)
{
    bool waits = io_now(client->io) - client->progress_at < MUX_PATIENCE;
    if (!wire_is_connected(&client->wire)) {
        if (client->wire.failed || !waits) {
            finish(client);
        }
        return;
    }
    bool lives = receive(client);
    size_t sent = 0;
    do {
        produce(client);
        sent = wire_pump(&client->wire, UINT64_MAX);
        client->progress_at = sent > 0 ? io_now(client->io) : client->progress_at;
    } while (lives && sent > 0);
    if (!lives || client->over == client->count || !waits) {
        finish(client);
    }
}

static void client_turn(void *context)
{
    struct mux_client *client = context;
    uint64_t wake = client->begun ? client->progress_at + MUX_PATIENCE : client->begin_at;
    io_wait(client->io, client->finished ? UINT64_MAX : wake);
    while (io_next_ready(client->io) != NULL) {
    }
    if (!client->begun && io_now(client->io) >= client->begin_at) {
        client->begun = true;
        client->progress_at = io_now(client->io);
        (void)wire_connect(&client->wire, &client->seam->world->entry);
    }
    if (client->begun && !client->finished) {
        talk(client);
    }
}

static void client_init(struct mux_client *client, struct seam *seam)
{
    client->seam = seam;
    client->io = sim_node_create(seam->world->sim, "mux-client");
    prng_init(&client->prng, prng_next(&seam->prng));
    client->begin_at = sim_now(seam->world->sim) + sim_magnitude(&client->prng, 1, SECOND);
    client->parallel = (uint32_t)sim_between(&client->prng, 1, MUX_STREAMS - MUX_FROZEN);
    client->count = (uint32_t)sim_between(&client->prng, 1, MUX_REQUESTS);
    wire_init(&client->wire, client->io);
    sim_node_run(client->io, client_turn, client);
}

static void begin(struct seam *seam)
{
    struct mux_clients *clients = calloc(1, sizeof(*clients));
    ASSERT(clients != NULL);
    seam->actors = clients;
    clients->count = (uint32_t)sim_between(&seam->prng, 1, MUX_CLIENTS);
    for (uint32_t i = 0; i < clients->count; i++) {
        client_init(&clients->clients[i], seam);
    }
}

static void end(struct seam *seam)
{
    struct mux_clients *clients = seam->actors;
    for (uint32_t i = 0; i < clients->count; i++) {
        wire_deinit(&clients->clients[i].wire);
    }
    free(clients);
}

static bool is_finished(const struct seam *seam)
{
    const struct mux_clients *clients = seam->actors;
    for (uint32_t i = 0; i < clients->count; i++) {
        if (!clients->clients[i].finished) {
            return false;
        }
    }
    return true;
}

const struct seam_story seam_multiplex = {
    .begin = begin,
    .end = end,
    .is_finished = is_finished,
    .session_create = mux_session_create,
    .session_start = mux_session_start,
    .head = seam_exchange_begin,
};
