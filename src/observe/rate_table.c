#include "observe/rate_table.h"

#include "base/assert.h"

enum {
    SET_CELLS = 8,
    TIME_BITS = 42,
    TRIES_MAX = 4,
    SAMPLE_SETS = 512,
};

#define SECOND_US UINT64_C(1000000)
#define TIME_MASK ((UINT64_C(1) << TIME_BITS) - 1)

void rate_table_init(struct rate_table *table, const struct commons *commons,
                     const struct generation *generation)
{
    const struct generation_limits *limits = &generation->header->server.limits;
    *table = (struct rate_table){0};
    if (commons->rate_cells == 0) {
        return;
    }
    static_assert(sizeof(uint64_t) * SET_CELLS == 64, "a set is a cache line");
    table->cells = commons->rates;
    table->set_mask = commons->rate_cells / SET_CELLS - 1;
    table->interval = SECOND_US / limits->request_rate;
    table->ahead_max = table->interval * (limits->request_burst - UINT64_C(1));
    ASSERT(table->interval > 0 && table->ahead_max + table->interval < TIME_MASK / 2);
}

/* How far ahead of now the cell's time lies; 0 when it has passed, or cannot be true. */
static uint64_t ahead(const struct rate_table *table, uint64_t word, uint64_t now)
{
    uint64_t distance = (word - now) & TIME_MASK;
    return word != 0 && distance <= table->ahead_max + table->interval ? distance : 0;
}

/* What one look at a set has found for a client. */
struct place {
    uint64_t word;  /* what the cell holds */
    uint64_t ahead; /* the client's own; 0 in another's cell */
    uint32_t cell;
};

static struct place look(const struct rate_table *table, const _Atomic uint64_t *set, uint64_t tag,
                         uint64_t now)
{
    struct place best = {0};
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < SET_CELLS; i++) {
        uint64_t word = atomic_load_explicit(set + i, memory_order_relaxed);
        uint64_t time = ahead(table, word, now);
        if (time > 0 && word >> TIME_BITS == tag) {
            return (struct place){word, time, i};
        }
        if (time < least) {
            least = time;
            best = (struct place){word, 0, i};
        }
    }
    return best;
}

bool rate_table_admit(const struct rate_table *table, uint64_t client, uint64_t now, uint64_t *wait)
{
    ASSERT(rate_table_is_on(table));
    uint64_t tag = client >> TIME_BITS;
    _Atomic uint64_t *set = table->cells + (size_t)(client & table->set_mask) * SET_CELLS;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct place place = look(table, set, tag, now);
        if (place.ahead > table->ahead_max) {
            *wait = place.ahead - table->ahead_max;
            return false;
        }
        uint64_t time = (now + place.ahead + table->interval) & TIME_MASK;
        if (atomic_compare_exchange_strong_explicit(set + place.cell, &place.word,
                                                    tag << TIME_BITS | time, memory_order_relaxed,
                                                    memory_order_relaxed)) {
            return true;
        }
    }
    return true;
}

uint32_t rate_table_sample(struct rate_table *table, uint64_t now)
{
    ASSERT(rate_table_is_on(table));
    uint32_t sets = table->set_mask < SAMPLE_SETS ? table->set_mask + 1 : SAMPLE_SETS;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < sets; i++) {
        const _Atomic uint64_t *set =
            table->cells + (size_t)((table->sampled + i) & table->set_mask) * SET_CELLS;
        for (uint32_t j = 0; j < SET_CELLS; j++) {
            uint64_t word = atomic_load_explicit(set + j, memory_order_relaxed);
            taken += ahead(table, word, now) > 0 ? 1 : 0;
        }
    }
    table->sampled = (table->sampled + sets) & table->set_mask;
    return (uint32_t)((uint64_t)taken * 1000000 / ((uint64_t)sets * SET_CELLS));
}
