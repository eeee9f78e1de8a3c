/*
 * The two mechanisms behind sandbox.h, one file each. Both act on the calling process, for good,
 * and want no_new_privs.
 */
#ifndef SENTINEL_SUPERVISOR_SANDBOX_PARTS_H
#define SENTINEL_SUPERVISOR_SANDBOX_PARTS_H

#include "supervisor/sandbox.h"

/* Sets of processes, as the rows of sandbox.def name them. */
enum processes {
    COMPILER = 1 << PROCESS_COMPILER,
    LOGGER = 1 << PROCESS_LOGGER,
    CONTROLLER = 1 << PROCESS_CONTROLLER,
    WORKER = 1 << PROCESS_WORKER,
    SERVING = LOGGER | CONTROLLER | WORKER,
    EVERY = SERVING | COMPILER,
};

/* The kernel's Landlock interface version; 0, with errno, when there is none. */
int sandbox_landlock_version(void);

/* Denies files and ports, as far as that version can. ERROR with errno. */
NODISCARD enum status sandbox_deny_files(int version, enum process_role role,
                                         const struct generation *generation);

/* Denies all system calls but those of sandbox.def. ERROR with errno. */
NODISCARD enum status sandbox_deny_calls(enum process_role role,
                                         const struct generation *generation);

#endif
