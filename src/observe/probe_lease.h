/*
 * Who may try an endpoint that was ejected: after its time an endpoint is half-open, and of all
 * workers only the holder of its lease sends it one request. Success ends the lease; failure turns
 * it into a ban that holds for all workers; a holder that dies is forgotten when its lease expires.
 *
 * A lease is one word of the commons, {owner, expiry}, and each change is one compare-and-swap.
 * Nobody is believed beyond PROBE_LEASE_MAX: a word that claims more is taken for free.
 */
#ifndef SENTINEL_OBSERVE_PROBE_LEASE_H
#define SENTINEL_OBSERVE_PROBE_LEASE_H

#include "observe/commons.h"

enum {
    PROBE_LEASE_MAX = 60 * 1000 * 1000, /* microseconds that a lease, or a ban, may last */
    PROBE_OWNERS_MAX = 65535,           /* owners are numbers below this */
};

/*
 * Takes the lease of an endpoint, an index of the generation, for so many microseconds (cut to
 * PROBE_LEASE_MAX). False: somebody holds it, or it is banned. *lease names it for the end.
 */
NODISCARD bool probe_lease_take(const struct commons *commons, uint32_t endpoint, uint32_t owner,
                                uint64_t now, uint64_t duration, uint64_t *lease);

/* The probe came through, or came to nothing: anybody may take the next. */
void probe_lease_free(const struct commons *commons, uint32_t endpoint, uint64_t lease);

/* The probe failed: nobody takes the lease before `until`, at most PROBE_LEASE_MAX from now. */
void probe_lease_ban(const struct commons *commons, uint32_t endpoint, uint64_t lease,
                     uint64_t until);

#endif
