/* The filter that takes a body ahead of its reader, between the stubs of lanes. */
#include "proxy/hold_filter.h"

#include "base/prng.h"
#include "proxy/lane_stub_test.h"

enum { BLOCK = HOLD_BLOCK_SIZE, CAPACITY = 64 * 1024 };

struct holding {
    struct fixture fixture;
    struct hold_pool pool;
    struct hold_filter filter;
};

/* A body of this size; its reader's connection takes CAPACITY bytes, the filter `max` more. */
static void begin_holding(struct holding *holding, uint64_t size, uint64_t max, uint64_t memory)
{
    begin(&holding->fixture, size);
    holding->fixture.source.trailers = &trailer_section;
    assert_true(hold_pool_init(&holding->pool, memory));
    struct lane *lane = &holding->fixture.lane;
    const struct sink next = lane->sink;
    lane->sink = hold_filter_before(&holding->filter, &next, &holding->pool, max);
}

static void end_holding(struct holding *holding)
{
    hold_filter_clear(&holding->filter);
    assert_int_equal(holding->pool.slab.in_use, 0);
    hold_pool_deinit(&holding->pool);
}

static uint64_t held(const struct holding *holding)
{
    return lane_held(&holding->fixture.lane);
}

static void what_the_reader_takes_is_never_held(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 10 * LANE_QUANTUM, 1 << 20, 4 << 20);
    struct fixture *fixture = &holding.fixture;
    for (fixture->source.available = 1; fixture->source.available < 5000;
         fixture->source.available += 700) {
        assert_int_equal(run(fixture), AGAIN);
        assert_int_equal(fixture->lane.waits, LANE_WAITS_SOURCE);
        assert_int_equal(fixture->sink.taken, fixture->source.available); /* each piece at once */
        assert_int_equal(fixture->transport.pending, 0);
    }
    fixture->source.available = fixture->source.size;
    fixture->transport.capacity = PLENTY;
    enum status status = OK;
    while (status == OK) {
        status = run(fixture);
        assert_int_equal(held(&holding), 0);
    }
    assert_int_equal(status, END);
    assert_int_equal(fixture->sink.taken, fixture->source.size);
    assert_ptr_equal(fixture->sink.trailers, &trailer_section);
    assert_int_equal(holding.pool.held, 0);
    end_holding(&holding);
}

static void a_rest_that_fits_sets_the_source_free(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 150000, 1 << 20, 4 << 20);
    struct fixture *fixture = &holding.fixture;
    fixture->transport.window = 0;
    assert_int_equal(run(fixture), AGAIN);
    assert_int_equal(fixture->source.at, 150000);
    assert_true(fixture->source.ended && lane_source_is_over(&fixture->lane));
    assert_int_equal(fixture->lane.state, LANE_ENDING);
    assert_int_equal(fixture->lane.waits, LANE_WAITS_SINK);
    assert_int_equal(fixture->sink.taken, CAPACITY);
    assert_int_equal(held(&holding), 150000 - CAPACITY);
    int reads = fixture->source.reads;
    while (!fixture->sink.ended) {
        fixture->transport.window = 1000;
        assert_true(run(fixture) != ERROR);
        assert_true(lane_is_active(&fixture->lane));
    }
    assert_int_equal(fixture->source.reads, reads); /* it was asked for nothing more */
    assert_int_equal(fixture->sink.taken, 150000);
    assert_ptr_equal(fixture->sink.trailers, &trailer_section);
    assert_int_equal(holding.pool.slab.in_use, 0);
    fixture->transport.window = PLENTY;
    assert_int_equal(run(fixture), END);
    end_holding(&holding);
}

static void it_holds_its_maximum_and_no_byte_more(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 1 << 20, 3 * BLOCK + 5, 4 << 20);
    struct fixture *fixture = &holding.fixture;
    fixture->transport.window = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(fixture), AGAIN);
        assert_int_equal(fixture->lane.waits, LANE_WAITS_SINK);
        assert_int_equal(held(&holding), 3 * BLOCK + 5);
        assert_int_equal(fixture->source.at, CAPACITY + 3 * BLOCK + 5);
    }
    assert_true(list_is_empty(&holding.pool.shorts)); /* more memory would not help */
    assert_int_equal(holding.pool.times_short, 0);
    fixture->transport.window = PLENTY;
    enum status status = OK;
    while (status == OK || (status == AGAIN && fixture->lane.waits == LANE_WAITS_SINK)) {
        status = run(fixture);
    }
    assert_int_equal(status, END);
    assert_int_equal(fixture->sink.taken, 1 << 20);
    end_holding(&holding);
}

