#include "config/compile_build.h"

#include "base/assert.h"

enum { BUILDER_ALIGNMENT = 8 };

bool builder_init(struct builder *builder, struct arena *arena)
{
    size_t size = (arena->size - arena->used) / 2;
    if (size > GENERATION_SIZE_MAX) {
        size = GENERATION_SIZE_MAX;
    }
    uint8_t *memory = size < sizeof(struct generation_header) ? NULL : arena_alloc(arena, size);
    if (memory == NULL) {
        return false;
    }
    *builder = (struct builder){
        .memory = memory,
        .size = size,
        .used = sizeof(struct generation_header),
    };
    return true;
}

/* Appends the bytes, aligned; the gap before them is zeroed, so that blocks are reproducible. */
static struct ref append(struct builder *builder, struct span bytes, size_t count, size_t alignment)
{
    size_t start = (builder->used + alignment - 1) & ~(alignment - 1);
    if (count == 0) {
        return (struct ref){0};
    }
    if (builder->full || start > builder->size || bytes.size > builder->size - start) {
        builder->full = true;
        return (struct ref){0};
    }
    memset(builder->memory + builder->used, 0, start - builder->used);
    memcpy(builder->memory + start, bytes.data, bytes.size);
    builder->used = start + bytes.size;
    return (struct ref){.offset = (uint32_t)start, .count = (uint32_t)count};
}

struct ref builder_text(struct builder *builder, struct span text)
{
    return append(builder, text, text.size, 1);
}

struct ref builder_array(struct builder *builder, const void *elements, size_t size, size_t count)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(size, count, &bytes)) {
        builder->full = true;
        return (struct ref){0};
    }
    return append(builder, span_of(elements, bytes), count, BUILDER_ALIGNMENT);
}

struct ref builder_file(struct builder *builder, struct span name)
{
    if (builder->file_ref.count == 0 || !span_equal(builder->file, name)) {
        builder->file = name;
        builder->file_ref = builder_text(builder, name);
    }
    return builder->file_ref;
}

struct span builder_finish(struct builder *builder, const struct generation_header *header)
{
    ASSERT(!builder->full && builder->used <= GENERATION_SIZE_MAX);
    struct generation_header complete = *header;
    complete.magic = GENERATION_MAGIC;
    complete.layout = generation_layout();
    complete.size = (uint32_t)builder->used;
    memcpy(builder->memory, &complete, sizeof(complete));
    return span_of(builder->memory, builder->used);
}
