/*
 * How many client connections are open, in all and of each client address, and how many requests
 * are in flight, over all workers together. Each worker keeps its own counts on a board in its
 * segment, which it alone writes and the other workers read: the sum over the boards is what
 * max-connections and connections-per-client bound. A board goes with its segment, so a worker that
 * dies leaves no count behind. IPv6 clients are counted by their /64, which is what one subscriber
 * is given.
 *
 * A client is known by a tag: the 64-bit SipHash of its address under a key that all workers of one
 * run share. Two clients of one tag would share their limit; nobody without the key can look for
 * such a pair, and with a million clients at once chance makes one in 30 million cases.
 *
 * The price of having no lock:
 * - Workers that count at the same moment do not see each other: the sum may exceed a limit by one
 *   for each other worker, and for a moment after its start a worker and the others may not know of
 *   each other yet.
 * - While the owner removes a client's cell and moves others into the gap, a reader may miss one
 *   client, or take a neighbour's count for it. Only that one decision is off.
 *
 * Nothing read from another's board is trusted: cells are addressed by the generation's mask,
 * probes are bounded, sums cannot overflow. A worker that lies can make others refuse clients, as
 * it could by keeping that many connections open.
 *
 * Bounds: client_board_size of memory, two cells for each connection that can count. One accept
 * costs a probe of each other worker's board.
 */
#ifndef SENTINEL_PROXY_CLIENT_BOARD_H
#define SENTINEL_PROXY_CLIENT_BOARD_H

#include <stdatomic.h>

#include "base/address.h"
#include "base/hash.h"
#include "base/status.h"
#include "config/generation.h"

struct client_cell {
    _Atomic uint64_t tag; /* 0: free */
    _Atomic uint32_t count;
};

/* The memory of a board; cells as many as the generation says. All zero: nothing is counted. */
struct client_board {
    _Atomic uint32_t connections;
    _Atomic uint32_t requests;               /* in flight */
    _Atomic uint32_t handshakes;             /* of TLS, under way */
    _Alignas(16) struct client_cell cells[]; /* none lies across two cache lines */
};

/* The other workers' boards. Borrowed; entries may change between calls. */
struct client_peers {
    const void *const *boards; /* NULL entries: nobody; the own board may be among them */
    uint32_t count;
};

/* A worker's own counts, and its view of the others'. */
struct client_counts {
    struct client_board *board; /* borrowed, written by nobody else */
    struct client_peers peers;
    struct hash_key key;
    uint32_t mask; /* cells - 1 */
    uint32_t used; /* cells that are not free */
    uint32_t connections;
};

/* Bytes of a board for this generation. */
size_t client_board_size(const struct generation *generation);

/* How many connections a board of another process counts; whatever its owner wrote. */
uint32_t client_board_connections(const void *board);

/*
 * Starts with an empty board in zeroed memory of client_board_size bytes, aligned to 16, which must
 * outlive the counts. The key is the same in all workers.
 */
void client_counts_init(struct client_counts *counts, const struct generation *generation,
                        void *board, const struct hash_key *key, const struct client_peers *peers);

/* The keyed hash that stands for the client: its address, of IPv6 the /64; never 0. */
uint64_t client_tag(const struct hash_key *secret, const struct address *client);

/* Counts one more connection of this client. At most max-connections may be counted. */
void client_counts_enter(struct client_counts *counts, const struct address *client);

/* One connection of this client, which was counted, has ended. */
void client_counts_leave(struct client_counts *counts, const struct address *client);

/* How many connections of this client are counted by all workers together. */
uint64_t client_counts_of(const struct client_counts *counts, const struct address *client);

/* How many connections the other workers count. */
uint64_t client_counts_elsewhere(const struct client_counts *counts);

/* Says how many requests this worker has in flight. One store. */
static inline void client_counts_set_requests(struct client_counts *counts, uint32_t requests)
{
    atomic_store_explicit(&counts->board->requests, requests, memory_order_relaxed);
}

/* The same of TLS handshakes under way. */
static inline void client_counts_set_handshakes(struct client_counts *counts, uint32_t handshakes)
{
    atomic_store_explicit(&counts->board->handshakes, handshakes, memory_order_relaxed);
}

uint64_t client_counts_handshakes_elsewhere(const struct client_counts *counts);

/* How many requests the other workers have in flight. */
uint64_t client_counts_requests_elsewhere(const struct client_counts *counts);

/* Whether some other worker counts fewer connections than these. */
bool client_counts_any_below(const struct client_counts *counts, uint32_t connections);

#endif
