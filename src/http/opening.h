/*
 * The session of a client's connection before its protocol begins: it waits for the first bytes,
 * then goes through the TLS handshake, and says SESSION_EVENT_OPEN when it is known what is spoken;
 * whoever owns the connection starts that protocol's session at the same address. A handshake that
 * fails is no request: the session is CLOSED with its `failure`, of which the owner leaves a
 * record.
 *
 * Nothing is held for a connection on which nothing has come: no memory, no place among the
 * handshakes. Bounds: the handshakes that are under way at once (the rest wait in line, their bytes
 * in the kernel), the steps of handshakes in one turn of the worker, since each may take as long as
 * a hundred requests, and one deadline from accept to the end of the handshake.
 */
#ifndef SENTINEL_HTTP_OPENING_H
#define SENTINEL_HTTP_OPENING_H

#include "http/session.h"
#include "net/tls.h"

struct opening {
    struct session session; /* first: see struct session */
    struct list wait;       /* in openings.waiters */
    struct tls_server *server;
    enum tls_alpn alpn;  /* once open */
    enum reason refusal; /* once open: what an answer is to say; the transport is plain then */
    bool counted;        /* among the handshakes under way */
    bool event_open;
    bool event_closed;
};

void openings_init(struct openings *openings);

/* A new turn: its steps, and those in line for whom there is room. */
void openings_turn(struct session_context *context);

/* Takes over a prepared session whose transport was just accepted. */
void opening_start(struct session *session, struct tls_server *server);

/*
 * Of one that has just failed: the version that had been agreed on and the host that the client
 * named, each maybe empty. Borrowed until the next one fails.
 */
void opening_describe(const struct opening *opening, struct span *version, struct span *name);

/* Whether a session is one of these. */
bool opening_is(const struct session *session);

static inline struct opening *opening_of(struct session *session)
{
    return CONTAINER_OF(session, struct opening, session);
}

#endif
