#include "base/hold.h"

#include <string.h>

#include "base/assert.h"

struct hold_block {
    struct hold_block *next;
    uint64_t reserved; /* keeps the bytes aligned */
    uint8_t bytes[HOLD_BLOCK_SIZE];
};

uint32_t hold_pool_count(uint64_t bytes)
{
    uint64_t count = bytes / HOLD_BLOCK_SIZE;
    if (count == 0) {
        return 1;
    }
    return count < UINT32_MAX / 2 ? (uint32_t)count : UINT32_MAX / 2;
}

size_t hold_pool_object_size(void)
{
    return sizeof(struct hold_block);
}

void hold_pool_init_empty(struct hold_pool *pool)
{
    *pool = (struct hold_pool){0};
    list_init(&pool->shorts);
}

bool hold_pool_init(struct hold_pool *pool, uint64_t bytes)
{
    hold_pool_init_empty(pool);
    return slab_init(&pool->slab, sizeof(struct hold_block), hold_pool_count(bytes));
}

void hold_pool_deinit(struct hold_pool *pool)
{
    ASSERT(pool->slab.memory == NULL || list_is_empty(&pool->shorts));
    slab_deinit(&pool->slab);
}

static void check(const struct hold *hold)
{
    ASSERT((hold->first == NULL) == (hold->blocks == 0));
    ASSERT((hold->first == NULL) == (hold->size == 0));
    ASSERT(hold->tail <= HOLD_BLOCK_SIZE && hold->offset <= HOLD_BLOCK_SIZE);
    ASSERT(hold->unread <= hold->size && hold->size <= hold->max);
    ASSERT((hold->reading == NULL) == (hold->first == NULL));
}

void hold_init(struct hold *hold, uint64_t max)
{
    *hold = (struct hold){.max = max};
    list_init(&hold->link);
}

/* Each further block must leave as many free as the hold then has. */
static uint64_t memory_room(const struct hold *hold, const struct hold_pool *pool)
{
    uint32_t spare = pool->slab.capacity - pool->slab.in_use;
    uint64_t more = spare > hold->blocks ? (spare - hold->blocks + 1) / 2 : 0;
    uint32_t tail_room = hold->blocks == 0 ? 0 : HOLD_BLOCK_SIZE - hold->tail;
    return tail_room + more * HOLD_BLOCK_SIZE;
}

size_t hold_room(struct hold *hold, struct hold_pool *pool)
{
    uint64_t allowed = hold->max - hold->size;
    uint64_t memory = memory_room(hold, pool);
    bool is_short = memory == 0 && allowed > 0;
    if (is_short && !hold->is_short) {
        pool->times_short++;
    }
    hold->is_short = is_short;
    return (size_t)(memory < allowed ? memory : allowed);
}

static bool add_block(struct hold *hold, struct hold_pool *pool)
{
    struct hold_block *block = pool->slab.memory == NULL ? NULL : slab_acquire(&pool->slab);
    if (block == NULL) {
        return false;
    }
    block->next = NULL;
    if (hold->first == NULL) {
        hold->first = block;
        hold->reading = block;
        hold->offset = 0;
    } else {
        ASSERT(hold->last != NULL);
        hold->last->next = block;
    }
    hold->last = block;
    hold->tail = 0;
    hold->blocks++;
    return true;
}

static void free_block(struct hold *hold, struct hold_pool *pool, struct hold_block *block)
{
    slab_release(&pool->slab, block);
    pool->returned = true;
    hold->blocks--;
}

/* Takes back the blocks behind `last`, which an append that failed had added. */
static void drop_behind(struct hold *hold, struct hold_pool *pool, struct hold_block *last,
                        uint32_t tail)
{
    struct hold_block *block = last == NULL ? hold->first : last->next;
    while (block != NULL) {
        struct hold_block *next = block->next;
        free_block(hold, pool, block);
        block = next;
    }
    hold->last = last;
    hold->tail = tail;
    if (last == NULL) {
        hold->first = NULL;
        hold->reading = NULL;
    } else {
        last->next = NULL;
    }
}

/* A reading position at the end of a block that has a next one is at the begin of that. */
static void settle(struct hold *hold)
{
    if (hold->offset == HOLD_BLOCK_SIZE && hold->reading != hold->last) {
        hold->reading = hold->reading->next;
        hold->offset = 0;
    }
}

bool hold_append(struct hold *hold, struct hold_pool *pool, struct span bytes)
{
    struct hold_block *last = hold->last;
    uint32_t tail = hold->tail;
    ASSERT(bytes.size > 0 && bytes.size <= hold->max - hold->size);
    for (size_t done = 0; done < bytes.size;) {
        if ((hold->last == NULL || hold->tail == HOLD_BLOCK_SIZE) && !add_block(hold, pool)) {
            drop_behind(hold, pool, last, tail);
            return false;
        }
        size_t room = HOLD_BLOCK_SIZE - hold->tail;
        size_t part = bytes.size - done < room ? bytes.size - done : room;
        memcpy(hold->last->bytes + hold->tail, bytes.data + done, part);
        hold->tail += (uint32_t)part;
        done += part;
    }
    hold->size += bytes.size;
    hold->unread += bytes.size;
    pool->held += bytes.size;
    settle(hold);
    check(hold);
    return true;
}

/* The bytes used in a block. */
static uint32_t used(const struct hold *hold, const struct hold_block *block)
{
    return block == hold->last ? hold->tail : HOLD_BLOCK_SIZE;
}

struct span hold_peek(const struct hold *hold)
{
    if (hold->unread == 0) {
        return SPAN_EMPTY;
    }
    const struct hold_block *block = hold->reading;
    ASSERT(used(hold, block) > hold->offset);
    return span_of(block->bytes + hold->offset, used(hold, block) - hold->offset);
}

void hold_advance(struct hold *hold, size_t size)
{
    if (size == 0) {
        return;
    }
    ASSERT(size <= hold->unread && size <= used(hold, hold->reading) - hold->offset);
    hold->offset += (uint32_t)size;
    hold->unread -= size;
    settle(hold);
}

void hold_rewind(struct hold *hold)
{
    ASSERT(!hold->dropped);
    hold->reading = hold->first;
    hold->offset = 0;
    hold->unread = hold->size;
}

void hold_drop_read(struct hold *hold, struct hold_pool *pool)
{
    if (hold->unread == 0) {
        while (hold->first != NULL) {
            struct hold_block *next = hold->first->next;
            free_block(hold, pool, hold->first);
            hold->first = next;
        }
        hold->last = hold->reading = NULL;
        hold->offset = hold->tail = 0;
        hold->size = 0;
        hold->dropped = false;
        return;
    }
    while (hold->first != hold->reading) {
        struct hold_block *next = hold->first->next;
        free_block(hold, pool, hold->first);
        hold->first = next;
    }
    /* What was read of the first block still takes its memory, and none of the maximum. */
    hold->dropped |= hold->size > hold->unread;
    hold->size = hold->unread;
    check(hold);
}

void hold_clear(struct hold *hold, struct hold_pool *pool)
{
    hold->unread = 0;
    hold_drop_read(hold, pool);
    hold->is_short = false;
    list_unlink(&hold->link);
}
