#include "proxy/worker_plan.h"

#include "base/assert.h"
#include "proxy/exchange.h"
#include "proxy/tls_setup.h"
#include "proxy/worker.h"

enum {
    RESERVE_MIN = 8,
    LENT_SHARE = 8,          /* one part in so many more than its share */
    RESERVE_ALL = 1024,      /* all workers together, where that leaves each enough */
    CONNECTIONS_FLOOR = 256, /* shares smaller than this are not worth holding anyone to */
    HANDSHAKES_FLOOR = 32,
    SMALL_HEAD = 2,                  /* the empty line that may come before a request line */
    UPSTREAM_INBOX_SIZE = 16 * 1024, /* a head and the beginning of its body in one read */
    OWN_DESCRIPTORS = 16,            /* see struct worker_plan_descriptors */
};

static const struct {
    const char *name;
    enum schema_key_id key;
} ROWS[WORKER_PLAN_ROWS] = {
#define PLAN(id, key, name) [WORKER_PLAN_##id] = {name, key},
#include "proxy/worker_plan.def"
#undef PLAN
};

const char *worker_plan_name(enum worker_plan_row row)
{
    ASSERT((unsigned)row < WORKER_PLAN_ROWS);
    return ROWS[row].name;
}

enum schema_key_id worker_plan_key(enum worker_plan_row row)
{
    ASSERT((unsigned)row < WORKER_PLAN_ROWS);
    return ROWS[row].key;
}

uint32_t worker_plan_share(uint32_t total, uint32_t workers, uint32_t index)
{
    ASSERT(workers > 0 && index < workers);
    return total / workers + (index < total % workers ? 1 : 0);
}

/*
 * Connections are counted over all workers and spread among them; one of them may be missing, then
 * the others hold all there may be. Room for more than that in each would be several times the
 * memory for a case that does not last.
 */
static uint32_t connections_of(const struct generation_server *server)
{
    uint32_t others = server->workers > 1 ? server->workers - 1 : 1;
    uint32_t most = server->connections / others + (server->connections % others != 0 ? 1 : 0);
    uint32_t floor =
        server->connections < CONNECTIONS_FLOOR ? server->connections : CONNECTIONS_FLOOR;
    return most > floor ? most : floor;
}

/*
 * What others do not use a worker may, up to an eighth above its share. Requests spread with the
 * connections, so it takes little to even out the rest, and each costs some 50 KiB here.
 */
static uint32_t requests_of(const struct generation_server *server, uint32_t index)
{
    uint32_t most = server->limits.requests;
    uint32_t share = worker_plan_share(most, server->workers, index);
    uint32_t more = (share + LENT_SHARE - 1) / LENT_SHARE;
    return more < most - share ? share + more : most;
}

/*
 * The most that OpenSSL may take for upstream connections: each may carry a request, or be in its
 * handshake, when it does nothing else.
 */
static uint64_t heap_of_upstreams(const struct worker_plan *plan,
                                  const struct generation *generation)
{
    const uint64_t each = TLS_HEAP_IDLE + TLS_HEAP_PEER + TLS_HEAP_HANDSHAKE;
    static_assert(TLS_HEAP_HANDSHAKE >= TLS_HEAP_BUSY, "a handshake takes most");
    return plan->upstream_connections * each + upstream_tls_heap(generation, UPSTREAM_TLS_TRAFFIC);
}

/* Split evenly, but nobody is without one. */
static uint32_t at_least_one(uint32_t total, const struct generation_server *server, uint32_t index)
{
    uint32_t share = worker_plan_share(total, server->workers, index);
    return share > 0 ? share : 1;
}

/*
 * Handshakes spread with the connections; one worker may be missing, or have more than its share
 * for a while. A handful must fit in any case.
 */
static uint32_t handshakes_of(const struct generation_server *server)
{
    uint32_t others = server->workers > 1 ? server->workers - 1 : 1;
    uint32_t most = server->limits.handshakes / others + 1;
    uint32_t floor = most > HANDSHAKES_FLOOR ? most : HANDSHAKES_FLOOR;
    return floor < server->limits.handshakes ? floor : server->limits.handshakes;
}

