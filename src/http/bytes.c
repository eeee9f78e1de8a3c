#include "http/bytes.h"

/* Bits of enum byte_class; bytes above 0x7F have none. */
const uint8_t byte_classes[256] = {
    /* clang-format off: a table of sixteen columns */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  /* 0x00 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  /* 0x10 */
    0, 5, 8, 1, 5, 1, 5, 5, 4, 4, 5, 5, 4, 7, 7, 4,  /* 0x20 */
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 4, 4, 8, 4, 8, 0,  /* 0x30 */
    4, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,  /* 0x40 */
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 0, 8, 9, 23, /* 0x50 */
    9, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,  /* 0x60 */
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 9, 8, 7, 0,  /* 0x70 */
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
#endif

/*
 * A comparison gives -1 in each lane that matches, so subtracting it counts. A lane overflows at
 * 256, so at most 255 blocks are counted before the lanes are summed.
 */
struct line_count bytes_count_lines(struct span bytes)
{
    struct line_count count = {0};
#ifdef __SSE2__
    enum { BLOCKS_MAX = 255 };
    while (bytes.size >= sizeof(__m128i)) {
        __m128i returns = _mm_setzero_si128();
        __m128i feeds = _mm_setzero_si128();
        __m128i nuls = _mm_setzero_si128();
        size_t blocks = bytes.size / sizeof(__m128i);
        blocks = blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX;
        for (size_t i = 0; i < blocks; i++) {
            __m128i block = _mm_loadu_si128((const __m128i_u *)bytes.data + i);
            returns = _mm_sub_epi8(returns, _mm_cmpeq_epi8(block, _mm_set1_epi8('\r')));
            feeds = _mm_sub_epi8(feeds, _mm_cmpeq_epi8(block, _mm_set1_epi8('\n')));
            nuls = _mm_sub_epi8(nuls, _mm_cmpeq_epi8(block, _mm_setzero_si128()));
        }
        count.carriage_returns += sum_of_lanes(returns);
        count.line_feeds += sum_of_lanes(feeds);
        count.nuls += sum_of_lanes(nuls);
        bytes = span_from(bytes, blocks * sizeof(__m128i));
    }
#endif
    struct line_count rest = bytes_count_lines_portable(bytes);
    count.carriage_returns += rest.carriage_returns;
    count.line_feeds += rest.line_feeds;
    count.nuls += rest.nuls;
    return count;
}
