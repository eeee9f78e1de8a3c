/*
 * Large bodies that nobody needs to look at, moved by the kernel: from the socket they come from
 * into a pipe, from there to the socket they go to. The receiving end's pipe stands behind its
 * outbox: it is leased while a move is on or while bytes wait in it for the peer, and while it is
 * there nothing else is queued, so that the order of bytes is never in question.
 */
#include "base/assert.h"
#include "http/http1_wire.h"

enum {
    /* Below this a copy costs less than the extra calls; a body once begun goes on for longer. */
    SPLICE_BEGIN = 64 * 1024,
    SPLICE_CONTINUE = 16 * 1024,
    /* Read as usual, since that shows whether anything comes behind the body's end. */
    SPLICE_TAIL = 4 * 1024,
};

static_assert(SPLICE_TAIL < (int)SPLICE_CONTINUE, "there is something to move");

/* The bytes that may be moved at once; 0 for none. */
static uint64_t spliceable_bytes(const struct http1_wire *wire)
{
    uint64_t least = wire->in_spliced ? SPLICE_CONTINUE : SPLICE_BEGIN;
    if (wire->in_framing == FRAMING_LENGTH) {
        return wire->in_remaining > least ? wire->in_remaining - SPLICE_TAIL : 0;
    }
    /* Of unknown length: what has been long so far is likely to go on. */
    bool long_so_far = wire->in_framing == FRAMING_CLOSE && wire->stream.bytes_in > SPLICE_BEGIN;
    return long_so_far ? UINT64_MAX : 0;
}

uint64_t http1_wire_spliceable(struct stream *stream)
{
    const struct http1_wire *wire = http1_wire_of_stream(stream);
    if (stream->in_ended || wire->in_broken || wire->in_ended_by_peer ||
        http1_wire_pending(wire).size > 0 || wire->session.transport.ops->splice_in == NULL) {
        return 0;
    }
    return spliceable_bytes(wire);
}

enum status http1_wire_splice_body(struct http1_wire *wire, struct io_pipe *pipe, size_t max,
                                   size_t *size, enum reason truncated, enum reason *reason)
{
    struct transport *transport = &wire->session.transport;
    uint64_t bound = http1_wire_spliceable(&wire->stream);
    size_t got = 0;
    ASSERT(max > 0 && bound > 0);
    http1_wire_trim(wire);
    enum status status =
        transport->ops->splice_in(transport, pipe, max < bound ? max : (size_t)bound, &got);
    status = http1_wire_note_read(wire, status);
    status = http1_wire_judge_end(wire, status, truncated, reason);
    if (status != OK) {
        return status;
    }
    http1_wire_traffic(wire)->received += got;
    wire->stream.bytes_in += got;
    wire->in_spliced = true;
    if (wire->in_framing == FRAMING_LENGTH) {
        wire->in_remaining -= got;
        ASSERT(wire->in_remaining >= SPLICE_TAIL);
    }
    *size = got;
    return OK;
}

void http1_wire_drop_pipe(struct http1_wire *wire)
{
    if (wire->pipe != NULL) {
        pipe_pool_return(wire->session.context->pipes, wire->pipe);
        wire->pipe = NULL;
    }
}

struct io_pipe *http1_wire_open_pipe(struct stream *stream)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    struct pipe_pool *pipes = wire->session.context->pipes;
    ASSERT(stream->out_begun && !stream->out_ended);
    if (pipes == NULL || wire->session.transport.ops->splice_out == NULL ||
        wire->out_framing == FRAMING_CHUNKED || http1_wire_flush(stream) != OK) {
        return NULL; /* what stands before waits, or has failed, which shows again at once */
    }
    ASSERT(wire->pipe == NULL && stream->unsent == 0);
    wire->pipe = pipe_pool_lease(pipes);
    return wire->pipe;
}

enum status http1_wire_write_pipe(struct stream *stream)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    ASSERT(wire->pipe != NULL && wire->outbox.size == 0);
    uint64_t size = wire->pipe->size;
    if (wire->out_framing == FRAMING_LENGTH) {
        ASSERT(size <= wire->out_remaining);
        wire->out_remaining -= size;
    }
    stream->bytes_out += size;
    wire->session.context->spliced += size;
    return http1_wire_flush_pipe(wire) == ERROR ? ERROR : OK;
}

enum status http1_wire_flush_pipe(struct http1_wire *wire)
{
    struct transport *transport = &wire->session.transport;
    enum status status = wire->out_broken ? ERROR : OK;
    while (status == OK && wire->pipe->size > 0) {
        size_t put = 0;
        status = transport->ops->splice_out(transport, wire->pipe, &put);
        wire->stream.progress_out += put;
        http1_wire_traffic(wire)->sent += put;
    }
    http1_wire_update_unsent(wire);
    wire->out_broken |= status == ERROR;
    if (status != AGAIN) {
        http1_wire_drop_pipe(wire); /* empty, or nobody will ever take what is in it */
    }
    return status;
}
