/*
 * Deadlines, many and mostly never reached: a hierarchical wheel of intrusive timers with ticks of
 * about a millisecond. Moving a deadline later costs one store: the entry stays in its slot and is
 * put further when the slot comes up. A timer never fires early, and at most one tick late plus
 * the caller's own delay.
 */
#ifndef SENTINEL_BASE_TIMER_WHEEL_H
#define SENTINEL_BASE_TIMER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum { WHEEL_LEVELS = 5, WHEEL_SLOTS = 64, WHEEL_TICK_SHIFT = 10 };

/* Embedded in its owner. */
struct timer {
    struct list link;
    uint64_t deadline; /* microseconds; UINT64_MAX: not set */
    uint64_t tick;     /* the slot it stands in; at or before the deadline's tick */
    uint8_t level;
    uint8_t slot;
    uint8_t kind; /* the owner's own tag: what embeds this timer */
};

struct timer_wheel {
    uint64_t tick; /* everything before it has fired */
    uint64_t occupied[WHEEL_LEVELS];
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    uint32_t count;
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now);

void timer_init(struct timer *timer, uint8_t kind);

/* Sets or moves the deadline; UINT64_MAX cancels. */
void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline);

/*
 * Unsets the deadline and leaves the timer in the wheel, whose next set costs a store again. For
 * owners that stay where they are: before its memory goes, a timer must be cancelled.
 */
static inline void timer_pause(struct timer *timer)
{
    timer->deadline = UINT64_MAX;
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer);

/*
 * Takes one timer whose deadline is not after now out of the wheel (its deadline becomes
 * UINT64_MAX), or NULL when there is none. Call until NULL, or up to a cap: the rest stays due.
 */
struct timer *timer_wheel_expire(struct timer_wheel *wheel, uint64_t now);

/* A time at or before the earliest deadline, for sleeping; UINT64_MAX when no timer is set. */
uint64_t timer_wheel_next(const struct timer_wheel *wheel);

#endif
