/*
 * The supervisor's mind: a pure machine from events to actions. It makes no system call, knows no
 * descriptor and no clock but the time in its events, so a test can take it through any history.
 * The shell (supervisor/shell.h) feeds it what happened and does what it says, in order. It runs in
 * the supervisor process only; it is one struct of fixed size.
 *
 *     COMPILING --compiled--> OPENING --listening--> STARTING ------all ready------> RUNNING
 *         |                      |                      |                               |
 *         | refused, stopped     | refused              | TERM, INT, or a process       | TERM, INT
 *         v                      v                      v   refuses to start            v
 *      STOPPED <-- FLUSHING <-- CLOSING <---------- DRAINING <--------------------------+
 *                 (the logger) (the controller)   (the workers)
 *
 * Later, traffic goes on without a logger or a controller; but a start in which one of them says
 * that it cannot do its work is refused like one without a worker.
 *
 * Each of the last phases ends when its processes are gone and has a deadline, after which they
 * are killed; a second TERM or INT (QUIT is one, too) kills all but the logger, which gets a moment
 * to empty the rings.
 */
#ifndef SENTINEL_SUPERVISOR_SUPERVISOR_H
#define SENTINEL_SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prng.h"
#include "base/status.h"
#include "net/ticket_keys.h"
#include "observe/log.h"
#include "observe/segment.h"

enum {
    SUPERVISOR_WORKERS_MAX = 256,
    SUPERVISOR_SLOT_COMPILER = 0,
    SUPERVISOR_SLOT_LOGGER = 1,
    SUPERVISOR_SLOT_CONTROLLER = 2,
    SUPERVISOR_SLOT_WORKERS = 3, /* the first of them */
    SUPERVISOR_SLOTS_MAX = SUPERVISOR_SLOT_WORKERS + SUPERVISOR_WORKERS_MAX,
    /* The busiest event tells or kills everyone, says why for everyone, and a few things more. */
    SUPERVISOR_ACTIONS_MAX = 2 * SUPERVISOR_SLOTS_MAX + 16,
    SUPERVISOR_TEXT_MAX = 160, /* bytes of one log line, NUL included */
};

/* Microseconds. */
#define SUPERVISOR_SECOND UINT64_C(1000000)
#define SUPERVISOR_COMPILE_TIMEOUT (10 * SUPERVISOR_SECOND)
#define SUPERVISOR_BACKOFF_FIRST                                                                   \
    (SUPERVISOR_SECOND / 20) /* of the second restart; then doubling                               \
                              */
#define SUPERVISOR_BACKOFF_MAX (2 * SUPERVISOR_SECOND)
#define SUPERVISOR_STABLE_AFTER (10 * SUPERVISOR_SECOND) /* alive so long: all is forgiven */
#define SUPERVISOR_HANG_AFTER (5 * SUPERVISOR_SECOND)    /* without a turn: aborted */
/* The logger may wait for a slow disk, and nobody waits for the logger: it is given longer. */
#define SUPERVISOR_LOGGER_HANG_AFTER (30 * SUPERVISOR_SECOND)
#define SUPERVISOR_HANG_TELLINGS 5 /* and told so often: a paused machine accuses nobody */
#define SUPERVISOR_ABORT_GRACE (1 * SUPERVISOR_SECOND)   /* after the abort: killed */
#define SUPERVISOR_DRAIN_GRACE (1 * SUPERVISOR_SECOND)   /* beyond graceful-shutdown-timeout */
#define SUPERVISOR_CLOSE_TIMEOUT (2 * SUPERVISOR_SECOND) /* for the controller to end */
#define SUPERVISOR_FLUSH_TIMEOUT (5 * SUPERVISOR_SECOND) /* for the logger to empty the rings */
#define SUPERVISOR_KILL_GRACE (1 * SUPERVISOR_SECOND)    /* for the kernel to end the killed */
#define SUPERVISOR_FLUSH_AT_ONCE (SUPERVISOR_SECOND / 2) /* the same after a second signal */

enum supervisor_event_kind {
    SUPERVISOR_STARTED,      /* the first event */
    SUPERVISOR_COMPILED,     /* the compiler's generation is mapped: workers, shutdown_timeout,
                                tickets */
    SUPERVISOR_REFUSED,      /* what the compiler left is no generation, or listening failed */
    SUPERVISOR_LISTENING,    /* all listeners are bound */
    SUPERVISOR_SPAWN_FAILED, /* slot: no process could be made */
    SUPERVISOR_CHILD_READY,  /* slot */
    SUPERVISOR_CHILD_TURNS,  /* slot, turns: its turn counter, told about once a second */
    SUPERVISOR_CHILD_EXITED, /* slot, wait_status as of waitpid */
    SUPERVISOR_SIGNALLED,    /* signal: TERM, INT, QUIT, HUP, USR1 or USR2 came */
    SUPERVISOR_TIMER,        /* the time asked for has come (an early or late one does no harm) */
};

