#include "proxy/lane.h"

#include "base/death_test.h"
#include "base/prng.h"
#include "proxy/lane_stub_test.h"

static void a_body_arrives_whole_with_its_trailers(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 65535, 65536, 65537, 200000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fixture fixture;
        begin(&fixture, sizes[i]);
        fixture.source.trailers = i % 2 == 0 ? &trailer_section : NULL;
        assert_true(lane_is_active(&fixture.lane));
        assert_int_equal(run(&fixture), END);
        assert_int_equal(fixture.lane.state, LANE_DONE);
        assert_false(lane_is_active(&fixture.lane));
        assert_int_equal(fixture.lane.waits, LANE_WAITS_NOT);
        assert_int_equal(fixture.sink.taken, sizes[i]);
        assert_int_equal(fixture.lane.bytes, sizes[i]);
        assert_int_equal(fixture.transport.pending, 0);
        assert_true(fixture.sink.ended);
        assert_ptr_equal(fixture.sink.trailers, fixture.source.trailers);
    }
}

static void a_source_without_a_trailer_function_has_none(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 10);
    fixture.source.trailers = &trailer_section;
    fixture.lane.source.trailers = NULL;
    assert_int_equal(run(&fixture), END);
    assert_null(fixture.sink.trailers);
}

static void an_empty_source_is_waited_for_and_what_came_is_sent(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 1000);
    fixture.source.available = 0;
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_SOURCE);
    fixture.source.available = 600;
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_SOURCE);
    assert_int_equal(fixture.sink.taken, 600);
    assert_int_equal(fixture.transport.pending, 0); /* every run ends with a flush */
    fixture.source.available = 1000;
    assert_int_equal(run(&fixture), END);
    assert_int_equal(fixture.sink.taken, 1000);
}

static void a_full_sink_is_waited_for_and_the_source_is_left_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 100000);
    fixture.transport.window = 0;
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_SINK);
    assert_int_equal(fixture.sink.taken, 64 * 1024);
    int reads = fixture.source.reads;
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_SINK);
    assert_int_equal(fixture.source.reads, reads);
    fixture.transport.window = 1; /* one byte read makes room for one */
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.sink.taken, 64 * 1024 + 1);
    fixture.transport.window = PLENTY;
    assert_int_equal(run(&fixture), END);
    assert_int_equal(fixture.sink.taken, 100000);
}

static void a_run_moves_at_most_a_quantum(void **state)
{
    (void)state;
    static const size_t pieces[] = {SCRATCH, 100000, 4096, 1000};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct fixture fixture;
        begin(&fixture, 3 * LANE_QUANTUM + 5);
        fixture.transport.capacity = PLENTY;
        fixture.source.piece_max = pieces[i];
        for (uint64_t turn = 1; turn <= 3; turn++) {
            assert_int_equal(run(&fixture), OK);
            assert_int_equal(fixture.lane.waits, LANE_WAITS_NOT);
            assert_int_equal(fixture.sink.taken, turn * LANE_QUANTUM);
            assert_int_equal(fixture.transport.pending, 0);
        }
        assert_int_equal(run(&fixture), END);
        assert_int_equal(fixture.sink.taken, 3 * LANE_QUANTUM + 5);
    }
}

static void the_end_is_offered_until_taken_and_then_never_again(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 10);
    fixture.source.trailers = &trailer_section;
    fixture.sink.ends_refused = 3;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(&fixture), AGAIN);
        assert_int_equal(fixture.lane.state, LANE_ENDING);
        assert_int_equal(fixture.lane.waits, LANE_WAITS_SINK);
        assert_int_equal(fixture.transport.pending, 0);
    }
    assert_int_equal(fixture.source.reads, 2); /* the bytes and END, nothing after it */
    fixture.transport.window = 0;
    fixture.transport.pending = 1; /* such as a last chunk */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(&fixture), AGAIN);
        assert_int_equal(fixture.lane.state, LANE_FLUSHING);
        assert_int_equal(fixture.lane.waits, LANE_WAITS_SINK);
        assert_true(fixture.sink.ended);
    }
    fixture.transport.window = 1;
    assert_int_equal(run(&fixture), END);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_NOT);
    assert_ptr_equal(fixture.sink.trailers, &trailer_section);
}

