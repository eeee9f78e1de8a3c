/*
 * The supervisor's children as the system knows them: process ids, control channels, segments. The
 * machine (supervisor.h) decides, this does. A child's segment is handed to those that read it: the
 * logger and the controller get all workers' (the controller the logger's, too), each worker the
 * controller's (health of endpoints), the logger's (how far its ring was read) and the other
 * workers' (how many connections they hold). It is handed out once its owner says that it is ready:
 * before that, what is in it has not begun. When the owner has ended, those who hold it are told;
 * of a crash the controller is told in any case, the next one if there is none just then. The
 * commons (observe/commons.h) are given to each worker when it is made. What a child had counted is
 * entered into the ledger (observe/ledger.h), which each controller is given, when it is reaped:
 * before anyone is told of its end.
 *
 * A worker's ring stays until a logger has read it (supervisor/unread_logs.h).
 *
 * Supervisor process only. Bound: SUPERVISOR_SLOTS_MAX children, two descriptors each.
 */
#ifndef SENTINEL_SUPERVISOR_CHILDREN_H
#define SENTINEL_SUPERVISOR_CHILDREN_H

#include <sys/types.h>

#include "config/generation.h"
#include "observe/ledger.h"
#include "observe/segment.h"
#include "supervisor/listen.h"
#include "supervisor/spawn.h"
#include "supervisor/supervisor.h"
#include "supervisor/ticket_memory.h"
#include "supervisor/unread_logs.h"

struct child {
    pid_t pid;   /* 0: the slot is empty */
    int channel; /* -1: none, or its other end is gone */
    bool ready;  /* it said so */
    int segment_fd;
    struct segment segment; /* read-only; not mapped for the compiler */
};

/* What a crashed process left behind, until a controller can be told of it. */
struct remains {
    struct segment_identity identity;
    int segment_fd;
    int wait_status;
};

enum { REMAINS_MAX = 8 }; /* of more, the oldest are forgotten; their ends have been logged */

struct children {
    struct child items[SUPERVISOR_SLOTS_MAX];
    struct remains remains[REMAINS_MAX];
    uint32_t remains_count;
    struct unread_logs unread;
    int executable;
    int null;
    int life[2];                  /* see SPAWN_FD_LIFE */
    int commons;                  /* made with the first worker, kept for all; -1: not made */
    struct ticket_memory tickets; /* made when the first key is asked for */
    int ledger_fd;                /* made with the first child after the compiler; -1: not made */
    struct ledger ledger;         /* what those that have ended had counted */
    const struct generation *generation; /* that the ledger was made for; borrowed */
    uint64_t incarnations;               /* made so far */
    struct hash_key client_key;          /* drawn once; every worker's */
    struct spawn_spec spec;              /* of the child being made; too large for a frame */
};

/* What a child is made from; borrowed. */
struct children_world {
    const char *config;                  /* NULL: built-in */
    char **environment;                  /* the compiler's */
    int generation_fd;                   /* the compiler's output, everyone else's input */
    int secrets_fd;                      /* the same of the private keys; workers */
    int check_secrets_fd;                /* those that health checks need; the controller */
    const struct generation *generation; /* NULL until compiled */
    const struct listeners *listeners;
    int log; /* what the logger writes to */
};

/* Opens what all children share. ERROR with errno; then nothing is left open. */
NODISCARD enum status children_init(struct children *children);

/* Closes everything; whoever still runs sees the end of its channel. */
void children_deinit(struct children *children);

/* Makes the child of an empty slot and hands it what is ready. ERROR: logged, nothing was made. */
NODISCARD enum status children_spawn(struct children *children, uint32_t slot,
                                     const struct children_world *world);

/* Looks at what each process takes of the machine, and tells the controllers, once there are any.
 */
void children_sample(struct children *children);

/* Draws a new ticket key, for all workers. When that fails, which is logged, the old one stays. */
void children_rotate_tickets(struct children *children, uint64_t now);

/* Sends an order. A child that cannot be told any more is killed; its exit follows. */
void children_tell(struct children *children, uint32_t slot, enum supervisor_order order);

/* Gives the logger, if there is one, a copy of another descriptor to write to. */
void children_tell_log(struct children *children, int log);

/* Sends a signal; harmless when the slot is empty. */
void children_kill(struct children *children, uint32_t slot, int signal);

/*
 * Takes one message that has come from a child. True when it says that it is ready; then its
 * segment has been handed out. A child that says anything else, or says it twice, is compromised
 * and is killed. *more is false once there is nothing to take.
 */
bool children_receive(struct children *children, uint32_t slot, bool *more);

/*
 * Takes one child that has ended out of its slot. False when there is none. Ended processes that
 * are no child of a slot are only reaped.
 */
bool children_reap(struct children *children, uint32_t *slot, int *wait_status);

#endif
