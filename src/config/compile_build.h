/*
 * Writes a generation's block: appends texts and arrays to one run of memory and hands out the
 * references to them. Part of the compiler (config/compile.h).
 */
#ifndef SENTINEL_CONFIG_COMPILE_BUILD_H
#define SENTINEL_CONFIG_COMPILE_BUILD_H

#include "base/arena.h"
#include "config/generation.h"

struct builder {
    uint8_t *memory; /* inside the arena */
    size_t size;     /* at most GENERATION_SIZE_MAX */
    size_t used;
    bool full; /* something did not fit; the block is worthless */
    /* The text written last but one file name: most places name the same file. */
    struct span file;
    struct ref file_ref;
};

/*
 * Takes half of what is left of the arena, so that the other half serves for scratch, and leaves
 * room for the header. False when not even that fits.
 */
NODISCARD bool builder_init(struct builder *builder, struct arena *arena);

/* Append a copy. Empty texts and arrays, and what does not fit (see `full`), give the empty ref. */
struct ref builder_text(struct builder *builder, struct span text);
struct ref builder_array(struct builder *builder, const void *elements, size_t size, size_t count);

/* As builder_text for the name of a source file, which is written once. */
struct ref builder_file(struct builder *builder, struct span name);

/* Completes the block: fills in magic, layout and size. Must not be `full`. */
struct span builder_finish(struct builder *builder, const struct generation_header *header);

#endif
