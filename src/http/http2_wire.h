/*
 * What both kinds of HTTP/2 session have in common: one connection with many streams (RFC 9113).
 * nghttp2 is the codec and nothing more: its callbacks (http2_codec.c) only note what came, in the
 * streams and in the list of events; no holder of a stream runs inside one.
 *
 *   in    the transport is read into the worker's scratch and fed to the codec in slices. Body
 *         bytes stay in chunks of the connection's own memory, bounded by the windows that we
 *         granted, until their stream's holder reads them; only then a window opens again.
 *   out   one queue of buffers for all streams. The codec is asked for more only while the queue
 *         takes it; one piece that it does not take waits in `pending`, in the codec's own memory,
 *         and while one does nothing is read. Body bytes become frames at once, for room() looks at
 *         queue and windows before: small ones in the queue, where those of several streams leave
 *         with one call (http2_wire_flush); many go to the transport as they stand, and only what
 *         it does not take is copied (http2_frames.h).
 *
 * Many streams share one connection, and its window, on which one that is not read must not stand:
 * the connection's window opens as bytes come (http2_wire_take_in), while there is memory for it,
 * a stream's only as they are read.
 *
 * All memory is leased while the protocol is spoken: this struct, the codec's and the streams' from
 * one account (http2_memory.h), buffers only while bytes wait in them. A session is CLOSED for its
 * owner only when no stream is held any more; a stream that its peer resets stays held, and counted
 * against the limit of streams, until its holder has let go: what it did upstream has ended then.
 */
#ifndef SENTINEL_HTTP_HTTP2_WIRE_H
#define SENTINEL_HTTP_HTTP2_WIRE_H

#include "http/http2_budget.h"
#include "http/http2_context.h"
#include "http/http2_frames.h"
#include "http/http2_head.h"
#include "http/session.h"

/* Bytes of a body that have come and were not read yet. */
struct http2_chunk {
    struct http2_chunk *next;
    uint32_t offset;
    uint32_t size;
    uint8_t bytes[];
};

/* An interim head that a later one has overtaken before it was read. */
struct http2_interim {
    struct http2_interim *next;
    struct http2_section head;
};

enum { HTTP2_INTERIMS_MAX = 16 }; /* of one stream: more are dropped, which hints may be */

/* What a stream's holder was told to wait for. */
enum http2_wait {
    HTTP2_WAITS_ROOM = 1,     /* for data */
    HTTP2_WAITS_HEAD = 2,     /* for a head or trailers, which have no window */
    HTTP2_WAITS_SENT = 4,     /* for its last byte to leave */
    HTTP2_WAITS_SETTINGS = 8, /* for the peer's first ones */
};

struct http2_stream {
    struct stream stream;
    struct list link;         /* in the wire's streams */
    struct list event_link;   /* in the wire's events, while it has one */
    struct list sending_link; /* in the wire's sending, while bytes of it are queued */
    struct list waiting_link; /* in the wire's waiting, while `waits` is not 0 */
    int32_t id;
    uint8_t waits;                 /* bits of enum http2_wait */
    uint32_t needs;                /* HTTP2_WAITS_HEAD: so many bytes of room */
    struct http2_interim *interim; /* heads before this one, in their order */
    struct http2_section head;     /* until the holder has read it */
    struct http2_section trailer;  /* the trailer section */
    struct fields trailers;        /* in it, once the body's end was read */
    struct http2_chunk *first;
    struct http2_chunk *last;
    struct span offered;    /* what write_body is about to put into frames */
    uint64_t out_start;     /* the wire's count before the first byte of this stream */
    uint64_t out_mark;      /* and behind the last */
    uint64_t out_total;     /* bytes ever queued for it, framing included */
    uint64_t out_remaining; /* FRAMING_LENGTH: bytes still to be written */
    uint64_t in_remaining;  /* the same of the incoming body */
    enum reason refusal;    /* why the head is no message */
    uint32_t error_code;    /* with which its peer reset it */
    uint8_t out_framing;
    bool in_length;        /* in_remaining counts */
    bool head_complete;    /* of the current head, interim ones included */
    bool final_head;       /* what comes next are trailers */
    bool expects_continue; /* 100 Continue is due at the first pull of the body */
    bool peer_ended;       /* END_STREAM has come */
    bool end_sent;         /* ours went into the queue */
    bool end_apart;        /* it does not come with the last byte of a known length */
    bool closed;           /* the codec does not know it any more */
    bool whole;            /* both messages were complete when it was closed */
    bool broken;           /* it can neither be read nor written, but for what has come */
    bool announced;        /* it has a holder, or will when its event was taken */
    bool bodyless;         /* the head ended the stream */
    bool read;             /* its head was read: somebody may act on it */
    bool event_head;
    bool event_wake;
};

