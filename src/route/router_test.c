#include "route/router_oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What a test compiles its drafts into. */
struct bench {
    struct block block;
    struct arena arena;
    void *arena_memory;
    struct rules rules;
    struct generation generation;
};

static int open_bench(void **state)
{
    struct bench *bench = test_calloc(1, sizeof(*bench));
    bench->block.memory = aligned_alloc(16, CASE_BLOCK_SIZE);
    bench->arena_memory = aligned_alloc(16, CASE_ARENA_SIZE);
    assert_non_null(bench->block.memory);
    assert_non_null(bench->arena_memory);
    arena_init(&bench->arena, bench->arena_memory, CASE_ARENA_SIZE);
    *state = bench;
    return 0;
}

static int close_bench(void **state)
{
    struct bench *bench = *state;
    free(bench->block.memory);
    free(bench->arena_memory);
    test_free(bench);
    return 0;
}

static void compile(struct bench *bench, const struct rule_draft *drafts, size_t count)
{
    arena_reset(&bench->arena);
    block_compile(&bench->block, &bench->arena, drafts, count, &bench->rules, &bench->generation);
}

static struct request_head request(const char *path)
{
    return (struct request_head){
        .method = METHOD_GET,
        .method_text = SPAN("GET"),
        .path = span_of_string(path),
        .host = SPAN("example.com"),
    };
}

static struct rule_draft exact(uint32_t route, const char *path)
{
    return (struct rule_draft){
        .route = route, .path_kind = RULE_PATH_EXACT, .path = span_of_string(path)};
}

static struct rule_draft prefix(uint32_t route, const char *path)
{
    return (struct rule_draft){
        .route = route, .path_kind = RULE_PATH_PREFIX, .path = span_of_string(path)};
}

enum { NO_ROUTE = 999 };

/* The route of a request, or NO_ROUTE. */
static uint32_t route_of(struct bench *bench, const struct request_head *head)
{
    const struct router_request wanted = {.head = head};
    uint32_t rule = 0;
    if (!router_match(&bench->generation, &wanted, &rule)) {
        return NO_ROUTE;
    }
    return bench->rules.sorted[rule]->route;
}

static uint32_t route_of_path(struct bench *bench, const char *path)
{
    struct request_head head = request(path);
    return route_of(bench, &head);
}

static uint32_t route_of_host(struct bench *bench, const char *host)
{
    struct request_head head = request("/");
    head.host = span_of_string(host);
    return route_of(bench, &head);
}

static uint32_t route_of_query(struct bench *bench, const char *query)
{
    struct request_head head = request("/");
    head.query = query == NULL ? SPAN_EMPTY : span_of_string(query);
    return route_of(bench, &head);
}

static uint32_t route_of_method(struct bench *bench, enum method method, const char *text)
{
    struct request_head head = request("/");
    head.method = method;
    head.method_text = span_of_string(text);
    return route_of(bench, &head);
}

/* ---- Examples ---- */

static void the_most_specific_path_wins(void **state)
{
    const struct rule_draft drafts[] = {prefix(0, "/"), prefix(1, "/api"), prefix(2, "/api/v1"),
                                        exact(3, "/api/v1")};
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_path(*state, "/"), 0);
    assert_int_equal(route_of_path(*state, "/apix"), 0);
    assert_int_equal(route_of_path(*state, "/ap"), 0);
    assert_int_equal(route_of_path(*state, "/api"), 1);
    assert_int_equal(route_of_path(*state, "/api/"), 1);
    assert_int_equal(route_of_path(*state, "/api/v10"), 1);
    assert_int_equal(route_of_path(*state, "/api/v1"), 3);
    assert_int_equal(route_of_path(*state, "/api/v1/"), 2);
    assert_int_equal(route_of_path(*state, "/api/v1/users"), 2);
    assert_int_equal(route_of_path(*state, "/API/v1"), 0);
    assert_int_equal(route_of_path(*state, "*"), NO_ROUTE);
}

