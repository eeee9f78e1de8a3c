/*
 * The shapes that lanes were designed for, played with stubs: an early response, an agent that
 * holds a body until its verdict, many exchanges on one connection, a tunnel and a hedged attempt.
 */
#include "proxy/lane.h"

#include <string.h>

#include "proxy/lane_stub_test.h"

/*
 * An early response: the upstream answers, in full, while it reads no more of the request. The
 * response gets to the client; the request's lane still stands open and is then cut off.
 */
static void an_early_response_needs_no_end_of_the_request(void **state)
{
    (void)state;
    struct fixture request;
    struct fixture response;
    begin(&request, 10 * 1024 * 1024);
    request.transport.window = 100000;
    assert_int_equal(run(&request), AGAIN);
    assert_int_equal(request.lane.waits, LANE_WAITS_SINK);
    begin(&response, 2000);
    response.source.available = 500;
    assert_int_equal(run(&response), AGAIN);
    assert_int_equal(run(&request), AGAIN); /* runs in vain, between the response's */
    response.source.available = 2000;
    assert_int_equal(run(&response), END);
    assert_int_equal(response.sink.taken, 2000);
    assert_int_equal(request.lane.state, LANE_OPEN);
    lane_abort(&request.lane);
    assert_false(request.sink.ended);
    assert_int_equal(response.lane.state, LANE_DONE);
}

enum verdict { PENDING, PASS, DROP, REFUSE };
enum { HOLD_MAX = 5000 };

/* An agent as a filter: a sink before the sink, which keeps what it gets until it has decided. */
struct holder {
    struct sink next;
    enum verdict verdict;
    uint8_t held[HOLD_MAX];
    size_t size;
    size_t given; /* of it, what next has taken */
};

static enum status holder_give(struct holder *holder, enum reason *reason)
{
    while (holder->given < holder->size) {
        size_t room = holder->next.room(holder->next.self);
        size_t left = holder->size - holder->given;
        if (room == 0 && holder->next.flush(holder->next.self, reason) == ERROR) {
            return ERROR;
        }
        room = holder->next.room(holder->next.self);
        if (room == 0) {
            return AGAIN;
        }
        size_t part = left < room ? left : room;
        struct span bytes = span_of(holder->held + holder->given, part);
        if (holder->next.write(holder->next.self, bytes, reason) != OK) {
            return ERROR;
        }
        holder->given += part;
    }
    holder->size = 0;
    holder->given = 0;
    return OK;
}

static size_t holder_room(void *self)
{
    const struct holder *holder = self;
    if (holder->verdict == PENDING) {
        return HOLD_MAX - holder->size;
    }
    if (holder->verdict == PASS) {
        return holder->size > 0 ? 0 : holder->next.room(holder->next.self);
    }
    return PLENTY;
}

static enum status holder_write(void *self, struct span bytes, enum reason *reason)
{
    struct holder *holder = self;
    if (holder->verdict == PASS) {
        assert_int_equal(holder->size, 0);
        return holder->next.write(holder->next.self, bytes, reason);
    }
    if (holder->verdict == PENDING) {
        assert_true(bytes.size <= HOLD_MAX - holder->size);
        memcpy(holder->held + holder->size, bytes.data, bytes.size);
        holder->size += bytes.size;
    }
    return OK;
}

static enum status holder_flush(void *self, enum reason *reason)
{
    struct holder *holder = self;
    if (holder->verdict == REFUSE) {
        *reason = REASON_NO_ENDPOINT;
        return ERROR;
    }
    if (holder->verdict == DROP) {
        holder->size = 0;
    }
    if (holder->verdict == PENDING) {
        return holder->size == 0 ? OK : AGAIN;
    }
    enum status status = holder_give(holder, reason);
    return status == OK ? holder->next.flush(holder->next.self, reason) : status;
}

static enum status holder_end(void *self, const struct fields *trailers, enum reason *reason)
{
    struct holder *holder = self;
    if (holder->verdict == PENDING) {
        return AGAIN;
    }
    enum status status = holder_flush(holder, reason);
    if (status == ERROR || holder->size > 0) {
        return status;
    }
    return holder->next.end(holder->next.self, trailers, reason);
}

static void begin_held(struct fixture *fixture, struct holder *holder, uint64_t size)
{
    begin(fixture, size);
    *holder = (struct holder){.next = fixture->lane.sink};
    fixture->lane.sink = (struct sink){.room = holder_room,
                                       .write = holder_write,
                                       .end = holder_end,
                                       .flush = holder_flush,
                                       .self = holder};
}

