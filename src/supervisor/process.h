/*
 * The other side of spawn.h: what a child does before and around its real work. It finds its spec
 * and its descriptors, maps the generation and its own segment, and becomes what the spec says.
 * Nothing here runs in the supervisor but process_segment_plan.
 */
#ifndef SENTINEL_SUPERVISOR_PROCESS_H
#define SENTINEL_SUPERVISOR_PROCESS_H

#include "config/generation.h"
#include "observe/flight_recorder.h"
#include "observe/segment.h"
#include "supervisor/generation_memory.h"
#include "supervisor/spawn.h"
#include "supervisor/ticket_memory.h"

/* A child after its opening. Lives as long as the process. */
struct process {
    const struct spawn_spec *spec; /* mapped, sealed */
    struct sealed_memory memory;
    struct generation generation;  /* not the compiler's */
    struct segment segment;        /* its own, for writing; not the compiler's */
    struct flight_recorder flight; /* in that segment */
    struct sealed_memory secrets_memory;
    struct secrets secrets;            /* a worker's and the controller's, until forgotten */
    const struct ticket_keys *tickets; /* a worker's; NULL where none are issued */
    int *listeners;                    /* spec->listeners descriptors; -1: not given */
    void *commons;                     /* a worker's; written by all workers */
    int spare;                         /* a descriptor kept for the next order; 0: none */
};

/* What the segment of a process of this role holds (never the compiler's: it has none). */
struct segment_plan process_segment_plan(enum process_role role,
                                         const struct generation *generation);

/*
 * The whole life of a child, when argv says that this process is one (SPAWN_TITLE_PREFIX). The exit
 * code: 0 done, 1 refused to start (logged).
 */
int process_main(void);

/* The work of each role. The exit code. */
int process_compile(struct process *process, char **environment);
int process_log(struct process *process);
int process_control(struct process *process);
int process_work(struct process *process);

/* Unmaps the secrets, once all that is made of them is made. They cannot be had again. */
void process_forget_secrets(struct process *process);

/* Tells the supervisor that the process serves. */
void process_send_ready(void);

/* What the supervisor wants now. */
enum process_order {
    PROCESS_ORDER_NONE,    /* nothing has come */
    PROCESS_ORDER_DRAIN,   /* finish what runs, then end; also when the supervisor has died */
    PROCESS_ORDER_QUIT,    /* end */
    PROCESS_ORDER_LOG,     /* *detail is the descriptor to write the log to from now on */
    PROCESS_ORDER_SEGMENT, /* *segment is another process's, mapped for reading */
    PROCESS_ORDER_GONE,    /* the process of segment->identity has ended, *detail tells how */
    PROCESS_ORDER_LOST,    /* what came could not be taken, for want of a descriptor or memory */
};

/*
 * Keeps a descriptor free for what the next order brings, by holding one that is given up for it:
 * connections can take all others. Without a free one now, it is tried again with each order.
 */
void process_reserve(struct process *process);

/*
 * Takes the next order off the control channel. Once the supervisor is gone each call says
 * PROCESS_ORDER_DRAIN and sets *orphaned, which is otherwise left alone. Orders that are lost are
 * logged, and not sent again: only a successor is told everything anew. The caller unmaps the
 * segments and closes the log that it gets; with NULL for `detail` a log is dropped. The detail of
 * GONE is as of waitpid.
 */
enum process_order process_next_order(struct process *process, struct segment *segment, int *detail,
                                      bool *orphaned);

#endif
