/*
 * Whose turn it is among the endpoints that may take a request. One policy is one file; the vtable
 * is all that the rest knows of it. A policy keeps its state in the endpoints and never blocks.
 */
#ifndef SENTINEL_UPSTREAM_BALANCER_H
#define SENTINEL_UPSTREAM_BALANCER_H

#include "upstream/upstream.h"

struct balancer_ops {
    const char *name;

    /* Sets the policy's state to a random point of its cycle. */
    void (*start)(struct upstream *upstream, struct prng *prng);

    /* One of the candidates (at least one), in time linear in their number. */
    struct endpoint *(*select)(struct upstream *upstream, struct endpoint **candidates,
                               uint32_t count);
};

/* Smooth weighted round robin: over one cycle each endpoint gets its weight, evenly interleaved. */
extern const struct balancer_ops BALANCE_ROUND_ROBIN;

#endif
