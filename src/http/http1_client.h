/*
 * The HTTP/1.1 session of a connection to an upstream: connects, sends one request at a time, reads
 * its response with the same strictness as a client's request, and says whether the connection may
 * carry another (RFC 9112, section 9.3). The pool (upstream/pool.h) owns it.
 */
#ifndef SENTINEL_HTTP_HTTP1_CLIENT_H
#define SENTINEL_HTTP_HTTP1_CLIENT_H

#include "http/http1_wire.h"

struct http1_client {
    struct http1_wire wire;
    bool persistent; /* the last response lets the connection persist */
    bool connect_failed;
    bool head_read;        /* the final head of the current response was read */
    uint64_t idle_timeout; /* microseconds this connection may idle */
};

void http1_client_init(struct http1_client *client, struct session_context *context,
                       uint8_t timer_kind);

/*
 * Begins to connect, or finds out at once that it cannot (ERROR; the session is CLOSED). Later the
 * stream's holder is woken; then ask http1_client_connected.
 */
NODISCARD enum status http1_client_connect(struct http1_client *client,
                                           const struct address *address, uint8_t socket_kind);

/* OK: connected. AGAIN: under way. ERROR: refused or unreachable. */
NODISCARD enum status http1_client_connected(const struct http1_client *client);

/* Takes an idle session for another request. False: it has gone stale; kill it. */
NODISCARD bool http1_client_reuse(struct http1_client *client);

/* After release: whether the session is now IDLE, to be pooled (else it is CLOSED). */
static inline bool http1_client_is_idle(const struct http1_client *client)
{
    return client->wire.session.step == SESSION_IDLE;
}

static inline struct http1_client *http1_client_of(struct session *session)
{
    return CONTAINER_OF(http1_wire_of_session(session), struct http1_client, wire);
}

static inline struct http1_client *http1_client_of_stream(struct stream *stream)
{
    return CONTAINER_OF(http1_wire_of_stream(stream), struct http1_client, wire);
}

#endif
