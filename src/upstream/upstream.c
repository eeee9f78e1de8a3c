#include "upstream/upstream.h"

#include <stdlib.h>

#include "base/assert.h"
#include "observe/health.h"
#include "observe/probe_lease.h"
#include "upstream/balancer.h"

enum { CANDIDATES_MAX = 256 }; /* endpoints considered for one pick */

static_assert((uint64_t)EJECTION_TIME_MAX_US <= PROBE_LEASE_MAX, "a ban covers an ejection");

static const struct balancer_ops *balancer_of(uint32_t kind)
{
    ASSERT(kind == BALANCER_ROUND_ROBIN);
    return &BALANCE_ROUND_ROBIN;
}

static void init_upstream(struct upstream_set *set, const struct generation *generation,
                          uint32_t index, struct prng *prng)
{
    const struct generation_upstream *config = generation_upstream(generation, index);
    struct upstream *upstream = &set->upstreams[index];
    *upstream = (struct upstream){.config = config,
                                  .balancer = balancer_of(config->balancer),
                                  .endpoints = set->endpoints + config->endpoint_first,
                                  .count = config->endpoint_count};
    for (uint32_t i = 0; i < upstream->count; i++) {
        struct endpoint *endpoint = &upstream->endpoints[i];
        endpoint->index = config->endpoint_first + i;
        endpoint->config = generation_endpoint(generation, endpoint->index);
        endpoint->http2 = config->http_version == UPSTREAM_HTTP_2;
        endpoint->multiplexed = endpoint->http2;
        list_init(&endpoint->idle);
        list_init(&endpoint->shared);
    }
    upstream->balancer->start(upstream, prng);
}

uint64_t upstream_set_bytes(const struct generation *generation)
{
    return (generation->header->upstreams.count + 1U) * sizeof(struct upstream) +
           (generation->header->endpoints.count + 1U) * sizeof(struct endpoint);
}

bool upstream_set_init(struct upstream_set *set, const struct generation *generation,
                       const struct upstream_tls *tls, const struct upstream_probes *probes,
                       struct prng *prng)
{
    set->count = generation->header->upstreams.count;
    set->endpoint_count = generation->header->endpoints.count;
    set->upstreams = calloc(set->count + 1U, sizeof(*set->upstreams));
    set->endpoints = calloc(set->endpoint_count + 1U, sizeof(*set->endpoints));
    if (set->upstreams == NULL || set->endpoints == NULL) {
        upstream_set_deinit(set);
        return false;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        init_upstream(set, generation, i, prng);
        set->upstreams[i].probes = *probes;
    }
    for (uint32_t i = 0; i < set->endpoint_count; i++) {
        struct endpoint *endpoint = &set->endpoints[i];
        upstream_tls_target(tls, generation, i, &endpoint->resumption, &endpoint->target);
    }
    return true;
}

void upstream_set_deinit(struct upstream_set *set)
{
    for (uint32_t i = 0; set->endpoints != NULL && i < set->endpoint_count; i++) {
        tls_resumption_drop(&set->endpoints[i].resumption);
    }
    free(set->upstreams);
    free(set->endpoints);
    *set = (struct upstream_set){0};
}

static bool was_tried(const struct tried_endpoints *tried, const struct endpoint *endpoint)
{
    for (uint32_t i = 0; i < tried->count; i++) {
        if (tried->endpoints[i] == endpoint) {
            return true;
        }
    }
    return false;
}

void tried_endpoints_add(struct tried_endpoints *tried, const struct endpoint *endpoint)
{
    if (tried->count < sizeof(tried->endpoints) / sizeof(tried->endpoints[0]) &&
        !was_tried(tried, endpoint)) {
        tried->endpoints[tried->count++] = endpoint;
    }
}

static bool is_usable(const struct endpoint *endpoint, const struct health_view *health)
{
    return endpoint->ejections == 0 && health_is_up(health, endpoint->index);
}

/* Fills in who may take a request now; tried NULL: whoever was tried counts, too. */
static uint32_t candidates(struct upstream *upstream, const struct health_view *health,
                           const struct tried_endpoints *tried, struct endpoint **found)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < upstream->count && count < CANDIDATES_MAX; i++) {
        struct endpoint *endpoint = &upstream->endpoints[i];
        if (is_usable(endpoint, health) && (tried == NULL || !was_tried(tried, endpoint))) {
            found[count++] = endpoint;
        }
    }
    return count;
}

