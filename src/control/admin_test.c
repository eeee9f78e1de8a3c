/*
 * The admin listener over real sockets: a client in the same thread writes, lets the controller
 * turn, and reads; no test waits for time to pass but the one about deadlines.
 */
#include "control/controller.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/admin.h"
#include "control/admin_answer.h"
#include "control/control_fixture.h"
#include "io/io_epoll.h"
#include "observe/ledger.h"

static const char CONFIG[] =
    "server {\n  workers 1\n  admin {\n    address \"127.0.0.1:9090\"\n"
    "    allowed-hosts \"metrics.internal\"\n  }\n}\n"
    "listener \"http\" {\n  address \"127.0.0.1:8080\"\n}\n"
    "upstream \"backend\" {\n  target \"127.0.0.1:8081\"\n}\n"
    "route \"api\" {\n  match path-prefix=\"/\"\n  upstream \"backend\"\n}\n";

enum { TURNS_MAX = 2000, RESPONSE_MAX = 256 * 1024 };

struct fixture {
    struct fixture_generation compiled;
    struct io *io;
    int listener;
    int control;
    struct sockaddr_in address;
    void *words;
    void *own;
    void *ledger_memory;
    struct ledger ledger;
    void *cells;
    struct metrics worker;
    struct controller *controller;
    char *response;
    size_t size;
};

static const struct segment_identity FIRST = {PROCESS_WORKER, 0, 3};
static const struct segment_identity SECOND = {PROCESS_WORKER, 0, 5};
static const struct segment_identity LOGGER = {PROCESS_LOGGER, 0, 1};
/* A Unix socket whose name the system chooses, outside of the file system. */
static int listen_on_a_path(void)
{
    const struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_compile(&fixture->compiled, CONFIG);
    const struct generation *generation = &fixture->compiled.generation;
    fixture->io = io_epoll_create();
    assert_non_null(fixture->io);
    fixture->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fixture->listener >= 0);
    fixture->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(fixture->address);
    assert_int_equal(bind(fixture->listener, (struct sockaddr *)&fixture->address, size), 0);
    assert_int_equal(listen(fixture->listener, 64), 0);
    assert_int_equal(getsockname(fixture->listener, (struct sockaddr *)&fixture->address, &size),
                     0);
    fixture->control = listen_on_a_path();
    fixture->words = fixture_region(health_size(generation));
    fixture->own = fixture_region(metrics_size(generation));
    fixture->ledger_memory = fixture_region(ledger_size(generation));
    ledger_init(&fixture->ledger, fixture->ledger_memory, generation);
    fixture->cells = fixture_region(metrics_size(generation));
    metrics_init(&fixture->worker, fixture->cells, generation);
    struct controller_options options = {
        .io = fixture->io,
        .generation = generation,
        .admin = fixture->listener,
        .control = fixture->control,
        .health = fixture->words,
        .metrics = fixture->own,
        .ledger = fixture->ledger_memory,
    };
    fixture->controller = controller_create(&options);
    assert_non_null(fixture->controller);
    fixture->response = malloc(RESPONSE_MAX);
    assert_non_null(fixture->response);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    controller_destroy(fixture->controller);
    io_epoll_destroy(fixture->io);
    (void)close(fixture->listener);
    (void)close(fixture->control);
    free(fixture->words);
    free(fixture->own);
    free(fixture->ledger_memory);
    free(fixture->cells);
    free(fixture->response);
    fixture_free(&fixture->compiled);
    free(fixture);
    return 0;
}

static int dial(const struct fixture *fixture)
{
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    assert_int_equal(
        connect(client, (const struct sockaddr *)&fixture->address, sizeof(fixture->address)), 0);
    return client;
}

static void say(int client, const char *text)
{
    size_t size = strlen(text);
    assert_int_equal(send(client, text, size, MSG_NOSIGNAL), size);
}

