/*
 * The filter that holds what a reader does not take yet, so that the source can be done with: a
 * sink in front of a sink. It delays nothing. Bytes go on as long as the next sink takes them, also
 * through its pipe; only what would have to stay with the source is held, in memory of the pool and
 * up to a maximum, and is the first to go when there is room again. Where memory is short it holds
 * less, or nothing, and the source waits as without it; it then stands among the pool's shorts.
 */
#ifndef SENTINEL_PROXY_HOLD_FILTER_H
#define SENTINEL_PROXY_HOLD_FILTER_H

#include "base/hold.h"
#include "proxy/lane.h"

struct hold_filter {
    struct sink next;
    struct hold_pool *pool;
    struct hold hold;
    bool yields; /* it went no further than LANE_QUANTUM since that was asked last */
};

/* The filter as a sink; it holds at most `max` bytes. `filter` must outlive the lane. */
struct sink hold_filter_before(struct hold_filter *filter, const struct sink *next,
                               struct hold_pool *pool, uint64_t max);

/* Whether more could have been passed on but for the others' sake: run the lane again soon. */
static inline bool hold_filter_yields(struct hold_filter *filter)
{
    bool yields = filter->yields;
    filter->yields = false;
    return yields;
}

/* Forgets what it holds. Harmless twice. */
void hold_filter_clear(struct hold_filter *filter);

#endif
