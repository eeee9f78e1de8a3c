/* What an origin answers, and how it fails to. */
#include "call.h"
#include "origin.h"

enum {
    BUFFERED_MAX = 16 * 1024,
    PIECE_MAX = 2048,
};

static const char *const malformed_heads[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n",
    "HTTP/1.1 200 OK\r\nBad Name: 5\r\nContent-Length: 5\r\n",
    "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 5\r\n",
    "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n",
    "HTTP/1.1 099 No\r\nContent-Length: 5\r\n",
    "HTTP/2.1 200 OK\r\nContent-Length: 5\r\n",
    "ICY 200 OK\r\nContent-Length: 5\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n",
};

enum { MALFORMED_COUNT = sizeof(malformed_heads) / sizeof(malformed_heads[0]) };

static enum fate draw_fate(struct server *server)
{
    const struct habits *habits = &server->world->habits;
    struct prng *prng = &server->prng;
    if (sim_chance(prng, habits->origin_fails)) {
        static const enum fate fates[] = {FATE_CLOSE, FATE_ABORT, FATE_HALF_HEAD};
        return fates[prng_below(prng, 3)];
    }
    if (sim_chance(prng, habits->origin_truncates)) {
        return sim_chance(prng, 500) ? FATE_TRUNCATE : FATE_RESET;
    }
    if (sim_chance(prng, habits->origin_malformed)) {
        return FATE_MALFORMED;
    }
    if (sim_chance(prng, habits->origin_silent)) {
        return FATE_SILENT;
    }
    return sim_chance(prng, habits->origin_extra) ? FATE_EXTRA : FATE_COMPLETE;
}

static void draw_framing(struct server *server, struct response_plan *plan)
{
    struct prng *prng = &server->prng;
    plan->closes = sim_chance(prng, server->world->habits.origin_closes);
    plan->framing = sim_chance(prng, 500) ? BODY_LENGTH : BODY_CHUNKED;
    if (plan->closes && sim_chance(prng, 500)) {
        plan->framing = BODY_CLOSE;
    }
    bool ends_early = plan->fate == FATE_TRUNCATE || plan->fate == FATE_EXTRA;
    if (ends_early && plan->framing == BODY_CLOSE) {
        plan->framing = BODY_LENGTH; /* nothing but the FIN is its end */
    }
}

/* The answer to a call ends with trailers; of no body, it may be nothing but a head. */
static void plan_call(struct server *server, struct response_plan *plan)
{
    plan->status = sim_chance(&server->prng, 900) ? 200 : 503;
    plan->call = plan->status == 200;
    plan->grpc_status = plan->call ? call_draw_status(&server->prng) : CALL_NO_STATUS;
    if (plan->call) {
        bool bare = plan->fate == FATE_COMPLETE && sim_chance(&server->prng, 200);
        plan->framing = bare ? BODY_LENGTH : BODY_CHUNKED;
        plan->size = bare ? 0 : plan->size;
    }
}

void origin_plan(struct origin_connection *connection)
{
    struct server *server = connection->base.server;
    const struct habits *habits = &server->world->habits;
    struct prng *prng = &server->prng;
    struct response_plan *plan = &connection->plan;
    *plan = (struct response_plan){
        .fate = draw_fate(server),
        .status = server_draw_status(server),
        .size = sim_magnitude(prng, 1, habits->response_max + 1) - 1,
        .early = sim_chance(prng, habits->origin_early),
        .slow = sim_chance(prng, habits->origin_slow),
    };
    draw_framing(server, plan);
    if (connection->call) {
        plan_call(server, plan);
    }
    if (connection->verb == VERB_HEAD || plan->status == 204 || plan->status == 304) {
        plan->framing = BODY_NONE;
        plan->size = 0;
        if (plan->fate == FATE_TRUNCATE || plan->fate == FATE_RESET) {
            plan->fate = FATE_HALF_HEAD;
        }
    }
    if (plan->fate == FATE_TRUNCATE || plan->fate == FATE_RESET) {
        plan->size += plan->size == 0 ? 1 : 0;
        plan->cut_at = sim_between(prng, 0, plan->size - 1);
    }
    connection->next_send = io_now(server->io);
    if (plan->slow) {
        connection->next_send += sim_magnitude(prng, 1000, 2 * SECOND);
    }
    struct ledger_exchange *exchange = ledger_get(&server->world->ledger, connection->number);
    exchange->attempt[connection->attempt] = (struct ledger_attempt){
        .status = plan->status,
        .size = plan->size,
        .grpc_status = plan->grpc_status,
        .sound = plan->fate != FATE_MALFORMED && plan->fate != FATE_HALF_HEAD &&
                 plan->fate != FATE_CLOSE && plan->fate != FATE_ABORT,
    };
    sim_note(server->io, "exchange %u, attempt %u: fate %d, status %u, framing %d, %llu bytes%s%s",
             connection->number, connection->attempt, (int)plan->fate, plan->status,
             (int)plan->framing, (unsigned long long)plan->size, plan->early ? ", early" : "",
             plan->slow ? ", slow" : "");
}

