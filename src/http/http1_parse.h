/*
 * HTTP/1 heads from bytes (RFC 9112, sections 2 to 7 and 9.3): first find the end of a head, a
 * piece at a time and without looking at a byte twice; then parse the whole head at once. Pure
 * functions over bytes, used by the sessions of both sides. Strict by design: what two
 * implementations might read differently is refused, never repaired.
 *
 * Memory: the parsed form borrows from the head's bytes; what must be rewritten (canonical path,
 * lower-cased host, the field table) goes into the caller's arena, see http1_arena_max.
 */
#ifndef SENTINEL_HTTP_HTTP1_PARSE_H
#define SENTINEL_HTTP_HTTP1_PARSE_H

#include "http/message.h"

/* Bounds of one head; all at least 1. Bytes unless said otherwise. */
struct http1_limits {
    size_t request_line_max; /* without its CRLF; above it, or above head_max: URI_TOO_LONG (414) */
    size_t head_max;         /* from the request line to the empty line, both included: 431 */
    size_t fields_max;       /* field lines: 431 */
    bool merge_slashes;      /* `//` in a path becomes `/` */
};

enum {
    HTTP1_METHOD_MAX = 32, /* the longest registered method has 17 bytes */
    /* Options of all Connection fields of a head; more count as too many fields. */
    HTTP1_CONNECTION_OPTIONS_MAX = 32,
};

enum http1_kind {
    HTTP1_REQUEST,
    HTTP1_RESPONSE,
    HTTP1_TRAILERS, /* a trailer section: field lines and the empty line, no start line */
};

/* The progress of one search for a head's end. */
struct http1_scan {
    enum http1_kind kind;
    uint8_t state;
    size_t offset;     /* bytes examined so far */
    size_t head_start; /* 2 where an empty line before a request line was skipped, else 0 */
    size_t head_size;  /* after OK: all bytes that the head used, from byte 0 on */
};

void http1_scan_init(struct http1_scan *scan, enum http1_kind kind);

/*
 * Goes on searching in bytes: everything that arrived since the head's first byte, that is the
 * bytes of the call before and more (they may have moved). OK: the head is complete, see
 * http1_scan_head_bytes; bytes beyond head_size belong to what follows. AGAIN: more is needed.
 * ERROR: refused, *reason says why; this is told as early as the bytes allow, and does not depend
 * on how they were split. Checked here: that the first bytes can be a method or a version, strict
 * CRLF line ends, no control byte but HTAB, no folded line, the limits. At most one empty line
 * before a request line is skipped (RFC 9112, 2.2). Response errors are BAD_RESPONSE or
 * RESPONSE_HEAD_TOO_LARGE.
 */
NODISCARD enum status http1_scan_head(struct http1_scan *scan, struct span bytes,
                                      const struct http1_limits *limits, enum reason *reason);

/* The head within the bytes of a scan that ended with OK: what the parse functions want. */
static inline struct span http1_scan_head_bytes(const struct http1_scan *scan, struct span bytes)
{
    return span_of(bytes.data + scan->head_start, scan->head_size - scan->head_start);
}

/* Arena bytes that suffice for parsing any head within these limits. */
size_t http1_arena_max(const struct http1_limits *limits);

/* Arena bytes that the parsed form still holds afterwards, of a request and of a response. */
size_t http1_request_arena_kept(const struct http1_limits *limits);
size_t http1_response_arena_kept(const struct http1_limits *limits);

/*
 * Parses a complete request head, whose bytes must outlive *out: the field spans point into them.
 * OK, or ERROR with *reason. After ERROR, method, target and fields are as far as they could be
 * read, for log and answer, and nothing else in *out means anything. An arena that is too small is
 * BUFFERS_FULL.
 *
 * Content-Length: 0 is FRAMING_LENGTH with 0; no framing field is FRAMING_NONE. Fields are kept in
 * their order, hop-by-hop fields too (the proxy removes them), except that a name with `_` that
 * aliases a protected field is dropped. CONNECT is parsed in full and then refused.
 * expect_continue is set only where a body is to come.
 */
NODISCARD enum status http1_parse_request(struct span head_bytes, const struct http1_limits *limits,
                                          struct arena *arena, struct request_head *out,
                                          enum reason *reason);

/*
 * What can be told of a request head that was refused before it was complete: method, target and
 * the fields that came whole, for log and answer only. The bytes must outlive *out.
 */
void http1_parse_refused(struct span head_bytes, const struct http1_limits *limits,
                         struct arena *arena, struct request_head *out);

/*
 * Parses a complete response head to a request with this method, with the same strictness and
 * ownership; *out is untouched on ERROR. HEAD, 1xx, 204 and 304 have FRAMING_NONE. A 204 that
 * announces a body, and a body that ends with the connection, clear keep_alive. A 1xx that
 * announces a body is refused. Whether a 101 was asked for is the caller's question.
 */
NODISCARD enum status http1_parse_response(struct span head_bytes, enum method method,
                                           const struct http1_limits *limits, struct arena *arena,
                                           struct response_head *out, enum reason *reason);

/*
 * Parses a complete trailer section (RFC 9112, 7.1.2), the empty line included, into *out, which
 * the caller gave its capacity. ERROR with BAD_FIELD or TOO_MANY_FIELDS. Which trailers may be
 * merged or forwarded is the caller's decision.
 */
NODISCARD enum status http1_parse_trailers(struct span bytes, struct fields *out,
                                           enum reason *reason);

#endif
