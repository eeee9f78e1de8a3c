/*
 * Counters, gauges and histograms of one worker: a flat array of 64-bit cells in the worker's
 * segment, laid out from the generation and metrics.def, so that both sides know where each cell is
 * and nothing is read out of the memory as a length or an offset. The owner alone writes (relaxed
 * stores, 1 ns); the controller reads and sums; what the dead had counted is in observe/ledger.h.
 *
 * Which labels there are is fixed: the generation's listeners, routes, upstreams and endpoints, the
 * rows of error.def, the codes of status_code.def. Memory: metrics_size, about 650 bytes a route.
 */
#ifndef SENTINEL_OBSERVE_METRICS_H
#define SENTINEL_OBSERVE_METRICS_H

#include <stdatomic.h>

#include "base/assert.h"
#include "base/reason.h"
#include "base/status.h"
#include "config/generation.h"
#include "http/grpc.h"

enum metric {
#define METRIC(id, kind, labels, name, help) METRIC_##id,
#include "observe/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metric_kind { METRIC_KIND_COUNTER, METRIC_KIND_GAUGE, METRIC_KIND_HISTOGRAM };

/* The index of a cell within its metric, where the label set has one, is said behind each. */
enum metric_labels {
    METRIC_LABELS_NONE,
    METRIC_LABELS_LISTENER,        /* listener */
    METRIC_LABELS_LISTENER_STATE,  /* listener * METRICS_STATE_COUNT + state */
    METRIC_LABELS_ROUTE,           /* route, the last one is "none" */
    METRIC_LABELS_ROUTE_STATUS,    /* route * METRICS_STATUS_COUNT + enum metrics_status */
    METRIC_LABELS_ROUTE_GRPC,      /* route * METRICS_GRPC_COUNT + enum grpc_status, or NONE */
    METRIC_LABELS_UPSTREAM,        /* upstream */
    METRIC_LABELS_UPSTREAM_STATE,  /* upstream * METRICS_STATE_COUNT + state */
    METRIC_LABELS_UPSTREAM_REASON, /* upstream * REASON_COUNT + reason */
    METRIC_LABELS_ENDPOINT,        /* endpoint of the generation (upstream, endpoint) */
    METRIC_LABELS_ENDPOINT_RESULT, /* endpoint * METRICS_RESULT_COUNT + enum metrics_result */
    METRIC_LABELS_REASON,          /* reason */
    METRIC_LABELS_SHED,            /* enum shed_kind */
    METRIC_LABELS_GLITCH,          /* enum http2_glitch */
    METRIC_LABELS_HTTP2_CODE,      /* enum http2_direction * HTTP2_CODES + its index */
    METRIC_LABELS_LIMIT,           /* enum limit; each process its part, in parts per million */
};

/* The bounds whose use is shown, and how the parts of the processes make a whole. */
enum limit {
#define LIMIT(id, label, how) LIMIT_##id,
#include "observe/limit.def"
#undef LIMIT
    LIMIT_COUNT
};

enum limit_sum { LIMIT_SUM, LIMIT_HIGHEST };

struct limit_info {
    const char *label;
    enum limit_sum how;
};

/* The row of a bound; asserts that it is in range. */
const struct limit_info *limit_info(enum limit limit);

/* What a worker gives up when a bound is near: proxy/shedding.h. */
enum shed_kind {
#define SHED(id, label, text) SHED_##id,
#include "observe/shed.def"
#undef SHED
    SHED_KIND_COUNT
};

enum metrics_result { METRICS_RESULT_FAILURE, METRICS_RESULT_SUCCESS, METRICS_RESULT_COUNT };

enum metrics_state { METRICS_STATE_ACTIVE, METRICS_STATE_IDLE, METRICS_STATE_COUNT };

enum {
    METRICS_BUCKETS = 15, /* 0.5 ms to 30 s; one more takes what is slower */
    METRICS_HISTOGRAM_CELLS = METRICS_BUCKETS + 2, /* the last is the sum of all durations */
};

enum metrics_status {
#define STATUS_CODE(code) METRICS_STATUS_##code,
#include "observe/status_code.def"
#undef STATUS_CODE
    METRICS_STATUS_OTHER,
    METRICS_STATUS_NONE, /* no answer was sent */
    METRICS_STATUS_COUNT,
};

enum { METRICS_GRPC_COUNT = GRPC_STATUS_COUNT + 1 }; /* the last one is GRPC_STATUS_NONE */

#define METRICS_NO_ROUTE UINT32_MAX /* "no route matched", in place of a route's index */

struct metric_info {
    enum metric_kind kind;
    enum metric_labels labels;
    const char *name;
    const char *help;
};

/* The row of a metric; asserts that it is in range. */
const struct metric_info *metric_info(enum metric metric);

/* Where the cells are, for writer and readers of the same generation. */
struct metrics_layout {
    uint32_t listeners;
    uint32_t routes; /* with the one called "none" */
    uint32_t upstreams;
    uint32_t endpoints;
    uint32_t cells;                 /* in all */
    uint32_t offsets[METRIC_COUNT]; /* the first cell of each metric */
};

void metrics_layout_init(struct metrics_layout *layout, const struct generation *generation);

/* How many label combinations the metric has. A histogram has METRICS_BUCKETS + 2 cells for each.
 */
uint32_t metrics_series(const struct metrics_layout *layout, enum metric metric);

/* The writing end. Borrows its memory. */
struct metrics {
    struct metrics_layout layout;
    _Atomic uint64_t *cells;
};

/* Bytes that the cells of this generation take. */
size_t metrics_size(const struct generation *generation);

/*
 * Starts at zero in memory of at least metrics_size bytes, aligned to 8, which must outlive the
 * metrics. The memory may be shared; nobody else may write to it.
 */
void metrics_init(struct metrics *metrics, void *memory, const struct generation *generation);

/* The owner is the only writer of a cell, so a load and a store make an increment. */
static inline void metrics_cell_add(_Atomic uint64_t *cell, uint64_t n)
{
    uint64_t old = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, old + n, memory_order_relaxed);
}

