#include "config/suggest.h"

#include "base/assert.h"

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/*
 * Optimal string alignment, row by row: row[j] is the distance between the bytes of `a` so far and
 * the first j bytes of `b`; a swap looks two rows back.
 */
size_t suggest_distance(struct span a, struct span b)
{
    size_t rows[3][SUGGEST_WORD_MAX + 1];
    ASSERT(a.size <= SUGGEST_WORD_MAX && b.size <= SUGGEST_WORD_MAX);
    for (size_t j = 0; j <= b.size; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a.size; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3];
        uint8_t byte = ascii_lower(a.data[i - 1]);
        row[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            uint8_t other = ascii_lower(b.data[j - 1]);
            row[j] = least(above[j - 1] + (byte != other), least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && byte == ascii_lower(b.data[j - 2]) &&
                other == ascii_lower(a.data[i - 2])) {
                row[j] = least(row[j], rows[(i - 2) % 3][j - 2] + 1);
            }
        }
    }
    return rows[a.size % 3][b.size];
}

void suggest_init(struct suggestion *suggestion, struct span word)
{
    *suggestion = (struct suggestion){.word = word, .distance = SIZE_MAX};
}

/* A third of the word may be wrong: more is another word. */
static size_t tolerance(size_t size)
{
    return size < 3 ? 1 : (size + 2) / 3;
}

void suggest_offer(struct suggestion *suggestion, struct span candidate)
{
    struct span word = suggestion->word;
    if (word.size == 0 || word.size > SUGGEST_WORD_MAX || candidate.size == 0 ||
        candidate.size > SUGGEST_WORD_MAX) {
        return;
    }
    size_t distance = suggest_distance(word, candidate);
    size_t longest = word.size > candidate.size ? word.size : candidate.size;
    if (distance < suggestion->distance && distance < longest &&
        distance <= tolerance(candidate.size)) {
        suggestion->best = candidate;
        suggestion->distance = distance;
    }
}
