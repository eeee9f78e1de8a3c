#include "observe/process_table.h"

#include <assert.h>

static_assert(sizeof(struct process_row) == 64, "a cache line each");

uint32_t process_table_rows(const struct generation *generation)
{
    return PROCESS_ROW_WORKERS + generation->header->server.workers;
}

size_t process_table_size(const struct generation *generation)
{
    return process_table_rows(generation) * sizeof(struct process_row);
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

void process_row_begin(struct process_row *row, uint64_t wall_now)
{
    const struct process_sample unknown = {PROCESS_UNKNOWN, PROCESS_UNKNOWN, PROCESS_UNKNOWN};
    process_row_set(row, &unknown);
    set(&row->starts, process_row_read(&row->starts) + 1);
    set(&row->began, wall_now);
}

void process_row_end(struct process_row *row)
{
    set(&row->began, 0);
}

void process_row_set(struct process_row *row, const struct process_sample *sample)
{
    set(&row->processor, sample->processor);
    set(&row->resident, sample->resident);
    set(&row->descriptors, sample->descriptors);
}
