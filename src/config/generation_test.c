#include "config/generation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/compile.h"
#include "config/schema.h"
#include "http/message.h"

enum { TEST_ARENA_SIZE = 4 * 1024 * 1024 };

/* A configuration with every kind of record and reference. */
static const char everything[] =
    "server { admin { allowed-hosts \"a.test\" \"b.test\" } }\n"
    "observability { access-log \"/var/log/sentinel.log\" { sample \"2xx\" 0.5\n"
    "    fields \"status\" \"path\"; redact \"client\"; redact-query \"a\" \"b\"\n"
    "    request-header \"A\" \"Referer\"; response-header \"B\"; redact-header \"A\" } }\n"
    "listener \"l\" { address \"127.0.0.1:80\"; trusted-proxies \"10.0.0.0/8\" \"::1\" }\n"
    "listener \"m\" { address \"[::1]:80\" }\n"
    "upstream \"u\" { target \"127.0.0.1:81\"; target \"[::1]:81\" weight=2\n"
    "    health-check { type \"http\" path=\"/health\" host=\"h\" } }\n"
    "upstream \"v\" { target \"127.0.0.1:82\"; health-check { type \"tcp\" } }\n"
    "upstream \"w\" { target \"127.0.0.1:83\"; protocol \"grpc\"\n"
    "    health-check { type \"grpc\" service=\"a.B\" host=\"h\" } }\n"
    "route \"a\" { upstream \"u\"; upstream-host \"h\"\n"
    "    match { path-prefix \"/a\" \"/b\"; host \"*.x.test\" \"x.test\"; method \"GET\" "
    "\"PURGE\"\n"
    "            header \"X\" \"1\" \"2\"; query \"q\" }\n"
    "    match path=\"/c\"\n"
    "    security-headers { set \"X-Y\" \"z\"; upstream-wins true } }\n"
    "route \"b\" { redirect \"https://h\" keep-path=true; match path=\"/d\" }\n"
    "route \"c\" { respond 200 body=\"x\"; match method=\"POST\" }\n"
    "route \"d\" { upstream \"v\" }\n";

/* A good block that a test may damage, and a copy to restore it from. */
struct block {
    uint8_t *bytes;
    uint8_t *good;
    size_t size;
    struct generation_header *header; /* of bytes */
};

