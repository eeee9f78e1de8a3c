#include "proxy/lane.h"

#include "base/assert.h"

void lane_open(struct lane *lane, const struct source *source, const struct sink *sink)
{
    ASSERT(lane->state == LANE_CLOSED);
    *lane = (struct lane){.source = *source, .sink = *sink, .state = LANE_OPEN};
}

void lane_abort(struct lane *lane)
{
    if (lane->state != LANE_DONE && lane->state != LANE_CLOSED) {
        lane->state = LANE_ABORTED;
    }
    lane->waits = LANE_WAITS_NOT;
}

static enum status fail(struct lane *lane, bool source)
{
    lane->source_failed = source;
    lane_abort(lane);
    return ERROR;
}

/* How much the sink takes now, after a flush if it was full. 0: it waits for its peer. */
static enum status ask_room(struct lane *lane, size_t *room, enum reason *reason)
{
    struct sink *sink = &lane->sink;
    *room = sink->room(sink->self);
    if (*room == 0) {
        enum status status = sink->flush(sink->self, reason);
        if (status == ERROR) {
            return ERROR;
        }
        *room = sink->room(sink->self);
    }
    return OK;
}

/* What the source said instead of giving bytes: its end is news, the rest ends the run. */
static enum status note_source(struct lane *lane, enum status status, const enum reason *reason)
{
    if (status == END) {
        lane->state = LANE_ENDING;
        lane->trailers =
            lane->source.trailers == NULL ? NULL : lane->source.trailers(lane->source.self);
        return OK;
    }
    if (status == ERROR && lane_held(lane) > 0) {
        lane->state = LANE_FAILING;
        lane->failure = *reason;
        return OK;
    }
    lane->waits = LANE_WAITS_SOURCE;
    return status == AGAIN ? AGAIN : fail(lane, true);
}

/* The sink's pipe, where the source can fill it. */
static struct io_pipe *open_pipe(struct lane *lane)
{
    const struct source *source = &lane->source;
    const struct sink *sink = &lane->sink;
    if (source->spliceable == NULL || sink->open_pipe == NULL ||
        source->spliceable(source->self) == 0) {
        return NULL;
    }
    return sink->open_pipe(sink->self);
}

static enum status splice_bytes(struct lane *lane, struct io_pipe *pipe, size_t max,
                                enum reason *reason)
{
    size_t size = 0;
    enum status status = lane->source.splice(lane->source.self, pipe, max, &size, reason);
    if (status != OK) {
        enum reason ignored = REASON_NONE;
        (void)lane->sink.write_pipe(lane->sink.self, &ignored); /* it is empty */
        return note_source(lane, status, reason);
    }
    ASSERT(size > 0 && size <= max);
    if (lane->sink.write_pipe(lane->sink.self, reason) != OK) {
        return fail(lane, false);
    }
    lane->bytes += size;
    return OK;
}

/* One step of an open lane: OK when bytes moved or the state changed. */
static enum status move_bytes(struct lane *lane, size_t quantum, enum reason *reason)
{
    struct io_pipe *pipe = open_pipe(lane);
    if (pipe != NULL) {
        return splice_bytes(lane, pipe, quantum, reason);
    }
    size_t room = 0;
    if (ask_room(lane, &room, reason) != OK) {
        return fail(lane, false);
    }
    const struct source *source = &lane->source;
    bool at_end = room == 0 && source->is_at_end != NULL && source->is_at_end(source->self);
    if (room == 0 && !at_end) {
        lane->waits = LANE_WAITS_SINK;
        return AGAIN;
    }
    struct span bytes = SPAN_EMPTY;
    size_t max = at_end ? 1 : room < quantum ? room : quantum;
    enum status status = source->read(source->self, max, &bytes, reason);
    if (status != OK) {
        return note_source(lane, status, reason);
    }
    ASSERT(!at_end && bytes.size > 0 && bytes.size <= max);
    if (lane->sink.write(lane->sink.self, bytes, reason) != OK) {
        return fail(lane, false);
    }
    lane->bytes += bytes.size;
    return OK;
}

static enum status pass_end(struct lane *lane, enum reason *reason)
{
    enum status status = lane->sink.end(lane->sink.self, lane->trailers, reason);
    if (status == ERROR) {
        return fail(lane, false);
    }
    if (status == AGAIN) {
        lane->waits = LANE_WAITS_SINK;
        return AGAIN;
    }
    lane->state = LANE_FLUSHING;
    return OK;
}

