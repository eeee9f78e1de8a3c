/*
 * The shell of a worker in a process of its own, with this test as its supervisor, its client and
 * its origin: what becomes of it, and of an exchange in flight, when it is told to end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/control_fixture.h"
#include "observe/commons.h"
#include "supervisor/channel.h"
#include "supervisor/process.h"

enum { PATIENCE_MS = 20 * 1000, ABOVE_ALL = 50, READ_MAX = 2048 };

struct fixture {
    struct fixture_generation compiled;
    struct process process;
    struct spawn_spec *spec;
    int listener;
    int origin; /* listens */
    int channel;
    int segment_fd;
    pid_t worker;
    int client;
    int upstream; /* the worker's connection to the origin */
};

static int listen_somewhere(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Puts what a worker inherits on its numbers and lives its life; never returns. */
static _Noreturn void be_worker(struct fixture *fixture, int channel)
{
    struct process *process = &fixture->process;
    int above[2] = {fcntl(channel, F_DUPFD, ABOVE_ALL),
                    fcntl(fixture->listener, F_DUPFD, ABOVE_ALL)};
    (void)close(fixture->channel);
    (void)dup2(above[0], SPAWN_FD_CHANNEL);
    (void)close(above[0]);
    process->listeners = &above[1];
    const struct generation *generation = &fixture->compiled.generation;
    struct segment_identity identity = {PROCESS_WORKER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_WORKER, generation);
    int commons = commons_create(generation);
    process->generation = *generation;
    process->commons = commons_map(commons, generation);
    process->spec = fixture->spec;
    bool opened =
        segment_map_owner(&process->segment, fixture->segment_fd, &plan, &identity) == OK &&
        flight_recorder_init(&process->flight, segment_region(&process->segment, SEGMENT_FLIGHT),
                             PROCESS_WORKER, generation, 0);
    int code = opened && process->commons != NULL ? process_work(process) : 99;
    flight_recorder_deinit(&process->flight);
    exit(code); /* by this door, where the sanitizer looks for what was not given back */
}

static void start_worker(struct fixture *fixture)
{
    const struct generation *generation = &fixture->compiled.generation;
    struct segment_identity identity = {PROCESS_WORKER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_WORKER, generation);
    fixture->segment_fd = segment_create(&plan, &identity);
    assert_true(fixture->segment_fd >= 0);
    fixture->spec = calloc(1, sizeof(*fixture->spec));
    assert_non_null(fixture->spec);
    fixture->spec->role = PROCESS_WORKER;
    fixture->spec->listeners = 1;
    fixture->spec->incarnation = 1;
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    fixture->channel = ends[0];
    fixture->worker = fork();
    assert_true(fixture->worker >= 0);
    if (fixture->worker == 0) {
        be_worker(fixture, ends[1]);
    }
    (void)close(ends[1]);
}

static void wait_readable(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
}

/* Reads until the text has come. */
static void expect(int fd, const char *text)
{
    char bytes[READ_MAX] = "";
    size_t size = 0;
    while (strstr(bytes, text) == NULL) {
        wait_readable(fd);
        ssize_t got = read(fd, bytes + size, sizeof(bytes) - 1 - size);
        assert_true(got > 0);
        size += (size_t)got;
    }
}

static void expect_end(int fd)
{
    char bytes[READ_MAX];
    ssize_t got;
    do {
        wait_readable(fd);
        got = read(fd, bytes, sizeof(bytes));
    } while (got > 0);
    assert_true(got == 0 || errno == ECONNRESET);
}

static int connect_to(int listener)
{
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void order(struct fixture *fixture, enum channel_kind kind)
{
    struct channel_message message = {.kind = kind};
    assert_int_equal(channel_send(fixture->channel, &message, -1), OK);
}

/* A worker that serves, with an exchange in the middle of its response. */
static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    uint16_t port = 0;
    uint16_t origin_port = 0;
    fixture->listener = listen_somewhere(&port);
    fixture->origin = listen_somewhere(&origin_port);
    char text[512];
    (void)snprintf(text, sizeof(text),
                   "server { workers 1\n graceful-shutdown-timeout 60s }\n"
                   "listener \"http\" { address \"127.0.0.1:%u\" }\n"
                   "upstream \"backend\" { target \"127.0.0.1:%u\" }\n"
                   "route \"all\" { upstream \"backend\" }\n",
                   port, origin_port);
    fixture_compile(&fixture->compiled, text);
    start_worker(fixture);
    struct channel_message message;
    int descriptor = -1;
    wait_readable(fixture->channel);
    assert_int_equal(channel_receive(fixture->channel, &message, &descriptor), OK);
    assert_int_equal(message.kind, CHANNEL_READY);
    fixture->client = connect_to(fixture->listener);
    put(fixture->client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_readable(fixture->origin);
    fixture->upstream = accept(fixture->origin, NULL, NULL);
    assert_true(fixture->upstream >= 0);
    expect(fixture->upstream, "\r\n\r\n");
    put(fixture->upstream, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
    expect(fixture->client, "\r\n\r\nhalf");
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    int opened[] = {fixture->listener, fixture->origin,     fixture->channel,
                    fixture->client,   fixture->segment_fd, fixture->upstream};
    for (size_t i = 0; i < sizeof(opened) / sizeof(opened[0]); i++) {
        (void)close(opened[i]);
    }
    free(fixture->spec);
    fixture_free(&fixture->compiled);
    free(fixture);
    return 0;
}

/* Its code is 0 only if the sanitizer, too, found everything given back. */
static void expect_exit_0(const struct fixture *fixture)
{
    int status = 0;
    assert_int_equal(waitpid(fixture->worker, &status, 0), fixture->worker);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_drain_finishes_what_runs(void **state)
{
    struct fixture *fixture = *state;
    order(fixture, CHANNEL_DRAIN);
    order(fixture, CHANNEL_DRAIN); /* said twice is said once */
    put(fixture->upstream, "half");
    expect(fixture->client, "half");
    expect_end(fixture->client);
    expect_exit_0(fixture);
}

static void a_quit_in_the_middle_of_a_drain_ends_at_once(void **state)
{
    struct fixture *fixture = *state;
    int idle = connect_to(fixture->listener);
    order(fixture, CHANNEL_DRAIN);
    expect_end(idle); /* the drain has begun */
    order(fixture, CHANNEL_QUIT);
    expect_end(fixture->client);
    expect_end(fixture->upstream);
    expect_exit_0(fixture);
    (void)close(idle);
}

static void a_drain_and_a_quit_that_come_together_end_at_once(void **state)
{
    struct fixture *fixture = *state;
    order(fixture, CHANNEL_DRAIN);
    order(fixture, CHANNEL_QUIT);
    expect_end(fixture->client);
    expect_end(fixture->upstream);
    expect_exit_0(fixture);
}

static void a_supervisor_that_dies_in_the_middle_of_a_drain_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    order(fixture, CHANNEL_DRAIN);
    (void)close(fixture->channel);
    fixture->channel = -1;
    put(fixture->upstream, "half");
    expect(fixture->client, "half");
    expect_end(fixture->client);
    expect_exit_0(fixture);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_drain_finishes_what_runs),
        TEST(a_quit_in_the_middle_of_a_drain_ends_at_once),
        TEST(a_drain_and_a_quit_that_come_together_end_at_once),
        TEST(a_supervisor_that_dies_in_the_middle_of_a_drain_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
