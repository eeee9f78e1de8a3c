/*
 * How many requests a second each client makes, over all workers together: the generic cell rate
 * algorithm (GCRA) in a bounded table of the commons. Of a client there is one number: the time at
 * which its requests so far would be spent if they came at exactly its rate. Each request moves it
 * on by one interval; one that would move it more than the burst ahead of now is refused. Idle
 * clients need no cell: a time that has passed says the same as none.
 *
 * A cell is one word: a tag of 22 bits of the client's keyed hash, and the time, modulo 2^42
 * microseconds (50 days; what claims to lie further ahead than a burst can lead is taken for
 * passed). Cells stand in sets of eight, one cache line; a client's set follows from its hash, so
 * without the key nobody can aim. A request costs one line and one compare-and-swap.
 *
 * A full set. A new client takes the cell of that client whose time is the nearest: the one with
 * the least to lose, which is forgiven what it had used. So a flood of other addresses never gets
 * anybody refused, and the heaviest users, whose times are furthest ahead, are the last to be
 * forgotten; the price is that with more busy clients than cells the limit is generous. Two clients
 * of one set share a cell when their tags are equal: one in half a million pairs.
 *
 * Where another worker changes the cell between our look and our swap we look again, a few times;
 * after that the request is let in. Nobody waits for anybody.
 */
#ifndef SENTINEL_OBSERVE_RATE_TABLE_H
#define SENTINEL_OBSERVE_RATE_TABLE_H

#include "observe/commons.h"

struct rate_table {
    _Atomic uint64_t *cells; /* NULL: there is no limit */
    uint32_t set_mask;       /* sets - 1 */
    uint32_t sampled;        /* the set that the next sample begins with */
    uint64_t interval;       /* microseconds from request to request at the allowed rate */
    uint64_t ahead_max;      /* how far ahead of now a client's time may lie before a request */
};

/* The table in the commons, with the generation's limit. */
void rate_table_init(struct rate_table *table, const struct commons *commons,
                     const struct generation *generation);

static inline bool rate_table_is_on(const struct rate_table *table)
{
    return table->cells != NULL;
}

/*
 * Counts a request of the client with this keyed hash. False: it has had its share; *wait is how
 * many microseconds later it would be let in. The table must be on.
 */
NODISCARD bool rate_table_admit(const struct rate_table *table, uint64_t client, uint64_t now,
                                uint64_t *wait);

/*
 * How full the table is, in parts per million, from a sample of its sets that moves on with every
 * call. Bounded: 512 lines. The table must be on.
 */
uint32_t rate_table_sample(struct rate_table *table, uint64_t now);

#endif
