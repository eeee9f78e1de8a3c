/*
 * Orders, taken by a process of its own that has no descriptor left.
 */
#include "supervisor/process.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/control_fixture.h"
#include "supervisor/channel.h"

enum { ABOVE_ALL = 50, DESCRIPTORS = 64, SEGMENTS = 3 };

static const char CONFIG[] = "server {\n  workers 4\n}\n";

static struct channel_message segment_of(uint32_t index)
{
    return (struct channel_message){
        .kind = CHANNEL_SEGMENT, .role = PROCESS_WORKER, .index = index, .incarnation = 1};
}

static void hand(int channel, uint32_t index, const struct generation *generation)
{
    struct segment_identity identity = {PROCESS_WORKER, index, 1};
    struct segment_plan plan = process_segment_plan(PROCESS_WORKER, generation);
    struct channel_message message = segment_of(index);
    int segment = segment_create(&plan, &identity);
    assert_true(segment >= 0);
    assert_int_equal(channel_send(channel, &message, segment), OK);
    (void)close(segment);
}

/* How many segments a process maps that has taken all descriptors there are. */
static int take_segments(struct process *process, int channel)
{
    const struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};
    int above = fcntl(channel, F_DUPFD, ABOVE_ALL);
    int taken = 0;
    if (dup2(above, SPAWN_FD_CHANNEL) < 0 || setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return -1;
    }
    process_reserve(process);
    while (open("/dev/null", O_RDONLY) >= 0) {
        continue; /* up to the limit */
    }
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        struct segment segment = {0};
        int detail = 0;
        bool orphaned = false;
        taken += process_next_order(process, &segment, &detail, &orphaned) == PROCESS_ORDER_SEGMENT;
        segment_unmap(&segment);
    }
    return taken;
}

/* Connections can take all descriptors; a worker without a neighbour's segment would not know it.
 */
static void orders_are_taken_when_no_descriptor_is_left(void **state)
{
    (void)state;
    struct fixture_generation compiled;
    fixture_compile(&compiled, CONFIG);
    int ends[2];
    int result = 0;
    assert_int_equal(channel_create(ends), OK);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        hand(ends[0], i, &compiled.generation);
    }
    pid_t taker = fork();
    assert_true(taker >= 0);
    if (taker == 0) {
        struct process process = {.generation = compiled.generation};
        _exit(take_segments(&process, ends[1]));
    }
    assert_int_equal(waitpid(taker, &result, 0), taker);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), SEGMENTS);
    (void)close(ends[0]);
    (void)close(ends[1]);
    fixture_free(&compiled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_taken_when_no_descriptor_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
