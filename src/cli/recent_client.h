/*
 * Asks a running instance over its control socket, with a bound on every wait and on the whole, and
 * hands out the lines of its answer. Blocking; for the command line only.
 */
#ifndef SENTINEL_CLI_RECENT_CLIENT_H
#define SENTINEL_CLI_RECENT_CLIENT_H

#include "base/span.h"
#include "base/status.h"

enum {
    RECENT_WAIT_SECONDS = 5,   /* for any progress */
    RECENT_WHOLE_SECONDS = 30, /* for the whole answer */
};

/* Takes one line, without its newline; false: it is not what was asked for. */
typedef bool recent_line_taker(void *context, struct span line);

/*
 * Sends GET /recent and hands out each line. ERROR, with a sentence in why (NUL-terminated, of that
 * size), when nobody answers, or not in time, or not so. The last line's coming is the caller's to
 * check.
 */
NODISCARD enum status recent_ask(const char *path, recent_line_taker *take, void *context,
                                 char *why, size_t size);

#endif
