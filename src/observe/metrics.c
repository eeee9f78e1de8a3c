#include "observe/metrics.h"

#include "http/http2_names.h"

static const struct metric_info METRICS[METRIC_COUNT] = {
#define METRIC(id, kind, labels, name, help)                                                       \
    [METRIC_##id] = {METRIC_KIND_##kind, METRIC_LABELS_##labels, name, help},
#include "observe/metrics.def"
#undef METRIC
};

static const char *const STATUS_LABELS[METRICS_STATUS_COUNT] = {
#define STATUS_CODE(code) [METRICS_STATUS_##code] = #code,
#include "observe/status_code.def"
#undef STATUS_CODE
    [METRICS_STATUS_OTHER] = "other",
    [METRICS_STATUS_NONE] = "none",
};

enum { STATUS_MAX = 600 };

/* Slot + 1 of each code, so that 0 stands for the codes without a slot. */
static const uint8_t STATUS_SLOTS[STATUS_MAX] = {
#define STATUS_CODE(code) [code] = METRICS_STATUS_##code + 1,
#include "observe/status_code.def"
#undef STATUS_CODE
};

/* Microseconds. */
static const uint32_t BUCKET_BOUNDS[METRICS_BUCKETS] = {
    500,    1000,   2500,    5000,    10000,   25000,    50000,    100000,
    250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000,
};

static_assert(METRICS_STATUS_COUNT < UINT8_MAX, "a slot fits into a byte");

const struct metric_info *metric_info(enum metric metric)
{
    ASSERT((unsigned)metric < METRIC_COUNT);
    return &METRICS[metric];
}

uint32_t metrics_series(const struct metrics_layout *layout, enum metric metric)
{
    switch (metric_info(metric)->labels) {
    case METRIC_LABELS_NONE:
        return 1;
    case METRIC_LABELS_LISTENER:
        return layout->listeners;
    case METRIC_LABELS_LISTENER_STATE:
        return layout->listeners * METRICS_STATE_COUNT;
    case METRIC_LABELS_ROUTE:
        return layout->routes;
    case METRIC_LABELS_ROUTE_STATUS:
        return layout->routes * METRICS_STATUS_COUNT;
    case METRIC_LABELS_ROUTE_GRPC:
        return layout->routes * METRICS_GRPC_COUNT;
    case METRIC_LABELS_UPSTREAM:
        return layout->upstreams;
    case METRIC_LABELS_UPSTREAM_STATE:
        return layout->upstreams * METRICS_STATE_COUNT;
    case METRIC_LABELS_UPSTREAM_REASON:
        return layout->upstreams * REASON_COUNT;
    case METRIC_LABELS_ENDPOINT:
        return layout->endpoints;
    case METRIC_LABELS_ENDPOINT_RESULT:
        return layout->endpoints * METRICS_RESULT_COUNT;
    case METRIC_LABELS_REASON:
        return REASON_COUNT;
    case METRIC_LABELS_SHED:
        return SHED_KIND_COUNT;
    case METRIC_LABELS_GLITCH:
        return HTTP2_GLITCH_COUNT;
    case METRIC_LABELS_HTTP2_CODE:
        return HTTP2_DIRECTIONS * HTTP2_CODES;
    case METRIC_LABELS_LIMIT:
        return LIMIT_COUNT;
    }
    UNREACHABLE("a label set");
}

static uint32_t cells_of(const struct metrics_layout *layout, enum metric metric)
{
    uint32_t cells_each =
        METRICS[metric].kind == METRIC_KIND_HISTOGRAM ? METRICS_HISTOGRAM_CELLS : 1;
    return metrics_series(layout, metric) * cells_each;
}

void metrics_layout_init(struct metrics_layout *layout, const struct generation *generation)
{
    const struct generation_header *header = generation->header;
    *layout = (struct metrics_layout){
        .listeners = header->listeners.count,
        .routes = header->routes.count + 1,
        .upstreams = header->upstreams.count,
        .endpoints = header->endpoints.count,
    };
    /* A generation's size bounds its counts, so the sum is far below 32 bits. */
    static_assert((uint64_t)GENERATION_SIZE_MAX / sizeof(struct generation_route) *
                          (METRICS_STATUS_COUNT + METRICS_GRPC_COUNT + METRICS_HISTOGRAM_CELLS) <
                      UINT32_MAX / 2,
                  "cells are counted in 32 bits");
    static_assert((uint64_t)GENERATION_SIZE_MAX / sizeof(struct generation_upstream) *
                          (REASON_COUNT + 8) <
                      UINT32_MAX / 2,
                  "cells are counted in 32 bits");
    for (uint32_t metric = 0; metric < METRIC_COUNT; metric++) {
        layout->offsets[metric] = layout->cells;
        layout->cells += cells_of(layout, (enum metric)metric);
    }
}

size_t metrics_size(const struct generation *generation)
{
    struct metrics_layout layout;
    metrics_layout_init(&layout, generation);
    return layout.cells * sizeof(_Atomic uint64_t);
}

void metrics_init(struct metrics *metrics, void *memory, const struct generation *generation)
{
    metrics_layout_init(&metrics->layout, generation);
    metrics->cells = (_Atomic uint64_t *)memory;
    for (uint32_t i = 0; i < metrics->layout.cells; i++) {
        atomic_store_explicit(metrics->cells + i, 0, memory_order_relaxed);
    }
}

enum metrics_status metrics_status_slot(uint16_t status)
{
    if (status == 0) {
        return METRICS_STATUS_NONE;
    }
    if (status >= STATUS_MAX || STATUS_SLOTS[status] == 0) {
        return METRICS_STATUS_OTHER;
    }
    return (enum metrics_status)(STATUS_SLOTS[status] - 1);
}

const char *metrics_shed_label(enum shed_kind kind)
{
    static const char *const labels[] = {
#define SHED(id, label, text) label,
#include "observe/shed.def"
#undef SHED
    };
    ASSERT((unsigned)kind < SHED_KIND_COUNT);
    return labels[kind];
}

const char *metrics_shed_text(enum shed_kind kind)
{
    static const char *const texts[] = {
#define SHED(id, label, text) text,
#include "observe/shed.def"
#undef SHED
    };
    ASSERT((unsigned)kind < SHED_KIND_COUNT);
    return texts[kind];
}

const struct limit_info *limit_info(enum limit limit)
{
    static const struct limit_info rows[] = {
#define LIMIT(id, label, how) {label, LIMIT_##how},
#include "observe/limit.def"
#undef LIMIT
    };
    ASSERT((unsigned)limit < LIMIT_COUNT);
    return &rows[limit];
}

const char *metrics_status_label(enum metrics_status slot)
{
    ASSERT((unsigned)slot < METRICS_STATUS_COUNT);
    return STATUS_LABELS[slot];
}

uint32_t metrics_bucket(uint64_t duration_us)
{
    uint32_t bucket = 0;
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        bucket += duration_us > BUCKET_BOUNDS[i];
    }
    return bucket;
}

