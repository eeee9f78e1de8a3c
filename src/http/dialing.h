/*
 * The session of a connection to an upstream until its protocol is spoken: what `opening` is for a
 * client's. It connects, sends a PROXY header where one is wanted, then shakes hands where the
 * target speaks TLS, and says SESSION_EVENT_OPEN when that has ended: open, or CLOSED with a
 * reason. Whoever owns the connection (the pool) then starts the protocol's own session at the same
 * address, which keeps `struct session` and with it the transport. It has no timer: those who wait
 * for the connection give up on their own.
 *
 *     CLOSED --> CONNECT --> HANDSHAKE (preface, TLS) --> IDLE: open
 *                   |            |
 *                   +------------+-------------> CLOSED, with a reason
 */
#ifndef SENTINEL_HTTP_DIALING_H
#define SENTINEL_HTTP_DIALING_H

#include "http/session.h"
#include "net/proxy_protocol.h"
#include "net/tls.h"

/* Where to, and what is spoken before any protocol. All borrowed as long as connections live. */
struct dialing_target {
    const struct address *address;
    struct span path;       /* of the Unix socket, where the address is one */
    struct tls_client *tls; /* NULL: none is spoken */
    struct tls_peer peer;   /* of TLS */
    struct tls_resumption *resumption;
};

struct dialing {
    struct session session; /* first: see struct session */
    const struct dialing_target *target;
    enum reason reason; /* why it is CLOSED */
    bool event_open;
    uint8_t preface[PROXY_HEADER_WRITTEN_MAX]; /* what is sent first of all */
    uint32_t preface_size;
    uint32_t preface_sent;
};

void dialing_init(struct dialing *dialing, struct session_context *context, uint8_t timer_kind);

/*
 * Begins to connect; the preface (at most PROXY_HEADER_WRITTEN_MAX bytes, copied) is sent before
 * anything else. OK: open at once. AGAIN: under way, SESSION_EVENT_OPEN follows. ERROR: CLOSED,
 * the transport's socket has the errno; no event follows.
 */
NODISCARD enum status dialing_connect(struct dialing *dialing, const struct dialing_target *target,
                                      struct span preface, uint8_t socket_kind);

/* The reason that a handshake's failure is. */
enum reason dialing_tls_reason(enum tls_failure failure);

/* Of the session at this address: whether it is still being opened. */
static inline bool dialing_is_under_way(const struct session *session)
{
    return session->step == SESSION_CONNECT || session->step == SESSION_HANDSHAKE;
}

#endif
