/*
 * The one door to the outside for everything that carries traffic: sockets, clock, entropy. Two
 * backends implement it and one is linked: io_epoll.c (Linux) and io_sim.c (the simulator, with
 * virtual time and seeded faults). One struct io for each process, real or simulated.
 *
 * Readiness-shaped, try first. Each call returns at once: OK, AGAIN, END or ERROR; no read or write
 * is ever in flight. After AGAIN the backend remembers to tell: once the socket may make progress
 * it sets a sticky bit in `ready` and puts the socket on the ready queue. Where the bit still
 * stands, nobody has asked since, and nobody is told. It never calls up: the process's turn is
 *
 *     io_wait(io, until);                        one batch of events, bits set, sockets queued
 *     while ((socket = io_next_ready(io))) ...   each gets one quantum; who stops early requeues
 *     expired timers, accepts, frees             (readable sockets are served before timers expire)
 *
 * Sockets are registered once, edge-triggered, for both directions; nothing is re-armed per
 * request. Pipes are not registered at all: one that is empty, or not, is no reason to wait. All
 * times are microseconds.
 */
#ifndef SENTINEL_IO_IO_H
#define SENTINEL_IO_IO_H

#include <sys/uio.h>

#include "base/address.h"
#include "base/list.h"
#include "base/span.h"
#include "base/status.h"

struct io;

enum io_ready {
    IO_READABLE = 1,    /* a read may make progress */
    IO_WRITABLE = 2,    /* a write may make progress, or a connect has ended */
    IO_PEER_CLOSED = 4, /* the peer has sent its FIN; bytes may still wait before it */
    /*
     * The connection is over in both directions, or broken: bytes may still wait before the END or
     * ERROR. The kernel tells a reset once, to whichever call comes first.
     */
    IO_FAILED = 8,
};

/*
 * One socket, embedded in its owner, at a fixed address while open. The owner reads `ready` and
 * `error` and never writes any member; `kind` is the owner's own tag, given at open.
 */
struct io_socket {
    int fd;    /* -1: closed; an index in the simulator */
    int error; /* errno behind the last ERROR */
    uint8_t kind;
    uint8_t ready; /* sticky bits of enum io_ready */
    bool stream;   /* TCP: a short read means drained; on a Unix socket it does not */
    bool foreign;  /* the descriptor is not ours to close: listeners, channels */
    struct list ready_link;
};

/*
 * A kernel pipe through which bytes go from one socket to another without being copied to us.
 * Embedded in its owner, at a fixed address while open. The owner reads the members only.
 */
struct io_pipe {
    int in; /* where bytes are put in; -1: closed */
    int out;
    uint32_t capacity; /* bytes, about: the kernel counts pages */
    uint32_t size;     /* bytes in it */
};

/* Microseconds of a monotonic clock, read once a turn (in io_wait); never 0. */
uint64_t io_now(const struct io *io);

/* Microseconds since the Unix epoch, read once a turn. */
uint64_t io_wall(const struct io *io);

/* Fills with unpredictable bytes (seeded ones in the simulator). Cannot fail. */
void io_random(struct io *io, void *bytes, size_t size);

/*
 * Waits until something is ready, or the clock reaches `until` (UINT64_MAX: no limit), takes one
 * batch of events and refreshes the clock. Does not block while the ready queue is not empty or
 * `until` has passed. The simulator never blocks: it notes `until` and returns.
 */
void io_wait(struct io *io, uint64_t until);

/* Takes the next ready socket off the queue, or NULL. */
struct io_socket *io_next_ready(struct io *io);

/* Puts the socket (back) at the end of the ready queue; harmless when it is queued. */
void io_requeue(struct io *io, struct io_socket *socket);

/* Marks the socket as closed, before first use. */
void io_socket_init(struct io_socket *socket);

static inline bool io_is_open(const struct io_socket *socket)
{
    return socket->fd >= 0;
}

/*
 * Opens the socket over a listening descriptor that the process inherited (not owned: io_close
 * only unregisters it). Level-triggered, one of several sharers is woken. ERROR: see socket->error.
 */
NODISCARD enum status io_listen(struct io *io, struct io_socket *socket, int fd, uint8_t kind);

