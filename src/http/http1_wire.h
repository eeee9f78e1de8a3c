/*
 * What both kinds of HTTP/1 session have in common: the bytes of one connection. Incoming: an inbox
 * for heads and what arrived behind them, leased only while it holds bytes, and the body decoder.
 * Outgoing: a queue of pending bytes and the body's framing. Knows nothing of requests, responses
 * or timers.
 */
#ifndef SENTINEL_HTTP_HTTP1_WIRE_H
#define SENTINEL_HTTP_HTTP1_WIRE_H

#include "base/output.h"
#include "http/http1_chunked.h"
#include "http/session.h"

struct http1_wire {
    struct session session;
    struct stream stream;
    struct slab *inbox_slab;
    uint8_t *inbox; /* NULL while nothing is held */
    uint32_t inbox_start;
    uint32_t inbox_end;
    struct byte_queue outbox;
    struct io_pipe *pipe; /* what goes out behind the outbox; NULL: nothing */
    struct http1_scan scan;
    struct http1_chunked *chunked; /* in the exchange's arena, while a chunked body comes in */
    uint64_t in_remaining;         /* FRAMING_LENGTH: bytes still to come */
    uint64_t out_remaining;        /* FRAMING_LENGTH: bytes still to be written */
    uint8_t in_framing;
    uint8_t out_framing;
    bool upstream;         /* the peer answers: bytes behind its message are an error */
    bool in_spliced;       /* some of this body has come through a pipe */
    bool tunnel;           /* bytes both ways since http1_wire_begin_tunnel */
    bool fin_due;          /* our end is to be told when all before it has left */
    bool in_ended_by_peer; /* the transport said END */
    bool in_broken;        /* nothing more can be read */
    bool out_broken;       /* nothing more can be written; an answer may still be read */
    bool event_head;
    bool event_wake;
    bool event_closed;
};

/* The counters of the connection's side. */
static inline struct session_traffic *http1_wire_traffic(const struct http1_wire *wire)
{
    struct session_context *context = wire->session.context;
    return wire->upstream ? &context->upstreams : &context->clients;
}

/* Behind the session, which is prepared, all is zero (session_clear_rest). */
void http1_wire_init(struct http1_wire *wire, const struct session_ops *ops);

/* Gives back all buffers and closes; `reset` shows the peer that something is missing. */
void http1_wire_close(struct http1_wire *wire, bool reset);

/* The unread bytes of the inbox. */
static inline struct span http1_wire_pending(const struct http1_wire *wire)
{
    return wire->inbox == NULL
               ? SPAN_EMPTY
               : span_of(wire->inbox + wire->inbox_start, wire->inbox_end - wire->inbox_start);
}

/*
 * Remembers what the transport said to a read, so that it is asked no more after its end, and
 * returns what that means.
 */
enum status http1_wire_note_read(struct http1_wire *wire, enum status status);

/*
 * What a read says of a body that is not chunked: the peer's end is the body's where nothing else
 * tells it (RFC 9112, 6.3), else, as a failure does, it cuts the body short: ERROR with the reason
 * `truncated`. OK and AGAIN stay as they are.
 */
NODISCARD enum status http1_wire_judge_end(struct http1_wire *wire, enum status status,
                                           enum reason truncated, enum reason *reason);

/* Marks size pending bytes as used. */
void http1_wire_consume(struct http1_wire *wire, size_t size);

/* Gives an empty inbox back. */
void http1_wire_trim(struct http1_wire *wire);

/*
 * Reads once into the inbox. OK: something came. AGAIN, END, ERROR: as the transport said. The
 * inbox must have room, which a scan within its limits guarantees.
 */
NODISCARD enum status http1_wire_fill(struct http1_wire *wire);

/*
 * Begins an incoming body of a message of this kind. The arena holds the decoder of a chunked one.
 * False when the arena is full.
 */
NODISCARD bool http1_wire_begin_body(struct http1_wire *wire, enum http1_kind kind,
                                     enum framing framing, uint64_t length, struct arena *arena);

/* stream_ops.read_body; `truncated` is the reason when the peer ends or breaks too early. */
NODISCARD enum status http1_wire_read_body(struct http1_wire *wire, size_t max, struct span *bytes,
                                           enum reason truncated, enum reason *reason);

/* stream_ops.spliceable and splice_body, as above. http1_splice.c */
uint64_t http1_wire_spliceable(struct stream *stream);
NODISCARD enum status http1_wire_splice_body(struct http1_wire *wire, struct io_pipe *pipe,
                                             size_t max, size_t *size, enum reason truncated,
                                             enum reason *reason);

/* stream_ops.open_pipe and write_pipe. */
struct io_pipe *http1_wire_open_pipe(struct stream *stream);
enum status http1_wire_write_pipe(struct stream *stream);

/* Sends what is in the pipe. OK: nothing is left, and the pipe has been given back. */
enum status http1_wire_flush_pipe(struct http1_wire *wire);

/* Gives the pipe back, whatever is in it. */
void http1_wire_drop_pipe(struct http1_wire *wire);

/* Somewhere to render a head or trailers, and queueing it; false when no buffer is free. */
struct output http1_wire_begin_output(struct http1_wire *wire);
NODISCARD bool http1_wire_commit_output(struct http1_wire *wire, const struct output *output);

/* Counts what waits to be sent, after any change of it. */
void http1_wire_update_unsent(struct http1_wire *wire);

/* Sets how the body behind the head just rendered is framed; NONE ends the message. */
void http1_wire_begin_out(struct http1_wire *wire, enum framing framing, uint64_t length);

/*
 * The message is over, and bytes of another protocol go both ways until each side has ended its own
 * (write_end then sends a FIN). What has come early is the first of them.
 */
void http1_wire_begin_tunnel(struct http1_wire *wire);

/* The shared implementations of the stream's outgoing half. */
size_t http1_wire_room(struct stream *stream);
enum status http1_wire_write_body(struct stream *stream, struct span bytes);
enum status http1_wire_write_end(struct stream *stream, const struct fields *trailers);
enum status http1_wire_flush(struct stream *stream);
struct fields *http1_wire_trailers(struct stream *stream);
bool http1_wire_is_broken(struct stream *stream);
bool http1_wire_is_unwritten(struct stream *stream);
uint64_t http1_wire_acknowledged(struct stream *stream);

static inline struct http1_wire *http1_wire_of_stream(struct stream *stream)
{
    return CONTAINER_OF(stream, struct http1_wire, stream);
}

static inline struct http1_wire *http1_wire_of_session(struct session *session)
{
    return CONTAINER_OF(session, struct http1_wire, session);
}

/* Takes one pending event, the same for both kinds. */
enum session_event http1_wire_next_event(struct session *session, struct stream **stream);

#endif