struct http2_session;
struct http2_wire;

/* What the two kinds of session do differently when something has come. */
struct http2_role {
    /* A request's head begins: its stream, or NULL when it is refused (and reset). */
    struct http2_stream *(*begin_stream)(struct http2_wire *wire, int32_t id);
    /* A head is complete, or refused. */
    void (*head_came)(struct http2_wire *wire, struct http2_stream *stream);
};

struct http2_wire {
    struct session *session;
    const struct http2_role *role;
    struct http2_account account;
    nghttp2_session *codec;
    struct http2_budget budget;
    struct list streams; /* all, also those whose head is not complete */
    struct list events;
    struct list sending; /* by out_mark */
    struct list waiting;
    struct byte_queue outbox;
    struct span pending;         /* the codec's next piece, which found no room */
    struct http2_frames *frames; /* while a body is written: what has not left yet; else NULL */
    uint64_t out_count;          /* bytes ever queued */
    uint64_t out_sent;
    struct http2_chunk *lent;   /* goes back at the next read */
    uint64_t unread;            /* bytes in the chunks of all streams */
    uint64_t owed;              /* of them, those that the connection's window waits for */
    uint64_t unread_max;        /* above it that window opens only as bytes are read */
    struct http2_stream *heads; /* whose head is coming in; NULL: none */
    int32_t last_id;            /* of the streams that the peer began */
    uint32_t held;              /* streams announced or held */
    uint32_t submitted;         /* to an upstream: requests that the codec has not closed */
    uint32_t whole; /* of those held, which are through for the peer; their holders run soon */
    uint32_t streams_total; /* announced so far */
    uint64_t head_deadline; /* microseconds; UINT64_MAX while there is none, like the others */
    uint64_t idle_deadline;
    uint64_t goaway_deadline; /* when the second GOAWAY is due at the latest */
    uint64_t output_deadline; /* of what is left to be sent when all is said */
    uint64_t retry;           /* when to try again to queue what found no buffer */
    uint64_t ping_deadline;   /* to an upstream: of the silence, or of the answer to a PING */
    uint64_t ping_wait;       /* how long it may be silent: longer each time that it answers */
    uint64_t heard;           /* when a byte came last */
    enum reason failure;      /* why the connection failed as a whole; REASON_NONE: it did not */
    uint32_t settings_seen;
    uint32_t pings;     /* of ours that were not answered yet */
    bool settings_came; /* the peer's first SETTINGS, whole */
    bool client;        /* we are: the peer is an upstream */
    bool pinged;        /* nothing has come since our PING */
    bool in_ended;      /* the peer has sent its FIN */
    bool refused;       /* by an alert of TLS in place of the first frame */
    bool dead;          /* nothing can be read or written any more */
    bool muted;         /* the codec has said its last: only the queue is still sent */
    bool held_back;     /* there may be something to read that had to wait */
    bool running;       /* events are taken soon */
    bool windows_moved; /* in this run: who waits for one may go on */
    bool draining;      /* no further stream is wanted: a first GOAWAY said so, or will */
    bool noticed;       /* it did */
    bool goaway_sent;   /* and the last one: with the last stream, or one that gives up */
    bool cut;           /* we gave a stream up while its frames were waiting in the queue */
    bool goaway_received;
};

