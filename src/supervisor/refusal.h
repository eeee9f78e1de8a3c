/*
 * How the supervisor says that a port, a file or a socket that it was told to use cannot be had:
 * one line with what it is, why not, where the configuration names it, and what helps. Supervisor
 * process, and the command line. No state.
 */
#ifndef SENTINEL_SUPERVISOR_REFUSAL_H
#define SENTINEL_SUPERVISOR_REFUSAL_H

#include "config/generation.h"
#include "observe/log.h"

/* What the refused thing is: the same errno means something else for each. */
enum refusal_of {
    REFUSAL_OF_ADDRESS, /* a TCP port to listen on */
    REFUSAL_OF_FILE,    /* to be opened, or made in its folder */
    REFUSAL_OF_SOCKET,  /* a Unix socket to be made in its folder */
    REFUSAL_OF_PROCESS, /* to be made */
};

/* Why, in words: `error`, an errno, as it is meant for this. */
const char *refusal_reason(enum refusal_of what, int error);

/* What helps against it, beginning with "; ", or nothing where no advice is better than the reason.
 */
const char *refusal_advice(enum refusal_of what, int error);

/*
 * Logs the text, then the place in the configuration, if it has one, then the advice. errno is
 * preserved.
 */
void refusal_log(enum log_level level, const struct generation *generation,
                 const struct generation_place *place, const char *advice, const char *format, ...)
    PRINTF_LIKE(5, 6);

#endif
