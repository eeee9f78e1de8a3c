/*
 * The simulator: the second backend of io.h. Many processes ("nodes", each a struct io), one
 * network, one virtual clock, one seed. The same seed gives the same run, byte for byte; the trace
 * hash proves it. Used by tests only; it allocates as it likes and asserts every misuse of io.h.
 *
 * What it models of Linux: edges (a bit is set in io_wait, once for what happened since the last
 * AGAIN or short transfer), level-triggered shared listeners with a bounded backlog, send and
 * receive space that back-pressures, data and FIN in one event, a reset that discards what was not
 * yet read, a close with unread input that resets, and the reset that answers data sent to a closed
 * socket. What it adds: seeded delay, segment sizes, short writes, late and spurious readiness,
 * failing calls, broken and stalled connections, jumps of the wall clock.
 *
 * Buffers and segments of a connection may start as small as one byte and grow with the bytes
 * carried, as TCP tunes itself; so any body passes in a bounded number of events.
 */
#ifndef SENTINEL_IO_SIM_H
#define SENTINEL_IO_SIM_H

#include <stdio.h>

#include "base/prng.h"
#include "io/io.h"

struct sim;

/*
 * Draws from a seeded sequence, for the simulator and for actors, which keep a generator of their
 * own so that one actor's habits do not disturb another's.
 */
/* Uniform in [low, high]. */
uint64_t sim_between(struct prng *prng, uint64_t low, uint64_t high);
/* In [low, high], small magnitudes as likely as large ones; low > 0. */
uint64_t sim_magnitude(struct prng *prng, uint64_t low, uint64_t high);
/* True in `permille` of 1,000 cases. */
bool sim_chance(struct prng *prng, uint32_t permille);

/* All chances in thousandths, times in microseconds, sizes in bytes. */
struct sim_options {
    FILE *trace; /* borrowed; every event as one line; NULL: none */

    uint64_t delay_min; /* one way, drawn once a connection and direction */
    uint64_t delay_max;
    uint32_t buffer_min;  /* capacity of one direction at its start, drawn by magnitude */
    uint32_t buffer_max;  /* at most SIM_BUFFER_MAX */
    uint32_t segment_min; /* largest segment at the start, drawn by magnitude */
    uint32_t slow_link;   /* chance, a direction: 1 to 64 KiB/s */

    uint32_t split;         /* chance, a piece sent at once: arrives as two or more */
    uint32_t short_write;   /* chance, a write: takes less than there is room for */
    uint32_t late_writable; /* chance, a wake-up: up to 20 ms late */
    uint32_t spurious;      /* chance, a turn: a socket gets a bit without cause */
    uint32_t fin_alone;     /* chance, a FIN: not merged with the data before it */
    uint32_t pipe_error;    /* chance, a pipe: not to be had; a fifth of the others are small */
    uint32_t short_splice;  /* chance, a move through a pipe: less than there is */
    uint32_t call_error;    /* chance, a read or write: ENOBUFS, connection gone */

    uint32_t connect_error;     /* chance, a connect: fails at once (EMFILE, EADDRNOTAVAIL...) */
    uint32_t connect_refused;   /* chance, a connect: ECONNREFUSED though somebody listens */
    uint32_t connect_blackhole; /* chance, a connect: never ends (ETIMEDOUT after 127 s) */
    uint32_t connect_instant;   /* chance, a connect: returns OK at once */
    uint32_t accept_error;      /* chance, an accept: EMFILE, ENFILE, ENOBUFS */
    uint32_t reset;             /* chance, a connection: the network resets it at some point */
    uint32_t stall;             /* chance, a connection: from some point on nothing arrives */
    uint64_t trouble_within;    /* reset and stall strike within this time of the connect */

    uint32_t backlog;    /* of each listener; 0: 128 */
    uint32_t clock_jump; /* chance, a second of virtual time: the wall clock leaps */

    /* Asked at each call that could fail now (by name); true: it fails. NULL: nobody to ask. */
    bool (*fault)(const char *call);
    int fault_error; /* what a connect or an accept that fails says; 0: drawn */
};

enum {
    SIM_BUFFER_MAX = 256 * 1024,
    SIM_NODES_MAX = 64,
    SIM_LISTENERS_MAX = 32,
    SIM_FD_LISTENER = 1000000, /* descriptors of listeners start here */
};

/* A quiet network: 50 to 500 us, 64 to 256 KiB, no faults. Scenarios change what they want. */
struct sim_options sim_options_quiet(void);

/* Never NULL. Options are copied. */
NODISCARD struct sim *sim_create(uint64_t seed, const struct sim_options *options);

/*
 * Drops everything at once, at any time outside a turn, without touching the nodes' io_sockets.
 * Owners that close their sockets in their own destroy must do so before. Accepts NULL.
 */
void sim_destroy(struct sim *sim);

/* A process. At most SIM_NODES_MAX. Its host is 10.0.0.N, N counting from 1; the name (borrowed) is
 * for the trace. */
NODISCARD struct io *sim_node_create(struct sim *sim, const char *name);

/* From now on the node is scheduled: `turn` must call io_wait once. NULL: never again. */
void sim_node_run(struct io *io, void (*turn)(void *context), void *context);

/* Changes the host from which the node's connects come. The port is ignored. */
void sim_node_set_host(struct io *io, const struct address *host);

/*
 * Kills the process: its sockets are closed as the kernel would (fd becomes -1, so that the owner
 * may be destroyed afterwards) and count as failed, its turn never runs again. Not from its own
 * turn.
 */
void sim_node_kill(struct io *io);

/* Open sockets of the node, listeners excluded. */
uint32_t sim_node_sockets(const struct io *io);

/* Open pipes of the node. */
uint32_t sim_node_pipes(const struct io *io);

/* Whether the network has silently lost this connection: its owner cannot know. */
bool sim_socket_is_stalled(const struct io *io, const struct io_socket *socket);

/* A listening descriptor for io_listen, on any number of nodes. Addresses are never reused. */
NODISCARD int sim_listen(struct sim *sim, const struct address *address);

/* Closes it for good: what waits in the backlog is reset, later connects are refused. */
void sim_listener_close(struct sim *sim, int fd);

/*
 * Runs one turn of a node that has something to do, or advances the clock to the next event.
 * False when neither is possible: nothing will ever happen again.
 */
bool sim_step(struct sim *sim);

/* Steps until the clock reaches `until` or nothing can happen. False: more than steps_max steps. */
NODISCARD bool sim_run(struct sim *sim, uint64_t until, uint64_t steps_max);

/* The virtual clock, as io_now. */
uint64_t sim_now(const struct sim *sim);

/* Turns and events since the start. */
uint64_t sim_steps(const struct sim *sim);

/* Folds all that happened into one number. */
uint64_t sim_trace_hash(const struct sim *sim);

/* A line of an actor in the trace; costs nothing when there is none. */
void sim_note(struct io *io, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
