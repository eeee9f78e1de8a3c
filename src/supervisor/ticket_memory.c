#include "supervisor/ticket_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/shared_memory.h"

/* Mapped and in no core file; NULL with errno. */
static void *map_hidden(int fd, int protection)
{
    void *memory = shared_memory_map(fd, ticket_keys_size(), protection);
    if (memory == NULL) {
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
        .fd = shared_memory_create("sentinel-tickets", ticket_keys_size(), 0)};
    if (made.fd >= 0) {
        made.keys = map_hidden(made.fd, PROT_READ | PROT_WRITE);
    }
    if (made.keys == NULL || shared_memory_close_to_writers(made.fd) != OK) {
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
    return map_hidden(fd, PROT_READ);
}

void ticket_memory_unmap(const struct ticket_keys *keys)
{
    if (keys != NULL) {
        (void)munmap((void *)(uintptr_t)keys, ticket_keys_size());
    }
}
