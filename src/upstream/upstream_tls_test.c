/* The clients that upstreams share, what connections to endpoints are made of, and their memory. */
#include "upstream/upstream_tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { UPSTREAMS = 5, TEXT_MAX = 1024 * 1024 };

/* A block as far as these functions look at it: records, then texts. */
struct block {
    struct generation_header header;
    struct generation_upstream upstreams[UPSTREAMS];
    struct generation_endpoint endpoints[UPSTREAMS];
    uint8_t text[TEXT_MAX];
};

struct fixture {
    struct block block;
    struct generation generation;
    uint32_t used;
};

static struct ref text_of(struct fixture *fixture, struct span text)
{
    struct ref ref = {(uint32_t)offsetof(struct block, text) + fixture->used, (uint32_t)text.size};
    assert_true(text.size <= TEXT_MAX - fixture->used);
    memcpy(fixture->block.text + fixture->used, text.data, text.size);
    fixture->used += (uint32_t)text.size;
    return ref;
}

static int begin(void **state)
{
    static const char *const ADDRESSES[UPSTREAMS] = {"192.0.2.1:443", "[2001:db8::1]:443",
                                                     "unix:/run/x", "192.0.2.2:80", "a.test:443"};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    struct block *block = &fixture->block;
    fixture->generation = (struct generation){(const uint8_t *)block, &block->header};
    block->header.upstreams = (struct ref){offsetof(struct block, upstreams), UPSTREAMS};
    block->header.endpoints = (struct ref){offsetof(struct block, endpoints), UPSTREAMS};
    for (uint32_t i = 0; i < UPSTREAMS; i++) {
        block->upstreams[i].endpoint_count = 1;
        block->upstreams[i].endpoint_first = i;
        block->upstreams[i].tls.on = i != 3;
        block->upstreams[i].tls.skip_verify = i != 3;
        block->upstreams[i].tls.certificate = GENERATION_NONE;
        block->endpoints[i].upstream = i;
        block->endpoints[i].address.family = i == 2 ? ADDRESS_UNIX : ADDRESS_IPV4;
        block->endpoints[i].text = text_of(fixture, span_of_string(ADDRESSES[i]));
    }
    block->endpoints[4].host = text_of(fixture, SPAN("a.test"));
    *state = fixture;
    return 0;
}

static int end(void **state)
{
    free(*state);
    return 0;
}

static void connections_are_made_of_what_the_upstream_says(void **state)
{
    struct fixture *fixture = *state;
    struct upstream_tls tls = {0};
    struct tls_resumption resumption = {0};
    char error[TLS_ERROR_MAX];
    struct dialing_target targets[UPSTREAMS];
    fixture->block.upstreams[1].tls.server_name = text_of(fixture, SPAN("b.test"));
    fixture->block.upstreams[4].http_version = UPSTREAM_HTTP_1; /* another setting */
    struct tls_engine *engine = tls_engine_create(1, UINT64_MAX);
    assert_true(
        upstream_tls_init(&tls, engine, &fixture->generation, NULL, UPSTREAM_TLS_TRAFFIC, error));
    for (uint32_t i = 0; i < UPSTREAMS; i++) {
        upstream_tls_target(&tls, &fixture->generation, i, &resumption, &targets[i]);
        assert_ptr_equal(targets[i].address, &fixture->block.endpoints[i].address);
    }
    assert_non_null(targets[0].tls);
    assert_ptr_equal(targets[1].tls, targets[0].tls); /* equal settings, one client */
    assert_ptr_equal(targets[2].tls, targets[0].tls);
    assert_null(targets[3].tls);
    assert_ptr_not_equal(targets[4].tls, targets[0].tls);
    assert_int_equal(targets[0].peer.server_name.size, 0);
    assert_true(span_equal(targets[0].peer.address_text, SPAN("192.0.2.1")));
    assert_true(span_equal(targets[1].peer.server_name, SPAN("b.test")));
    assert_int_equal(targets[1].peer.address_text.size, 0);
    assert_true(span_equal(targets[2].path, SPAN("/run/x")));
    assert_int_equal(targets[2].peer.address_text.size, 0);
    assert_int_equal(targets[3].path.size, 0);
    assert_true(span_equal(targets[4].peer.server_name, SPAN("a.test")));
    fixture->block.upstreams[1].tls.server_name = (struct ref){0};
    upstream_tls_target(&tls, &fixture->generation, 1, NULL, &targets[1]);
    assert_true(span_equal(targets[1].peer.address_text, SPAN("2001:db8::1")));
    upstream_tls_target(NULL, &fixture->generation, 0, NULL, &targets[0]);
    assert_null(targets[0].tls);
    upstream_tls_deinit(&tls);
    upstream_tls_deinit(&tls);
    tls_engine_destroy(engine);
}

