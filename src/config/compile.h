/*
 * The configuration compiler: text in, one checked block (config/generation.h) out. It runs in the
 * compiler process and in `sentinel check`; nothing behind it ever parses configuration text. All
 * memory comes from the caller's arena; the only outside it knows is the environment it is given.
 *
 * Every call reports everything that is wrong in one run, in diagnostics; it returns OK (warnings
 * are possible) with an 8-byte aligned block inside the arena that generation_open accepts, or
 * ERROR with *block untouched and at least one error reported.
 *
 * The diagnostics should use an arena of their own, so that "the configuration is too large" can
 * still be said when the compiler's is full.
 */
#ifndef SENTINEL_CONFIG_COMPILE_H
#define SENTINEL_CONFIG_COMPILE_H

#include <stdio.h>

#include "config/diagnostics.h"
#include "config/environment.h"
#include "config/generation.h"

enum {
    COMPILE_SOURCE_MAX = 4 * 1024 * 1024, /* bytes of one configuration file */
    /* Carries the largest file that is not absurdly dense; map it without reserving. */
    COMPILE_ARENA_SIZE = 256 * 1024 * 1024,
    COMPILE_DIAGNOSTICS_ARENA_SIZE = 256 * 1024,
};

/*
 * Compiles the file. Variables named SENTINEL_UPSTREAM, SENTINEL_LISTEN and SENTINEL_WORKERS are
 * ignored with a warning each. The file's text stays in the arena for the diagnostics.
 */
NODISCARD enum status compile_file(const char *path, const struct environment *environment,
                                   struct diagnostics *diagnostics, struct arena *arena,
                                   struct span *block);

/*
 * Compiles the built-in configuration: listen on 0.0.0.0:8080, one upstream 127.0.0.1:8081, one
 * route for everything; SENTINEL_LISTEN, SENTINEL_UPSTREAM and SENTINEL_WORKERS change it.
 */
NODISCARD enum status compile_builtin(const struct environment *environment,
                                      struct diagnostics *diagnostics, struct arena *arena,
                                      struct span *block);

/* One text to compile, with what is needed beside it. */
struct compile_input {
    struct span name; /* shown in messages as the file's name */
    struct span text;
    const struct environment *environment;
};

/*
 * Compiles a text that is already in memory, as compile_file does but without the warnings about
 * variables. The text is borrowed by the diagnostics.
 */
NODISCARD enum status compile_text(const struct compile_input *input,
                                   struct diagnostics *diagnostics, struct arena *arena,
                                   struct span *block);

/*
 * Lists listeners, certificates, upstreams and routes in matching order, for `sentinel check`.
 * `now` is in seconds since 1970.
 */
void compile_print_summary(FILE *stream, const struct generation *generation, uint64_t now);

#endif