/* Turns until the client's connection ends or, where `until` is given, before, that has come. */
static void hear(struct fixture *fixture, int client, const char *until)
{
    fixture->size = 0;
    fixture->response[0] = '\0';
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        ssize_t got = recv(client, fixture->response + fixture->size,
                           RESPONSE_MAX - fixture->size - 1, MSG_DONTWAIT);
        if (got == 0 && until == NULL) {
            return;
        }
        assert_int_not_equal(got, 0);
        if (got < 0) {
            assert_true(errno == EAGAIN);
            controller_turn(fixture->controller);
            continue;
        }
        fixture->size += (size_t)got;
        fixture->response[fixture->size] = '\0';
        if (until != NULL && strstr(fixture->response, until) != NULL) {
            return;
        }
    }
    fail_msg("no end of: %s", fixture->response);
}

/* The same over the control socket. */
static void ask_control(struct fixture *fixture, const char *request)
{
    struct sockaddr_un name;
    socklen_t size = sizeof(name);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    assert_int_equal(getsockname(fixture->control, (struct sockaddr *)&name, &size), 0);
    assert_int_equal(connect(client, (const struct sockaddr *)&name, size), 0);
    say(client, request);
    hear(fixture, client, NULL);
    (void)close(client);
}

/* One request on a connection of its own; the response is read to the end. */
static void ask(struct fixture *fixture, const char *request)
{
    int client = dial(fixture);
    say(client, request);
    hear(fixture, client, NULL);
    (void)close(client);
}

static void expect_status(const struct fixture *fixture, const char *status)
{
    char line[32];
    (void)snprintf(line, sizeof(line), "HTTP/1.1 %s ", status);
    if (strncmp(fixture->response, line, strlen(line)) != 0) {
        fail_msg("not %s: %s", status, fixture->response);
    }
}

static void expect_text(const struct fixture *fixture, const char *text)
{
    if (strstr(fixture->response, text) == NULL) {
        fail_msg("no `%s` in: %s", text, fixture->response);
    }
}

static void health_is_ok_while_the_controller_lives(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    ask(fixture, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "200");
    expect_text(fixture, "\r\n\r\n{\"status\":\"ok\"}\n");
    expect_text(fixture, "X-Content-Type-Options: nosniff\r\n");
}

static void ready_says_what_it_waits_for(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char REQUEST[] =
        "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    ask(fixture, REQUEST);
    expect_status(fixture, "503");
    expect_text(fixture, "{\"ready\":false,\"waiting_for\":[\"workers\"]}");
    controller_set_process(fixture->controller, &FIRST, fixture->cells);
    ask(fixture, REQUEST);
    expect_status(fixture, "503");
    metrics_count(&fixture->worker, METRIC_WORKERS);
    ask(fixture, REQUEST);
    expect_status(fixture, "200");
    expect_text(fixture, "{\"ready\":true,\"waiting_for\":[]}");
    controller_drain(fixture->controller);
    ask(fixture, REQUEST);
    expect_status(fixture, "503");
    expect_text(fixture, "[\"draining\"]");
}

static void metrics_come_chunked_and_totals_never_go_back(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char REQUEST[] =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    controller_set_process(fixture->controller, &FIRST, fixture->cells);
    metrics_request(&fixture->worker, 0, 200, 10);
    metrics_connection_enter(&fixture->worker, 0, METRICS_STATE_IDLE);
    ask(fixture, REQUEST);
    expect_status(fixture, "200");
    expect_text(fixture, "Transfer-Encoding: chunked\r\n");
    expect_text(fixture, "text/plain; version=0.0.4");
    expect_text(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"} 1\n");
    expect_text(fixture, "sentinel_connections{listener=\"http\",state=\"idle\"} 1\n");
    expect_text(fixture, "\r\n0\r\n\r\n");
    ledger_fold(&fixture->ledger, &FIRST, fixture->cells); /* it died */
    ask(fixture, REQUEST);
    expect_text(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"} 1\n");
    controller_set_process(fixture->controller, &FIRST, NULL);
    ask(fixture, REQUEST);
    expect_text(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"} 1\n");
    metrics_init(&fixture->worker, fixture->cells, &fixture->compiled.generation);
    controller_set_process(fixture->controller, &FIRST, fixture->cells); /* news from the past */
    ask(fixture, REQUEST);
    expect_text(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"} 1\n");
    controller_set_process(fixture->controller, &SECOND, fixture->cells);
    metrics_request(&fixture->worker, 0, 200, 10);
    ask(fixture, REQUEST);
    expect_text(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"} 2\n");
    expect_text(fixture, "sentinel_connections{listener=\"http\",state=\"idle\"} 0\n");
}

