/*
 * A lane carries one body in one direction, from a source to a sink. The request and the response
 * of an exchange each have one, and they move independently: an early response, a streaming agent
 * or a tunnel is no special case.
 *
 * The contract:
 *   - The sink is asked for room first; the source then lends at most that many bytes, valid for
 *     this call only; the sink takes all of them. Nobody keeps a remainder but the
 *     sink's own bounded queue.
 *   - The end (with trailers) is passed on once, after the last byte was accepted; an abort once,
 *     from either side; nothing follows either. A source that knows that its end is next is asked
 *     for it without room, too: the sink may take an end where it takes no byte.
 *   - A source or sink that says AGAIN wakes the lane's owner when that changes.
 *   - One run moves at most LANE_QUANTUM bytes, then it is the others' turn.
 *   - Where both ends can, bytes go through a pipe of the sink's and nobody sees them; the pipe is
 *     the sink's queue then. Room is not asked: a pipe that is lent is empty.
 *   - Filters are sinks that stand before the real one: they may hold up to their declared maximum
 *     and own only the bytes they hold; their room is what they can still hold or pass on.
 *   - What came whole is delivered: a source that fails while filters hold bytes of it is told of
 *     only when those have left.
 */
#ifndef SENTINEL_PROXY_LANE_H
#define SENTINEL_PROXY_LANE_H

#include "http/stream.h"

enum { LANE_QUANTUM = 256 * 1024 };

struct source {
    /* stream_ops.read_body's contract. */
    enum status (*read)(void *self, size_t max, struct span *bytes, enum reason *reason);
    /* stream_ops.is_at_end; NULL: nobody knows before a read. */
    bool (*is_at_end)(void *self);
    /* stream_ops.spliceable and splice_body; NULL: somebody looks at the bytes. */
    uint64_t (*spliceable)(void *self);
    enum status (*splice)(void *self, struct io_pipe *pipe, size_t max, size_t *size,
                          enum reason *reason);
    /* Asked once, after END; may be NULL: no trailers. */
    const struct fields *(*trailers)(void *self);
    void *self;
};

struct sink {
    size_t (*room)(void *self);
    /* Takes all; ERROR with a reason when it is broken. */
    enum status (*write)(void *self, struct span bytes, enum reason *reason);
    /* stream_ops.open_pipe and write_pipe; NULL: never. */
    struct io_pipe *(*open_pipe)(void *self);
    enum status (*write_pipe)(void *self, enum reason *reason);
    /* AGAIN: asked again later. */
    enum status (*end)(void *self, const struct fields *trailers, enum reason *reason);
    /* OK: nothing is pending; AGAIN: bytes wait for the peer. */
    enum status (*flush)(void *self, enum reason *reason);
    /* The bytes that filters hold; NULL: nobody does. */
    uint64_t (*held)(void *self);
    void *self;
    struct stream *stream; /* by which the bytes leave, behind all filters; NULL: they stay here */
};

enum lane_state {
    LANE_CLOSED,   /* not begun */
    LANE_OPEN,     /* bytes may come */
    LANE_ENDING,   /* the source has ended; the sink has not taken the end yet */
    LANE_FLUSHING, /* the sink has the end; its last bytes wait for the peer */
    LANE_FAILING,  /* the source has failed; filters hold what came before */
    LANE_DONE,
    LANE_ABORTED,
};

/* Who the lane waits for: whose deadline runs. */
enum lane_wait { LANE_WAITS_NOT, LANE_WAITS_SOURCE, LANE_WAITS_SINK };

struct lane {
    struct source source;
    struct sink sink;
    enum lane_state state;
    enum lane_wait waits;
    bool source_failed;            /* after ERROR: which side it was */
    enum reason failure;           /* of the source, when FAILING */
    const struct fields *trailers; /* the source's, once it has ended */
    uint64_t bytes;                /* moved so far */
};

/* Opens a closed lane between the two. */
void lane_open(struct lane *lane, const struct source *source, const struct sink *sink);

/*
 * Moves what can be moved. OK: the quantum is used up, call again soon. AGAIN: waits, see `waits`.
 * END: everything, the end included, has left. ERROR: *reason; the lane is aborted.
 */
NODISCARD enum status lane_run(struct lane *lane, enum reason *reason);

/* Ends it without an end; harmless in every state. */
void lane_abort(struct lane *lane);

static inline bool lane_is_active(const struct lane *lane)
{
    return lane->state == LANE_OPEN || lane->state == LANE_ENDING || lane->state == LANE_FLUSHING ||
           lane->state == LANE_FAILING;
}

/* Whether an active lane will ask its source for nothing more. */
static inline bool lane_source_is_over(const struct lane *lane)
{
    return lane->state == LANE_ENDING || lane->state == LANE_FLUSHING ||
           lane->state == LANE_FAILING;
}

/* The bytes that filters hold. */
static inline uint64_t lane_held(const struct lane *lane)
{
    return lane->sink.held == NULL ? 0 : lane->sink.held(lane->sink.self);
}

/* The body of a stream as a source, and as a sink whose failure has the given reason. */
struct source lane_stream_source(struct stream *stream);

struct stream_sink {
    struct stream *stream;
    enum reason failure;
    bool trailers; /* whether the peer wants them */
};

/* `state` must outlive the lane. */
struct sink lane_stream_sink(struct stream_sink *state);

#endif