static void a_failure_of_either_side_aborts_and_names_it(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 1000);
    fixture.source.breaks_at = 700;
    fixture.source.piece_max = 100;
    assert_int_equal(run(&fixture), ERROR);
    check_failed(&fixture, true, REASON_UPSTREAM_TRUNCATED);
    assert_int_equal(fixture.sink.taken, 700); /* never completed */

    begin(&fixture, 1000);
    fixture.sink.breaks_at = 250;
    fixture.source.piece_max = 100;
    assert_int_equal(run(&fixture), ERROR);
    check_failed(&fixture, false, REASON_CLIENT_CLOSED);
    assert_int_equal(fixture.sink.taken, 200);

    begin(&fixture, 1000);
    fixture.sink.end_breaks = true;
    assert_int_equal(run(&fixture), ERROR);
    check_failed(&fixture, false, REASON_CLIENT_CLOSED);
}

static void a_broken_connection_shows_at_every_flush(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 100000);
    fixture.transport.window = 0;
    assert_int_equal(run(&fixture), AGAIN);
    fixture.transport.broken = true; /* found when asking for room */
    assert_int_equal(run(&fixture), ERROR);
    check_failed(&fixture, false, REASON_CLIENT_CLOSED);

    begin(&fixture, 1000);
    fixture.source.available = 10;
    fixture.transport.broken = true; /* found at the end of the run, though the source waits */
    assert_int_equal(run(&fixture), ERROR);
    check_failed(&fixture, false, REASON_CLIENT_CLOSED);

    begin(&fixture, 1000);
    fixture.transport.window = 10;
    assert_int_equal(run(&fixture), AGAIN);
    assert_int_equal(fixture.lane.state, LANE_FLUSHING);
    fixture.transport.broken = true; /* found after the end was taken, before it left */
    assert_int_equal(run(&fixture), ERROR);
    assert_int_equal(fixture.lane.state, LANE_ABORTED);
    assert_false(fixture.lane.source_failed);
}

static void an_abort_is_harmless_in_every_state(void **state)
{
    (void)state;
    struct lane closed = {0};
    lane_abort(&closed);
    assert_int_equal(closed.state, LANE_CLOSED);
    struct fixture fixture;
    begin(&fixture, 10);
    fixture.source.available = 5;
    assert_int_equal(run(&fixture), AGAIN);
    lane_abort(&fixture.lane);
    lane_abort(&fixture.lane);
    assert_int_equal(fixture.lane.state, LANE_ABORTED);
    assert_int_equal(fixture.lane.waits, LANE_WAITS_NOT);
    assert_false(lane_is_active(&fixture.lane));
    assert_false(fixture.sink.ended);
    begin(&fixture, 10);
    assert_int_equal(run(&fixture), END);
    lane_abort(&fixture.lane);
    assert_int_equal(fixture.lane.state, LANE_DONE);
}

static void run_once(void *context)
{
    if (run(context) == ERROR) {
        lane_abort(&((struct fixture *)context)->lane);
    }
}

static void open_again(void *context)
{
    struct fixture *fixture = context;
    struct source source = source_of(&fixture->source);
    struct sink sink = sink_of(&fixture->sink);
    lane_open(&fixture->lane, &source, &sink);
}

static enum status lend_too_much(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    (void)self;
    (void)reason;
    *bytes = span_of(scratch, max + 1);
    return OK;
}

static enum status lend_nothing(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    (void)self;
    (void)max;
    (void)reason;
    *bytes = SPAN_EMPTY;
    return OK;
}

static void broken_contracts_abort_the_process(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, 10);
    assert_true(aborts(open_again, &fixture));
    fixture.lane.source.read = lend_too_much;
    assert_true(aborts(run_once, &fixture));
    fixture.lane.source.read = lend_nothing;
    assert_true(aborts(run_once, &fixture));
    lane_abort(&fixture.lane);
    assert_true(aborts(run_once, &fixture));
    fixture.lane.state = LANE_CLOSED;
    assert_true(aborts(run_once, &fixture));
    begin(&fixture, 10);
    assert_int_equal(run(&fixture), END);
    assert_true(aborts(run_once, &fixture));
}

