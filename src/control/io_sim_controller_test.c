/*
 * Health checks in the simulator: the controller, and an origin that behaves as told. Virtual time,
 * so thresholds, timeouts and intervals are exact and nothing waits. The thresholds are also tested
 * on their own.
 */
#include "control/controller.h"

#include <errno.h>

#include "control/control_fixture.h"
#include "control/health_check.h"
#include "io/sim.h"

static const char CONFIG_HTTP[] =
    "server {\n  workers 1\n}\n"
    "listener \"http\" {\n  address \"127.0.0.1:8080\"\n}\n"
    "upstream \"backend\" {\n  target \"10.1.0.1:80\"\n  health-check {\n"
    "    type \"http\" path=\"/health?deep=1\" host=\"origin.test\"\n    interval 10s\n"
    "    timeout 2s\n    healthy-threshold 2\n    unhealthy-threshold 3\n  }\n}\n"
    "upstream \"unchecked\" {\n  target \"10.1.0.9:80\"\n}\n"
    "route \"api\" {\n  match path-prefix=\"/\"\n  upstream \"backend\"\n}\n"
    "route \"other\" {\n  match path-prefix=\"/other\"\n  upstream \"unchecked\"\n}\n";

static const char CONFIG_TCP[] =
    "server {\n  workers 1\n}\n"
    "listener \"http\" {\n  address \"127.0.0.1:8080\"\n}\n"
    "upstream \"backend\" {\n  target \"10.1.0.1:80\"\n  health-check {\n    type \"tcp\"\n"
    "    interval 10s\n    timeout 2s\n  }\n}\n"
    "route \"api\" {\n  match path-prefix=\"/\"\n  upstream \"backend\"\n}\n";

static const struct address ORIGIN = {.family = ADDRESS_IPV4, .port = 80, .ip = {10, 1, 0, 1}};

enum {
    SECOND = 1000000,
    STEPS_MAX = 1000000,
    CONNECTIONS_MAX = 8,
    REQUEST_MAX = 1024,
    ANSWER_MAX = 16384,
    TIMES_MAX = 64,
    KIND_LISTENER = 1,
    KIND_CONNECTION = 2,
};

struct connection {
    struct io_socket socket;
    bool answered;
    size_t size;
    char request[REQUEST_MAX];
};

/* Answers what comes on a connection with `answer`. */
struct origin {
    struct io *io;
    struct io_socket listener;
    int fd;
    size_t answer_size; /* 0: silence */
    char answer[ANSWER_MAX];
    unsigned requests;
    uint64_t times[TIMES_MAX]; /* when the first requests came */
    char request[REQUEST_MAX];
    struct connection connections[CONNECTIONS_MAX];
};

struct world {
    struct sim *sim;
    struct fixture_generation compiled;
    void *words;
    void *totals;
    struct io *io;
    struct controller *controller;
    struct health_view view;
    struct origin origin;
    unsigned changes;
    unsigned troubles;
    int error; /* that troubles tell */
    enum health_state told;
};

static void origin_accept(struct origin *origin)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &origin->connections[i];
        struct address peer;
        if (io_is_open(&connection->socket)) {
            continue;
        }
        if (io_accept(origin->io, &origin->listener, &connection->socket, KIND_CONNECTION, &peer) !=
            OK) {
            return;
        }
        connection->answered = false;
        connection->size = 0;
    }
}

/* Answers once the whole head is there, however it was cut on its way. */
static enum status origin_answer(struct origin *origin, struct connection *connection)
{
    connection->request[connection->size] = '\0';
    if (connection->answered || strstr(connection->request, "\r\n\r\n") == NULL) {
        return OK;
    }
    connection->answered = true;
    memcpy(origin->request, connection->request, connection->size + 1);
    if (origin->requests < TIMES_MAX) {
        origin->times[origin->requests] = io_now(origin->io);
    }
    origin->requests++;
    if (origin->answer_size == 0) {
        return OK;
    }
    struct iovec piece = {origin->answer, origin->answer_size};
    size_t put = 0;
    return io_write(origin->io, &connection->socket, &piece, 1, &put);
}

static void origin_serve(struct origin *origin, struct io_socket *socket)
{
    struct connection *connection = CONTAINER_OF(socket, struct connection, socket);
    enum status status = OK;
    while (status == OK) {
        size_t got = 0;
        size_t room = REQUEST_MAX - 1 - connection->size;
        assert_true(room > 0);
        status = io_read(origin->io, socket, connection->request + connection->size, room, &got);
        if (status == OK) {
            connection->size += got;
            status = origin_answer(origin, connection);
        }
    }
    if (status != AGAIN) {
        io_close(origin->io, socket);
    }
}

