/*
 * How near a bound is, what goes first when that is near, and when it ends: a real worker in the
 * simulator, whose clients and origin do exactly what they are told. Virtual time, so ages and
 * counts are exact.
 */
#include "io/sim.h"
#include "proxy/shedding.h"
#include "proxy/worker_fixture.h"

enum {
    MILLISECOND = 1000,
    SECOND = 1000 * 1000,
    STEPS_MAX = 1000000,
    PEERS_MAX = 256,
    KIND = 1,
};

#define POST "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegun"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static const struct address FRONT = {.family = ADDRESS_IPV4, .port = 80, .ip = {10, 1, 0, 1}};
static const struct address ORIGIN = {.family = ADDRESS_IPV4, .port = 80, .ip = {10, 1, 0, 2}};

struct world {
    struct worker_fixture fixture;
    struct sim *sim;
    struct io *io; /* the worker's */
    struct io *peers;
    struct io_socket origin;
    struct io_socket clients[PEERS_MAX];
    struct io_socket upstreams[PEERS_MAX];
    uint32_t client_count;
    uint32_t upstream_count;
    int listener;
    struct worker *worker;
};

static void turn(void *context)
{
    struct world *world = context;
    worker_turn(world->worker);
}

static void pass(struct world *world, uint64_t microseconds)
{
    assert_true(sim_run(world->sim, sim_now(world->sim) + microseconds, STEPS_MAX));
    io_wait(world->peers, UINT64_MAX); /* the peers hear what has happened */
}

static struct world *begin(const char *server, const char *limits)
{
    struct world *world = calloc(1, sizeof(*world));
    char text[1024];
    assert_non_null(world);
    (void)snprintf(text, sizeof(text),
                   "server { workers 1; %s\n limits { %s }\n"
                   " timeouts { request-head 60s; keep-alive 60s; linger 60s }\n}\n"
                   "listener \"l\" { address \"10.1.0.1:80\" }\n"
                   "upstream \"u\" { target \"10.1.0.2:80\" }\n"
                   "route \"here\" { match path=\"/here\"; respond 200 }\n"
                   "route \"all\" { match path-prefix=\"/\"; upstream \"u\" }\n",
                   server, limits);
    worker_fixture_init(&world->fixture, text);
    struct sim_options options = sim_options_quiet();
    options.buffer_min = options.buffer_max = 16 * 1024;
    world->sim = sim_create(7, &options);
    world->io = sim_node_create(world->sim, "worker");
    world->peers = sim_node_create(world->sim, "peers");
    world->listener = sim_listen(world->sim, &FRONT);
    io_socket_init(&world->origin);
    int origin = sim_listen(world->sim, &ORIGIN);
    assert_int_equal(io_listen(world->peers, &world->origin, origin, KIND), OK);
    world->worker = worker_fixture_create(&world->fixture, world->io, &world->listener, 0);
    sim_node_run(world->io, turn, world);
    return world;
}

static void end(struct world *world)
{
    worker_destroy(world->worker);
    for (uint32_t i = 0; i < world->client_count; i++) {
        io_close(world->peers, &world->clients[i]);
    }
    for (uint32_t i = 0; i < world->upstream_count; i++) {
        io_close(world->peers, &world->upstreams[i]);
    }
    io_close(world->peers, &world->origin);
    sim_destroy(world->sim);
    worker_fixture_deinit(&world->fixture);
    free(world);
}

static void put(struct world *world, struct io_socket *socket, const void *bytes, size_t size)
{
    union {
        const void *bytes;
        void *base;
    } data = {.bytes = bytes};
    struct iovec piece = {data.base, size};
    size_t done = 0;
    assert_int_not_equal(io_write(world->peers, socket, &piece, 1, &done), ERROR);
}

static void say(struct world *world, struct io_socket *socket, const char *text)
{
    put(world, socket, text, strlen(text));
    pass(world, 2 * MILLISECOND);
}

/* One more client, who sends this and reads nothing. */
static void come(struct world *world, const char *text)
{
    assert_true(world->client_count < PEERS_MAX);
    struct io_socket *socket = &world->clients[world->client_count++];
    io_socket_init(socket);
    assert_int_not_equal(io_connect(world->peers, socket, &FRONT, KIND), ERROR);
    pass(world, 2 * MILLISECOND);
    assert_int_equal(io_connect_result(world->peers, socket), OK);
    if (text[0] != '\0') {
        say(world, socket, text);
    }
}

static void come_all(struct world *world, uint32_t count, const char *text)
{
    for (uint32_t i = 0; i < count; i++) {
        come(world, text);
    }
}