uint64_t metrics_bucket_bound_us(uint32_t bucket)
{
    ASSERT(bucket < METRICS_BUCKETS);
    return BUCKET_BOUNDS[bucket];
}

static uint32_t row_of(const struct metrics *metrics, uint32_t route)
{
    uint32_t row = route == METRICS_NO_ROUTE ? metrics->layout.routes - 1 : route;
    ASSERT(row < metrics->layout.routes);
    return row;
}

void metrics_request(struct metrics *metrics, uint32_t route, uint16_t status, uint64_t duration_us)
{
    uint32_t row = row_of(metrics, route);
    metrics_count_at(metrics, METRIC_REQUESTS,
                     row * METRICS_STATUS_COUNT + metrics_status_slot(status));
    metrics_observe(metrics, METRIC_REQUEST_DURATION, row, duration_us);
}

void metrics_grpc_request(struct metrics *metrics, uint32_t route, enum grpc_status status)
{
    ASSERT((unsigned)status < METRICS_GRPC_COUNT);
    metrics_count_at(metrics, METRIC_GRPC_REQUESTS,
                     row_of(metrics, route) * METRICS_GRPC_COUNT + status);
}

void metrics_observe(struct metrics *metrics, enum metric metric, uint32_t index,
                     uint64_t duration_us)
{
    uint32_t first = index * METRICS_HISTOGRAM_CELLS;
    metrics_count_at(metrics, metric, first + metrics_bucket(duration_us));
    metrics_add_at(metrics, metric, first + METRICS_BUCKETS + 1, duration_us);
}

void metrics_failure(struct metrics *metrics, enum reason reason)
{
    ASSERT((unsigned)reason < REASON_COUNT);
    if (reason != REASON_NONE) {
        metrics_count_at(metrics, METRIC_FAILURES, reason);
    }
}

void metrics_upstream_failure(struct metrics *metrics, uint32_t upstream, enum reason reason)
{
    ASSERT(upstream < metrics->layout.upstreams);
    ASSERT((unsigned)reason < REASON_COUNT);
    if (reason != REASON_NONE) {
        metrics_count_at(metrics, METRIC_UPSTREAM_FAILURES, upstream * REASON_COUNT + reason);
    }
}

void metrics_fold(struct metrics *metrics, const void *from)
{
    for (uint32_t metric = 0; metric < METRIC_COUNT; metric++) {
        if (METRICS[metric].kind == METRIC_KIND_GAUGE) {
            continue;
        }
        uint32_t first = metrics->layout.offsets[metric];
        uint32_t end = first + cells_of(&metrics->layout, (enum metric)metric);
        for (uint32_t cell = first; cell < end; cell++) {
            metrics_cell_add(metrics->cells + cell, metrics_cell_read(from, cell));
        }
    }
}