static void a_higher_priority_beats_any_specificity(void **state)
{
    struct rule_draft drafts[] = {exact(0, "/a/b"), prefix(1, "/a"), prefix(2, "/"), {.route = 3}};
    drafts[1].priority = 1;
    drafts[3].priority = -1;
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_path(*state, "/a/b"), 1);
    assert_int_equal(route_of_path(*state, "/b"), 2);
    assert_int_equal(route_of_path(*state, "*"), 3);
    drafts[3].priority = 2;
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_path(*state, "/a/b"), 3);
}

static void without_rules_or_without_a_match_there_is_no_route(void **state)
{
    const struct rule_draft drafts[] = {exact(0, "/a")};
    struct request_head head = request("/b");
    uint32_t rule = 77;
    compile(*state, drafts, 0);
    assert_int_equal(route_of_path(*state, "/"), NO_ROUTE);
    compile(*state, drafts, 1);
    struct bench *bench = *state;
    const struct router_request wanted = {.head = &head};
    assert_false(router_match(&bench->generation, &wanted, &rule));
    assert_int_equal(rule, 77);
    assert_int_equal(route_of_path(*state, "/a"), 0);
    assert_int_equal(route_of_path(*state, ""), NO_ROUTE);
}

static void hosts_match_exactly_or_by_a_suffix_that_excludes_the_domain_itself(void **state)
{
    struct rule_draft drafts[4] = {{.route = 0}, {.route = 1}, {.route = 2}, {.route = 3}};
    drafts[0].host_kind = RULE_HOST_SUFFIX;
    drafts[0].host = SPAN(".example.com");
    drafts[1].host_kind = RULE_HOST_EXACT;
    drafts[1].host = SPAN("www.example.com");
    drafts[2].host_kind = RULE_HOST_SUFFIX;
    drafts[2].host = SPAN(".api.example.com");
    drafts[3].host_kind = RULE_HOST_EXACT;
    drafts[3].host = SPAN("[::1]");
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_host(*state, "example.com"), NO_ROUTE);
    assert_int_equal(route_of_host(*state, "www.example.com"), 1);
    assert_int_equal(route_of_host(*state, "www.example.com."), 1);
    assert_int_equal(route_of_host(*state, "www.example.com.."), NO_ROUTE);
    assert_int_equal(route_of_host(*state, "a.www.example.com"), 0);
    assert_int_equal(route_of_host(*state, "api.example.com"), 0);
    assert_int_equal(route_of_host(*state, "v1.api.example.com."), 2);
    assert_int_equal(route_of_host(*state, "evilexample.com"), NO_ROUTE);
    assert_int_equal(route_of_host(*state, ".example.com"), NO_ROUTE);
    assert_int_equal(route_of_host(*state, "example.com.evil"), NO_ROUTE);
    assert_int_equal(route_of_host(*state, "[::1]"), 3);
    assert_int_equal(route_of_host(*state, ""), NO_ROUTE);
    assert_int_equal(route_of_host(*state, "."), NO_ROUTE);
}

static void methods_match_by_id_or_name_and_case(void **state)
{
    const struct span names[] = {SPAN("PURGE"), SPAN("BREW")};
    struct rule_draft drafts[] = {{.route = 0}, {.route = 1}};
    drafts[0].method_mask = 1U << METHOD_GET | 1U << METHOD_PATCH;
    drafts[1].methods = names;
    drafts[1].methods_count = 2;
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_method(*state, METHOD_GET, "GET"), 0);
    assert_int_equal(route_of_method(*state, METHOD_PATCH, "PATCH"), 0);
    assert_int_equal(route_of_method(*state, METHOD_HEAD, "HEAD"), NO_ROUTE);
    assert_int_equal(route_of_method(*state, METHOD_OTHER, "BREW"), 1);
    assert_int_equal(route_of_method(*state, METHOD_OTHER, "brew"), NO_ROUTE);
    assert_int_equal(route_of_method(*state, METHOD_OTHER, "get"), NO_ROUTE);
}