/* Whether the proxy still holds the connection of this client, who reads now. */
static bool is_held(struct world *world, uint32_t client)
{
    char bytes[1024];
    size_t got = 0;
    struct io_socket *socket = &world->clients[client];
    enum status status = OK;
    while (io_is_open(socket) && status == OK) {
        status = io_read(world->peers, socket, bytes, sizeof(bytes), &got);
    }
    return io_is_open(socket) && status == AGAIN;
}

static uint32_t held(struct world *world, uint32_t first, uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = first; i < first + count; i++) {
        sum += is_held(world, i) ? 1 : 0;
    }
    return sum;
}

static uint64_t shed(const struct world *world, enum shed_kind kind)
{
    const uint64_t *cells = world->fixture.cells;
    return cells[world->fixture.metrics.layout.offsets[METRIC_SHED] + kind];
}

/* How much of a bound is in use, in millionths. */
static uint64_t use(const struct world *world, enum limit limit)
{
    const uint64_t *cells = world->fixture.cells;
    return cells[world->fixture.metrics.layout.offsets[METRIC_LIMIT_UTILIZATION] + limit];
}

/* The origin takes what has come; who asks for /large gets the begin of an answer without end. */
static void serve(struct world *world)
{
    static uint8_t body[256 * 1024];
    static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n";
    char bytes[1024];
    struct address peer;
    struct io_socket *socket = &world->upstreams[world->upstream_count];
    io_socket_init(socket);
    while (io_accept(world->peers, &world->origin, socket, KIND, &peer) == OK) {
        size_t got = 0;
        pass(world, 2 * MILLISECOND);
        bool large = io_read(world->peers, socket, bytes, sizeof(bytes), &got) == OK && got > 10 &&
                     memcmp(bytes, "GET /large", 10) == 0;
        if (large) {
            put(world, socket, head, sizeof(head) - 1);
        }
        for (int i = 0; i < 20 && large; i++) {
            put(world, socket, body, sizeof(body));
            pass(world, 2 * MILLISECOND);
        }
        assert_true(++world->upstream_count < PEERS_MAX);
        socket = &world->upstreams[world->upstream_count];
        io_socket_init(socket);
    }
}

/* So many clients that do not read a large answer. */
static void come_readers(struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        come(world, GET("/large"));
        serve(world);
    }
}

/* So many that do not send the body that they have announced. */
static void come_senders(struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        come(world, POST);
        serve(world);
    }
}

/* ---- max-connections ---- */

/* From 90 to below 80 of 100, one by one as each has been idle for 5 s. */
static void the_idle_are_closed_until_there_is_room_for_a_fifth(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "max-requests 100");
    for (int i = 0; i < 89; i++) {
        come(world, "");
        pass(world, 18 * MILLISECOND);
    }
    pass(world, 10 * SECOND);
    assert_int_equal(held(world, 0, 89), 89); /* below nine tenths nobody goes, however long */
    end(world);
    world = begin("max-connections 100", "max-requests 100");
    for (int i = 0; i < 92; i++) {
        come(world, "");
        pass(world, 18 * MILLISECOND);
    }
    pass(world, 5 * SECOND - 92 * 20 * MILLISECOND);
    assert_int_equal(held(world, 0, 92), 92);
    pass(world, 10 * SECOND);
    assert_int_equal(held(world, 0, 13), 0);
    assert_int_equal(held(world, 13, 79), 79);
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 13);
    end(world);
}

static void above_nineteen_twentieths_the_idle_go_before_heads(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "max-requests 100");
    come_all(world, 40, "GET / HT");
    come_all(world, 40, "");
    pass(world, SECOND);
    come_all(world, 14, "");
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 0);
    come(world, "");
    pass(world, 5 * MILLISECOND);
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 6); /* down to below nine tenths */
    assert_int_equal(shed(world, SHED_SLOW_HEAD), 0);
    assert_int_equal(held(world, 40, 6), 0);
    assert_int_equal(held(world, 0, 40) + held(world, 46, 49), 89);
    end(world);
}

static void where_the_idle_are_too_few_the_oldest_heads_go(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "max-requests 100");
    come_all(world, 90, "GET / HT");
    come_all(world, 2, "");
    pass(world, SECOND);
    come_all(world, 3, "GET /");
    pass(world, 5 * MILLISECOND);
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 2);
    assert_int_equal(shed(world, SHED_SLOW_HEAD), 4);
    pass(world, 10 * SECOND); /* who was told so and stays is ended, and nobody else */
    assert_int_equal(shed(world, SHED_SLOW_HEAD), 4);
    assert_int_equal(held(world, 0, 4), 0);
    assert_int_equal(held(world, 4, 86) + held(world, 92, 3), 89);
    end(world);
}