static int make_block(void **state)
{
    struct block *made = calloc(1, sizeof(*made));
    struct diagnostics *diagnostics = calloc(1, sizeof(*diagnostics));
    void *memory = malloc(TEST_ARENA_SIZE);
    void *notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    struct arena arena;
    struct arena note_arena;
    struct span block = SPAN_EMPTY;
    struct environment environment = {.cores = 1};
    struct compile_input input = {
        .name = SPAN("t.kdl"),
        .text = span_of_string(everything),
        .environment = &environment,
    };
    assert_non_null(made);
    assert_non_null(diagnostics);
    arena_init(&arena, memory, TEST_ARENA_SIZE);
    arena_init(&note_arena, notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(diagnostics, &note_arena);
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    diagnostics_print(diagnostics, stderr);
    assert_int_equal(status, OK);
    made->size = block.size;
    made->bytes = malloc(block.size);
    made->good = malloc(block.size);
    assert_non_null(made->bytes);
    assert_non_null(made->good);
    memcpy(made->bytes, block.data, block.size);
    memcpy(made->good, block.data, block.size);
    made->header = (void *)made->bytes;
    free(notes);
    free(memory);
    free(diagnostics);
    *state = made;
    return 0;
}

static int drop_block(void **state)
{
    struct block *block = *state;
    free(block->bytes);
    free(block->good);
    free(block);
    return 0;
}

static bool opens(const struct block *block)
{
    struct generation generation;
    return generation_open(&generation, span_of(block->bytes, block->size));
}

static void restore(struct block *block)
{
    memcpy(block->bytes, block->good, block->size);
    assert_true(opens(block));
}

static void a_good_block_opens_and_can_be_read(void **state)
{
    struct block *block = *state;
    struct generation generation;
    assert_true(generation_open(&generation, span_of(block->bytes, block->size)));
    assert_int_equal(generation_listener(&generation, 1)->address.family, ADDRESS_IPV6);
    assert_int_equal(generation_upstream(&generation, 1)->endpoint_first, 2);
    assert_int_equal(generation_endpoint(&generation, 2)->upstream, 1);
    struct span name = generation_text(&generation, generation_route(&generation, 1)->name);
    assert_true(span_equal(name, SPAN("b")));
}

static void every_other_size_and_alignment_is_refused(void **state)
{
    struct block *block = *state;
    struct generation generation;
    for (size_t size = 0; size < block->size; size++) {
        assert_false(generation_open(&generation, span_of(block->bytes, size)));
    }
    assert_false(generation_open(&generation, span_of(NULL, 0)));
    uint8_t *moved = malloc(block->size + 8);
    assert_non_null(moved);
    memcpy(moved + 4, block->bytes, block->size);
    assert_false(generation_open(&generation, span_of(moved + 4, block->size)));
    free(moved);
}

static void another_magic_layout_size_or_number_is_refused(void **state)
{
    struct block *block = *state;
    block->header->magic++;
    assert_false(opens(block));
    restore(block);
    block->header->layout++;
    assert_false(opens(block));
    restore(block);
    block->header->size--;
    assert_false(opens(block));
    restore(block);
    block->header->number = 0;
    assert_false(opens(block));
    restore(block);
}

/* Every reference that a block of this build can hold, found from the records. */
struct refs {
    struct ref *list[512];
    size_t count;
};

static void add_ref(struct refs *refs, struct ref *ref)
{
    assert_true(refs->count < sizeof(refs->list) / sizeof(refs->list[0]));
    refs->list[refs->count++] = ref;
}

static void *records(struct block *block, struct ref ref)
{
    return block->bytes + ref.offset;
}

static void collect_header(struct block *block, struct refs *refs)
{
    struct generation_header *header = block->header;
    struct ref *const all[] = {&header->server.admin_hosts,
                               &header->server.admin_place.file,
                               &header->server.access_log,
                               &header->server.access_log_place.file,
                               &header->server.pid_file,
                               &header->server.pid_file_place.file,
                               &header->server.access.fields,
                               &header->server.access.rates,
                               &header->server.access.query_names,
                               &header->server.access.request_captured,
                               &header->server.access.response_captured,
                               &header->server.control_socket,
                               &header->server.control_place.file,
                               &header->listeners,
                               &header->upstreams,
                               &header->endpoints,
                               &header->routes,
                               &header->rules,
                               &header->buckets,
                               &header->any_rules,
                               &header->default_security,
                               &header->certificates,
                               &header->tls_servers};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        add_ref(refs, all[i]);
    }
    struct ref *hosts = records(block, header->server.admin_hosts);
    for (uint32_t i = 0; i < header->server.admin_hosts.count; i++) {
        add_ref(refs, &hosts[i]);
    }
    struct ref *names = records(block, header->server.access.query_names);
    for (uint32_t i = 0; i < header->server.access.query_names.count; i++) {
        add_ref(refs, &names[i]);
    }
    struct generation_captured *captured = records(block, header->server.access.request_captured);
    for (uint32_t i = 0; i < header->server.access.request_captured.count; i++) {
        add_ref(refs, &captured[i].name);
    }
    struct generation_listener *listeners = records(block, header->listeners);
    for (uint32_t i = 0; i < header->listeners.count; i++) {
        add_ref(refs, &listeners[i].name);
        add_ref(refs, &listeners[i].text);
        add_ref(refs, &listeners[i].trusted_proxies);
        add_ref(refs, &listeners[i].proxied);
        add_ref(refs, &listeners[i].hsts);
        add_ref(refs, &listeners[i].place.file);
    }
    struct generation_upstream *upstreams = records(block, header->upstreams);
    for (uint32_t i = 0; i < header->upstreams.count; i++) {
        add_ref(refs, &upstreams[i].name);
        add_ref(refs, &upstreams[i].health_path);
        add_ref(refs, &upstreams[i].health_host);
        add_ref(refs, &upstreams[i].health_service);
        add_ref(refs, &upstreams[i].tls.ca);
        add_ref(refs, &upstreams[i].tls.server_name);
        add_ref(refs, &upstreams[i].place.file);
    }
    struct generation_endpoint *endpoints = records(block, header->endpoints);
    for (uint32_t i = 0; i < header->endpoints.count; i++) {
        add_ref(refs, &endpoints[i].text);
        add_ref(refs, &endpoints[i].host);
    }
}

