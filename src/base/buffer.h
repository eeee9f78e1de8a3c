/*
 * Bytes in flight: a pool of equal buffers, allocated once per worker, and queues of bytes that
 * lease from it. A queue holds buffers only while it holds bytes. An empty pool is back-pressure:
 * a queue then has no room, and its owner waits in the pool's list until a buffer comes back. The
 * last buffers of the pool are kept for heads and for answers of our own, which are small and must
 * always be possible.
 */
#ifndef SENTINEL_BASE_BUFFER_H
#define SENTINEL_BASE_BUFFER_H

#include "base/list.h"
#include "base/slab.h"
#include "base/span.h"

enum {
    BUFFER_SIZE = 16 * 1024,    /* bytes of one buffer */
    BYTE_QUEUE_BUFFERS_MAX = 4, /* one queue holds at most this many */
    BYTE_QUEUE_MAX = BYTE_QUEUE_BUFFERS_MAX * BUFFER_SIZE,
};

struct buffer_pool {
    struct slab slab;
    uint32_t reserve;    /* buffers that body bytes may not take */
    struct list waiters; /* links of whoever waits for room for a body, first come first served */
    struct list head_waiters; /* the same for heads, which may take from the reserve */
    bool returned; /* a buffer came back since the owner last looked: head_waiters may try */
};

struct buffer; /* BUFFER_SIZE bytes and a link */

/* A first-in, first-out queue of bytes. All zero is an empty queue. */
struct byte_queue {
    struct buffer *first;
    struct buffer *last;
    uint32_t offset; /* of the first byte within the first buffer */
    uint32_t size;   /* bytes queued */
    uint32_t tail;   /* bytes used in the last buffer, from its start */
    uint32_t buffers;
};

/* Buffers that bodies may still take: what is free beyond the reserve. */
static inline uint32_t buffer_pool_spare(const struct buffer_pool *pool)
{
    uint32_t left = pool->slab.capacity - pool->slab.in_use;
    return left > pool->reserve ? left - pool->reserve : 0;
}

/* How many buffers a pool of `bytes` has, at least 8, and the bytes of one with its link. */
uint32_t buffer_pool_count(uint64_t bytes);
size_t buffer_pool_object_size(void);

/* Room for `bytes` of buffers, see buffer_pool_count. False with errno when the system refuses. */
NODISCARD bool buffer_pool_init(struct buffer_pool *pool, uint64_t bytes);

/* All buffers must be back, no one may wait. */
void buffer_pool_deinit(struct buffer_pool *pool);

/*
 * Whether more than half of the pool is free. Below that whoever can do without takes nothing, and
 * queues get one buffer each.
 */
static inline bool buffer_pool_is_ample(const struct buffer_pool *pool)
{
    return pool->slab.capacity - pool->slab.in_use > pool->slab.capacity / 2;
}

/*
 * How many more body bytes the queue can take now, 0 to BYTE_QUEUE_MAX. It shrinks as the pool
 * empties, so that slow readers cannot hold all of it. Promised until anyone else takes a buffer.
 */
size_t byte_queue_room(const struct byte_queue *queue, const struct buffer_pool *pool);

/*
 * Appends all bytes, from the reserve too if need be. False, with nothing appended, when they do
 * not fit the queue or the pool.
 */
NODISCARD bool byte_queue_append(struct byte_queue *queue, struct buffer_pool *pool,
                                 struct span bytes);

/* The bytes as pieces for a gathering write; returns their number, at most BYTE_QUEUE_BUFFERS_MAX.
 */
int byte_queue_pieces(const struct byte_queue *queue, struct span pieces[BYTE_QUEUE_BUFFERS_MAX]);

/* The contiguous bytes at an offset (below size), without taking them. */
struct span byte_queue_peek(const struct byte_queue *queue, size_t offset);

/* Drops size bytes (at most queue->size) from the front; empty buffers go back to the pool. */
void byte_queue_consume(struct byte_queue *queue, struct buffer_pool *pool, size_t size);

/* Drops everything. */
void byte_queue_clear(struct byte_queue *queue, struct buffer_pool *pool);

#endif