static void held_bytes_go_before_those_that_come_later(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 400000, 1 << 20, 4 << 20);
    struct fixture *fixture = &holding.fixture;
    fixture->transport.window = 0;
    fixture->source.available = 200000;
    assert_int_equal(run(fixture), AGAIN);
    assert_int_equal(held(&holding), 200000 - CAPACITY);
    fixture->transport.window = 30000; /* room for some of it, and more comes at the same time */
    fixture->source.available = 250000;
    assert_int_equal(run(fixture), AGAIN); /* the sink would fail the test for a byte out of turn */
    assert_int_equal(fixture->sink.taken, CAPACITY + 30000);
    fixture->transport.window = PLENTY;
    fixture->source.available = 400000;
    assert_int_equal(run(fixture), AGAIN);
    assert_true(hold_filter_yields(&holding.filter)); /* it was more than a quantum */
    assert_int_equal(run(fixture), END);
    assert_int_equal(fixture->sink.taken, 400000);
    end_holding(&holding);
}

static void without_memory_the_source_waits_as_without_a_filter(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 500000, 1 << 20, BLOCK); /* one block, which somebody else has */
    struct fixture *fixture = &holding.fixture;
    struct hold other;
    hold_init(&other, BLOCK);
    assert_true(hold_append(&other, &holding.pool, SPAN("x")));
    fixture->transport.window = 0;
    assert_int_equal(run(fixture), AGAIN);
    assert_int_equal(fixture->lane.waits, LANE_WAITS_SINK);
    assert_int_equal(fixture->source.at, CAPACITY);
    assert_int_equal(holding.pool.times_short, 1);
    assert_false(list_is_empty(&holding.pool.shorts)); /* it would go on if memory came back */
    hold_clear(&other, &holding.pool);
    assert_int_equal(run(fixture), AGAIN);
    assert_int_equal(fixture->source.at, CAPACITY + BLOCK);
    fixture->transport.window = PLENTY;
    assert_int_equal(run(fixture), OK);
    assert_int_equal(run(fixture), END);
    assert_int_equal(fixture->sink.taken, 500000);
    assert_true(list_is_empty(&holding.pool.shorts));
    end_holding(&holding);
}

static void a_source_that_fails_is_told_of_when_all_that_came_was_delivered(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 500000, 1 << 20, 4 << 20);
    struct fixture *fixture = &holding.fixture;
    fixture->transport.window = 0;
    fixture->source.breaks_at = 120000;
    fixture->source.piece_max = 40000;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(fixture), AGAIN);
        assert_int_equal(fixture->lane.state, LANE_FAILING);
        assert_int_equal(fixture->lane.waits, LANE_WAITS_SINK);
        assert_true(lane_is_active(&fixture->lane) && lane_source_is_over(&fixture->lane));
        fixture->transport.window = 10000;
    }
    assert_int_equal(fixture->lane.failure, REASON_UPSTREAM_TRUNCATED);
    fixture->transport.window = PLENTY;
    assert_int_equal(run(fixture), ERROR);
    check_failed(fixture, true, REASON_UPSTREAM_TRUNCATED);
    assert_int_equal(fixture->sink.taken, 120000);
    assert_int_equal(fixture->transport.pending, 0);
    end_holding(&holding);

    begin_holding(&holding, 500000, 1 << 20, 4 << 20); /* nothing is held: told at once */
    fixture->source.breaks_at = fixture->source.piece_max = 1000;
    assert_int_equal(run(fixture), ERROR);
    check_failed(fixture, true, REASON_UPSTREAM_TRUNCATED);
    assert_int_equal(fixture->sink.taken, 1000);
    end_holding(&holding);
}

static void a_reader_that_goes_away_fails_the_lane_in_every_state(void **state)
{
    (void)state;
    static struct holding holding;
    for (int when = 0; when < 3; when++) {
        struct fixture *fixture = &holding.fixture;
        begin_holding(&holding, when == 0 ? 1 << 20 : 150000, 100000, 4 << 20);
        fixture->source.breaks_at = when == 2 ? 150000 : UINT64_MAX;
        fixture->transport.window = 0;
        assert_int_equal(run(fixture), AGAIN);
        static const enum lane_state states[] = {LANE_OPEN, LANE_ENDING, LANE_FAILING};
        assert_int_equal(fixture->lane.state, states[when]);
        assert_true(held(&holding) > 0);
        fixture->transport.broken = true;
        assert_int_equal(run(fixture), ERROR);
        check_failed(fixture, false, REASON_CLIENT_CLOSED);
        end_holding(&holding);
    }
}

