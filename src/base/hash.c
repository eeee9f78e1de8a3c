#include "base/hash.h"

struct sip_state {
    uint64_t v0;
    uint64_t v1;
    uint64_t v2;
    uint64_t v3;
};

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void sip_round(struct sip_state *sip)
{
    sip->v0 += sip->v1;
    sip->v2 += sip->v3;
    sip->v1 = rotate_left(sip->v1, 13) ^ sip->v0;
    sip->v3 = rotate_left(sip->v3, 16) ^ sip->v2;
    sip->v0 = rotate_left(sip->v0, 32);
    sip->v2 += sip->v1;
    sip->v0 += sip->v3;
    sip->v1 = rotate_left(sip->v1, 17) ^ sip->v2;
    sip->v3 = rotate_left(sip->v3, 21) ^ sip->v0;
    sip->v2 = rotate_left(sip->v2, 32);
}

/* Up to eight bytes, little-endian: the same word on every machine. */
static uint64_t load_word(const uint8_t *bytes, size_t size)
{
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++) {
        word |= (uint64_t)bytes[i] << (8 * i);
    }
    return word;
}

static void sip_absorb(struct sip_state *sip, uint64_t word)
{
    sip->v3 ^= word;
    sip_round(sip);
    sip->v0 ^= word;
}

uint64_t hash_keyed(const struct hash_key *key, struct span bytes)
{
    struct sip_state sip = {
        .v0 = key->low ^ UINT64_C(0x736f6d6570736575),
        .v1 = key->high ^ UINT64_C(0x646f72616e646f6d),
        .v2 = key->low ^ UINT64_C(0x6c7967656e657261),
        .v3 = key->high ^ UINT64_C(0x7465646279746573),
    };
    size_t words_end = bytes.size & ~(size_t)7;
    for (size_t at = 0; at < words_end; at += 8) {
        sip_absorb(&sip, load_word(bytes.data + at, 8));
    }
    uint64_t last = (uint64_t)bytes.size << 56;
    if (bytes.size > words_end) {
        last |= load_word(bytes.data + words_end, bytes.size - words_end);
    }
    sip_absorb(&sip, last);
    sip.v2 ^= 0xff;
    sip_round(&sip);
    sip_round(&sip);
    sip_round(&sip);
    return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}

uint32_t hash_fast(struct span bytes)
{
    uint32_t state = HASH_FAST_SEED;
    for (size_t i = 0; i < bytes.size; i++) {
        state = hash_fast_step(state, bytes.data[i]);
    }
    return hash_fast_finish(state);
}