static void collect_fields(struct block *block, struct refs *refs, struct ref ref)
{
    struct generation_field *fields = records(block, ref);
    for (uint32_t i = 0; i < ref.count; i++) {
        add_ref(refs, &fields[i].name);
        add_ref(refs, &fields[i].value);
    }
}

static void collect_routes(struct block *block, struct refs *refs)
{
    struct generation_route *routes = records(block, block->header->routes);
    for (uint32_t i = 0; i < block->header->routes.count; i++) {
        struct ref *const all[] = {
            &routes[i].name,          &routes[i].location, &routes[i].body, &routes[i].content_type,
            &routes[i].upstream_host, &routes[i].security, &routes[i].hsts, &routes[i].place.file};
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
            add_ref(refs, all[j]);
        }
        collect_fields(block, refs, routes[i].security);
        add_ref(refs, &routes[i].upgrades);
        struct ref *upgrades = records(block, routes[i].upgrades);
        for (uint32_t j = 0; j < routes[i].upgrades.count; j++) {
            add_ref(refs, &upgrades[j]);
        }
    }
    collect_fields(block, refs, block->header->default_security);
}

static void collect_rules(struct block *block, struct refs *refs)
{
    struct generation_rule *rules = records(block, block->header->rules);
    for (uint32_t i = 0; i < block->header->rules.count; i++) {
        struct ref *const all[] = {&rules[i].path, &rules[i].host, &rules[i].methods,
                                   &rules[i].conditions, &rules[i].place.file};
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
            add_ref(refs, all[j]);
        }
        struct ref *methods = records(block, rules[i].methods);
        for (uint32_t j = 0; j < rules[i].methods.count; j++) {
            add_ref(refs, &methods[j]);
        }
        struct generation_condition *conditions = records(block, rules[i].conditions);
        for (uint32_t j = 0; j < rules[i].conditions.count; j++) {
            add_ref(refs, &conditions[j].name);
            add_ref(refs, &conditions[j].value);
        }
    }
    struct generation_bucket *buckets = records(block, block->header->buckets);
    for (uint32_t i = 0; i < block->header->buckets.count; i++) {
        add_ref(refs, &buckets[i].path);
        add_ref(refs, &buckets[i].rules);
    }
}

static void every_reference_out_of_bounds_is_refused(void **state)
{
    struct block *block = *state;
    struct refs *refs = calloc(1, sizeof(*refs));
    assert_non_null(refs);
    collect_header(block, refs);
    collect_routes(block, refs);
    collect_rules(block, refs);
    assert_true(refs->count > 150);
    uint32_t size = (uint32_t)block->size;
    const struct ref wrong[] = {
        {size, 1},
        {size - 1, 2},
        {UINT32_MAX, 1},
        {UINT32_MAX, UINT32_MAX},
        {8, 1},
        {0, 1},
        {size - 8, UINT32_MAX / 2},
        {size, 0},
        {8, UINT32_MAX},
        {size + 8, 1},
    };
    for (size_t i = 0; i < refs->count; i++) {
        struct ref good = *refs->list[i];
        for (size_t j = 0; j < sizeof(wrong) / sizeof(wrong[0]); j++) {
            *refs->list[i] = wrong[j];
            assert_false(opens(block));
        }
        *refs->list[i] = good;
        assert_true(opens(block));
    }
    free(refs);
}