struct supervisor_event {
    enum supervisor_event_kind kind;
    uint64_t now; /* microseconds of a monotonic clock; never less than before */
    uint32_t slot;
    uint32_t workers;          /* 1 to SUPERVISOR_WORKERS_MAX */
    uint64_t shutdown_timeout; /* microseconds */
    bool tickets;              /* workers issue TLS session tickets, so keys are needed */
    uint64_t turns;
    int wait_status;
    int signal;
};

enum supervisor_action_kind {
    SUPERVISOR_SPAWN,           /* slot: make its process; answer SPAWN_FAILED if that fails */
    SUPERVISOR_TELL,            /* slot, order: a message over its control channel */
    SUPERVISOR_KILL,            /* slot, signal */
    SUPERVISOR_OPEN_LISTENERS,  /* and pid and log files; answer LISTENING or REFUSED */
    SUPERVISOR_CLOSE_LISTENERS, /* the supervisor's own copies */
    SUPERVISOR_REOPEN_LOGS,     /* and hand them to the logger, if it lives */
    SUPERVISOR_ROTATE_TICKETS,  /* draw a new key for session tickets */
    SUPERVISOR_SET_TIMER,       /* at: the next TIMER event; UINT64_MAX: none */
    SUPERVISOR_LOG,             /* level, text */
    SUPERVISOR_EXIT,            /* code; the last action ever */
};

enum supervisor_order {
    SUPERVISOR_ORDER_DRAIN, /* finish what runs, then end */
    SUPERVISOR_ORDER_QUIT,  /* end; the logger empties the rings first */
};

struct supervisor_action {
    enum supervisor_action_kind kind;
    uint32_t slot;
    enum supervisor_order order;
    int signal;
    int code;
    enum log_level level;
    uint64_t at;
    char text[SUPERVISOR_TEXT_MAX];
};

/* To be done in order. Cleared by each supervisor_handle. */
struct supervisor_actions {
    size_t count;
    struct supervisor_action items[SUPERVISOR_ACTIONS_MAX];
};

enum supervisor_phase {
    SUPERVISOR_COMPILING,
    SUPERVISOR_OPENING,
    SUPERVISOR_STARTING,
    SUPERVISOR_RUNNING,
    SUPERVISOR_DRAINING,
    SUPERVISOR_CLOSING,
    SUPERVISOR_FLUSHING,
    SUPERVISOR_STOPPED,
};

enum supervisor_slot_state {
    SUPERVISOR_SLOT_EMPTY,   /* nothing runs and nothing is planned */
    SUPERVISOR_SLOT_WAITING, /* to be spawned at `restart_at` */
    SUPERVISOR_SLOT_SPAWNED, /* runs, has not said that it is ready */
    SUPERVISOR_SLOT_READY,   /* runs */
};

struct supervisor_slot {
    enum supervisor_slot_state state;
    uint32_t failures; /* ends in a row without a stable time between them */
    uint64_t spawned_at;
    uint64_t restart_at; /* WAITING */
    uint64_t turns;      /* as last told */
    uint64_t turned_at;  /* when that number was new */
    uint32_t stale;      /* how often it was told since, unchanged */
    uint64_t kill_at;    /* after an abort that may not have worked; 0: none; UINT64_MAX: done */
};

struct supervisor {
    enum supervisor_phase phase;
    uint32_t workers;
    uint64_t shutdown_timeout;
    uint64_t deadline; /* of the phase; 0: none */
    bool overdue;      /* the deadline has passed once, and who remained was killed */
    bool tickets;
    uint64_t rotate_at; /* when the next ticket key is due; 0: none is */
    uint64_t timer_at;  /* what the shell was told last */
    struct prng jitter;
    int exit_code;
    bool hurried; /* a second signal came */
    struct supervisor_slot slots[SUPERVISOR_SLOTS_MAX];
};

/* Starts a machine that waits for STARTED. The seed is for the jitter of restarts. */
void supervisor_init(struct supervisor *supervisor, uint64_t seed);

/*
 * Takes one event and lists what to do about it. Events about children that the machine does not
 * have (late messages of the dead) are dropped. Must not be called after an EXIT action.
 */
void supervisor_handle(struct supervisor *supervisor, const struct supervisor_event *event,
                       struct supervisor_actions *actions);

/* The role of a slot's process and its index among its equals. The slot must be in range. */
enum process_role supervisor_role(uint32_t slot);
uint32_t supervisor_index(uint32_t slot);

/* Asserts what must hold between events. */
void supervisor_check(const struct supervisor *supervisor);

#endif
