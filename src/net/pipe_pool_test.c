/* The pool of pipes, over real ones. */
#include "net/pipe_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io_epoll.h"

enum { CAPACITY = 3 };

struct fixture {
    struct io *io;
    struct pipe_pool pool;
};

static int begin(void **state)
{
    static struct fixture fixture;
    fixture.io = io_epoll_create();
    assert_non_null(fixture.io);
    assert_true(pipe_pool_init(&fixture.pool, fixture.io, CAPACITY));
    *state = &fixture;
    return 0;
}

static int end(void **state)
{
    struct fixture *fixture = *state;
    pipe_pool_deinit(&fixture->pool);
    io_epoll_destroy(fixture->io);
    return 0;
}

static void fill(struct io_pipe *pipe)
{
    assert_int_equal(write(pipe->in, "secret", 6), 6);
    pipe->size = 6;
}

static void no_more_are_lent_than_there_are(void **state)
{
    struct pipe_pool *pool = &((struct fixture *)*state)->pool;
    struct io_pipe *lent[CAPACITY];
    for (int i = 0; i < CAPACITY; i++) {
        lent[i] = pipe_pool_lease(pool);
        assert_non_null(lent[i]);
    }
    assert_null(pipe_pool_lease(pool));
    assert_int_equal(pool->in_use, CAPACITY);
    pipe_pool_return(pool, lent[1]);
    assert_ptr_equal(pipe_pool_lease(pool), lent[1]);
    for (int i = 0; i < CAPACITY; i++) {
        pipe_pool_return(pool, lent[i]);
    }
    assert_int_equal(pool->in_use, 0);
}

static void an_empty_pipe_is_lent_again_as_it_is(void **state)
{
    struct pipe_pool *pool = &((struct fixture *)*state)->pool;
    struct io_pipe *pipe = pipe_pool_lease(pool);
    int in = pipe->in;
    assert_true(pipe->capacity >= 64 * 1024);
    pipe_pool_return(pool, pipe);
    assert_ptr_equal(pipe_pool_lease(pool), pipe);
    assert_int_equal(pipe->in, in);
    pipe_pool_return(pool, pipe);
}

static void what_was_left_in_a_pipe_is_never_seen_again(void **state)
{
    struct pipe_pool *pool = &((struct fixture *)*state)->pool;
    struct io_pipe *pipe = pipe_pool_lease(pool);
    fill(pipe);
    pipe_pool_return(pool, pipe);
    struct io_pipe *lent[CAPACITY];
    for (int i = 0; i < CAPACITY; i++) { /* one of them is the same slot */
        char byte = 0;
        lent[i] = pipe_pool_lease(pool);
        assert_non_null(lent[i]);
        assert_int_equal(lent[i]->size, 0);
        assert_int_equal(read(lent[i]->out, &byte, 1), -1);
    }
    for (int i = 0; i < CAPACITY; i++) {
        pipe_pool_return(pool, lent[i]);
    }
}

static void a_pool_without_pipes_lends_none(void **state)
{
    struct pipe_pool none;
    assert_true(pipe_pool_init(&none, ((struct fixture *)*state)->io, 0));
    assert_null(pipe_pool_lease(&none));
    pipe_pool_deinit(&none);
}

static void a_system_without_descriptors_is_not_asked_again_at_once(void **state)
{
    struct pipe_pool *pool = &((struct fixture *)*state)->pool;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_null(pipe_pool_lease(pool));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(pipe_pool_lease(pool)); /* though there would be one now */
    pool->retry_at = io_now(pool->io);  /* a second later */
    struct io_pipe *pipe = pipe_pool_lease(pool);
    assert_non_null(pipe);
    pipe_pool_return(pool, pipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_more_are_lent_than_there_are, begin, end),
        cmocka_unit_test_setup_teardown(an_empty_pipe_is_lent_again_as_it_is, begin, end),
        cmocka_unit_test_setup_teardown(what_was_left_in_a_pipe_is_never_seen_again, begin, end),
        cmocka_unit_test_setup_teardown(a_pool_without_pipes_lends_none, begin, end),
        cmocka_unit_test_setup_teardown(a_system_without_descriptors_is_not_asked_again_at_once,
                                        begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
