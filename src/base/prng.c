#include "base/prng.h"

#include "base/assert.h"

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

/* SplitMix64 (Steele, Lea, Flood): spreads a seed, however poor, over the state. */
static uint64_t split_mix(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = *seed;
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

void prng_init(struct prng *prng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        prng->state[i] = split_mix(&seed);
    }
}

uint64_t prng_next(struct prng *prng)
{
    uint64_t *s = prng->state;
    ASSERT((s[0] | s[1] | s[2] | s[3]) != 0);
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint32_t prng_below(struct prng *prng, uint32_t bound)
{
    ASSERT(bound > 0);
    /*
     * Lemire's method: the high half of a 32 x 32 bit product. The low halves that would make some
     * results more frequent are the first 2^32 mod bound ones, and are drawn again: at worst every
     * second draw, so the loop ends soon.
     */
    uint32_t unfair = (UINT32_MAX - bound + 1) % bound;
    uint64_t product = 0;
    do {
        product = (prng_next(prng) >> 32) * bound;
    } while ((uint32_t)product < unfair);
    return (uint32_t)(product >> 32);
}