/* Sizes, pauses and failures at random: what arrives is what was sent, or a prefix and an abort. */
static void random_pace_on_both_sides_loses_nothing(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 2024);
    int done = 0;
    int failed = 0;
    for (int round = 0; round < 600; round++) {
        struct fixture fixture;
        begin(&fixture, prng_below(&prng, 3) == 0 ? prng_below(&prng, 5)
                                                  : prng_below(&prng, 3 * LANE_QUANTUM / 2));
        fixture.source.available = 0;
        fixture.source.piece_max = 1 + prng_below(&prng, 70000);
        fixture.source.trailers = prng_below(&prng, 2) == 0 ? &trailer_section : NULL;
        fixture.source.breaks_at =
            prng_below(&prng, 4) == 0 ? prng_below(&prng, 500000) : UINT64_MAX;
        fixture.sink.breaks_at = prng_below(&prng, 4) == 0 ? prng_below(&prng, 500000) : UINT64_MAX;
        fixture.sink.ends_refused = (int)prng_below(&prng, 3);
        fixture.transport.capacity = 1 + prng_below(&prng, 70000);
        fixture.transport.window = 0;
        enum status status = OK;
        for (int turn = 0; status == OK || status == AGAIN; turn++) {
            assert_true(turn < 5000); /* it gets on */
            if (fixture.lane.waits == LANE_WAITS_SOURCE || prng_below(&prng, 2) == 0) {
                uint64_t more = fixture.source.available + 1 + prng_below(&prng, 100000);
                fixture.source.available = more < fixture.source.size ? more : fixture.source.size;
            }
            if (fixture.lane.waits == LANE_WAITS_SINK || prng_below(&prng, 2) == 0) {
                fixture.transport.window += 1 + prng_below(&prng, 100000);
            }
            uint64_t before = fixture.lane.bytes;
            status = run(&fixture);
            assert_true(fixture.lane.bytes - before <= LANE_QUANTUM);
            assert_true((status == AGAIN) == (fixture.lane.waits != LANE_WAITS_NOT));
        }
        assert_true(fixture.sink.taken <= fixture.source.at);
        if (status == END) {
            assert_int_equal(fixture.sink.taken, fixture.source.size);
            assert_int_equal(fixture.lane.bytes, fixture.source.size);
            assert_true(fixture.sink.ended && fixture.transport.pending == 0);
            assert_ptr_equal(fixture.sink.trailers, fixture.source.trailers);
            done++;
        } else {
            check_failed(&fixture, fixture.source.failed,
                         fixture.source.failed ? REASON_UPSTREAM_TRUNCATED : REASON_CLIENT_CLOSED);
            failed++;
        }
    }
    assert_true(done > 100 && failed > 50);
}

/* A stream whose incoming body is a stub source and whose outgoing one a stub sink. */
struct stub_stream {
    struct stream stream;
    struct stub_source source;
    struct stub_sink sink;
    struct transport transport;
    struct fields trailers;
};

static enum status stream_read_body(struct stream *stream, size_t max, struct span *bytes,
                                    enum reason *reason)
{
    return stub_read(&((struct stub_stream *)(void *)stream)->source, max, bytes, reason);
}

static struct fields *stream_trailers(struct stream *stream)
{
    struct stub_stream *stub = (struct stub_stream *)(void *)stream;
    assert_true(stub->source.ended);
    return &stub->trailers;
}

static size_t stream_room(struct stream *stream)
{
    return stub_room(&((struct stub_stream *)(void *)stream)->sink);
}

static enum status stream_write_body(struct stream *stream, struct span bytes)
{
    enum reason unused = REASON_NONE;
    return stub_write(&((struct stub_stream *)(void *)stream)->sink, bytes, &unused);
}

static enum status stream_write_end(struct stream *stream, const struct fields *trailers)
{
    enum reason unused = REASON_NONE;
    assert_false(stream->out_ended);
    return stub_end(&((struct stub_stream *)(void *)stream)->sink, trailers, &unused);
}

static enum status stream_flush(struct stream *stream)
{
    enum reason unused = REASON_NONE;
    return stub_flush(&((struct stub_stream *)(void *)stream)->sink, &unused);
}