static void much_that_is_held_leaves_in_turns(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 3 * LANE_QUANTUM, PLENTY, 8 << 20);
    struct fixture *fixture = &holding.fixture;
    fixture->transport.window = 0;
    enum status status = OK;
    while (status == OK) {
        status = run(fixture);
        assert_false(hold_filter_yields(&holding.filter));
    }
    assert_int_equal(status, AGAIN);
    assert_int_equal(held(&holding), 3 * LANE_QUANTUM - CAPACITY);
    fixture->transport.window = PLENTY;
    int turns = 0;
    while (status == AGAIN) {
        uint64_t before = fixture->sink.taken;
        status = run(fixture);
        assert_true(fixture->sink.taken - before <= 2 * LANE_QUANTUM); /* at the end, and a flush */
        assert_true(status == END || hold_filter_yields(&holding.filter));
        turns++;
    }
    assert_int_equal(status, END);
    assert_true(turns >= 2);
    assert_int_equal(fixture->sink.taken, 3 * LANE_QUANTUM);
    end_holding(&holding);
}

static void an_injected_failure_of_memory_is_an_error(void **state)
{
    (void)state;
    static struct holding holding;
    begin_holding(&holding, 500000, 1 << 20, 4 << 20);
    struct fixture *fixture = &holding.fixture;
    enum reason reason = REASON_NONE;
    struct sink *sink = &fixture->lane.sink;
    fixture->transport.capacity = 0;
    holding.filter.hold.max = 10; /* as if the room that was promised was gone */
    static const uint8_t bytes[11];
    assert_int_equal(sink->write(sink->self, span_of(bytes, sizeof(bytes)), &reason), ERROR);
    assert_int_equal(reason, REASON_BUFFERS_FULL);
    end_holding(&holding);
}

static void any_pace_and_any_memory_lose_nothing(void **state)
{
    (void)state;
    static struct holding holding;
    struct prng prng;
    prng_init(&prng, 11);
    for (int round = 0; round < 300; round++) {
        uint64_t size = prng_below(&prng, 600000);
        begin_holding(&holding, size, prng_below(&prng, 300000),
                      (1 + (uint64_t)prng_below(&prng, 20)) * BLOCK);
        struct fixture *fixture = &holding.fixture;
        bool breaks = prng_below(&prng, 4) == 0;
        fixture->source.breaks_at = breaks ? prng_below(&prng, (uint32_t)size + 1) : UINT64_MAX;
        fixture->source.available = 0;
        fixture->transport.capacity = 1 + prng_below(&prng, CAPACITY);
        fixture->source.piece_max = 1 + prng_below(&prng, 100000);
        fixture->sink.ends_refused = (int)prng_below(&prng, 3);
        enum status status = AGAIN;
        for (int turn = 0; status == AGAIN || status == OK; turn++) {
            assert_true(turn < 100000);
            uint64_t more = fixture->source.available + prng_below(&prng, 50000);
            uint64_t most = breaks ? fixture->source.breaks_at : size;
            fixture->source.available = more < most ? more : most;
            fixture->transport.window = prng_below(&prng, 50000);
            status = run(fixture);
            assert_true(held(&holding) <= holding.filter.hold.max);
        }
        if (breaks) {
            assert_int_equal(status, ERROR);
            assert_true(fixture->sink.taken <= fixture->source.breaks_at);
        } else {
            assert_int_equal(status, END);
            assert_int_equal(fixture->sink.taken, size);
        }
        end_holding(&holding);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_reader_takes_is_never_held),
        cmocka_unit_test(a_rest_that_fits_sets_the_source_free),
        cmocka_unit_test(it_holds_its_maximum_and_no_byte_more),
        cmocka_unit_test(held_bytes_go_before_those_that_come_later),
        cmocka_unit_test(without_memory_the_source_waits_as_without_a_filter),
        cmocka_unit_test(a_source_that_fails_is_told_of_when_all_that_came_was_delivered),
        cmocka_unit_test(a_reader_that_goes_away_fails_the_lane_in_every_state),
        cmocka_unit_test(much_that_is_held_leaves_in_turns),
        cmocka_unit_test(an_injected_failure_of_memory_is_an_error),
        cmocka_unit_test(any_pace_and_any_memory_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