static void origin_turn(void *context)
{
    struct origin *origin = context;
    io_wait(origin->io, UINT64_MAX);
    struct io_socket *socket = NULL;
    while ((socket = io_next_ready(origin->io)) != NULL) {
        if (socket->kind == KIND_LISTENER) {
            origin_accept(origin);
        } else {
            origin_serve(origin, socket);
        }
    }
}

static void origin_begin(struct world *world)
{
    struct origin *origin = &world->origin;
    origin->io = sim_node_create(world->sim, "origin");
    origin->fd = sim_listen(world->sim, &ORIGIN);
    io_socket_init(&origin->listener);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        io_socket_init(&origin->connections[i].socket);
    }
    assert_int_equal(io_listen(origin->io, &origin->listener, origin->fd, KIND_LISTENER), OK);
    sim_node_run(origin->io, origin_turn, origin);
}

static void turn(void *context)
{
    struct world *world = context;
    controller_turn(world->controller);
}

static void set_answer(struct world *world, const char *answer)
{
    size_t size = answer == NULL ? 0 : strlen(answer);
    assert_true(size <= ANSWER_MAX);
    if (size > 0) {
        memcpy(world->origin.answer, answer, size);
    }
    world->origin.answer_size = size;
}

static void on_health(void *context, uint32_t endpoint, enum health_state state,
                      enum tls_detail detail)
{
    struct world *world = context;
    assert_int_equal(endpoint, 0);
    assert_int_equal(detail, TLS_DETAIL_NONE); /* nobody speaks TLS here */
    world->changes++;
    world->told = state;
}

static void count_trouble(void *context, enum controller_trouble trouble, int error)
{
    struct world *world = context;
    assert_int_equal(trouble, TROUBLE_CHECK);
    assert_true(error == world->error || (error != 0 && world->error == 0)); /* 0: drawn */
    world->troubles++;
}

static struct world *begin(const char *config, uint64_t seed, const struct sim_options *options)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    fixture_compile(&world->compiled, config);
    const struct generation *generation = &world->compiled.generation;
    world->words = fixture_region(health_size(generation));
    world->totals = fixture_region(metrics_size(generation));
    world->error = options->fault_error;
    world->sim = sim_create(seed, options);
    world->io = sim_node_create(world->sim, "controller");
    origin_begin(world);
    set_answer(world, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    struct controller_options settings = {
        .io = world->io,
        .generation = generation,
        .admin = -1,
        .control = -1,
        .health = world->words,
        .metrics = world->totals,
        .on_health = on_health,
        .health_context = world,
        .on_trouble = count_trouble,
        .trouble_context = world,
    };
    world->controller = controller_create(&settings);
    assert_non_null(world->controller);
    health_view_init(&world->view, world->words, generation);
    sim_node_run(world->io, turn, world);
    return world;
}

static struct world *begin_quiet(const char *config)
{
    struct sim_options options = sim_options_quiet();
    return begin(config, 11, &options);
}

static void end(struct world *world)
{
    controller_destroy(world->controller);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        io_close(world->origin.io, &world->origin.connections[i].socket);
    }
    io_close(world->origin.io, &world->origin.listener);
    sim_destroy(world->sim);
    free(world->words);
    free(world->totals);
    fixture_free(&world->compiled);
    free(world);
}

static void pass(struct world *world, uint64_t seconds)
{
    assert_true(sim_run(world->sim, sim_now(world->sim) + seconds * SECOND, STEPS_MAX));
}

/* Lets time pass until the origin was asked so often in all, and that check has ended. */
static void pass_checks(struct world *world, unsigned requests)
{
    for (unsigned i = 0; world->origin.requests < requests; i++) {
        assert_true(i < 20 * requests);
        pass(world, 1);
    }
    pass(world, 3); /* more than the timeout, less than the interval */
}

static uint32_t word(const struct world *world, uint32_t endpoint)
{
    return atomic_load(world->view.words + endpoint);
}

static void thresholds_count_outcomes_in_a_row(void **state)
{
    (void)state;
    struct health_judge judge = {0};
    const struct {
        bool success;
        enum health_state expected;
    } HISTORY[] = {
        {true, HEALTH_UP},   {false, HEALTH_UP},   {false, HEALTH_UP},   {true, HEALTH_UP},
        {false, HEALTH_UP},  {false, HEALTH_UP},   {false, HEALTH_DOWN}, {false, HEALTH_DOWN},
        {true, HEALTH_DOWN}, {false, HEALTH_DOWN}, {true, HEALTH_DOWN},  {true, HEALTH_UP},
        {false, HEALTH_UP},  {false, HEALTH_UP},   {false, HEALTH_DOWN},
    };
    for (size_t i = 0; i < sizeof(HISTORY) / sizeof(HISTORY[0]); i++) {
        health_judge_note(&judge, HISTORY[i].success, 2, 3);
        assert_int_equal(judge.state, HISTORY[i].expected);
    }
}

