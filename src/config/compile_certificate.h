/*
 * The certificates and bundles of CAs that a configuration names, each read once however often it
 * is named, and what is wrong with them reported where they are named first. Part of the compiler
 * (config/compile_parts.h). Private keys go into the builder of the environment's secrets and
 * nowhere else; what a file held is wiped as soon as it has been read.
 */
#ifndef SENTINEL_CONFIG_COMPILE_CERTIFICATE_H
#define SENTINEL_CONFIG_COMPILE_CERTIFICATE_H

#include "config/certificate.h"
#include "config/compile_parts.h"

/* A pair as it is configured. Values are the paths as written; key and ocsp may be NULL. */
struct certificate_request {
    const struct setting_value *file;
    const struct setting_value *key;
    const struct setting_value *ocsp;
    enum certificate_use use;
};

/* A certificate of the generation to be. */
struct certificate_entry {
    uint32_t index;
    uint32_t key_type;
    struct span file; /* as written */
    const struct span *names;
    uint32_t names_count;
};

struct certificate_set;

/* NULL when there is no room for it. Lives in the compiler's arena. */
struct certificate_set *certificate_set_create(struct compilation *compilation);

/* The entry of a pair; NULL when it cannot be used, which was reported. */
const struct certificate_entry *certificate_set_take(struct compilation *compilation,
                                                     struct certificate_set *set,
                                                     const struct certificate_request *request);

/* PEM of a bundle of CAs; empty when it cannot be used, which was reported. */
struct ref certificate_set_bundle(struct compilation *compilation, struct certificate_set *set,
                                  const struct setting_value *file);

/* The same of the system's own; `position` is of what wants it. */
struct ref certificate_set_system(struct compilation *compilation, struct certificate_set *set,
                                  struct position position);

/* The array of struct generation_certificate. */
struct ref certificate_set_finish(struct compilation *compilation,
                                  const struct certificate_set *set);

#endif
