/*
 * Field sections of HTTP/2 (RFC 9113, section 8): what the codec decoded is kept, field by field,
 * in the connection's own memory until a holder has an arena for it, and is then read as strictly
 * as HTTP/1 (http/head_rules.h). What does not fit the limits of HTTP/1 heads is not kept: the
 * section remembers why, and that is the request's answer.
 */
#ifndef SENTINEL_HTTP_HTTP2_HEAD_H
#define SENTINEL_HTTP_HTTP2_HEAD_H

#include "base/output.h"
#include "http/head_rules.h"
#include "http/http2_memory.h"

/* All zero is an empty section. */
struct http2_section {
    uint8_t *bytes; /* from the account: sizes, name and value of each field */
    uint32_t size;
    uint32_t fields;     /* regular ones */
    uint32_t crumbs;     /* of a request: cookie fields, which are one of them together */
    uint32_t weight;     /* bytes as HTTP/1 would have needed them */
    uint32_t start_line; /* of them those of the request line */
    enum reason refusal; /* REASON_NONE: all of it was kept */
};

/*
 * Keeps one more field, unless the section is refused, or now becomes so. A `request` may divide
 * its cookies into many (RFC 9113, 8.2.3), which count as the one that is made of them.
 */
void http2_section_add(struct http2_section *section, struct http2_account *account,
                       const struct http1_limits *limits, struct span name, struct span value,
                       bool request);

/* Whether it is the head of an interim response (1xx). */
bool http2_section_is_interim(const struct http2_section *section);

/* Gives the memory back; the section is empty then. */
void http2_section_clear(struct http2_section *section, struct http2_account *account);

/*
 * Reads a request's section into the arena, as http1_parse_request does; `ended`: nothing follows
 * the section. ERROR with REASON_HTTP2_MALFORMED for what RFC 9113, 8.1.1 calls malformed, else
 * with the reasons of HTTP/1. After ERROR, method, target and fields are as far as they could be
 * read. Cookie lines are joined (RFC 9113, 8.2.3).
 */
NODISCARD enum status http2_parse_request(const struct http2_section *section, bool ended,
                                          const struct http1_limits *limits, struct arena *arena,
                                          struct request_head *out, enum reason *reason);

/* Reads a response's section to a request with this method, as http1_parse_response does. */
NODISCARD enum status http2_parse_response(const struct http2_section *section, bool ended,
                                           enum method method, struct arena *arena,
                                           struct response_head *out, enum reason *reason);

/*
 * Reads a trailer section that was not refused into a table with room for its fields, whose names
 * and values stay in the section. ERROR: it is malformed.
 */
NODISCARD enum status http2_parse_trailers(const struct http2_section *section,
                                           struct fields *fields);

/* A head as the codec wants it, names in lower case, in memory of the caller's. */
struct http2_rendered {
    nghttp2_nv *entries;
    size_t count;
    size_t capacity;
    struct output names;
    size_t weight;   /* what coding it takes at most */
    bool overflowed; /* too large to be sent: it must not be */
};

/* Begins one of so many fields over memory that is aligned for any object. */
struct http2_rendered http2_render_begin(void *memory, size_t size, size_t fields);

/* Appends a field whose name is in lower case; the spans must outlive the rendering. */
void http2_render(struct http2_rendered *rendered, struct span name, struct span value);

/*
 * Appends the fields, without those that belong to a connection, Host and Content-Length, which are
 * the caller's to tell; TE stays. fields may be NULL.
 */
void http2_render_fields(struct http2_rendered *rendered, const struct fields *fields);

#endif
