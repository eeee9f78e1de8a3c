#include "supervisor/generation_memory.h"

#include <errno.h>
#include <sys/mman.h>

enum status generation_memory_map(struct sealed_memory *mapping, struct generation *generation,
                                  int fd)
{
    struct sealed_memory mapped;
    struct generation opened;
    if (sealed_memory_map(&mapped, fd, GENERATION_SIZE_MAX) != OK) {
        return ERROR;
    }
    if (!generation_open(&opened, span_of(mapped.memory, mapped.size))) {
        sealed_memory_unmap(&mapped);
        errno = EINVAL;
        return ERROR;
    }
    *mapping = mapped;
    *generation = opened;
    return OK;
}

enum status generation_memory_map_secrets(struct sealed_memory *mapping, struct secrets *secrets,
                                          int fd, const struct generation *generation)
{
    struct sealed_memory mapped;
    struct secrets opened;
    if (sealed_memory_map(&mapped, fd, SECRETS_SIZE_MAX) != OK) {
        return ERROR;
    }
    bool hidden = madvise(mapped.memory, mapped.size, MADV_DONTDUMP) == 0;
    if (!hidden || !secrets_open(&opened, span_of(mapped.memory, mapped.size), generation)) {
        sealed_memory_unmap(&mapped);
        errno = hidden ? EINVAL : errno;
        return ERROR;
    }
    *mapping = mapped;
    *secrets = opened;
    return OK;
}
