#include "base/timer_wheel.h"

#include "base/assert.h"

/* Slots of level n span 64^n ticks; a timer beyond the last level waits in its farthest slot. */
enum { SLOT_BITS = 6 };

static_assert(1 << SLOT_BITS == WHEEL_SLOTS, "a slot number is SLOT_BITS wide");

/* The first tick at which the deadline has passed. */
static uint64_t tick_of(uint64_t deadline)
{
    uint64_t tick = deadline >> WHEEL_TICK_SHIFT;
    return (deadline & ((1U << WHEEL_TICK_SHIFT) - 1)) == 0 ? tick : tick + 1;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now)
{
    *wheel = (struct timer_wheel){.tick = now >> WHEEL_TICK_SHIFT};
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
}

void timer_init(struct timer *timer, uint8_t kind)
{
    *timer = (struct timer){.deadline = UINT64_MAX, .kind = kind};
    list_init(&timer->link);
}

/* Puts an unlinked timer into the slot of its deadline, or of the nearest time the wheel can tell.
 */
static void insert(struct timer_wheel *wheel, struct timer *timer)
{
    const uint64_t horizon = (UINT64_C(1) << (SLOT_BITS * WHEEL_LEVELS)) - 1;
    uint64_t tick = tick_of(timer->deadline);
    if (tick < wheel->tick) {
        tick = wheel->tick;
    }
    if (tick - wheel->tick > horizon - (UINT64_C(1) << (SLOT_BITS * (WHEEL_LEVELS - 1)))) {
        tick = wheel->tick + horizon - (UINT64_C(1) << (SLOT_BITS * (WHEEL_LEVELS - 1)));
    }
    /* The level is that of the highest slot number in which the two ticks differ. */
    uint64_t differs = tick ^ wheel->tick;
    int level = differs == 0 ? 0 : (63 - __builtin_clzll(differs)) / SLOT_BITS;
    if (level >= WHEEL_LEVELS) {
        level = WHEEL_LEVELS - 1;
    }
    timer->tick = tick;
    timer->level = (uint8_t)level;
    timer->slot = (uint8_t)(tick >> (SLOT_BITS * level) & (WHEEL_SLOTS - 1));
    list_push_back(&wheel->slots[level][timer->slot], &timer->link);
    wheel->occupied[level] |= UINT64_C(1) << timer->slot;
}

static void take_out(struct timer_wheel *wheel, struct timer *timer)
{
    list_unlink(&timer->link);
    if (list_is_empty(&wheel->slots[timer->level][timer->slot])) {
        wheel->occupied[timer->level] &= ~(UINT64_C(1) << timer->slot);
    }
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
    if (list_is_linked(&timer->link)) {
        take_out(wheel, timer);
        ASSERT(wheel->count > 0);
        wheel->count--;
    }
    timer->deadline = UINT64_MAX;
}

void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline)
{
    if (deadline == UINT64_MAX) {
        timer_cancel(wheel, timer);
        return;
    }
    timer->deadline = deadline;
    if (list_is_linked(&timer->link)) {
        if (tick_of(deadline) >= timer->tick) {
            return; /* found again when its slot comes up */
        }
        take_out(wheel, timer);
        wheel->count--;
    }
    insert(wheel, timer);
    wheel->count++;
}

/* Spreads the slots that begin at the wheel's tick over the levels below, the highest first. */
static void cascade(struct timer_wheel *wheel)
{
    int top = 1;
    while (top < WHEEL_LEVELS - 1 && (wheel->tick >> (SLOT_BITS * top) & (WHEEL_SLOTS - 1)) == 0) {
        top++;
    }
    for (int level = top; level > 0; level--) {
        unsigned slot = wheel->tick >> (SLOT_BITS * level) & (WHEEL_SLOTS - 1);
        struct list moved;
        list_take_all(&moved, &wheel->slots[level][slot]);
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        for (struct list *link = list_pop_front(&moved); link != NULL;
             link = list_pop_front(&moved)) {
            struct timer *timer = CONTAINER_OF(link, struct timer, link);
            if (timer->deadline == UINT64_MAX) {
                wheel->count--; /* paused: nobody waits for it here */
            } else {
                insert(wheel, timer);
            }
        }
    }
}

/* The next tick after `tick` at which anything can happen: an occupied slot, or a cascade. */
static uint64_t next_tick(const struct timer_wheel *wheel, uint64_t tick)
{
    uint64_t best = UINT64_MAX;
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        if (wheel->occupied[level] == 0) {
            continue;
        }
        int shift = SLOT_BITS * level;
        unsigned current = tick >> shift & (WHEEL_SLOTS - 1);
        uint64_t rotated = wheel->occupied[level] >> current |
                           (current == 0 ? 0 : wheel->occupied[level] << (WHEEL_SLOTS - current));
        uint64_t away = (uint64_t)__builtin_ctzll(rotated);
        if (away == 0 && level > 0) {
            away = WHEEL_SLOTS; /* this slot's beginning has passed: it is one turn ahead */
            uint64_t others = rotated & ~UINT64_C(1);
            away = others != 0 ? (uint64_t)__builtin_ctzll(others) : away;
        }
        uint64_t at = ((tick >> shift) + away) << shift;
        best = at < best ? at : best;
    }
    return best;
}

struct timer *timer_wheel_expire(struct timer_wheel *wheel, uint64_t now)
{
    const uint64_t end = now >> WHEEL_TICK_SHIFT;
    for (;;) {
        struct list *slot = &wheel->slots[0][wheel->tick & (WHEEL_SLOTS - 1)];
        while (!list_is_empty(slot)) {
            struct timer *timer = CONTAINER_OF(slot->next, struct timer, link);
            if (timer->tick > end) {
                return NULL;
            }
            take_out(wheel, timer);
            if (timer->deadline <= now) {
                wheel->count--;
                timer->deadline = UINT64_MAX;
                return timer;
            }
            if (timer->deadline == UINT64_MAX) {
                wheel->count--; /* paused, as in cascade */
                continue;
            }
            /* Its deadline was moved later meanwhile. After a jump beyond the horizon the new slot
             * may be past as well, but it is ahead of the wheel, which gets there. */
            insert(wheel, timer);
            ASSERT(timer->tick > wheel->tick);
        }
        if (wheel->tick >= end) {
            return NULL;
        }
        uint64_t next = wheel->count == 0 ? end : next_tick(wheel, wheel->tick);
        wheel->tick = next < end ? next : end;
        cascade(wheel);
    }
}

uint64_t timer_wheel_next(const struct timer_wheel *wheel)
{
    if (wheel->count == 0) {
        return UINT64_MAX;
    }
    return next_tick(wheel, wheel->tick) << WHEEL_TICK_SHIFT;
}
