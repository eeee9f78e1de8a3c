/*
 * Two hashes, for two kinds of keys. SipHash-1-3 with a secret key is for every table whose keys a
 * peer may choose: without the key nobody can aim at one bucket. The fast 32-bit hash has no key
 * and no such property: it is for keys from the configuration, or for lookups (never insertions) of
 * foreign keys in a table of configured ones, where the longest chain is the configuration's.
 */
#ifndef SENTINEL_BASE_HASH_H
#define SENTINEL_BASE_HASH_H

#include "base/span.h"

/* 128 secret bits, drawn from the system's entropy once per process. */
struct hash_key {
    uint64_t low;
    uint64_t high;
};

/* SipHash-1-3 (Aumasson, Bernstein): a pseudorandom function of the bytes under the key. */
uint64_t hash_keyed(const struct hash_key *key, struct span bytes);

/*
 * The fast hash, byte by byte: start with HASH_FAST_SEED, fold each byte with hash_fast_step, and
 * at any point hash_fast_finish gives the hash of the bytes so far. The state itself is no hash:
 * its low bits are poor. The result is part of the compiled generation's layout.
 */
#define HASH_FAST_SEED UINT32_C(2166136261)

static inline uint32_t hash_fast_step(uint32_t state, uint8_t byte)
{
    return (state ^ byte) * UINT32_C(16777619); /* FNV-1a */
}

static inline uint32_t hash_fast_finish(uint32_t state)
{
    /* The mixer of MurmurHash3: every bit of the state reaches the low bits, which pick the bucket.
     */
    state ^= state >> 16;
    state *= UINT32_C(0x85ebca6b);
    state ^= state >> 13;
    state *= UINT32_C(0xc2b2ae35);
    return state ^ state >> 16;
}

/* The hash of all the bytes. */
uint32_t hash_fast(struct span bytes);

#endif
