/*
 * What each process of the instance takes of the machine: processor time, memory, descriptors, when
 * it began and how often it was started. The supervisor, which alone may look at all of them,
 * samples them once a second and writes the table into the memory that it shares with the
 * controller (observe/ledger.h); the controller shows it in /metrics. Each figure is a word of its
 * own, so that a reader meets whole ones; a row whose process is gone shows no figures.
 *
 * Bounds: one cache line for each process: the supervisor, the logger, the controller, the workers.
 */
#ifndef SENTINEL_OBSERVE_PROCESS_TABLE_H
#define SENTINEL_OBSERVE_PROCESS_TABLE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "config/generation.h"

enum {
    PROCESS_ROW_SUPERVISOR,
    PROCESS_ROW_LOGGER,
    PROCESS_ROW_CONTROLLER,
    PROCESS_ROW_WORKERS, /* the first of them */
};

#define PROCESS_UNKNOWN UINT64_MAX /* a figure that the system does not tell us */

struct process_row {
    _Alignas(64) _Atomic uint64_t began; /* microseconds since the Unix epoch; 0: it is not there */
    _Atomic uint64_t processor;          /* microseconds of processor time */
    _Atomic uint64_t resident;           /* bytes */
    _Atomic uint64_t descriptors;        /* open ones */
    _Atomic uint64_t starts;             /* in all, the first included */
};

/* What a sample found. */
struct process_sample {
    uint64_t processor;
    uint64_t resident;
    uint64_t descriptors;
};

/* Rows, and bytes, of the table for this generation. */
uint32_t process_table_rows(const struct generation *generation);
size_t process_table_size(const struct generation *generation);

/* The row's process has begun, now on the wall clock; it has ended. */
void process_row_begin(struct process_row *row, uint64_t wall_now);
void process_row_end(struct process_row *row);

/* What it takes now. */
void process_row_set(struct process_row *row, const struct process_sample *sample);

static inline uint64_t process_row_read(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

#endif
