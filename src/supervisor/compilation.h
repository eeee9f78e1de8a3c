/*
 * One compilation with its surroundings: memory, the system's environment, diagnostics on standard
 * error. The compiler process and `sentinel check` share it, so they cannot disagree.
 */
#ifndef SENTINEL_SUPERVISOR_COMPILATION_H
#define SENTINEL_SUPERVISOR_COMPILATION_H

#include "base/span.h"
#include "base/status.h"
#include "config/secrets.h"

/* The memory of a compilation, reserved and mostly untouched. All zero: none. */
struct compilation {
    void *memory;
    void *texts;
    void *keys;                      /* memory for `secrets` alone, wiped by the end */
    struct secrets_builder *secrets; /* its blocks are complete; see secrets_open */
    struct span block;               /* inside memory; see generation_open */
};

/* What for, which decides about files that the configuration names. */
enum compilation_purpose {
    COMPILATION_TO_RUN,   /* a certificate that has expired keeps nothing from running: warned of */
    COMPILATION_TO_CHECK, /* it is an error */
    COMPILATION_TO_LOOK,  /* for a value in it: no certificate or key is read, TLS is left out */
};

/*
 * Compiles the file, or the built-in configuration for NULL, and prints what there is to say.
 * ERROR: everything has been said, nothing needs to be closed.
 */
NODISCARD enum status compilation_open(struct compilation *compilation, const char *config,
                                       char **environment, enum compilation_purpose purpose);

void compilation_close(struct compilation *compilation);

#endif