/* Every run ends with a flush, so that what was gathered leaves in as few pieces as possible. */
static enum status finish_run(struct lane *lane, enum status status, enum reason *reason)
{
    enum status flushed = lane->sink.flush(lane->sink.self, reason);
    if (flushed == ERROR) {
        return fail(lane, false);
    }
    if (lane->state == LANE_FAILING && flushed == OK) {
        *reason = lane->failure;
        return fail(lane, true);
    }
    if (lane->state == LANE_FAILING) {
        lane->waits = LANE_WAITS_SINK;
        return AGAIN;
    }
    if (lane->state == LANE_FLUSHING) {
        lane->state = flushed == OK ? LANE_DONE : LANE_FLUSHING;
        lane->waits = flushed == OK ? LANE_WAITS_NOT : LANE_WAITS_SINK;
        return flushed == OK ? END : AGAIN;
    }
    return status;
}

enum status lane_run(struct lane *lane, enum reason *reason)
{
    size_t quantum = LANE_QUANTUM;
    enum status status = OK;
    ASSERT(lane_is_active(lane));
    lane->waits = LANE_WAITS_NOT;
    while (status == OK && quantum > 0 && lane->state == LANE_OPEN) {
        uint64_t before = lane->bytes;
        status = move_bytes(lane, quantum, reason);
        quantum -= (size_t)(lane->bytes - before);
    }
    if (status == OK && lane->state == LANE_ENDING) {
        status = pass_end(lane, reason);
    }
    if (status == ERROR && lane->source_failed) {
        enum reason ignored = REASON_NONE;
        (void)lane->sink.flush(lane->sink.self, &ignored); /* what came whole is still delivered */
    }
    return status == ERROR ? ERROR : finish_run(lane, status, reason);
}

static enum status stream_read(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct stream *stream = self;
    return stream->ops->read_body(stream, max, bytes, reason);
}

static bool stream_is_at_end(void *self)
{
    struct stream *stream = self;
    return stream->ops->is_at_end != NULL && stream->ops->is_at_end(stream);
}

static uint64_t stream_spliceable(void *self)
{
    struct stream *stream = self;
    return stream->ops->spliceable == NULL ? 0 : stream->ops->spliceable(stream);
}

static enum status stream_splice(void *self, struct io_pipe *pipe, size_t max, size_t *size,
                                 enum reason *reason)
{
    struct stream *stream = self;
    return stream->ops->splice_body(stream, pipe, max, size, reason);
}

static const struct fields *stream_trailers(void *self)
{
    struct stream *stream = self;
    return stream->ops->trailers(stream);
}

struct source lane_stream_source(struct stream *stream)
{
    return (struct source){.read = stream_read,
                           .is_at_end = stream_is_at_end,
                           .spliceable = stream_spliceable,
                           .splice = stream_splice,
                           .trailers = stream_trailers,
                           .self = stream};
}

static size_t stream_room(void *self)
{
    struct stream *stream = ((struct stream_sink *)self)->stream;
    return stream->ops->room(stream);
}

static enum status stream_write(void *self, struct span bytes, enum reason *reason)
{
    struct stream_sink *sink = self;
    enum status status = sink->stream->ops->write_body(sink->stream, bytes);
    if (status == ERROR) {
        *reason = sink->failure;
    }
    return status;
}

static struct io_pipe *stream_open_pipe(void *self)
{
    struct stream *stream = ((struct stream_sink *)self)->stream;
    return stream->ops->open_pipe == NULL ? NULL : stream->ops->open_pipe(stream);
}

static enum status stream_write_pipe(void *self, enum reason *reason)
{
    struct stream_sink *sink = self;
    enum status status = sink->stream->ops->write_pipe(sink->stream);
    if (status == ERROR) {
        *reason = sink->failure;
    }
    return status;
}

static enum status stream_end(void *self, const struct fields *trailers, enum reason *reason)
{
    struct stream_sink *sink = self;
    struct stream *stream = sink->stream;
    if (stream->out_ended) {
        return OK; /* the head said that there is no body */
    }
    enum status status = stream->ops->write_end(stream, sink->trailers ? trailers : NULL);
    if (status == ERROR) {
        *reason = sink->failure;
    }
    return status;
}

static enum status stream_flush(void *self, enum reason *reason)
{
    struct stream_sink *sink = self;
    enum status status = sink->stream->ops->flush(sink->stream);
    if (status == ERROR) {
        *reason = sink->failure;
    }
    return status;
}

struct sink lane_stream_sink(struct stream_sink *state)
{
    return (struct sink){.room = stream_room,
                         .write = stream_write,
                         .open_pipe = stream_open_pipe,
                         .write_pipe = stream_write_pipe,
                         .end = stream_end,
                         .flush = stream_flush,
                         .self = state,
                         .stream = state->stream};
}