/* Damages one member, sees it refused, and restores the block. */
#define REFUSED(block, member, value)                                                              \
    do {                                                                                           \
        (member) = (value);                                                                        \
        assert_false(opens(block));                                                                \
        restore(block);                                                                            \
    } while (0)

static uint32_t maximum(enum schema_key_id key)
{
    return (uint32_t)schema_key(key)->maximum;
}

static void the_largest_head_leaves_in_one_piece_with_what_is_added(void **state)
{
    (void)state;
    const struct generation_limits limits = {
        .header_fields = maximum(KEY_LIMITS_HEADER_FIELDS),
        .head_size = maximum(KEY_LIMITS_HEAD_SIZE),
        .request_line = maximum(KEY_LIMITS_REQUEST_LINE),
    };
    assert_true(generation_head_fits(&limits, 4, 512)); /* the default security fields */
    assert_false(generation_head_fits(&limits, 4, 8192));
    assert_false(generation_head_fits(&limits, 4, UINT64_MAX));
    const struct generation_limits small = {
        .header_fields = 100, .head_size = 8192, .request_line = 8192};
    uint64_t each = 128 + maximum(KEY_SECURITY_HEADERS_SET); /* a name and a value */
    assert_true(generation_head_fits(&small, GENERATION_SECURITY_MAX, 30 * each));
    assert_false(generation_head_fits(&small, GENERATION_SECURITY_MAX, 34 * each));
}

static void server_values_out_of_range_are_refused(void **state)
{
    struct block *block = *state;
    struct generation_server *server = &block->header->server;
    REFUSED(block, server->workers, 0);
    REFUSED(block, server->workers, 257);
    REFUSED(block, server->connections, 0);
    server->workers = 4; /* each must get one of these */
    REFUSED(block, server->limits.requests, 3);
    server->workers = 4;
    REFUSED(block, server->limits.upstream_connections, 3);
    REFUSED(block, server->merge_slashes, 2);
    REFUSED(block, server->admin.family, 3);
    REFUSED(block, server->admin.port, 0);
    REFUSED(block, server->access_log.count, 0);
    REFUSED(block, server->pid_file.count, 0);
    REFUSED(block, server->account.change, 2);
    REFUSED(block, server->account.user, UINT32_MAX);
    REFUSED(block, server->account.group, UINT32_MAX);
    REFUSED(block, server->account.reserved, 1);
    server->account = (struct generation_account){.change = 1, .user = 7};
    REFUSED(block, server->account.user, 0); /* root */
    REFUSED(block, server->limits.header_fields, 0);
    REFUSED(block, server->limits.head_size, 1);
    REFUSED(block, server->limits.request_line, server->limits.head_size + 1);
    REFUSED(block, server->limits.buffer_pool, 0);
    REFUSED(block, server->limits.request_rate, 100001);
    REFUSED(block, server->limits.request_rate, 1); /* without a burst */
    REFUSED(block, server->limits.request_burst, 1);
    REFUSED(block, server->limits.splice_pipes, 65537);
    REFUSED(block, server->limits.handshakes, 0);
    REFUSED(block, server->timeouts.tls_handshake, 0);
    REFUSED(block, server->timeouts.connect, 0);
    REFUSED(block, server->timeouts.request_head, UINT64_MAX);
}

