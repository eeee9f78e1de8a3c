/*
 * Bytes that are held back on purpose, as far as memory goes: a pool of equal blocks, allocated
 * once per worker, and holds that take from it. A hold is a first-in, first-out queue of bytes with
 * a maximum of its own and a reading position, which can go back to the begin as long as nothing
 * was dropped.
 *
 * Whoever holds can do without: nobody waits for this memory and no reserve is kept of it. So that
 * few do not take all of it, a hold may have as many blocks as are still free: some are left for
 * the next one for as long as there are any.
 */
#ifndef SENTINEL_BASE_HOLD_H
#define SENTINEL_BASE_HOLD_H

#include "base/list.h"
#include "base/slab.h"
#include "base/span.h"

enum { HOLD_BLOCK_SIZE = 16 * 1024 }; /* bytes of one block */

struct hold_block; /* HOLD_BLOCK_SIZE bytes and a link */

struct hold_pool {
    struct slab slab;     /* all zero: there is no memory, and every hold stays empty */
    struct list shorts;   /* links of holds that could hold more, see hold_wish */
    bool returned;        /* a block came back since the owner last looked: shorts may go on */
    uint64_t held;        /* bytes that holds have taken since the pool began */
    uint64_t times_short; /* times that a hold could not take what it was allowed to */
};

struct hold {
    struct hold_block *first;
    struct hold_block *last;
    struct hold_block *reading; /* the block of the reading position; NULL while there is none */
    uint32_t offset;            /* of the reading position within its block */
    uint32_t tail;              /* bytes used in the last block */
    uint32_t blocks;
    bool dropped;     /* something was, and something is left */
    bool is_short;    /* the last word on its room was that memory bounds it */
    struct list link; /* in the pool's shorts */
    uint64_t max;     /* bytes that it may have at a time */
    uint64_t size;    /* bytes that it has, those that were read included */
    uint64_t unread;  /* bytes from the reading position on */
};

/* How many blocks a pool of `bytes` has, at least 1, and the bytes of one with its link. */
uint32_t hold_pool_count(uint64_t bytes);
size_t hold_pool_object_size(void);

/* Prepares a pool without memory: for those who hold nothing. */
void hold_pool_init_empty(struct hold_pool *pool);

/* Room for `bytes`, see hold_pool_count. False with errno when the system refuses. */
NODISCARD bool hold_pool_init(struct hold_pool *pool, uint64_t bytes);

/* All blocks must be back. */
void hold_pool_deinit(struct hold_pool *pool);

/* An empty hold of so many bytes at most. */
void hold_init(struct hold *hold, uint64_t max);

/*
 * How many more bytes it can take now. Promised until anyone else takes a block. Notes where it is
 * memory that bounds it, and not its maximum.
 */
size_t hold_room(struct hold *hold, struct hold_pool *pool);

/* Appends all bytes (at most its room). False, with the hold as it was, when memory is short. */
NODISCARD bool hold_append(struct hold *hold, struct hold_pool *pool, struct span bytes);

/* The contiguous bytes at the reading position; empty when all were read. */
struct span hold_peek(const struct hold *hold);

/* Moves the reading position on, by at most what hold_peek lends. */
void hold_advance(struct hold *hold, size_t size);

/* Back to the first byte. Nothing may have been dropped. */
void hold_rewind(struct hold *hold);

/* Gives back what lies before the reading position; everything when all were read. */
void hold_drop_read(struct hold *hold, struct hold_pool *pool);

/* Drops everything, and its wish. */
void hold_clear(struct hold *hold, struct hold_pool *pool);

/* It would go on if there was memory: it stands in the list of the pool until that comes back. */
static inline void hold_wish(struct hold *hold, struct hold_pool *pool)
{
    if (!list_is_linked(&hold->link)) {
        list_push_back(&pool->shorts, &hold->link);
    }
}

#endif
