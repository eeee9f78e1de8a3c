#include "server.h"

#include <stdlib.h>

#include "base/assert.h"
#include "call.h"

enum { READS_MAX = 32 }; /* of a connection in one turn */

uint16_t server_draw_status(struct server *server)
{
    static const uint16_t statuses[] = {200, 200, 200, 200, 201, 204, 302, 304, 404, 500};
    return statuses[prng_below(&server->prng, sizeof(statuses) / sizeof(statuses[0]))];
}

uint64_t server_draw_time(struct server *server, uint32_t permille, uint64_t most)
{
    bool happens = sim_chance(&server->prng, permille);
    return happens ? io_now(server->io) + sim_magnitude(&server->prng, 100, most) : UINT64_MAX;
}

void server_check_request(const struct server_connection *connection, uint32_t number,
                          const struct server_seen *seen)
{
    if (digits_at(seen->number, 0) != number) {
        run_failed("exchange %u arrived with the fields of %.*s", number, SPAN_ARGS(seen->number));
    }
    bool whole =
        seen->via.data != NULL && seen->host.data != NULL && seen->forwarded_for.data != NULL;
    if (connection->server->world->proxy != NULL && !whole) {
        run_failed("exchange %u reached an origin without Via, host or X-Forwarded-For", number);
    }
    if (connection->server->world->proxy != NULL) {
        ledger_check_client(server_ledger(connection), number, seen->forwarded_for);
    }
}

bool server_check_call(const struct server_connection *connection, uint32_t number,
                       const struct server_call *call)
{
    const struct ledger_exchange *exchange = ledger_get(server_ledger(connection), number);
    bool is_call = span_starts_with(call->content_type, SPAN("application/grpc"));
    if (is_call != exchange->call || (is_call && !span_equal(call->te, SPAN("trailers")))) {
        run_failed("exchange %u arrived with content-type %.*s and te %.*s", number,
                   SPAN_ARGS(call->content_type), SPAN_ARGS(call->te));
    }
    if (is_call) {
        call_check_timeout(exchange, number, call->timeout);
    }
    return is_call;
}

enum status server_read(struct server_connection *connection,
                        bool (*take)(struct server_connection *connection, struct span bytes))
{
    uint8_t bytes[2048];
    for (int reads = 0; reads < READS_MAX; reads++) {
        size_t got = 0;
        enum status status = wire_read(&connection->wire, bytes, sizeof(bytes), &got);
        if (status != OK) {
            return status;
        }
        if (!take(connection, span_of(bytes, got))) {
            return OK;
        }
    }
    io_requeue(connection->server->io, &connection->wire.socket);
    return AGAIN;
}

/* ---- The node ---- */

static void free_connection(struct server *server, struct server_connection *connection)
{
    if (server->ops->end != NULL) {
        server->ops->end(connection);
    }
    wire_deinit(&connection->wire);
    free(connection);
}

static struct server_connection *new_connection(struct server *server)
{
    struct server_connection *connection = calloc(1, server->ops->connection_size);
    ASSERT(connection != NULL);
    connection->server = server;
    wire_init(&connection->wire, server->io);
    return connection;
}

static void accept_some(struct server *server)
{
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct address peer;
        if (server->connections[i] != NULL) {
            continue;
        }
        server->next = server->next == NULL ? new_connection(server) : server->next;
        struct server_connection *next = server->next;
        if (io_accept(server->io, &server->listener, &next->wire.socket, 1, &peer) != OK) {
            return;
        }
        next->wire.connected = true;
        server->connections[i] = next;
        server->next = NULL;
        server->ops->begin(next);
    }
}

static uint64_t wake_time(const struct server *server)
{
    uint64_t wake = UINT64_MAX;
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        if (server->connections[i] != NULL) {
            uint64_t due = server->ops->wake_time(server->connections[i]);
            wake = due < wake ? due : wake;
        }
    }
    return wake;
}

static void turn(void *context)
{
    struct server *server = context;
    io_wait(server->io, wake_time(server));
    while (io_next_ready(server->io) != NULL) {
    }
    accept_some(server);
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        struct server_connection *connection = server->connections[i];
        if (connection != NULL && !server->ops->serve(connection)) {
            wire_close(&connection->wire, connection->abruptly);
            free_connection(server, connection);
            server->connections[i] = NULL;
        }
    }
}

struct address origin_address(uint32_t index)
{
    return (struct address){
        .family = ADDRESS_IPV4,
        .port = 80,
        .ip = {10, 2, 0, (uint8_t)(index + 1)},
    };
}

struct server *server_create(struct world *world, const struct server_ops *ops, uint32_t index)
{
    struct server *server = calloc(1, sizeof(*server));
    ASSERT(server != NULL);
    char name[24];
    (void)snprintf(name, sizeof(name), "origin%u", index);
    server->ops = ops;
    server->world = world;
    server->io = sim_node_create(world->sim, name);
    prng_init(&server->prng, prng_next(&world->prng));
    io_socket_init(&server->listener);
    bool refuses = world->habits.first_refuses && index == 0;
    if (refuses || sim_chance(&server->prng, world->habits.origin_refuses)) {
        return server; /* nobody listens there */
    }
    struct address address = origin_address(index);
    enum status status =
        io_listen(server->io, &server->listener, sim_listen(world->sim, &address), 0);
    ASSERT(status == OK);
    sim_node_run(server->io, turn, server);
    return server;
}

void server_destroy(struct server *server)
{
    if (server == NULL) {
        return;
    }
    for (uint32_t i = 0; i < ORIGIN_CONNECTIONS; i++) {
        if (server->connections[i] != NULL) {
            free_connection(server, server->connections[i]);
        }
    }
    free(server->next);
    free(server);
}
