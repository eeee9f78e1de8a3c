#include "caller.h"

#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"

enum {
    PATIENCE = 300 * SECOND, /* without a byte either way: every timer of a proxy is shorter */
    READS_MAX = 32,          /* in one turn */
};

uint64_t caller_draw_time(struct caller *caller, uint32_t permille, uint64_t most)
{
    bool happens = caller_draws(caller, permille);
    return happens ? io_now(caller->io) + sim_magnitude(&caller->prng, 100, most) : UINT64_MAX;
}

uint32_t caller_add_exchange(struct caller *caller, enum verb verb, uint64_t size)
{
    uint32_t number = ledger_add(&caller->world->ledger, verb, size);
    struct ledger_exchange *exchange = caller_exchange(caller, number);
    exchange->hostile = header_is_hostile(&caller->header) || secure_is_hostile(&caller->secure);
    if (caller->world->habits.hosts > 0) {
        exchange->client = caller->header.client;
    }
    return number;
}

enum verb caller_draw_verb(struct caller *caller)
{
    const struct habits *habits = &caller->world->habits;
    if (caller_draws(caller, habits->bodies)) {
        return caller_draws(caller, 700) ? VERB_POST : VERB_PUT;
    }
    return caller_draws(caller, habits->heads) ? VERB_HEAD : VERB_GET;
}

void caller_read_mark(struct caller *caller, uint32_t number, struct span mark)
{
    struct ledger_exchange *exchange = caller_exchange(caller, number);
    exchange->from_origin = mark.data != NULL;
    if (mark.data == NULL) {
        return;
    }
    size_t dash = span_find(mark, '-');
    if (digits_at(mark, 0) != number || dash == mark.size) {
        run_failed("the response of exchange %.*s reached the client of %u", SPAN_ARGS(mark),
                   number);
    }
    exchange->answered_by = (uint32_t)digits_at(mark, dash + 1);
}

void caller_note_status(struct caller *caller, uint32_t number, uint16_t status)
{
    struct ledger_exchange *exchange = caller_exchange(caller, number);
    exchange->status = status;
    if (exchange->hostile && status < 400) {
        run_failed("exchange %u: a request that must be refused got %u", number, status);
    }
    enum secure_kind kind = caller->secure.kind;
    uint16_t due = kind == SECURE_PLAIN ? 400 : 421;
    bool told = kind == SECURE_PLAIN || kind == SECURE_OTHER_NAME;
    if (told && caller->world->habits.strict && !fault_has_struck() && status != due) {
        run_failed("exchange %u: status %u, which should be %u", number, status, due);
    }
}

/* ---- A connection ---- */

static void plan_connection(struct caller *caller)
{
    const struct habits *habits = &caller->world->habits;
    caller->slow_sender = caller_draws(caller, habits->slow_sender);
    caller->slow_reader = caller_draws(caller, habits->slow_reader);
    caller->next_send = caller->next_read = caller->progress_at = io_now(caller->io);
    caller->silent_after = UINT64_MAX;
    caller->abort_at = caller_draw_time(caller, habits->aborts, 20 * SECOND);
    caller->connected_at = caller->header_sent_at = 0;
    header_draw(caller->world, &caller->prng, caller->host, &caller->header);
    caller->ops->plan(caller);
    if (caller->header.kind == HEADER_CUT) {
        caller->silent_after = caller->header.size;
    } else if (caller->silent_after != UINT64_MAX) {
        caller->silent_after += caller->header.size;
    }
    bool secured = secure_draw(caller->world, &caller->prng, caller->ops->http2, &caller->secure);
    caller->wire.secure = secured ? &caller->secure : NULL;
    caller->secure.prefix = caller->header.size;
    caller->secure.limit = caller->silent_after;
    if (caller->header.kind == HEADER_CUT) {
        secure_fall_silent(&caller->secure);
    }
}

