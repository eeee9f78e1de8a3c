/*
 * What the controller says of each endpoint: one atomic word per endpoint of the generation, in the
 * controller's segment. Workers look at it in place; a worker without a controller, or one that
 * finds a word it does not know, takes the endpoint as up: a lost controller never takes capacity
 * away. A controller that hangs is killed by the watchdog, and its words go with its segment.
 */
#ifndef SENTINEL_OBSERVE_HEALTH_H
#define SENTINEL_OBSERVE_HEALTH_H

#include <stdatomic.h>

#include "base/assert.h"
#include "config/generation.h"
#include "net/tls_detail.h"

enum health_state {
    HEALTH_UNKNOWN, /* not checked yet, or never: counts as up */
    HEALTH_UP,
    HEALTH_DOWN,
};

/*
 * Is told that an endpoint, an index of the generation, has changed its state; the detail is that
 * of the handshake that the last check failed of, if it was one.
 */
typedef void health_listener(void *context, uint32_t endpoint, enum health_state state,
                             enum tls_detail detail);

/* A worker's view. All zero: no controller. */
struct health_view {
    const _Atomic uint32_t *words;
    uint32_t count;
};

/* The controller's writing end. */
struct health_board {
    _Atomic uint32_t *words;
    uint32_t count;
};

/* Bytes of the words for this generation. */
size_t health_size(const struct generation *generation);

/*
 * Looks at the words in memory of health_size bytes, which must stay mapped while in view; NULL:
 * there is no controller. Called again when the controller was restarted.
 */
void health_view_init(struct health_view *view, const void *memory,
                      const struct generation *generation);

/* Whether traffic may go to the endpoint, an index of the generation. */
static inline bool health_is_up(const struct health_view *view, uint32_t endpoint)
{
    if (endpoint >= view->count) {
        return true;
    }
    return atomic_load_explicit(view->words + endpoint, memory_order_relaxed) != HEALTH_DOWN;
}

/* Starts with every endpoint unknown, in memory of health_size bytes aligned to 4. */
void health_board_init(struct health_board *board, void *memory,
                       const struct generation *generation);

static inline void health_set(struct health_board *board, uint32_t endpoint,
                              enum health_state state)
{
    ASSERT(endpoint < board->count);
    atomic_store_explicit(board->words + endpoint, (uint32_t)state, memory_order_relaxed);
}

static inline enum health_state health_get(const struct health_board *board, uint32_t endpoint)
{
    ASSERT(endpoint < board->count);
    return (enum health_state)atomic_load_explicit(board->words + endpoint, memory_order_relaxed);
}

#endif
