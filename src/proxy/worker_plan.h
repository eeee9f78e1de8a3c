/*
 * What one worker allocates, computed from the generation: worker_create takes its sizes and counts
 * from here and `sentinel check` adds them up, so that the memory figure cannot drift from the
 * memory. Pure; any process may ask.
 *
 * All of it is the worst case: memory that was never used is never touched. What a worker maps
 * beside it (its segment, the generation) and what its code takes is the supervisor's sum
 * (supervisor/budget.h). What is in sockets and pipes is the kernel's and in no figure.
 *
 * A library with a heap of its own is counted like everything else: it gets its allocator from us,
 * with a cap that is a row of the plan. A library that cannot be given one cannot be in a worker.
 */
#ifndef SENTINEL_PROXY_WORKER_PLAN_H
#define SENTINEL_PROXY_WORKER_PLAN_H

#include "config/generation.h"
#include "config/schema.h"

#define WORKER_PLAN_NO_KEY SCHEMA_KEYS /* no single key sizes it */

/* Connections, and exchanges, beyond the limit: for answers that refuse. */
enum { WORKER_PLAN_RESERVE_MAX = 64 };

enum worker_plan_row {
#define PLAN(id, key, name) WORKER_PLAN_##id,
#include "proxy/worker_plan.def"
#undef PLAN
    WORKER_PLAN_ROWS
};

struct worker_plan_item {
    uint32_t count;
    size_t size;    /* bytes asked for each */
    uint64_t bytes; /* that all of them take, bookkeeping included */
};

/* Descriptors that one worker may hold at once. */
struct worker_plan_descriptors {
    uint32_t clients;
    uint32_t upstreams;
    uint32_t listeners;
    uint32_t pipes;
    uint32_t own; /* standard streams, channel, loop, tick */
};

struct worker_plan {
    uint32_t connections; /* that this worker may hold, without the reserve */
    uint32_t requests; /* in flight, without the reserve: its share of max-requests and an eighth */
    uint32_t tls_connections;      /* that it has place for; 0: nobody speaks TLS */
    uint32_t handshakes;           /* of TLS, that it has place for */
    uint32_t upstream_connections; /* its share of max-upstream-connections */
    uint32_t splice_pipes;         /* its share of splice-pipes */
    uint32_t tunnels;              /* its share of max-tunnels; at least one */
    uint32_t tunnels_per_client;   /* the same of tunnels-per-client */
    size_t arena_size;             /* of one exchange */
    size_t draft_size;             /* for the message that is being forwarded */
    struct worker_plan_item items[WORKER_PLAN_ROWS];
    struct worker_plan_descriptors descriptors;
};

/* The name of a row for people, and the key that sizes it (or WORKER_PLAN_NO_KEY). */
const char *worker_plan_name(enum worker_plan_row row);
enum schema_key_id worker_plan_key(enum worker_plan_row row);

/* Plans the worker of this index, below the generation's workers. */
void worker_plan_init(struct worker_plan *plan, const struct generation *generation,
                      uint32_t index);

/* All rows together. */
uint64_t worker_plan_bytes(const struct worker_plan *plan);

/* All descriptors together. */
uint64_t worker_plan_descriptors(const struct worker_plan *plan);

/* Worker `index`'s part of what all share; the parts add up to the whole. */
uint32_t worker_plan_share(uint32_t total, uint32_t workers, uint32_t index);

#endif
