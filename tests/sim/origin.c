#include "origin.h"

enum { LINGER_TIME = 10 * SECOND }; /* the slowest link needs 7 s for what is kept for a request */

static struct origin_connection *of(struct server_connection *base)
{
    return CONTAINER_OF(base, struct origin_connection, base);
}

static void check_fields(struct origin_connection *connection)
{
    const struct reader *reader = &connection->reader;
    const struct server_seen seen = {
        .number = reader_field(reader, "X-Number"),
        .via = reader_field(reader, "Via"),
        .host = reader_field(reader, "Host"),
        .forwarded_for = reader_field(reader, "X-Forwarded-For"),
    };
    server_check_request(&connection->base, connection->number, &seen);
    connection->call = server_check_call(&connection->base, connection->number,
                                         &(struct server_call){
                                             .content_type = reader_field(reader, "Content-Type"),
                                             .te = reader_field(reader, "TE"),
                                             .timeout = reader_field(reader, "grpc-timeout"),
                                         });
}

static void on_head(struct origin_connection *connection)
{
    struct span line = reader_first_line(&connection->reader);
    size_t space = span_find(line, ' ');
    struct span target = space < line.size ? span_from(line, space + 1) : SPAN_EMPTY;
    enum reader_framing framing = BODY_NONE;
    uint64_t length = 0;
    if (!verb_read(span_first(line, space), &connection->verb) ||
        !span_starts_with(target, SPAN("/x/")) || !span_ends_with(line, SPAN(" HTTP/1.1")) ||
        !reader_framing(&connection->reader, &framing, &length)) {
        run_failed("an origin got the request \"%.*s\"", SPAN_ARGS(line));
    }
    bool switches = reader_field(&connection->reader, "Upgrade").data != NULL;
    connection->verb = switches ? VERB_CONNECT : connection->verb;
    connection->number = (uint32_t)digits_at(target, 3);
    connection->attempt =
        ledger_arrived(server_ledger(&connection->base), connection->number, connection->verb);
    connection->body_complete = false;
    connection->offset = 0;
    connection->head_made = connection->end_made = false;
    check_fields(connection);
    struct span expect = reader_field(&connection->reader, "Expect");
    reader_body(&connection->reader, framing, length);
    if (switches && sim_chance(&connection->base.server->prng, 900)) {
        origin_open_tunnel(connection);
        return;
    }
    origin_plan(connection);
    if (switches && connection->base.server->world->habits.strict) {
        origin_refuse_tunnel(connection);
    }
    connection->state = ORIGIN_BODY;
    if (connection->plan.fate == FATE_SILENT) {
        connection->state = ORIGIN_SILENT;
    } else if (connection->plan.early) {
        connection->state = ORIGIN_RESPOND;
    } else if (expect.data != NULL && sim_chance(&connection->base.server->prng, 800)) {
        wire_printf(&connection->base.wire, "HTTP/1.1 100 Continue\r\n\r\n");
    }
}

static void check_body(struct origin_connection *connection, struct span body)
{
    const struct ledger_exchange *exchange =
        ledger_get(server_ledger(&connection->base), connection->number);
    if (exchange->request_size != LEDGER_NEVER_COMPLETE) {
        payload_verify(connection->number, SIDE_REQUEST, connection->reader.body - body.size, body);
    }
}

static void on_body_end(struct origin_connection *connection)
{
    connection->body_complete = true;
    ledger_body_arrived(server_ledger(&connection->base), connection->number,
                        connection->reader.body);
    if (connection->state == ORIGIN_BODY) {
        connection->state = ORIGIN_RESPOND;
    }
}

static bool is_reading(const struct origin_connection *connection)
{
    if (connection->state == ORIGIN_TUNNEL) {
        return !connection->half_closed;
    }
    return connection->state == ORIGIN_HEAD || !connection->body_complete ||
           connection->state == ORIGIN_LINGER;
}

static void digest(struct origin_connection *connection, struct span bytes)
{
    while (bytes.size > 0) {
        if (connection->state == ORIGIN_TUNNEL) {
            origin_take_tunnel(connection, bytes);
            return;
        }
        if (connection->body_complete && connection->state != ORIGIN_HEAD) {
            run_failed("an origin got bytes behind the request %u, before its answer",
                       connection->number);
        }
        struct span body = SPAN_EMPTY;
        size_t taken = reader_feed(&connection->reader, bytes.data, bytes.size, &body);
        bytes = span_from(bytes, taken);
        if (body.size > 0) {
            check_body(connection, body);
        }
        if (connection->reader.state == READER_HEAD_READY) {
            on_head(connection);
        }
        if (connection->reader.state == READER_BAD) {
            run_failed("an origin got bytes that are no HTTP");
        }
        if (connection->reader.state == READER_DONE && !connection->body_complete) {
            on_body_end(connection);
        }
    }
}

