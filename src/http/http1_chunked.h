/*
 * The chunked coding, decoded (RFC 9112, section 7.1): one decoder per body, fed with whatever
 * arrived, working in the buffer it is given. Everything about the coding ends here: sizes are
 * checked arithmetic, extensions are checked, bounded and dropped, line ends are strict CRLF. The
 * work per byte is constant, so that a body of one-byte chunks costs no more than its wire bytes.
 */
#ifndef SENTINEL_HTTP_HTTP1_CHUNKED_H
#define SENTINEL_HTTP_HTTP1_CHUNKED_H

#include "http/http1_parse.h"

enum {
    HTTP1_CHUNK_SIZE_DIGITS_MAX = 16,
    HTTP1_CHUNK_EXTENSION_MAX = 256,   /* bytes between a chunk's size and its CRLF */
    HTTP1_CHUNK_EXTENSIONS_MAX = 4096, /* the same, over the whole body */
    HTTP1_TRAILERS_MAX = 4096,         /* bytes of the trailer section */
    HTTP1_TRAILER_FIELDS_MAX = 32,
    /* Arena bytes taken when, and only when, a trailer field arrives. */
    HTTP1_TRAILERS_ARENA_MAX =
        HTTP1_TRAILERS_MAX + 32 + HTTP1_TRAILER_FIELDS_MAX * (int)sizeof(struct field),
};

struct http1_chunked {
    enum http1_kind kind; /* of the message: decides the reasons */
    uint8_t state;
    uint8_t size_digits;
    uint64_t remaining; /* data bytes of the current chunk still to come; its size while read */
    uint32_t extension_bytes;
    uint32_t extension_bytes_total;
    struct arena *arena;
    uint8_t *trailer_bytes; /* HTTP1_TRAILERS_MAX bytes of the arena, or NULL */
    size_t trailer_size;
    struct http1_scan trailer_scan;
    struct fields trailers; /* after END; no entries without trailers */
};

struct http1_chunked_result {
    size_t consumed;  /* raw bytes used up; all of them unless END */
    struct span body; /* decoded bytes, somewhere within data; may be empty */
};

/*
 * Starts a body of a message of kind HTTP1_REQUEST or HTTP1_RESPONSE. The arena must outlive the
 * decoder and the trailers; it is touched only when a trailer field arrives.
 */
void http1_chunked_init(struct http1_chunked *chunked, enum http1_kind kind, struct arena *arena);

/*
 * Decodes data in place: the decoded bytes of this call are moved together (a single chunk is not
 * moved at all) and lent through result->body until data is reused. OK: more is needed. END: body
 * and trailer section are complete, chunked->trailers is set, and the bytes after result->consumed
 * belong to the next message. ERROR: *reason is BAD_CHUNK, BAD_TRAILER, or UPSTREAM_BAD_BODY for a
 * response; *result is untouched; the decoder must not be used again. BUFFERS_FULL when the arena
 * has no HTTP1_TRAILERS_ARENA_MAX bytes. The outcome does not depend on how the bytes were split.
 */
NODISCARD enum status http1_chunked_decode(struct http1_chunked *chunked, uint8_t *data,
                                           size_t size, struct http1_chunked_result *result,
                                           enum reason *reason);

#endif