static void connection_over(struct caller *caller)
{
    caller->connections_left--;
    caller->state = caller->connections_left == 0 ? CALLER_FINISHED : CALLER_PAUSED;
    caller->begin_at = io_now(caller->io) + sim_magnitude(&caller->prng, 1, 5 * SECOND);
}

static void open_connection(struct caller *caller)
{
    plan_connection(caller);
    if (!wire_connect(&caller->wire, &caller->world->entry)) {
        connection_over(caller);
        return;
    }
    caller->state = CALLER_TALKING;
    enum header_kind kind = caller->header.kind;
    caller->world->bad_headers += kind == HEADER_BAD || kind == HEADER_MISSING;
    caller->world->cut_headers += kind == HEADER_CUT && caller->header.size > 0;
    wire_push(&caller->wire, caller->header.bytes, caller->header.size);
    caller->ops->greet(caller);
    sim_note(caller->io, "header %d%s%s%s", (int)kind, caller->header.drips ? ", drips" : "",
             caller->slow_sender ? ", sends slowly" : "",
             caller->slow_reader ? ", reads slowly" : "");
    if (caller->world->habits.secure.on) {
        caller->world->secured[caller->secure.kind]++;
        sim_note(caller->io, "secured as %d, end %d after %llu, names \"%.*s\", offers %u",
                 (int)caller->secure.kind, (int)caller->secure.end,
                 (unsigned long long)caller->secure.end_after, SPAN_ARGS(caller->secure.name),
                 caller->secure.offers);
    }
}

/* Whether what is sent next is a part of a header that drips. */
static bool is_dripping(const struct caller *caller)
{
    bool shakes = caller->wire.secure != NULL && !caller->secure.established;
    return (caller->header.drips && caller->wire.sent < caller->header.size) ||
           (caller->secure.drips && shakes);
}

static void send_some(struct caller *caller)
{
    uint64_t now = io_now(caller->io);
    uint64_t most = UINT64_MAX;
    if (caller->slow_sender || is_dripping(caller)) {
        if (now < caller->next_send) {
            return;
        }
        bool drips = is_dripping(caller);
        most = sim_magnitude(&caller->prng, 1, drips ? HEADER_PIECE_MAX : 2000);
        caller->next_send = now + sim_magnitude(&caller->prng, 100, drips ? HEADER_PAUSE : SECOND);
    }
    if (caller->silent_after != UINT64_MAX && caller->wire.secure == NULL) {
        uint64_t sent = caller->wire.sent;
        most = earliest(most, caller->silent_after > sent ? caller->silent_after - sent : 0);
    }
    while (!caller->wire.failed && most > 0) {
        caller->ops->produce(caller);
        size_t sent = wire_pump(&caller->wire, most);
        caller->ops->note_sent(caller); /* an empty body has left with its head */
        if (sent == 0) {
            break;
        }
        most -= sent;
        if (!sim_socket_is_stalled(caller->io, &caller->wire.socket)) {
            caller->progress_at = now; /* else nobody will ever have it */
        }
    }
    if (caller->header_sent_at == 0 && caller->wire.sent >= caller->header.size) {
        caller->header_sent_at = now;
    }
}

/* Something comes from the other side: whether it may, after such a header. */
static void judge_header(const struct caller *caller)
{
    if (header_is_refused(&caller->header)) {
        run_failed("a client without a good PROXY header got an answer");
    }
    uint64_t took = caller->header_sent_at - caller->connected_at;
    if (caller->header.kind == HEADER_GOOD &&
        (caller->header_sent_at == 0 || took > HEADER_TIMEOUT + HEADER_SLACK)) {
        run_failed("a client got an answer though its PROXY header was too slow");
    }
}

/* When the handshake's time began, or will at the earliest. */
static uint64_t handshake_began(const struct caller *caller)
{
    return caller->header_sent_at > caller->connected_at ? caller->header_sent_at
                                                         : caller->connected_at;
}

