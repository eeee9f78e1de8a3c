/*
 * Where a request came from: who the client is behind proxies that the listener trusts, and what is
 * said of that to the upstream, in X-Forwarded-* and in Forwarded (RFC 7239), as the listener's
 * `forwarded` has it. From peers that are not trusted all of these are dropped.
 *
 * A chain of addresses is read from right to left: who stands before the last trusted proxy is the
 * client, and nothing further left is believed. Of a trusted peer the kind of field is read that
 * the listener speaks, the other kind only where that one is absent: a proxy that keeps one of them
 * up may pass on what a client wrote into the other. With "both", both have to come to the same
 * client, else neither is believed and the peer itself is the client.
 */
#ifndef SENTINEL_PROXY_ORIGIN_H
#define SENTINEL_PROXY_ORIGIN_H

#include "proxy/exchange.h"

enum { ORIGIN_CHAINS = 5 }; /* bytes that its chains take, in those of the largest head */

/* Finds out who the client is. Needs the parsed request. */
void origin_identify(struct exchange *exchange);

/* Whether the client speaks TLS: to us, or to a trusted proxy that says so. */
bool origin_is_secure(const struct exchange *exchange);

/* Adds the fields that tell the upstream; what they need lives in the worker's draft. */
NODISCARD bool origin_add(struct exchange *exchange, struct fields *fields);

#endif