static void an_access_log_out_of_range_is_refused(void **state)
{
    struct block *block = *state;
    struct generation_access *access = &block->header->server.access;
    uint32_t *fields = records(block, access->fields);
    uint32_t *rates = records(block, access->rates);
    struct generation_captured *captured = records(block, access->request_captured);
    REFUSED(block, access->format, ACCESS_COMBINED); /* it has no members to choose */
    REFUSED(block, access->format, 2);
    REFUSED(block, access->redacted, 1u << ACCESS_REDACT_COUNT);
    REFUSED(block, access->rates.count, GENERATION_STATUSES - 1);
    REFUSED(block, rates[GENERATION_STATUSES - 1], GENERATION_RATE_ONE + 1);
    REFUSED(block, fields[0], ACCESS_FIELD_COUNT);
    REFUSED(block, fields[0], fields[1]);
    REFUSED(block, captured[0].redacted, 2);
    REFUSED(block, captured[0].field, FIELD_COUNT);
    REFUSED(block, captured[1].field, FIELD_OTHER);
}

static void listeners_and_upstreams_out_of_range_are_refused(void **state)
{
    struct block *block = *state;
    struct generation_listener *listeners = records(block, block->header->listeners);
    struct generation_upstream *upstreams = records(block, block->header->upstreams);
    struct generation_endpoint *endpoints = records(block, block->header->endpoints);
    struct address_block *networks = records(block, listeners[0].trusted_proxies);
    REFUSED(block, listeners[0].address.family, ADDRESS_NONE);
    REFUSED(block, listeners[0].address.ip[7], 1);
    REFUSED(block, listeners[0].address.family, ADDRESS_UNIX);
    REFUSED(block, listeners[0].socket_mode, 0660); /* of a TCP address */
    REFUSED(block, listeners[0].forwarded, FORWARDED_BOTH + 1);
    REFUSED(block, listeners[0].redirect_status, 200);
    REFUSED(block, listeners[0].redirect_status, 308); /* to no port */
    REFUSED(block, listeners[0].redirect_port, 443);   /* without a redirect */
    REFUSED(block, listeners[1].tls, 0);               /* there is no TLS server */
    REFUSED(block, networks[0].prefix_bits, 33);
    REFUSED(block, networks[1].family, ADDRESS_NONE);
    REFUSED(block, upstreams[0].balancer, 1);
    REFUSED(block, upstreams[0].send_proxy_protocol, SEND_PROXY_2 + 1);
    REFUSED(block, upstreams[0].endpoint_first, 1);
    REFUSED(block, upstreams[0].endpoint_count, 1);
    REFUSED(block, upstreams[1].endpoint_count, 2);
    REFUSED(block, upstreams[1].endpoint_count, UINT32_MAX);
    REFUSED(block, upstreams[0].health, HEALTH_GRPC + 1);
    REFUSED(block, upstreams[0].health, HEALTH_GRPC);
    REFUSED(block, upstreams[2].health, HEALTH_HTTP);
    REFUSED(block, upstreams[2].health, HEALTH_TCP);
    REFUSED(block, upstreams[2].health, HEALTH_NONE);
    REFUSED(block, upstreams[2].http_version, UPSTREAM_HTTP_1); /* which its check does not speak */
    REFUSED(block, upstreams[2].health_service.count, GENERATION_SERVICE_MAX + 1);
    REFUSED(block, upstreams[0].health, HEALTH_NONE);
    REFUSED(block, upstreams[0].health_timeout, upstreams[0].health_interval + 1);
    REFUSED(block, upstreams[0].health_rise, 0);
    REFUSED(block, upstreams[1].place.reserved, 1);
    REFUSED(block, upstreams[1].http_version, UPSTREAM_HTTP_2 + 1);
    REFUSED(block, upstreams[0].tls.on, 1); /* and nobody is trusted */
    REFUSED(block, upstreams[0].tls.skip_verify, 1);
    REFUSED(block, upstreams[0].tls.certificate, 0);
    REFUSED(block, upstreams[0].tls.reserved, 1);
    REFUSED(block, endpoints[0].weight, 0);
    REFUSED(block, endpoints[0].weight, 257);
    REFUSED(block, endpoints[0].upstream, 1);
    REFUSED(block, endpoints[2].address.port, 0);
    REFUSED(block, endpoints[2].address.family, ADDRESS_UNIX); /* and no path */
}

