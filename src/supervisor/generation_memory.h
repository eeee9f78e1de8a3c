/*
 * How a compiled generation, and apart from it the private keys of its certificates, are taken out
 * of the sealed memory (supervisor/sealed_memory.h) in which they come from the compiler process.
 * Bounds: GENERATION_SIZE_MAX and SECRETS_SIZE_MAX bytes.
 */
#ifndef SENTINEL_SUPERVISOR_GENERATION_MEMORY_H
#define SENTINEL_SUPERVISOR_GENERATION_MEMORY_H

#include "config/generation.h"
#include "config/secrets.h"
#include "supervisor/sealed_memory.h"

/*
 * Maps the memory and opens the generation in it. ERROR, with both untouched and errno EINVAL, when
 * it is not sealed, too large, or no generation of this build.
 */
NODISCARD enum status generation_memory_map(struct sealed_memory *mapping,
                                            struct generation *generation, int fd);

/*
 * The same for the secrets of this generation. No core file shows them. Whoever has made what he
 * needs of them unmaps them: sealed memory cannot be wiped.
 */
NODISCARD enum status generation_memory_map_secrets(struct sealed_memory *mapping,
                                                    struct secrets *secrets, int fd,
                                                    const struct generation *generation);

#endif
