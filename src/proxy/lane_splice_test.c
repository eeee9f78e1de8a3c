/* Lanes whose two ends can move bytes through a pipe that nobody looks into. */
#include "base/prng.h"
#include "io/io.h"
#include "proxy/hold_filter.h"
#include "proxy/lane.h"
#include "proxy/lane_stub_test.h"

enum { TAIL = 4096 };

/* The stubs with a pipe between them; its content is known by the position in the body. */
struct splicing {
    struct fixture fixture;
    struct io_pipe pipe;
    uint64_t position; /* in the body, of what is in the pipe */
    bool none_free;
    bool breaks; /* the next move into the pipe fails */
    int leases;
    uint64_t spliced;
};

static uint64_t pipe_spliceable(void *self)
{
    const struct stub_source *source = &((struct splicing *)self)->fixture.source;
    uint64_t left = source->size - source->at;
    return left > TAIL ? left - TAIL : 0;
}

static enum status pipe_splice(void *self, struct io_pipe *pipe, size_t max, size_t *size,
                               enum reason *reason)
{
    struct splicing *splicing = self;
    struct stub_source *source = &splicing->fixture.source;
    assert_ptr_equal(pipe, &splicing->pipe);
    assert_int_equal(pipe->size, 0);
    uint64_t there = source->available - source->at;
    uint64_t most = pipe_spliceable(self);
    assert_true(max > 0 && most > 0);
    if (splicing->breaks) {
        source->failed = true;
        *reason = REASON_UPSTREAM_TRUNCATED;
        return ERROR;
    }
    if (there == 0) {
        return AGAIN;
    }
    most = most < there ? most : there;
    most = most < pipe->capacity ? most : pipe->capacity;
    *size = most < max ? (size_t)most : max;
    splicing->position = source->at;
    source->at += *size;
    pipe->size = (uint32_t)*size;
    return OK;
}

static enum status pipe_read(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    return stub_read(&((struct splicing *)self)->fixture.source, max, bytes, reason);
}

static size_t pipe_room(void *self)
{
    struct splicing *splicing = self;
    return splicing->pipe.size > 0 ? 0 : stub_room(&splicing->fixture.sink);
}

static enum status pipe_write(void *self, struct span bytes, enum reason *reason)
{
    struct splicing *splicing = self;
    assert_int_equal(splicing->pipe.size, 0); /* nothing goes past a pipe that holds bytes */
    return stub_write(&splicing->fixture.sink, bytes, reason);
}

static enum status pipe_flush(void *self, enum reason *reason)
{
    struct splicing *splicing = self;
    struct transport *transport = &splicing->fixture.transport;
    enum status status = stub_flush(&splicing->fixture.sink, reason);
    if (status != OK) {
        return status;
    }
    uint64_t sent =
        splicing->pipe.size < transport->window ? splicing->pipe.size : transport->window;
    splicing->pipe.size -= (uint32_t)sent;
    transport->window -= sent;
    return splicing->pipe.size == 0 ? OK : AGAIN;
}

static struct io_pipe *pipe_open(void *self)
{
    struct splicing *splicing = self;
    enum reason ignored = REASON_NONE;
    if (splicing->none_free || pipe_flush(self, &ignored) != OK) {
        return NULL;
    }
    splicing->leases++;
    return &splicing->pipe;
}

static enum status pipe_take(void *self, enum reason *reason)
{
    struct splicing *splicing = self;
    struct stub_sink *sink = &splicing->fixture.sink;
    assert_true(splicing->leases > 0);
    splicing->leases--;
    assert_true(splicing->pipe.size == 0 || splicing->position == sink->taken);
    sink->taken += splicing->pipe.size;
    splicing->spliced += splicing->pipe.size;
    return pipe_flush(self, reason) == ERROR ? ERROR : OK;
}

static enum status pipe_end(void *self, const struct fields *trailers, enum reason *reason)
{
    return stub_end(&((struct splicing *)self)->fixture.sink, trailers, reason);
}

static void begin_splicing(struct splicing *splicing, uint64_t size)
{
    *splicing = (struct splicing){.pipe = {.capacity = 64 * 1024}};
    begin(&splicing->fixture, size);
    const struct source source = {
        .read = pipe_read, .spliceable = pipe_spliceable, .splice = pipe_splice, .self = splicing};
    const struct sink sink = {.room = pipe_room,
                              .write = pipe_write,
                              .open_pipe = pipe_open,
                              .write_pipe = pipe_take,
                              .end = pipe_end,
                              .flush = pipe_flush,
                              .self = splicing};
    splicing->fixture.lane = (struct lane){0};
    lane_open(&splicing->fixture.lane, &source, &sink);
}