/* 92 of 100 are less than what began it, and more than what ends it. */
static void what_began_above_the_upper_threshold_ends_below_the_lower(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "max-requests 100");
    come_all(world, 95, "");
    for (uint32_t i = 0; i < 3; i++) {
        io_close(world->peers, &world->clients[i]);
    }
    pass(world, 2 * SECOND);
    assert_int_equal(held(world, 3, 92), 90);
    end(world);
    world = begin("max-connections 100", "max-requests 100");
    come_all(world, 94, "");
    pass(world, 2 * SECOND);
    assert_int_equal(held(world, 0, 94), 94);
    end(world);
}

static void who_lingers_goes_first(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "max-requests 100");
    come_all(world, 10, "GET /here HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nmore");
    come_all(world, 85, "");
    assert_int_equal(shed(world, SHED_LINGERING), 0);
    pass(world, 2 * SECOND);
    assert_int_equal(shed(world, SHED_LINGERING), 6);
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 0);
    assert_int_equal(held(world, 10, 85), 85);
    end(world);
}

static void at_the_bound_a_new_connection_takes_the_place_of_the_longest_idle(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 50", "max-requests 100");
    come_all(world, 50, "");
    come(world, GET("/here"));
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 0); /* they may be about to ask */
    assert_false(is_held(world, 50));
    pass(world, 250 * MILLISECOND);
    come(world, "");
    assert_int_equal(shed(world, SHED_IDLE_CONNECTION), 1);
    assert_false(is_held(world, 0));
    assert_int_equal(held(world, 1, 49), 49);
    assert_true(is_held(world, 51));
    end(world);
}

/* ---- max-requests, max-upstream-connections, buffer-pool ---- */

static void bodies_that_stand_still_go_before_responses_that_do(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 1000", "max-requests 20");
    come_readers(world, 9);
    come_senders(world, 9);
    pass(world, 2 * SECOND);
    assert_int_equal(shed(world, SHED_SLOW_BODY), 0);
    come(world, GET("/waits"));
    pass(world, 5 * MILLISECOND);
    assert_int_equal(shed(world, SHED_SLOW_BODY), 2); /* 19 of 20 are down to 17 */
    assert_int_equal(shed(world, SHED_SLOW_READER), 0);
    assert_int_equal(held(world, 9, 2), 0);
    end(world);
}

static void responses_go_where_bodies_are_too_few(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 1000", "max-requests 20");
    come_readers(world, 17);
    come_senders(world, 1);
    pass(world, 2 * SECOND);
    come(world, GET("/waits"));
    pass(world, 5 * MILLISECOND);
    assert_int_equal(shed(world, SHED_SLOW_BODY), 1);
    assert_int_equal(shed(world, SHED_SLOW_READER), 1);
    assert_false(is_held(world, 0));
    end(world);
}

static void who_waits_for_an_upstream_connection_gets_that_of_a_body_first(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 1000", "max-upstream-connections 10");
    come_readers(world, 5);
    come_senders(world, 5);
    pass(world, 2 * SECOND);
    assert_int_equal(shed(world, SHED_SLOW_BODY) + shed(world, SHED_SLOW_READER), 0);
    come(world, GET("/waits"));
    pass(world, 5 * MILLISECOND);
    assert_int_equal(shed(world, SHED_SLOW_BODY), 1);
    assert_int_equal(shed(world, SHED_SLOW_READER), 0);
    assert_false(is_held(world, 5));
    end(world);
}