static void a_holding_agent_passes_what_it_held_and_then_the_rest(void **state)
{
    (void)state;
    struct fixture fixture;
    static struct holder holder;
    begin_held(&fixture, &holder, 20000);
    fixture.source.trailers = &trailer_section;
    fixture.transport.capacity = 1500;
    fixture.transport.window = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(&fixture), AGAIN);
        assert_int_equal(fixture.lane.waits, LANE_WAITS_SINK);
        assert_int_equal(holder.size, HOLD_MAX); /* what it declared, and no byte more */
        assert_int_equal(fixture.source.at, HOLD_MAX);
        assert_int_equal(fixture.sink.taken, 0);
    }
    holder.verdict = PASS;
    assert_int_equal(run(&fixture), AGAIN); /* the client reads slowly: held bytes go first */
    assert_int_equal(fixture.sink.taken, 1500);
    assert_int_equal(fixture.source.at, HOLD_MAX);
    fixture.transport.window = 7000;
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.sink.taken, 8500);
    fixture.transport.window = PLENTY;
    assert_int_equal(run(&fixture), END);
    assert_int_equal(fixture.sink.taken, 20000);
    assert_ptr_equal(fixture.sink.trailers, &trailer_section);
}

static void a_verdict_may_come_after_the_end_of_the_body(void **state)
{
    (void)state;
    struct fixture fixture;
    static struct holder holder;
    begin_held(&fixture, &holder, 300);
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.lane.state, LANE_ENDING);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_SINK);
    assert_int_equal(fixture.sink.taken, 0);
    holder.verdict = PASS;
    assert_int_equal(run(&fixture), END);
    assert_int_equal(fixture.sink.taken, 300);

    begin_held(&fixture, &holder, 300);
    assert_int_equal(run(&fixture), AGAIN);
    holder.verdict = DROP; /* the message goes on, without its body */
    assert_int_equal(run(&fixture), END);
    assert_int_equal(fixture.sink.taken, 0);
    assert_true(fixture.sink.ended);
}

static void a_refusing_agent_aborts_the_lane_and_nothing_got_past_it(void **state)
{
    (void)state;
    struct fixture fixture;
    static struct holder holder;
    begin_held(&fixture, &holder, 20000);
    assert_int_equal(run(&fixture), AGAIN);
    holder.verdict = REFUSE;
    assert_int_equal(run(&fixture), ERROR);
    check_failed(&fixture, false, REASON_NO_ENDPOINT);
    assert_int_equal(fixture.sink.taken, 0);
}

enum { STREAMS = 12, STREAM_BODY = 2 * LANE_QUANTUM };

/* Many exchanges over one connection: their lanes share one transport's room, in turns. */
struct multiplex {
    struct transport transport;
    struct stub_source sources[STREAMS];
    struct stub_sink sinks[STREAMS];
    struct lane lanes[STREAMS];
};

static void begin_multiplex(struct multiplex *all, size_t capacity)
{
    memset(all, 0, sizeof(*all));
    all->transport.capacity = capacity;
    for (uint32_t i = 0; i < STREAMS; i++) {
        all->sources[i] = whole_body(i, STREAM_BODY + i * 1000);
        all->sinks[i] = sink_over(&all->transport, i);
        struct source source = source_of(&all->sources[i]);
        struct sink sink = sink_of(&all->sinks[i]);
        lane_open(&all->lanes[i], &source, &sink);
    }
}

/* The lead of the stream that is ahead over the one that is behind. */
static uint64_t spread(const struct multiplex *all)
{
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    for (int i = 0; i < STREAMS; i++) {
        uint64_t bytes = all->lanes[i].bytes;
        least = bytes < least ? bytes : least;
        most = bytes > most ? bytes : most;
    }
    return most - least;
}

/* The worker's part: a queue of lanes, first in, first out; the peer reads `step` bytes a turn. */
static void run_multiplex(struct multiplex *all, uint64_t step)
{
    int done = 0;
    uint32_t next = 0;
    for (int turn = 0; done < STREAMS; turn++) {
        assert_true(turn < 200000);
        all->transport.window = step;
        struct lane *lane = &all->lanes[next];
        next = (next + 1) % STREAMS;
        if (lane_is_active(lane)) {
            enum reason reason = REASON_NONE;
            enum status status = lane_run(lane, &reason);
            assert_true(status != ERROR);
            done += status == END;
        }
        assert_true(all->transport.pending <= all->transport.capacity);
        assert_true(spread(all) <= LANE_QUANTUM);
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        assert_int_equal(all->sinks[i].taken, STREAM_BODY + i * 1000);
        assert_true(all->sinks[i].ended);
    }
}

static void many_exchanges_share_one_connection_fairly(void **state)
{
    (void)state;
    static struct multiplex all;
    begin_multiplex(&all, 64 * 1024); /* a fast peer: the quantum is what makes it fair */
    run_multiplex(&all, PLENTY);
    begin_multiplex(&all, 16 * 1024); /* a slow one */
    run_multiplex(&all, 5000);
}

