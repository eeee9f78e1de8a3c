/*
 * Connections to a TLS endpoint over the simulated network, with all its faults: whatever happens
 * to a connect or a handshake, every lease hears of it or gives up, and nothing stays behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "io/sim.h"
#include "upstream/pool.h"

enum {
    SEEDS = 600,
    LEASES = 12,
    SLOTS = 4,
    PEERS = 32,
    STEPS_MAX = 200000,
    CONNECT_TIMEOUT = 3 * 1000 * 1000,
    KIND = 1,
};

/* A peer that shakes hands, or speaks no TLS at all. */
struct peer {
    struct transport transport;
    bool shaken;
    bool broken;
};

struct world {
    struct sim *sim;
    struct io *client;
    struct io *origin;
    struct io_socket listener;
    struct prng prng;
    struct tls_engine *engine; /* of both */
    struct tls_server *server;
    struct tls_client *tls;
    struct peer peers[PEERS];
    uint32_t peer_count;
    bool speaks_tls;
    struct timer_wheel wheel;
    struct slab inboxes;
    struct buffer_pool buffers;
    struct session_context context;
    struct generation_header header;
    struct generation generation;
    struct metrics metrics;
    void *cells;
    struct generation_endpoint config;
    struct endpoint endpoint;
    struct pool pool;
    struct pool_lease leases[LEASES];
    uint64_t began[LEASES];
    uint32_t begun;
    uint32_t opened;
    uint32_t failed;
    uint32_t gave_up;
};

/* ---- The endpoint ---- */

static void peer_run(struct world *world, struct peer *peer)
{
    enum tls_failure failure = TLS_FAILURE_CLOSED;
    uint8_t bytes[64];
    size_t got = 0;
    if (peer->broken || !transport_is_open(&peer->transport)) {
        return;
    }
    if (!world->speaks_tls) {
        struct iovec answer = {(void *)(uintptr_t) "HTTP", 4};
        (void)peer->transport.ops->write(&peer->transport, &answer, 1, &got);
        peer->transport.ops->close(&peer->transport);
        return;
    }
    if (!peer->shaken) {
        enum status status = tls_handshake(&peer->transport, &failure);
        peer->shaken = status == OK;
        peer->broken = status == ERROR;
    }
    enum status status = peer->shaken ? OK : AGAIN;
    while (status == OK) {
        status = peer->transport.ops->read(&peer->transport, bytes, sizeof(bytes), &got);
    }
    if (peer->broken || status == END || status == ERROR) {
        peer->transport.ops->close(&peer->transport);
    }
}

static void origin_turn(void *context)
{
    struct world *world = context;
    struct address from;
    io_wait(world->origin, UINT64_MAX);
    while (io_next_ready(world->origin) != NULL) {
    }
    while (world->peer_count < PEERS) {
        struct peer *peer = &world->peers[world->peer_count];
        *peer = (struct peer){.shaken = false};
        transport_init_tcp(&peer->transport, world->origin);
        if (io_accept(world->origin, &world->listener, &peer->transport.socket, KIND, &from) !=
            OK) {
            break;
        }
        world->peer_count++;
        if (world->speaks_tls && !tls_begin_server(&peer->transport, world->server, SPAN_EMPTY)) {
            peer->transport.ops->close(&peer->transport);
        }
    }
    for (uint32_t i = 0; i < world->peer_count; i++) {
        peer_run(world, &world->peers[i]);
    }
}

/* ---- The pool's side ---- */

static void give_back(struct world *world, uint32_t index, uint32_t *counter)
{
    pool_return(&world->pool, &world->leases[index], false);
    (*counter)++;
}

static void look_at_leases(struct world *world)
{
    for (uint32_t i = 0; i < world->begun; i++) {
        struct pool_lease *lease = &world->leases[i];
        enum reason reason = REASON_NONE;
        if (lease->connection == NULL) {
            continue;
        }
        enum status status = pool_connected(lease, &reason);
        if (status == OK) {
            assert_true(world->speaks_tls && lease->stream != NULL);
            assert_true(tls_is_on(&lease->connection->session.transport));
            give_back(world, i, &world->opened);
        } else if (status == ERROR) {
            assert_true(reason == REASON_CONNECT_FAILED || reason == REASON_UPSTREAM_TLS_FAILED ||
                        reason == REASON_BUFFERS_FULL);
            give_back(world, i, &world->failed);
        } else if (status == END || io_now(world->client) - world->began[i] >= CONNECT_TIMEOUT) {
            give_back(world, i, &world->gave_up);
        }
    }
}

static void begin_leases(struct world *world)
{
    while (world->begun < LEASES && sim_chance(&world->prng, 600)) {
        struct pool_lease *lease = &world->leases[world->begun];
        world->endpoint.multiplexed = sim_chance(&world->prng, 300); /* shared in advance */
        enum status status = pool_lease(&world->pool, &world->endpoint, false, SPAN_EMPTY, lease);
        if (status == AGAIN) {
            return;
        }
        world->began[world->begun++] = io_now(world->client);
        world->failed += status == ERROR;
    }
}

static void client_turn(void *context)
{
    struct world *world = context;
    io_wait(world->client, io_now(world->client) + 100 * 1000);
    struct io_socket *socket = io_next_ready(world->client);
    for (; socket != NULL; socket = io_next_ready(world->client)) {
        struct transport *transport = CONTAINER_OF(socket, struct transport, socket);
        struct session *session = CONTAINER_OF(transport, struct session, transport);
        struct stream *stream = NULL;
        session->ops->run(session);
        enum session_event event = session->ops->next_event(session, &stream);
        while (event != SESSION_EVENT_NONE) {
            assert_int_not_equal(event, SESSION_EVENT_CLOSED); /* none is idle */
            if (event == SESSION_EVENT_OPEN) {
                pool_open(&world->pool, pool_connection_of(session));
            }
            event = session->ops->next_event(session, &stream);
        }
    }
    look_at_leases(world);
    begin_leases(world);
}

