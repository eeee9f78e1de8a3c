/*
 * The rules of a head that do not depend on how its bytes travelled: target, Host, Content-Length,
 * Expect, TE, Max-Forwards, and which rule ends a response's body. Both parsers (http1_parse.h,
 * http2_head.h) call them, so that no version of HTTP is read more leniently than another. Pure;
 * what must be rewritten goes into the caller's arena.
 */
#ifndef SENTINEL_HTTP_HEAD_RULES_H
#define SENTINEL_HTTP_HEAD_RULES_H

#include "http/http1_parse.h"

/* Which known fields a head has, as bits by field id. */
struct field_presence {
    uint64_t seen;
    uint64_t repeated;
};

static inline bool field_is_present(const struct field_presence *presence, enum field_id id)
{
    return (presence->seen >> id & 1) != 0;
}

static inline bool field_is_repeated(const struct field_presence *presence, enum field_id id)
{
    return (presence->repeated >> id & 1) != 0;
}

static inline void field_mark_present(struct field_presence *presence, enum field_id id)
{
    uint64_t bit = UINT64_C(1) << id;
    presence->repeated |= presence->seen & bit;
    presence->seen |= bit;
}

/* Whether a list field that is present holds this token, in any of its lines. */
bool field_list_has(const struct fields *fields, const struct field_presence *presence,
                    enum field_id id, struct span token);

/* What the framing fields of a message say. */
struct head_body {
    bool chunked; /* the coding in HTTP/1; in HTTP/2 a body whose length nobody said */
    bool has_length;
    uint64_t length;
};

/* One Content-Length of digits, or none; its bound keeps sums of lengths from overflowing. */
enum reason head_read_length(const struct fields *fields, const struct field_presence *presence,
                             struct head_body *body);

/* The form of head->target and its canonical path; *authority is empty where it has none. */
enum reason head_read_target(struct request_head *head, const struct http1_limits *limits,
                             struct arena *arena, struct span *authority);

/*
 * RFC 9112, 3.2 and RFC 9113, 8.3.1: exactly one Host in HTTP/1.1, at most one elsewhere, always
 * well-formed, and the same as the authority of the target where that has one. in_target has NULL
 * data where not; in HTTP/2 one of the two must be there.
 */
enum reason head_read_host(struct request_head *head, const struct field_presence *presence,
                           struct span in_target, struct arena *arena);

/* Expect, TE and Max-Forwards. The framing must be known. */
enum reason head_read_options(struct request_head *head, const struct field_presence *presence);

/*
 * Whether an Upgrade field is meant: Connection names it (RFC 9110, 7.8), and the request has no
 * body, behind which it would be unclear where the other protocol begins. HTTP/1.1 only.
 */
bool head_asks_upgrade(const struct request_head *head, const struct field_presence *presence);

/* RFC 9112, 6.3: which rule ends the body of a response. false: it may not be framed like that. */
bool head_decide_framing(struct response_head *head, enum method method,
                         const struct head_body *body);

#endif
