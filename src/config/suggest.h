/*
 * "Did you mean": the candidate that is the fewest edits away from a word, if it is close enough to
 * be what was meant. Pure, without allocation.
 */
#ifndef SENTINEL_CONFIG_SUGGEST_H
#define SENTINEL_CONFIG_SUGGEST_H

#include "base/span.h"

enum { SUGGEST_WORD_MAX = 64 }; /* longer words are neither helped nor offered */

struct suggestion {
    struct span word;
    struct span best; /* empty: nothing is close enough */
    size_t distance;  /* of best */
};

/* Starts the search for what `word` (borrowed) was meant to be. */
void suggest_init(struct suggestion *suggestion, struct span word);

/* Considers one candidate (borrowed); of equals the first stays. */
void suggest_offer(struct suggestion *suggestion, struct span candidate);

/*
 * The edits between two words of at most SUGGEST_WORD_MAX bytes: insertions, deletions,
 * replacements and swaps of neighbours; the case of letters does not count.
 */
size_t suggest_distance(struct span a, struct span b);

#endif
