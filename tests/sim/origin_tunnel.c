/* A tunnel at an origin of HTTP/1: what was asked for by Upgrade, and granted with a 101. */
#include "origin.h"

enum {
    BUFFERED_MAX = 16 * 1024,
    PIECE_MAX = 2048,
};

void origin_refuse_tunnel(struct origin_connection *connection)
{
    struct ledger_exchange *exchange =
        ledger_get(server_ledger(&connection->base), connection->number);
    connection->plan.status = 404;
    connection->plan.framing = connection->plan.size == 0 ? BODY_LENGTH : BODY_CHUNKED;
    exchange->attempt[connection->attempt].status = 404;
}

void origin_open_tunnel(struct origin_connection *connection)
{
    struct server *server = connection->base.server;
    const struct habits *habits = &server->world->habits;
    struct prng *prng = &server->prng;
    struct ledger_exchange *exchange = ledger_get(&server->world->ledger, connection->number);
    struct response_plan *plan = &connection->plan;
    *plan = (struct response_plan){.fate = FATE_COMPLETE,
                                   .size = sim_magnitude(prng, 1, habits->response_max) - 1};
    if (sim_chance(prng, habits->origin_truncates)) {
        plan->fate = FATE_RESET;
        plan->cut_at = sim_between(prng, 0, plan->size);
    }
    connection->state = ORIGIN_TUNNEL;
    connection->body_complete = true;
    connection->tunnel_in = 0;
    connection->tunnel_listens =
        connection->number % 2 == 0 && plan->fate == FATE_COMPLETE && sim_chance(prng, 400);
    connection->tunnel_silent = !habits->strict && sim_chance(prng, 100);
    exchange->tunnel_open = true;
    exchange->attempt[connection->attempt] =
        (struct ledger_attempt){.status = 200, .size = plan->size, .sound = true};
    wire_printf(&connection->base.wire,
                "HTTP/1.1 101 Switching Protocols\r\nX-Exchange: %u-%u\r\n"
                "Connection: Upgrade\r\nUpgrade: toy\r\n\r\n",
                connection->number, connection->attempt);
    sim_note(server->io, "exchange %u, attempt %u: tunnel of %llu bytes, fate %d%s%s",
             connection->number, connection->attempt, (unsigned long long)plan->size,
             (int)plan->fate, connection->tunnel_listens ? ", listens" : "",
             connection->tunnel_silent ? ", silent" : "");
}

void origin_take_tunnel(struct origin_connection *connection, struct span bytes)
{
    payload_verify(connection->number, SIDE_REQUEST, connection->tunnel_in, bytes);
    connection->tunnel_in += bytes.size;
    if (bytes.size == 0) {
        ledger_body_arrived(server_ledger(&connection->base), connection->number,
                            connection->tunnel_in);
    }
}

static void produce(struct origin_connection *connection, uint64_t until)
{
    uint8_t bytes[PIECE_MAX];
    while (connection->offset < until && wire_unsent(&connection->base.wire) < BUFFERED_MAX) {
        uint64_t left = until - connection->offset;
        size_t piece = (size_t)sim_magnitude(&connection->base.server->prng, 1, sizeof(bytes));
        piece = piece < left ? piece : (size_t)left;
        payload_fill(connection->number, SIDE_RESPONSE, connection->offset, bytes, piece);
        wire_push(&connection->base.wire, bytes, piece);
        connection->offset += piece;
    }
}

bool origin_serve_tunnel(struct origin_connection *connection)
{
    const struct response_plan *plan = &connection->plan;
    struct wire *wire = &connection->base.wire;
    bool cuts = plan->fate == FATE_RESET;
    uint64_t until = cuts ? plan->cut_at : plan->size;
    size_t sent = 1;
    while (sent > 0) {
        if (!connection->tunnel_listens || connection->half_closed) {
            produce(connection, until);
        }
        sent = wire_pump(wire, UINT64_MAX);
    }
    bool all = connection->offset == until && wire_unsent(wire) == 0 && !wire->failed;
    if (all && !cuts && !connection->tunnel_silent && !connection->end_made) {
        connection->end_made = true;
        ledger_get(server_ledger(&connection->base), connection->number)
            ->attempt[connection->attempt]
            .complete = true;
        io_shutdown(connection->base.server->io, &wire->socket);
    }
    bool done = connection->half_closed && (connection->end_made || connection->tunnel_silent);
    return !wire->failed && !done && !(all && cuts);
}
