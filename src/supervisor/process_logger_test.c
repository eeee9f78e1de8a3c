/*
 * The shell of the logger in a process of its own, with this test as its supervisor.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/control_fixture.h"
#include "control/logger.h"
#include "supervisor/channel.h"
#include "supervisor/process.h"

enum {
    PATIENCE_MS = 20 * 1000,
    ABOVE_ALL = 50,
    POLLED = 2, /* by the logger: poll refuses more than the limit of descriptors */
};

static const char CONFIG[] = "server {\n  workers 1\n}\n";

/* No descriptor is free for this process from here on, as if files without end were open. */
static void use_up_descriptors(pid_t process)
{
    struct rlimit limit;
    assert_int_equal(prlimit(process, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = POLLED; /* numbers below are taken */
    assert_int_equal(prlimit(process, RLIMIT_NOFILE, &limit, NULL), 0);
}

/* Puts what a logger inherits on its numbers and lives its life; never returns. */
static _Noreturn void be_logger(struct process *process, int channel, int life, int segment)
{
    int above[2] = {fcntl(channel, F_DUPFD, ABOVE_ALL), fcntl(life, F_DUPFD, ABOVE_ALL)};
    (void)dup2(above[0], SPAWN_FD_CHANNEL);
    (void)dup2(above[1], SPAWN_FD_LIFE);
    struct segment_identity identity = {PROCESS_LOGGER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_LOGGER, &process->generation);
    if (segment_map_owner(&process->segment, segment, &plan, &identity) != OK) {
        _exit(98);
    }
    _exit(process_log(process));
}

static void wait_for_ready(int channel)
{
    struct channel_message message = {0};
    struct pollfd polled = {.fd = channel, .events = POLLIN};
    int descriptor = -1;
    assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
    assert_int_equal(channel_receive(channel, &message, &descriptor), OK);
    assert_int_equal(message.kind, CHANNEL_READY);
}

struct fixture {
    struct fixture_generation compiled;
    struct process process;
    pid_t logger;
    int channel;
    int life[2];
    int segment; /* the logger's */
};

/* A logger that is ready. */
static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_compile(&fixture->compiled, CONFIG);
    fixture->process.generation = fixture->compiled.generation;
    struct segment_identity identity = {PROCESS_LOGGER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_LOGGER, &fixture->process.generation);
    fixture->segment = segment_create(&plan, &identity);
    assert_true(fixture->segment >= 0);
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    assert_int_equal(pipe(fixture->life), 0);
    fixture->logger = fork();
    assert_true(fixture->logger >= 0);
    if (fixture->logger == 0) {
        be_logger(&fixture->process, ends[1], fixture->life[0], fixture->segment);
    }
    (void)close(ends[1]);
    fixture->channel = ends[0];
    wait_for_ready(fixture->channel);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    (void)close(fixture->segment);
    (void)close(fixture->channel);
    (void)close(fixture->life[0]);
    (void)close(fixture->life[1]);
    fixture_free(&fixture->compiled);
    free(fixture);
    return 0;
}

/* Tells the logger to quit. Its exit code. */
static int quit(struct fixture *fixture)
{
    struct channel_message message = {.kind = CHANNEL_QUIT};
    enum status ignored = channel_send(fixture->channel, &message, -1); /* it may have gone */
    (void)ignored;
    int result = 0;
    assert_int_equal(waitpid(fixture->logger, &result, 0), fixture->logger);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result);
}

static void hand_a_ring(struct fixture *fixture)
{
    struct segment_identity identity = {PROCESS_WORKER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_WORKER, &fixture->process.generation);
    int segment = segment_create(&plan, &identity);
    assert_true(segment >= 0);
    struct channel_message handed = {
        .kind = CHANNEL_SEGMENT, .role = PROCESS_WORKER, .index = 0, .incarnation = 1};
    assert_int_equal(channel_send(fixture->channel, &handed, segment), OK);
    (void)close(segment);
}

static uint64_t turns_within(const struct segment *segment, int milliseconds)
{
    uint64_t before = segment_turns(segment);
    assert_int_equal(poll(NULL, 0, milliseconds), 0);
    return segment_turns(segment) - before;
}

static void a_logger_ends_in_order_when_it_is_told_to(void **state)
{
    hand_a_ring(*state);
    assert_int_equal(quit(*state), 0);
}

/* A ring that nobody reads would fill up and drop: a successor is told of it anew. */
static void a_logger_that_loses_a_ring_makes_room_for_another(void **state)
{
    struct fixture *fixture = *state;
    use_up_descriptors(fixture->logger);
    hand_a_ring(fixture);
    assert_int_equal(quit(fixture), 1);
}

/* Workers hold the writing end, and one that was taken over can write to it. */
static void what_comes_over_the_life_pipe_does_not_keep_a_logger_awake(void **state)
{
    enum { LOOK_MS = 500, TURNS_MAX = LOOK_MS / LOGGER_SLEEP_MIN_MS };
    struct fixture *fixture = *state;
    struct segment_identity identity = {PROCESS_LOGGER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_LOGGER, &fixture->process.generation);
    struct segment segment = {0};
    assert_int_equal(segment_map_reader(&segment, fixture->segment, &plan, &identity), OK);
    assert_int_equal(write(fixture->life[1], "x", 1), 1);
    assert_true(turns_within(&segment, LOOK_MS) <= TURNS_MAX);
    segment_unmap(&segment);
    assert_int_equal(quit(fixture), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_logger_ends_in_order_when_it_is_told_to),
        TEST(a_logger_that_loses_a_ring_makes_room_for_another),
        TEST(what_comes_over_the_life_pipe_does_not_keep_a_logger_awake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