static void push_interim(struct origin_connection *connection)
{
    struct server *server = connection->base.server;
    if (sim_chance(&server->prng, server->world->habits.origin_interim)) {
        wire_printf(&connection->base.wire,
                    "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
    }
}

static void push_head(struct origin_connection *connection)
{
    const struct response_plan *plan = &connection->plan;
    struct wire *wire = &connection->base.wire;
    struct prng *prng = &connection->base.server->prng;
    connection->head_made = true;
    push_interim(connection);
    if (plan->fate == FATE_MALFORMED) {
        wire_printf(wire, "%sX-Exchange: %u-%u\r\n\r\nabcde",
                    malformed_heads[prng_below(prng, MALFORMED_COUNT)], connection->number,
                    connection->attempt);
        connection->end_made = true;
        return;
    }
    wire_printf(wire, "HTTP/1.1 %u Whatever\r\nX-Exchange: %u-%u\r\n", plan->status,
                connection->number, connection->attempt);
    if (plan->fate == FATE_HALF_HEAD) {
        wire_printf(wire, "Content-Le");
        connection->end_made = true;
        return;
    }
    if (plan->framing == BODY_LENGTH || (connection->verb == VERB_HEAD && plan->status == 200)) {
        wire_printf(wire, "Content-Length: %llu\r\n", (unsigned long long)plan->size);
    } else if (plan->framing == BODY_CHUNKED) {
        wire_printf(wire, "Transfer-Encoding: chunked\r\n");
    }
    if (plan->call) {
        wire_printf(wire, "Content-Type: application/grpc\r\n");
    }
    if (plan->call && plan->framing == BODY_LENGTH) {
        wire_printf(wire, "grpc-status: %u\r\n", plan->grpc_status);
    }
    if (plan->closes) {
        wire_printf(wire, "Connection: close\r\n");
    } else if (sim_chance(prng, 200)) {
        wire_printf(wire, "Keep-Alive: timeout=%u\r\n", prng_below(prng, 5));
    }
    wire_printf(wire, "\r\n");
}

/*
 * A response to nothing: whoever takes it for one of his own gets a foreign mark. Where it may come
 * after the proxy has sent the next request nobody could tell it from an answer: then it is
 * garbage.
 */
static void push_extra(struct wire *wire, bool response)
{
    if (response) {
        wire_printf(wire,
                    "HTTP/1.1 200 OK\r\nX-Exchange: 999999-0\r\nContent-Length: 3\r\n\r\nbad");
    } else {
        wire_printf(wire, "<html>garbage");
    }
}

static void push_end(struct origin_connection *connection)
{
    struct server *server = connection->base.server;
    connection->end_made = true;
    if (connection->plan.framing == BODY_CHUNKED) {
        wire_printf(&connection->base.wire, "0\r\n%s",
                    sim_chance(&server->prng, 200) ? "Server-Timing: db;dur=5\r\n" : "");
        if (connection->plan.call) {
            wire_printf(&connection->base.wire, "grpc-status: %u\r\n",
                        connection->plan.grpc_status);
        }
        wire_printf(&connection->base.wire, "\r\n");
    }
    ledger_get(&server->world->ledger, connection->number)->attempt[connection->attempt].complete =
        true;
    if (connection->plan.fate == FATE_EXTRA) {
        push_extra(&connection->base.wire, server->world->habits.extra_responses);
    }
}

static void push_body(struct origin_connection *connection, uint64_t until)
{
    uint8_t bytes[PIECE_MAX];
    uint64_t left = until - connection->offset;
    size_t piece = (size_t)sim_magnitude(&connection->base.server->prng, 1, sizeof(bytes));
    piece = piece < left ? piece : (size_t)left;
    payload_fill(connection->number, SIDE_RESPONSE, connection->offset, bytes, piece);
    bool chunked = connection->plan.framing == BODY_CHUNKED;
    if (chunked) {
        wire_printf(&connection->base.wire, "%zx\r\n", piece);
    }
    wire_push(&connection->base.wire, bytes, piece);
    if (chunked) {
        wire_printf(&connection->base.wire, "\r\n");
    }
    connection->offset += piece;
}

/* False: the plan says to break off here, and all before it is sent. */
static bool produce(struct origin_connection *connection)
{
    const struct response_plan *plan = &connection->plan;
    bool cuts = plan->fate == FATE_TRUNCATE || plan->fate == FATE_RESET;
    uint64_t until = cuts ? plan->cut_at : plan->size;
    while (wire_unsent(&connection->base.wire) < BUFFERED_MAX && !connection->end_made) {
        if (!connection->head_made) {
            push_head(connection);
        } else if (connection->offset < until) {
            push_body(connection, until);
        } else if (cuts) {
            return wire_unsent(&connection->base.wire) > 0;
        } else {
            push_end(connection);
        }
    }
    return true;
}

bool origin_respond(struct origin_connection *connection)
{
    const struct response_plan *plan = &connection->plan;
    uint64_t now = io_now(connection->base.server->io);
    uint64_t most = UINT64_MAX;
    if (plan->fate == FATE_CLOSE || plan->fate == FATE_ABORT) {
        return false;
    }
    if (plan->slow) {
        if (now < connection->next_send) {
            return true;
        }
        most = sim_magnitude(&connection->base.server->prng, 1, 4000);
        connection->next_send = now + sim_magnitude(&connection->base.server->prng, 1000, SECOND);
    }
    while (most > 0 && !connection->base.wire.failed) {
        if (!produce(connection)) {
            return false;
        }
        size_t sent = wire_pump(&connection->base.wire, most);
        if (sent == 0) {
            break;
        }
        most -= sent;
    }
    if (plan->fate == FATE_HALF_HEAD && wire_unsent(&connection->base.wire) == 0) {
        return false;
    }
    return !connection->base.wire.failed;
}
