/* The simulator against io.h's contract and against Linux's habits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/death_test.h"
#include "io/sim.h"

enum {
    SECOND = 1000000,
    ECHO_MAX = 64 * 1024,
    STEPS_MAX = 2000000,
};

static const struct address SERVER = {.family = ADDRESS_IPV4, .port = 80, .ip = {10, 1, 0, 1}};

/* Two nodes without turns and one connection, driven by hand. */
struct pair {
    struct sim *sim;
    struct io *client;
    struct io *server;
    struct io_socket near;
    struct io_socket far;
    struct io_socket listener;
    int fd;
};

static void pass(struct sim *sim, uint64_t time)
{
    assert_true(sim_run(sim, sim_now(sim) + time, STEPS_MAX));
}

static void wait_both(struct pair *pair)
{
    pass(pair->sim, SECOND);
    io_wait(pair->client, UINT64_MAX);
    io_wait(pair->server, UINT64_MAX);
}

static void pair_listen(struct pair *pair, const struct sim_options *options)
{
    pair->sim = sim_create(7, options);
    pair->client = sim_node_create(pair->sim, "client");
    pair->server = sim_node_create(pair->sim, "server");
    io_socket_init(&pair->near);
    io_socket_init(&pair->far);
    io_socket_init(&pair->listener);
    pair->fd = sim_listen(pair->sim, &SERVER);
    assert_int_equal(io_listen(pair->server, &pair->listener, pair->fd, 1), OK);
}

static void pair_connect(struct pair *pair, const struct sim_options *options)
{
    pair_listen(pair, options);
    assert_int_equal(io_connect(pair->client, &pair->near, &SERVER, 2), AGAIN);
    wait_both(pair);
    assert_int_equal(io_connect_result(pair->client, &pair->near), OK);
    struct address peer;
    assert_int_equal(io_accept(pair->server, &pair->listener, &pair->far, 3, &peer), OK);
    assert_int_equal(peer.ip[3], 1); /* the first node's host */
    wait_both(pair);
}

static void pair_close(struct pair *pair)
{
    io_close(pair->client, &pair->near);
    io_close(pair->server, &pair->far);
    io_close(pair->server, &pair->listener);
    sim_destroy(pair->sim);
}

static size_t put_bytes(struct io *io, struct io_socket *socket, const char *text, size_t size)
{
    char copy[64];
    assert_true(size <= sizeof(copy));
    memcpy(copy, text, size);
    struct iovec piece = {copy, size};
    size_t put = 0;
    enum status status = io_write(io, socket, &piece, 1, &put);
    assert_true(status == OK || status == AGAIN);
    return status == OK ? put : 0;
}

static void a_connection_carries_bytes_both_ways(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    assert_int_equal(put_bytes(pair.client, &pair.near, "ping", 4), 4);
    wait_both(&pair);
    char bytes[16];
    size_t got = 0;
    assert_int_equal(io_read(pair.server, &pair.far, bytes, 2, &got), OK);
    assert_int_equal(got, 2);
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), OK);
    assert_memory_equal(bytes, "ng", 2);
    assert_int_equal(put_bytes(pair.server, &pair.far, "pong", 4), 4);
    wait_both(&pair);
    assert_int_equal(io_read(pair.client, &pair.near, bytes, sizeof(bytes), &got), OK);
    assert_memory_equal(bytes, "pong", 4);
    pair_close(&pair);
}

static void after_again_one_arrival_sets_the_bit_once(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    char bytes[16];
    size_t got = 0;
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), AGAIN);
    assert_false(pair.far.ready & IO_READABLE);
    while (io_next_ready(pair.server) != NULL) {
    }
    wait_both(&pair);
    assert_null(io_next_ready(pair.server));
    assert_int_equal(put_bytes(pair.client, &pair.near, "x", 1), 1);
    pass(pair.sim, SECOND);
    assert_false(pair.far.ready & IO_READABLE); /* only io_wait tells */
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), AGAIN);
    io_wait(pair.server, UINT64_MAX);
    assert_true(pair.far.ready & IO_READABLE);
    assert_ptr_equal(io_next_ready(pair.server), &pair.far);
    io_wait(pair.server, UINT64_MAX);
    assert_null(io_next_ready(pair.server)); /* an edge is told once, read or not */
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), OK);
    assert_false(pair.far.ready & IO_READABLE); /* a short read means drained */
    pair_close(&pair);
}

