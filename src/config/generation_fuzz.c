/*
 * Damaged generations: the input is a list of patches (offset, width, value) to a good block, so
 * that every byte of it is within reach of a mutation. Whatever generation_open accepts is then
 * read in full, as the workers would; the sanitizer sees each byte that lies outside.
 */
#include "config/generation.h"

#include <stdlib.h>

#include "config/certificate_fixed_fuzz.h"
#include "config/compile.h"

enum { FUZZ_ARENA_SIZE = 4 * 1024 * 1024, FUZZ_SECRETS_SIZE = 2 * 1024 * 1024, PATCH_SIZE = 7 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char configuration[] =
    "server { admin { allowed-hosts \"a.test\" } }\n"
    "observability { access-log \"/l\" { sample \"2xx\" 0.5; redact-query \"a\"\n"
    "    request-header \"A\" \"Referer\"; response-header \"B\" } }\n"
    "listener \"l\" { address \"127.0.0.1:80\"; trusted-proxies \"10.0.0.0/8\" \"::1\" }\n"
    "upstream \"u\" { target \"127.0.0.1:81\"; target \"[::1]:81\" weight=2\n"
    "    health-check { type \"http\" path=\"/health\" host=\"h\" } }\n"
    "listener \"t\" { address \"127.0.0.1:443\"; protocol \"https\"; tls { certificate \"c\"\n"
    "    host \"a.test\" \"*.a.test\" { certificate \"d\" }\n"
    "    client-auth \"optional\" ca=\"e\" forward=true } }\n"
    "upstream \"v\" { target \"127.0.0.1:82\"; tls { ca \"e\"; server-name \"a.test\"\n"
    "    certificate \"c\" } }\n"
    "route \"a\" { upstream \"u\"; match { path-prefix \"/a\" \"/b\"; host \"*.x.test\"\n"
    "    method \"GET\" \"PURGE\"; header \"X\" \"1\" \"2\"; query \"q\" }\n"
    "    security-headers { set \"X-Y\" \"z\" } }\n"
    "route \"b\" { redirect \"https://h\"; match path=\"/d\" }\n"
    "route \"c\" { respond 200 body=\"x\"; match method=\"POST\" }\n"
    "route \"d\" { upstream \"v\" }\n";

/* What a walk has read, so that no read can be left out by the compiler. */
struct walk {
    const struct generation *generation;
    uint64_t sum;
};

static void read_text(struct walk *walk, struct ref ref)
{
    struct span text = generation_text(walk->generation, ref);
    for (size_t i = 0; i < text.size; i++) {
        walk->sum += text.data[i];
    }
}

static void read_texts(struct walk *walk, struct ref ref)
{
    const struct ref *texts = generation_array(walk->generation, ref);
    for (uint32_t i = 0; i < ref.count; i++) {
        read_text(walk, texts[i]);
    }
}

static void read_fields(struct walk *walk, struct ref ref)
{
    const struct generation_field *fields = generation_array(walk->generation, ref);
    for (uint32_t i = 0; i < ref.count; i++) {
        read_text(walk, fields[i].name);
        read_text(walk, fields[i].value);
    }
}

static void read_upstreams(struct walk *walk)
{
    const struct generation *generation = walk->generation;
    for (uint32_t i = 0; i < generation->header->upstreams.count; i++) {
        const struct generation_upstream *upstream = generation_upstream(generation, i);
        read_text(walk, upstream->name);
        read_text(walk, upstream->health_path);
        read_text(walk, upstream->health_host);
        read_text(walk, upstream->place.file);
        read_text(walk, upstream->tls.ca);
        read_text(walk, upstream->tls.server_name);
        if (upstream->tls.certificate != GENERATION_NONE) {
            read_text(walk, generation_certificate(generation, upstream->tls.certificate)->chain);
        }
        for (uint32_t j = 0; j < upstream->endpoint_count; j++) {
            const struct generation_endpoint *endpoint =
                generation_endpoint(generation, upstream->endpoint_first + j);
            ASSERT(endpoint->upstream == i && endpoint->weight > 0);
            read_text(walk, endpoint->text);
            read_text(walk, endpoint->host);
        }
    }
}

static void read_routes(struct walk *walk)
{
    const struct generation *generation = walk->generation;
    for (uint32_t i = 0; i < generation->header->routes.count; i++) {
        const struct generation_route *route = generation_route(generation, i);
        read_text(walk, route->name);
        read_text(walk, route->location);
        read_text(walk, route->body);
        read_text(walk, route->content_type);
        read_text(walk, route->upstream_host);
        read_fields(walk, route->security);
        read_text(walk, route->place.file);
        if (route->action == ACTION_UPSTREAM) {
            walk->sum += generation_upstream(generation, route->upstream)->endpoint_count;
        }
    }
    read_fields(walk, generation->header->default_security);
}

static void read_rules(struct walk *walk)
{
    const struct generation *generation = walk->generation;
    const struct generation_rule *rules = generation_array(generation, generation->header->rules);
    for (uint32_t i = 0; i < generation->header->rules.count; i++) {
        const struct generation_rule *rule = &rules[i];
        read_text(walk, rule->path);
        read_text(walk, rule->host);
        read_texts(walk, rule->methods);
        const struct generation_condition *conditions =
            generation_array(generation, rule->conditions);
        for (uint32_t j = 0; j < rule->conditions.count; j++) {
            read_text(walk, conditions[j].name);
            read_text(walk, conditions[j].value);
        }
        walk->sum += generation_route(generation, rule->route)->status;
    }
}

/* The index as the router searches it: probing must come to a free bucket. */
static void read_index(struct walk *walk)
{
    const struct generation_header *header = walk->generation->header;
    const struct generation_bucket *buckets = generation_array(walk->generation, header->buckets);
    uint32_t free_buckets = 0;
    for (uint32_t i = 0; i < header->buckets.count; i++) {
        const uint32_t *list = generation_array(walk->generation, buckets[i].rules);
        read_text(walk, buckets[i].path);
        for (uint32_t j = 0; j < buckets[i].rules.count; j++) {
            ASSERT(list[j] < header->rules.count);
        }
        free_buckets += buckets[i].path_kind == RULE_PATH_ANY;
    }
    ASSERT(header->buckets.count == 0 || free_buckets > 0);
    const uint32_t *any = generation_array(walk->generation, header->any_rules);
    for (uint32_t i = 0; i < header->any_rules.count; i++) {
        ASSERT(any[i] < header->rules.count);
    }
}

/* The log's tables as its writer reads them. */
static void read_access(struct walk *walk)
{
    const struct generation_access *access = &walk->generation->header->server.access;
    const uint32_t *fields = generation_array(walk->generation, access->fields);
    const uint32_t *rates = generation_array(walk->generation, access->rates);
    const struct ref captured[] = {access->request_captured, access->response_captured};
    for (uint32_t i = 0; i < access->fields.count; i++) {
        ASSERT(fields[i] < ACCESS_FIELD_COUNT);
    }
    for (uint32_t i = 0; access->rates.count > 0 && i < GENERATION_STATUSES; i++) {
        ASSERT(rates[i] <= GENERATION_RATE_ONE);
    }
    for (size_t i = 0; i < 2; i++) {
        const struct generation_captured *names = generation_array(walk->generation, captured[i]);
        for (uint32_t j = 0; j < captured[i].count; j++) {
            ASSERT(names[j].name.count <= GENERATION_CAPTURED_NAME_MAX);
            read_text(walk, names[j].name);
        }
    }
    read_texts(walk, access->query_names);
}

static void read_shown(struct walk *walk, struct ref ref)
{
    const uint32_t *shown = generation_array(walk->generation, ref);
    for (uint32_t i = 0; i < ref.count; i++) {
        walk->sum += generation_certificate(walk->generation, shown[i])->key_type;
    }
}

static void read_tls(struct walk *walk)
{
    const struct generation_header *header = walk->generation->header;
    for (uint32_t i = 0; i < header->certificates.count; i++) {
        const struct generation_certificate *certificate =
            generation_certificate(walk->generation, i);
        ASSERT(certificate->not_after > certificate->not_before);
        read_text(walk, certificate->name);
        read_text(walk, certificate->file);
        read_texts(walk, certificate->names);
        read_text(walk, certificate->chain);
        read_text(walk, certificate->ocsp);
        read_text(walk, certificate->place.file);
    }
    for (uint32_t i = 0; i < header->tls_servers.count; i++) {
        const struct generation_tls_server *server = generation_tls_server(walk->generation, i);
        const struct generation_tls_host *hosts = generation_array(walk->generation, server->hosts);
        const uint32_t *alpn = generation_array(walk->generation, server->alpn);
        ASSERT((server->client_auth == CLIENT_AUTH_OFF) == (server->client_ca.count == 0));
        read_shown(walk, server->certificates);
        for (uint32_t j = 0; j < server->hosts.count; j++) {
            read_text(walk, hosts[j].pattern);
            read_shown(walk, hosts[j].certificates);
        }
        for (uint32_t j = 0; j < server->alpn.count; j++) {
            ASSERT(alpn[j] < ALPN_COUNT);
        }
        read_text(walk, server->client_ca);
    }
}

static void walk_generation(const struct generation *generation)
{
    struct walk walk = {.generation = generation};
    for (uint32_t i = 0; i < generation->header->listeners.count; i++) {
        const struct generation_listener *listener = generation_listener(generation, i);
        const struct address_block *blocks =
            generation_array(generation, listener->trusted_proxies);
        for (uint32_t j = 0; j < listener->trusted_proxies.count; j++) {
            walk.sum += address_block_contains(&blocks[j], &listener->address);
        }
        read_text(&walk, listener->name);
        if (listener->tls != GENERATION_NONE) {
            walk.sum += generation_tls_server(generation, listener->tls)->version_max;
        }
        read_text(&walk, listener->text);
        walk.sum += generation_unix_path(generation, listener->text).size;
        read_text(&walk, listener->place.file);
    }
    read_tls(&walk);
    read_texts(&walk, generation->header->server.admin_hosts);
    read_text(&walk, generation->header->server.access_log);
    read_text(&walk, generation->header->server.pid_file);
    read_access(&walk);
    read_text(&walk, generation->header->server.control_socket);
    read_upstreams(&walk);
    read_routes(&walk);
    read_rules(&walk);
    read_index(&walk);
    volatile uint64_t sink = walk.sum;
    (void)sink;
}

/* One patch: two bytes of offset, a width of 1 to 4 in two bits, and the bytes to write there. */
static void apply_patch(uint8_t *block, size_t size, const uint8_t *patch)
{
    uint32_t offset = 0;
    memcpy(&offset, patch, 2);
    size_t width = 1 + (patch[2] & 3u);
    size_t start = offset % size;
    if (width > size - start) {
        width = size - start;
    }
    memcpy(block + start, patch + 3, width);
}

/* Compiled once; a harness has no process to hang it off. */
static struct span good_block(void)
{
    static struct span block;
    static struct secrets_builder secrets; /* too large for a frame */
    if (block.size > 0) {
        return block;
    }
    void *memory = malloc(FUZZ_ARENA_SIZE);
    void *keys = malloc(FUZZ_SECRETS_SIZE);
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    struct arena arena;
    struct environment environment = {
        .cores = 1, .read_file = fixed_read_file, .secrets = &secrets, .now = FUZZ_NOW};
    struct compile_input input = {
        .name = SPAN("fuzz"),
        .text = span_of_string(configuration),
        .environment = &environment,
    };
    ASSERT(memory != NULL && keys != NULL && diagnostics != NULL);
    arena_init(&arena, memory, FUZZ_ARENA_SIZE);
    arena_init(&secrets.arena, keys, FUZZ_SECRETS_SIZE);
    diagnostics_init(diagnostics, &arena);
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    ASSERT(status == OK);
    free(keys);
    free(diagnostics);
    return block; /* the memory around it stays */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct generation generation;
    struct span block = good_block();
    uint8_t *damaged = malloc(block.size); /* exactly its size: the sanitizer guards its end */
    ASSERT(damaged != NULL);
    memcpy(damaged, block.data, block.size);
    for (; size >= PATCH_SIZE; size -= PATCH_SIZE, data += PATCH_SIZE) {
        apply_patch(damaged, block.size, data);
    }
    if (generation_open(&generation, span_of(damaged, block.size))) {
        walk_generation(&generation);
    }
    free(damaged);
    return 0;
}