/* The lease of a half-open endpoint, if it is one and nobody has it. */
static bool begin_probe(const struct upstream *upstream, struct endpoint *endpoint, uint64_t now)
{
    const struct upstream_probes *probes = &upstream->probes;
    return endpoint->ejections > 0 && endpoint->ejected_until <= now &&
           !upstream_is_probed(endpoint) &&
           probe_lease_take(probes->commons, endpoint->index, probes->owner, now,
                            probes->lease_time, &endpoint->lease);
}

static struct endpoint *pick_probe(const struct upstream *upstream,
                                   const struct health_view *health,
                                   const struct tried_endpoints *tried, uint64_t now)
{
    for (uint32_t i = 0; i < upstream->count; i++) {
        struct endpoint *endpoint = &upstream->endpoints[i];
        if (endpoint->ejections > 0 && health_is_up(health, endpoint->index) &&
            !was_tried(tried, endpoint) && begin_probe(upstream, endpoint, now)) {
            return endpoint;
        }
    }
    return NULL;
}

static struct endpoint *choose(struct upstream *upstream, const struct health_view *health,
                               const struct tried_endpoints *tried, bool again)
{
    struct endpoint *found[CANDIDATES_MAX];
    uint32_t count = candidates(upstream, health, tried, found);
    if (count == 0 && again) {
        count = candidates(upstream, health, NULL, found);
    }
    return count == 0 ? NULL : upstream->balancer->select(upstream, found, count);
}

struct endpoint *upstream_pick(struct upstream *upstream, const struct health_view *health,
                               const struct tried_endpoints *tried, bool again, uint64_t now)
{
    struct endpoint *probe =
        upstream->ejected > 0 ? pick_probe(upstream, health, tried, now) : NULL;
    if (probe != NULL) {
        return probe;
    }
    if (upstream->count == 1 && tried->count == 0 && is_usable(&upstream->endpoints[0], health)) {
        return &upstream->endpoints[0];
    }
    return choose(upstream, health, tried, again);
}

/* Whether another endpoint would be left if this one were ejected. */
static bool others_left(const struct upstream *upstream, const struct endpoint *endpoint,
                        const struct health_view *health)
{
    for (uint32_t i = 0; i < upstream->count; i++) {
        const struct endpoint *other = &upstream->endpoints[i];
        if (other != endpoint && is_usable(other, health)) {
            return true;
        }
    }
    return false;
}

static void eject(struct upstream *upstream, struct endpoint *endpoint, uint64_t now)
{
    uint64_t time = EJECTION_TIME_US;
    for (uint32_t i = 0; i < endpoint->ejections && time < EJECTION_TIME_MAX_US; i++) {
        time *= 2;
    }
    endpoint->ejected_until =
        now + (time < EJECTION_TIME_MAX_US ? time : (uint64_t)EJECTION_TIME_MAX_US);
    upstream->ejected += endpoint->ejections == 0 ? 1 : 0;
    endpoint->ejections++;
    endpoint->failures = 0;
}

/* Back in use. */
static void readmit(struct upstream *upstream, struct endpoint *endpoint)
{
    upstream->ejected -= endpoint->ejections > 0 ? 1 : 0;
    endpoint->failures = 0;
    endpoint->ejections = 0;
    endpoint->ejected_until = 0;
}

bool upstream_note_failure(struct upstream *upstream, struct endpoint *endpoint,
                           const struct health_view *health, uint64_t now)
{
    bool probed = upstream_is_probed(endpoint);
    bool left = others_left(upstream, endpoint, health);
    if (probed && !left) {
        /* Nobody else is there to take its requests. */
        upstream_end_probe(upstream, endpoint);
        readmit(upstream, endpoint);
        return false;
    }
    if (probed) {
        uint64_t lease = endpoint->lease;
        eject(upstream, endpoint, now);
        endpoint->lease = 0;
        probe_lease_ban(upstream->probes.commons, endpoint->index, lease, endpoint->ejected_until);
        return true;
    }
    if (endpoint->ejections > 0) {
        return false; /* a connect that was under way when it was ejected */
    }
    endpoint->failures++;
    if (endpoint->failures < EJECTION_FAILURES || !left) {
        return false;
    }
    eject(upstream, endpoint, now);
    return true;
}

void upstream_note_success(struct upstream *upstream, struct endpoint *endpoint)
{
    upstream_end_probe(upstream, endpoint);
    readmit(upstream, endpoint);
}

void upstream_end_probe(struct upstream *upstream, struct endpoint *endpoint)
{
    if (upstream_is_probed(endpoint)) {
        probe_lease_free(upstream->probes.commons, endpoint->index, endpoint->lease);
        endpoint->lease = 0;
    }
}
