/*
 * The memory that holds the ticket keys (net/ticket_keys.h): a memfd that the supervisor makes and
 * keeps writable for itself. Once it is mapped, the system lets nobody map it for writing again, so
 * that a worker, which is handed the descriptor, can only read. No core file shows it. It outlives
 * every worker, and ends, wiped, with the supervisor.
 */
#ifndef SENTINEL_SUPERVISOR_TICKET_MEMORY_H
#define SENTINEL_SUPERVISOR_TICKET_MEMORY_H

#include "base/status.h"
#include "net/ticket_keys.h"

/* The supervisor's. {.fd = -1}: none. */
struct ticket_memory {
    int fd;
    struct ticket_keys *keys;
};

/* Makes the memory, without a key. ERROR with errno; then nothing is left open. */
NODISCARD enum status ticket_memory_create(struct ticket_memory *memory);

/* Wipes it; harmless where there is none. */
void ticket_memory_destroy(struct ticket_memory *memory);

/*
 * Draws a new key and makes it the current one. ERROR with errno, and the keys as they were, when
 * the system has no random bytes. `now` is of the monotonic clock.
 */
NODISCARD enum status ticket_memory_rotate(const struct ticket_memory *memory, uint64_t now);

/* A worker's: maps it for reading. NULL with errno; EINVAL when it is no such memory. */
const struct ticket_keys *ticket_memory_map(int fd);
void ticket_memory_unmap(const struct ticket_keys *keys); /* harmless on NULL */

#endif
