#include "http/http1_wire.h"

#include "base/assert.h"
#include "http/http1_write.h"
#include "net/tls.h"

enum {
    /* Body pieces up to this size are gathered with what is pending; larger ones are sent at once.
     */
    COPY_MAX = 4096,
    CHUNK_OVERHEAD = HTTP1_CHUNK_HEADER_MAX + HTTP1_CHUNK_END_MAX,
};

void http1_wire_init(struct http1_wire *wire, const struct session_ops *ops)
{
    wire->session.ops = ops;
    wire->stream.session = &wire->session;
}

void http1_wire_close(struct http1_wire *wire, bool reset)
{
    struct session *session = &wire->session;
    if (wire->inbox != NULL) {
        slab_release(wire->inbox_slab, wire->inbox);
        wire->inbox = NULL;
    }
    byte_queue_clear(&wire->outbox, session->context->buffers);
    http1_wire_drop_pipe(wire);
    timer_cancel(session->context->wheel, &session->timer);
    if (reset) {
        session->transport.ops->reset(&session->transport);
    } else {
        session->transport.ops->close(&session->transport);
    }
    session->step = SESSION_CLOSED;
    wire->event_closed = true;
}

void http1_wire_consume(struct http1_wire *wire, size_t size)
{
    ASSERT(size <= wire->inbox_end - wire->inbox_start);
    wire->inbox_start += (uint32_t)size;
}

void http1_wire_trim(struct http1_wire *wire)
{
    if (wire->inbox != NULL && wire->inbox_start == wire->inbox_end) {
        slab_release(wire->inbox_slab, wire->inbox);
        wire->inbox = NULL;
    }
}

enum status http1_wire_note_read(struct http1_wire *wire, enum status status)
{
    if (status == END && wire->out_broken) {
        status = ERROR; /* the kernel tells a reset once, and told it to a write: this is no FIN */
    }
    wire->stream.in_begun |= status == OK;
    wire->in_ended_by_peer |= status == END;
    wire->in_broken |= status == ERROR;
    return status;
}

static enum status wire_read(struct http1_wire *wire, void *data, size_t size, size_t *got)
{
    struct transport *transport = &wire->session.transport;
    if (wire->in_broken || wire->in_ended_by_peer) {
        return wire->in_broken ? ERROR : END;
    }
    enum status status =
        http1_wire_note_read(wire, transport->ops->read(transport, data, size, got));
    if (status == OK) {
        http1_wire_traffic(wire)->received += *got;
    }
    return status;
}

enum status http1_wire_fill(struct http1_wire *wire)
{
    const uint32_t capacity = (uint32_t)wire->inbox_slab->object_size;
    if (wire->inbox == NULL) {
        bool over = wire->in_broken || wire->in_ended_by_peer;
        if (!over && !transport_may_read(&wire->session.transport)) {
            return AGAIN; /* where most reads on speculation end, so without a lease */
        }
        wire->inbox = slab_acquire(wire->inbox_slab);
        if (wire->inbox == NULL) { /* there is one for each session: this is a worker's last day */
            wire->in_broken = true;
            return ERROR;
        }
        wire->inbox_start = 0;
        wire->inbox_end = 0;
    }
    if (wire->inbox_start > 0 && wire->inbox_end == capacity) {
        memmove(wire->inbox, wire->inbox + wire->inbox_start, wire->inbox_end - wire->inbox_start);
        wire->inbox_end -= wire->inbox_start;
        wire->inbox_start = 0;
    }
    ASSERT(wire->inbox_end < capacity);
    size_t got = 0;
    enum status status =
        wire_read(wire, wire->inbox + wire->inbox_end, capacity - wire->inbox_end, &got);
    if (status == OK) {
        wire->inbox_end += (uint32_t)got;
    }
    http1_wire_trim(wire);
    return status;
}

bool http1_wire_begin_body(struct http1_wire *wire, enum http1_kind kind, enum framing framing,
                           uint64_t length, struct arena *arena)
{
    wire->in_framing = (uint8_t)framing;
    wire->in_remaining = framing == FRAMING_LENGTH ? length : 0;
    wire->stream.in_ended = framing == FRAMING_NONE || (framing == FRAMING_LENGTH && length == 0);
    wire->in_spliced = false;
    wire->chunked = NULL;
    if (framing == FRAMING_CHUNKED) {
        wire->chunked = arena_alloc(arena, sizeof(*wire->chunked));
        if (wire->chunked == NULL) {
            return false;
        }
        http1_chunked_init(wire->chunked, kind, arena);
    }
    return true;
}

/* How many bytes to read for a body at most: never far beyond its end, which the inbox must hold.
 */
