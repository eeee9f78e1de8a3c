/*
 * The shell of the logger in a process of its own, with this test as its supervisor.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/control_fixture.h"
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
static _Noreturn void be_logger(struct process *process, int channel, int life)
{
    int above[2] = {fcntl(channel, F_DUPFD, ABOVE_ALL), fcntl(life, F_DUPFD, ABOVE_ALL)};
    (void)dup2(above[0], SPAWN_FD_CHANNEL);
    (void)dup2(above[1], SPAWN_FD_LIFE);
    struct segment_identity identity = {PROCESS_LOGGER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_LOGGER, &process->generation);
    int fd = segment_create(&plan, &identity);
    if (segment_map_owner(&process->segment, fd, &plan, &identity) != OK) {
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

/* How a logger ends that is handed a worker's segment and is then told to quit. */
static int exit_code_of_logger(bool starved)
{
    struct fixture_generation compiled;
    fixture_compile(&compiled, CONFIG);
    struct process process = {.generation = compiled.generation};
    int ends[2];
    int life[2];
    assert_int_equal(channel_create(ends), OK);
    assert_int_equal(pipe(life), 0);
    pid_t logger = fork();
    assert_true(logger >= 0);
    if (logger == 0) {
        be_logger(&process, ends[1], life[0]);
    }
    (void)close(ends[1]);
    wait_for_ready(ends[0]);
    if (starved) {
        use_up_descriptors(logger);
    }
    struct segment_identity identity = {PROCESS_WORKER, 0, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_WORKER, &process.generation);
    int segment = segment_create(&plan, &identity);
    assert_true(segment >= 0);
    struct channel_message handed = {
        .kind = CHANNEL_SEGMENT, .role = PROCESS_WORKER, .index = 0, .incarnation = 1};
    assert_int_equal(channel_send(ends[0], &handed, segment), OK);
    struct channel_message quit = {.kind = CHANNEL_QUIT};
    enum status ignored = channel_send(ends[0], &quit, -1); /* it may have gone already */
    (void)ignored;
    int result = 0;
    assert_int_equal(waitpid(logger, &result, 0), logger);
    (void)close(segment);
    (void)close(ends[0]);
    (void)close(life[0]);
    (void)close(life[1]);
    fixture_free(&compiled);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result);
}

static void a_logger_ends_in_order_when_it_is_told_to(void **state)
{
    (void)state;
    assert_int_equal(exit_code_of_logger(false), 0);
}

/* A ring that nobody reads would fill up and drop: a successor is told of it anew. */
static void a_logger_that_loses_a_ring_makes_room_for_another(void **state)
{
    (void)state;
    assert_int_equal(exit_code_of_logger(true), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logger_ends_in_order_when_it_is_told_to),
        cmocka_unit_test(a_logger_that_loses_a_ring_makes_room_for_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
