/*
 * How the supervisor makes a child: fork, then execveat of its own executable, so that each child
 * has an address layout and a stack canary of its own. What a child is to be stands in a sealed
 * memfd (struct spawn_spec), what it may touch on fixed descriptor numbers; nothing else of the
 * supervisor reaches it: every other descriptor is close-on-exec, and the environment is emptied.
 *
 * A child ignores the signals of a terminal and of a service manager that signals the whole group:
 * the supervisor alone decides, and tells over the control channel.
 */
#ifndef SENTINEL_SUPERVISOR_SPAWN_H
#define SENTINEL_SUPERVISOR_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/hash.h"
#include "base/status.h"
#include "observe/segment.h"

/* What argv[0] of a child starts with; a child has no other argument. */
#define SPAWN_TITLE_PREFIX "sentinel: "

enum {
    SPAWN_FD_SPEC = 3,
    SPAWN_FD_CHANNEL = 4,
    SPAWN_FD_GENERATION = 5, /* the compiler's to write, everyone else's to map */
    SPAWN_FD_SEGMENT = 6,    /* not the compiler */
    SPAWN_FD_LIFE = 7,       /* a pipe: workers hold its writing end, the logger its reading end,
                                which ends when the supervisor and all workers are gone */
    SPAWN_FD_COMMONS = 8,    /* workers only: observe/commons.h */
    SPAWN_FD_LEDGER = 8,     /* the controller only: observe/ledger.h */
    SPAWN_FD_SECRETS = 9,    /* config/secrets.h: the compiler's to write; workers' to map, and the
                                controller's, whose memory has the keys of health checks only */
    SPAWN_FD_CHECK_SECRETS = 10, /* the compiler's only: what the controller will find at
                                    SPAWN_FD_SECRETS */
    SPAWN_FD_TICKETS = 10,       /* workers only, where tickets are issued: net/ticket_keys.h */
    SPAWN_FD_LISTENERS = 11,     /* spec.listeners of them */

    SPAWN_PATH_MAX = 4096,
    SPAWN_EXIT_FAILED = 127, /* the exit code of a child that could not become what it is to be */
};

#define SPAWN_MAGIC UINT64_C(0x53454e5350454331) /* "SENSPEC1" */

struct spawn_spec {
    uint64_t magic;
    uint32_t size; /* of this struct: another build's spec is refused */
    uint32_t role; /* enum process_role */
    uint32_t index;
    uint32_t listeners;
    uint64_t incarnation;
    struct hash_key client_key;  /* of a worker: names clients in all workers' counts */
    char config[SPAWN_PATH_MAX]; /* the compiler's file; empty: the built-in configuration */
};

/* Descriptors are borrowed; -1: the child has none. */
struct spawn_options {
    int executable; /* of the supervisor */
    int null;       /* /dev/null: standard input */
    int output;     /* standard output: the logger's log, else `null` again */
    int channel;
    int generation;
    int segment;
    int life;
    int shared;           /* what the role has at SPAWN_FD_COMMONS or SPAWN_FD_LEDGER */
    int secrets;          /* at SPAWN_FD_SECRETS */
    int further;          /* at SPAWN_FD_CHECK_SECRETS or SPAWN_FD_TICKETS */
    const int *listeners; /* spec->listeners of them; -1: its number stays closed */
    const struct spawn_spec *spec;
    char *const *environment; /* NULL: empty but for the sanitizers' variables */
};

/* Makes the child. Its process id, or -1 with errno. */
NODISCARD pid_t spawn_child(const struct spawn_options *options);

#endif