/* The session in its place, of either kind; small, since every connection has room for one. */
struct http2_session {
    struct session session;
    struct http2_wire *wire; /* NULL once it lingers, or is closed, and no stream is held */
    uint64_t linger_left;    /* bytes to be discarded at most */
    bool fin_due;            /* it lingers, and has not yet said that no more comes */
    bool event_closed;
};

static inline struct http2_session *http2_session_of(struct session *session)
{
    return CONTAINER_OF(session, struct http2_session, session);
}

static inline struct http2_wire *http2_wire_of(struct session *session)
{
    return http2_session_of(session)->wire;
}

static inline struct http2_stream *http2_stream_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct http2_stream, stream);
}

static inline struct http2_wire *http2_wire_of_stream(const struct http2_stream *stream)
{
    return http2_wire_of(stream->stream.session);
}

/* ---- The connection (http2_wire.c) ---- */

/* Leases the memory and starts the codec. False: there is none. */
NODISCARD bool http2_wire_open(struct http2_session *session, const struct http2_role *role,
                               bool client);

/* Gives the memory back of a session that holds no stream; its transport stays as it is. */
void http2_wire_drop(struct http2_session *session);

/*
 * Closes the transport, breaks all streams and, as soon as none is held, gives the memory back. The
 * session is CLOSED.
 */
void http2_wire_close(struct http2_session *session, bool reset);

/* One stream fewer is held; the wire is gone with the last one of a closed session. */
void http2_wire_release(struct http2_wire *wire);

/* Feeds bytes to the codec. What they do shows in the wire. */
void http2_wire_feed(struct http2_wire *wire, struct span bytes);

/* Reads once. OK: there may be more. AGAIN, END, ERROR: as the transport said, or dead. */
NODISCARD enum status http2_wire_receive(struct http2_wire *wire);

/* Queues what the codec has to say. False: something is left that found no room. */
bool http2_wire_pump(struct http2_wire *wire);

/* Pumps and sends as much as goes. False: the connection is dead. */
bool http2_wire_send(struct http2_wire *wire);

/*
 * The same, now or, where other streams are held that may soon have something to say, in the next
 * run of the session: one call, and one record of TLS, then carries what many have said in a turn.
 */
bool http2_wire_flush(struct http2_wire *wire);

/* Whether so many bytes more are better sent as they stand than gathered in the queue. */
bool http2_wire_is_worth_sending(const struct http2_wire *wire, size_t size);

/*
 * Puts one frame of data behind all else: into the queue, or to `frames`, which borrow the bytes.
 * False: no room, nothing is changed.
 */
NODISCARD bool http2_wire_put_data(struct http2_wire *wire, const uint8_t *header,
                                   struct span bytes);

/* Sends queue and frames, and queues what did not leave of these. False: the connection is dead. */
bool http2_wire_send_frames(struct http2_wire *wire);

/* How many body bytes the queue takes now, frame headers aside. */
size_t http2_wire_room(const struct http2_wire *wire);

/* Whether so many bytes find room, the buffers that are kept for heads included. */
bool http2_wire_takes(const struct http2_wire *wire, size_t size);

/* So many bytes of a body came and are kept; so many of them are kept no longer. */
void http2_wire_take_in(struct http2_wire *wire, size_t size);
void http2_wire_let_go(struct http2_wire *wire, size_t size);

/* Whoever waits for room, a window or a departure and need not any more is woken. */
void http2_wire_wake_waiting(struct http2_wire *wire);

/* Whether nothing is left to be sent. */
bool http2_wire_is_flushed(const struct http2_wire *wire);

/* Sends a PING. */
void http2_wire_ping(struct http2_wire *wire);