static void a_successor_shows_what_its_predecessor_and_the_dead_had_counted(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    const struct generation *generation = &fixture->compiled.generation;
    metrics_request(&fixture->worker, 0, 200, 10);
    ledger_fold(&fixture->ledger, &FIRST, fixture->cells);
    controller_destroy(fixture->controller);
    struct controller_options options = {.io = fixture->io,
                                         .generation = generation,
                                         .admin = fixture->listener,
                                         .control = -1,
                                         .health = fixture->words,
                                         .metrics = fixture->own,
                                         .ledger = fixture->ledger_memory};
    fixture->controller = controller_create(&options);
    assert_non_null(fixture->controller);
    void *cells = fixture_region(metrics_size(generation));
    struct metrics logger;
    metrics_init(&logger, cells, generation);
    metrics_add(&logger, METRIC_ACCESS_LOG_LOST, 7);
    controller_set_process(fixture->controller, &LOGGER, cells);
    ask(fixture, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_text(fixture, "sentinel_requests_total{route=\"api\",status=\"200\"} 1\n");
    expect_text(fixture, "sentinel_access_log_lost_total 7\n");
    ledger_fold(&fixture->ledger, &LOGGER, cells);
    controller_set_process(fixture->controller, &LOGGER, NULL);
    free(cells);
    ask(fixture, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_text(fixture, "sentinel_access_log_lost_total 7\n");
}

static void an_http_1_0_client_gets_metrics_until_the_end(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    ask(fixture, "GET /metrics HTTP/1.0\r\n\r\n");
    expect_status(fixture, "200");
    assert_null(strstr(fixture->response, "Transfer-Encoding"));
    expect_text(fixture, "process_start_time_seconds ");
    assert_int_equal(fixture->response[fixture->size - 1], '\n');
}

static void head_has_fields_and_no_body(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char *const PATHS[] = {"/metrics", "/health", "/ready", "/nothing"};
    for (size_t i = 0; i < sizeof(PATHS) / sizeof(PATHS[0]); i++) {
        char request[128];
        (void)snprintf(request, sizeof(request),
                       "HEAD %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                       PATHS[i]);
        ask(fixture, request);
        assert_memory_equal(fixture->response + fixture->size - 4, "\r\n\r\n", 4);
        assert_ptr_equal(strstr(fixture->response, "\r\n\r\n"),
                         fixture->response + fixture->size - 4);
    }
}

static void other_paths_and_methods_are_refused(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    ask(fixture, "GET /metrics/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "404");
    ask(fixture, "DELETE /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "405");
    expect_text(fixture, "Allow: GET, HEAD\r\n");
    ask(fixture, "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
    expect_status(fixture, "405");
    expect_text(fixture, "Connection: close\r\n");
    ask(fixture, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "404");
}

static void a_foreign_name_is_refused(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const struct {
        const char *fields;
        const char *status;
    } CASES[] = {
        {"Host: localhost:1234\r\n", "200"},
        {"Host: LocalHost\r\n", "200"},
        {"Host: 127.0.0.1:9090\r\n", "200"},
        {"Host: metrics.internal\r\n", "200"},
        {"Host: evil.example\r\n", "403"},
        {"Host: 127.0.0.1.evil.example\r\n", "403"},
        {"Host: 10.0.0.1\r\n", "403"},
        {"Host: localhost\r\nOrigin: http://localhost:9090\r\n", "200"},
        {"Host: localhost\r\nOrigin: https://evil.example\r\n", "403"},
        {"Host: localhost\r\nOrigin: null\r\n", "403"},
        {"Host: localhost\r\nHost: localhost\r\n", "400"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char request[256];
        (void)snprintf(request, sizeof(request),
                       "GET /health HTTP/1.1\r\n%sConnection: close\r\n\r\n", CASES[i].fields);
        ask(fixture, request);
        expect_status(fixture, CASES[i].status);
    }
}

static void bad_bytes_are_answered_and_the_connection_closed(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    ask(fixture, "GET /health\r\n\r\n");
    expect_status(fixture, "400");
    ask(fixture, "GET /health HTTP/1.1\nHost: localhost\n\n");
    expect_status(fixture, "400");
    ask(fixture, "GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n");
    expect_status(fixture, "505");
    static char large[ADMIN_HEAD_MAX + 200];
    int begin = snprintf(large, sizeof(large), "GET /health HTTP/1.1\r\nHost: localhost\r\nX: ");
    memset(large + begin, 'a', sizeof(large) - (size_t)begin - 1);
    ask(fixture, large);
    expect_status(fixture, "431");
}

static void a_connection_serves_request_after_request_pipelined_ones_too(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    int client = dial(fixture);
    for (unsigned i = 0; i < 3; i++) {
        say(client, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        hear(fixture, client, "{\"status\":\"ok\"}\n");
        expect_status(fixture, "200");
    }
    say(client, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
                "GET /gone HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    hear(fixture, client, NULL);
    expect_status(fixture, "200");
    expect_text(fixture, "{\"status\":\"ok\"}\nHTTP/1.1 200 ");
    expect_text(fixture, "0\r\n\r\nHTTP/1.1 404 ");
    (void)close(client);
}

static void a_head_that_comes_byte_by_byte_is_read(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char REQUEST[] =
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    int client = dial(fixture);
    for (size_t i = 0; i < sizeof(REQUEST) - 1; i++) {
        assert_int_equal(send(client, REQUEST + i, 1, MSG_NOSIGNAL), 1);
        controller_turn(fixture->controller);
    }
    hear(fixture, client, NULL);
    expect_status(fixture, "200");
    (void)close(client);
}

/* Asks for /health on a new connection, which is closed after the answer. */
static void expect_an_answer(struct fixture *fixture)
{
    int client = dial(fixture);
    say(client, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    hear(fixture, client, NULL);
    expect_status(fixture, "200");
    (void)close(client);
}

static void whoever_idles_longest_makes_room(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    int clients[ADMIN_CONNECTIONS_MAX - 1];
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX - 1; i++) {
        clients[i] = dial(fixture);
        say(clients[i], "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        hear(fixture, clients[i], "ok");
    }
    expect_an_answer(fixture); /* takes the last place: the first client goes */
    hear(fixture, clients[0], NULL);
    assert_int_equal(fixture->size, 0);
    say(clients[ADMIN_CONNECTIONS_MAX - 2], "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fixture, clients[ADMIN_CONNECTIONS_MAX - 2], "ok");
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX - 1; i++) {
        (void)close(clients[i]);
    }
}

static void nobody_is_locked_out_by_heads_that_never_end(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    int clients[4 * ADMIN_CONNECTIONS_MAX];
    for (unsigned i = 0; i < 4 * ADMIN_CONNECTIONS_MAX; i++) {
        clients[i] = dial(fixture);
        say(clients[i], i % 2 == 0 ? "GET /hea" : "");
        if (i % 8 == 0) {
            expect_an_answer(fixture);
        }
    }
    expect_an_answer(fixture);
    for (unsigned i = 0; i < 4 * ADMIN_CONNECTIONS_MAX; i++) {
        (void)close(clients[i]);
    }
}

static void a_slow_head_and_an_idle_connection_end_in_time(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    int slow = dial(fixture);
    int idle = dial(fixture);
    say(slow, "GET /health HTTP/1.1\r\nHost: loc");
    hear(fixture, slow, NULL);
    expect_status(fixture, "408");
    hear(fixture, idle, NULL);
    assert_int_equal(fixture->size, 0);
    (void)close(slow);
    (void)close(idle);
}

/* A worker that has finished one request, failed another, and holds a third. */
static void *make_flight(const struct fixture *fixture)
{
    static const struct flight_outcome GOOD = {
        .route = 0, .endpoint = 0, .attempts = 1, .status = 200, .total = 1500, .first_byte = 9};
    static const struct flight_outcome BAD = {.route = FLIGHT_NONE,
                                              .endpoint = FLIGHT_NONE,
                                              .reason = REASON_NO_ROUTE,
                                              .status = 404,
                                              .first_byte = FLIGHT_NO_TIME};
    const struct generation *generation = &fixture->compiled.generation;
    struct flight_recorder recorder;
    struct flight_request request = {.began = 1000000,
                                     .client = {.family = ADDRESS_IPV4, .ip = {10, 0, 0, 7}},
                                     .id = SPAN("abc"),
                                     .method = SPAN("GET"),
                                     .host = SPAN("h\"x"),
                                     .path = SPAN("/good\x01")};
    void *memory = fixture_region(flight_size(PROCESS_WORKER, generation));
    assert_true(flight_recorder_init(&recorder, memory, PROCESS_WORKER, generation, 1));
    uint32_t slots[3];
    for (unsigned i = 0; i < 3; i++) {
        slots[i] = flight_begin(&recorder, &request);
        flight_step(&recorder, slots[i], 4, 6, 1);
        flight_describe(&recorder, slots[i], &request);
    }
    flight_end(&recorder, slots[0], &GOOD);
    flight_end(&recorder, slots[1], &BAD);
    flight_attempt(&recorder, slots[2], 0, 2);
    flight_doing(&recorder, FLIGHT_EXCHANGE, slots[2]);
    flight_recorder_deinit(&recorder);
    return memory;
}

static const struct segment_identity WORKER = {PROCESS_WORKER, 0, 7};

static void the_control_socket_tells_what_the_recorders_hold(void **state)
{
    static const char REQUEST[] = "GET /recent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct fixture *fixture = (struct fixture *)*state;
    void *flight = make_flight(fixture);
    controller_set_flight(fixture->controller, &WORKER, 42, flight);
    ask_control(fixture, REQUEST);
    expect_status(fixture, "200");
    expect_text(fixture, "application/x-ndjson");
    expect_text(fixture, "{\"kind\":\"process\",\"role\":\"worker\",\"index\":0,"
                         "\"incarnation\":7,\"pid\":42,\"phase\":\"exchange\"");
    expect_text(fixture, "{\"kind\":\"in-flight\",\"worker\":0,"
                         "\"time\":\"1970-01-01T00:00:01.000000Z\",\"request_id\":\"abc\"");
    expect_text(fixture, "\"client\":\"10.0.0.7\",\"listener\":\"http\",\"method\":\"GET\","
                         "\"host\":\"h\\\"x\",\"host_cut\":false,\"path\":\"/good?\"");
    expect_text(fixture, "\"endpoint\":\"127.0.0.1:8081\",\"attempts\":2,"
                         "\"step\":\"FORWARD, awaiting the response head\"");
    expect_text(fixture, "\"route\":\"api\",\"upstream\":\"backend\","
                         "\"endpoint\":\"127.0.0.1:8081\",\"attempts\":1,\"status\":200,"
                         "\"reason\":null,\"first_byte_ms\":0.009,\"total_ms\":1.500}\n");
    expect_text(fixture, "\"status\":404,\"reason\":\"no_route\",\"first_byte_ms\":null");
    expect_text(fixture, "{\"kind\":\"end\"}\n");
    controller_set_flight(fixture->controller, &WORKER, 0, NULL);
    ask_control(fixture, REQUEST);
    assert_null(strstr(fixture->response, "\"kind\":\"process\""));
    expect_text(fixture, "{\"kind\":\"end\"}\n");
    free(flight);
}

static void the_admin_listener_tells_nobody_of_requests(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    ask(fixture, "GET /recent HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "404");
    ask_control(fixture, "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "404");
    expect_text(fixture, "/recent");
    ask_control(fixture, "HEAD /recent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect_status(fixture, "200");
    assert_null(strstr(fixture->response, "kind"));
}

static void a_crash_is_reported_and_the_last_reports_are_kept(void **state)
{
    enum { ABORTED = 6 }; /* a wait status */
    struct fixture *fixture = (struct fixture *)*state;
    const struct generation *generation = &fixture->compiled.generation;
    void *flight = make_flight(fixture);
    const struct crash_report *report =
        controller_report_crash(fixture->controller, &WORKER, 42, flight, ABORTED);
    char line[CRASH_LINE_MAX];
    assert_true(crash_report_line(report, generation, 0, line));
    assert_non_null(strstr(line, "crash report 1: worker 0 (pid 42, incarnation 7, up "));
    assert_non_null(strstr(line, " ended by SIGABRT while running the exchange in slot 2; "));
    assert_non_null(strstr(line, "exchanges in flight: 1"));
    assert_true(crash_report_line(report, generation, 1, line));
    assert_non_null(strstr(line, "running GET h\"x/good?, id abc, client 10.0.0.7, step FORWARD, "
                                 "awaiting the response head for "));
    assert_non_null(strstr(line, ", endpoint 127.0.0.1:8081, attempt 2"));
    assert_false(crash_report_line(report, generation, 2, line));
    for (unsigned i = 0; i < CRASH_REPORTS_MAX; i++) {
        report = controller_report_crash(fixture->controller, &WORKER, 42, flight, 3 << 8);
    }
    assert_true(crash_report_line(report, generation, 0, line));
    assert_non_null(strstr(line, "ended with code 3 while"));
    ask_control(fixture, "GET /recent HTTP/1.0\r\n\r\n");
    assert_null(strstr(fixture->response, "\"kind\":\"crash\",\"crash\":1,"));
    expect_text(fixture, "{\"kind\":\"crash\",\"crash\":2,");
    expect_text(fixture, "{\"kind\":\"crash-exchange\",\"crash\":17,\"running\":true,");
    free(flight);
    assert_true(crash_is_one(ABORTED) && crash_is_one(3 << 8) && !crash_is_one(0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(health_is_ok_while_the_controller_lives),
        TEST(ready_says_what_it_waits_for),
        TEST(metrics_come_chunked_and_totals_never_go_back),
        TEST(a_successor_shows_what_its_predecessor_and_the_dead_had_counted),
        TEST(an_http_1_0_client_gets_metrics_until_the_end),
        TEST(head_has_fields_and_no_body),
        TEST(other_paths_and_methods_are_refused),
        TEST(a_foreign_name_is_refused),
        TEST(bad_bytes_are_answered_and_the_connection_closed),
        TEST(a_connection_serves_request_after_request_pipelined_ones_too),
        TEST(a_head_that_comes_byte_by_byte_is_read),
        TEST(whoever_idles_longest_makes_room),
        TEST(nobody_is_locked_out_by_heads_that_never_end),
        TEST(the_control_socket_tells_what_the_recorders_hold),
        TEST(the_admin_listener_tells_nobody_of_requests),
        TEST(a_crash_is_reported_and_the_last_reports_are_kept),
        TEST(a_slow_head_and_an_idle_connection_end_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