static void headers_match_in_any_line_by_exact_value_or_presence(void **state)
{
    const struct rule_condition conditions[] = {
        {.name = SPAN("x-tenant"), .value = SPAN("blue"), .group = 0},
        {.name = SPAN("x-tenant"), .value = SPAN("green"), .group = 0},
        {.name = SPAN("x-debug"), .present_only = true, .group = 1},
    };
    struct rule_draft draft = {.conditions = conditions, .conditions_count = 3};
    struct field fields[] = {
        {.name = SPAN("X-Tenant"), .value = SPAN("red")},
        {.name = SPAN("X-TENANT"), .value = SPAN("green")},
        {.name = SPAN("X-Debug"), .value = SPAN("")},
    };
    struct request_head head = request("/");
    head.fields = (struct fields){.entries = fields, .count = 3, .capacity = 3};
    compile(*state, &draft, 1);
    assert_int_equal(route_of(*state, &head), 0);
    fields[1].value = SPAN("Green");
    assert_int_equal(route_of(*state, &head), NO_ROUTE);
    fields[1].value = SPAN("blue, green");
    assert_int_equal(route_of(*state, &head), NO_ROUTE);
    fields[1].value = SPAN("blue");
    assert_int_equal(route_of(*state, &head), 0);
    head.fields.count = 2;
    assert_int_equal(route_of(*state, &head), NO_ROUTE);
}

static void query_pairs_match_decoded_and_whole(void **state)
{
    const struct rule_condition conditions[] = {
        {.name = SPAN("a b"), .value = SPAN("1&2"), .kind = RULE_CONDITION_QUERY},
    };
    const struct rule_condition present[] = {
        {.name = SPAN("flag"), .present_only = true, .kind = RULE_CONDITION_QUERY},
    };
    const struct rule_condition plus[] = {
        {.name = SPAN("p"), .value = SPAN("a+b"), .kind = RULE_CONDITION_QUERY},
    };
    const struct rule_condition empty[] = {
        {.name = SPAN("e"), .value = SPAN(""), .kind = RULE_CONDITION_QUERY},
    };
    const struct rule_condition nameless[] = {
        {.name = SPAN(""), .present_only = true, .kind = RULE_CONDITION_QUERY},
    };
    const struct rule_draft drafts[] = {
        {.route = 0, .conditions = conditions, .conditions_count = 1},
        {.route = 1, .conditions = present, .conditions_count = 1},
        {.route = 2, .conditions = plus, .conditions_count = 1},
        {.route = 3, .conditions = empty, .conditions_count = 1},
        {.route = 4, .conditions = nameless, .conditions_count = 1},
    };
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_query(*state, "x=1&a%20b=1%262"), 0);
    assert_int_equal(route_of_query(*state, "%61%20%62=%31%26%32&flag"), 0);
    assert_int_equal(route_of_query(*state, "a b=1&2"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "a+b=1%262"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "a%20b%3D1%262"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "flag"), 1);
    assert_int_equal(route_of_query(*state, "flag=anything"), 1);
    assert_int_equal(route_of_query(*state, "flags"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "fla"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "p=a+b"), 2);
    assert_int_equal(route_of_query(*state, "p=a%2Bb"), 2);
    assert_int_equal(route_of_query(*state, "p=a%20b"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "p=a+b+"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "p=a+b%2"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "e"), 3);
    assert_int_equal(route_of_query(*state, "&&e=&"), 3);
    assert_int_equal(route_of_query(*state, "e=1"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, "=1"), 4);
    assert_int_equal(route_of_query(*state, "&"), NO_ROUTE);
    assert_int_equal(route_of_query(*state, ""), NO_ROUTE);
    assert_int_equal(route_of_query(*state, NULL), NO_ROUTE);
}

/* The digits stand right behind the query, where the fragment or the next field would. */
static void an_escape_cut_off_by_the_end_of_the_query_is_itself(void **state)
{
    const struct rule_condition literal[] = {
        {.name = SPAN("k"), .value = SPAN("%4"), .kind = RULE_CONDITION_QUERY},
    };
    const struct rule_draft draft = {.conditions = literal, .conditions_count = 1};
    struct request_head head = request("/");
    compile(*state, &draft, 1);
    head.query = span_first(SPAN("k=%41"), 4);
    assert_int_equal(route_of(*state, &head), 0);
    head.query = SPAN("k=%41");
    assert_int_equal(route_of(*state, &head), NO_ROUTE);
}

