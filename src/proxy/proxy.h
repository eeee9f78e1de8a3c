/*
 * What the parts of one worker share: the dataplane's context, and the worker's
 * services to exchanges (waking, waiting, the date). Private to src/proxy.
 */
#ifndef SENTINEL_PROXY_PROXY_H
#define SENTINEL_PROXY_PROXY_H

#include "base/buffer.h"
#include "base/hash.h"
#include "base/hold.h"
#include "base/prng.h"
#include "http/http2_context.h"
#include "observe/access_log.h"
#include "observe/flight_recorder.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "observe/rate_table.h"
#include "observe/request_id.h"
#include "proxy/client_board.h"
#include "proxy/connection.h"
#include "proxy/limits.h"
#include "proxy/shedding.h"
#include "proxy/tls_setup.h"
#include "upstream/pool.h"

/* What a ready socket belongs to (io_socket.kind). */
enum socket_kind { SOCKET_LISTENER = 1, SOCKET_CLIENT, SOCKET_UPSTREAM, SOCKET_FOREIGN };

/* What a due timer belongs to (timer.kind). */
enum timer_kind { TIMER_SESSION = 1, TIMER_EXCHANGE };

enum {
    SCRATCH_SIZE = 256 * 1024, /* one read */
    DATE_SIZE = 29,            /* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7) */
};

struct exchange;

struct proxy {
    struct io *io;
    const struct generation *generation;
    struct metrics *metrics;
    struct access_log *access_log;
    struct flight_recorder *flight;
    const struct health_view *health;
    struct prng prng;
    struct timer_wheel wheel;
    struct buffer_pool buffers;
    struct hold_pool holds; /* bodies that routes buffer; without memory where none does */
    struct pipe_pool pipes;
    struct slab client_inboxes;
    struct slab upstream_inboxes;
    struct slab connections;
    struct slab exchanges;
    struct arena draft; /* fields of the message that is being forwarded: until the next one */
    struct http2_context http2;
    struct session_context sessions;
    struct tls_setup tls;
    struct pool pool;
    struct upstream_set upstreams;
    struct client_counts clients;
    struct commons commons;
    struct rate_table rates;
    struct shedding shedding;
    struct limits limits;
    struct list runnable;           /* exchanges to run in this turn */
    struct list open_connections;   /* links of sessions */
    uint32_t connections_max;       /* of all workers together */
    uint32_t connections_share;     /* this worker's: above it others take the new ones */
    uint32_t connections_room;      /* what this worker can hold: see worker_plan.h */
    uint64_t connections_elsewhere; /* the other workers', as of the last accept or look */
    uint32_t requests_max;          /* of all workers together */
    uint32_t requests_share;        /* this worker's: so many it admits without asking */
    uint32_t requests_place;        /* what this worker has room for: somewhat more */
    uint32_t requests_open;         /* those that count */
    uint32_t handshakes_place;      /* what this worker has room for */
    uint32_t tunnels_place;         /* the same */
    uint32_t tunnels_of_client;     /* of which one client may have so many */
    uint32_t tunnels_open;          /* requests that switch protocols, or have */
    struct list tunnels;            /* these */
    uint64_t date_second;
    uint8_t date[DATE_SIZE];
    size_t arena_size;          /* of one exchange */
    uint32_t buffers_published; /* what the gauges show */
    uint64_t held_published;    /* what the counters have of the hold pool's */
    uint64_t shorts_published;
    uint32_t pipes_published;
    uint32_t http2_sessions_published;
    uint32_t http2_streams_published;
    bool draining;
};

/* The date field's value of this second; borrowed until the next call. */
struct span proxy_date(struct proxy *proxy);

/* A slot or buffers came free: whoever waits first runs again. */
void proxy_wake_waiters(struct proxy *proxy);

#endif
