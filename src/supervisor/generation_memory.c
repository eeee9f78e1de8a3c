#include "supervisor/generation_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

int generation_memory_create(void)
{
    return memfd_create("sentinel-generation", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

enum status generation_memory_write(int fd, struct span block)
{
    while (block.size > 0) {
        ssize_t put = write(fd, block.data, block.size);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return ERROR;
        }
        block = span_from(block, (size_t)put);
    }
    return fcntl(fd, F_ADD_SEALS, SEALS) == 0 ? OK : ERROR;
}

enum status generation_memory_map(struct generation_memory *mapping, struct generation *generation,
                                  int fd)
{
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &stat) != 0 || stat.st_size <= 0 ||
        stat.st_size > GENERATION_SIZE_MAX) {
        errno = EINVAL;
        return ERROR;
    }
    size_t size = (size_t)stat.st_size;
    void *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return ERROR;
    }
    struct generation opened;
    if (!generation_open(&opened, span_of(memory, size))) {
        (void)munmap(memory, size);
        errno = EINVAL;
        return ERROR;
    }
    *mapping = (struct generation_memory){memory, size};
    *generation = opened;
    return OK;
}

void generation_memory_unmap(struct generation_memory *mapping)
{
    if (mapping->memory != NULL) {
        (void)munmap(mapping->memory, mapping->size);
    }
    *mapping = (struct generation_memory){0};
}
