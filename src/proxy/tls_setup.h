/*
 * A worker's TLS, made from the generation and its secrets before the sandbox is closed: the engine
 * what each listener shows, and what is said to upstreams. Owned by the worker. Bounds are rows of
 * worker_plan.def: the connections, and the cap of the library's heap.
 */
#ifndef SENTINEL_PROXY_TLS_SETUP_H
#define SENTINEL_PROXY_TLS_SETUP_H

#include "proxy/worker_plan.h"
#include "upstream/upstream_tls.h"

struct tls_setup {
    struct tls_engine *engine;   /* NULL: nobody speaks TLS */
    struct tls_server **servers; /* by index of the generation's TLS servers */
    uint32_t count;
    struct upstream_tls upstreams;
    uint64_t heap_max;
};

/* Whether any listener of the generation speaks TLS; any endpoint is spoken TLS to; either. */
bool tls_setup_serves(const struct generation *generation);
bool tls_setup_calls(const struct generation *generation);
bool tls_setup_is_needed(const struct generation *generation);

/* Bytes of the lists of servers and clients. */
uint64_t tls_setup_bytes(const struct generation *generation);

/*
 * False with a text in `error`. Nothing of the secrets is kept but what the contexts hold; without
 * any (NULL: the simulator) the keys are empty.
 */
NODISCARD bool tls_setup_init(struct tls_setup *setup, const struct generation *generation,
                              const struct secrets *secrets, const struct worker_plan *plan,
                              char error[TLS_ERROR_MAX]);

/* All connections must be gone. A setup that never was initialised (all zero) is fine. */
void tls_setup_deinit(struct tls_setup *setup);

/* What a listener of this index speaks; NULL: no TLS. */
struct tls_server *tls_setup_server(const struct tls_setup *setup,
                                    const struct generation *generation, uint32_t listener);

#endif
