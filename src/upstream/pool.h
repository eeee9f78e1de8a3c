/*
 * The worker's connections to endpoints. What is lent to an attempt is a stream of one: a
 * connection that carries one message at a time has one lease, a multiplexed one many; the pool
 * knows sessions and streams only, and which protocol to start. Connections are kept while idle and
 * bounded in number. When all are in use the caller waits in the pool's list; when all slots are
 * taken by idle connections to other endpoints, the one that idled longest is closed for the new
 * one.
 *
 *               connected                lease                  last lease returned
 *    dialing --------------> in use <----------- idle <------------------------------+
 *       |    first stream opened |                 | stale, timeout, slot wanted      |
 *       | refused                +-----------------+----------------------------------+
 *       v                        v broken, full    v
 *     closed                   closed            closed
 *
 * A multiplexed connection that is in use stands in its endpoint's list of shared ones, also while
 * it is being opened: then those who lease it wait for it, SHARED_WAITERS_MAX at most.
 */
#ifndef SENTINEL_UPSTREAM_POOL_H
#define SENTINEL_UPSTREAM_POOL_H

#include "http/dialing.h"
#include "http/http1_client.h"
#include "http/http2_client.h"
#include "observe/metrics.h"
#include "upstream/upstream.h"

enum {
    SHARED_WAITERS_MAX = 100, /* leases on a connection that is being opened */
    SHARED_LOOKS_MAX = 8,     /* shared connections asked for a stream before a new one is made */
};

/*
 * One connection. Its sessions stand at one address, one after the other, and share their struct
 * session; its link is in the endpoint's idle list, or in that of shared ones.
 */
struct pool_connection {
    union {
        struct session session;
        struct dialing dialing;
        struct http1_client http1;
        struct http2_session http2;
    };
    struct endpoint *endpoint;
    struct list age;      /* in pool.idle, while idle */
    struct list waiters;  /* of those whose lease waits for it to open */
    struct stream *first; /* the stream that came with the protocol's start, not yet taken */
    enum reason reason;   /* why it could not be opened */
    uint32_t leases;
    bool blamed; /* that it could not be had was counted against its endpoint */
    bool single; /* it began with a preface that says for whom it is: it ends with its one lease */
};

/* What an attempt has of a connection. */
struct pool_lease {
    struct pool_connection *connection; /* NULL: nothing is leased */
    struct stream *stream;              /* NULL until the connection is open */
    bool reused;                        /* it was open before this lease */
};

struct pool {
    struct session_context *context;
    struct slab connections;
    struct list idle;    /* by age: the longest idle first */
    struct list waiters; /* links of attempts that wait for a free slot, first come first served */
    struct metrics *metrics; /* borrowed: the pool publishes what it holds */
    /*
     * Starts an open connection's protocol: its first stream, or NULL and why in its `reason`.
     * Tests put another one here.
     */
    struct stream *(*start)(struct pool_connection *connection);
    int lease_error; /* errno behind the last ERROR of pool_lease; 0: what it says is its reason */
    enum reason lease_reason;
    enum tls_detail lease_detail; /* what TLS knows of it */
    uint32_t streams_free;        /* of shared connections, since the last pool_places */
    uint8_t socket_kind; /* of its connections' sockets and timers; set before the first lease */
    uint8_t timer_kind;
};

/* Room for `capacity` connections (at least 1). False with errno when memory is short. */
NODISCARD bool pool_init(struct pool *pool, struct session_context *context,
                         struct metrics *metrics, uint32_t capacity);

/* Closes idle connections; all leases must be back. */
void pool_deinit(struct pool *pool);

/*
 * Lends a stream to the endpoint: on an open connection unless `fresh`, else on one that may still
 * be opening, a new one or one that others wait for, when lease->stream is NULL (ask
 * pool_connected). A preface, where it is not empty, is what a new connection begins with, which is
 * for this lease alone and never kept. AGAIN: no slot is free. ERROR: the connect failed at once.
 */
NODISCARD enum status pool_lease(struct pool *pool, struct endpoint *endpoint, bool fresh,
                                 struct span preface, struct pool_lease *lease);

/*
 * Whether the lease has its stream: OK; AGAIN, the connection is being opened: wait in its list.
 * ERROR: it could not be, *reason. END: it is open and has no stream for this lease: return it, and
 * lease again.
 */
NODISCARD enum status pool_connected(struct pool_lease *lease, enum reason *reason);

/*
 * Takes SESSION_EVENT_OPEN of a connection: starts the protocol if it is open. Those in its list of
 * waiters are to be woken.
 */
void pool_open(struct pool *pool, struct pool_connection *connection);

/*
 * Gives a lease back, whatever it has, and empties it: the connection is kept for other requests
 * where `keep` is set and it is fit, or others hold leases on it; else it is closed.
 */
void pool_return(struct pool *pool, struct pool_lease *lease, bool keep);

/* How many of those who wait might find a place now. */
uint32_t pool_places(struct pool *pool);

/* Handles an idle connection that closed (SESSION_EVENT_CLOSED): its slot is free again. */
void pool_forget(struct pool *pool, struct pool_connection *connection);

/* Closes all idle connections. */
void pool_drain(struct pool *pool);

static inline struct pool_connection *pool_connection_of(struct session *session)
{
    return session->owner;
}

#endif
