/*
 * A worker's own view of the upstreams: which endpoints there are, which of them may take a request
 * now, and whose turn it is. Health is the controller's word (observe/health.h); ejection is this
 * worker's own experience with refused connections, always with an expiry, and never of the last
 * endpoint that is left.
 *
 *              EJECTION_FAILURES in a row                 its time has passed
 *    in use --------------------------------> ejected ------------------------> half-open
 *      ^                                         ^                                  |
 *      |                                         +---- refused again: for longer ---+
 *      +------------------------------ the probe connects --------------------------+
 *
 * A half-open endpoint gets one request at a time, a probe, from the one worker that holds its
 * lease (observe/probe_lease.h); what a refused probe learns holds for all workers.
 */
#ifndef SENTINEL_UPSTREAM_UPSTREAM_H
#define SENTINEL_UPSTREAM_UPSTREAM_H

#include "base/list.h"
#include "config/generation.h"
#include "upstream/upstream_tls.h"

struct commons;
struct health_view;
struct prng;
struct balancer_ops;

enum {
    EJECTION_FAILURES = 3,               /* failed connects in a row before an ejection */
    EJECTION_TIME_US = 10 * 1000 * 1000, /* the first; doubles with each one in a row */
    EJECTION_TIME_MAX_US = 60 * 1000 * 1000,
};

struct endpoint {
    const struct generation_endpoint *config;
    uint32_t index;      /* in the generation */
    uint32_t idle_count; /* connections in `idle` */
    uint32_t in_use;     /* leases */
    int32_t turn;        /* the balancer's running weight */
    struct list idle;    /* connections, the most recently used first */
    struct list shared;  /* multiplexed ones that are in use or being opened: see pool.h */
    bool http2;          /* what its upstream's http-version says */
    bool multiplexed;    /* what the last connection that was opened spoke */
    uint32_t failures;   /* failed connects in a row */
    uint32_t ejections;  /* in a row, without a success between; 0: in use */
    uint64_t ejected_until;
    uint64_t lease;                   /* of our probe that is under way; 0: none */
    struct dialing_target target;     /* what connections to it are made of */
    struct tls_resumption resumption; /* of the last one: its next may go on with the session */
};

/* How probes are agreed on with the other workers. */
struct upstream_probes {
    const struct commons *commons; /* borrowed */
    uint32_t owner;                /* this worker's number */
    uint64_t lease_time;           /* microseconds that a probe may take */
};

struct upstream {
    const struct generation_upstream *config;
    const struct balancer_ops *balancer;
    struct endpoint *endpoints; /* config->endpoint_count of them */
    uint32_t count;
    uint32_t ejected; /* endpoints that are not in use, half-open ones included */
    struct upstream_probes probes;
};

static_assert(SEND_PROXY_OFF == (int)PROXY_VERSION_NONE && SEND_PROXY_1 == (int)PROXY_VERSION_1 &&
                  SEND_PROXY_2 == (int)PROXY_VERSION_2,
              "the configuration's versions are the protocol's");

/* Endpoints that one request has tried already. */
struct tried_endpoints {
    uint32_t count;
    const struct endpoint *endpoints[8];
};

/* All upstreams of a generation. */
struct upstream_set {
    struct upstream *upstreams;
    struct endpoint *endpoints;
    uint32_t count;
    uint32_t endpoint_count;
};

/* Bytes that the set of this generation allocates. */
uint64_t upstream_set_bytes(const struct generation *generation);

/*
 * False when memory is short. Each upstream's first turn is random, so that workers do not march.
 * tls, which may be NULL where no endpoint speaks it, is borrowed.
 */
NODISCARD bool upstream_set_init(struct upstream_set *set, const struct generation *generation,
                                 const struct upstream_tls *tls,
                                 const struct upstream_probes *probes, struct prng *prng);
void upstream_set_deinit(struct upstream_set *set);

/*
 * The endpoint for the next attempt: up, not ejected, not tried by this request. When only tried
 * ones are left but `again` is set, one of those. NULL: none. An endpoint that is half-open comes
 * before all others if its lease can be had: then it is a probe (upstream_is_probed), for which the
 * caller connects anew, and which it ends by one of the three calls below.
 */
struct endpoint *upstream_pick(struct upstream *upstream, const struct health_view *health,
                               const struct tried_endpoints *tried, bool again, uint64_t now);

/* Whether a probe of ours is under way. */
static inline bool upstream_is_probed(const struct endpoint *endpoint)
{
    return endpoint->lease != 0;
}

/* Remembers a try; beyond the array's size the oldest are kept. */
void tried_endpoints_add(struct tried_endpoints *tried, const struct endpoint *endpoint);

/*
 * A connect failed or timed out. True when that ejected the endpoint, which it never does while no
 * other endpoint is in use. A probe's failure ejects at once.
 */
bool upstream_note_failure(struct upstream *upstream, struct endpoint *endpoint,
                           const struct health_view *health, uint64_t now);

/* A connect succeeded: the slate is clean. */
void upstream_note_success(struct upstream *upstream, struct endpoint *endpoint);

/* A probe ended without a verdict: whoever comes next may try. Harmless without a probe. */
void upstream_end_probe(struct upstream *upstream, struct endpoint *endpoint);

#endif