static void data_and_fin_come_as_one_event_and_the_bit_stays(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    assert_int_equal(put_bytes(pair.client, &pair.near, "last", 4), 4);
    io_shutdown(pair.client, &pair.near);
    wait_both(&pair);
    assert_true(pair.far.ready & IO_PEER_CLOSED);
    char bytes[16];
    size_t got = 0;
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), OK);
    assert_int_equal(got, 4);
    assert_true(pair.far.ready & IO_READABLE);
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), END);
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), END);
    assert_int_equal(put_bytes(pair.server, &pair.far, "half", 4), 4); /* a half-close only */
    wait_both(&pair);
    assert_int_equal(io_read(pair.client, &pair.near, bytes, sizeof(bytes), &got), OK);
    pair_close(&pair);
}

static void a_full_buffer_holds_the_writer_until_the_reader_reads(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    options.buffer_min = options.buffer_max = 10;
    struct pair pair;
    pair_connect(&pair, &options);
    assert_int_equal(put_bytes(pair.client, &pair.near, "0123456789abc", 13), 10);
    assert_false(pair.near.ready & IO_WRITABLE);
    assert_int_equal(put_bytes(pair.client, &pair.near, "abc", 3), 0);
    wait_both(&pair);
    assert_false(pair.near.ready & IO_WRITABLE);
    char bytes[16];
    size_t got = 0;
    assert_int_equal(io_read(pair.server, &pair.far, bytes, sizeof(bytes), &got), OK);
    assert_int_equal(got, 10);
    wait_both(&pair);
    assert_true(pair.near.ready & IO_WRITABLE);
    assert_int_equal(put_bytes(pair.client, &pair.near, "abc", 3), 3);
    pair_close(&pair);
}

static void closing_with_unread_input_resets_the_peer(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    assert_int_equal(put_bytes(pair.client, &pair.near, "unread", 6), 6);
    wait_both(&pair);
    io_close(pair.server, &pair.far);
    wait_both(&pair);
    assert_true(pair.near.ready & IO_FAILED);
    char byte = 0;
    size_t got = 0;
    assert_int_equal(io_read(pair.client, &pair.near, &byte, 1, &got), ERROR);
    assert_int_equal(pair.near.error, ECONNRESET);
    pair_close(&pair);
}

static void writing_to_a_closed_peer_is_answered_with_a_reset(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    io_close(pair.server, &pair.far);
    wait_both(&pair);
    assert_true(pair.near.ready & IO_PEER_CLOSED);
    assert_false(pair.near.ready & IO_FAILED);
    assert_int_equal(put_bytes(pair.client, &pair.near, "late", 4), 4);
    wait_both(&pair);
    assert_true(pair.near.ready & IO_FAILED);
    pair_close(&pair);
}

static void an_error_is_told_once_and_later_reads_see_a_plain_end(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    io_reset(pair.server, &pair.far);
    wait_both(&pair);
    char byte = 0;
    struct iovec piece = {&byte, 1};
    size_t size = 0;
    assert_int_equal(io_write(pair.client, &pair.near, &piece, 1, &size), ERROR);
    assert_int_equal(pair.near.error, ECONNRESET);
    assert_int_equal(io_write(pair.client, &pair.near, &piece, 1, &size), ERROR);
    assert_int_equal(pair.near.error, EPIPE);
    assert_int_equal(io_read(pair.client, &pair.near, &byte, 1, &size), END); /* as Linux has it */
    pair_close(&pair);
}

