/*
 * How a compiled generation travels between processes: in a memfd that the supervisor creates, the
 * compiler process fills and seals, and everyone maps read-only. The seals make it immutable, so
 * what generation_open has checked stays true. Bound: GENERATION_SIZE_MAX bytes.
 */
#ifndef SENTINEL_SUPERVISOR_GENERATION_MEMORY_H
#define SENTINEL_SUPERVISOR_GENERATION_MEMORY_H

#include "base/status.h"
#include "config/generation.h"

/* An empty memfd, close-on-exec, owned by the caller; -1 with errno. */
NODISCARD int generation_memory_create(void);

/* The compiler's side: writes the block and seals the memory for good. ERROR with errno. */
NODISCARD enum status generation_memory_write(int fd, struct span block);

/* A mapping; all zero: none. */
struct generation_memory {
    void *memory;
    size_t size;
};

/*
 * Maps the memory and opens the generation in it. ERROR, with both untouched and errno EINVAL, when
 * it is not sealed, too large, or no generation of this build.
 */
NODISCARD enum status generation_memory_map(struct generation_memory *mapping,
                                            struct generation *generation, int fd);

/* Harmless on an empty mapping. */
void generation_memory_unmap(struct generation_memory *mapping);

#endif
