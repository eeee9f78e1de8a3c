#include "supervisor/ticket_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL };

/* Mapped and in no core file; NULL with errno. */
static void *map_hidden(int fd, int protection)
{
    void *memory = mmap(NULL, ticket_keys_size(), protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    if (madvise(memory, ticket_keys_size(), MADV_DONTDUMP) != 0) {
        int error = errno;
        (void)munmap(memory, ticket_keys_size());
        errno = error;
        return NULL;
    }
    return memory;
}

enum status ticket_memory_create(struct ticket_memory *memory)
{
    struct ticket_memory made = {
        .fd = memfd_create("sentinel-tickets", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (made.fd >= 0 && ftruncate(made.fd, (off_t)ticket_keys_size()) == 0) {
        made.keys = map_hidden(made.fd, PROT_READ | PROT_WRITE);
    }
    if (made.keys == NULL || fcntl(made.fd, F_ADD_SEALS, SEALS) != 0) {
        int error = errno;
        ticket_memory_destroy(&made);
        errno = error;
        return ERROR;
    }
    *memory = made;
    return OK;
}

void ticket_memory_destroy(struct ticket_memory *memory)
{
    if (memory->keys != NULL) {
        explicit_bzero(memory->keys, ticket_keys_size());
        (void)munmap(memory->keys, ticket_keys_size());
    }
    if (memory->fd >= 0) {
        (void)close(memory->fd);
    }
    *memory = (struct ticket_memory){.fd = -1};
}

enum status ticket_memory_rotate(const struct ticket_memory *memory, uint64_t now)
{
    uint8_t random[TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE];
    struct ticket_key key;
    ASSERT(memory->keys != NULL);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return ERROR;
    }
    bool good = ticket_key_init(&key, random, now);
    if (good) {
        ticket_keys_rotate(memory->keys, &key);
    }
    explicit_bzero(random, sizeof(random));
    explicit_bzero(&key, sizeof(key));
    errno = EIO;
    return good ? OK : ERROR;
}

const struct ticket_keys *ticket_memory_map(int fd)
{
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &stat) != 0 ||
        stat.st_size != (off_t)ticket_keys_size()) {
        errno = EINVAL;
        return NULL;
    }
    return map_hidden(fd, PROT_READ);
}

void ticket_memory_unmap(const struct ticket_keys *keys)
{
    if (keys != NULL) {
        (void)munmap((void *)(uintptr_t)keys, ticket_keys_size());
    }
}
