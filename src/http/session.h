/*
 * One connection of either side, whatever protocol it speaks. The session owns the transport, what
 * has arrived and is not yet a message, what waits to be sent, and the connection's own timers. It
 * lives in the worker and is driven by it: run when its socket is ready, expire when its timer is
 * due, then next_event until NONE. It never calls up. A session with many streams may have
 * something to say of one when another was called: then it queues its socket (io_requeue), which
 * brings its run.
 *
 *             first byte       head complete          stream released
 *    IDLE ---------------> HEAD ------------> BUSY ------------------+--> IDLE (kept)
 *     |                     |                                        |
 *     | idle timeout, FIN   | refused, timeout: BUSY with a reason   +--> LINGER --> CLOSED
 *     v                     v                                        +--> CLOSED
 *   CLOSED                CLOSED
 */
#ifndef SENTINEL_HTTP_SESSION_H
#define SENTINEL_HTTP_SESSION_H

#include "base/buffer.h"
#include "base/timer_wheel.h"
#include "http/http1_parse.h"
#include "http/stream.h"
#include "net/pipe_pool.h"
#include "net/tls_detail.h"
#include "net/transport.h"

struct http2_context;

enum session_step {
    SESSION_PREFACE,   /* client: nothing has come yet that tells what is spoken (opening.h) */
    SESSION_HANDSHAKE, /* TLS is under way */
    SESSION_CONNECT,   /* upstream: the connect is under way */
    SESSION_IDLE,      /* between messages; holds no buffer */
    SESSION_HEAD,      /* client: a head has begun */
    SESSION_BUSY,      /* a stream is held */
    SESSION_LINGER,    /* we sent our FIN and discard what still comes, for a while */
    SESSION_CLOSED,    /* over; the worker takes the memory back */
};

enum session_event {
    SESSION_EVENT_NONE,
    SESSION_EVENT_OPEN,   /* what comes before a protocol has ended: open, or CLOSED; or HTTP/2
                             begins on a client's connection that began as HTTP/1 */
    SESSION_EVENT_HEAD,   /* a request waits in the stream: give it a holder */
    SESSION_EVENT_WAKE,   /* the stream's holder may make progress */
    SESSION_EVENT_CLOSED, /* the session is CLOSED and no stream is held: nothing follows */
};

struct session;

/*
 * What arrived before it was known which session is to read it, in an inbox of the connection's
 * side, which goes to the session that starts.
 */
struct session_early {
    uint8_t *inbox; /* NULL: nothing */
    uint32_t start;
    uint32_t end;
};

struct session_ops {
    void (*run)(struct session *session);
    void (*expire)(struct session *session); /* its timer is due */
    enum session_event (*next_event)(struct session *session, struct stream **stream);

    /*
     * A client's, while it is new, IDLE or in HEAD: an exchange is to say why it is refused,
     * without a request; where nothing can be said it closes.
     */
    void (*refuse)(struct session *session, enum reason reason);

    /*
     * Upstreams only: a stream for another request, which its user releases. NULL: none now. An
     * IDLE session that says so has gone stale and is to be killed; one that is BUSY is full, or
     * takes no more. After a release the step says what became of the session, and no event does.
     */
    struct stream *(*open_stream)(struct session *session);
    bool multiplexed; /* upstreams: open_stream may have another stream while BUSY */

    /* No further message: idle ones close at once, busy ones after the current message. */
    void (*drain)(struct session *session);

    /* Ends it now, whatever it does. Its streams were released before. */
    void (*kill)(struct session *session);
};

/* Timers and limits of sessions, microseconds; the same for all sessions of one worker. */
struct session_limits {
    struct http1_limits head;
    uint64_t proxy_header_timeout;
    uint64_t tls_handshake_timeout;
    uint64_t request_head_timeout;
    uint64_t keep_alive_timeout; /* of clients */
    uint64_t upstream_keep_alive_timeout;
    uint64_t upstream_ping_timeout;
    uint64_t linger_timeout;
    uint64_t linger_bytes_max;
    uint32_t requests_max; /* on one connection */
};

/* Bytes on the wire since the worker began. */
struct session_traffic {
    uint64_t received;
    uint64_t sent;
};

/* The handshakes of clients; see opening.h. */
struct openings {
    struct list waiters;  /* who has something to say and finds no room */
    uint32_t open;        /* handshakes under way */
    uint32_t room;        /* how many there may be: the worker's to say */
    bool short_of_memory; /* no new ones: the worker's to say, too */
    uint32_t steps;       /* that may be taken in this turn */
    struct {
        const void *opening; /* whose: NULL, or gone since */
        struct span version; /* a constant */
        uint8_t name_size;
        uint8_t name[255];
    } failed;      /* what was known of the one that failed last */
    uint64_t full; /* handshakes that succeeded; counted like the traffic */
    uint64_t resumed;
};

/* What all sessions of one worker share; owned by the worker. */
struct session_context {
    struct io *io;
    struct timer_wheel *wheel;
    struct buffer_pool *buffers;
    struct pipe_pool *pipes;       /* NULL: bodies are always copied */
    struct slab *client_inboxes;   /* one for each client session at most */
    struct slab *upstream_inboxes; /* one for each upstream session at most */
    uint8_t *scratch;              /* one large read at a time */
    size_t scratch_size;
    uint8_t *render;             /* one head at a time is rendered here, then queued */
    size_t render_size;          /* at most BYTE_QUEUE_MAX */
    struct http2_context *http2; /* NULL: not spoken here */
    struct session_limits limits;
    struct openings openings;
    struct session_traffic clients;
    struct session_traffic upstreams;
    uint64_t spliced; /* body bytes that went through pipes; counted like the traffic */
    bool draining;
    bool crowded;            /* a bound is near: do not keep connections */
    uint64_t crowded_closes; /* answers that closed one for that reason */
};

/*
 * What all kinds of session have in common, and begin with: a connection may change from one kind
 * to another (proxy/connection.h), and its socket must not move.
 */
struct session {
    const struct session_ops *ops;
    struct session_context *context;
    struct transport transport;
    struct timer timer;
    struct list link; /* in the list of its owner */
    void *owner;      /* what the worker or the pool keeps about this connection */
    enum session_step step;
    enum reason failure;    /* why it failed where no stream's holder can say so; else NONE */
    enum tls_detail detail; /* what TLS knows of why it failed, or was refused */
};

/*
 * Prepares the common part, CLOSED and with a closed transport of plain TCP. Then the socket is
 * opened, and a session of some kind started over it.
 */
void session_init(struct session *session, struct session_context *context, uint8_t timer_kind);

/*
 * Whether the peer has broken TLS off with an alert before it sent any data (tls_was_refused): then
 * the session's detail says which.
 */
NODISCARD bool session_was_refused(struct session *session);

/* Makes all else zero in a session of a kind that takes so many bytes. */
void session_clear_rest(struct session *session, size_t size);

#endif