/*
 * Adds to one series of a counter or gauge; index as told at enum metric_labels, below
 * metrics_series. A gauge must not go below zero; its sum over the workers is shown.
 */
static inline void metrics_add_at(struct metrics *metrics, enum metric metric, uint32_t index,
                                  uint64_t n)
{
    ASSERT(metrics->layout.offsets[metric] + index < metrics->layout.cells);
    metrics_cell_add(metrics->cells + metrics->layout.offsets[metric] + index, n);
}

static inline void metrics_subtract_at(struct metrics *metrics, enum metric metric, uint32_t index,
                                       uint64_t n)
{
    metrics_add_at(metrics, metric, index, UINT64_C(0) - n);
}

/* Sets one series of a gauge. */
static inline void metrics_set_at(struct metrics *metrics, enum metric metric, uint32_t index,
                                  uint64_t value)
{
    ASSERT(metrics->layout.offsets[metric] + index < metrics->layout.cells);
    atomic_store_explicit(metrics->cells + metrics->layout.offsets[metric] + index, value,
                          memory_order_relaxed);
}

/* The same for metrics without labels. */
static inline void metrics_add(struct metrics *metrics, enum metric metric, uint64_t n)
{
    metrics_add_at(metrics, metric, 0, n);
}

static inline void metrics_subtract(struct metrics *metrics, enum metric metric, uint64_t n)
{
    metrics_subtract_at(metrics, metric, 0, n);
}

static inline void metrics_count(struct metrics *metrics, enum metric metric)
{
    metrics_add_at(metrics, metric, 0, 1);
}

static inline void metrics_count_at(struct metrics *metrics, enum metric metric, uint32_t index)
{
    metrics_add_at(metrics, metric, index, 1);
}

/*
 * Counts a request that ended: requests_total and the duration's histogram. route is an index or
 * METRICS_NO_ROUTE; status is 0 when no answer was sent.
 */
void metrics_request(struct metrics *metrics, uint32_t route, uint16_t status,
                     uint64_t duration_us);

/* Counts a gRPC call that ended; route as above. */
void metrics_grpc_request(struct metrics *metrics, uint32_t route, enum grpc_status status);

/* Counts one more duration of a histogram's series. */
void metrics_observe(struct metrics *metrics, enum metric metric, uint32_t index,
                     uint64_t duration_us);

/* Counts a failed request or connection; REASON_NONE counts nothing. */
void metrics_failure(struct metrics *metrics, enum reason reason);

/* Counts a failed attempt; REASON_NONE counts nothing. */
void metrics_upstream_failure(struct metrics *metrics, uint32_t upstream, enum reason reason);

/* One more client connection of this listener in the state, or one less. */
static inline void metrics_connection_enter(struct metrics *metrics, uint32_t listener,
                                            enum metrics_state state)
{
    metrics_add_at(metrics, METRIC_CONNECTIONS, listener * METRICS_STATE_COUNT + state, 1);
}

static inline void metrics_connection_leave(struct metrics *metrics, uint32_t listener,
                                            enum metrics_state state)
{
    metrics_subtract_at(metrics, METRIC_CONNECTIONS, listener * METRICS_STATE_COUNT + state, 1);
}

/* One more upstream connection in the state, or one less. */
static inline void metrics_upstream_enter(struct metrics *metrics, uint32_t upstream,
                                          enum metrics_state state)
{
    metrics_add_at(metrics, METRIC_UPSTREAM_CONNECTIONS, upstream * METRICS_STATE_COUNT + state, 1);
}

static inline void metrics_upstream_leave(struct metrics *metrics, uint32_t upstream,
                                          enum metrics_state state)
{
    metrics_subtract_at(metrics, METRIC_UPSTREAM_CONNECTIONS,
                        upstream * METRICS_STATE_COUNT + state, 1);
}

/* The label of a kind of shedding, and a clause for logs that goes behind a number. */
const char *metrics_shed_label(enum shed_kind kind);
const char *metrics_shed_text(enum shed_kind kind);

/* The slot of a status, and the label of a slot. */
enum metrics_status metrics_status_slot(uint16_t status);
const char *metrics_status_label(enum metrics_status slot);

/* The bucket of a duration, METRICS_BUCKETS for what is slower than all, and a bucket's bound. */
uint32_t metrics_bucket(uint64_t duration_us);
uint64_t metrics_bucket_bound_us(uint32_t bucket);

/* A reader's view of somebody's cells: metrics_size bytes, aligned to 8, of the same generation. */
static inline uint64_t metrics_cell_read(const void *memory, uint32_t cell)
{
    const _Atomic uint64_t *cells = (const _Atomic uint64_t *)memory;
    return atomic_load_explicit(cells + cell, memory_order_relaxed);
}

/*
 * Adds all counters and histograms of `from` (a reader's view) to the metrics, gauges left out:
 * what a worker that died leaves behind.
 */
void metrics_fold(struct metrics *metrics, const void *from);

#endif