static size_t body_read_size(const struct http1_wire *wire, size_t max)
{
    const size_t most = wire->session.context->scratch_size - 1;
    size_t size = max < most ? max : most;
    if (wire->in_framing == FRAMING_LENGTH && wire->in_remaining <= size) {
        /* One byte more from an upstream: short reads spare a call, surplus bytes show. */
        return (size_t)wire->in_remaining + (wire->upstream ? 1 : 0);
    }
    if (wire->in_framing == FRAMING_CHUNKED) {
        uint64_t beyond = wire->inbox_slab->object_size;
        if (wire->chunked->remaining < size - (beyond < size ? beyond : size)) {
            size = (size_t)(wire->chunked->remaining + beyond);
        }
    }
    return size;
}

/* Bytes behind the end of a body that was read into the scratch belong to the next message. */
static bool stash(struct http1_wire *wire, const uint8_t *bytes, size_t size)
{
    if (size == 0) {
        return true;
    }
    ASSERT(wire->inbox == NULL && size <= wire->inbox_slab->object_size);
    wire->inbox = slab_acquire(wire->inbox_slab);
    if (wire->inbox == NULL) {
        return false;
    }
    memcpy(wire->inbox, bytes, size);
    wire->inbox_start = 0;
    wire->inbox_end = (uint32_t)size;
    return true;
}

/* Raw bytes of the body: from the inbox while it has some, else from the transport. */
static enum status raw_bytes(struct http1_wire *wire, size_t max, uint8_t **data, size_t *size)
{
    http1_wire_trim(wire);
    if (wire->inbox != NULL) {
        size_t pending = wire->inbox_end - wire->inbox_start;
        size_t bound = wire->in_framing == FRAMING_LENGTH && wire->in_remaining < max
                           ? (size_t)wire->in_remaining
                           : max;
        *data = wire->inbox + wire->inbox_start;
        *size = pending < bound ? pending : bound;
        return OK;
    }
    *data = wire->session.context->scratch;
    return wire_read(wire, *data, body_read_size(wire, max), size);
}

static enum status decode(struct http1_wire *wire, uint8_t *data, size_t size, struct span *bytes,
                          enum reason *reason)
{
    struct http1_chunked_result result = {0};
    enum status status = http1_chunked_decode(wire->chunked, data, size, &result, reason);
    if (status == ERROR) {
        wire->in_broken = true; /* where the next message begins is unknown */
        return ERROR;
    }
    if (wire->inbox != NULL) {
        http1_wire_consume(wire, result.consumed);
    } else if (!stash(wire, data + result.consumed, size - result.consumed)) {
        wire->in_broken = true;
        *reason = REASON_BUFFERS_FULL;
        return ERROR;
    }
    wire->stream.in_ended = status == END;
    *bytes = result.body;
    return status;
}

static enum status read_chunked(struct http1_wire *wire, size_t max, struct span *bytes,
                                enum reason truncated, enum reason *reason)
{
    for (;;) {
        uint8_t *data = NULL;
        size_t size = 0;
        enum status status = raw_bytes(wire, max, &data, &size);
        if (status == END || status == ERROR) {
            *reason = truncated;
            return ERROR;
        }
        if (status == AGAIN) {
            return AGAIN;
        }
        status = decode(wire, data, size, bytes, reason);
        if (status == ERROR || bytes->size > 0) {
            return status == ERROR ? ERROR : OK;
        }
        if (status == END) {
            return END;
        }
    }
}

enum status http1_wire_judge_end(struct http1_wire *wire, enum status status, enum reason truncated,
                                 enum reason *reason)
{
    if (status == END && wire->in_framing == FRAMING_CLOSE) {
        wire->stream.in_ended = true;
        return END;
    }
    if (status == END || status == ERROR) {
        *reason = truncated;
        return ERROR;
    }
    return status;
}

static enum status read_plain(struct http1_wire *wire, size_t max, struct span *bytes,
                              enum reason truncated, enum reason *reason)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum status status = raw_bytes(wire, max, &data, &size);
    status = http1_wire_judge_end(wire, status, truncated, reason);
    if (status != OK) {
        return status;
    }
    if (wire->inbox != NULL) {
        http1_wire_consume(wire, size);
    }
    if (wire->in_framing == FRAMING_LENGTH) {
        if (size > wire->in_remaining) {
            size = (size_t)wire->in_remaining;
            wire->in_broken = true; /* whole, but nothing may follow on this connection */
        }
        wire->in_remaining -= size;
        wire->stream.in_ended = wire->in_remaining == 0;
    }
    *bytes = span_of(data, size);
    return OK;
}

