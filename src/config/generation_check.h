/*
 * What the parts of generation_open share: reading a block of which nothing is believed yet. Pure;
 * part of config/generation.h, used by its own files only.
 */
#ifndef SENTINEL_CONFIG_GENERATION_CHECK_H
#define SENTINEL_CONFIG_GENERATION_CHECK_H

#include "config/generation.h"

/* A block under examination. Nothing in it is trusted before it was checked. */
struct generation_check {
    const uint8_t *base;
    size_t size;
    const struct generation_header *header;
};

static inline bool generation_check_boolean(uint32_t value)
{
    return value <= 1;
}

/* Whether the reference is empty as the compiler writes it, or lies inside, aligned. */
bool generation_check_ref(const struct generation_check *check, struct ref ref, size_t size,
                          size_t alignment);

#define GENERATION_CHECK_ARRAY(check, ref, type)                                                   \
    generation_check_ref(check, ref, sizeof(type), _Alignof(type))

bool generation_check_text(const struct generation_check *check, struct ref ref);

/* The text of a reference, if it is valid. */
bool generation_check_read(const struct generation_check *check, struct ref ref, struct span *text);

/* Whether the text is there and as `is` wants it; the second takes one that is absent, too. */
bool generation_check_text_as(const struct generation_check *check, struct ref ref,
                              bool (*is)(struct span));
bool generation_check_text_or_none(const struct generation_check *check, struct ref ref,
                                   bool (*is)(struct span));

bool generation_check_place(const struct generation_check *check, struct generation_place place);

/* All references of an array of texts, none of them empty. */
bool generation_check_texts(const struct generation_check *check, struct ref ref);

/* ---- The records of TLS (generation_tls.c) ---- */

/* Certificates and the TLS servers that show them; before listeners and upstreams. */
bool generation_check_tls(const struct generation_check *check);

/* The TLS of an upstream, after generation_check_tls. */
bool generation_check_upstream_tls(const struct generation_check *check,
                                   const struct generation_upstream *upstream);

#endif
