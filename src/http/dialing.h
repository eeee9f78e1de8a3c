/*
 * The session of a connection to an upstream until its protocol is spoken: what `opening` is for a
 * client's. It connects, and says SESSION_EVENT_OPEN when that has ended: open, or CLOSED with a
 * reason. Whoever owns the connection (the pool) then starts the protocol's own session at the same
 * address, which keeps `struct session` and with it the transport. It has no timer: those who wait
 * for the connection give up on their own.
 */
#ifndef SENTINEL_HTTP_DIALING_H
#define SENTINEL_HTTP_DIALING_H

#include "http/session.h"

struct dialing {
    struct session session; /* first: see struct session */
    enum reason reason;     /* why it is CLOSED */
    bool event_open;
};

void dialing_init(struct dialing *dialing, struct session_context *context, uint8_t timer_kind);

/*
 * Begins to connect; path: of the Unix socket, where the address is one. OK: open at once. AGAIN:
 * under way, SESSION_EVENT_OPEN follows. ERROR: CLOSED, the transport's socket has the errno; no
 * event follows.
 */
NODISCARD enum status dialing_connect(struct dialing *dialing, const struct address *address,
                                      struct span path, uint8_t socket_kind);

/* How it ended: OK (the protocol may be started), AGAIN (under way) or ERROR. */
NODISCARD static inline enum status dialing_result(const struct dialing *dialing)
{
    if (dialing->session.step == SESSION_CONNECT) {
        return AGAIN;
    }
    return dialing->session.step == SESSION_CLOSED ? ERROR : OK;
}

#endif
