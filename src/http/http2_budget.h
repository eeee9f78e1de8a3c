/*
 * How much a peer may make us do beside its requests, on one HTTP/2 connection: each glitch
 * (http/http2.def) has a price, time and useful work pay in, and whoever overdraws is asked to calm
 * down and closed. One budget for all kinds, so that no flood is too new to be counted.
 */
#ifndef SENTINEL_HTTP_HTTP2_BUDGET_H
#define SENTINEL_HTTP_HTTP2_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "http/http2_names.h"

enum {
    HTTP2_REFILL_PER_SECOND = 20,
    HTTP2_CREDIT_STREAM = 5, /* both messages of a stream went through whole */
    HTTP2_CREDIT_DATA = 4,   /* a frame of data was sent: windows are updated for it */
};

struct http2_budget {
    uint32_t left;
    uint32_t max;
    uint64_t refilled; /* when, microseconds */
    bool overdrawn;    /* for good */
};

static inline void http2_budget_init(struct http2_budget *budget, uint32_t max, uint64_t now)
{
    *budget = (struct http2_budget){.left = max, .max = max, .refilled = now};
}

static inline void http2_budget_credit(struct http2_budget *budget, uint32_t amount)
{
    uint32_t room = budget->max - budget->left;
    budget->left += amount < room ? amount : room;
}

/* What this kind costs. */
static inline uint32_t http2_glitch_cost(enum http2_glitch kind)
{
    static const uint8_t COSTS[HTTP2_GLITCH_COUNT] = {
#define GLITCH(id, label, cost) cost,
#include "http/http2.def"
#undef GLITCH
    };
    return COSTS[kind];
}

/* Takes the price; the budget is overdrawn when it had less. */
static inline void http2_budget_charge(struct http2_budget *budget, enum http2_glitch kind,
                                       uint64_t now)
{
    const uint64_t per_token = 1000000 / HTTP2_REFILL_PER_SECOND;
    uint64_t tokens = (now - budget->refilled) / per_token;
    if (tokens > 0) {
        budget->refilled += tokens * per_token;
        http2_budget_credit(budget, tokens < budget->max ? (uint32_t)tokens : budget->max);
    }
    uint32_t cost = http2_glitch_cost(kind);
    if (cost > budget->left) {
        budget->overdrawn = true;
        budget->left = 0;
        return;
    }
    budget->left -= cost;
}

#endif