enum status http1_wire_read_body(struct http1_wire *wire, size_t max, struct span *bytes,
                                 enum reason truncated, enum reason *reason)
{
    ASSERT(max > 0);
    if (wire->stream.in_ended) {
        return END;
    }
    struct span lent = SPAN_EMPTY;
    enum status status = wire->in_framing == FRAMING_CHUNKED
                             ? read_chunked(wire, max, &lent, truncated, reason)
                             : read_plain(wire, max, &lent, truncated, reason);
    if (status == OK) {
        ASSERT(lent.size > 0 && lent.size <= max);
        wire->stream.bytes_in += lent.size;
        *bytes = lent;
    }
    return status;
}

struct fields *http1_wire_trailers(struct stream *stream)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    ASSERT(stream->in_ended);
    return wire->chunked == NULL ? NULL : &wire->chunked->trailers;
}

void http1_wire_update_unsent(struct http1_wire *wire)
{
    wire->stream.unsent = wire->outbox.size + (wire->pipe == NULL ? 0 : wire->pipe->size);
}

/* While bytes are pending their departure wakes; behind an empty queue only the pool can. */
static void note_starved(struct http1_wire *wire, bool refused)
{
    wire->stream.starved = refused && wire->outbox.size == 0;
}

struct output http1_wire_begin_output(struct http1_wire *wire)
{
    return output_over(wire->session.context->render, wire->session.context->render_size);
}

bool http1_wire_commit_output(struct http1_wire *wire, const struct output *output)
{
    ASSERT(!output->overflowed);
    struct span bytes = output_bytes(output);
    ASSERT(wire->pipe == NULL); /* a head comes before a body, never behind one */
    bool queued = byte_queue_append(&wire->outbox, wire->session.context->buffers, bytes);
    note_starved(wire, !queued);
    http1_wire_update_unsent(wire);
    return queued;
}

void http1_wire_begin_out(struct http1_wire *wire, enum framing framing, uint64_t length)
{
    wire->out_framing = (uint8_t)framing;
    wire->out_remaining = framing == FRAMING_LENGTH ? length : 0;
    wire->stream.out_begun = true;
    wire->stream.out_ended = framing == FRAMING_NONE;
}

void http1_wire_begin_tunnel(struct http1_wire *wire)
{
    wire->tunnel = true;
    wire->in_framing = FRAMING_CLOSE;
    wire->in_remaining = 0;
    wire->chunked = NULL;
    wire->stream.in_ended = false;
    http1_wire_begin_out(wire, FRAMING_CLOSE, 0);
}

size_t http1_wire_room(struct stream *stream)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    if (wire->pipe != NULL) {
        stream->starved = false; /* its departure wakes */
        return 0;
    }
    size_t room = byte_queue_room(&wire->outbox, wire->session.context->buffers);
    if (wire->out_framing == FRAMING_CHUNKED) {
        room = room > CHUNK_OVERHEAD + HTTP1_LAST_CHUNK_MAX
                   ? room - CHUNK_OVERHEAD - HTTP1_LAST_CHUNK_MAX
                   : 0;
    }
    note_starved(wire, room == 0);
    return room;
}

/* Sends the pending bytes and then the given pieces; *put counts all of them. */
static enum status send_pieces(struct http1_wire *wire, const struct span *pieces, int count,
                               size_t *put)
{
    struct transport *transport = &wire->session.transport;
    struct span queued[BYTE_QUEUE_BUFFERS_MAX];
    struct iovec vector[BYTE_QUEUE_BUFFERS_MAX + 3];
    int used = 0;
    int queued_count = byte_queue_pieces(&wire->outbox, queued);
    for (int i = 0; i < queued_count + count; i++) {
        struct span piece = i < queued_count ? queued[i] : pieces[i - queued_count];
        if (piece.size > 0) {
            vector[used].iov_base = (void *)(uintptr_t)piece.data; /* only read */
            vector[used].iov_len = piece.size;
            used++;
        }
    }
    if (used == 0 || wire->out_broken) {
        *put = 0;
        return wire->out_broken ? ERROR : OK;
    }
    enum status status = transport->ops->write(transport, vector, used, put);
    wire->out_broken |= status == ERROR;
    if (status == OK) {
        http1_wire_traffic(wire)->sent += *put;
    }
    return status;
}

/* Drops `put` sent bytes from the queue and the pieces, and queues what remains of the pieces. */
static bool keep_rest(struct http1_wire *wire, struct span *pieces, int count, size_t put)
{
    struct buffer_pool *pool = wire->session.context->buffers;
    size_t from_queue = put < wire->outbox.size ? put : wire->outbox.size;
    byte_queue_consume(&wire->outbox, pool, from_queue);
    wire->stream.progress_out += put;
    put -= from_queue;
    for (int i = 0; i < count; i++) {
        size_t sent = put < pieces[i].size ? put : pieces[i].size;
        put -= sent;
        if (!byte_queue_append(&wire->outbox, pool, span_from(pieces[i], sent))) {
            return false;
        }
    }
    ASSERT(put == 0);
    return true;
}