static void more_conditions_win_and_then_the_earlier_in_the_configuration(void **state)
{
    const struct rule_condition one[] = {
        {.name = SPAN("k"), .value = SPAN("1"), .kind = RULE_CONDITION_QUERY}};
    const struct rule_draft drafts[] = {
        {.route = 0},
        {.route = 1, .method_mask = 1U << METHOD_GET},
        {.route = 2, .conditions = one, .conditions_count = 1},
        {.route = 3, .method_mask = 1U << METHOD_GET, .conditions = one, .conditions_count = 1},
    };
    compile(*state, drafts, COUNT_OF(drafts));
    assert_int_equal(route_of_query(*state, "k=1"), 3);
    assert_int_equal(route_of_query(*state, "k=2"), 1);
    assert_int_equal(route_of_method(*state, METHOD_POST, "POST"), 0);
    compile(*state, drafts, 3);
    assert_int_equal(route_of_query(*state, "k=1"), 1);
}

/* More nested prefixes than the search remembers, each with a rule that fails but the shortest. */
static void prefixes_nested_deeper_than_the_search_remembers_are_all_tried(void **state)
{
    enum { DEPTH = 100 };
    static struct rule_draft drafts[DEPTH];
    static char path[2 * DEPTH + 1];
    for (size_t i = 0; i < DEPTH; i++) {
        memcpy(path + 2 * i, "/a", 2);
        drafts[i] = (struct rule_draft){.route = (uint32_t)i, .path_kind = RULE_PATH_PREFIX};
        drafts[i].path = span_of(path, 2 * i + 2);
        drafts[i].method_mask = 1U << METHOD_POST;
    }
    for (size_t open = 0; open < DEPTH; open++) {
        drafts[open].method_mask = 0;
        compile(*state, drafts, DEPTH);
        assert_int_equal(route_of_path(*state, path), open);
        drafts[open].method_mask = 1U << METHOD_POST;
    }
    compile(*state, drafts, DEPTH);
    assert_int_equal(route_of_path(*state, path), NO_ROUTE);
}

/* The route of a client by its certificate; NULL: it has shown none. */
static uint32_t route_of_client(struct bench *bench, const struct tls_certificate *client)
{
    const struct request_head head = request("/");
    const struct router_request wanted = {.head = &head, .client = client};
    uint32_t rule = 0;
    return router_match(&bench->generation, &wanted, &rule) ? bench->rules.sorted[rule]->route
                                                            : NO_ROUTE;
}

static void clients_match_by_what_their_certificate_says_and_never_without_one(void **state)
{
    const struct span print =
        SPAN("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    const struct rule_condition subject[] = {
        {.kind = RULE_CONDITION_SUBJECT, .value = SPAN("CN=a")},
        {.kind = RULE_CONDITION_SUBJECT, .value = SPAN("CN=b")}};
    const struct rule_condition san[] = {
        {.kind = RULE_CONDITION_SAN, .value = SPAN("DNS:a.example")},
        {.kind = RULE_CONDITION_SAN, .value = SPAN("email:a@b"), .group = 0}};
    const struct rule_condition fingerprint[] = {
        {.kind = RULE_CONDITION_FINGERPRINT, .value = print},
        {.kind = RULE_CONDITION_SAN, .value = SPAN("IP:::1"), .group = 1}};
    const struct rule_condition any[] = {
        {.kind = RULE_CONDITION_CERTIFICATE, .present_only = true}};
    const struct rule_condition none[] = {
        {.kind = RULE_CONDITION_NO_CERTIFICATE, .present_only = true}};
    struct rule_draft drafts[] = {
        {.route = 0, .conditions = subject, .conditions_count = 2, .priority = 3},
        {.route = 1, .conditions = san, .conditions_count = 2, .priority = 2},
        {.route = 2, .conditions = fingerprint, .conditions_count = 2, .priority = 2},
        {.route = 3, .conditions = any, .conditions_count = 1, .priority = 1},
        {.route = 4, .conditions = none, .conditions_count = 1},
    };
    struct tls_certificate client = {.subject = SPAN("CN=b"), .fingerprint = print};
    compile(*state, drafts, 5);
    assert_int_equal(route_of_client(*state, &client), 0);
    client.subject = SPAN("CN=B");
    assert_int_equal(route_of_client(*state, &client), 3);
    client.names = SPAN("URI:x, DNS:A.Example");
    assert_int_equal(route_of_client(*state, &client), 1);
    client.names = SPAN("email:A@b, DNS:a.example.org, URI:DNS:a.example");
    assert_int_equal(route_of_client(*state, &client), 3);
    client.names = SPAN("email:a@b");
    assert_int_equal(route_of_client(*state, &client), 1);
    client.names = SPAN("DNS:b, IP:::1");
    assert_int_equal(route_of_client(*state, &client), 2);
    client = (struct tls_certificate){.fingerprint = print}; /* too long to be shown */
    assert_int_equal(route_of_client(*state, &client), 3);
    assert_int_equal(route_of_client(*state, NULL), 4);
    compile(*state, drafts, 4);
    assert_int_equal(route_of_client(*state, NULL), NO_ROUTE);
}