/* Stops or resumes taking connections from a listener; the sharers take them meanwhile. */
void io_listen_pause(struct io *io, struct io_socket *listener);
void io_listen_resume(struct io *io, struct io_socket *listener);

/*
 * Accepts one connection into `socket` (closed before). AGAIN: none waits. ERROR: out of
 * descriptors or memory (listener->error says which); the connection stays in the queue.
 * Connections that died in the queue are skipped. TCP_NODELAY is set.
 */
NODISCARD enum status io_accept(struct io *io, struct io_socket *listener, struct io_socket *socket,
                                uint8_t kind, struct address *peer);

/* The address at which the peer of an accepted connection reached us, or ADDRESS_NONE. */
void io_local(struct io *io, const struct io_socket *socket, struct address *address);

/*
 * How many bytes of what was written the peer's kernel has acknowledged: what moves while a slow
 * peer reads and there is no room yet. 0 of a Unix socket, and of one that has failed. A system
 * call.
 */
uint64_t io_acknowledged(struct io *io, const struct io_socket *socket);

/*
 * Begins a TCP connection. OK: connected at once. AGAIN: under way; when the socket becomes ready
 * ask io_connect_result. ERROR: socket->error; the socket is closed again.
 */
NODISCARD enum status io_connect(struct io *io, struct io_socket *socket,
                                 const struct address *address, uint8_t kind);

/*
 * As io_connect, to a Unix socket (the path as address_path_to_system wants it): it succeeds or
 * fails at once, with EAGAIN where the listener's queue is full.
 */
NODISCARD enum status io_connect_unix(struct io *io, struct io_socket *socket, struct span path,
                                      uint8_t kind);

/* How a connect ended: OK, AGAIN (still under way), or ERROR with socket->error (still open). */
NODISCARD enum status io_connect_result(struct io *io, struct io_socket *socket);

/*
 * Reads up to size (> 0) bytes. OK: *got is 1 to size. AGAIN: nothing now. END: the peer's FIN.
 * ERROR: socket->error. A short read clears IO_READABLE on TCP unless the peer has closed.
 */
NODISCARD enum status io_read(struct io *io, struct io_socket *socket, void *data, size_t size,
                              size_t *got);

/*
 * As io_read, but what is read stays there: the same bytes come again, and maybe more. The end is
 * told only when nothing stands before it.
 */
NODISCARD enum status io_peek(struct io *io, struct io_socket *socket, void *data, size_t size,
                              size_t *got);

/*
 * Writes from up to 16 pieces. OK: *put is at least 1, maybe less than all: then try again or, as
 * IO_WRITABLE is cleared on a short write, wait. AGAIN: nothing could be written. ERROR.
 */
NODISCARD enum status io_write(struct io *io, struct io_socket *socket, const struct iovec *pieces,
                               int count, size_t *put);

/* Opens a pipe of the size that pays, or of what this user may still have. ERROR: none to be had.
 */
NODISCARD enum status io_pipe_open(struct io *io, struct io_pipe *pipe);

/* Closes it; bytes in it are gone. Harmless when it is closed. */
void io_pipe_close(struct io *io, struct io_pipe *pipe);

/*
 * As io_read, into a pipe that must be empty: up to max (> 0) bytes, fewer when the pipe is full. A
 * short move says nothing about what is left to read.
 */
NODISCARD enum status io_splice_in(struct io *io, struct io_socket *socket, struct io_pipe *pipe,
                                   size_t max, size_t *got);

/*
 * As io_write, of what is in the pipe, which must not be empty. OK: *put is at least 1, maybe less
 * than all: then try again.
 */
NODISCARD enum status io_splice_out(struct io *io, struct io_socket *socket, struct io_pipe *pipe,
                                    size_t *put);

/* Sends a FIN after what was written. Reading goes on. */
void io_shutdown(struct io *io, struct io_socket *socket);

/* Closes; off the ready queue at once. Unread input makes the kernel send a reset. Harmless twice.
 */
void io_close(struct io *io, struct io_socket *socket);

/*
 * Closes with a reset: for truncation that the peer must be able to see. A Unix socket has none:
 * its peer sees an end, and what is framed shows as cut short all the same.
 */
void io_reset(struct io *io, struct io_socket *socket);

#endif
