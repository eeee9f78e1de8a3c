#include "http/bytes.h"

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

struct line_count bytes_count_lines_portable(struct span bytes)
{
    struct line_count count = {0};
    for (size_t i = 0; i < bytes.size; i++) {
        count.carriage_returns += bytes.data[i] == '\r';
        count.line_feeds += bytes.data[i] == '\n';
        count.nuls += bytes.data[i] == '\0';
    }
    return count;
}

#ifdef __SSE2__
static size_t sum_of_lanes(__m128i lanes)
{
    __m128i halves = _mm_sad_epu8(lanes, _mm_setzero_si128());
    return (size_t)_mm_cvtsi128_si32(halves) +
           (size_t)_mm_cvtsi128_si32(_mm_unpackhi_epi64(halves, halves));
}

/* Counts so far in each lane; a comparison gives -1 where it matches, so subtracting it counts. */
struct lane_counts {
    __m128i returns;
    __m128i feeds;
    __m128i nuls;
};

static inline void count_block(struct lane_counts *counts, __m128i bytes, __m128i valid)
{
    __m128i returns = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r'));
    __m128i feeds = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'));
    __m128i nuls = _mm_cmpeq_epi8(bytes, _mm_setzero_si128());
    counts->returns = _mm_sub_epi8(counts->returns, _mm_and_si128(returns, valid));
    counts->feeds = _mm_sub_epi8(counts->feeds, _mm_and_si128(feeds, valid));
    counts->nuls = _mm_sub_epi8(counts->nuls, _mm_and_si128(nuls, valid));
}

/* At least one vector, and at most as many as a lane can count, of which the last may be partial.
 */
static struct line_count count_run(struct span bytes)
{
    const __m128i all = _mm_set1_epi8(-1);
    const __m128i index = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m128i none = _mm_setzero_si128();
    struct lane_counts counts = {none, none, none};
    size_t rest = bytes.size % BYTES_LANES;
    for (size_t i = 0; i + BYTES_LANES <= bytes.size; i += BYTES_LANES) {
        count_block(&counts, bytes_load(bytes.data + i), all);
    }
    /* The vector that ends with the bytes, of which only the last lanes are new. */
    __m128i fresh = _mm_cmpgt_epi8(index, _mm_set1_epi8((char)(BYTES_LANES - 1 - (int)rest)));
    count_block(&counts, bytes_load(bytes.data + bytes.size - BYTES_LANES), fresh);
    return (struct line_count){.carriage_returns = sum_of_lanes(counts.returns),
                               .line_feeds = sum_of_lanes(counts.feeds),
                               .nuls = sum_of_lanes(counts.nuls)};
}

struct line_count bytes_count_lines(struct span bytes)
{
    enum { RUN_MAX = 254 * BYTES_LANES }; /* with a partial vector, no lane gets beyond 255 */
    struct line_count sum = {0};
    while (bytes.size >= BYTES_LANES) {
        size_t size = bytes.size < RUN_MAX ? bytes.size : RUN_MAX;
        struct line_count run = count_run(span_first(bytes, size));
        sum.carriage_returns += run.carriage_returns;
        sum.line_feeds += run.line_feeds;
        sum.nuls += run.nuls;
        bytes = span_from(bytes, size);
    }
    struct line_count rest = bytes_count_lines_portable(bytes);
    sum.carriage_returns += rest.carriage_returns;
    sum.line_feeds += rest.line_feeds;
    sum.nuls += rest.nuls;
    return sum;
}
#else
struct line_count bytes_count_lines(struct span bytes)
{
    return bytes_count_lines_portable(bytes);
}
#endif