/* Bytes come behind a handshake: whether it was in time. */
static void judge_handshake(const struct caller *caller)
{
    uint64_t took = caller->secure.shaken_at - handshake_began(caller);
    if (caller->wire.secure != NULL &&
        (caller->secure.shaken_at == 0 || took > HANDSHAKE_TIMEOUT + HANDSHAKE_SLACK)) {
        run_failed("a client got an answer though its handshake was too slow");
    }
}

/* Who cannot come through his handshake is cut off. */
static void judge_shaking(const struct caller *caller, uint64_t now)
{
    if (caller->wire.secure != NULL && secure_is_refused(&caller->secure) &&
        caller->header_sent_at != 0 && !header_is_refused(&caller->header) &&
        now > handshake_began(caller) + HANDSHAKE_TIMEOUT + HANDSHAKE_SLACK &&
        !sim_socket_is_stalled(caller->io, &caller->wire.socket)) {
        run_failed("a client whose handshake fails (%d) is still connected after %llu us",
                   (int)caller->secure.kind, (unsigned long long)(now - handshake_began(caller)));
    }
}

/* Whoever sends no good header in time is cut off. */
static void judge_patience(const struct caller *caller, uint64_t now)
{
    if (header_is_refused(&caller->header) &&
        now > caller->connected_at + HEADER_TIMEOUT + HEADER_SLACK &&
        !sim_socket_is_stalled(caller->io, &caller->wire.socket)) {
        run_failed("a client without a good PROXY header is still connected after %llu us",
                   (unsigned long long)(now - caller->connected_at));
    }
}

/* False: it is over. */
static bool take(struct caller *caller, struct span bytes)
{
    if (caller->header.kind != HEADER_UNASKED) {
        return caller->ops->take(caller, bytes);
    }
    /* A bad request, or one too many; no answer of HTTP/2 begins like this. */
    if (caller->wire.received == bytes.size && bytes.data[0] != 'H') {
        run_failed("a client that sent a PROXY header unasked got \"%.*s\"", SPAN_ARGS(bytes));
    }
    return true;
}

/* False: the connection is over, with everything settled. */
static bool receive(struct caller *caller)
{
    uint64_t now = io_now(caller->io);
    uint8_t bytes[2048];
    size_t size = sizeof(bytes);
    for (int reads = 0; reads < READS_MAX; reads++) {
        if (caller->slow_reader) {
            if (now < caller->next_read) {
                return true;
            }
            size = (size_t)sim_magnitude(&caller->prng, 1, sizeof(bytes));
            caller->next_read = now + sim_magnitude(&caller->prng, 1000, SECOND / 2);
        }
        size_t got = 0;
        enum status status = wire_read(&caller->wire, bytes, size, &got);
        if (status == AGAIN) {
            return true;
        }
        if (status == END && caller->ops->on_end != NULL) {
            caller->ops->on_end(caller);
        }
        if (status == OK) {
            judge_header(caller);
            judge_handshake(caller);
        }
        if (status != OK || !take(caller, span_of(bytes, got))) {
            caller->ops->settle(caller, false);
            return false;
        }
        caller->progress_at = now;
    }
    io_requeue(caller->io, &caller->wire.socket);
    return true;
}

/* The client has waited for too long, which only a silent network or a direct origin may cause. */
static void lose_patience(struct caller *caller)
{
    if (caller->world->proxy != NULL && !sim_socket_is_stalled(caller->io, &caller->wire.socket)) {
        run_failed("a client waited %d s (of the virtual clock) without an answer or a close",
                   PATIENCE / SECOND);
    }
    caller->ops->settle(caller, true);
}

