/*
 * The supervisor's pid file: it names the process and, being locked for as long as that lives,
 * keeps a second instance with the same file from starting. The lock is one for writing: who can
 * only read the file, which is anybody, can keep nobody from starting. A file that a dead instance
 * left behind is taken over; one that holds anything but a process id is left alone. Supervisor
 * process only; one descriptor.
 */
#ifndef SENTINEL_SUPERVISOR_PID_FILE_H
#define SENTINEL_SUPERVISOR_PID_FILE_H

#include <sys/types.h>

#include "base/status.h"
#include "config/generation.h"

struct pid_file {
    int fd;     /* -1: there is none */
    char *path; /* owned */
};

enum pid_file_outcome {
    PID_FILE_TAKEN,
    PID_FILE_HELD,    /* by a living process */
    PID_FILE_FOREIGN, /* it holds what is no process id; it was not touched */
    PID_FILE_FAILED,  /* errno */
};

/*
 * Makes or takes over the file and writes this process's id. HELD: *holder is the other process, or
 * 0 when its id could not be read. *file must be without a file, and stays so but for TAKEN.
 */
NODISCARD enum pid_file_outcome pid_file_take(struct pid_file *file, const char *path,
                                              pid_t *holder);

/*
 * Does so with the generation's pid-file, or with `override` unless that is NULL; "off" is none.
 * ERROR, logged: another instance has it, or a file that was asked for, by key or override, cannot
 * be had. The default that cannot be had is a warning.
 */
NODISCARD enum status pid_file_open(struct pid_file *file, const struct generation *generation,
                                    const char *override);

/* Removes the file, if the path still names it, and lets go of it. Harmless without one. */
void pid_file_close(struct pid_file *file);

#endif