/* ---- A seed ---- */

static struct sim_options draw_network(struct prng *prng)
{
    struct sim_options options = sim_options_quiet();
    if (sim_chance(prng, 800)) {
        options.buffer_min = 1;
        options.segment_min = 1;
        options.split = 300;
        options.short_write = 300;
        options.late_writable = 300;
        options.spurious = 100;
        options.connect_error = 50;
        options.connect_refused = 50;
        options.connect_blackhole = 50;
        options.connect_instant = 200;
        options.call_error = 5;
        options.reset = 100;
        options.stall = 100;
        options.trouble_within = 20 * 1000;
    }
    return options;
}

static void open_tls(struct world *world)
{
    char error[TLS_ERROR_MAX];
    const struct tls_identity identity = {.chain_pem = SPAN("a")};
    const struct tls_host host = {.pattern = SPAN(""), .identities = &identity, .count = 1};
    /* Sometimes too few for all: who finds none fails alone. */
    uint32_t room = sim_chance(&world->prng, 100) ? 3 : PEERS + SLOTS;
    world->engine = tls_engine_create(room, UINT64_MAX);
    world->server = tls_server_create(
        world->engine, &(struct tls_server_settings){.fallback = &host, .version_max = TLS_1_3},
        error);
    world->tls = tls_client_create(world->engine, &(struct tls_client_settings){0}, error);
    assert_true(world->server != NULL && world->tls != NULL);
}

static void open_pool(struct world *world)
{
    timer_wheel_init(&world->wheel, io_now(world->client));
    assert_true(slab_init(&world->inboxes, 4096, SLOTS));
    assert_true(buffer_pool_init(&world->buffers, 1024 * 1024));
    world->context = (struct session_context){.io = world->client,
                                              .wheel = &world->wheel,
                                              .buffers = &world->buffers,
                                              .upstream_inboxes = &world->inboxes};
    world->header.upstreams.count = 1;
    world->header.endpoints.count = 1;
    world->generation = (struct generation){(const uint8_t *)&world->header, &world->header};
    world->cells = malloc(metrics_size(&world->generation));
    assert_non_null(world->cells);
    metrics_init(&world->metrics, world->cells, &world->generation);
    world->endpoint.config = &world->config;
    world->endpoint.target = (struct dialing_target){.address = &world->config.address,
                                                     .tls = world->tls,
                                                     .peer.server_name = SPAN("a.test"),
                                                     .resumption = &world->endpoint.resumption};
    list_init(&world->endpoint.idle);
    list_init(&world->endpoint.shared);
    assert_true(pool_init(&world->pool, &world->context, &world->metrics, SLOTS));
    world->pool.socket_kind = KIND;
}

static void run_seed(uint64_t seed, uint32_t *opened, uint32_t *failed)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    prng_init(&world->prng, seed);
    struct sim_options options = draw_network(&world->prng);
    world->sim = sim_create(seed, &options);
    world->client = sim_node_create(world->sim, "client");
    world->origin = sim_node_create(world->sim, "origin");
    world->speaks_tls = sim_chance(&world->prng, 900);
    world->config.address =
        (struct address){.family = ADDRESS_IPV4, .port = 443, .ip = {10, 0, 0, 2}};
    int fd = sim_listen(world->sim, &world->config.address);
    io_socket_init(&world->listener);
    assert_int_equal(io_listen(world->origin, &world->listener, fd, KIND), OK);
    open_tls(world);
    open_pool(world);
    sim_node_run(world->origin, origin_turn, world);
    sim_node_run(world->client, client_turn, world);
    assert_true(sim_run(world->sim, sim_now(world->sim) + 60 * 1000 * 1000, STEPS_MAX));
    /* Everybody has begun and heard the end of it. */
    assert_int_equal(world->begun, LEASES);
    assert_int_equal(world->opened + world->failed + world->gave_up, LEASES);
    assert_int_equal(world->endpoint.in_use, 0);
    assert_int_equal(world->pool.connections.in_use, 0);
    assert_true(list_is_empty(&world->endpoint.shared));
    assert_int_equal(sim_node_sockets(world->client), 0);
    assert_int_equal(world->wheel.count, 0);
    for (uint32_t i = 0; i < world->peer_count; i++) {
        world->peers[i].transport.ops->close(&world->peers[i].transport);
    }
    assert_int_equal(tls_engine_connections(world->engine), 0);
    *opened += world->opened;
    *failed += world->failed;
    pool_deinit(&world->pool);
    slab_deinit(&world->inboxes);
    buffer_pool_deinit(&world->buffers);
    io_close(world->origin, &world->listener);
    tls_client_destroy(world->tls);
    tls_server_destroy(world->server);
    tls_engine_destroy(world->engine);
    sim_destroy(world->sim);
    free(world->cells);
    free(world);
}

static void every_lease_hears_what_became_of_its_connection(void **state)
{
    (void)state;
    uint32_t opened = 0;
    uint32_t failed = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        run_seed(seed, &opened, &failed);
    }
    print_message("%u leases were opened, %u failed\n", opened, failed);
    assert_true(opened > SEEDS && failed > SEEDS); /* of both there are plenty */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_lease_hears_what_became_of_its_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
