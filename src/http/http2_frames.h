/*
 * Frames of body bytes on their way to the transport: their headers, and the bytes where their
 * owner has them. Lives on the stack of whoever writes a body, for one call.
 */
#ifndef SENTINEL_HTTP_HTTP2_FRAMES_H
#define SENTINEL_HTTP_HTTP2_FRAMES_H

#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"

enum {
    HTTP2_FRAME_HEADER = 9,
    HTTP2_FRAMES_MAX = BYTE_QUEUE_BUFFERS_MAX + 1, /* of 16 KiB and a rest: a queue's worth */
};

/* All zero but for the headers is none. */
struct http2_frames {
    uint32_t count;
    size_t size; /* bytes of all, headers included */
    struct span bytes[HTTP2_FRAMES_MAX];
    uint8_t headers[HTTP2_FRAMES_MAX][HTTP2_FRAME_HEADER];
};

static inline bool http2_frames_are_full(const struct http2_frames *frames)
{
    return frames->count == HTTP2_FRAMES_MAX;
}

static inline void http2_frames_add(struct http2_frames *frames, const uint8_t *header,
                                    struct span bytes)
{
    ASSERT(!http2_frames_are_full(frames));
    memcpy(frames->headers[frames->count], header, HTTP2_FRAME_HEADER);
    frames->bytes[frames->count] = bytes;
    frames->count++;
    frames->size += HTTP2_FRAME_HEADER + bytes.size;
}

/* The i-th piece: headers and bytes by turns, of which there are two for each frame. */
static inline struct span http2_frames_piece(const struct http2_frames *frames, uint32_t i)
{
    return i % 2 == 0 ? span_of(frames->headers[i / 2], HTTP2_FRAME_HEADER) : frames->bytes[i / 2];
}

#endif
