#include "http/bytes.h"

#include "base/assert.h"

/* Bits of enum byte_class; bytes above 0x7F have none. */
const uint8_t byte_classes[256] = {
    /* clang-format off: a table of sixteen columns */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 0x00 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 0x10 */
    0,  5,  8,  1,  5,  1,  5,  5,  4,  4,  5,  5,  4,  39, 7,  4,  /* 0x20 */
    39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 4,  4,  8,  4,  8,  0,  /* 0x30 */
    4,  39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, /* 0x40 */
    39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 8,  0,  8,  9,  23, /* 0x50 */
    9,  39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, /* 0x60 */
    39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39, 8,  9,  8,  7,  0,  /* 0x70 */
    /* clang-format on */
};

size_t bytes_find_control_portable(const uint8_t *data, size_t size)
{
    size_t i = 0;
    while (i < size && !byte_is_control(data[i])) {
        i++;
    }
    return i;
}

size_t bytes_count_breaks_portable(struct span bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        count += byte == '\r' || byte == '\n' || byte == '\0';
    }
    return count;
}

size_t bytes_count_unprintable_portable(struct span bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        count += bytes.data[i] < ' ' || bytes.data[i] > '~';
    }
    return count;
}

#ifdef __SSE2__
size_t bytes_find_control_exact(const uint8_t *data, size_t size)
{
    const __m128i highest = _mm_set1_epi8(0x1F);
    const __m128i tab = _mm_set1_epi8('\t');
    const __m128i delete = _mm_set1_epi8(0x7F);
    size_t i = 0;
    for (; size - i >= BYTES_LANES; i += BYTES_LANES) {
        __m128i bytes = bytes_load(data + i);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, highest), bytes);
        __m128i controls = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), low),
                                        _mm_cmpeq_epi8(bytes, delete));
        unsigned found = (unsigned)_mm_movemask_epi8(controls);
        if (found != 0) {
            return i + (size_t)__builtin_ctz(found);
        }
    }
    return i + bytes_find_control_portable(data + i, size - i);
}

/* All ones in each lane that is counted. */
typedef __m128i lanes_function(__m128i bytes);

static inline __m128i break_lanes(__m128i bytes)
{
    __m128i ends = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')),
                                _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')));
    return _mm_or_si128(ends, _mm_cmpeq_epi8(bytes, _mm_setzero_si128()));
}

static inline __m128i unprintable_lanes(__m128i bytes)
{
    return _mm_xor_si128(bytes_range_lanes(bytes, ' ', '~'), _mm_set1_epi8(-1));
}

/* Whole vectors, at most 255: so often can a lane count. */
__attribute__((always_inline)) static inline size_t
count_run(const uint8_t *data, const uint8_t *end, lanes_function *lanes)
{
    __m128i counts = _mm_setzero_si128();
    for (; data < end; data += BYTES_LANES) {
        /* A comparison gives -1 where it matches, so subtracting it counts. */
        counts = _mm_sub_epi8(counts, lanes(bytes_load(data)));
    }
    __m128i halves = _mm_sad_epu8(counts, _mm_setzero_si128());
    return (size_t)_mm_cvtsi128_si32(halves) +
           (size_t)_mm_cvtsi128_si32(_mm_unpackhi_epi64(halves, halves));
}

/* At least one vector. Inlined where lanes is a constant, so that it is no call. */
__attribute__((always_inline)) static inline size_t count(struct span bytes, lanes_function *lanes)
{
    enum { RUN_MAX = 255 * BYTES_LANES };
    const uint8_t *end = bytes.data + bytes.size;
    size_t rest = bytes.size % BYTES_LANES;
    size_t sum = 0;
    ASSERT(bytes.size >= BYTES_LANES);
    for (bytes.size -= rest; bytes.size > 0;) {
        size_t size = bytes.size < RUN_MAX ? bytes.size : RUN_MAX;
        sum += count_run(bytes.data, bytes.data + size, lanes);
        bytes = span_from(bytes, size);
    }
    /* The vector that ends with the bytes, of which only the last lanes are new. */
    unsigned last = (unsigned)_mm_movemask_epi8(lanes(bytes_load(end - BYTES_LANES)));
    return sum + (size_t)__builtin_popcount(last >> (BYTES_LANES - rest));
}

size_t bytes_count_breaks(struct span bytes)
{
    return bytes.size < BYTES_LANES ? bytes_count_breaks_portable(bytes)
                                    : count(bytes, break_lanes);
}

size_t bytes_count_unprintable(struct span bytes)
{
    return bytes.size < BYTES_LANES ? bytes_count_unprintable_portable(bytes)
                                    : count(bytes, unprintable_lanes);
}
#else
size_t bytes_find_control_exact(const uint8_t *data, size_t size)
{
    return bytes_find_control_portable(data, size);
}

size_t bytes_count_breaks(struct span bytes)
{
    return bytes_count_breaks_portable(bytes);
}

size_t bytes_count_unprintable(struct span bytes)
{
    return bytes_count_unprintable_portable(bytes);
}
#endif
