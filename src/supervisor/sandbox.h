/*
 * What a child may still do to the machine once it works, so that whoever takes one over finds
 * nothing to do: no_new_privs, a list of system calls (seccomp; the table is sandbox.def), no files
 * and no TCP ports but those of the upstreams (Landlock), and no look into its memory for other
 * processes of its user. Closed by the process itself after it has set itself up and before it
 * meets a byte of a client; nothing opens it again.
 *
 * What the machine lacks is left out: the supervisor says so once, at the start. An attempt at
 * anything else than what is allowed ends the process by SIGSYS; the supervisor reports that and
 * starts another one.
 */
#ifndef SENTINEL_SUPERVISOR_SANDBOX_H
#define SENTINEL_SUPERVISOR_SANDBOX_H

#include <stdio.h>

#include "base/status.h"
#include "config/generation.h"
#include "observe/segment.h"

enum {
    SANDBOX_LANDLOCK_FILES = 1, /* the version of the kernel's interface that brought it */
    SANDBOX_LANDLOCK_PORTS = 4,
    SANDBOX_LANDLOCK_SCOPES = 6, /* signals and abstract Unix sockets */
};

/* What the machine offers. */
struct sandbox_support {
    bool no_new_privs;
    bool seccomp;
    int landlock;       /* the version of its interface; 0: none */
    int landlock_error; /* where it is none: why, as an errno */
};

void sandbox_probe(struct sandbox_support *support);

/* Whether a worker has all that keeps it from calls and files; ports and scopes are a second wall.
 */
bool sandbox_is_full(const struct sandbox_support *support);

/* One line on the operator's log for each thing that is missing; none on a machine that has all. */
void sandbox_log_missing(const struct sandbox_support *support);

/* The same for people, with what is there. */
void sandbox_print(FILE *stream, const struct sandbox_support *support);

/*
 * Closes the sandbox of a process of this role. The generation names the upstreams' ports; it may
 * be NULL for the compiler only. ERROR, logged, when the machine offers something that then fails:
 * the process must end.
 */
NODISCARD enum status sandbox_enter(enum process_role role, const struct generation *generation);

#endif