static void an_endpoint_never_seen_well_goes_down_by_the_same_threshold(void **state)
{
    (void)state;
    struct health_judge judge = {0};
    health_judge_note(&judge, false, 2, 3);
    health_judge_note(&judge, false, 2, 3);
    assert_int_equal(judge.state, HEALTH_UNKNOWN);
    health_judge_note(&judge, false, 2, 3);
    assert_int_equal(judge.state, HEALTH_DOWN);
    health_judge_note(&judge, true, 1, 1);
    assert_int_equal(judge.state, HEALTH_UP);
    health_judge_note(&judge, false, 1, 1);
    assert_int_equal(judge.state, HEALTH_DOWN);
}

static void the_first_check_comes_at_once_and_asks_as_configured(void **state)
{
    (void)state;
    struct world *world = begin_quiet(CONFIG_HTTP);
    assert_int_equal(word(world, 0), HEALTH_UNKNOWN);
    pass(world, 1);
    assert_int_equal(world->origin.requests, 1);
    assert_int_equal(word(world, 0), HEALTH_UP);
    const char *begin_expected = "GET /health?deep=1 HTTP/1.1\r\nHost: origin.test\r\n";
    assert_memory_equal(world->origin.request, begin_expected, strlen(begin_expected));
    assert_non_null(strstr(world->origin.request, "\r\nConnection: close\r\n"));
    end(world);
}

static void checks_come_an_interval_apart_with_a_tenth_of_jitter(void **state)
{
    (void)state;
    struct world *world = begin_quiet(CONFIG_HTTP);
    pass(world, 400);
    const struct origin *origin = &world->origin;
    assert_true(origin->requests >= 36 && origin->requests <= 45);
    uint64_t shortest = UINT64_MAX;
    uint64_t longest = 0;
    for (unsigned i = 1; i < origin->requests; i++) {
        uint64_t gap = origin->times[i] - origin->times[i - 1];
        assert_true(gap >= 8990000 && gap <= 11010000);
        shortest = gap < shortest ? gap : shortest;
        longest = gap > longest ? gap : longest;
    }
    assert_true(longest - shortest > SECOND / 10);
    end(world);
}

