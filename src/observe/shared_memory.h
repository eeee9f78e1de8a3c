/*
 * Memory without a name that processes share by its descriptor: segments, the commons, the ledger.
 * Its size never changes, which the kernel enforces: a memory that another process could shrink
 * would kill whoever has it mapped. No state; called where such memory is made and mapped.
 */
#ifndef SENTINEL_OBSERVE_SHARED_MEMORY_H
#define SENTINEL_OBSERVE_SHARED_MEMORY_H

#include <stddef.h>

#include "base/status.h"

/*
 * Makes zeroed memory of this size, sealed against another size, and with `seals` (F_SEAL_*, or 0)
 * besides. The name shows in /proc. The descriptor (close-on-exec) is the caller's; -1 with errno.
 */
NODISCARD int shared_memory_create(const char *name, size_t size, int seals);

/*
 * Maps the memory as `protection` (PROT_*), once its size and its seals have been asked of the
 * kernel. NULL with errno: EINVAL when it has another size, or could get one.
 */
NODISCARD void *shared_memory_map(int fd, size_t size, int protection);

/* From now on nobody can map it for writing who has not. ERROR with errno. */
NODISCARD enum status shared_memory_close_to_writers(int fd);

#endif
