/*
 * A pseudorandom generator (xoshiro256**, Blackman and Vigna) for jitter, sampling, balancing and
 * the simulator's schedules: the same seed gives the same sequence on every machine. It is not for
 * secrets: keys, request ids and anything that a peer must not guess come from the system's
 * entropy.
 */
#ifndef SENTINEL_BASE_PRNG_H
#define SENTINEL_BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t state[4]; /* never all zero */
};

/* Starts the sequence of this seed; any value is good. */
void prng_init(struct prng *prng, uint64_t seed);

/* The next 64 bits. */
uint64_t prng_next(struct prng *prng);

/* Uniform in 0 to bound - 1, without bias; bound must not be 0. */
uint32_t prng_below(struct prng *prng, uint32_t bound);

#endif