static void a_body_goes_through_the_pipe_and_its_tail_beside_it(void **state)
{
    (void)state;
    struct splicing splicing;
    begin_splicing(&splicing, 200000);
    assert_int_equal(run(&splicing.fixture), END);
    assert_int_equal(splicing.fixture.sink.taken, 200000);
    assert_int_equal(splicing.fixture.lane.bytes, 200000);
    assert_int_equal(splicing.spliced, 200000 - TAIL);
    assert_int_equal(splicing.leases, 0);
    assert_true(splicing.fixture.sink.ended);
}

static void a_run_moves_at_most_a_quantum_through_the_pipe(void **state)
{
    (void)state;
    struct splicing splicing;
    begin_splicing(&splicing, 10 * (uint64_t)LANE_QUANTUM);
    assert_int_equal(run(&splicing.fixture), OK);
    assert_int_equal(splicing.fixture.lane.bytes, LANE_QUANTUM);
}

static void without_a_pipe_bytes_are_read_and_written(void **state)
{
    (void)state;
    struct splicing splicing;
    begin_splicing(&splicing, 200000);
    splicing.none_free = true;
    assert_int_equal(run(&splicing.fixture), END);
    assert_int_equal(splicing.fixture.sink.taken, 200000);
    assert_int_equal(splicing.spliced, 0);
}

static void an_empty_pipe_goes_back_while_the_source_is_waited_for(void **state)
{
    (void)state;
    struct splicing splicing;
    begin_splicing(&splicing, 200000);
    splicing.fixture.source.available = 100;
    assert_int_equal(run(&splicing.fixture), AGAIN);
    assert_int_equal(splicing.fixture.lane.waits, LANE_WAITS_SOURCE);
    assert_int_equal(splicing.fixture.sink.taken, 100);
    assert_int_equal(splicing.leases, 0);
}

static void bytes_stuck_in_the_pipe_make_the_lane_wait_for_the_sink(void **state)
{
    (void)state;
    struct splicing splicing;
    begin_splicing(&splicing, 200000);
    splicing.fixture.transport.window = 1000;
    assert_int_equal(run(&splicing.fixture), AGAIN);
    assert_int_equal(splicing.fixture.lane.waits, LANE_WAITS_SINK);
    assert_int_equal(splicing.pipe.size, splicing.fixture.sink.taken - 1000);
    uint64_t taken = splicing.fixture.sink.taken;
    assert_int_equal(run(&splicing.fixture), AGAIN);
    assert_int_equal(splicing.fixture.sink.taken, taken); /* the source is left alone meanwhile */
    splicing.fixture.transport.window = PLENTY;
    assert_int_equal(run(&splicing.fixture), END);
    assert_int_equal(splicing.fixture.sink.taken, 200000);
}

static void a_failure_of_either_end_of_the_pipe_names_its_side(void **state)
{
    (void)state;
    struct splicing splicing;
    begin_splicing(&splicing, 200000);
    splicing.breaks = true;
    assert_int_equal(run(&splicing.fixture), ERROR);
    check_failed(&splicing.fixture, true, REASON_UPSTREAM_TRUNCATED);
    assert_int_equal(splicing.leases, 0);
    begin_splicing(&splicing, 200000);
    splicing.fixture.transport.broken = true;
    assert_int_equal(run(&splicing.fixture), ERROR);
    check_failed(&splicing.fixture, false, REASON_CLIENT_CLOSED);
    assert_int_equal(splicing.leases, 0);
}

static void random_pace_through_a_pipe_that_comes_and_goes_loses_nothing(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 20261124);
    for (int round = 0; round < 300; round++) {
        struct splicing splicing;
        uint64_t size = prng_below(&prng, 600000);
        enum status status = AGAIN;
        begin_splicing(&splicing, size);
        splicing.fixture.source.available = splicing.fixture.transport.window = 0;
        for (int turn = 0; turn < 100000 && status != END; turn++) {
            uint64_t more = splicing.fixture.source.available + prng_below(&prng, 50000);
            splicing.fixture.source.available = more < size ? more : size;
            splicing.fixture.transport.window += prng_below(&prng, 50000);
            splicing.none_free = prng_below(&prng, 3) == 0;
            status = run(&splicing.fixture);
            assert_int_not_equal(status, ERROR);
            assert_int_equal(splicing.leases, 0);
        }
        assert_int_equal(status, END);
        assert_int_equal(splicing.fixture.sink.taken, size);
        assert_int_equal(splicing.fixture.lane.bytes, size);
    }
}

