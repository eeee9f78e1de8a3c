/*
 * The memory and the descriptors that a configuration can come to take, in the worst case, over all
 * processes. What a worker allocates comes from its plan (proxy/worker_plan.h), the segments from
 * process_segment_plan, the controller's part from itself; what code, stacks and small heaps take
 * was measured and is a constant here. The compiler process weighs its result with this before it
 * hands it over, `sentinel check` prints it. Pure.
 *
 * Not in it: the kernel's side of a connection (socket buffers, TCP memory; see tcp_mem(5)), the
 * page cache of log files, the compiler, which is gone before the first worker starts, and segments
 * of processes that have ended, which are kept until the logger and the controller, or their
 * successors, have taken what is in them: moments, but at most 24 of them.
 *
 * Memory that several processes map is counted once. One generation of the configuration is alive
 * at a time.
 */
#ifndef SENTINEL_SUPERVISOR_BUDGET_H
#define SENTINEL_SUPERVISOR_BUDGET_H

#include "base/assert.h"
#include "config/environment.h"
#include "proxy/worker_plan.h"

/* Rows beyond the worker's plan: what each worker has besides, then everyone else. */
enum budget_row {
    BUDGET_WORKER_METRICS = WORKER_PLAN_ROWS,
    BUDGET_WORKER_RING,
    BUDGET_WORKER_CLIENTS,
    BUDGET_WORKER_FLIGHT,
    BUDGET_WORKER_PROCESS,
    BUDGET_WORKER_ROWS, /* rows before this one are there once for each worker */
    BUDGET_CONTROLLER = BUDGET_WORKER_ROWS,
    BUDGET_LOGGER,
    BUDGET_SUPERVISOR,
    BUDGET_COMMONS,
    BUDGET_GENERATION,
    BUDGET_SECRETS,
    BUDGET_CODE,
    BUDGET_ROWS
};

static_assert((int)BUDGET_ROWS <= (int)FIGURE_ITEMS_MAX, "every row is an item of the figure");

struct budget_item {
    const char *name;
    enum schema_key_id key; /* that sizes it; WORKER_PLAN_NO_KEY: none does alone */
    uint32_t count;         /* objects in one worker; 0: bytes are all there is to say */
    uint64_t one;           /* bytes of the worker that has the most, or of the one process */
    uint64_t all;           /* bytes of all workers, or of the one process */
};

struct budget {
    uint32_t workers;
    struct budget_item items[BUDGET_ROWS];
    struct worker_plan_descriptors descriptors; /* of the worker that has the most */
    uint64_t supervisor_descriptors;
    uint64_t controller_descriptors;
};

void budget_init(struct budget *budget, const struct generation *generation);

/* Bytes of one worker, of all workers, and of everything. */
uint64_t budget_one_worker(const struct budget *budget);
uint64_t budget_workers(const struct budget *budget);
uint64_t budget_bytes(const struct budget *budget);

/* The most descriptors that any one process may hold: the limit is one of each process. */
uint64_t budget_descriptors(const struct budget *budget);

/* The same for the compiler (environment_measure). */
void budget_measure(const struct generation *generation, struct figure *figure);

#endif
