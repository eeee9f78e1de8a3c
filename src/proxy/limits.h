/*
 * How much of each bound this worker uses, for sentinel_limit_utilization_ratio (the rows of
 * observe/limit.def, in parts per million). Looked at once in a turn; what has not changed costs a
 * comparison. Owned by the worker; no allocation.
 */
#ifndef SENTINEL_PROXY_LIMITS_H
#define SENTINEL_PROXY_LIMITS_H

#include "observe/metrics.h"

struct proxy;

struct limits {
    uint32_t used[LIMIT_COUNT];  /* as published last */
    uint64_t scale[LIMIT_COUNT]; /* what one unit is, in parts per million, times 2^20 */
    uint32_t client_peak;        /* most connections that a client was seen with, lately */
    uint32_t client_peak_before; /* the same of the time before */
    uint64_t peak_until;         /* then the peak of this time is that of the time before */
    uint64_t sample_at;          /* when the table of rates is looked at next */
};

/* The worker's bounds; its pools must be there. */
void limits_init(struct proxy *proxy);

/* A client has so many connections now, over all workers. */
static inline void limits_note_client(struct limits *limits, uint64_t connections)
{
    if (connections > limits->client_peak) {
        limits->client_peak = connections < UINT32_MAX ? (uint32_t)connections : UINT32_MAX;
    }
}

/* Publishes what has changed. */
void limits_publish(struct proxy *proxy);

#endif
