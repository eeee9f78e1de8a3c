/*
 * One client's connection, from accept to close: counted against the bounds of all workers, its
 * gauges, its place in what may be shed, and the session that speaks its protocol. This is the one
 * place on the client's side that knows which protocols there are. Owned by the worker, in a slab;
 * an idle one holds nothing else.
 *
 * A socket may not move while it is open, and which protocol it is may show only after some bytes.
 * So all kinds of session have one address, that of their common beginning: whoever learns the
 * protocol starts the session of that kind in place (http1_session_start), and what the connection
 * owns (transport, link, owner) stays as it is.
 */
#ifndef SENTINEL_PROXY_CONNECTION_H
#define SENTINEL_PROXY_CONNECTION_H

#include "base/address.h"
#include "http/http1_session.h"
#include "http/http2_session.h"
#include "http/opening.h"
#include "http/proxied.h"

struct proxy;

struct connection {
    union {
        struct session session; /* whatever protocol it speaks */
        struct proxied proxied; /* before it is known whose it is */
        struct opening opening; /* before it is known what is spoken */
        struct http1_session http1;
        struct http2_session http2;
    };
    struct address peer;
    uint32_t listener;
    bool trusted;   /* the peer is one of the listener's trusted proxies */
    bool redirects; /* the listener has requests redirected to https */
    bool unnamed;   /* whose it is will be said by a PROXY header */
    bool counted;   /* it counts against max-connections and its client's own limit */
    bool active;    /* which gauge it stands in */
    uint8_t listed; /* enum session_step: as which it stands in a list of shedding's */
    struct list shed_link;
    uint64_t since; /* when it came there */
};

static inline struct connection *connection_of_session(const struct session *session)
{
    return session->owner;
}

/* The connection of a client's stream. */
static inline struct connection *connection_of_stream(const struct stream *stream)
{
    return stream->session->owner;
}

/*
 * Takes one connection of the listener with this index and serves what it brought. AGAIN: none
 * waits. ERROR: no descriptors or memory; the connection stays in the queue. One that is refused
 * counts as taken: an exchange, or the access record alone, says why.
 */
NODISCARD enum status connection_accept(struct proxy *proxy, struct io_socket *listener,
                                        uint32_t index);

/* Acts on what a client's session has to say. The connection may be gone afterwards. */
void connection_serve(struct proxy *proxy, struct session *session);

/* Gives back the stream of a finished exchange and looks after its connection. */
void connection_release(struct proxy *proxy, struct stream *stream, bool keep);

/* Ends a connection on which no exchange is in flight; half a head leaves its record. */
void connection_abort(struct proxy *proxy, struct session *session);

/* Whether the client speaks TLS to us. */
static inline bool connection_is_secure(const struct connection *connection)
{
    return tls_is_on(&connection->session.transport);
}

/* Whether the address is one of the listener's trusted proxies. */
bool connection_trusts(const struct proxy *proxy, uint32_t listener, const struct address *address);

#endif
