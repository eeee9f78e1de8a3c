/*
 * The HTTP/1.1 session of a connection to an upstream, from when it is open (http/dialing.h): sends
 * one request at a time, reads its response with the same strictness as a client's request, and
 * says whether the connection may carry another (RFC 9112, section 9.3). The pool (upstream/pool.h)
 * owns it.
 */
#ifndef SENTINEL_HTTP_HTTP1_CLIENT_H
#define SENTINEL_HTTP_HTTP1_CLIENT_H

#include "http/http1_wire.h"

struct http1_client {
    struct http1_wire wire;
    bool persistent;       /* the last response lets the connection persist */
    bool head_read;        /* the final head of the current response was read */
    bool switches;         /* the request asks to switch protocols */
    uint64_t idle_timeout; /* microseconds this connection may idle */
};

/*
 * Starts a session in the memory of an http1_client whose transport is open, as
 * http1_session_start, and opens its first stream. Further ones: session_ops.open_stream.
 */
struct stream *http1_client_start(struct session *session);

static inline struct http1_client *http1_client_of(struct session *session)
{
    return CONTAINER_OF(http1_wire_of_session(session), struct http1_client, wire);
}

static inline struct http1_client *http1_client_of_stream(struct stream *stream)
{
    return CONTAINER_OF(http1_wire_of_stream(stream), struct http1_client, wire);
}

#endif
