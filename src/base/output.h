/*
 * A bounded place to render bytes into: memory that its owner lends, a size that only grows, and an
 * overflow mark. Running out is sticky: from the first piece that does not fit, nothing more is
 * appended, so that a caller renders everything and checks `overflowed` once. It never writes past
 * its capacity and never allocates.
 */
#ifndef SENTINEL_BASE_OUTPUT_H
#define SENTINEL_BASE_OUTPUT_H

#include "base/assert.h"
#include "base/span.h"

struct output {
    uint8_t *data; /* borrowed from the owner */
    size_t size;
    size_t capacity;
    bool overflowed;
};

static inline struct output output_over(void *data, size_t capacity)
{
    return (struct output){.data = (uint8_t *)data, .capacity = capacity};
}

/* What has been rendered so far. */
static inline struct span output_bytes(const struct output *output)
{
    return span_of(output->data, output->size);
}

/*
 * Room for exactly size bytes, already counted as written; NULL, with the overflow mark set, when
 * they do not fit. The caller fills all of it.
 */
static inline uint8_t *output_take(struct output *output, size_t size)
{
    ASSERT(output->size <= output->capacity);
    if (output->overflowed || size > output->capacity - output->size) {
        output->overflowed = true;
        return NULL;
    }
    uint8_t *place = output->data + output->size;
    output->size += size;
    return place;
}

/* Appends the bytes, all or nothing. */
static inline void output_span(struct output *output, struct span bytes)
{
    uint8_t *place = output_take(output, bytes.size);
    if (place != NULL && bytes.data != NULL) {
        memcpy(place, bytes.data, bytes.size);
    }
}

static inline void output_byte(struct output *output, uint8_t byte)
{
    uint8_t *place = output_take(output, 1);
    if (place != NULL) {
        *place = byte;
    }
}

/* Appends a string literal; its length is known at compile time, so this is a few stores. */
#define OUTPUT_LITERAL(output, literal) output_span((output), SPAN(literal))

/* Decimal digits without leading zeros. */
void output_u64(struct output *output, uint64_t value);

/* Lower-case hexadecimal digits without leading zeros. */
void output_hex(struct output *output, uint64_t value);

#endif
