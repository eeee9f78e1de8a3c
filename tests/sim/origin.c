#include "origin.h"

#include <stdlib.h>

#include "base/assert.h"

enum {
    READS_MAX = 32, /* in one turn of a connection */
    LINGER_TIME = 2 * SECOND,
};

struct address origin_address(uint32_t index)
{
    return (struct address){
        .family = ADDRESS_IPV4,
        .port = 80,
        .ip = {10, 2, 0, (uint8_t)(index + 1)},
    };
}

static void end_connection(struct origin_connection *connection, bool abruptly)
{
    wire_close(&connection->wire, abruptly);
    connection->in_use = false;
}

static bool read_verb(struct span line, enum verb *verb)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        struct span name = span_of_string(verb_name((enum verb)i));
        if (span_starts_with(line, name) && line.size > name.size && line.data[name.size] == ' ') {
            *verb = (enum verb)i;
            return true;
        }
    }
    return false;
}

static void check_fields(const struct origin_connection *connection)
{
    const struct reader *reader = &connection->reader;
    struct span number = reader_field(reader, "X-Number");
    if (digits_at(number, 0) != connection->number) {
        run_failed("exchange %u arrived with the fields of %.*s", connection->number,
                   SPAN_ARGS(number));
    }
    if (connection->origin->world->proxy == NULL) {
        return;
    }
    if (reader_field(reader, "Via").data == NULL || reader_field(reader, "Host").data == NULL ||
        reader_field(reader, "X-Forwarded-For").data == NULL) {
        run_failed("exchange %u reached an origin without Via, Host or X-Forwarded-For",
                   connection->number);
    }
}

static void on_head(struct origin_connection *connection)
{
    struct ledger *ledger = &connection->origin->world->ledger;
    struct span line = reader_first_line(&connection->reader);
    size_t space = span_find(line, ' ');
    struct span target = space < line.size ? span_from(line, space + 1) : SPAN_EMPTY;
    enum reader_framing framing = BODY_NONE;
    uint64_t length = 0;
    if (!read_verb(line, &connection->verb) || !span_starts_with(target, SPAN("/x/")) ||
        !span_ends_with(line, SPAN(" HTTP/1.1")) ||
        !reader_framing(&connection->reader, &framing, &length)) {
        run_failed("an origin got the request \"%.*s\"", SPAN_ARGS(line));
    }
    connection->number = (uint32_t)digits_at(target, 3);
    connection->attempt = ledger_arrived(ledger, connection->number, connection->verb);
    connection->body_complete = false;
    connection->offset = 0;
    connection->head_made = connection->end_made = false;
    check_fields(connection);
    struct span expect = reader_field(&connection->reader, "Expect");
    reader_body(&connection->reader, framing, length);
    origin_plan(connection);
    connection->state = ORIGIN_BODY;
    if (connection->plan.fate == FATE_SILENT) {
        connection->state = ORIGIN_SILENT;
    } else if (connection->plan.early) {
        connection->state = ORIGIN_RESPOND;
    } else if (expect.data != NULL && sim_chance(&connection->origin->prng, 800)) {
        wire_printf(&connection->wire, "HTTP/1.1 100 Continue\r\n\r\n");
    }
}

static void check_body(struct origin_connection *connection, struct span body)
{
    const struct ledger_exchange *exchange =
        ledger_get(&connection->origin->world->ledger, connection->number);
    if (exchange->request_size != LEDGER_NEVER_COMPLETE) {
        payload_verify(connection->number, SIDE_REQUEST, connection->reader.body - body.size, body);
    }
}

static void on_body_end(struct origin_connection *connection)
{
    connection->body_complete = true;
    ledger_body_arrived(&connection->origin->world->ledger, connection->number,
                        connection->reader.body);
    if (connection->state == ORIGIN_BODY) {
        connection->state = ORIGIN_RESPOND;
    }
}

static bool is_reading(const struct origin_connection *connection)
{
    return connection->state == ORIGIN_HEAD || !connection->body_complete ||
           connection->state == ORIGIN_LINGER;
}

