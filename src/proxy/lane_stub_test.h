/*
 * What the tests of lanes have in common: a source and a sink with every handle to turn, which
 * check the lane's contract at each call, and a fixture that joins the two by a lane. A body is
 * known by its number, so that no byte needs to be kept to be checked.
 */
#ifndef SENTINEL_PROXY_LANE_STUB_TEST_H
#define SENTINEL_PROXY_LANE_STUB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/lane.h"

enum { SCRATCH = 300 * 1024, PLENTY = 1 << 30 };

/* One scratch buffer for all sources, as in a worker: whoever kept a lent span would see it change.
 */
static uint8_t scratch[SCRATCH];

/* Any field list will do: lanes pass the pointer on and never look inside. */
static const struct fields trailer_section;

/* The byte at a position of body `seed`; no two bodies agree for long. */
static inline uint8_t body_byte(uint32_t seed, uint64_t at)
{
    return (uint8_t)((at * 2654435761u + seed * 40503u) >> 11 ^ at);
}

struct stub_source {
    uint32_t seed;
    uint64_t size;      /* of the whole body */
    uint64_t available; /* of it, what has come in so far */
    uint64_t at;
    size_t piece_max;
    uint64_t breaks_at; /* fails there, when it has got so far */
    const struct fields *trailers;
    int reads;
    bool ended;
    bool failed;
};

static inline struct stub_source whole_body(uint32_t seed, uint64_t size)
{
    return (struct stub_source){.seed = seed,
                                .size = size,
                                .available = size,
                                .piece_max = SCRATCH,
                                .breaks_at = UINT64_MAX};
}

static inline enum status stub_read(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct stub_source *source = self;
    assert_true(max > 0);
    assert_false(source->ended || source->failed); /* nothing follows either */
    source->reads++;
    if (source->at >= source->breaks_at) {
        source->failed = true;
        *reason = REASON_UPSTREAM_TRUNCATED;
        return ERROR;
    }
    if (source->at == source->size) {
        source->ended = true;
        return END;
    }
    uint64_t there = source->available - source->at;
    if (there == 0) {
        return AGAIN;
    }
    size_t size = there < max ? (size_t)there : max;
    size = size < source->piece_max ? size : source->piece_max;
    for (size_t i = 0; i < size; i++) {
        scratch[i] = body_byte(source->seed, source->at + i);
    }
    source->at += size;
    *bytes = span_of(scratch, size);
    return OK;
}

static inline const struct fields *stub_trailers(void *self)
{
    struct stub_source *source = self;
    assert_true(source->ended);
    return source->trailers;
}

static inline struct source source_of(struct stub_source *stub)
{
    return (struct source){.read = stub_read, .trailers = stub_trailers, .self = stub};
}

/* A connection: a bounded queue of bytes that leaves as fast as the peer reads. */
struct transport {
    size_t capacity;
    size_t pending;
    uint64_t window; /* what the peer still reads */
    bool broken;
};

struct stub_sink {
    struct transport *transport; /* its own, or one shared with others */
    uint32_t seed;               /* the body that it expects */
    uint64_t taken;
    uint64_t breaks_at;
    int ends_refused; /* so often it says AGAIN to the end */
    bool end_breaks;
    bool ended;
    const struct fields *trailers;
};

static inline struct stub_sink sink_over(struct transport *transport, uint32_t seed)
{
    return (struct stub_sink){.transport = transport, .seed = seed, .breaks_at = UINT64_MAX};
}

static inline size_t stub_room(void *self)
{
    const struct stub_sink *sink = self;
    return sink->transport->capacity - sink->transport->pending;
}

static inline enum status stub_write(void *self, struct span bytes, enum reason *reason)
{
    struct stub_sink *sink = self;
    assert_false(sink->ended);
    assert_true(bytes.size > 0 && bytes.size <= stub_room(self));
    if (sink->taken + bytes.size > sink->breaks_at) {
        *reason = REASON_CLIENT_CLOSED;
        return ERROR;
    }
    for (size_t i = 0; i < bytes.size; i++) {
        if (bytes.data[i] != body_byte(sink->seed, sink->taken + i)) {
            fail_msg("byte %llu is not of this body", (unsigned long long)(sink->taken + i));
        }
    }
    sink->taken += bytes.size;
    sink->transport->pending += bytes.size;
    return OK;
}

static inline enum status stub_end(void *self, const struct fields *trailers, enum reason *reason)
{
    struct stub_sink *sink = self;
    assert_false(sink->ended);
    if (sink->end_breaks) {
        *reason = REASON_CLIENT_CLOSED;
        return ERROR;
    }
    if (sink->ends_refused > 0) {
        sink->ends_refused--;
        return AGAIN;
    }
    sink->ended = true;
    sink->trailers = trailers;
    return OK;
}

static inline enum status stub_flush(void *self, enum reason *reason)
{
    struct transport *transport = ((struct stub_sink *)self)->transport;
    if (transport->broken) {
        *reason = REASON_CLIENT_CLOSED;
        return ERROR;
    }
    size_t sent =
        transport->pending < transport->window ? transport->pending : (size_t)transport->window;
    transport->pending -= sent;
    transport->window -= sent;
    return transport->pending == 0 ? OK : AGAIN;
}

static inline struct sink sink_of(struct stub_sink *stub)
{
    return (struct sink){
        .room = stub_room, .write = stub_write, .end = stub_end, .flush = stub_flush, .self = stub};
}

/* A source, a sink with a transport of its own, and the lane between them. */
struct fixture {
    struct stub_source source;
    struct transport transport;
    struct stub_sink sink;
    struct lane lane;
    enum reason reason;
};

static inline void begin(struct fixture *fixture, uint64_t size)
{
    *fixture = (struct fixture){.source = whole_body(1, size),
                                .transport = {.capacity = 64 * 1024, .window = PLENTY}};
    fixture->sink = sink_over(&fixture->transport, 1);
    struct source source = source_of(&fixture->source);
    struct sink sink = sink_of(&fixture->sink);
    lane_open(&fixture->lane, &source, &sink);
}

static inline enum status run(struct fixture *fixture)
{
    return lane_run(&fixture->lane, &fixture->reason);
}

static inline void check_failed(const struct fixture *fixture, bool source, enum reason reason)
{
    assert_int_equal(fixture->lane.state, LANE_ABORTED);
    assert_int_equal(fixture->lane.waits, LANE_WAITS_NOT);
    assert_int_equal(fixture->lane.source_failed, source);
    assert_int_equal(fixture->reason, reason);
    assert_false(fixture->sink.ended);
}

#endif
