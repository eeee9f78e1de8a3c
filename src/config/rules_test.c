#include "config/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "http/message.h"

enum { ARENA_SIZE = 4 << 20 };

static int open_arena(void **state)
{
    struct arena *arena = test_malloc(sizeof(*arena));
    void *memory = aligned_alloc(16, ARENA_SIZE);
    assert_non_null(memory);
    arena_init(arena, memory, ARENA_SIZE);
    *state = arena;
    return 0;
}

static int close_arena(void **state)
{
    struct arena *arena = *state;
    free(arena->memory);
    test_free(arena);
    return 0;
}

static struct rules built(struct arena *arena, const struct rule_draft *drafts, size_t count)
{
    struct rules rules;
    assert_true(rules_build(&rules, drafts, count, arena));
    return rules;
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

static void a_prefix_ends_at_a_segment_boundary(void **state)
{
    (void)state;
    assert_true(rule_prefix_takes(SPAN("/a"), SPAN("/a")));
    assert_true(rule_prefix_takes(SPAN("/a"), SPAN("/a/")));
    assert_true(rule_prefix_takes(SPAN("/a"), SPAN("/a/b")));
    assert_false(rule_prefix_takes(SPAN("/a"), SPAN("/ab")));
    assert_false(rule_prefix_takes(SPAN("/a"), SPAN("/")));
    assert_false(rule_prefix_takes(SPAN("/a"), SPAN("")));
    assert_true(rule_prefix_takes(SPAN("/"), SPAN("/")));
    assert_true(rule_prefix_takes(SPAN("/"), SPAN("/a")));
    assert_false(rule_prefix_takes(SPAN("/"), SPAN("*")));
    assert_false(rule_prefix_takes(SPAN("/"), SPAN_EMPTY));
}

/* One draft for each step of the order, worst first. */
static void the_order_is_priority_path_host_conditions_configuration(void **state)
{
    const struct rule_condition two[] = {
        {.name = SPAN("x"), .present_only = true, .group = 1},
        {.name = SPAN("y"), .present_only = true, .group = 2},
    };
    const struct rule_condition alternatives[] = {
        {.name = SPAN("x"), .value = SPAN("1"), .group = 1},
        {.name = SPAN("x"), .value = SPAN("2"), .group = 1},
        {.name = SPAN("x"), .value = SPAN("3"), .group = 1},
    };
    struct rule_draft drafts[12] = {
        {.priority = -1},                                             /* 0 */
        {.conditions = NULL},                                         /* 1 */
        {.conditions = alternatives, .conditions_count = 3},          /* 2 */
        {.method_mask = 2},                                           /* 3: equal to 2, but later */
        {.conditions = two, .conditions_count = 2},                   /* 4 */
        {.conditions = two, .conditions_count = 2, .method_mask = 2}, /* 5 */
        {.host_kind = RULE_HOST_SUFFIX, .host = SPAN(".com")},        /* 6 */
        {.host_kind = RULE_HOST_SUFFIX, .host = SPAN(".a.com")},      /* 7 */
        {.host_kind = RULE_HOST_EXACT, .host = SPAN("a")},            /* 8 */
    };
    drafts[9] = prefix(0, "/a");
    drafts[10] = prefix(0, "/a/b");
    drafts[11] = exact(0, "/");
    static const size_t expected[] = {11, 10, 9, 8, 7, 6, 5, 4, 2, 3, 1, 0};
    struct rules rules = built(*state, drafts, 12);
    for (size_t rank = 0; rank < 12; rank++) {
        assert_ptr_equal(rules.sorted[rank], &drafts[expected[rank]]);
    }
    drafts[0].priority = 1;
    rules = built(*state, drafts, 12);
    assert_ptr_equal(rules.sorted[0], &drafts[0]);
}

/* The run of this path, found the way a reader finds it. */
static const struct rule_bucket *lookup(const struct rules *rules, enum rule_path kind,
                                        struct span path)
{
    uint32_t hash = hash_fast(path);
    for (size_t i = hash; rules->buckets_count > 0; i++) {
        const struct rule_bucket *bucket = &rules->buckets[i & (rules->buckets_count - 1)];
        if (bucket->path_kind == RULE_PATH_ANY) {
            break;
        }
        if (bucket->hash == hash && bucket->path_kind == kind && span_equal(bucket->path, path)) {
            return bucket;
        }
    }
    return NULL;
}

static void every_rule_is_filed_once_and_each_file_is_in_order(void **state)
{
    enum { COUNT = 3000, PATHS = 700 };
    static char texts[PATHS][16];
    static struct rule_draft drafts[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned path = i * 7 % PATHS;
        (void)snprintf(texts[path], sizeof(texts[path]), "/p%u", path);
        drafts[i] = i % 3 == 0 ? exact(i, texts[path]) : prefix(i, texts[path]);
        drafts[i].priority = (int32_t)(i % 5);
        if (i % 10 == 0) {
            drafts[i].path_kind = RULE_PATH_ANY;
        }
    }
    struct rules rules = built(*state, drafts, COUNT);
    size_t filed = rules.any_count;
    size_t used = 0;
    for (size_t i = 0; i < rules.buckets_count; i++) {
        filed += rules.buckets[i].count;
        used += rules.buckets[i].path_kind != RULE_PATH_ANY ? 1 : 0;
    }
    assert_int_equal(filed, COUNT);
    assert_int_equal(rules.any_count, COUNT / 10);
    assert_true(2 * used <= rules.buckets_count);
    assert_int_equal(rules.buckets_count & (rules.buckets_count - 1), 0);
    for (uint32_t rank = 0; rank < COUNT; rank++) {
        const struct rule_draft *draft = rules.sorted[rank];
        const uint32_t *run = rules.any_rules;
        size_t count = rules.any_count;
        if (draft->path_kind != RULE_PATH_ANY) {
            const struct rule_bucket *bucket = lookup(&rules, draft->path_kind, draft->path);
            assert_non_null(bucket);
            run = &rules.lists[bucket->first];
            count = bucket->count;
        }
        unsigned found = 0;
        for (size_t i = 0; i < count; i++) {
            assert_true(i == 0 || run[i - 1] < run[i]);
            found += run[i] == rank ? 1U : 0U;
        }
        assert_int_equal(found, 1);
    }
    assert_null(lookup(&rules, RULE_PATH_EXACT, SPAN("/p")));
}

static void no_drafts_make_empty_tables(void **state)
{
    struct rules rules = built(*state, NULL, 0);
    assert_int_equal(rules.count, 0);
    assert_int_equal(rules.buckets_count, 0);
    assert_int_equal(rules.any_count, 0);
    assert_int_equal(rules.shadows_count, 0);
}

/* ---- Unreachable rules ---- */

/* How the second draft fares behind the first, two routes; the first has the higher priority. */
static bool is_shadowed(struct arena *arena, struct rule_draft first, struct rule_draft second)
{
    struct rule_draft drafts[2] = {first, second};
    drafts[0].route = 0;
    drafts[0].priority = 1;
    drafts[1].route = 1;
    struct rules rules = built(arena, drafts, 2);
    if (rules.shadows_count == 0) {
        return false;
    }
    assert_int_equal(rules.shadows_count, 1);
    assert_int_equal(rules.shadows[0].draft, 1);
    assert_int_equal(rules.shadows[0].by, 0);
    assert_true(rules.shadows[0].whole_route);
    return true;
}

static void a_path_is_shadowed_by_itself_a_prefix_above_it_or_no_path(void **state)
{
    struct rule_draft any = {.route = 0};
    assert_true(is_shadowed(*state, any, any));
    assert_true(is_shadowed(*state, any, prefix(0, "/")));
    assert_true(is_shadowed(*state, prefix(0, "/a"), prefix(0, "/a/b")));
    assert_true(is_shadowed(*state, prefix(0, "/a"), exact(0, "/a")));
    assert_true(is_shadowed(*state, prefix(0, "/"), exact(0, "/a")));
    assert_true(is_shadowed(*state, exact(0, "/a"), exact(0, "/a")));
    assert_false(is_shadowed(*state, prefix(0, "/a"), prefix(0, "/ab")));
    assert_false(is_shadowed(*state, prefix(0, "/a/b"), prefix(0, "/a")));
    assert_false(is_shadowed(*state, exact(0, "/a"), prefix(0, "/a")));
    assert_false(is_shadowed(*state, exact(0, "/a"), exact(0, "/a/")));
    assert_false(is_shadowed(*state, prefix(0, "/"), exact(0, "*")));
    assert_false(is_shadowed(*state, prefix(0, "/"), any)); /* OPTIONS * */
    any.path = SPAN("/a"); /* without meaning in a rule of any path */
    assert_false(is_shadowed(*state, prefix(0, "/"), any));
}

static void a_host_is_shadowed_by_itself_or_a_suffix_that_takes_it(void **state)
{
    struct rule_draft any = {.route = 0};
    struct rule_draft com = {.host_kind = RULE_HOST_SUFFIX, .host = SPAN(".com")};
    struct rule_draft a_com = {.host_kind = RULE_HOST_SUFFIX, .host = SPAN(".a.com")};
    struct rule_draft only_a = {.host_kind = RULE_HOST_EXACT, .host = SPAN("a.com")};
    struct rule_draft only_b = {.host_kind = RULE_HOST_EXACT, .host = SPAN("b.a.com")};
    assert_true(is_shadowed(*state, any, com));
    assert_true(is_shadowed(*state, com, com));
    assert_true(is_shadowed(*state, com, a_com));
    assert_true(is_shadowed(*state, com, only_a));
    assert_true(is_shadowed(*state, a_com, only_b));
    assert_true(is_shadowed(*state, only_a, only_a));
    assert_false(is_shadowed(*state, a_com, only_a));
    assert_false(is_shadowed(*state, a_com, com));
    only_a.host = SPAN(".a.com");
    assert_false(is_shadowed(*state, a_com, only_a));
    only_a.host = SPAN("a.com");
    assert_false(is_shadowed(*state, only_a, only_b));
    assert_false(is_shadowed(*state, only_a, com));
    assert_false(is_shadowed(*state, com, any));
}

static void methods_are_shadowed_by_no_methods_or_all_of_them(void **state)
{
    const struct span names[] = {SPAN("PURGE"), SPAN("BREW")};
    struct rule_draft any = {.route = 0};
    struct rule_draft get = {.method_mask = 1U << METHOD_GET};
    struct rule_draft both = {.method_mask = 1U << METHOD_GET | 1U << METHOD_PUT};
    struct rule_draft purge = {.methods = names, .methods_count = 1};
    struct rule_draft odd = {.methods = names, .methods_count = 2};
    assert_true(is_shadowed(*state, any, get));
    assert_true(is_shadowed(*state, both, get));
    assert_true(is_shadowed(*state, odd, purge));
    assert_false(is_shadowed(*state, get, any));
    assert_false(is_shadowed(*state, get, both));
    assert_false(is_shadowed(*state, purge, odd));
    assert_false(is_shadowed(*state, purge, get));
    assert_false(is_shadowed(*state, get, purge));
    assert_false(is_shadowed(*state, purge, any));
}

static void conditions_are_shadowed_by_weaker_ones(void **state)
{
    const struct rule_condition x1[] = {{.name = SPAN("x"), .value = SPAN("1")}};
    const struct rule_condition x2[] = {{.name = SPAN("x"), .value = SPAN("2")}};
    const struct rule_condition x[] = {{.name = SPAN("x"), .present_only = true}};
    const struct rule_condition query_x1[] = {
        {.name = SPAN("x"), .value = SPAN("1"), .kind = RULE_CONDITION_QUERY}};
    const struct rule_condition x1_or_x2[] = {{.name = SPAN("x"), .value = SPAN("1")},
                                              {.name = SPAN("x"), .value = SPAN("2")}};
    const struct rule_condition x1_and_y[] = {
        {.name = SPAN("x"), .value = SPAN("1"), .group = 1},
        {.name = SPAN("y"), .present_only = true, .group = 2}};
    struct rule_draft any = {.route = 0};
    struct rule_draft is_1 = {.conditions = x1, .conditions_count = 1};
    struct rule_draft is_2 = {.conditions = x2, .conditions_count = 1};
    struct rule_draft is_present = {.conditions = x, .conditions_count = 1};
    struct rule_draft query_is_1 = {.conditions = query_x1, .conditions_count = 1};
    struct rule_draft either = {.conditions = x1_or_x2, .conditions_count = 2};
    struct rule_draft both = {.conditions = x1_and_y, .conditions_count = 2};
    assert_true(is_shadowed(*state, any, is_1));
    assert_true(is_shadowed(*state, is_1, is_1));
    assert_true(is_shadowed(*state, is_present, is_1));
    assert_true(is_shadowed(*state, is_present, either));
    assert_true(is_shadowed(*state, either, is_2));
    assert_true(is_shadowed(*state, is_1, both));
    assert_true(is_shadowed(*state, either, both));
    assert_false(is_shadowed(*state, is_1, is_2));
    assert_false(is_shadowed(*state, is_1, is_present));
    assert_false(is_shadowed(*state, is_1, either));
    assert_false(is_shadowed(*state, is_1, any));
    assert_false(is_shadowed(*state, both, is_1));
    assert_false(is_shadowed(*state, is_1, query_is_1));
}

static void what_asks_for_any_certificate_shadows_what_asks_for_a_certain_one(void **state)
{
    const struct rule_condition any[] = {
        {.kind = RULE_CONDITION_CERTIFICATE, .present_only = true}};
    const struct rule_condition none[] = {
        {.kind = RULE_CONDITION_NO_CERTIFICATE, .present_only = true}};
    const struct rule_condition a[] = {{.kind = RULE_CONDITION_SUBJECT, .value = SPAN("CN=a")}};
    const struct rule_condition b[] = {{.kind = RULE_CONDITION_SUBJECT, .value = SPAN("CN=b")}};
    const struct rule_condition san[] = {{.kind = RULE_CONDITION_SAN, .value = SPAN("CN=a")}};
    const struct rule_condition x[] = {{.name = SPAN("x"), .present_only = true}};
    struct rule_draft shown = {.conditions = any, .conditions_count = 1};
    struct rule_draft not_shown = {.conditions = none, .conditions_count = 1};
    struct rule_draft is_a = {.conditions = a, .conditions_count = 1};
    struct rule_draft is_b = {.conditions = b, .conditions_count = 1};
    struct rule_draft has_name = {.conditions = san, .conditions_count = 1};
    struct rule_draft has_x = {.conditions = x, .conditions_count = 1};
    assert_true(is_shadowed(*state, shown, shown));
    assert_true(is_shadowed(*state, shown, is_a));
    assert_true(is_shadowed(*state, shown, has_name));
    assert_true(is_shadowed(*state, is_a, is_a));
    assert_true(is_shadowed(*state, not_shown, not_shown));
    assert_false(is_shadowed(*state, shown, not_shown));
    assert_false(is_shadowed(*state, not_shown, shown));
    assert_false(is_shadowed(*state, not_shown, is_a));
    assert_false(is_shadowed(*state, shown, has_x));
    assert_false(is_shadowed(*state, is_a, shown));
    assert_false(is_shadowed(*state, is_a, is_b));
    assert_false(is_shadowed(*state, is_a, has_name));
}

static void a_dead_route_is_reported_once_and_a_dead_alternative_by_itself(void **state)
{
    struct rule_draft drafts[] = {
        prefix(0, "/a/x"),                                     /* dead, and its route too */
        prefix(0, "/a/y"), prefix(1, "/a"), prefix(2, "/a/z"), /* dead, but the route lives */
        prefix(2, "/b"),   prefix(2, "/b"), /* said twice in one route: harmless */
    };
    drafts[2].priority = 5;
    struct rules rules = built(*state, drafts, 6);
    assert_int_equal(rules.shadows_count, 2);
    assert_int_equal(drafts[rules.shadows[0].draft].route, 0);
    assert_int_equal(rules.shadows[0].by, 2);
    assert_true(rules.shadows[0].whole_route);
    assert_int_equal(rules.shadows[1].draft, 3);
    assert_int_equal(rules.shadows[1].by, 2);
    assert_false(rules.shadows[1].whole_route);
}

static void a_more_specific_rule_is_never_shadowed_without_priorities(void **state)
{
    const struct rule_draft drafts[] = {
        {.route = 0}, prefix(1, "/"), prefix(2, "/a"), exact(3, "/a")};
    struct rules rules = built(*state, drafts, 4);
    assert_int_equal(rules.shadows_count, 0);
}

/* ---- Bounds and failures ---- */

static void a_full_arena_fails_and_gives_back_what_it_took(void **state)
{
    struct arena *whole = *state;
    struct rule_draft drafts[] = {prefix(0, "/"), exact(1, "/a"), {.route = 2}};
    built(whole, drafts, 3);
    size_t needed = whole->used;
    unsigned failures = 0;
    for (size_t size = 0; size < needed + 512; size += 8) {
        struct arena small;
        struct rules rules = {.count = 77};
        arena_init(&small, whole->memory, size);
        if (!rules_build(&rules, drafts, 3, &small)) {
            failures++;
            assert_int_equal(small.used, 0);
            assert_int_equal(rules.count, 77);
        }
    }
    assert_in_range(failures, 10, needed / 8 + 40);
}

static bool refuse_text(void *context, struct span text, struct ref *ref)
{
    unsigned *left = context;
    (void)text;
    *ref = (struct ref){0};
    return (*left)-- > 0;
}

static bool refuse_array(void *context, const void *elements, size_t size, size_t count,
                         struct ref *ref)
{
    (void)elements;
    (void)size;
    (void)count;
    return refuse_text(context, SPAN_EMPTY, ref);
}

static void a_full_block_fails_at_every_write(void **state)
{
    const struct span names[] = {SPAN("PURGE")};
    const struct rule_condition conditions[] = {{.name = SPAN("x"), .value = SPAN("1")}};
    struct arena *arena = *state;
    struct rule_draft drafts[] = {prefix(0, "/"), {.route = 1}};
    drafts[0].methods = names;
    drafts[0].methods_count = 1;
    drafts[0].conditions = conditions;
    drafts[0].conditions_count = 1;
    struct rules rules = built(arena, drafts, 2);
    size_t mark = arena->used;
    unsigned writes = 0;
    for (bool written = false; !written; writes++) {
        unsigned left = writes;
        struct rules_writer writer = {.context = &left, .text = refuse_text, .array = refuse_array};
        struct rules_tables tables = {.rules = {.count = 77}};
        assert_in_range(writes, 0, 100);
        written = rules_write(&rules, &writer, arena, &tables);
        assert_int_equal(arena->used, mark);
        assert_int_equal(tables.rules.count, written ? 0 : 77);
    }
    assert_in_range(writes, 15, 100);
}

static void the_largest_configuration_is_judged(void **state)
{
    struct arena *arena = *state;
    static struct rule_draft drafts[RULES_MAX];
    static char texts[RULES_MAX][12];
    for (unsigned i = 0; i < RULES_MAX; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "/r%u", i);
        drafts[i] = prefix(i, texts[i]);
    }
    drafts[RULES_MAX - 1] = prefix(RULES_MAX - 1, "/r7/deep");
    drafts[7].priority = 1;
    struct rules rules = built(arena, drafts, RULES_MAX);
    assert_int_equal(rules.shadows_count, 1);
    assert_int_equal(rules.shadows[0].draft, RULES_MAX - 1);
    assert_int_equal(rules.shadows[0].by, 7);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_arena, close_arena)
    const struct CMUnitTest tests[] = {
        TEST(a_prefix_ends_at_a_segment_boundary),
        TEST(the_order_is_priority_path_host_conditions_configuration),
        TEST(every_rule_is_filed_once_and_each_file_is_in_order),
        TEST(no_drafts_make_empty_tables),
        TEST(a_path_is_shadowed_by_itself_a_prefix_above_it_or_no_path),
        TEST(a_host_is_shadowed_by_itself_or_a_suffix_that_takes_it),
        TEST(methods_are_shadowed_by_no_methods_or_all_of_them),
        TEST(conditions_are_shadowed_by_weaker_ones),
        TEST(what_asks_for_any_certificate_shadows_what_asks_for_a_certain_one),
        TEST(a_dead_route_is_reported_once_and_a_dead_alternative_by_itself),
        TEST(a_more_specific_rule_is_never_shadowed_without_priorities),
        TEST(a_full_arena_fails_and_gives_back_what_it_took),
        TEST(a_full_block_fails_at_every_write),
        TEST(the_largest_configuration_is_judged),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