static void three_failures_take_an_endpoint_out_and_two_successes_bring_it_back(void **state)
{
    (void)state;
    struct world *world = begin_quiet(CONFIG_HTTP);
    pass_checks(world, 1);
    set_answer(world, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    pass_checks(world, 3);
    assert_true(health_is_up(&world->view, 0));
    assert_int_equal(world->changes, 1);
    pass_checks(world, 4);
    assert_false(health_is_up(&world->view, 0));
    assert_int_equal(world->changes, 2);
    assert_int_equal(world->told, HEALTH_DOWN);
    set_answer(world, "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    pass_checks(world, 5);
    assert_false(health_is_up(&world->view, 0));
    pass_checks(world, 6);
    assert_true(health_is_up(&world->view, 0));
    assert_int_equal(word(world, 1), HEALTH_UNKNOWN); /* nobody checks that one */
    end(world);
}

static void what_is_no_healthy_answer_is_a_failure(void **state)
{
    (void)state;
    static char huge[12000];
    memset(huge, 'a', sizeof(huge) - 1);
    memcpy(huge, "HTTP/1.1 200 OK\r\nX: ", 20);
    const char *const ANSWERS[] = {
        NULL,
        "HTTP/1.1 200",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n",
        huge,
    };
    for (size_t i = 0; i < sizeof(ANSWERS) / sizeof(ANSWERS[0]); i++) {
        struct world *world = begin_quiet(CONFIG_HTTP);
        set_answer(world, ANSWERS[i]);
        pass_checks(world, 2);
        assert_true(health_is_up(&world->view, 0));
        pass_checks(world, 3);
        assert_false(health_is_up(&world->view, 0));
        end(world);
    }
}

static void interim_answers_are_passed_over(void **state)
{
    (void)state;
    struct world *world = begin_quiet(CONFIG_HTTP);
    set_answer(world, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                      "HTTP/1.1 100 Continue\r\n\r\n"
                      "HTTP/1.1 204 No Content\r\n\r\n");
    pass_checks(world, 1);
    assert_int_equal(word(world, 0), HEALTH_UP);
    end(world);
}

static void a_tcp_check_wants_a_connection_and_no_more(void **state)
{
    (void)state;
    struct world *world = begin_quiet(CONFIG_TCP);
    pass(world, 5);
    assert_int_equal(word(world, 0), HEALTH_UP);
    assert_int_equal(world->origin.requests, 0);
    io_close(world->origin.io, &world->origin.listener);
    sim_listener_close(world->sim, world->origin.fd);
    pass(world, 35);
    assert_int_equal(word(world, 0), HEALTH_DOWN);
    assert_int_equal(sim_node_sockets(world->io), 0);
    end(world);
}

static bool connects_fail(const char *call)
{
    return strcmp(call, "connect") == 0;
}

/* Descriptors that the controller lacks say nothing of an endpoint, a route that lacks does. */
static void a_check_that_cannot_be_made_has_no_outcome(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    options.fault = connects_fail;
    options.fault_error = EMFILE;
    struct world *world = begin(CONFIG_TCP, 11, &options);
    pass(world, 100);
    assert_int_equal(word(world, 0), HEALTH_UNKNOWN);
    assert_int_equal(world->changes, 0);
    assert_true(world->troubles >= 9 && world->troubles <= 12);
    end(world);
    options.fault_error = ENETUNREACH;
    world = begin(CONFIG_TCP, 11, &options);
    pass(world, 100);
    assert_int_equal(word(world, 0), HEALTH_DOWN);
    assert_int_equal(world->troubles, 0);
    end(world);
}

/* The first connection is made, for all others there is no port. */
static bool later_connects_fail(const char *call)
{
    static unsigned connects;
    return strcmp(call, "connect") == 0 && connects++ > 0;
}

/* Connections from all our ports to an endpoint are a reason to use these, and none to give it up.
 */
static void without_a_port_for_a_check_an_endpoint_stays_up(void **state)
{
    (void)state;
    struct sim_options options = sim_options_quiet();
    options.fault = later_connects_fail;
    options.fault_error = EADDRNOTAVAIL;
    struct world *world = begin(CONFIG_TCP, 11, &options);
    pass(world, 100);
    assert_int_equal(word(world, 0), HEALTH_UP);
    assert_int_equal(world->changes, 1);
    assert_true(world->troubles >= 8 && world->troubles <= 12);
    end(world);
    options.fault = connects_fail; /* no address of ours goes there at all */
    world = begin(CONFIG_TCP, 11, &options);
    pass(world, 100);
    assert_int_equal(word(world, 0), HEALTH_DOWN);
    end(world);
}

/* Whatever the network does: no socket is left over, a check is always due, the word is a state. */
static void checks_survive_a_hostile_network(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct sim_options options = sim_options_quiet();
        options.short_write = 200;
        options.spurious = 100;
        options.late_writable = 200;
        options.call_error = 50;
        options.connect_error = 100;
        options.connect_refused = 100;
        options.connect_blackhole = 100;
        options.connect_instant = 200;
        options.reset = 200;
        options.stall = 100;
        options.trouble_within = SECOND;
        options.buffer_min = 1;
        options.segment_min = 1;
        struct world *world = begin(seed % 4 == 0 ? CONFIG_TCP : CONFIG_HTTP, seed, &options);
        for (unsigned i = 0; i < 20; i++) {
            pass(world, 10);
            assert_true(sim_node_sockets(world->io) <= 1);
            assert_true(word(world, 0) <= HEALTH_DOWN);
        }
        end(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds_count_outcomes_in_a_row),
        cmocka_unit_test(an_endpoint_never_seen_well_goes_down_by_the_same_threshold),
        cmocka_unit_test(the_first_check_comes_at_once_and_asks_as_configured),
        cmocka_unit_test(checks_come_an_interval_apart_with_a_tenth_of_jitter),
        cmocka_unit_test(three_failures_take_an_endpoint_out_and_two_successes_bring_it_back),
        cmocka_unit_test(what_is_no_healthy_answer_is_a_failure),
        cmocka_unit_test(interim_answers_are_passed_over),
        cmocka_unit_test(a_tcp_check_wants_a_connection_and_no_more),
        cmocka_unit_test(a_check_that_cannot_be_made_has_no_outcome),
        cmocka_unit_test(without_a_port_for_a_check_an_endpoint_stays_up),
        cmocka_unit_test(checks_survive_a_hostile_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
