/*
 * The admin HTTP listener: GET and HEAD of /metrics, /health and /ready over HTTP/1.1. It runs in
 * the controller process, on a socket that the supervisor bound, and knows nothing of what it shows
 * but through admin_source. A request whose Host (or Origin) is foreign is refused with 403, so
 * that a web page in somebody's browser cannot read it by way of DNS.
 *
 * The control socket is a second one, on a Unix socket: who may open its file may ask, whatever the
 * Host, and GET /recent is answered there alone.
 *
 *     HEAD --answer--> WRITE --kept alive--> HEAD
 *      |                 |
 *      |                 +--to be closed--> LINGER --> closed
 *      +--deadline, end of input--> closed
 *
 * Bounds: ADMIN_CONNECTIONS_MAX connections; before the last place is taken, the one that is idle
 * for longest is closed, else the one that lingers, sends its head or takes no bytes for longest,
 * and where all are being answered no more are accepted. ADMIN_HEAD_MAX bytes of head; request
 * bodies are not read; ADMIN_DEADLINE for each state, and for any progress in writing;
 * ADMIN_ANSWER_DEADLINE for an answer, however it progresses. An answer is produced in chunks of at
 * most ADMIN_CHUNK_MAX bytes, as fast as the client takes them. Without descriptors or memory to
 * accept with, clients wait in the queue, and it is tried again after ADMIN_ACCEPT_AGAIN.
 */
#ifndef SENTINEL_CONTROL_ADMIN_H
#define SENTINEL_CONTROL_ADMIN_H

#include "base/timer_wheel.h"
#include "control/metrics_text.h"
#include "control/recent.h"
#include "io/io.h"

enum {
    ADMIN_CONNECTIONS_MAX = 32,
    ADMIN_HEAD_MAX = 8192,
    ADMIN_CHUNK_MAX = METRICS_TEXT_PIECE_MAX,
};

/* Microseconds. */
#define ADMIN_DEADLINE UINT64_C(5000000)         /* of a head, of progress in writing */
#define ADMIN_STALL UINT64_C(1000000)            /* without progress: may be closed for another */
#define ADMIN_ANSWER_DEADLINE UINT64_C(30000000) /* of a whole answer */
#define ADMIN_ACCEPT_AGAIN UINT64_C(100000)      /* after one that failed for want of something */

/* Why /ready says no; all false: ready. */
struct admin_unready {
    bool workers;       /* not all workers have been up yet, or none is */
    bool health_checks; /* some endpoint was never checked */
    bool draining;
};

/* What there is to show. Borrowed; asked anew for each request. */
struct admin_source {
    const struct metrics_source *metrics;
    struct admin_unready (*unready)(const void *context);
    const void *context;
    const struct recent_source *recent; /* the control socket's; NULL: this is the admin listener */
};

struct admin_options {
    struct io *io;
    struct timer_wheel *wheel;
    const struct generation *generation;
    int listener;          /* descriptor, not owned */
    uint8_t kind_listener; /* of the listening socket */
    uint8_t kind;          /* of connections and their timers */
    struct admin_source source;
    void (*on_trouble)(void *context, int error); /* told when none can be accepted; NULL: nobody */
    void *trouble_context;
};

static_assert((int)RECENT_PIECE_MAX <= (int)ADMIN_CHUNK_MAX, "a piece fits into a chunk");

struct admin;

/* Bytes that an admin listener allocates. */
uint64_t admin_bytes(void);

/* NULL with errno when memory or the listener cannot be had. */
NODISCARD struct admin *admin_create(const struct admin_options *options);

/* How many connections are open, of ADMIN_CONNECTIONS_MAX. */
uint32_t admin_connections(const struct admin *admin);

/* Closes all connections. Accepts NULL. */
void admin_destroy(struct admin *admin);

/* The listener, a connection, or a connection's timer wants attention. */
void admin_on_listener(struct admin *admin);
void admin_on_ready(struct admin *admin, struct io_socket *socket);
void admin_on_timer(struct admin *admin, struct timer *timer);

#endif