/* Asks for a run of the session. */
void http2_wire_requeue(struct http2_wire *wire);

/* Nothing can be read or written any more; the next run closes. */
void http2_wire_die(struct http2_wire *wire);

/* Charges a glitch; an overdrawn budget ends the connection (RFC 9113, ENHANCE_YOUR_CALM). */
void http2_wire_charge(struct http2_wire *wire, enum http2_glitch kind);

/* Ends the connection with a GOAWAY of this code; all streams are broken. */
void http2_wire_terminate(struct http2_wire *wire, uint32_t code, enum reason why);

/* No stream makes progress any more: all are broken and their holders woken. */
void http2_wire_break_streams(struct http2_wire *wire);

/* Sets the session's timer to the earliest of its deadlines. */
void http2_wire_arm(struct http2_wire *wire);

enum session_event http2_wire_next_event(struct session *session, struct stream **stream);

/* ---- Streams (http2_stream.c) ---- */

/* A new stream in the wire's list; NULL: no memory for it. */
struct http2_stream *http2_stream_create(struct http2_wire *wire, const struct stream_ops *ops);

/* Gives back a stream and what it holds. The wire, too, when it was the last of a closed one. */
void http2_stream_destroy(struct http2_stream *stream);

/* From here on it is held, by whoever takes the event (head) or made it. */
void http2_stream_announce(struct http2_stream *stream, bool head);

/* Notes an event for the holder. */
void http2_stream_wake(struct http2_stream *stream);

/* Resets it with a code of RFC 9113, 7, and counts that. The codec then forgets it. */
void http2_stream_reset(struct http2_stream *stream, uint32_t code);

/* Keeps body bytes; returns how many. Fewer than all: no memory. */
NODISCARD size_t http2_stream_store(struct http2_stream *stream, struct span bytes);

/* Another head begins: one that is complete and was not read stands before it. */
void http2_stream_begin_head(struct http2_stream *stream);

/* The first of those that stand before the current head was read. */
void http2_stream_drop_interim(struct http2_stream *stream);

/* It can neither be read nor written any more, but for what has come. */
void http2_stream_break(struct http2_stream *stream);

/* stream_ops.read_body; `truncated` is the reason when its peer ended too early. */
NODISCARD enum status http2_stream_read(struct http2_stream *stream, size_t max, struct span *bytes,
                                        enum reason truncated, enum reason *reason);

/* Whether the queue takes a head of this weight now; else what the holder is to wait for is noted.
 */
NODISCARD bool http2_stream_takes_head(struct http2_stream *stream, size_t weight);

/* Its holder is woken when the peer has said what it takes. */
void http2_stream_wait_for_settings(struct http2_stream *stream);

/* Whether what it waits for has come. */
bool http2_stream_may_go_on(const struct http2_stream *stream);

/* Counts what has left of a stream that has bytes queued. */
void http2_stream_note_sent(struct http2_stream *stream);

/* Counts what was queued since `before` (the wire's out_count) as this stream's. */
void http2_stream_note_queued(struct http2_stream *stream, uint64_t before);

/* After the outgoing head: how the body is framed; NONE ends the message. */
void http2_stream_begin_out(struct http2_stream *stream, enum framing framing, uint64_t length);

/* The provider of a stream's body for the codec. */
nghttp2_data_provider http2_stream_provider(struct http2_stream *stream);

/* The shared implementations of stream_ops. */
bool http2_stream_is_at_end(struct stream *stream);
struct fields *http2_stream_trailers(struct stream *stream);
size_t http2_stream_room(struct stream *base);
enum status http2_stream_write_body(struct stream *base, struct span bytes);
enum status http2_stream_write_end(struct stream *base, const struct fields *trailers);
enum status http2_stream_flush(struct stream *base);
bool http2_stream_is_broken(struct stream *base);
bool http2_stream_is_unwritten(struct stream *base);
uint64_t http2_stream_acknowledged(struct stream *base);

#endif
