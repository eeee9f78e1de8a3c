/*
 * What HTTP's grammars say about single bytes, and the searches over many of them on which the
 * speed of parsing rests. Each search exists twice: with SSE2, part of every x86-64, and portable;
 * the choice is made at compile time and the results are identical. Pure functions, constant
 * tables.
 */
#ifndef SENTINEL_HTTP_BYTES_H
#define SENTINEL_HTTP_BYTES_H

#include "base/span.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum byte_class {
    BYTE_TOKEN = 1,       /* tchar (RFC 9110, 5.6.2) */
    BYTE_UNRESERVED = 2,  /* (RFC 3986, 2.3); also what a host name may hold */
    BYTE_PATH = 4,        /* pchar or `/`, escapes aside (RFC 3986, 3.3) */
    BYTE_PATH_ENCODE = 8, /* not allowed in a path, but sent by browsers: to be encoded */
    BYTE_UNDERSCORE = 16, /* a token byte that some servers take for `-` */
    BYTE_NAME = 32,       /* letters, digits, `-` */
};

/* The classes of each byte, as bits. */
extern const uint8_t byte_classes[256];

static inline bool byte_is_token(uint8_t byte)
{
    return (byte_classes[byte] & BYTE_TOKEN) != 0;
}

/* CR, LF, NUL and all others that no field value may hold; HTAB may stand there (RFC 9110, 5.5). */
static inline bool byte_is_control(uint8_t byte)
{
    return (byte < 0x20 && byte != '\t') || byte == 0x7F;
}

#ifdef __SSE2__
enum { BYTES_LANES = 16 }; /* bytes of a vector */

static inline __m128i bytes_load(const uint8_t *data)
{
    return _mm_loadu_si128((const __m128i_u *)data);
}

/*
 * All ones in each lane from first to last, which are ASCII. Shifted so that last becomes the
 * greatest signed value, the range is all that exceeds a constant: one comparison does.
 */
static inline __m128i bytes_range_lanes(__m128i bytes, char first, char last)
{
    char shift = (char)(0x7F - last);
    return _mm_cmpgt_epi8(_mm_add_epi8(bytes, _mm_set1_epi8(shift)),
                          _mm_set1_epi8((char)(first + shift - 1)));
}
#endif

/* How many bytes from SP to `~` the bytes begin with: nearly always all of a line. */
static inline size_t bytes_span_printable_portable(const uint8_t *data, size_t size)
{
    size_t i = 0;
    while (i < size && data[i] >= ' ' && data[i] <= '~') {
        i++;
    }
    return i;
}

static inline size_t bytes_span_printable(const uint8_t *data, size_t size)
{
    size_t i = 0;
#ifdef __SSE2__
    for (; size - i >= BYTES_LANES; i += BYTES_LANES) {
        __m128i lanes = bytes_range_lanes(bytes_load(data + i), ' ', '~');
        unsigned printable = (unsigned)_mm_movemask_epi8(lanes);
        if (printable != 0xFFFF) {
            return i + (size_t)__builtin_ctz(~printable);
        }
    }
#endif
    return i + bytes_span_printable_portable(data + i, size - i);
}

/* How many letters, digits and `-` the bytes begin with: nearly always all of a field's name. */
static inline size_t bytes_span_name_portable(const uint8_t *data, size_t size)
{
    size_t i = 0;
    while (i < size && ((byte_classes[data[i]] & BYTE_NAME) != 0)) {
        i++;
    }
    return i;
}

static inline size_t bytes_span_name(const uint8_t *data, size_t size)
{
    size_t i = 0;
#ifdef __SSE2__
    for (; size - i >= BYTES_LANES; i += BYTES_LANES) {
        __m128i bytes = bytes_load(data + i);
        __m128i letters = bytes_range_lanes(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
        __m128i others = _mm_or_si128(bytes_range_lanes(bytes, '0', '9'),
                                      _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
        unsigned plain = (unsigned)_mm_movemask_epi8(_mm_or_si128(letters, others));
        if (plain != 0xFFFF) {
            return i + (size_t)__builtin_ctz(~plain);
        }
    }
#endif
    return i + bytes_span_name_portable(data + i, size - i);
}

/* The offset of the first control byte other than HTAB, or size. */
size_t bytes_find_control_portable(const uint8_t *data, size_t size);
size_t bytes_find_control_exact(const uint8_t *data, size_t size);

/* The cheaper search first: what ends the printable bytes is nearly always the CR of a line. */
static inline size_t bytes_find_control(const uint8_t *data, size_t size)
{
    size_t i = bytes_span_printable(data, size);
    if (i == size || data[i] == '\r' || byte_is_control(data[i])) {
        return i;
    }
    return i + bytes_find_control_exact(data + i, size - i);
}

/* Copies the bytes, ASCII letters in lower case. */
static inline void bytes_copy_lower(uint8_t *to, struct span from)
{
    size_t i = 0;
    for (; from.size - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        const uint64_t ones = UINT64_C(0x0101010101010101);
        uint64_t bytes = 0;
        memcpy(&bytes, from.data + i, sizeof(bytes));
        uint64_t low = bytes & 0x7F * ones;
        uint64_t upper = (low + (0x80 - 'A') * ones) & ~(low + (0x7F - 'Z') * ones) & ~bytes;
        bytes |= (upper & 0x80 * ones) >> 2;
        memcpy(to + i, &bytes, sizeof(bytes));
    }
    for (; i < from.size; i++) {
        to[i] = ascii_lower(from.data[i]);
    }
}

/* How many of the bytes are CR, LF or NUL: those that would split or cut a head. */
size_t bytes_count_breaks_portable(struct span bytes);
size_t bytes_count_breaks(struct span bytes);

/* How many are not SP to `~`: all of the above, and more that a value may hold. Cheaper. */
size_t bytes_count_unprintable_portable(struct span bytes);
size_t bytes_count_unprintable(struct span bytes);

#endif