/* ---- Bounds of work ---- */

static struct router_effort effort_of(struct bench *bench, const struct request_head *head)
{
    struct router_effort effort;
    uint32_t rule = 0;
    const struct router_request wanted = {.head = head};
    (void)router_match_measured(&bench->generation, &wanted, &rule, &effort);
    return effort;
}

static void a_hostile_path_costs_one_lookup_a_segment(void **state)
{
    enum { SEGMENTS = 4096, CONFIGURED = 500 };
    static char path[2 * SEGMENTS + 1];
    static char texts[CONFIGURED][8];
    static struct rule_draft drafts[CONFIGURED];
    for (unsigned i = 0; i < CONFIGURED; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "/s%u", i);
        drafts[i] = prefix(i, texts[i]);
    }
    drafts[0] = prefix(0, "/");
    compile(*state, drafts, CONFIGURED);
    for (size_t i = 0; i < SEGMENTS; i++) {
        memcpy(path + 2 * i, "/a", 2);
    }
    struct request_head head = request(path);
    struct router_effort effort = effort_of(*state, &head);
    assert_int_equal(effort.lookups, SEGMENTS + 2); /* with the root and the exact path */
    assert_in_range(effort.probes, SEGMENTS + 2, 4 * SEGMENTS);
    assert_int_equal(effort.rules, 1);
    memset(path, '/', sizeof(path) - 1);
    effort = effort_of(*state, &head);
    assert_in_range(effort.lookups, 1, 2 * SEGMENTS + 2);
    assert_int_equal(effort.rules, 1);
}

static void many_routes_cost_a_request_no_more_than_one(void **state)
{
    enum { CONFIGURED = 2000 };
    static char texts[CONFIGURED][16];
    static struct rule_draft drafts[CONFIGURED];
    for (unsigned i = 0; i < CONFIGURED; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "/service-%u", i);
        drafts[i] = i % 2 == 0 ? prefix(i, texts[i]) : exact(i, texts[i]);
    }
    compile(*state, drafts, CONFIGURED);
    uint32_t probes = 0;
    for (unsigned i = 0; i < CONFIGURED; i++) {
        struct request_head head = request(texts[i]);
        struct router_effort effort = effort_of(*state, &head);
        assert_int_equal(route_of(*state, &head), i);
        assert_int_equal(effort.lookups, 3);
        assert_int_equal(effort.rules, 1);
        probes += effort.probes;
    }
    assert_in_range(probes, 3 * CONFIGURED, 3 * 3 * CONFIGURED);
}

