/*
 * What processes that have ended had counted: the totals of their counters and histograms, and
 * which processes are in them. The supervisor writes it, one entry when it reaps a child; the
 * controller maps it read-only and adds the cells of those that live. So the totals depend on no
 * process that may be replaced: a controller that dies takes nothing with it, and its successor
 * counts nobody twice, since the ledger names the last incarnation of each process that it
 * contains.
 *
 * There are two copies and one version, which says by its lowest bit which copy is the current one.
 * The writer fills the other one and then moves the version on, so that there is a whole copy at
 * every instant, wherever the writer stands; a reader that was overtaken looks again.
 *
 * Behind the copies stands the table of processes (observe/process_table.h), which needs none.
 *
 * Memory: ledger_size, twice the cells of a worker. Owners are the processes that count: the
 * logger, the controller, the workers. Their cells are added up and never used otherwise.
 */
#ifndef SENTINEL_OBSERVE_LEDGER_H
#define SENTINEL_OBSERVE_LEDGER_H

#include "observe/metrics.h"
#include "observe/process_table.h"
#include "observe/segment.h"

struct ledger_memory;

/* The writing end. All zero: not open. */
struct ledger {
    struct ledger_memory *memory;
    struct metrics copies[2];
    _Atomic uint64_t *folded[2];
    uint32_t owners;
};

/* A reader's own copy. All zero: nothing was read. */
struct ledger_view {
    const struct ledger_memory *memory; /* NULL: there is no ledger, and all totals are zero */
    struct metrics totals;              /* its cells are the view's own */
    uint64_t *folded;
    uint32_t owners;
};

size_t ledger_size(const struct generation *generation);

/* Starts an empty ledger in zeroed memory of ledger_size bytes, aligned to 64, which outlives it.
 */
void ledger_init(struct ledger *ledger, void *memory, const struct generation *generation);

/*
 * Makes the memory and starts an empty ledger in it: from then on nobody else can write to it. The
 * descriptor (close-on-exec), which the caller owns, is for ledger_map. -1 with errno.
 */
NODISCARD int ledger_create(struct ledger *ledger, const struct generation *generation);

/* The table of processes in a ledger's memory: the writer's, a reader's. */
struct process_row *ledger_processes(const struct ledger *ledger,
                                     const struct generation *generation);
const struct process_row *ledger_processes_read(const void *memory,
                                                const struct generation *generation);

/* Unmaps what ledger_create made; harmless when it made nothing. */
void ledger_destroy(struct ledger *ledger, const struct generation *generation);

/* Maps a ledger for reading; NULL with errno. Unmapped with ledger_unmap, which accepts NULL. */
NODISCARD const void *ledger_map(int fd, const struct generation *generation);
void ledger_unmap(const void *memory, const struct generation *generation);

/*
 * Adds what a process that has ended had counted: metrics_size bytes that nobody changes any more.
 * Does nothing when this incarnation, or a later one of the same process, is in the ledger already.
 */
void ledger_fold(struct ledger *ledger, const struct segment_identity *identity, const void *cells);

/* Makes a view with all totals at zero; memory: ledger_size bytes or NULL. False: out of memory. */
NODISCARD bool ledger_view_init(struct ledger_view *view, const void *memory,
                                const struct generation *generation);
void ledger_view_deinit(struct ledger_view *view);

/*
 * Takes the current copy over, whole. Each time that the writer is quicker it looks again; that it
 * is quicker thousands of times in a row, with a process ending each time, is asserted against.
 */
void ledger_view_refresh(struct ledger_view *view);

/* Whether the view's totals contain this process. */
bool ledger_view_contains(const struct ledger_view *view, const struct segment_identity *identity);

#endif