/* False: nothing more can come of this connection. */
static bool talk(struct caller *caller)
{
    uint64_t now = io_now(caller->io);
    if (now >= caller->abort_at) {
        sim_note(caller->io, "gives up");
        caller->ops->settle(caller, true);
        return false;
    }
    if (now - caller->progress_at > PATIENCE) {
        lose_patience(caller);
        return false;
    }
    if (!wire_is_connected(&caller->wire)) {
        return !caller->wire.failed;
    }
    caller->connected_at = caller->connected_at == 0 ? now : caller->connected_at;
    if (caller->ops->keep_appointments != NULL) {
        caller->ops->keep_appointments(caller);
    }
    send_some(caller);
    /* A failed write says nothing of what the peer had sent before: read on. */
    if (!receive(caller) || caller->ops->is_content(caller)) {
        return false;
    }
    judge_patience(caller, now);
    judge_shaking(caller, now);
    return true;
}

static uint64_t wake_time(struct caller *caller)
{
    if (caller->state == CALLER_PAUSED) {
        return caller->begin_at;
    }
    if (caller->state == CALLER_FINISHED) {
        return UINT64_MAX;
    }
    uint64_t wake = earliest(caller->abort_at, caller->progress_at + PATIENCE + 1);
    if (!caller->wire.connected) {
        return wake;
    }
    uint64_t judged_at = caller->connected_at + HEADER_TIMEOUT + HEADER_SLACK + 1;
    if (header_is_refused(&caller->header) && io_now(caller->io) < judged_at) {
        wake = earliest(wake, judged_at);
    }
    judged_at = handshake_began(caller) + HANDSHAKE_TIMEOUT + HANDSHAKE_SLACK + 1;
    if (secure_is_refused(&caller->secure) && io_now(caller->io) < judged_at) {
        wake = earliest(wake, judged_at);
    }
    if ((caller->slow_sender || is_dripping(caller)) && wire_unsent(&caller->wire) > 0 &&
        caller->next_send > io_now(caller->io)) {
        wake = earliest(wake, caller->next_send);
    }
    if (caller->slow_reader) {
        wake = earliest(wake, caller->next_read);
    }
    return earliest(wake, caller->ops->wake_time(caller));
}

static void turn(void *context)
{
    struct caller *caller = context;
    io_wait(caller->io, wake_time(caller));
    while (io_next_ready(caller->io) != NULL) {
    }
    if (caller->state == CALLER_PAUSED && io_now(caller->io) >= caller->begin_at) {
        open_connection(caller);
    }
    if (caller->state == CALLER_TALKING && !talk(caller)) {
        if (caller->ops->end != NULL) {
            caller->ops->end(caller);
        }
        wire_close(&caller->wire, caller_draws(caller, 300));
        connection_over(caller);
    }
}

struct address client_host(uint32_t host)
{
    return (struct address){.family = ADDRESS_IPV4, .ip = {10, 3, 0, (uint8_t)(host + 1)}};
}

void caller_init(struct caller *caller, const struct caller_ops *ops, struct world *world,
                 uint32_t index)
{
    char name[24];
    (void)snprintf(name, sizeof(name), "%s%u", ops->name, index);
    caller->ops = ops;
    caller->world = world;
    caller->io = sim_node_create(world->sim, name);
    if (world->habits.hosts > 0) {
        caller->host = index % world->habits.hosts;
        struct address host = client_host(caller->host);
        sim_node_set_host(caller->io, &host);
    }
    prng_init(&caller->prng, prng_next(&world->prng));
    caller->connections_left = (uint32_t)sim_between(&caller->prng, 1, world->habits.connections);
    caller->begin_at = sim_now(world->sim) + sim_magnitude(&caller->prng, 1, 3 * SECOND);
    wire_init(&caller->wire, caller->io);
    sim_node_run(caller->io, turn, caller);
}

void caller_destroy(struct caller *caller)
{
    if (caller != NULL) {
        wire_deinit(&caller->wire);
        free(caller);
    }
}

bool caller_is_finished(const struct caller *caller)
{
    return caller->state == CALLER_FINISHED;
}