/* So many whose body the origin does not take, though it is there. */
static void come_uploads(struct world *world, uint32_t count)
{
    static const uint8_t body[64 * 1024];
    for (uint32_t i = 0; i < count; i++) {
        come(world, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n");
        serve(world);
        for (int j = 0; j < 20; j++) {
            put(world, &world->clients[world->client_count - 1], body, sizeof(body));
            pass(world, 2 * MILLISECOND);
        }
    }
}

/* 32 exchanges that stand still hold all buffers but those that are kept for heads. */
static void who_waits_for_a_buffer_gets_that_of_a_response_first(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 1000", "buffer-pool 1MiB; max-requests 100");
    come_uploads(world, 16);
    come_readers(world, 16);
    pass(world, 2 * SECOND);
    assert_int_equal(shed(world, SHED_SLOW_READER) + shed(world, SHED_SLOW_UPSTREAM), 0);
    come_uploads(world, 1);
    assert_int_equal(shed(world, SHED_SLOW_READER), 1);
    assert_int_equal(shed(world, SHED_SLOW_UPSTREAM), 0);
    assert_false(is_held(world, 16));
    assert_int_equal(held(world, 0, 16), 16);
    end(world);
}

static void where_no_response_stands_still_a_request_gives_its_buffer(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 1000", "buffer-pool 1MiB; max-requests 100");
    come_uploads(world, 32);
    pass(world, 2 * SECOND);
    come_uploads(world, 1);
    assert_int_equal(shed(world, SHED_SLOW_UPSTREAM), 1);
    assert_int_equal(shed(world, SHED_SLOW_BODY) + shed(world, SHED_SLOW_READER), 0);
    assert_false(is_held(world, 0));
    end(world);
}

/* ---- The use of a bound ---- */

static void a_head_that_is_not_complete_uses_memory_for_heads(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "max-requests 100");
    assert_int_equal(use(world, LIMIT_CLIENT_HEADS), 0);
    come_all(world, 10, "GET / HT");
    uint64_t ten = use(world, LIMIT_CLIENT_HEADS);
    assert_true(ten > 0);
    come_all(world, 10, "GET / HT");
    assert_in_range(use(world, LIMIT_CLIENT_HEADS), ten * 2 - 1, ten * 2);
    assert_int_equal(use(world, LIMIT_UPSTREAM_HEADS), 0);
    come(world, GET("/"));
    serve(world);
    say(world, &world->upstreams[0], "HTTP/1.1 20");
    assert_true(use(world, LIMIT_UPSTREAM_HEADS) > 0);
    say(world, &world->upstreams[0], "0 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(use(world, LIMIT_UPSTREAM_HEADS), 0);
    end(world);
}

static void a_body_that_stands_still_uses_buffers(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "buffer-pool 1MiB");
    come_uploads(world, 8);
    assert_int_equal(use(world, LIMIT_BUFFERS), 500000); /* 8 times 4 of 64 */
    end(world);
}

static void who_has_asked_for_much_uses_the_table_of_rates(void **state)
{
    (void)state;
    struct world *world =
        begin("max-connections 100", "request-rate-per-client 1 burst=1000; max-requests 100");
    come_all(world, 10, GET("/here"));
    pass(world, SECOND);
    come(world, GET("/here")); /* a turn, in which it is looked at again */
    assert_true(use(world, LIMIT_RATE_TABLE) > 0);
    end(world);
}

/* Whoever looks every ten seconds sees it at least once. */
static void the_busiest_client_is_shown_for_ten_seconds_at_least(void **state)
{
    (void)state;
    struct world *world = begin("max-connections 100", "connections-per-client 8");
    come_all(world, 8, "");
    assert_int_equal(use(world, LIMIT_CLIENT_CONNECTIONS), 1000000); /* the next one is refused */
    for (uint32_t i = 0; i < 8; i++) {
        io_close(world->peers, &world->clients[i]);
    }
    pass(world, 12 * SECOND);
    come(world, "");
    assert_int_equal(use(world, LIMIT_CLIENT_CONNECTIONS), 1000000);
    pass(world, 12 * SECOND);
    come(world, "");
    assert_int_equal(use(world, LIMIT_CLIENT_CONNECTIONS), 250000);
    end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_busiest_client_is_shown_for_ten_seconds_at_least),
        cmocka_unit_test(a_head_that_is_not_complete_uses_memory_for_heads),
        cmocka_unit_test(a_body_that_stands_still_uses_buffers),
        cmocka_unit_test(who_has_asked_for_much_uses_the_table_of_rates),
        cmocka_unit_test(the_idle_are_closed_until_there_is_room_for_a_fifth),
        cmocka_unit_test(above_nineteen_twentieths_the_idle_go_before_heads),
        cmocka_unit_test(where_the_idle_are_too_few_the_oldest_heads_go),
        cmocka_unit_test(what_began_above_the_upper_threshold_ends_below_the_lower),
        cmocka_unit_test(who_lingers_goes_first),
        cmocka_unit_test(at_the_bound_a_new_connection_takes_the_place_of_the_longest_idle),
        cmocka_unit_test(bodies_that_stand_still_go_before_responses_that_do),
        cmocka_unit_test(responses_go_where_bodies_are_too_few),
        cmocka_unit_test(who_waits_for_an_upstream_connection_gets_that_of_a_body_first),
        cmocka_unit_test(who_waits_for_a_buffer_gets_that_of_a_response_first),
        cmocka_unit_test(where_no_response_stands_still_a_request_gives_its_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
