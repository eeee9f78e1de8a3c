#include "supervisor/sealed_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

int sealed_memory_create(const char *name)
{
    return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

enum status sealed_memory_write(int fd, struct span bytes)
{
    while (bytes.size > 0) {
        ssize_t put = write(fd, bytes.data, bytes.size);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return ERROR;
        }
        bytes = span_from(bytes, (size_t)put);
    }
    return fcntl(fd, F_ADD_SEALS, SEALS) == 0 ? OK : ERROR;
}

enum status sealed_memory_map(struct sealed_memory *mapping, int fd, size_t maximum)
{
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &stat) != 0 || stat.st_size <= 0 ||
        (uint64_t)stat.st_size > maximum) {
        errno = EINVAL;
        return ERROR;
    }
    size_t size = (size_t)stat.st_size;
    void *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return ERROR;
    }
    *mapping = (struct sealed_memory){memory, size};
    return OK;
}

void sealed_memory_unmap(struct sealed_memory *mapping)
{
    if (mapping->memory != NULL) {
        (void)munmap(mapping->memory, mapping->size);
    }
    *mapping = (struct sealed_memory){0};
}