/* An address is no name to ask for, and stands in certificates in a way of its own. */
static void an_address_as_server_name_is_one_to_the_peer(void **state)
{
    static const char *const names[] = {"192.0.2.7", "[2001:db8::7]", "192.0.2.7.test", "1.2.3"};
    static const char *const addresses[] = {"192.0.2.7", "2001:db8::7", "", ""};
    struct fixture *fixture = *state;
    struct upstream_tls tls = {0};
    char error[TLS_ERROR_MAX];
    struct dialing_target target;
    struct tls_engine *engine = tls_engine_create(1, UINT64_MAX);
    assert_true(
        upstream_tls_init(&tls, engine, &fixture->generation, NULL, UPSTREAM_TLS_TRAFFIC, error));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct span name = span_of_string(names[i]);
        bool is_address = addresses[i][0] != '\0';
        fixture->block.upstreams[1].tls.server_name = text_of(fixture, name);
        upstream_tls_target(&tls, &fixture->generation, 1, NULL, &target);
        assert_true(span_equal(target.peer.address_text, span_of_string(addresses[i])));
        assert_true(span_equal(target.peer.server_name, is_address ? SPAN_EMPTY : name));
    }
    upstream_tls_deinit(&tls);
    tls_engine_destroy(engine);
}

static void checks_take_clients_of_checked_upstreams_only(void **state)
{
    struct fixture *fixture = *state;
    struct upstream_tls tls = {0};
    char error[TLS_ERROR_MAX];
    const struct generation *generation = &fixture->generation;
    assert_int_equal(upstream_tls_endpoints(generation, UPSTREAM_TLS_TRAFFIC), UPSTREAMS - 1);
    assert_int_equal(upstream_tls_endpoints(generation, UPSTREAM_TLS_CHECKS), 0);
    assert_int_equal(upstream_tls_heap(generation, UPSTREAM_TLS_CHECKS), 0);
    fixture->block.upstreams[1].health = HEALTH_TCP;
    fixture->block.upstreams[3].health = HEALTH_TCP; /* a plain one */
    assert_int_equal(upstream_tls_endpoints(generation, UPSTREAM_TLS_CHECKS), 1);
    struct tls_engine *engine = tls_engine_create(1, UINT64_MAX);
    assert_true(upstream_tls_init(&tls, engine, generation, NULL, UPSTREAM_TLS_CHECKS, error));
    assert_null(tls.clients[0]);
    assert_non_null(tls.clients[1]);
    assert_null(tls.clients[3]);
    upstream_tls_deinit(&tls);
    tls_engine_destroy(engine);
}

static size_t read_bundle(uint8_t *into, size_t size)
{
    FILE *file = fopen("/etc/ssl/certs/ca-certificates.crt", "r");
    size_t got = file == NULL ? 0 : fread(into, 1, size, file);
    if (file != NULL) {
        (void)fclose(file);
    }
    return got;
}

/* The bundle of the system is the largest that is met in practice: about 140 certificates. */
static void what_is_trusted_fits_the_heap_that_was_planned(void **state)
{
    struct fixture *fixture = *state;
    struct upstream_tls tls = {0};
    char error[TLS_ERROR_MAX];
    static uint8_t bundle[TEXT_MAX / 2];
    size_t size = read_bundle(bundle, sizeof(bundle));
    if (size == 0) {
        print_message("this machine has no bundle\n");
        skip();
    }
    struct ref ca = text_of(fixture, span_of(bundle, size));
    for (uint32_t i = 0; i < UPSTREAMS; i++) {
        fixture->block.upstreams[i].tls.skip_verify = 0;
        fixture->block.upstreams[i].tls.ca = ca;
    }
    uint64_t planned = upstream_tls_heap(&fixture->generation, UPSTREAM_TLS_TRAFFIC);
    struct tls_engine *engine = tls_engine_create(1, TLS_HEAP_BASE + planned);
    uint64_t before = tls_engine_heap(engine);
    bool made =
        upstream_tls_init(&tls, engine, &fixture->generation, NULL, UPSTREAM_TLS_TRAFFIC, error);
    if (!made) {
        fail_msg("%s", error);
    }
    uint64_t used = tls_engine_heap(engine) - before;
    print_message("%zu bytes of bundle take %llu, planned %llu\n", size, (unsigned long long)used,
                  (unsigned long long)planned);
    assert_true(used <= planned);
    assert_true(planned < 2 * used); /* and is no guess far off */
    upstream_tls_deinit(&tls);
    tls_engine_destroy(engine);
}

static void a_bundle_that_holds_nothing_is_an_error_with_a_text(void **state)
{
    struct fixture *fixture = *state;
    struct upstream_tls tls = {0};
    char error[TLS_ERROR_MAX] = "";
    fixture->block.upstreams[2].tls.skip_verify = 0;
    fixture->block.upstreams[2].tls.ca = text_of(fixture, SPAN("nonsense"));
    struct tls_engine *engine = tls_engine_create(1, UINT64_MAX);
    assert_false(
        upstream_tls_init(&tls, engine, &fixture->generation, NULL, UPSTREAM_TLS_TRAFFIC, error));
    assert_true(error[0] != '\0');
    assert_null(tls.clients);
    tls_engine_destroy(engine);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connections_are_made_of_what_the_upstream_says),
        TEST(an_address_as_server_name_is_one_to_the_peer),
        TEST(checks_take_clients_of_checked_upstreams_only),
        TEST(what_is_trusted_fits_the_heap_that_was_planned),
        TEST(a_bundle_that_holds_nothing_is_an_error_with_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