static void routes_out_of_range_are_refused(void **state)
{
    struct block *block = *state;
    struct generation_route *routes = records(block, block->header->routes);
    struct generation_field *fields = records(block, routes[0].security);
    REFUSED(block, routes[0].action, ACTION_RESPOND + 1);
    REFUSED(block, routes[0].action, ACTION_REDIRECT);
    REFUSED(block, routes[0].upstream, 3);
    REFUSED(block, routes[0].status, 200);
    REFUSED(block, routes[0].attempts, 0);
    REFUSED(block, routes[0].timeout, 0);
    REFUSED(block, routes[0].upstream_wins, 2);
    REFUSED(block, routes[0].allow_encoded_slash, 2);
    REFUSED(block, routes[1].status, 304);
    REFUSED(block, routes[1].keep_path, 2);
    REFUSED(block, routes[1].location, routes[0].name);
    REFUSED(block, routes[2].status, 199);
    REFUSED(block, routes[2].content_type, ((struct ref){0}));
    REFUSED(block, block->bytes[fields[0].name.offset], ':');
    REFUSED(block, block->bytes[fields[0].value.offset], '\n');
}

static void rules_and_index_out_of_range_are_refused(void **state)
{
    struct block *block = *state;
    struct generation_header *header = block->header;
    struct generation_rule *rules = records(block, header->rules);
    struct generation_bucket *buckets = records(block, header->buckets);
    uint32_t *any = records(block, header->any_rules);
    assert_true(header->any_rules.count >= 2);
    REFUSED(block, rules[0].route, header->routes.count);
    REFUSED(block, rules[0].path_kind, RULE_PATH_EXACT + 1);
    REFUSED(block, rules[0].path_kind, RULE_PATH_ANY);
    REFUSED(block, rules[0].host_kind, RULE_HOST_EXACT + 1);
    REFUSED(block, rules[0].method_mask, UINT32_MAX);
    REFUSED(block, header->buckets.count, header->buckets.count - 1);
    REFUSED(block, any[0], header->rules.count);
    REFUSED(block, any[1], any[0]);
    REFUSED(block, header->any_rules.count, 1);
    for (uint32_t i = 0; i < header->buckets.count; i++) {
        struct generation_bucket *bucket = &buckets[i];
        if (bucket->path_kind == RULE_PATH_ANY) {
            REFUSED(block, bucket->hash, 1);
            continue;
        }
        uint32_t *list = records(block, bucket->rules);
        REFUSED(block, bucket->path_kind, RULE_PATH_EXACT + 1);
        REFUSED(block, bucket->path_kind, RULE_PATH_ANY);
        REFUSED(block, list[0], any[0]);
        REFUSED(block, list[0], UINT32_MAX);
    }
    for (uint32_t i = 0; i < header->rules.count; i++) {
        struct generation_condition *conditions = records(block, rules[i].conditions);
        if (rules[i].conditions.count > 1) {
            REFUSED(block, conditions[0].group, UINT32_MAX);
            REFUSED(block, conditions[0].kind, RULE_CONDITION_KINDS);
            REFUSED(block, conditions[0].kind, RULE_CONDITION_SUBJECT);
            REFUSED(block, conditions[1].present_only, 2);
            REFUSED(block, conditions[1].reserved, 1);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_head_leaves_in_one_piece_with_what_is_added),
        cmocka_unit_test_setup_teardown(a_good_block_opens_and_can_be_read, make_block, drop_block),
        cmocka_unit_test_setup_teardown(every_other_size_and_alignment_is_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(another_magic_layout_size_or_number_is_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(every_reference_out_of_bounds_is_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(server_values_out_of_range_are_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(an_access_log_out_of_range_is_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(listeners_and_upstreams_out_of_range_are_refused,
                                        make_block, drop_block),
        cmocka_unit_test_setup_teardown(routes_out_of_range_are_refused, make_block, drop_block),
        cmocka_unit_test_setup_teardown(rules_and_index_out_of_range_are_refused, make_block,
                                        drop_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
