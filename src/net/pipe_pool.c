#include "net/pipe_pool.h"

#include <stdlib.h>

#include "base/assert.h"

enum {
    CAPACITY_MIN = 64 * 1024, /* below that a pipe costs more than it saves */
    RETRY_US = 1000 * 1000,   /* after the system had no pipe, or a small one */
};

struct pipe_slot {
    struct io_pipe pipe;
    struct list link;
};

uint64_t pipe_pool_bytes(uint32_t capacity)
{
    return (capacity + UINT64_C(1)) * sizeof(struct pipe_slot);
}

bool pipe_pool_init(struct pipe_pool *pool, struct io *io, uint32_t capacity)
{
    *pool = (struct pipe_pool){.io = io, .capacity = capacity};
    list_init(&pool->idle);
    list_init(&pool->closed);
    pool->slots = calloc(capacity + (size_t)1, sizeof(*pool->slots));
    if (pool->slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < capacity; i++) {
        pool->slots[i].pipe = (struct io_pipe){.in = -1, .out = -1};
        list_push_back(&pool->closed, &pool->slots[i].link);
    }
    return true;
}

void pipe_pool_deinit(struct pipe_pool *pool)
{
    ASSERT(pool->in_use == 0);
    for (uint32_t i = 0; pool->slots != NULL && i < pool->capacity; i++) {
        io_pipe_close(pool->io, &pool->slots[i].pipe);
    }
    free(pool->slots);
    *pool = (struct pipe_pool){0};
}

/* Opens a closed slot's pipe. False: not now. */
static bool open_slot(struct pipe_pool *pool, struct pipe_slot *slot)
{
    if (io_now(pool->io) < pool->retry_at) {
        return false;
    }
    if (io_pipe_open(pool->io, &slot->pipe) == OK && slot->pipe.capacity >= CAPACITY_MIN) {
        return true;
    }
    io_pipe_close(pool->io, &slot->pipe);
    pool->retry_at = io_now(pool->io) + RETRY_US;
    return false;
}

struct io_pipe *pipe_pool_lease(struct pipe_pool *pool)
{
    struct list *link = list_pop_front(&pool->idle);
    if (link == NULL) {
        link = list_pop_front(&pool->closed);
        if (link == NULL) {
            return NULL;
        }
        if (!open_slot(pool, CONTAINER_OF(link, struct pipe_slot, link))) {
            list_push_front(&pool->closed, link);
            return NULL;
        }
    }
    struct pipe_slot *slot = CONTAINER_OF(link, struct pipe_slot, link);
    ASSERT(slot->pipe.in >= 0 && slot->pipe.size == 0);
    pool->in_use++;
    return &slot->pipe;
}

void pipe_pool_return(struct pipe_pool *pool, struct io_pipe *pipe)
{
    struct pipe_slot *slot = CONTAINER_OF(pipe, struct pipe_slot, pipe);
    ASSERT(pool->in_use > 0 && !list_is_linked(&slot->link));
    pool->in_use--;
    if (pipe->size > 0) {
        io_pipe_close(pool->io, pipe);
        list_push_back(&pool->closed, &slot->link);
    } else {
        list_push_front(&pool->idle, &slot->link);
    }
}
