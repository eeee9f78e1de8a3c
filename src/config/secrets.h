/*
 * The secrets block: the private keys of a generation's certificates, in the order of these, PEM
 * text each. The compiler writes it into sealed memory of its own, which only those processes are
 * given that speak TLS with these keys; nothing of it stands in the generation. Like a generation
 * it is checked once, when it is opened. Bound: SECRETS_SIZE_MAX bytes.
 *
 * A process may be given a block in which some keys are missing: those it has no use for.
 */
#ifndef SENTINEL_CONFIG_SECRETS_H
#define SENTINEL_CONFIG_SECRETS_H

#include "base/arena.h"
#include "config/generation.h"

enum {
    SECRETS_KEY_MAX = 16 * 1024, /* bytes of one key; RSA of 16384 bits has 12.7 KB */
    SECRETS_SIZE_MAX = 1024 * 1024 + GENERATION_CERTIFICATES_MAX * SECRETS_KEY_MAX,
};

/* An opened block; borrowed, as struct generation is. */
struct secrets {
    const uint8_t *base;
    uint32_t count; /* of keys, missing ones included */
};

/*
 * What the compiler gathers: memory apart from everything else, in which alone private keys ever
 * are, so that whoever lent it can wipe it.
 */
struct secrets_builder {
    struct arena arena;
    struct span keys[GENERATION_CERTIFICATES_MAX]; /* by certificate */
    bool is_checks[GENERATION_CERTIFICATES_MAX];   /* a health check shows it, too */
    struct span block;                             /* for workers, once complete */
    struct span check_block;                       /* for the controller */
};

/* The bytes that a block with these keys takes; at most SECRETS_SIZE_MAX. */
size_t secrets_size(const struct span *keys, uint32_t count);

/*
 * Writes the block for a generation of that number. `block` has secrets_size bytes, the count is at
 * most GENERATION_CERTIFICATES_MAX, each key at most SECRETS_KEY_MAX bytes; an empty one is
 * missing.
 */
void secrets_write(uint8_t *block, const struct span *keys, uint32_t count, uint64_t number);

/*
 * Completes both blocks, with the first `count` keys, in the builder's arena. False when that is
 * too small.
 */
NODISCARD bool secrets_finish(struct secrets_builder *builder, uint32_t count, uint64_t number);

/* The most bytes that the two blocks of a generation take together. */
uint64_t secrets_bound(const struct generation *generation);

/*
 * Checks the block completely, and that it belongs to the generation. It must be 8-byte aligned and
 * stay mapped and unchanged. False for anything that this build's compiler could not have written
 * for this generation; never reads outside the block.
 */
NODISCARD bool secrets_open(struct secrets *secrets, struct span block,
                            const struct generation *generation);

/* The key of the certificate of that index, which must be in range; empty where it is missing. */
struct span secrets_key(const struct secrets *secrets, uint32_t index);

#endif
