/*
 * Responses that Sentinel makes itself: errors, redirects, fixed responses, OPTIONS and TRACE that
 * end here (RFC 9110, 7.6.2). They have a head and a body like any other and travel the same lane,
 * so that a slow reader of an error page is nothing special. An error always says why: Proxy-Status
 * (RFC 9209), the request id, a body in the form that the client likes best (proxy/answer_form.h).
 * Nobody may store it (no-store), and where waiting helps (429, 503) Retry-After says how long. A
 * gRPC client is told in its own way, by 200 with grpc-status (proxy/grpc_call.h).
 */
#ifndef SENTINEL_PROXY_ANSWER_H
#define SENTINEL_PROXY_ANSWER_H

#include "proxy/exchange.h"

/* Bytes of arena that an answer needs at most, but for what it repeats of the request. */
enum { ANSWER_ARENA_MAX = 6 * 1024 };

/*
 * Makes the answer that the exchange calls for: its reason's, its route's, or that of a request
 * with Max-Forwards 0. *message and the body (exchange->answer) live in the arena. False when the
 * arena is full, which its size excludes.
 */
NODISCARD bool answer_make(struct exchange *exchange, struct response_message *message);

/*
 * Makes the trailers that end a gRPC response which has begun and cannot go on; they become the
 * answer's source. False when the arena is full.
 */
NODISCARD bool answer_make_closing(struct exchange *exchange);

/* The answer's HTTP status for logs and metrics, which a gRPC client is not told as such. */
uint16_t answer_status(const struct exchange *exchange);

/* Whether a request of this exchange is answered by us without any upstream (Max-Forwards: 0). */
bool answer_ends_here(const struct exchange *exchange);

/* The answer's body as a source of the response lane. */
struct source answer_as_source(struct exchange *exchange);

#endif
