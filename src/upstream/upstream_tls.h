/*
 * TLS towards upstreams: whom to believe, what to show and what to offer, made once at the start
 * from the generation and the secrets. Upstreams whose settings are equal share one client. Used by
 * workers and by the controller, whose checks go the same way. Bound: one client for each upstream.
 */
#ifndef SENTINEL_UPSTREAM_UPSTREAM_TLS_H
#define SENTINEL_UPSTREAM_UPSTREAM_TLS_H

#include "config/secrets.h"
#include "http/dialing.h"

struct upstream_tls {
    struct tls_client **clients; /* by upstream; NULL: it is plain. Shared ones stand often */
    uint32_t count;
};

/* Whom it is for: workers, or the checks of the controller, which are fewer. */
enum upstream_tls_use { UPSTREAM_TLS_TRAFFIC, UPSTREAM_TLS_CHECKS };

/* Endpoints of this generation that are spoken TLS to in this use. */
uint32_t upstream_tls_endpoints(const struct generation *generation, enum upstream_tls_use use);

/* Bytes that the clients take: of our memory, and of the TLS library's heap. */
uint64_t upstream_tls_bytes(const struct generation *generation);
uint64_t upstream_tls_heap(const struct generation *generation, enum upstream_tls_use use);

/*
 * Makes the clients; the engine, which may be NULL where no endpoint speaks TLS, outlives them.
 * False with a text where something does not hold that `sentinel check` has accepted, or memory is
 * short.
 */
NODISCARD bool upstream_tls_init(struct upstream_tls *tls, struct tls_engine *engine,
                                 const struct generation *generation, const struct secrets *secrets,
                                 enum upstream_tls_use use, char error[TLS_ERROR_MAX]);

/* All connections must be gone. Harmless on one that is all zero. */
void upstream_tls_deinit(struct upstream_tls *tls);

/*
 * What a connection to this endpoint is made of; tls NULL: without TLS. Borrows the generation, and
 * the resumption, which may be NULL.
 */
void upstream_tls_target(const struct upstream_tls *tls, const struct generation *generation,
                         uint32_t endpoint, struct tls_resumption *resumption,
                         struct dialing_target *target);

#endif
