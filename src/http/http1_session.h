/*
 * The HTTP/1.1 session of a client's connection: reads heads within their deadline, lends its one
 * stream to an exchange, keeps or closes the connection after it (RFC 9112, section 9).
 */
#ifndef SENTINEL_HTTP_HTTP1_SESSION_H
#define SENTINEL_HTTP_HTTP1_SESSION_H

#include "http/http1_wire.h"

struct http1_session {
    struct http1_wire wire;
    uint64_t head_began; /* first byte of the current head; 0 before */
    uint32_t requests;   /* heads handed out so far */
    enum reason refusal; /* why the current head is no request; REASON_NONE: it may be one */
    bool http_1_0;
    bool keep_alive;       /* the client's wish */
    bool expects_continue; /* 100 Continue is due at the first pull of the body */
    bool draining;
    bool yields; /* to HTTP/2, where the client begins with its preface */
    bool yielded;
};

/*
 * Starts a session in the memory of an http1_session whose common part is prepared and whose
 * transport is open; whatever session was there before is over. What came early is its to read
 * (NULL: nothing did).
 */
void http1_session_start(struct session *base, const struct session_early *early);

/*
 * From here on the first bytes may be the preface of HTTP/2 (RFC 9113, 3.4). When they are, the
 * session says SESSION_EVENT_OPEN and does nothing more; another takes its place, and what has
 * come.
 */
static inline void http1_session_yield_to_http2(struct http1_session *session)
{
    session->yields = true;
}

/* What a session that has yielded leaves to its successor. */
struct session_early http1_session_leave(struct session *base);

static inline struct http1_session *http1_session_of(struct session *session)
{
    return CONTAINER_OF(http1_wire_of_session(session), struct http1_session, wire);
}

#endif
