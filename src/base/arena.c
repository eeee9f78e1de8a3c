#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "base/assert.h"

enum { ARENA_ALIGNMENT = _Alignof(max_align_t) };

void arena_init(struct arena *arena, void *memory, size_t size)
{
    ASSERT(memory != NULL || size == 0);
    ASSERT((uintptr_t)memory % ARENA_ALIGNMENT == 0);
    *arena = (struct arena){.memory = memory, .size = size};
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
    arena->overflowed = false;
}

static void *take(struct arena *arena, size_t size, size_t alignment)
{
    size_t start = 0;
    size_t end = 0;
    ASSERT(arena->used <= arena->size);
    if (arena->memory == NULL || __builtin_add_overflow(arena->used, alignment - 1, &start)) {
        arena->overflowed = true;
        return NULL;
    }
    start &= ~(alignment - 1);
    if (__builtin_add_overflow(start, size, &end) || end > arena->size) {
        arena->overflowed = true;
        return NULL;
    }
    arena->used = end;
    return arena->memory + start;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    return take(arena, size, ARENA_ALIGNMENT);
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) {
        arena->overflowed = true;
        return NULL;
    }
    void *memory = arena_alloc(arena, total);
    return memory == NULL ? NULL : memset(memory, 0, total);
}

struct span arena_copy(struct arena *arena, struct span bytes)
{
    uint8_t *memory = take(arena, bytes.size, 1);
    if (memory == NULL) {
        return SPAN_EMPTY;
    }
    if (bytes.size > 0) {
        memcpy(memory, bytes.data, bytes.size);
    }
    return span_of(memory, bytes.size);
}

struct span arena_printf(struct arena *arena, const char *format, ...)
{
    size_t room = arena->size - arena->used;
    char *start = room > 0 ? (char *)arena->memory + arena->used : NULL;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(start, room, format, arguments);
    va_end(arguments);
    ASSERT(size >= 0);
    if ((size_t)size >= room) {
        arena->overflowed = true;
        return SPAN_EMPTY;
    }
    arena->used += (size_t)size + 1;
    return span_of(start, (size_t)size);
}

void arena_rewind(struct arena *arena, size_t mark)
{
    ASSERT(mark <= arena->used);
    arena->used = mark;
}
