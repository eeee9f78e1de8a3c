/*
 * Bytes that travel between processes and change no more: a memfd that the supervisor creates, the
 * compiler process fills and seals, and others map read-only. The seals make it immutable, so what
 * a reader has checked stays true.
 */
#ifndef SENTINEL_SUPERVISOR_SEALED_MEMORY_H
#define SENTINEL_SUPERVISOR_SEALED_MEMORY_H

#include "base/span.h"
#include "base/status.h"

/* A mapping; all zero: none. */
struct sealed_memory {
    void *memory;
    size_t size;
};

/* An empty memfd of that name, close-on-exec, owned by the caller; -1 with errno. */
NODISCARD int sealed_memory_create(const char *name);

/* Writes the bytes and seals the memory for good. ERROR with errno. */
NODISCARD enum status sealed_memory_write(int fd, struct span bytes);

/*
 * Maps the memory. ERROR with errno, and the mapping untouched; EINVAL when it is not sealed, empty
 * or larger than `maximum`.
 */
NODISCARD enum status sealed_memory_map(struct sealed_memory *mapping, int fd, size_t maximum);

/* Harmless on an empty mapping. */
void sealed_memory_unmap(struct sealed_memory *mapping);

#endif
