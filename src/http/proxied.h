/*
 * The session of a client's connection that has to begin with a PROXY header
 * (net/proxy_protocol.h): it reads that, and not a byte more, and says SESSION_EVENT_OPEN; whoever
 * owns the connection then knows the client, and starts what is spoken at the same address. Without
 * a good header nothing can be believed and nobody answered: the session is CLOSED with its
 * `failure`.
 *
 *     PREFACE --header--> open (still PREFACE, without its timer)
 *        |
 *        +--refused, too late, gone--> CLOSED
 *
 * A header that came in part stands in an inbox of the client's side; one that came at once needs
 * it for a moment only. One deadline from accept to the header's last byte.
 */
#ifndef SENTINEL_HTTP_PROXIED_H
#define SENTINEL_HTTP_PROXIED_H

#include "http/session.h"
#include "net/proxy_protocol.h"

struct proxied {
    struct session session;     /* first: see struct session */
    struct proxy_header header; /* once open */
    uint8_t *inbox;             /* NULL: nothing has come */
    uint32_t size;              /* bytes in it */
    bool event_open;
    bool event_closed;
};

/* Takes over a prepared session whose transport was just accepted. */
void proxied_start(struct session *session);

/* Whether a session is one of these. */
bool proxied_is(const struct session *session);

static inline struct proxied *proxied_of(struct session *session)
{
    return CONTAINER_OF(session, struct proxied, session);
}

#endif