static void connects_fail_where_nobody_listens_or_nothing_answers(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_listen(&pair, &options);
    struct address nobody = SERVER;
    nobody.port = 81;
    assert_int_equal(io_connect(pair.client, &pair.near, &nobody, 2), AGAIN);
    assert_int_equal(io_connect_result(pair.client, &pair.near), AGAIN);
    wait_both(&pair);
    assert_int_equal(io_connect_result(pair.client, &pair.near), ERROR);
    assert_int_equal(pair.near.error, ECONNREFUSED);
    pair_close(&pair);

    options.connect_blackhole = 1000;
    pair_listen(&pair, &options);
    assert_int_equal(io_connect(pair.client, &pair.near, &SERVER, 2), AGAIN);
    for (int i = 0; i < 120; i++) {
        wait_both(&pair);
    }
    assert_int_equal(io_connect_result(pair.client, &pair.near), AGAIN);
    for (int i = 0; i < 8; i++) {
        wait_both(&pair);
    }
    assert_int_equal(io_connect_result(pair.client, &pair.near), ERROR);
    assert_int_equal(pair.near.error, ETIMEDOUT);
    pair_close(&pair);
}

static void a_full_backlog_holds_back_the_handshake(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    options.backlog = 1;
    struct pair pair;
    pair_listen(&pair, &options);
    struct io_socket second;
    io_socket_init(&second);
    assert_int_equal(io_connect(pair.client, &pair.near, &SERVER, 2), AGAIN);
    assert_int_equal(io_connect(pair.client, &second, &SERVER, 2), AGAIN);
    pass(pair.sim, SECOND / 2);
    io_wait(pair.client, UINT64_MAX);
    bool first_done = io_connect_result(pair.client, &pair.near) == OK;
    bool second_done = io_connect_result(pair.client, &second) == OK;
    assert_true(first_done != second_done);
    struct address peer;
    io_wait(pair.server, UINT64_MAX);
    assert_int_equal(io_accept(pair.server, &pair.listener, &pair.far, 3, &peer), OK);
    wait_both(&pair);
    wait_both(&pair);
    assert_int_equal(io_connect_result(pair.client, &pair.near), OK);
    assert_int_equal(io_connect_result(pair.client, &second), OK);
    io_close(pair.client, &second);
    pair_close(&pair);
}

static void a_paused_listener_is_silent_and_a_closed_one_refuses(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_listen(&pair, &options);
    io_listen_pause(pair.server, &pair.listener);
    assert_int_equal(io_connect(pair.client, &pair.near, &SERVER, 2), AGAIN);
    wait_both(&pair);
    assert_null(io_next_ready(pair.server));
    io_listen_resume(pair.server, &pair.listener);
    io_wait(pair.server, UINT64_MAX);
    assert_ptr_equal(io_next_ready(pair.server), &pair.listener);
    io_wait(pair.server, UINT64_MAX);
    assert_ptr_equal(io_next_ready(pair.server), &pair.listener); /* level-triggered */
    sim_listener_close(pair.sim, pair.fd);
    wait_both(&pair);
    assert_true(pair.near.ready & IO_FAILED);
    pair_close(&pair);
}

static void a_killed_node_closes_what_it_held(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    assert_int_equal(sim_node_sockets(pair.server), 1);
    sim_node_kill(pair.server);
    assert_int_equal(sim_node_sockets(pair.server), 0);
    assert_false(io_is_open(&pair.far));
    assert_false(io_is_open(&pair.listener));
    wait_both(&pair);
    assert_true(pair.near.ready & IO_PEER_CLOSED);
    pair_close(&pair);
}

static void no_turn(void *context)
{
    io_wait(context, UINT64_MAX);
}

static void the_wall_clock_leaps_and_the_monotonic_one_does_not(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    options.clock_jump = 1000;
    struct sim *sim = sim_create(3, &options);
    struct io *io = sim_node_create(sim, "node");
    sim_node_run(io, no_turn, io);
    uint64_t distance = io_wall(io) - io_now(io);
    bool leapt = false;
    for (int i = 0; i < 20; i++) {
        uint64_t before = io_now(io);
        pass(sim, SECOND);
        io_wait(io, UINT64_MAX);
        assert_in_range(io_now(io) - before, SECOND, SECOND + 100);
        leapt = leapt || io_wall(io) - io_now(io) != distance;
    }
    assert_true(leapt);
    sim_destroy(sim);
}