/*
 * The most that it may take for clients: each connection as it idles; on top those in a handshake,
 * those with a request, whose next record may have come in part, and those whose record waits to be
 * written, which hold buffers of the pool. As long as no worker is missing: then new ones have to
 * wait, since room for them in each would be several times the memory.
 */
static uint64_t heap_of_clients(const struct worker_plan *plan, const struct generation *generation,
                                uint32_t index)
{
    const struct generation_server *server = &generation->header->server;
    const uint64_t record = TLS_HEAP_BUSY / 2;
    uint64_t hosts = 0;
    uint64_t idle = TLS_HEAP_IDLE;
    for (uint32_t i = 0; i < generation->header->tls_servers.count; i++) {
        const struct generation_tls_server *tls = generation_tls_server(generation, i);
        hosts += 2 + (uint64_t)tls->hosts.count;
        idle = tls->client_auth != CLIENT_AUTH_OFF ? TLS_HEAP_IDLE + TLS_HEAP_PEER : idle;
    }
    uint64_t share = worker_plan_share(server->connections, server->workers, index);
    uint64_t connections = share + share / LENT_SHARE + 1;
    connections = connections < plan->connections ? connections : plan->connections;
    return hosts * TLS_HEAP_HOST + connections * idle +
           plan->handshakes * (uint64_t)TLS_HEAP_HANDSHAKE + plan->requests * record +
           buffer_pool_count(server->limits.buffer_pool) * record;
}

static uint64_t heap_of(const struct worker_plan *plan, const struct generation *generation,
                        uint32_t index)
{
    return TLS_HEAP_BASE + (tls_setup_calls(generation) ? heap_of_upstreams(plan, generation) : 0) +
           (tls_setup_serves(generation) ? heap_of_clients(plan, generation, index) : 0);
}

static uint32_t reserve_of(uint32_t workers)
{
    uint32_t reserve = RESERVE_ALL / workers;
    return reserve < RESERVE_MIN               ? RESERVE_MIN
           : reserve < WORKER_PLAN_RESERVE_MAX ? reserve
                                               : WORKER_PLAN_RESERVE_MAX;
}

/* The most security fields that any route sets: the draft must hold them. */
static size_t security_fields(const struct generation *generation)
{
    size_t most = generation->header->default_security.count;
    for (uint32_t i = 0; i < generation->header->routes.count; i++) {
        size_t count = generation_route(generation, i)->security.count;
        most = count > most ? count : most;
    }
    return most;
}

/* Arena bytes of what records tell of TLS. */
static size_t notes_of_tls(const struct generation *generation)
{
    return access_log_tells_tls(generation) && tls_setup_serves(generation) ? EXCHANGE_TLS_MAX : 0;
}

static struct http1_limits head_limits(const struct generation *generation)
{
    const struct generation_limits *limits = &generation->header->server.limits;
    return (struct http1_limits){
        .request_line_max = limits->request_line,
        .head_max = limits->head_size,
        .fields_max = limits->header_fields,
    };
}

static struct worker_plan_item in_slab(uint32_t count, size_t size)
{
    return (struct worker_plan_item){count, size, slab_bytes(size, count)};
}

static struct worker_plan_item in_one_piece(uint64_t bytes)
{
    return (struct worker_plan_item){1, (size_t)bytes, bytes};
}

