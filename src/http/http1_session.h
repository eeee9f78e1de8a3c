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
};

/*
 * Starts a session on a transport whose socket was just accepted into session->transport.socket
 * (initialise first, accept, then start).
 */
void http1_session_init(struct http1_session *session, struct session_context *context,
                        uint8_t timer_kind);
void http1_session_start(struct http1_session *session);

/* As start, but the connection is refused: an exchange is to say why, without reading a request. */
void http1_session_refuse(struct http1_session *session, enum reason reason);

static inline struct http1_session *http1_session_of(struct session *session)
{
    return CONTAINER_OF(http1_wire_of_session(session), struct http1_session, wire);
}

#endif