/* ---- echo: a server node and several clients under every fault that loses nothing ---- */

struct echo_client {
    struct io *io;
    struct io_socket socket;
    uint32_t seed;
    uint32_t size;
    uint32_t sent;
    uint32_t received;
    bool connected;
    bool finished; /* all came back, then END */
    bool broken;
};

enum { ECHO_CLIENTS = 4 };

struct echo_connection {
    struct io_socket socket;
    uint8_t held[4096];
    size_t head;
    size_t size;
    bool ended;
};

struct echo_server {
    struct io *io;
    struct io_socket listener;
    struct echo_connection connections[ECHO_CLIENTS];
    uint32_t used;
    uint32_t accepted;
};

static uint8_t echo_byte(uint32_t seed, uint32_t offset)
{
    return (uint8_t)((seed + offset) * 2654435761U >> 24);
}

static void client_send(struct echo_client *client)
{
    while (client->sent < client->size) {
        uint8_t bytes[3000];
        uint32_t left = client->size - client->sent;
        uint32_t size = left < sizeof(bytes) ? left : (uint32_t)sizeof(bytes);
        for (uint32_t i = 0; i < size; i++) {
            bytes[i] = echo_byte(client->seed, client->sent + i);
        }
        struct iovec pieces[2] = {{bytes, size / 2}, {bytes + size / 2, size - size / 2}};
        size_t put = 0;
        enum status status = io_write(client->io, &client->socket, pieces, 2, &put);
        if (status == AGAIN) {
            return;
        }
        if (status == ERROR) {
            client->broken = true;
            return;
        }
        assert_in_range(put, 1, size);
        client->sent += (uint32_t)put;
        if (client->sent == client->size) {
            io_shutdown(client->io, &client->socket);
        }
    }
}

static void client_receive(struct echo_client *client)
{
    uint8_t bytes[2000];
    size_t got = 0;
    enum status status = OK;
    while ((status = io_read(client->io, &client->socket, bytes, sizeof(bytes), &got)) == OK) {
        for (size_t i = 0; i < got; i++) {
            assert_int_equal(bytes[i], echo_byte(client->seed, client->received++));
        }
    }
    if (status == END) {
        assert_int_equal(client->received, client->size);
        client->finished = true;
    }
    client->broken = client->broken || status == ERROR;
}

static void client_serve(struct echo_client *client)
{
    if (!client->connected) {
        enum status status = io_connect_result(client->io, &client->socket);
        client->connected = status == OK;
        client->broken = status == ERROR;
    }
    if (client->connected && !client->broken) {
        client_send(client);
    }
    if (client->connected && !client->broken) {
        client_receive(client);
    }
}

static void client_turn(void *context)
{
    struct echo_client *client = context;
    io_wait(client->io, UINT64_MAX);
    while (io_next_ready(client->io) != NULL) {
        client_serve(client);
    }
    if (client->finished || client->broken) {
        io_close(client->io, &client->socket);
    }
}

static bool echo_flush(struct io *io, struct echo_connection *connection)
{
    while (connection->head < connection->size) {
        struct iovec piece = {connection->held + connection->head,
                              connection->size - connection->head};
        size_t put = 0;
        enum status status = io_write(io, &connection->socket, &piece, 1, &put);
        if (status != OK) {
            return status == AGAIN;
        }
        connection->head += put;
    }
    connection->head = connection->size = 0;
    return true;
}

static void echo_serve(struct io *io, struct echo_connection *connection)
{
    bool alive = echo_flush(io, connection);
    while (alive && connection->size == 0 && !connection->ended) {
        size_t got = 0;
        enum status status =
            io_read(io, &connection->socket, connection->held, sizeof(connection->held), &got);
        if (status == AGAIN) {
            return;
        }
        connection->ended = status == END;
        connection->size = status == OK ? got : 0;
        alive = status != ERROR && echo_flush(io, connection);
    }
    if (!alive || (connection->ended && connection->size == 0)) {
        io_close(io, &connection->socket);
    }
}

