/*
 * The seams: shapes that lanes, streams and sessions were cut for and no worker has yet, over
 * simulated sockets. In place of workers one small node stands between clients and origins. It
 * drives sessions as a worker does (run when ready, expire when due, then next_event until NONE)
 * and knows vtables only; what it does with a request is a story. Tasks hold streams, as exchanges
 * do. Sessions come from the heap one by one, so that a sanitizer sees who holds one for too long.
 */
#ifndef SENTINEL_TESTS_SIM_SEAM_H
#define SENTINEL_TESTS_SIM_SEAM_H

#include "http/http1_client.h"
#include "http/http1_session.h"
#include "world.h"

enum seam_socket_kind { SEAM_WIRE, SEAM_LISTENER, SEAM_CLIENT, SEAM_UPSTREAM };
enum seam_timer_kind { SEAM_TIMER_SESSION, SEAM_TIMER_TASK };

struct seam;

/* Something that is run in a turn of the node: the holder of streams. `run` may free it. */
struct seam_task {
    struct seam *seam;
    void (*run)(struct seam_task *task);
    void (*expire)(struct seam_task *task);
    struct list run_link;
    struct list wait_link; /* in the buffers' waiters */
    struct timer timer;
};

/* A socket of a task's own, beside those of its streams. */
struct seam_wire {
    struct wire wire;
    struct seam_task *task;
};

/* One story. A session that it creates is freed by the node: the session is its first member. */
struct seam_story {
    void (*begin)(struct seam *seam); /* the actors; may be NULL, as may end and is_finished */
    void (*end)(struct seam *seam);
    bool (*is_finished)(const struct seam *seam);
    struct session *(*session_create)(struct seam *seam);
    void (*session_start)(struct session *session);
    void (*head)(struct seam *seam, struct stream *stream); /* a request waits: hold the stream */
};

struct seam {
    struct world *world;
    const struct seam_story *story;
    struct seam_manners manners;
    void *actors; /* the story's */
    struct prng prng;
    struct io *io;
    struct io_socket listener;
    struct timer_wheel wheel;
    struct buffer_pool buffers;
    struct slab client_inboxes;
    struct slab upstream_inboxes;
    struct session_context sessions;
    struct list runnable;
    struct list clients; /* open sessions */
    struct list upstreams;
    struct list idle; /* upstream sessions, the one used last in front */
    struct seam_task drainer;
    struct seam_task neighbour; /* takes all buffers, now and then */
    struct list taken;
    uint64_t neighbour_leaves;
    uint32_t tasks;
};

/* The entry's address is world->entry. Stands for proxy_create in a world with a story. */
struct seam *seam_create(struct world *world, const struct seam_story *story);
void seam_destroy(struct seam *seam);
bool seam_is_finished(const struct seam *seam);

/* Once all is over: asserts that nothing is in use. */
void seam_check(const struct seam *seam);

void seam_task_init(struct seam_task *task, struct seam *seam);
void seam_task_deinit(struct seam_task *task);
void seam_wake(struct seam_task *task);
void seam_wait_for_buffers(struct seam_task *task);

/* Leases a connection to an origin, pooled or new, for the holder; NULL: it cannot be had. */
struct stream *seam_connect(struct seam *seam, const struct address *address,
                            struct seam_task *holder);

/* Whether the leased connection is connected: OK, AGAIN (under way) or ERROR. */
enum status seam_connected(struct stream *stream);

/* Gives a stream of either side back; its session may be gone afterwards. */
void seam_release(struct seam *seam, struct stream *stream, bool keep);

/* Clients of HTTP/1, as most stories have them. */
struct session *seam_http1_create(struct seam *seam);
void seam_http1_start(struct session *session);

/* Begins the exchange that all stories but the tunnel share: see seam_exchange.c. */
void seam_exchange_begin(struct seam *seam, struct stream *stream);

extern const struct seam_story seam_plain;     /* HTTP/1 clients and the scenario's origins */
extern const struct seam_story seam_holding;   /* the same, and an agent */
extern const struct seam_story seam_multiplex; /* many streams on one connection */
extern const struct seam_story seam_tunnel;

#endif
