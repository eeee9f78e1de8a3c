/*
 * What HTTP/2's glitches and error codes are called, for metrics: two closed lists. Static data.
 */
#ifndef SENTINEL_HTTP_HTTP2_NAMES_H
#define SENTINEL_HTTP_HTTP2_NAMES_H

#include <stdint.h>

enum http2_glitch {
#define GLITCH(id, label, cost) HTTP2_GLITCH_##id,
#include "http/http2.def"
#undef GLITCH
    HTTP2_GLITCH_COUNT
};

/* The label of a kind of glitch. */
const char *http2_glitch_label(enum http2_glitch kind);

enum { HTTP2_CODES = 15 }; /* error codes of RFC 9113, 7, and one for all others */

/* The place of an error code in that list, and the name of a place. */
static inline unsigned http2_code_index(uint32_t code)
{
    return code < HTTP2_CODES - 1 ? code : HTTP2_CODES - 1;
}

const char *http2_code_name(unsigned index);

/* Who sent a frame, where metrics tell that apart. */
enum http2_direction { HTTP2_RECEIVED, HTTP2_SENT, HTTP2_DIRECTIONS };

#endif