static void an_aborted_exchange_leaves_the_others_on_its_connection_alone(void **state)
{
    (void)state;
    static struct multiplex all;
    begin_multiplex(&all, 64 * 1024);
    all.sources[3].breaks_at = 50000;
    all.transport.window = PLENTY;
    enum reason reason = REASON_NONE;
    assert_int_equal(lane_run(&all.lanes[3], &reason), ERROR);
    assert_int_equal(reason, REASON_UPSTREAM_TRUNCATED);
    for (int i = 0; i < STREAMS; i++) {
        while (lane_is_active(&all.lanes[i])) {
            assert_true(lane_run(&all.lanes[i], &reason) != ERROR);
        }
        assert_int_equal(all.sinks[i].ended, i != 3);
    }
}

/* The raw bytes of a connection after an upgrade: first those that came with the head. */
struct raw_source {
    struct stub_source *early;
    struct stub_source *rest;
};

static enum status raw_read(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct raw_source *raw = self;
    if (raw->early->at < raw->early->size) {
        return stub_read(raw->early, max, bytes, reason);
    }
    return stub_read(raw->rest, max, bytes, reason);
}

/* A tunnel is two lanes crossed; each direction ends for itself. */
static void a_tunnel_hands_over_early_bytes_and_closes_by_halves(void **state)
{
    (void)state;
    struct fixture up;
    struct fixture down;
    begin(&up, 70000);
    struct stub_source early = whole_body(1, 700);
    up.source.at = 700; /* the first 700 bytes came behind the head */
    up.source.available = 700;
    struct raw_source raw = {&early, &up.source};
    up.lane.source = (struct source){.read = raw_read, .self = &raw};
    begin(&down, 50);
    down.source.available = 0;
    assert_int_equal(run(&up), AGAIN);
    assert_int_equal(up.sink.taken, 700);
    assert_int_equal(run(&down), AGAIN);
    down.source.available = 50;
    assert_int_equal(run(&down), END); /* the upstream half-closes */
    up.source.available = 30000;
    assert_int_equal(run(&up), AGAIN);
    assert_int_equal(up.sink.taken, 30000);
    up.source.available = 70000;
    assert_int_equal(run(&up), END);
    assert_int_equal(up.sink.taken, 70000);
    assert_null(up.sink.trailers);
}

/*
 * A hedged attempt: the same request goes to two upstreams from one replay buffer, each at its own
 * pace. Whoever answers first feeds the response's lane; the other's lanes are cut off.
 */
static void the_loser_of_a_hedged_race_leaves_no_byte_in_the_response(void **state)
{
    (void)state;
    struct fixture slow;
    struct fixture fast;
    begin(&slow, 40000);
    begin(&fast, 40000);
    slow.transport.window = 0;
    slow.transport.capacity = 10000;
    assert_int_equal(run(&slow), AGAIN);
    assert_int_equal(run(&fast), END);

    struct stub_source answers[2] = {whole_body(8, 90000), whole_body(9, 90000)};
    answers[0].available = 0; /* the slow one has not answered yet */
    answers[1].available = 1;
    struct transport client = {.capacity = 64 * 1024, .window = PLENTY};
    struct stub_sink sink = sink_over(&client, 9);
    struct lane response = {0};
    struct source winner = source_of(&answers[answers[0].available > 0 ? 0 : 1]);
    struct sink to_client = sink_of(&sink);
    lane_open(&response, &winner, &to_client);
    lane_abort(&slow.lane);
    enum reason reason = REASON_NONE;
    assert_int_equal(lane_run(&response, &reason), AGAIN);
    answers[0].available = 90000; /* too late */
    answers[1].available = 90000;
    assert_int_equal(lane_run(&response, &reason), END);
    assert_int_equal(sink.taken, 90000);
    assert_int_equal(answers[0].reads, 0);
    assert_false(slow.sink.ended); /* its upstream never saw a whole request */
    assert_true(fast.sink.ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_early_response_needs_no_end_of_the_request),
        cmocka_unit_test(a_holding_agent_passes_what_it_held_and_then_the_rest),
        cmocka_unit_test(a_verdict_may_come_after_the_end_of_the_body),
        cmocka_unit_test(a_refusing_agent_aborts_the_lane_and_nothing_got_past_it),
        cmocka_unit_test(many_exchanges_share_one_connection_fairly),
        cmocka_unit_test(an_aborted_exchange_leaves_the_others_on_its_connection_alone),
        cmocka_unit_test(a_tunnel_hands_over_early_bytes_and_closes_by_halves),
        cmocka_unit_test(the_loser_of_a_hedged_race_leaves_no_byte_in_the_response),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
