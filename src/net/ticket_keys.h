/*
 * The keys under which TLS session tickets are sealed (RFC 5077, RFC 8446, 4.6.1), in memory that
 * the supervisor alone writes and every worker maps read-only: a ticket that one worker has issued
 * is good with all of them, and outlives each of them. A new key is drawn every
 * TICKET_KEYS_PERIOD; the one before it still opens tickets for as long, then its bytes are wiped.
 * So nobody can open what was recorded longer ago than two periods.
 *
 * Readers take copies, and hold no lock: a key that is being replaced while it is copied is not
 * there, and its ticket leads to a full handshake. Nothing in the memory is used as an index or
 * length unchecked. Times are microseconds of the machine's monotonic clock, which all processes
 * share. Bound: TICKET_KEYS_SLOTS keys, 1 KiB.
 */
#ifndef SENTINEL_NET_TICKET_KEYS_H
#define SENTINEL_NET_TICKET_KEYS_H

#include <stddef.h>

#include "base/span.h"
#include "base/status.h"

enum {
    TICKET_KEYS_SLOTS = 3, /* current, previous, and one that is empty or being written */
    TICKET_KEY_ID_SIZE = 16,
    TICKET_KEY_SECRET_SIZE = 64, /* to encrypt and to authenticate, as who uses it divides it */
};

#define TICKET_KEYS_PERIOD UINT64_C(43200000000) /* 12 hours */

/* One key. Whoever holds a copy wipes it after use. */
struct ticket_key {
    uint8_t id[TICKET_KEY_ID_SIZE]; /* travels in the ticket; random, never all zero */
    uint8_t secret[TICKET_KEY_SECRET_SIZE];
    uint64_t expires; /* opens no ticket from then on */
};

/* The memory; zeroed, it holds no key. */
struct ticket_keys;

size_t ticket_keys_size(void);

/*
 * The supervisor's: puts the key in the place of the oldest, makes it the current one, and wipes
 * what was there before the one that was current. A reader, or a writer that dies in the middle,
 * finds the old state or the new one.
 */
void ticket_keys_rotate(struct ticket_keys *keys, const struct ticket_key *key);

/*
 * Fills a key from random bytes, all of TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE, that is good
 * for two periods from now on. False when they cannot be random: an id of zeros.
 */
NODISCARD bool ticket_key_init(struct ticket_key *key,
                               const uint8_t random[TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE],
                               uint64_t now);

/* A worker's: a copy of the key to seal tickets under. False when there is none just now. */
NODISCARD bool ticket_keys_current(const struct ticket_keys *keys, uint64_t now,
                                   struct ticket_key *key);

/* A copy of the key of that id, for a ticket that has come. False when it is none of ours now. */
NODISCARD bool ticket_keys_find(const struct ticket_keys *keys,
                                const uint8_t id[TICKET_KEY_ID_SIZE], uint64_t now,
                                struct ticket_key *key);

#endif
