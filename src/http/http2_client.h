/*
 * The HTTP/2 session of a connection to an upstream: many requests at a time, as many as the peer
 * allows, each a stream of its own. A stream that the peer refused, or that its GOAWAY excludes,
 * was not looked at: it shows as unprocessed, so that any request may be sent again.
 * The pool (upstream/pool.h) owns it.
 */
#ifndef SENTINEL_HTTP_HTTP2_CLIENT_H
#define SENTINEL_HTTP_HTTP2_CLIENT_H

#include "http/http2_wire.h"

/*
 * Starts a session in the memory of an http2_session whose common part is prepared and whose
 * transport is open, and begins a first stream. NULL: no memory; the transport is as it was.
 */
struct stream *http2_client_start(struct session *base);

#endif