static void server_turn(void *context)
{
    struct echo_server *server = context;
    io_wait(server->io, UINT64_MAX);
    struct io_socket *socket = NULL;
    while ((socket = io_next_ready(server->io)) != NULL) {
        if (socket == &server->listener) {
            continue;
        }
        echo_serve(server->io, CONTAINER_OF(socket, struct echo_connection, socket));
    }
    struct address peer;
    while (server->used < ECHO_CLIENTS &&
           io_accept(server->io, &server->listener, &server->connections[server->used].socket, 1,
                     &peer) == OK) {
        server->used++;
        server->accepted++;
    }
}

static void server_start(struct echo_server *server, struct sim *sim, int fd)
{
    *server = (struct echo_server){.io = sim_node_create(sim, "echo")};
    io_socket_init(&server->listener);
    for (size_t i = 0; i < ECHO_CLIENTS; i++) {
        io_socket_init(&server->connections[i].socket);
    }
    assert_int_equal(io_listen(server->io, &server->listener, fd, 0), OK);
    sim_node_run(server->io, server_turn, server);
}

static void client_start(struct echo_client *client, struct sim *sim, uint32_t seed)
{
    *client = (struct echo_client){.io = sim_node_create(sim, "client"), .seed = seed};
    io_random(client->io, &client->size, sizeof(client->size));
    client->size = client->size % ECHO_MAX + 1;
    io_socket_init(&client->socket);
    enum status status = io_connect(client->io, &client->socket, &SERVER, 0);
    client->connected = status == OK;
    client->broken = status == ERROR;
    if (status != ERROR) {
        io_requeue(client->io, &client->socket);
    }
    sim_node_run(client->io, client_turn, client);
}

/* Runs one seed; returns how many clients got everything back. */
static uint32_t run_echo(uint64_t seed, const struct sim_options *options, uint64_t *hash)
{
    struct sim *sim = sim_create(seed, options);
    int fd = sim_listen(sim, &SERVER);
    static struct echo_server servers[2];
    static struct echo_client clients[ECHO_CLIENTS];
    server_start(&servers[0], sim, fd);
    server_start(&servers[1], sim, fd);
    for (uint32_t i = 0; i < ECHO_CLIENTS; i++) {
        client_start(&clients[i], sim, (uint32_t)seed * 31 + i);
    }
    assert_true(sim_run(sim, sim_now(sim) + UINT64_C(3600) * SECOND, STEPS_MAX));
    uint32_t finished = 0;
    for (uint32_t i = 0; i < ECHO_CLIENTS; i++) {
        finished += clients[i].finished ? 1U : 0U;
    }
    if (finished == ECHO_CLIENTS) {
        assert_int_equal(sim_node_sockets(servers[0].io) + sim_node_sockets(servers[1].io), 0);
    }
    *hash = sim_trace_hash(sim);
    sim_destroy(sim);
    return finished;
}

static struct sim_options rough_options(uint64_t seed)
{
    struct prng prng;
    prng_init(&prng, seed);
    struct sim_options options = sim_options_quiet();
    options.delay_max = sim_magnitude(&prng, 50, 100000);
    options.buffer_min = 1;
    options.segment_min = 1;
    options.short_write = prng_below(&prng, 500);
    options.late_writable = prng_below(&prng, 500);
    options.spurious = prng_below(&prng, 300);
    options.fin_alone = 500;
    options.slow_link = 200;
    options.connect_instant = 300;
    options.accept_error = 300;
    options.backlog = (uint32_t)sim_magnitude(&prng, 1, 64);
    return options;
}

