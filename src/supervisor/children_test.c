#include "supervisor/children.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/channel.h"

enum { SLOT = SUPERVISOR_SLOT_LOGGER };

/* A child that does nothing, and the end of the channel that would be its own. */
struct fixture {
    struct children children;
    int end;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    int ends[2];
    assert_non_null(fixture);
    assert_int_equal(children_init(&fixture->children), OK);
    pid_t pid = fork(); /* before there is a channel: it shall hold no end of it */
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(channel_create(ends), OK);
    fixture->children.items[SLOT].pid = pid;
    fixture->children.items[SLOT].channel = ends[0];
    fixture->end = ends[1];
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->children.items[SLOT].pid > 0) {
        (void)kill(fixture->children.items[SLOT].pid, SIGKILL); /* a test that failed left it */
    }
    children_deinit(&fixture->children);
    if (fixture->end >= 0) {
        (void)close(fixture->end);
    }
    free(fixture);
    return 0;
}

/* Ends the child, unless that has been done; the signal that ended it. */
static int end_of_child(struct fixture *fixture)
{
    int status = 0;
    pid_t pid = fixture->children.items[SLOT].pid;
    (void)kill(pid, SIGTERM); /* of two signals that are pending SIGKILL counts */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    fixture->children.items[SLOT].pid = 0;
    assert_true(WIFSIGNALED(status));
    return WTERMSIG(status);
}

static void expect_killed(struct fixture *fixture)
{
    bool more = true;
    assert_false(children_receive(&fixture->children, SLOT, &more));
    assert_false(more);
    assert_int_equal(fixture->children.items[SLOT].channel, -1);
    assert_int_equal(end_of_child(fixture), SIGKILL);
}

static void a_child_that_is_ready_says_so_once(void **state)
{
    struct fixture *fixture = *state;
    const struct channel_message ready = {.kind = CHANNEL_READY};
    bool more = false;
    assert_int_equal(channel_send(fixture->end, &ready, -1), OK);
    assert_true(children_receive(&fixture->children, SLOT, &more));
    assert_true(more);
    assert_int_equal(channel_send(fixture->end, &ready, -1), OK);
    expect_killed(fixture);
}

static void a_child_that_gives_orders_is_killed(void **state)
{
    struct fixture *fixture = *state;
    const struct channel_message drain = {.kind = CHANNEL_DRAIN};
    assert_int_equal(channel_send(fixture->end, &drain, -1), OK);
    expect_killed(fixture);
}

static void an_empty_message_is_not_taken_for_the_end(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(send(fixture->end, "", 0, 0), 0);
    expect_killed(fixture);
}

static void a_child_that_closes_one_direction_is_killed(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(shutdown(fixture->end, SHUT_WR), 0);
    expect_killed(fixture);
}

static void a_child_that_has_closed_its_end_is_about_to_be_reaped(void **state)
{
    struct fixture *fixture = *state;
    bool more = true;
    assert_int_equal(close(fixture->end), 0);
    fixture->end = -1;
    assert_false(children_receive(&fixture->children, SLOT, &more));
    assert_false(more);
    assert_int_equal(fixture->children.items[SLOT].channel, -1);
    assert_int_equal(end_of_child(fixture), SIGTERM);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_child_that_is_ready_says_so_once),
        TEST(a_child_that_gives_orders_is_killed),
        TEST(an_empty_message_is_not_taken_for_the_end),
        TEST(a_child_that_closes_one_direction_is_killed),
        TEST(a_child_that_has_closed_its_end_is_about_to_be_reaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
