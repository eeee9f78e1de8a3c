/*
 * One message exchange on one connection, as seen by the proxy: the third of the three small
 * vtables (transport, session, stream). An HTTP/1 session has one stream at a time, an HTTP/2
 * session many; whoever holds a stream does not know which. Each side of an exchange holds one: the
 * client's (we read a request and write a response) and the upstream's (the other way round).
 *
 * Incoming bytes are pulled: read_body lends bytes that are valid until the next read of any stream
 * of the worker; writing them to another stream, and flushing that, leaves them alone. Outgoing
 * bytes are offered: ask room first, then the stream takes all of what it is given, so that nobody
 * else ever has to keep a remainder. flush hands to the kernel what is pending; every run ends with
 * it.
 *
 * A stream never calls its holder. When it can make progress again the session reports an event
 * (http/session.h) that names it, and the worker runs the holder. One wait is not the session's to
 * end: where no room, or AGAIN from a write, is for want of buffers while nothing is pending, the
 * stream is `starved`, and its holder waits in the pool's list. A stream that waits for a window of
 * its peer's is not.
 */
#ifndef SENTINEL_HTTP_STREAM_H
#define SENTINEL_HTTP_STREAM_H

#include "http/message.h"

struct io_pipe;
struct session;
struct stream;

/*
 * A switch of protocols, asked for or granted (RFC 9110, 7.8). How that is said is the session's
 * matter: HTTP/1.1 upgrades, HTTP/2 has extended CONNECT (RFC 8441), which grants it by a 2xx and
 * has no key. A peer's word for it is read as status 101 with FRAMING_TUNNEL in either case; from
 * there on both directions of the stream are bytes, and the end of one is no end of the other.
 */
struct switching {
    struct span protocol; /* a token */
    struct span key;      /* Sec-WebSocket-Key, or in an answer Sec-WebSocket-Accept; empty: none */
};

/* A response head as we send it; fields are end-to-end ones, framing is ours to choose. */
struct response_message {
    uint16_t status;
    const struct fields *fields;
    enum framing framing;    /* CHUNKED stands for "length unknown", however that is coded */
    uint64_t content_length; /* with FRAMING_LENGTH */
    bool head_only;          /* nothing follows the head (HEAD, 204, 304), whatever the framing */
    bool trailers; /* they may follow a body of known length, too, where that can be said */
    bool close;    /* the connection is not to be kept after this message */
    const struct switching *switching; /* with status 101 and FRAMING_TUNNEL, else NULL */
};

/* A request head as we send it. */
struct request_message {
    struct span method;
    struct span path;
    struct span query; /* NULL data: none */
    struct span host;
    const struct fields *fields;
    enum framing framing; /* NONE, LENGTH, CHUNKED, or TUNNEL for what asks to switch */
    uint64_t content_length;
    const struct switching *switching; /* with FRAMING_TUNNEL, else NULL */
};

struct stream_ops {
    /*
     * The incoming head, parsed into the arena: the request on the client's side, the response (to
     * a request with this method) on the upstream's. AGAIN: not complete. ERROR: *reason. After an
     * interim response (1xx) call again for the next head.
     */
    enum status (*read_request)(struct stream *stream, struct arena *arena,
                                struct request_head *head, enum reason *reason);
    enum status (*read_response)(struct stream *stream, struct arena *arena, enum method method,
                                 struct response_head *head, enum reason *reason);

    /*
     * Lends 1 to max bytes of the incoming body (max > 0). END: the body is complete and was
     * whole; ERROR: it was not, *reason says why. The first call on a request that expects it, and
     * nothing else, sends 100 Continue.
     */
    enum status (*read_body)(struct stream *stream, size_t max, struct span *bytes,
                             enum reason *reason);

    /*
     * Optional: whether no byte of the body is left, so that read_body has but its end to tell.
     * That can be passed on where no byte could be.
     */
    bool (*is_at_end)(struct stream *stream);

