#include "proxy/tls_setup.h"

#include <stdlib.h>

#include "base/assert.h"

static_assert((int)TLS_VERSION_1_2 == (int)TLS_1_2 && (int)TLS_VERSION_1_3 == (int)TLS_1_3,
              "versions are counted alike");
static_assert((int)CLIENT_AUTH_OFF == (int)TLS_CLIENT_AUTH_OFF &&
                  (int)CLIENT_AUTH_OPTIONAL == (int)TLS_CLIENT_AUTH_OPTIONAL &&
                  (int)CLIENT_AUTH_REQUIRED == (int)TLS_CLIENT_AUTH_REQUIRED,
              "modes are counted alike");

/* Room for all that one server's settings point to, while it is made. */
struct draft {
    struct tls_host *hosts; /* of the source, and one more for the default */
    struct tls_identity *identities;
    uint32_t used;
};

bool tls_setup_serves(const struct generation *generation)
{
    return generation->header->tls_servers.count > 0;
}

bool tls_setup_calls(const struct generation *generation)
{
    return upstream_tls_endpoints(generation, UPSTREAM_TLS_TRAFFIC) > 0;
}

bool tls_setup_is_needed(const struct generation *generation)
{
    return tls_setup_serves(generation) || tls_setup_calls(generation);
}

uint64_t tls_setup_bytes(const struct generation *generation)
{
    return (generation->header->tls_servers.count + 1ULL) * sizeof(struct tls_server *) +
           upstream_tls_bytes(generation);
}

static struct tls_identity identity_of(const struct generation *generation,
                                       const struct secrets *secrets, uint32_t index)
{
    const struct generation_certificate *certificate = generation_certificate(generation, index);
    return (struct tls_identity){
        .chain_pem = generation_text(generation, certificate->chain),
        .key_pem = secrets == NULL ? SPAN_EMPTY : secrets_key(secrets, index),
        .ocsp_der = generation_text(generation, certificate->ocsp),
        .ocsp_until = certificate->ocsp_until,
    };
}

static void draft_host(struct draft *draft, const struct generation *generation,
                       const struct secrets *secrets, struct ref certificates,
                       struct tls_host *host)
{
    const uint32_t *indexes = generation_array(generation, certificates);
    struct tls_identity *identities = &draft->identities[draft->used];
    for (uint32_t i = 0; i < certificates.count; i++) {
        identities[i] = identity_of(generation, secrets, indexes[i]);
    }
    draft->used += certificates.count;
    host->identities = identities;
    host->count = certificates.count;
}

static void take_alpn(const struct generation *generation,
                      const struct generation_tls_server *source,
                      struct tls_server_settings *settings)
{
    const uint32_t *protocols = generation_array(generation, source->alpn);
    for (uint32_t i = 0; i < source->alpn.count; i++) { /* each at most once */
        settings->alpn[i] = protocols[i] == ALPN_HTTP2 ? TLS_ALPN_HTTP2 : TLS_ALPN_HTTP1;
    }
}

static struct tls_server *make_server(const struct tls_setup *setup,
                                      const struct generation *generation,
                                      const struct secrets *secrets, uint32_t index,
                                      char error[TLS_ERROR_MAX])
{
    const struct generation_tls_server *source = generation_tls_server(generation, index);
    const struct generation_tls_host *hosts = generation_array(generation, source->hosts);
    const uint32_t count = source->hosts.count;
    struct draft draft = {
        .hosts = calloc(count + 1U, sizeof(struct tls_host)),
        .identities = calloc((count + 1U) * CERTIFICATE_KEY_TYPES, sizeof(struct tls_identity)),
    };
    struct tls_server *server = NULL;
    if (draft.hosts != NULL && draft.identities != NULL) {
        for (uint32_t i = 0; i < count; i++) {
            draft.hosts[i].pattern = generation_text(generation, hosts[i].pattern);
            draft_host(&draft, generation, secrets, hosts[i].certificates, &draft.hosts[i]);
        }
        draft_host(&draft, generation, secrets, source->certificates, &draft.hosts[count]);
        struct tls_server_settings settings = {
            .fallback = source->certificates.count > 0 ? &draft.hosts[count] : NULL,
            .hosts = draft.hosts,
            .host_count = count,
            .version_min = (enum tls_version)source->version_min,
            .version_max = (enum tls_version)source->version_max,
            .client_auth = (enum tls_client_auth)source->client_auth,
            .client_ca_pem = generation_text(generation, source->client_ca),
            .tickets = source->session_tickets != 0,
        };
        take_alpn(generation, source, &settings);
        server = tls_server_create(setup->engine, &settings, error);
    }
    free(draft.hosts);
    free(draft.identities);
    return server;
}

bool tls_setup_init(struct tls_setup *setup, const struct generation *generation,
                    const struct secrets *secrets, const struct worker_plan *plan,
                    char error[TLS_ERROR_MAX])
{
    const uint32_t count = generation->header->tls_servers.count;
    error[0] = '\0';
    if (!tls_setup_is_needed(generation)) {
        return true;
    }
    setup->heap_max = plan->items[WORKER_PLAN_TLS_HEAP].bytes;
    setup->engine = tls_engine_create(plan->tls_connections, setup->heap_max);
    setup->servers = calloc(count + 1U, sizeof(struct tls_server *));
    if (setup->engine == NULL || setup->servers == NULL) {
        return false;
    }
    for (; setup->count < count; setup->count++) {
        struct tls_server *server = make_server(setup, generation, secrets, setup->count, error);
        if (server == NULL) {
            return false;
        }
        setup->servers[setup->count] = server;
    }
    return !tls_setup_calls(generation) ||
           upstream_tls_init(&setup->upstreams, setup->engine, generation, secrets,
                             UPSTREAM_TLS_TRAFFIC, error);
}

void tls_setup_deinit(struct tls_setup *setup)
{
    for (uint32_t i = 0; i < setup->count; i++) {
        tls_server_destroy(setup->servers[i]);
    }
    free(setup->servers);
    upstream_tls_deinit(&setup->upstreams);
    tls_engine_destroy(setup->engine);
}

struct tls_server *tls_setup_server(const struct tls_setup *setup,
                                    const struct generation *generation, uint32_t listener)
{
    uint32_t index = generation_listener(generation, listener)->tls;
    return index == GENERATION_NONE ? NULL : setup->servers[index];
}