static void every_byte_comes_back_through_a_rough_network(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct sim_options options = rough_options(seed);
        uint64_t hash = 0;
        assert_int_equal(run_echo(seed, &options, &hash), ECHO_CLIENTS);
    }
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    uint64_t previous = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_options options = rough_options(seed);
        uint64_t first = 0;
        uint64_t second = 0;
        (void)run_echo(seed, &options, &first);
        (void)run_echo(seed, &options, &second);
        assert_true(first == second);
        assert_true(first != previous);
        previous = first;
    }
}

static void broken_networks_break_connections_and_never_bytes(void **state)
{
    (void)state;
    uint32_t finished = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct sim_options options = rough_options(seed);
        options.reset = 100;
        options.stall = 50;
        options.call_error = 1;
        options.connect_refused = 100;
        options.connect_error = 100;
        uint64_t hash = 0;
        finished += run_echo(seed, &options, &hash);
    }
    assert_in_range(finished, 50, 100 * ECHO_CLIENTS - 50);
}

static void a_simulation_may_be_dropped_at_any_step(void **state)
{
    (void)state;
    for (uint64_t steps = 1; steps < 400; steps += 7) {
        struct sim_options options = rough_options(steps);
        struct sim *sim = sim_create(steps, &options);
        static struct echo_server server;
        static struct echo_client client;
        server_start(&server, sim, sim_listen(sim, &SERVER));
        client_start(&client, sim, 1);
        for (uint64_t i = 0; i < steps; i++) {
            (void)sim_step(sim);
        }
        sim_destroy(sim);
    }
}

/* ---- misuse: each runs in a child, which must abort ---- */

static void read_after_close(void *context)
{
    struct pair *pair = context;
    size_t got = 0;
    char byte = 0;
    io_close(pair->client, &pair->near);
    (void)!io_read(pair->client, &pair->near, &byte, 1, &got);
}

static void write_after_shutdown(void *context)
{
    struct pair *pair = context;
    io_shutdown(pair->client, &pair->near);
    (void)put_bytes(pair->client, &pair->near, "x", 1);
}

static void moved_socket(void *context)
{
    struct pair *pair = context;
    struct io_socket moved = pair->near;
    io_shutdown(pair->client, &moved);
}

static void foreign_socket(void *context)
{
    struct pair *pair = context;
    io_shutdown(pair->client, &pair->far);
}

static void open_twice(void *context)
{
    struct pair *pair = context;
    (void)!io_connect(pair->client, &pair->near, &SERVER, 0);
}

static void misuse_is_stopped(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    struct pair pair;
    pair_connect(&pair, &options);
    assert_true(aborts(read_after_close, &pair));
    assert_true(aborts(write_after_shutdown, &pair));
    assert_true(aborts(moved_socket, &pair));
    assert_true(aborts(foreign_socket, &pair));
    assert_true(aborts(open_twice, &pair));
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_carries_bytes_both_ways),
        cmocka_unit_test(after_again_one_arrival_sets_the_bit_once),
        cmocka_unit_test(data_and_fin_come_as_one_event_and_the_bit_stays),
        cmocka_unit_test(a_full_buffer_holds_the_writer_until_the_reader_reads),
        cmocka_unit_test(closing_with_unread_input_resets_the_peer),
        cmocka_unit_test(writing_to_a_closed_peer_is_answered_with_a_reset),
        cmocka_unit_test(an_error_is_told_once_and_later_reads_see_a_plain_end),
        cmocka_unit_test(connects_fail_where_nobody_listens_or_nothing_answers),
        cmocka_unit_test(a_full_backlog_holds_back_the_handshake),
        cmocka_unit_test(a_paused_listener_is_silent_and_a_closed_one_refuses),
        cmocka_unit_test(a_killed_node_closes_what_it_held),
        cmocka_unit_test(the_wall_clock_leaps_and_the_monotonic_one_does_not),
        cmocka_unit_test(every_byte_comes_back_through_a_rough_network),
        cmocka_unit_test(the_same_seed_gives_the_same_run),
        cmocka_unit_test(broken_networks_break_connections_and_never_bytes),
        cmocka_unit_test(a_simulation_may_be_dropped_at_any_step),
        cmocka_unit_test(misuse_is_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