    /*
     * Optional, both or none: where nobody needs to see the bytes they may go through a pipe
     * instead. How many of the coming body bytes could do so now, 0 while read_body is the better
     * way; and read_body's contract, its OK meaning that *size (1 to max) bytes went into the
     * pipe, which was empty.
     */
    uint64_t (*spliceable)(struct stream *stream);
    enum status (*splice_body)(struct stream *stream, struct io_pipe *pipe, size_t max,
                               size_t *size, enum reason *reason);

    /*
     * The incoming trailer section, after END, until the release; NULL or no entries when there is
     * none. The caller may leave entries out.
     */
    struct fields *(*trailers)(struct stream *stream);

    /*
     * Queues the outgoing head. AGAIN: no buffer now, wait in the pool's list. ERROR: it is larger
     * than any head that can be sent; nothing was queued and another head may be written instead.
     */
    enum status (*write_request)(struct stream *stream, const struct request_message *message);
    enum status (*write_response)(struct stream *stream, const struct response_message *message);

    /* How many body bytes write_body can take now. */
    size_t (*room)(struct stream *stream);

    /* Takes all bytes (1 to room). ERROR: the connection is broken. */
    enum status (*write_body)(struct stream *stream, struct span bytes);

    /*
     * Optional, both or none: an empty pipe for body bytes, or NULL while they must be written;
     * whoever got one calls write_pipe next, which takes what was put into it (maybe nothing) as
     * write_body takes bytes. The pipe is the stream's own and may be gone afterwards.
     */
    struct io_pipe *(*open_pipe)(struct stream *stream);
    enum status (*write_pipe)(struct stream *stream);

    /* Ends the outgoing message, once. AGAIN: no buffer now. trailers may be NULL. */
    enum status (*write_end)(struct stream *stream, const struct fields *trailers);

    /*
     * Sends what is pending. OK: all of it left; AGAIN: the rest waits for the peer, which may be
     * what TLS has to say of the end where nothing else tells it, with nothing `unsent`; ERROR.
     */
    enum status (*flush)(struct stream *stream);

    /* Whether the connection is known to be broken: nobody is there any more. */
    bool (*is_broken)(struct stream *stream);

    /* Whether the kernel has taken no byte of the outgoing message: its peer cannot know of it. */
    bool (*is_unwritten)(struct stream *stream);

    /*
     * While the stream waits for its connection: a number that grows as the peer takes bytes, its
     * own or others', although there is no room yet. 0 while it waits for a window of its peer's.
     */
    uint64_t (*acknowledged)(struct stream *stream);

    /*
     * Gives the stream back; the holder forgets it. What follows for the connection is the
     * session's matter: kept when `keep` is set and both messages are whole, else closed, so that a
     * message that was begun and not ended shows as cut short (by a reset if nothing else does).
     */
    void (*release)(struct stream *stream, bool keep);
};

struct stream {
    const struct stream_ops *ops;
    struct session *session; /* the connection it is on */
    void *holder;            /* the worker's: the exchange; NULL while free */
    uint64_t began;          /* when the incoming message's first byte came, client's side */
    uint64_t bytes_in;       /* body bytes lent so far */
    uint64_t bytes_out;      /* body bytes taken so far */
    uint64_t unsent;         /* bytes taken that the kernel does not have yet, framing included */
    uint64_t progress_out;   /* bytes the kernel has taken, framing included */
    bool in_begun;           /* at least one byte of the incoming message has come */
    bool in_ended;           /* read_body has returned END, or there was no body */
    bool out_begun;          /* an outgoing final head was written */
    bool closing;            /* the response said that the connection will close */
    bool out_ended;          /* write_end, or a head without body */
    bool starved;            /* room or a write said no for want of buffers: see above */
    bool unprocessed;        /* an upstream's: it has not looked at the request, and says so */
    uint16_t failure;        /* enum reason: why it broke, if not by its peer's going; else NONE */
};

#endif
