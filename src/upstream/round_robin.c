/*
 * Smooth weighted round robin: at each turn every candidate gains its weight, the richest is chosen
 * and pays what all gained together. With weights 5, 1, 1 the cycle is a a b a c a a, not a burst
 * of five.
 */
#include "base/assert.h"
#include "base/prng.h"
#include "upstream/balancer.h"

static void start(struct upstream *upstream, struct prng *prng)
{
    int32_t total = 0;
    for (uint32_t i = 0; i < upstream->count; i++) {
        total += (int32_t)upstream->endpoints[i].config->weight;
    }
    for (uint32_t i = 0; i < upstream->count; i++) {
        upstream->endpoints[i].turn = (int32_t)prng_below(prng, (uint32_t)total);
    }
}

static struct endpoint *choose(struct upstream *upstream, struct endpoint **candidates,
                               uint32_t count)
{
    (void)upstream;
    ASSERT(count > 0);
    struct endpoint *best = NULL;
    int32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        int32_t weight = (int32_t)candidates[i]->config->weight;
        total += weight;
        candidates[i]->turn += weight;
        if (best == NULL || candidates[i]->turn > best->turn) {
            best = candidates[i];
        }
    }
    best->turn -= total;
    return best;
}

const struct balancer_ops BALANCE_ROUND_ROBIN = {
    .name = "round_robin",
    .start = start,
    .select = choose,
};