/* A filter that takes the body ahead of its reader, in front of the pipe. */
struct holding {
    struct splicing splicing;
    struct hold_pool pool;
    struct hold_filter filter;
};

static void begin_holding(struct holding *holding, uint64_t size, uint64_t max)
{
    begin_splicing(&holding->splicing, size);
    assert_true(hold_pool_init(&holding->pool, 1024 * 1024));
    struct lane *lane = &holding->splicing.fixture.lane;
    const struct sink next = lane->sink;
    lane->sink = hold_filter_before(&holding->filter, &next, &holding->pool, max);
}

static void end_holding(struct holding *holding)
{
    hold_filter_clear(&holding->filter);
    assert_int_equal(holding->pool.slab.in_use, 0);
    hold_pool_deinit(&holding->pool);
}

static void a_filter_that_holds_nothing_leaves_the_pipe_to_the_sink(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 200000, 100000);
    assert_int_equal(run(&holding.splicing.fixture), END);
    assert_int_equal(holding.splicing.spliced, 200000 - TAIL);
    assert_int_equal(holding.pool.held, 0);
    end_holding(&holding);
}

static void what_is_stuck_in_the_pipe_goes_before_what_is_held(void **state)
{
    (void)state;
    static struct holding holding;
    struct splicing *splicing = &holding.splicing;
    begin_holding(&holding, 200000, 100000);
    splicing->fixture.transport.window = 1000;
    assert_int_equal(run(&splicing->fixture), AGAIN);
    assert_true(splicing->pipe.size > 0);
    assert_int_equal(lane_held(&splicing->fixture.lane), 100000);
    splicing->fixture.transport.window = PLENTY;
    assert_int_equal(run(&splicing->fixture), END); /* the sink knows the order */
    assert_int_equal(splicing->fixture.sink.taken, 200000);
    end_holding(&holding);
}

static void random_pace_through_filter_and_pipe_loses_nothing(void **state)
{
    (void)state;
    static struct holding holding;
    struct splicing *splicing = &holding.splicing;
    struct prng prng;
    prng_init(&prng, 20261201);
    for (int round = 0; round < 300; round++) {
        uint64_t size = prng_below(&prng, 600000);
        enum status status = AGAIN;
        begin_holding(&holding, size, prng_below(&prng, 200000));
        splicing->fixture.source.available = splicing->fixture.transport.window = 0;
        for (int turn = 0; turn < 100000 && status != END; turn++) {
            uint64_t more = splicing->fixture.source.available + prng_below(&prng, 50000);
            splicing->fixture.source.available = more < size ? more : size;
            splicing->fixture.transport.window += prng_below(&prng, 30000);
            splicing->none_free = prng_below(&prng, 3) == 0;
            status = run(&splicing->fixture);
            assert_int_not_equal(status, ERROR);
            assert_int_equal(splicing->leases, 0);
        }
        assert_int_equal(status, END);
        assert_int_equal(splicing->fixture.sink.taken, size);
        end_holding(&holding);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_goes_through_the_pipe_and_its_tail_beside_it),
        cmocka_unit_test(a_run_moves_at_most_a_quantum_through_the_pipe),
        cmocka_unit_test(without_a_pipe_bytes_are_read_and_written),
        cmocka_unit_test(an_empty_pipe_goes_back_while_the_source_is_waited_for),
        cmocka_unit_test(bytes_stuck_in_the_pipe_make_the_lane_wait_for_the_sink),
        cmocka_unit_test(a_failure_of_either_end_of_the_pipe_names_its_side),
        cmocka_unit_test(random_pace_through_a_pipe_that_comes_and_goes_loses_nothing),
        cmocka_unit_test(a_filter_that_holds_nothing_leaves_the_pipe_to_the_sink),
        cmocka_unit_test(what_is_stuck_in_the_pipe_goes_before_what_is_held),
        cmocka_unit_test(random_pace_through_filter_and_pipe_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
