#include "proxy/tls_setup.h"

bool tls_setup_is_needed(const struct generation *generation)
{
    return upstream_tls_endpoints(generation, UPSTREAM_TLS_TRAFFIC) > 0;
}

uint64_t tls_setup_bytes(const struct generation *generation)
{
    return upstream_tls_bytes(generation);
}

bool tls_setup_init(struct tls_setup *setup, const struct generation *generation,
                    const struct secrets *secrets, const struct worker_plan *plan,
                    char error[TLS_ERROR_MAX])
{
    error[0] = '\0';
    if (!tls_setup_is_needed(generation)) {
        return true;
    }
    setup->heap_max = plan->items[WORKER_PLAN_TLS_HEAP].bytes;
    setup->engine = tls_engine_create(plan->tls_connections, setup->heap_max);
    return setup->engine != NULL && upstream_tls_init(&setup->upstreams, setup->engine, generation,
                                                      secrets, UPSTREAM_TLS_TRAFFIC, error);
}

void tls_setup_deinit(struct tls_setup *setup)
{
    upstream_tls_deinit(&setup->upstreams);
    tls_engine_destroy(setup->engine);
}
