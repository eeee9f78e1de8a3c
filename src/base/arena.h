/*
 * A bounded workspace: a bump allocator over memory that its owner provides and sized once. It
 * never grows. Running out is visible twice: the allocation returns NULL, and `overflowed` stays
 * set until reset, so that a caller may build several pieces and check once. Not thread-safe.
 */
#ifndef SENTINEL_BASE_ARENA_H
#define SENTINEL_BASE_ARENA_H

#include "base/span.h"
#include "base/status.h"

struct arena {
    uint8_t *memory; /* borrowed from the owner */
    size_t size;
    size_t used;
    bool overflowed;
};

/* Starts an empty arena over memory, which must outlive it and be aligned for any object. */
void arena_init(struct arena *arena, void *memory, size_t size);

/* Forgets all allocations and the overflow mark. */
void arena_reset(struct arena *arena);

/* Aligned for any object, not zeroed; NULL when it does not fit. size 0 gives a valid pointer. */
NODISCARD void *arena_alloc(struct arena *arena, size_t size);

/* As arena_alloc for count objects, zeroed; NULL also when count * size overflows. */
NODISCARD void *arena_calloc(struct arena *arena, size_t count, size_t size);

/* Copies the bytes, unaligned. A span with NULL data means it did not fit. */
NODISCARD struct span arena_copy(struct arena *arena, struct span bytes);

/* Formats text; a span with NULL data means it did not fit. The result is also NUL-terminated. */
NODISCARD struct span arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

/* A mark to return to: everything allocated after it is forgotten. */
static inline size_t arena_mark(const struct arena *arena)
{
    return arena->used;
}

void arena_rewind(struct arena *arena, size_t mark);

#endif
