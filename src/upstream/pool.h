/*
 * The worker's connections to endpoints: lent to attempts, kept while idle, bounded in number. When
 * all are in use the caller waits in the pool's list; when all slots are taken by idle connections
 * to other endpoints, the one that idled longest is closed for the new one.
 */
#ifndef SENTINEL_UPSTREAM_POOL_H
#define SENTINEL_UPSTREAM_POOL_H

#include "http/http1_client.h"
#include "observe/metrics.h"
#include "upstream/upstream.h"

struct pool_connection {
    struct http1_client client; /* its session's link is in the endpoint's idle list */
    struct endpoint *endpoint;
    struct list age; /* in pool.idle, while idle */
    bool reused;     /* this lease found it connected */
};

struct pool {
    struct session_context *context;
    struct slab connections;
    struct list idle;    /* by age: the longest idle first */
    struct list waiters; /* links of attempts that wait for a free slot, first come first served */
    struct metrics *metrics; /* borrowed: the pool publishes what it holds */
    int lease_error;         /* errno behind the last ERROR of pool_lease */
    uint8_t socket_kind; /* of its connections' sockets and timers; set before the first lease */
    uint8_t timer_kind;
};

/* Room for `capacity` connections (at least 1). False with errno when memory is short. */
NODISCARD bool pool_init(struct pool *pool, struct session_context *context,
                         struct metrics *metrics, uint32_t capacity);

/* Closes idle connections; all leases must be back. */
void pool_deinit(struct pool *pool);

/*
 * Lends a connection to the endpoint: an idle one unless `fresh`, else a new one that may still be
 * connecting (ask http1_client_connected). AGAIN: no slot is free. ERROR: the connect failed at
 * once.
 */
NODISCARD enum status pool_lease(struct pool *pool, struct endpoint *endpoint, bool fresh,
                                 struct pool_connection **connection);

/* The stream of a lease, and whether it is connected: OK, AGAIN (under way) or ERROR. */
static inline struct stream *pool_stream(struct pool_connection *connection)
{
    return &connection->client.wire.stream;
}

NODISCARD static inline enum status pool_connected(const struct pool_connection *connection)
{
    return http1_client_connected(&connection->client);
}

/* Gives a lease back: kept for another request where `keep` is set and it is fit, else closed. */
void pool_return(struct pool *pool, struct pool_connection *connection, bool keep);

/* Handles an idle connection that closed (SESSION_EVENT_CLOSED): its slot is free again. */
void pool_forget(struct pool *pool, struct pool_connection *connection);

/* Closes all idle connections. */
void pool_drain(struct pool *pool);

static inline struct pool_connection *pool_connection_of(struct session *session)
{
    return session->owner;
}

#endif
