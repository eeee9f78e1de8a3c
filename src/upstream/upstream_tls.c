#include "upstream/upstream_tls.h"

#include <stdlib.h>

#include "base/assert.h"

/* What a bundle's certificates take in the library's heap, for each byte of their text: measured
 * with Debian's bundle it is 3.7. */
enum { HEAP_PER_BUNDLE_BYTE = 6 };

static bool is_used(const struct generation_upstream *upstream, enum upstream_tls_use use)
{
    return upstream->tls.on != 0 &&
           (use == UPSTREAM_TLS_TRAFFIC || upstream->health != HEALTH_NONE);
}

/* Checks speak HTTP/1.1, but for gRPC's, and where they say nothing but whose protocol it is. */
static bool offers_http2(const struct generation_upstream *upstream, enum upstream_tls_use use)
{
    return upstream->http_version == UPSTREAM_HTTP_2 &&
           (use == UPSTREAM_TLS_TRAFFIC || upstream->health != HEALTH_HTTP);
}

/* Equal bundles are one text, so that their places are enough to compare. */
static bool is_same(const struct generation_upstream *a, const struct generation_upstream *b,
                    enum upstream_tls_use use)
{
    return a->tls.skip_verify == b->tls.skip_verify && a->tls.ca.offset == b->tls.ca.offset &&
           a->tls.certificate == b->tls.certificate && a->http_version == b->http_version &&
           offers_http2(a, use) == offers_http2(b, use);
}

/* The first upstream with equal settings, itself if there is none before it. */
static uint32_t first_like(const struct generation *generation, uint32_t index,
                           enum upstream_tls_use use)
{
    const struct generation_upstream *upstream = generation_upstream(generation, index);
    for (uint32_t i = 0; i < index; i++) {
        const struct generation_upstream *other = generation_upstream(generation, i);
        if (is_used(other, use) && is_same(other, upstream, use)) {
            return i;
        }
    }
    return index;
}

uint32_t upstream_tls_endpoints(const struct generation *generation, enum upstream_tls_use use)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < generation->header->upstreams.count; i++) {
        const struct generation_upstream *upstream = generation_upstream(generation, i);
        count += is_used(upstream, use) ? upstream->endpoint_count : 0;
    }
    return count;
}

uint64_t upstream_tls_bytes(const struct generation *generation)
{
    return (generation->header->upstreams.count + 1U) * sizeof(struct tls_client *);
}

uint64_t upstream_tls_heap(const struct generation *generation, enum upstream_tls_use use)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < generation->header->upstreams.count; i++) {
        const struct generation_upstream *upstream = generation_upstream(generation, i);
        if (is_used(upstream, use) && first_like(generation, i, use) == i) {
            sum += TLS_HEAP_HOST + (uint64_t)upstream->tls.ca.count * HEAP_PER_BUNDLE_BYTE;
        }
    }
    return sum;
}

static struct tls_client *make_client(struct tls_engine *engine,
                                      const struct generation *generation,
                                      const struct secrets *secrets,
                                      const struct generation_upstream *upstream, bool http2,
                                      char error[TLS_ERROR_MAX])
{
    const struct generation_upstream_tls *config = &upstream->tls;
    struct tls_identity identity = {0};
    struct tls_client_settings settings = {
        .verify = config->skip_verify == 0,
        .ca_pem = generation_text(generation, config->ca),
        .alpn = {http2 ? TLS_ALPN_HTTP2 : TLS_ALPN_HTTP1, TLS_ALPN_NONE},
    };
    if (config->certificate != GENERATION_NONE) {
        const struct generation_certificate *shown =
            generation_certificate(generation, config->certificate);
        identity.chain_pem = generation_text(generation, shown->chain);
        identity.key_pem = secrets_key(secrets, config->certificate);
        settings.identity = &identity;
    }
    return tls_client_create(engine, &settings, error);
}

bool upstream_tls_init(struct upstream_tls *tls, struct tls_engine *engine,
                       const struct generation *generation, const struct secrets *secrets,
                       enum upstream_tls_use use, char error[TLS_ERROR_MAX])
{
    uint32_t count = generation->header->upstreams.count;
    *tls = (struct upstream_tls){.clients = calloc(count + 1U, sizeof(struct tls_client *)),
                                 .count = count};
    error[0] = '\0';
    bool good = tls->clients != NULL;
    for (uint32_t i = 0; i < count && good; i++) {
        const struct generation_upstream *upstream = generation_upstream(generation, i);
        if (!is_used(upstream, use)) {
            continue;
        }
        uint32_t like = first_like(generation, i, use);
        bool http2 = offers_http2(upstream, use);
        tls->clients[i] = like < i
                              ? tls->clients[like]
                              : make_client(engine, generation, secrets, upstream, http2, error);
        good = tls->clients[i] != NULL;
    }
    if (!good) {
        upstream_tls_deinit(tls);
    }
    return good;
}

/* Each once: the first time that it stands there. */
void upstream_tls_deinit(struct upstream_tls *tls)
{
    for (uint32_t i = 0; tls->clients != NULL && i < tls->count; i++) {
        struct tls_client *client = tls->clients[i];
        tls_client_destroy(client);
        for (uint32_t j = i; j < tls->count && client != NULL; j++) {
            tls->clients[j] = tls->clients[j] == client ? NULL : tls->clients[j];
        }
    }
    free(tls->clients);
    *tls = (struct upstream_tls){0};
}

/* `1.2.3.4:443` or `[::1]:443` without port and brackets. */
static struct span host_of_address(struct span text)
{
    size_t size = text.size;
    while (size > 0 && text.data[size - 1] != ':') {
        size--;
    }
    struct span host = span_first(text, size > 0 ? size - 1 : 0);
    bool bracketed = host.size > 2 && host.data[0] == '[';
    return bracketed ? span_from(span_first(host, host.size - 1), 1) : host;
}

/* A certificate names addresses in a way of their own, and no server is asked for one (RFC 6066,
 * 3). */
static void choose_peer(struct span name, struct tls_peer *peer)
{
    bool bracketed = name.size > 2 && name.data[0] == '[';
    struct span bare = bracketed ? span_from(span_first(name, name.size - 1), 1) : name;
    struct address address;
    if (address_parse_host(bare, &address)) {
        peer->address_text = bare;
    } else {
        peer->server_name = name;
    }
}

void upstream_tls_target(const struct upstream_tls *tls, const struct generation *generation,
                         uint32_t endpoint, struct tls_resumption *resumption,
                         struct dialing_target *target)
{
    const struct generation_endpoint *config = generation_endpoint(generation, endpoint);
    const struct generation_upstream *upstream = generation_upstream(generation, config->upstream);
    struct span name = generation_text(generation, upstream->tls.server_name);
    *target = (struct dialing_target){
        .address = &config->address,
        .path = generation_unix_path(generation, config->text),
    };
    if (tls == NULL || tls->clients == NULL || tls->clients[config->upstream] == NULL) {
        return;
    }
    target->tls = tls->clients[config->upstream];
    target->resumption = resumption;
    struct span host = generation_text(generation, config->host);
    if (name.size > 0 || host.size > 0) {
        choose_peer(name.size > 0 ? name : host, &target->peer);
    } else if (config->address.family != ADDRESS_UNIX) {
        target->peer.address_text = host_of_address(generation_text(generation, config->text));
    }
}