/* False: what came is no request. */
static bool digest(struct origin_connection *connection, struct span bytes)
{
    while (bytes.size > 0) {
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
    return true;
}

/* Bytes behind a response came with it: nobody may have trusted the connection any more. */
static void check_unused(const struct origin_connection *connection)
{
    if (connection->plan.fate == FATE_EXTRA && connection->body_complete &&
        connection->origin->world->habits.extra_responses) {
        run_failed("a connection was used again after the bytes behind the response of %u",
                   connection->number);
    }
}

/* False: the connection is over. */
static bool receive(struct origin_connection *connection)
{
    uint8_t bytes[2048];
    for (int reads = 0; reads < READS_MAX && is_reading(connection); reads++) {
        size_t got = 0;
        enum status status = wire_read(&connection->wire, bytes, sizeof(bytes), &got);
        if (status == AGAIN) {
            return true;
        }
        if (status == ERROR) {
            return false;
        }
        if (status == END) {
            connection->half_closed = true;
            /* Idle, or cut off in a request: either way nothing will follow. */
            return connection->body_complete && connection->state != ORIGIN_HEAD &&
                   connection->state != ORIGIN_LINGER;
        }
        if (connection->state == ORIGIN_LINGER) {
            check_unused(connection);
            continue; /* read and forgotten */
        }
        if (!digest(connection, span_of(bytes, got))) {
            return false;
        }
    }
    if (is_reading(connection)) {
        io_requeue(connection->origin->io, &connection->wire.socket);
    }
    return true;
}

/* The response is out: the next request, or the end. */
static bool conclude(struct origin_connection *connection)
{
    struct origin *origin = connection->origin;
    bool persists = !connection->plan.closes && connection->plan.framing != BODY_CLOSE &&
                    connection->plan.fate == FATE_COMPLETE && connection->body_complete;
    if (connection->half_closed) {
        return false;
    }
    if (!persists) {
        /* Behind extra bytes no FIN, at times: nothing but them tells not to trust the connection.
         */
        if (connection->plan.fate != FATE_EXTRA || sim_chance(&origin->prng, 300)) {
            io_shutdown(origin->io, &connection->wire.socket);
        }
        connection->state = ORIGIN_LINGER;
        connection->close_at = io_now(origin->io) + LINGER_TIME;
        return true;
    }
    reader_reset(&connection->reader);
    connection->state = ORIGIN_HEAD;
    connection->body_complete = false;
    connection->close_at = UINT64_MAX;
    if (sim_chance(&origin->prng, origin->world->habits.origin_stale)) {
        connection->close_at = io_now(origin->io) + sim_magnitude(&origin->prng, 1, 6 * SECOND);
    }
    return true;
}

/* False: the connection is over. */
static bool serve(struct origin_connection *connection)
{
    uint64_t now = io_now(connection->origin->io);
    bool idle = connection->state == ORIGIN_HEAD && connection->reader.head_size == 0;
    if (!receive(connection)) {
        return false;
    }
    if (now >= connection->close_at &&
        ((idle && connection->reader.head_size == 0) || connection->state == ORIGIN_LINGER)) {
        return false;
    }
    if (connection->state == ORIGIN_BODY) {
        (void)wire_pump(&connection->wire, UINT64_MAX); /* a 100 Continue */
        return !connection->wire.failed;
    }
    if (connection->state == ORIGIN_RESPOND) {
        if (!origin_respond(connection)) {
            return false;
        }
        if (connection->end_made && wire_unsent(&connection->wire) == 0) {
            return conclude(connection);
        }
    }
    return true;
}

static void accept_some(struct origin *origin)
{
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct origin_connection *connection = &origin->connections[i];
        if (connection->in_use) {
            continue;
        }
        struct address peer;
        if (io_accept(origin->io, &origin->listener, &connection->wire.socket, 1, &peer) != OK) {
            return;
        }
        connection->in_use = true;
        connection->wire.connected = true;
        connection->wire.failed = false;
        connection->wire.head = connection->wire.size = 0;
        connection->state = ORIGIN_HEAD;
        connection->half_closed = connection->body_complete = false;
        connection->close_at = UINT64_MAX;
        reader_reset(&connection->reader);
    }
}

static uint64_t wake_time(const struct origin *origin)
{
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        const struct origin_connection *connection = &origin->connections[i];
        if (!connection->in_use) {
            continue;
        }
        bool idles = connection->state == ORIGIN_HEAD || connection->state == ORIGIN_LINGER;
        if (idles && connection->close_at < wake) {
            wake = connection->close_at;
        }
        if (connection->state == ORIGIN_RESPOND && connection->plan.slow &&
            connection->next_send < wake) {
            wake = connection->next_send;
        }
    }
    return wake;
}

static void origin_turn(void *context)
{
    struct origin *origin = context;
    io_wait(origin->io, wake_time(origin));
    while (io_next_ready(origin->io) != NULL) {
    }
    accept_some(origin);
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct origin_connection *connection = &origin->connections[i];
        if (connection->in_use && !serve(connection)) {
            enum fate fate = connection->plan.fate;
            bool responding = connection->state == ORIGIN_RESPOND;
            end_connection(connection, responding && (fate == FATE_RESET || fate == FATE_ABORT));
        }
    }
}

struct origin *origin_create(struct world *world, uint32_t index)
{
    struct origin *origin = calloc(1, sizeof(*origin));
    ASSERT(origin != NULL);
    origin->connections = calloc(ORIGIN_CONNECTIONS, sizeof(*origin->connections));
    ASSERT(origin->connections != NULL);
    char name[24];
    (void)snprintf(name, sizeof(name), "origin%u", index);
    origin->world = world;
    origin->io = sim_node_create(world->sim, name);
    prng_init(&origin->prng, prng_next(&world->prng));
    io_socket_init(&origin->listener);
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        wire_init(&origin->connections[i].wire, origin->io);
        origin->connections[i].origin = origin;
    }
    bool refuses = world->habits.first_refuses && index == 0;
    if (refuses || sim_chance(&origin->prng, world->habits.origin_refuses)) {
        return origin; /* nobody listens there */
    }
    struct address address = origin_address(index);
    enum status status =
        io_listen(origin->io, &origin->listener, sim_listen(world->sim, &address), 0);
    ASSERT(status == OK);
    sim_node_run(origin->io, origin_turn, origin);
    return origin;
}

void origin_destroy(struct origin *origin)
{
    if (origin == NULL) {
        return;
    }
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        wire_deinit(&origin->connections[i].wire);
    }
    free(origin->connections);
    free(origin);
}