static const struct stream_ops stub_stream_ops = {.read_body = stream_read_body,
                                                  .trailers = stream_trailers,
                                                  .room = stream_room,
                                                  .write_body = stream_write_body,
                                                  .write_end = stream_write_end,
                                                  .flush = stream_flush};

struct stream_pair {
    struct stub_stream from;
    struct stub_stream to;
    struct stream_sink sink;
    struct lane lane;
};

static void begin_pair(struct stream_pair *pair, uint64_t size)
{
    *pair = (struct stream_pair){0};
    pair->from =
        (struct stub_stream){.stream = {.ops = &stub_stream_ops}, .source = whole_body(4, size)};
    pair->to = (struct stub_stream){.stream = {.ops = &stub_stream_ops},
                                    .transport = {.capacity = 5000, .window = PLENTY}};
    pair->to.sink = sink_over(&pair->to.transport, 4);
    pair->sink = (struct stream_sink){
        .stream = &pair->to.stream, .failure = REASON_UPSTREAM_CLOSED, .trailers = true};
    struct source source = lane_stream_source(&pair->from.stream);
    struct sink sink = lane_stream_sink(&pair->sink);
    lane_open(&pair->lane, &source, &sink);
}

static void streams_are_sources_and_sinks(void **state)
{
    (void)state;
    struct stream_pair pair;
    enum reason reason = REASON_NONE;
    begin_pair(&pair, 100000);
    assert_int_equal(lane_run(&pair.lane, &reason), END);
    assert_int_equal(pair.to.sink.taken, 100000);
    assert_ptr_equal(pair.to.sink.trailers, &pair.from.trailers);

    begin_pair(&pair, 10);
    pair.sink.trailers = false; /* the peer did not ask for them */
    assert_int_equal(lane_run(&pair.lane, &reason), END);
    assert_true(pair.to.sink.ended);
    assert_null(pair.to.sink.trailers);

    begin_pair(&pair, 0);
    pair.to.stream.out_ended = true; /* a head without a body has been its own end */
    assert_int_equal(lane_run(&pair.lane, &reason), END);
    assert_false(pair.to.sink.ended);
    assert_int_equal(reason, REASON_NONE);
}

static void a_broken_stream_fails_with_the_reason_of_its_side(void **state)
{
    (void)state;
    struct stream_pair pair;
    for (int broken = 0; broken < 4; broken++) {
        enum reason reason = REASON_NONE;
        begin_pair(&pair, 1000);
        pair.to.sink.breaks_at = broken == 0 ? 10 : UINT64_MAX;
        pair.to.sink.end_breaks = broken == 1;
        pair.to.transport.broken = broken == 2;
        pair.from.source.breaks_at = broken == 3 ? 1000 : UINT64_MAX;
        assert_int_equal(lane_run(&pair.lane, &reason), ERROR);
        assert_int_equal(reason, broken == 3 ? REASON_UPSTREAM_TRUNCATED : REASON_UPSTREAM_CLOSED);
        assert_int_equal(pair.lane.source_failed, broken == 3);
        assert_int_equal(pair.lane.state, LANE_ABORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_arrives_whole_with_its_trailers),
        cmocka_unit_test(a_source_without_a_trailer_function_has_none),
        cmocka_unit_test(an_empty_source_is_waited_for_and_what_came_is_sent),
        cmocka_unit_test(a_full_sink_is_waited_for_and_the_source_is_left_alone),
        cmocka_unit_test(a_run_moves_at_most_a_quantum),
        cmocka_unit_test(the_end_is_offered_until_taken_and_then_never_again),
        cmocka_unit_test(a_failure_of_either_side_aborts_and_names_it),
        cmocka_unit_test(a_broken_connection_shows_at_every_flush),
        cmocka_unit_test(an_abort_is_harmless_in_every_state),
        cmocka_unit_test(broken_contracts_abort_the_process),
        cmocka_unit_test(random_pace_on_both_sides_loses_nothing),
        cmocka_unit_test(streams_are_sources_and_sinks),
        cmocka_unit_test(a_broken_stream_fails_with_the_reason_of_its_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