/* Bytes behind a response came with it: nobody may have trusted the connection any more. */
static void check_unused(const struct origin_connection *connection)
{
    if (connection->plan.fate == FATE_EXTRA && connection->body_complete &&
        connection->base.server->world->habits.extra_responses) {
        run_failed("a connection was used again after the bytes behind the response of %u",
                   connection->number);
    }
}

/* False: nothing more is wanted now. */
static bool take(struct server_connection *base, struct span bytes)
{
    struct origin_connection *connection = of(base);
    if (connection->state == ORIGIN_LINGER) {
        check_unused(connection); /* read and forgotten */
    } else {
        digest(connection, bytes);
    }
    return is_reading(connection);
}

/* False: the connection is over. */
static bool receive(struct origin_connection *connection)
{
    enum status status = is_reading(connection) ? server_read(&connection->base, take) : OK;
    if (status == END) {
        connection->half_closed = true;
        if (connection->state == ORIGIN_TUNNEL) {
            origin_take_tunnel(connection, SPAN_EMPTY);
            return true;
        }
        /* Idle, or cut off in a request: either way nothing will follow. */
        return connection->body_complete && connection->state != ORIGIN_HEAD &&
               connection->state != ORIGIN_LINGER;
    }
    return status != ERROR;
}

/* The response is out: the next request, or the end. */
static bool conclude(struct origin_connection *connection)
{
    struct server *server = connection->base.server;
    bool persists = !connection->plan.closes && connection->plan.framing != BODY_CLOSE &&
                    connection->plan.fate == FATE_COMPLETE && connection->body_complete;
    if (connection->half_closed) {
        return false;
    }
    if (!persists) {
        /* Behind extra bytes no FIN, at times: nothing but them tells not to trust the connection.
         */
        if (connection->plan.fate != FATE_EXTRA || sim_chance(&server->prng, 300)) {
            io_shutdown(server->io, &connection->base.wire.socket);
        }
        connection->state = ORIGIN_LINGER;
        connection->close_at = io_now(server->io) + LINGER_TIME;
        return true;
    }
    reader_reset(&connection->reader);
    connection->state = ORIGIN_HEAD;
    connection->body_complete = false;
    connection->close_at = server_draw_time(server, server->world->habits.origin_stale, 6 * SECOND);
    return true;
}

static bool serve_request(struct origin_connection *connection)
{
    uint64_t now = io_now(connection->base.server->io);
    bool idle = connection->state == ORIGIN_HEAD && connection->reader.head_size == 0;
    if (!receive(connection)) {
        return false;
    }
    if (now >= connection->close_at &&
        ((idle && connection->reader.head_size == 0) || connection->state == ORIGIN_LINGER)) {
        return false;
    }
    if (connection->state == ORIGIN_TUNNEL) {
        return origin_serve_tunnel(connection);
    }
    if (connection->state == ORIGIN_BODY) {
        (void)wire_pump(&connection->base.wire, UINT64_MAX); /* a 100 Continue */
        return !connection->base.wire.failed;
    }
    if (connection->state == ORIGIN_RESPOND) {
        if (!origin_respond(connection)) {
            return false;
        }
        if (connection->end_made && wire_unsent(&connection->base.wire) == 0) {
            return conclude(connection);
        }
    }
    return true;
}

static bool serve(struct server_connection *base)
{
    struct origin_connection *connection = of(base);
    if (serve_request(connection)) {
        return true;
    }
    enum fate fate = connection->plan.fate;
    bool responding = connection->state == ORIGIN_RESPOND || connection->state == ORIGIN_TUNNEL;
    base->abruptly = responding && (fate == FATE_RESET || fate == FATE_ABORT);
    return false;
}

static void begin(struct server_connection *base)
{
    struct origin_connection *connection = of(base);
    connection->state = ORIGIN_HEAD;
    connection->close_at = UINT64_MAX;
    reader_reset(&connection->reader);
}

static uint64_t wake_time(struct server_connection *base)
{
    const struct origin_connection *connection = CONTAINER_OF(base, struct origin_connection, base);
    if (connection->state == ORIGIN_HEAD || connection->state == ORIGIN_LINGER) {
        return connection->close_at;
    }
    bool waits = connection->state == ORIGIN_RESPOND && connection->plan.slow;
    return waits ? connection->next_send : UINT64_MAX;
}

struct server *origin_create(struct world *world, uint32_t index)
{
    static const struct server_ops OPS = {
        .connection_size = sizeof(struct origin_connection),
        .begin = begin,
        .serve = serve,
        .wake_time = wake_time,
    };
    return server_create(world, &OPS, index);
}