static void a_better_rule_found_ends_the_search_of_the_other_files(void **state)
{
    enum { HOSTS = 50 };
    static char hosts[HOSTS][8];
    static struct rule_draft drafts[HOSTS + 1];
    for (unsigned i = 0; i < HOSTS; i++) {
        (void)snprintf(hosts[i], sizeof(hosts[i]), "h%u", i);
        drafts[i] = prefix(i, "/");
        drafts[i].host_kind = RULE_HOST_EXACT;
        drafts[i].host = span_of_string(hosts[i]);
    }
    drafts[HOSTS] = prefix(HOSTS, "/static");
    compile(*state, drafts, HOSTS + 1);
    struct request_head head = request("/static/x");
    assert_int_equal(effort_of(*state, &head).rules, 1);
    assert_int_equal(route_of(*state, &head), HOSTS);
    head.path = SPAN("/other");
    assert_int_equal(effort_of(*state, &head).rules, HOSTS);
}

/* ---- Properties ---- */

enum { CONFIGURATIONS = 12000, REQUESTS = 10 };

static void the_router_is_the_naive_oracle(void **state)
{
    struct bench *bench = *state;
    unsigned matched = 0;
    for (uint64_t seed = 0; seed < CONFIGURATIONS; seed++) {
        struct case_drafts drafts;
        struct case_request made;
        struct choices choices = {0};
        prng_init(&choices.prng, seed);
        choose_drafts(&choices, &drafts);
        compile(bench, drafts.drafts, drafts.count);
        for (int i = 0; i < REQUESTS; i++) {
            uint32_t rule = 0;
            choose_request(&choices, &made);
            if (!property_router_agrees(&bench->generation, &bench->rules, &made.request)) {
                fail_msg("seed %llu, request %d", (unsigned long long)seed, i);
            }
            matched += router_match(&bench->generation, &made.request, &rule) ? 1 : 0;
        }
    }
    /* The cases are worth something: a good part matches, a good part does not. */
    assert_in_range(matched, CONFIGURATIONS * REQUESTS / 5, CONFIGURATIONS * REQUESTS * 4 / 5);
}

static void what_is_reported_unreachable_never_wins(void **state)
{
    struct bench *bench = *state;
    size_t shadows = 0;
    size_t whole = 0;
    for (uint64_t seed = 1000000; seed < 1000000 + CONFIGURATIONS; seed++) {
        struct case_drafts drafts;
        struct case_request made;
        struct choices choices = {0};
        prng_init(&choices.prng, seed);
        choose_drafts(&choices, &drafts);
        compile(bench, drafts.drafts, drafts.count);
        shadows += bench->rules.shadows_count;
        for (size_t i = 0; i < bench->rules.shadows_count; i++) {
            whole += bench->rules.shadows[i].whole_route ? 1 : 0;
        }
        for (int i = 0; bench->rules.shadows_count > 0 && i < 4 * REQUESTS; i++) {
            choose_request(&choices, &made);
            if (!property_shadows_are_true(&bench->rules, &made.request)) {
                fail_msg("seed %llu, request %d", (unsigned long long)seed, i);
            }
        }
    }
    assert_in_range(whole, 1000, shadows);
    assert_in_range(shadows - whole, 200, shadows);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bench, close_bench)
    const struct CMUnitTest tests[] = {
        TEST(the_most_specific_path_wins),
        TEST(a_higher_priority_beats_any_specificity),
        TEST(without_rules_or_without_a_match_there_is_no_route),
        TEST(hosts_match_exactly_or_by_a_suffix_that_excludes_the_domain_itself),
        TEST(methods_match_by_id_or_name_and_case),
        TEST(headers_match_in_any_line_by_exact_value_or_presence),
        TEST(query_pairs_match_decoded_and_whole),
        TEST(an_escape_cut_off_by_the_end_of_the_query_is_itself),
        TEST(clients_match_by_what_their_certificate_says_and_never_without_one),
        TEST(more_conditions_win_and_then_the_earlier_in_the_configuration),
        TEST(prefixes_nested_deeper_than_the_search_remembers_are_all_tried),
        TEST(a_hostile_path_costs_one_lookup_a_segment),
        TEST(many_routes_cost_a_request_no_more_than_one),
        TEST(a_better_rule_found_ends_the_search_of_the_other_files),
        TEST(the_router_is_the_naive_oracle),
        TEST(what_is_reported_unreachable_never_wins),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
