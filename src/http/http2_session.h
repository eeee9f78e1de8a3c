/*
 * The HTTP/2 session of a client's connection (RFC 9113): announces each request as a stream of its
 * own, keeps the limits (streams at a time, requests, the budget for glitches), says goodbye in two
 * steps, and lets the last answers arrive.
 *
 *                    head begins       head complete         last stream released
 *    IDLE ---------------------> HEAD --------------> BUSY ------------------------> IDLE
 *     |                           |                    |
 *     | idle timeout, drain       | timeout: 408       | GOAWAY sent or received, glitches,
 *     v                           v                    v errors, and no stream is held
 *    LINGER: GOAWAY and FIN are out, what still comes is discarded ---------> CLOSED
 *
 * One that lingers has given back all of http2-pool.
 */
#ifndef SENTINEL_HTTP_HTTP2_SESSION_H
#define SENTINEL_HTTP_HTTP2_SESSION_H

#include "http/http2_wire.h"

/*
 * Starts a session in the memory of an http2_session whose common part is prepared and whose
 * transport is open; whatever session was there before is over. What came early is its to read
 * (NULL: nothing did). Without memory for it the peer is told so and the session is CLOSED, which
 * the next event says.
 */
void http2_session_start(struct session *base, const struct session_early *early);

/* Whether it is such a session that this struct holds. */
bool http2_session_is(const struct session *session);

#endif
