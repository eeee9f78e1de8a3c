/*
 * The one segment that several write: all workers map it writable, so that they can agree where
 * sums over their own segments would not do. It holds probe leases (observe/probe_lease.h), the
 * rate limits of clients (observe/rate_table.h) and a word about borrowed requests. The supervisor
 * creates it with the first worker and keeps it, so that it survives every worker.
 *
 * Nothing in it is trusted. Where the cells are follows from the generation; a cell is one 64-bit
 * word that only ever changes by one compare-and-swap, so a writer may die between any two
 * instructions and leave nothing half done; there are no sequence counters and no locks. No word is
 * an index, a length or a pointer. A corrupt word, or a hostile worker, can make others misjudge a
 * limit for as long as they would anyway wait for it to expire, and can neither crash nor stall
 * them: every claim on time is held against a bound, every loop against a number of tries.
 *
 * Bounds: commons_size, 8 bytes for each endpoint and, with a rate limit, 8 bytes for each of about
 * twice as many clients as may be connected. All zero is the state before anybody did anything.
 */
#ifndef SENTINEL_OBSERVE_COMMONS_H
#define SENTINEL_OBSERVE_COMMONS_H

#include <stdatomic.h>

#include "base/status.h"
#include "config/generation.h"

/* One process's view. All zero: there is none. */
struct commons {
    _Atomic uint64_t *borrowing; /* one word, see below */
    _Atomic uint64_t *probes;    /* one word for each endpoint of the generation */
    _Atomic uint64_t *rates;     /* rate_cells words */
    uint32_t probe_count;
    uint32_t rate_cells; /* a power of two; 0: there is no rate limit */
};

/* Bytes for this generation. */
size_t commons_size(const struct generation *generation);

/* The view of commons_size bytes, aligned to 64 and zeroed before their first use by anybody. */
void commons_init(struct commons *commons, void *memory, const struct generation *generation);

/*
 * Makes the zeroed memory, which can neither shrink nor grow, and returns its descriptor
 * (close-on-exec), which the caller owns. -1 with errno.
 */
NODISCARD int commons_create(const struct generation *generation);

/* Maps it. NULL with errno; EINVAL when it is not of this generation's size or could shrink. */
NODISCARD void *commons_map(int fd, const struct generation *generation);

/* Undoes commons_map; accepts NULL. */
void commons_unmap(void *memory, const struct generation *generation);

/*
 * A worker above its share of max-requests says so, for COMMONS_BORROWING_TIME: until then the
 * others look at the sum of all before they fill their own shares. Said again while it lasts. A
 * worker that dies falls silent, and is believed no longer than it may have spoken for.
 */
enum { COMMONS_BORROWING_TIME = 5 * 1000 * 1000 };

void commons_note_borrowing(const struct commons *commons, uint64_t now);

/* Whether some worker said so lately. One load. */
static inline bool commons_is_borrowing(const struct commons *commons, uint64_t now)
{
    uint64_t until = atomic_load_explicit(commons->borrowing, memory_order_relaxed);
    return until > now && until - now <= COMMONS_BORROWING_TIME;
}

#endif
