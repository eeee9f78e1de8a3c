#include "proxy/limits.h"

#include "proxy/proxy.h"

enum {
    MILLION = 1000000,
    SCALE_SHIFT = 20,
    HEAP_UNIT = 64 * 1024, /* bytes: what is worth publishing, and fits 32 bits */
    PEAK_TIME_US = 10 * 1000 * 1000,
    SAMPLE_US = 1000 * 1000,
};

static void set_bound(struct limits *limits, enum limit limit, uint64_t bound)
{
    limits->scale[limit] = bound == 0 ? 0 : ((uint64_t)MILLION << SCALE_SHIFT) / bound;
}

void limits_init(struct proxy *proxy)
{
    const struct generation_limits *config = &proxy->generation->header->server.limits;
    struct limits *limits = &proxy->limits;
    *limits = (struct limits){0};
    set_bound(limits, LIMIT_CONNECTIONS, proxy->connections_max);
    set_bound(limits, LIMIT_REQUESTS, proxy->requests_max);
    set_bound(limits, LIMIT_HANDSHAKES, config->handshakes);
    set_bound(limits, LIMIT_TLS_HEAP, proxy->tls.heap_max / HEAP_UNIT);
    set_bound(limits, LIMIT_REQUESTS_OF_WORKER, proxy->exchanges.capacity);
    set_bound(limits, LIMIT_CLIENT_CONNECTIONS, config->connections_per_client);
    set_bound(limits, LIMIT_UPSTREAM_CONNECTIONS, proxy->pool.connections.capacity);
    set_bound(limits, LIMIT_TUNNELS, proxy->tunnels_place);
    set_bound(limits, LIMIT_BUFFERS, proxy->buffers.slab.capacity);
    set_bound(limits, LIMIT_HOLD_POOL, proxy->holds.slab.capacity);
    set_bound(limits, LIMIT_PIPES, proxy->pipes.capacity);
    set_bound(limits, LIMIT_HTTP2_MEMORY, proxy->http2.memory.page_count);
    set_bound(limits, LIMIT_CLIENT_HEADS, proxy->client_inboxes.capacity);
    set_bound(limits, LIMIT_UPSTREAM_HEADS, proxy->upstream_inboxes.capacity);
    set_bound(limits, LIMIT_CLIENT_TABLE, ((uint64_t)proxy->clients.mask + 1) / 2);
    set_bound(limits, LIMIT_RATE_TABLE, MILLION);
    set_bound(limits, LIMIT_ACCESS_LOG, RING_CAPACITY_DEFAULT / 1024);
}

static void publish(struct proxy *proxy, enum limit limit, uint32_t used)
{
    struct limits *limits = &proxy->limits;
    if (limits->used[limit] != used) {
        uint64_t bound = limits->scale[limit];
        limits->used[limit] = used;
        metrics_set_at(proxy->metrics, METRIC_LIMIT_UTILIZATION, limit,
                       bound == 0 ? 0 : (used * bound + (1U << SCALE_SHIFT) - 1) >> SCALE_SHIFT);
    }
}

/* Of the busiest client of the last ten to twenty seconds. */
static void publish_clients(struct proxy *proxy, uint64_t now)
{
    struct limits *limits = &proxy->limits;
    if (now >= limits->peak_until) {
        limits->client_peak_before = limits->client_peak;
        limits->client_peak = 0;
        limits->peak_until = now + PEAK_TIME_US;
    }
    publish(proxy, LIMIT_CLIENT_CONNECTIONS,
            limits->client_peak > limits->client_peak_before ? limits->client_peak
                                                             : limits->client_peak_before);
}

void limits_publish(struct proxy *proxy)
{
    uint64_t now = io_now(proxy->io);
    publish(proxy, LIMIT_CONNECTIONS, proxy->clients.connections);
    publish(proxy, LIMIT_REQUESTS, proxy->requests_open);
    if (proxy->tls.engine != NULL) {
        publish(proxy, LIMIT_HANDSHAKES, proxy->sessions.openings.open);
        publish(proxy, LIMIT_TLS_HEAP, (uint32_t)(tls_engine_heap(proxy->tls.engine) / HEAP_UNIT));
    }
    publish(proxy, LIMIT_REQUESTS_OF_WORKER, proxy->exchanges.in_use);
    publish(proxy, LIMIT_UPSTREAM_CONNECTIONS, proxy->pool.connections.in_use);
    publish(proxy, LIMIT_TUNNELS, proxy->tunnels_open);
    publish(proxy, LIMIT_BUFFERS, proxy->buffers.slab.in_use);
    publish(proxy, LIMIT_HOLD_POOL, proxy->holds.slab.in_use);
    publish(proxy, LIMIT_PIPES, proxy->pipes.in_use);
    publish(proxy, LIMIT_HTTP2_MEMORY, proxy->http2.memory.pages_in_use);
    publish(proxy, LIMIT_CLIENT_HEADS, proxy->client_inboxes.in_use);
    publish(proxy, LIMIT_UPSTREAM_HEADS, proxy->upstream_inboxes.in_use);
    publish(proxy, LIMIT_CLIENT_TABLE, proxy->clients.used);
    publish(proxy, LIMIT_ACCESS_LOG, access_log_waiting(proxy->access_log));
    publish_clients(proxy, now);
    if (rate_table_is_on(&proxy->rates) && now >= proxy->limits.sample_at) {
        proxy->limits.sample_at = now + SAMPLE_US;
        publish(proxy, LIMIT_RATE_TABLE, rate_table_sample(&proxy->rates, now));
    }
}
