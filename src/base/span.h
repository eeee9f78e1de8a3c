/*
 * A span is a borrowed run of bytes: pointer and length, never NUL-terminated, never owned. All
 * bytes from a peer travel as spans. A NULL pointer is allowed only together with size 0 and means
 * "absent" where a contract distinguishes absent from empty.
 */
#ifndef SENTINEL_BASE_SPAN_H
#define SENTINEL_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *data;
    size_t size;
};

#define SPAN_EMPTY ((struct span){0})

/* The bytes of a string literal, without its NUL. */
#define SPAN(literal) ((struct span){(const uint8_t *)("" literal), sizeof(literal) - 1})

/* printf arguments for "%.*s". The span must be shorter than INT_MAX, which every limit ensures. */
#define SPAN_ARGS(span) (int)(span).size, (const char *)(span).data

static inline struct span span_of(const void *data, size_t size)
{
    return (struct span){(const uint8_t *)data, size};
}

/* Borrows a NUL-terminated string of our own (never one from a peer). */
static inline struct span span_of_string(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool span_starts_with(struct span span, struct span prefix)
{
    return span.size >= prefix.size &&
           (prefix.size == 0 || memcmp(span.data, prefix.data, prefix.size) == 0);
}

static inline bool span_ends_with(struct span span, struct span suffix)
{
    return span.size >= suffix.size &&
           (suffix.size == 0 ||
            memcmp(span.data + span.size - suffix.size, suffix.data, suffix.size) == 0);
}

/* The part from offset on; offset must not exceed the size. */
static inline struct span span_from(struct span span, size_t offset)
{
    return (struct span){span.data + offset, span.size - offset};
}

/* The first size bytes; size must not exceed the span's. */
static inline struct span span_first(struct span span, size_t size)
{
    return (struct span){span.data, size};
}

static inline uint8_t ascii_lower(uint8_t byte)
{
    return (uint8_t)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
}

static inline bool ascii_is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The value of a hexadecimal digit, or -1. */
int ascii_hex_value(uint8_t byte);

/* Equality that ignores the case of ASCII letters only (RFC 9110, 5.1 field names). */
bool span_equal_nocase(struct span a, struct span b);

/* The offset of the first such byte, or the span's size. */
size_t span_find(struct span span, uint8_t byte);

/* Removes SP and HTAB at both ends (OWS, RFC 9110, 5.6.3). */
struct span span_trim(struct span span);

/*
 * Takes the next element of a comma-separated list off the front of *rest (RFC 9110, 5.6.1),
 * trimmed; empty elements are skipped. False at the end of the list. Quoted strings are not known:
 * for lists of tokens only.
 */
bool span_next_element(struct span *rest, struct span *element);

/*
 * Reads all of the span as decimal digits. False, with *value untouched, when it is empty, has any
 * other byte, or exceeds max.
 */
bool span_to_u64(struct span span, uint64_t max, uint64_t *value);

#endif
