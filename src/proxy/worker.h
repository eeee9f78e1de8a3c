/*
 * The dataplane of one process: listeners, sessions, exchanges, upstream pools, timers. It is one
 * thread, holds all its state in one context, and reaches the outside through io.h only, so that
 * the simulator can run many. Everything is allocated at creation, sized from the generation.
 */
#ifndef SENTINEL_PROXY_WORKER_H
#define SENTINEL_PROXY_WORKER_H

#include "config/generation.h"
#include "io/io.h"
#include "proxy/client_board.h"

struct access_log;
struct secrets;
struct ticket_keys;
struct flight_recorder;
struct health_view;
struct metrics;
struct worker;

/* The io_socket.kind of sockets that are not the worker's: see worker_options.on_foreign. */
enum { WORKER_SOCKET_FOREIGN = 4, WORKER_ERROR_MAX = 256 };

struct worker_options {
    struct io *io;
    const struct generation *generation; /* borrowed, mapped for the worker's whole life */
    const int *listeners;                /* one descriptor for each of the generation's listeners */
    struct metrics *metrics;             /* borrowed: the cells of this worker's segment */
    struct access_log *access_log;       /* borrowed: the writing end of its ring */
    struct flight_recorder *flight;      /* borrowed: says what the worker does */
    const struct health_view *health;    /* borrowed: what the controller says of endpoints */
    const struct secrets *secrets;       /* borrowed while it is created: keys of certificates */
    const struct ticket_keys *tickets;   /* borrowed; NULL: no TLS session is resumed */
    char *error;                         /* borrowed; NULL, or WORKER_ERROR_MAX bytes: what else is
                                            to be said where worker_create fails */
    void *board;                         /* borrowed: see client_counts_init */
    void *commons;                       /* borrowed: see commons_init */
    struct hash_key client_key;          /* the same in all workers */
    struct client_peers peers;           /* the other workers' boards */
    uint32_t index;                      /* which worker this is, from 0 */

    /* Called in a turn for each ready socket of kind WORKER_SOCKET_FOREIGN; may be NULL. */
    void (*on_foreign)(void *context, struct io_socket *socket);
    void *foreign_context;
};

/* Bytes of a worker's own context with so many listeners: a row of the plan (worker_plan.h). */
size_t worker_context_bytes(uint32_t listeners);

/* NULL when memory or listeners cannot be had; errno tells. */
NODISCARD struct worker *worker_create(const struct worker_options *options);

/* Ends everything at once: open connections are closed. Accepts NULL. */
void worker_destroy(struct worker *worker);

/*
 * One turn: waits at most until the next deadline (not at all in the simulator), serves what is
 * ready, runs exchanges, fires due timers.
 */
void worker_turn(struct worker *worker);

/*
 * Tries to accept although nothing was told: the kernel wakes one worker for each new connection,
 * and that one may have died, or hang. Harmless at any time; a worker that is short of descriptors
 * or drains does nothing.
 */
void worker_try_accept(struct worker *worker);

/*
 * Begins the drain: what waits in the accept queues is taken once, listeners are closed, idle
 * connections too, running exchanges finish and their connections close. After the generation's
 * shutdown timeout what remains is aborted.
 */
void worker_drain(struct worker *worker);

/* True once a drain has nothing left. */
bool worker_is_drained(const struct worker *worker);

/* Asserts that nothing is in use: for tests, when no connection is open. Idle pools may be kept. */
void worker_check_idle(const struct worker *worker);

#endif