void worker_plan_init(struct worker_plan *plan, const struct generation *generation, uint32_t index)
{
    const struct generation_server *server = &generation->header->server;
    const struct generation_limits *limits = &server->limits;
    const struct http1_limits heads = head_limits(generation);
    struct worker_plan_item *items = plan->items;
    *plan = (struct worker_plan){
        .connections = connections_of(server),
        .requests = requests_of(server, index),
        .upstream_connections =
            worker_plan_share(limits->upstream_connections, server->workers, index),
        .splice_pipes = worker_plan_share(limits->splice_pipes, server->workers, index),
        .tunnels = at_least_one(limits->tunnels, server, index),
        .tunnels_per_client = at_least_one(limits->tunnels_per_client, server, index),
        .arena_size = exchange_arena_size(&heads) + notes_of_tls(generation),
        .draft_size = exchange_draft_size(&heads, security_fields(generation)),
    };
    uint32_t reserve = reserve_of(server->workers);
    uint32_t clients = plan->connections + reserve;
    uint32_t upstreams = plan->upstream_connections;
    size_t head = limits->head_size;
    items[WORKER_PLAN_CONNECTIONS] = in_slab(clients, sizeof(struct connection));
    items[WORKER_PLAN_CLIENT_INBOXES] = in_slab(clients, head + SMALL_HEAD);
    items[WORKER_PLAN_EXCHANGES] =
        in_slab(plan->requests + reserve, sizeof(struct exchange) + plan->arena_size);
    items[WORKER_PLAN_BUFFERS] =
        in_slab(buffer_pool_count(limits->buffer_pool), buffer_pool_object_size());
    if (generation_buffers(generation)) {
        items[WORKER_PLAN_HOLDS] =
            in_slab(hold_pool_count(limits->hold_pool), hold_pool_object_size());
    }
    if (generation_speaks_http2(generation)) {
        items[WORKER_PLAN_HTTP2] = (struct worker_plan_item){
            1, (size_t)limits->http2_pool, http2_memory_bytes(limits->http2_pool)};
    }
    items[WORKER_PLAN_UPSTREAM_CONNECTIONS] = in_slab(upstreams, sizeof(struct pool_connection));
    items[WORKER_PLAN_UPSTREAM_INBOXES] =
        in_slab(upstreams, head > UPSTREAM_INBOX_SIZE ? head : UPSTREAM_INBOX_SIZE);
    items[WORKER_PLAN_PIPES] = in_one_piece(pipe_pool_bytes(plan->splice_pipes));
    if (tls_setup_is_needed(generation)) {
        uint32_t speakers = tls_setup_serves(generation) ? clients : 0;
        speakers += tls_setup_calls(generation) ? upstreams : 0;
        plan->tls_connections = speakers;
        plan->handshakes = tls_setup_serves(generation) ? handshakes_of(server) : 0;
        items[WORKER_PLAN_TLS_CONNECTIONS] =
            in_one_piece(tls_engine_bytes(speakers) + tls_setup_bytes(generation));
        items[WORKER_PLAN_TLS_HEAP] = in_one_piece(heap_of(plan, generation, index));
    }
    items[WORKER_PLAN_ENDPOINTS] = in_one_piece(upstream_set_bytes(generation));
    items[WORKER_PLAN_SCRATCH] = in_one_piece(SCRATCH_SIZE + BYTE_QUEUE_MAX + plan->draft_size);
    items[WORKER_PLAN_CONTEXT] =
        in_one_piece(worker_context_bytes(generation->header->listeners.count));
    plan->descriptors = (struct worker_plan_descriptors){
        .clients = clients,
        .upstreams = upstreams,
        .listeners = generation->header->listeners.count,
        .pipes = 2 * plan->splice_pipes,
        .own = OWN_DESCRIPTORS,
    };
}

uint64_t worker_plan_bytes(const struct worker_plan *plan)
{
    uint64_t sum = 0;
    for (unsigned row = 0; row < WORKER_PLAN_ROWS; row++) {
        if (__builtin_add_overflow(sum, plan->items[row].bytes, &sum)) {
            return UINT64_MAX;
        }
    }
    return sum;
}

uint64_t worker_plan_descriptors(const struct worker_plan *plan)
{
    const struct worker_plan_descriptors *descriptors = &plan->descriptors;
    return (uint64_t)descriptors->clients + descriptors->upstreams + descriptors->listeners +
           descriptors->pipes + descriptors->own;
}
