/*
 * The worker's kernel pipes for bodies that no one needs to look at (io_splice_in). A pipe is lent
 * only while a body is moving or bytes are stuck in it; when none is free, or the system has none
 * to give, bodies are copied. A pipe that comes back with bytes in it is closed: what one exchange
 * left behind must never reach another. Bounds: `capacity` pipes, two descriptors each; empty ones
 * are kept open, and hold no memory to speak of.
 */
#ifndef SENTINEL_NET_PIPE_POOL_H
#define SENTINEL_NET_PIPE_POOL_H

#include "io/io.h"

struct pipe_slot;

struct pipe_pool {
    struct io *io;
    struct pipe_slot *slots; /* owned */
    struct list idle;        /* open and empty: the last used first */
    struct list closed;
    uint32_t capacity;
    uint32_t in_use;
    uint64_t retry_at; /* the system had none: not asked again before */
};

/* Bytes that a pool of this capacity allocates; what is in a pipe is the kernel's. */
uint64_t pipe_pool_bytes(uint32_t capacity);

/* Opens nothing yet. A capacity of 0 is a pool that never lends. False with errno. */
NODISCARD bool pipe_pool_init(struct pipe_pool *pool, struct io *io, uint32_t capacity);

/* Closes all; those that were lent must be back. A pool that was never initialised is fine. */
void pipe_pool_deinit(struct pipe_pool *pool);

/* Lends an empty pipe, or NULL: copy. */
NODISCARD struct io_pipe *pipe_pool_lease(struct pipe_pool *pool);

/* Takes it back, in whatever state. */
void pipe_pool_return(struct pipe_pool *pool, struct io_pipe *pipe);

#endif
