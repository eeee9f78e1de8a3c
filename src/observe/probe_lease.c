#include "observe/probe_lease.h"

#include "base/assert.h"

/* The time is microseconds of the system's clock, of which 48 bits last for nine years. */
enum { TIME_BITS = 48, NOBODY = PROBE_OWNERS_MAX };

#define TIME_MASK ((UINT64_C(1) << TIME_BITS) - 1)

static uint64_t word_of(uint32_t owner, uint64_t expiry)
{
    /* One more, so that no lease is the zero of a free word. */
    return ((uint64_t)owner + 1) % (PROBE_OWNERS_MAX + 1) << TIME_BITS | (expiry & TIME_MASK);
}

static bool holds(uint64_t word, uint64_t now)
{
    uint64_t left = ((word & TIME_MASK) - now) & TIME_MASK;
    return word != 0 && left > 0 && left <= PROBE_LEASE_MAX;
}

bool probe_lease_take(const struct commons *commons, uint32_t endpoint, uint32_t owner,
                      uint64_t now, uint64_t duration, uint64_t *lease)
{
    ASSERT(endpoint < commons->probe_count && owner < PROBE_OWNERS_MAX);
    _Atomic uint64_t *cell = commons->probes + endpoint;
    uint64_t word = atomic_load_explicit(cell, memory_order_acquire);
    if (holds(word, now)) {
        return false;
    }
    uint64_t time = duration < PROBE_LEASE_MAX ? duration : PROBE_LEASE_MAX;
    uint64_t wanted = word_of(owner, now + time);
    if (!atomic_compare_exchange_strong(cell, &word, wanted)) {
        return false; /* somebody was quicker */
    }
    *lease = wanted;
    return true;
}

/* Who comes too late, after another has taken an expired lease, changes nothing. */
static void replace(const struct commons *commons, uint32_t endpoint, uint64_t lease, uint64_t word)
{
    ASSERT(endpoint < commons->probe_count);
    (void)atomic_compare_exchange_strong(commons->probes + endpoint, &lease, word);
}

void probe_lease_free(const struct commons *commons, uint32_t endpoint, uint64_t lease)
{
    replace(commons, endpoint, lease, 0);
}

void probe_lease_ban(const struct commons *commons, uint32_t endpoint, uint64_t lease,
                     uint64_t until)
{
    replace(commons, endpoint, lease, word_of(NOBODY, until));
}