/*
 * The caller asked for room, and it is gone all the same: the message cannot be saved. Nothing of
 * the network will say so, hence whoever waits for the peer is woken by our own hand.
 */
static enum status give_up(struct http1_wire *wire)
{
    wire->out_broken = true;
    wire->in_broken = true;
    io_requeue(wire->session.context->io, &wire->session.transport.socket);
    return ERROR;
}

static enum status emit(struct http1_wire *wire, struct span *pieces, int count, size_t size)
{
    size_t put = 0;
    if (size > COPY_MAX) {
        enum status status = send_pieces(wire, pieces, count, &put);
        if (status == ERROR) {
            return ERROR;
        }
        put = status == OK ? put : 0;
    }
    bool kept = keep_rest(wire, pieces, count, put);
    http1_wire_update_unsent(wire);
    return kept ? OK : give_up(wire);
}

enum status http1_wire_write_body(struct stream *stream, struct span bytes)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    ASSERT(stream->out_begun && !stream->out_ended);
    ASSERT(bytes.size > 0 && bytes.size <= http1_wire_room(stream));
    if (wire->out_framing == FRAMING_LENGTH) {
        ASSERT(bytes.size <= wire->out_remaining);
        wire->out_remaining -= bytes.size;
    }
    stream->bytes_out += bytes.size;
    if (wire->out_framing != FRAMING_CHUNKED) {
        return emit(wire, &bytes, 1, bytes.size);
    }
    uint8_t header[HTTP1_CHUNK_HEADER_MAX];
    struct output output = output_over(header, sizeof(header));
    bool fits = http1_write_chunk_header(&output, bytes.size);
    ASSERT(fits);
    struct span pieces[3] = {output_bytes(&output), bytes, SPAN("\r\n")};
    return emit(wire, pieces, 3, bytes.size);
}

enum status http1_wire_write_end(struct stream *stream, const struct fields *trailers)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    ASSERT(stream->out_begun && !stream->out_ended);
    ASSERT(wire->out_framing != FRAMING_LENGTH || wire->out_remaining == 0);
    if (wire->out_framing == FRAMING_CHUNKED) {
        struct output output = http1_wire_begin_output(wire);
        bool fits = http1_write_last_chunk(&output, trailers);
        ASSERT(fits); /* trailers are bounded far below the place for rendering */
        if (!http1_wire_commit_output(wire, &output)) {
            return AGAIN;
        }
    }
    stream->out_ended = true;
    /* By TLS an end that is none is a cut. Without it the close that follows is as good. */
    bool told_by_end = wire->out_framing == FRAMING_CLOSE && tls_is_on(&wire->session.transport);
    wire->fin_due = wire->tunnel || told_by_end;
    return OK;
}

enum status http1_wire_flush(struct stream *stream)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    while (wire->outbox.size > 0) {
        size_t put = 0;
        enum status status = send_pieces(wire, NULL, 0, &put);
        if (status != OK) {
            return status;
        }
        bool kept = keep_rest(wire, NULL, 0, put);
        ASSERT(kept);
        http1_wire_update_unsent(wire);
    }
    if (wire->pipe != NULL) {
        enum status status = http1_wire_flush_pipe(wire);
        if (status != OK) {
            return status;
        }
    }
    if (wire->fin_due && !wire->out_broken) {
        if (wire->session.transport.ops->shutdown(&wire->session.transport) == AGAIN) {
            return AGAIN; /* who waits for what was written waits for this, too */
        }
        wire->fin_due = false;
    }
    return wire->out_broken ? ERROR : OK;
}

bool http1_wire_is_broken(struct stream *stream)
{
    const struct http1_wire *wire = http1_wire_of_stream(stream);
    return wire->out_broken || transport_has_failed(&wire->session.transport);
}

bool http1_wire_is_unwritten(struct stream *stream)
{
    return stream->progress_out == 0;
}

uint64_t http1_wire_acknowledged(struct stream *stream)
{
    const struct transport *transport = &stream->session->transport;
    return io_acknowledged(transport->io, &transport->socket);
}

enum session_event http1_wire_next_event(struct session *session, struct stream **stream)
{
    struct http1_wire *wire = http1_wire_of_session(session);
    *stream = &wire->stream;
    if (wire->event_head) {
        wire->event_head = false;
        return SESSION_EVENT_HEAD;
    }
    if (wire->event_wake) {
        wire->event_wake = false;
        return SESSION_EVENT_WAKE;
    }
    if (wire->event_closed) {
        wire->event_closed = false;
        return SESSION_EVENT_CLOSED;
    }
    return SESSION_EVENT_NONE;
}
