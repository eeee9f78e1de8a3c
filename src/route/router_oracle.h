/*
 * For router_test.c and router_fuzz.c only: small random configurations and requests, the tables
 * built from them, and the naive oracle that the router must agree with. The oracle works on the
 * drafts, by the words of rules.h and router.h, and shares no code with what it judges.
 */
#ifndef SENTINEL_ROUTE_ROUTER_ORACLE_H
#define SENTINEL_ROUTE_ROUTER_ORACLE_H

#include "base/assert.h"
#include "base/prng.h"
#include "config/rules.h"
#include "route/router.h"

enum {
    CASE_DRAFTS_MAX = 8,
    CASE_CONDITIONS_MAX = 4,
    CASE_FIELDS_MAX = 3,
    CASE_PATH_MAX = 32,
    CASE_BLOCK_SIZE = 1 << 20,
    CASE_ARENA_SIZE = 1 << 20
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Decisions: from a seed, or from a fuzzer's bytes ---- */

struct choices {
    struct prng prng;
    struct span bytes; /* used first come; then zeros */
    bool from_bytes;
};

static inline uint32_t choose(struct choices *choices, uint32_t bound)
{
    if (!choices->from_bytes) {
        return prng_below(&choices->prng, bound);
    }
    if (choices->bytes.size == 0) {
        return 0;
    }
    uint32_t byte = choices->bytes.data[0];
    choices->bytes = span_from(choices->bytes, 1);
    return byte % bound;
}

static inline struct span choose_text(struct choices *choices, const char *const *texts,
                                      size_t count)
{
    return span_of_string(texts[choose(choices, (uint32_t)count)]);
}

#define CHOOSE_TEXT(choices, texts) choose_text(choices, texts, COUNT_OF(texts))

/* ---- A generation's tables in memory ---- */

struct block {
    uint8_t *memory; /* CASE_BLOCK_SIZE, aligned to 8 */
    size_t used;
};

static inline bool block_append(struct block *block, const void *data, size_t bytes, size_t count,
                                struct ref *ref)
{
    if (count == 0) {
        *ref = (struct ref){0};
        return true;
    }
    size_t start = (block->used + 7) & ~(size_t)7;
    if (start > CASE_BLOCK_SIZE || bytes > CASE_BLOCK_SIZE - start) {
        return false;
    }
    memcpy(block->memory + start, data, bytes);
    block->used = start + bytes;
    *ref = (struct ref){.offset = (uint32_t)start, .count = (uint32_t)count};
    return true;
}

static inline bool block_text(void *context, struct span text, struct ref *ref)
{
    return block_append(context, text.data, text.size, text.size, ref);
}

static inline bool block_array(void *context, const void *elements, size_t size, size_t count,
                               struct ref *ref)
{
    return block_append(context, elements, size * count, count, ref);
}

/* Builds and writes; the header stands at the block's start. */
static inline void block_compile(struct block *block, struct arena *arena,
                                 const struct rule_draft *drafts, size_t count, struct rules *rules,
                                 struct generation *generation)
{
    struct generation_header *header = (struct generation_header *)(void *)block->memory;
    struct rules_writer writer = {.context = block, .text = block_text, .array = block_array};
    struct rules_tables tables = {0};
    block->used = sizeof(*header);
    memset(header, 0, sizeof(*header));
    bool built = rules_build(rules, drafts, count, arena);
    ASSERT(built);
    bool written = rules_write(rules, &writer, arena, &tables);
    ASSERT(written);
    header->rules = tables.rules;
    header->buckets = tables.buckets;
    header->any_rules = tables.any_rules;
    *generation = (struct generation){.base = block->memory, .header = header};
}

/* ---- Random drafts ---- */

struct case_drafts {
    struct rule_draft drafts[CASE_DRAFTS_MAX];
    struct rule_condition conditions[CASE_DRAFTS_MAX][CASE_CONDITIONS_MAX];
    struct span methods[CASE_DRAFTS_MAX];
    size_t count;
};

static inline void choose_path(struct choices *choices, struct rule_draft *draft)
{
    static const char *const prefixes[] = {"/", "/a", "/b", "/ab", "/a/b", "/a/a", "/a/b/a"};
    static const char *const exacts[] = {"/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "//", "*"};
    draft->path_kind = (enum rule_path)choose(choices, 3);
    if (draft->path_kind == RULE_PATH_PREFIX) {
        draft->path = CHOOSE_TEXT(choices, prefixes);
    } else if (draft->path_kind == RULE_PATH_EXACT) {
        draft->path = CHOOSE_TEXT(choices, exacts);
    }
}

static inline void choose_host(struct choices *choices, struct rule_draft *draft)
{
    static const char *const suffixes[] = {".a", ".b.a", ".b"};
    static const char *const exacts[] = {"a", "b.a", "c.b.a"};
    uint32_t choice = choose(choices, 4);
    draft->host_kind = choice < 3 ? (enum rule_host)choice : RULE_HOST_ANY;
    if (draft->host_kind == RULE_HOST_SUFFIX) {
        draft->host = CHOOSE_TEXT(choices, suffixes);
    } else if (draft->host_kind == RULE_HOST_EXACT) {
        draft->host = CHOOSE_TEXT(choices, exacts);
    }
}

static inline void choose_methods(struct choices *choices, struct rule_draft *draft,
                                  struct span *room)
{
    static const char *const others[] = {"PURGE", "BREW"};
    static const uint32_t masks[] = {0, 1U << METHOD_GET, 1U << METHOD_POST,
                                     1U << METHOD_GET | 1U << METHOD_POST};
    if (choose(choices, 2) == 0) {
        return;
    }
    draft->method_mask = masks[choose(choices, COUNT_OF(masks))];
    if (choose(choices, 2) == 0) {
        *room = CHOOSE_TEXT(choices, others);
        draft->methods = room;
        draft->methods_count = 1;
    }
}

/* Names as a client's certificate has them; values that a rule may ask for. */
static const char *const CASE_SUBJECTS[] = {"CN=a", "CN=b", "CN=a,O=b", "CN=A"};
static const char *const CASE_SANS[] = {"DNS:a", "DNS:A.b", "email:a@b", "email:A@b", "IP:::1"};
static const char *const CASE_FINGERPRINTS[] = {
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
};

static inline struct span choose_client_value(struct choices *choices,
                                              enum rule_condition_kind kind)
{
    return kind == RULE_CONDITION_SUBJECT       ? CHOOSE_TEXT(choices, CASE_SUBJECTS)
           : kind == RULE_CONDITION_SAN         ? CHOOSE_TEXT(choices, CASE_SANS)
           : kind == RULE_CONDITION_FINGERPRINT ? CHOOSE_TEXT(choices, CASE_FINGERPRINTS)
                                                : SPAN_EMPTY;
}

static inline void choose_conditions(struct choices *choices, struct rule_draft *draft,
                                     struct rule_condition *room)
{
    static const char *const headers[] = {"x", "y"};
    static const char *const header_values[] = {"1", "2"};
    static const char *const keys[] = {"k", "q", "k k", ""};
    static const char *const values[] = {"1", "2", "", "%", "+"};
    uint32_t group = 0;
    draft->conditions = room;
    draft->conditions_count =
        choose(choices, 2) == 0 ? 0 : choose(choices, CASE_CONDITIONS_MAX + 1);
    for (size_t i = 0; i < draft->conditions_count; i++) {
        struct rule_condition *condition = &room[i];
        bool same_group = i > 0 && choose(choices, 2) == 0;
        group += same_group ? 0 : 1 + choose(choices, 2);
        *condition = (struct rule_condition){.group = group};
        condition->kind = (enum rule_condition_kind)choose(choices, RULE_CONDITION_KINDS);
        condition->present_only = choose(choices, 3) == 0;
        if (condition->kind == RULE_CONDITION_HEADER) {
            condition->name = CHOOSE_TEXT(choices, headers);
            condition->value = CHOOSE_TEXT(choices, header_values);
        } else if (condition->kind == RULE_CONDITION_QUERY) {
            condition->name = CHOOSE_TEXT(choices, keys);
            condition->value = CHOOSE_TEXT(choices, values);
        } else {
            condition->value = choose_client_value(choices, condition->kind);
            condition->present_only = condition->value.size == 0;
        }
    }
}

/* A few routes of a few rules each, one priority a route, as a configuration has them. */
static inline void choose_drafts(struct choices *choices, struct case_drafts *made)
{
    uint32_t route = 0;
    int32_t priority = 0;
    memset(made, 0, sizeof(*made));
    made->count = 1 + choose(choices, CASE_DRAFTS_MAX);
    for (size_t i = 0; i < made->count; i++) {
        struct rule_draft *draft = &made->drafts[i];
        if (i > 0 && choose(choices, 3) > 0) {
            route++;
            priority = choose(choices, 4) == 0 ? (int32_t)choose(choices, 3) - 1 : 0;
        }
        draft->route = route;
        draft->priority = priority;
        choose_path(choices, draft);
        choose_host(choices, draft);
        choose_methods(choices, draft, &made->methods[i]);
        choose_conditions(choices, draft, made->conditions[i]);
    }
}

/* ---- Random requests ---- */

struct case_request {
    struct router_request request;
    struct request_head head;
    struct tls_certificate client;
    struct field fields[CASE_FIELDS_MAX];
    uint8_t path[CASE_PATH_MAX];
};

/* Nobody's, or a certificate of which not everything could be shown. */
static inline const struct tls_certificate *choose_client(struct choices *choices,
                                                          struct tls_certificate *client)
{
    static const char *const names[] = {"",      "DNS:a",     "DNS:a.b, email:a@b", "email:A@b",
                                        "DNS:A", "URI:DNS:a", "DNS:xa, IP:::1"};
    if (choose(choices, 3) == 0) {
        return NULL;
    }
    client->subject = choose(choices, 6) == 0 ? SPAN_EMPTY : CHOOSE_TEXT(choices, CASE_SUBJECTS);
    client->names = CHOOSE_TEXT(choices, names);
    client->fingerprint = CHOOSE_TEXT(choices, CASE_FINGERPRINTS);
    return client;
}

static inline void choose_request(struct choices *choices, struct case_request *made)
{
    static const char *const pieces[] = {"/a", "/b", "/", "a", "b", "/ab"};
    static const char *const hosts[] = {"a",    "b.a", "c.b.a", "d.c.b.a", "xa",  "",  "a.",
                                        "b.a.", ".",   "b",     "a.b",     "a..", ".a"};
    static const char *const methods[] = {"GET", "POST", "HEAD", "PURGE", "BREW", "get"};
    static const enum method ids[] = {METHOD_GET,   METHOD_POST,  METHOD_HEAD,
                                      METHOD_OTHER, METHOD_OTHER, METHOD_OTHER};
    static const char *const names[] = {"x", "X", "y", "Y", "xx"};
    static const char *const values[] = {"1", "2", "", "1 "};
    static const char *const queries[] = {
        "",      "k",     "k=",       "k=1",   "k=2",     "q=1",  "%6b=1",     "%6B=%31",
        "K=1",   "k=1&",  "&&k=1",    "q&k=2", "k=2&k=1", "k=+",  "k=%2B&q=",  "k%3d1",
        "k=1=2", "k=%",   "k=%2",     "k=%zz", "%k=1",    "=1",   "k+k=1",     "k%20k=1&q=2",
        "&",     "k=%25", "k%20k&k=", "qq=1",  "k=11",    "k;=1", "k=1&q=%00",
    };
    memset(made, 0, sizeof(*made));
    struct request_head *head = &made->head;
    size_t size = 0;
    made->path[size++] = '/';
    for (uint32_t i = choose(choices, 6); i > 0; i--) {
        struct span piece = CHOOSE_TEXT(choices, pieces);
        size -= size == 1 && piece.data[0] == '/' ? 1 : 0;
        memcpy(made->path + size, piece.data, piece.size);
        size += piece.size;
    }
    head->path = choose(choices, 20) == 0 ? SPAN("*") : span_of(made->path, size);
    head->host = CHOOSE_TEXT(choices, hosts);
    uint32_t method = choose(choices, COUNT_OF(methods));
    head->method = ids[method];
    head->method_text = span_of_string(methods[method]);
    head->query = CHOOSE_TEXT(choices, queries);
    head->fields.entries = made->fields;
    head->fields.capacity = CASE_FIELDS_MAX;
    head->fields.count = choose(choices, CASE_FIELDS_MAX + 1);
    for (size_t i = 0; i < head->fields.count; i++) {
        made->fields[i].name = CHOOSE_TEXT(choices, names);
        made->fields[i].value = CHOOSE_TEXT(choices, values);
    }
    made->request.client = choose_client(choices, &made->client);
    made->request.head = head;
}

/* ---- The oracle ---- */

static inline bool oracle_path(const struct rule_draft *draft, struct span path)
{
    if (draft->path_kind == RULE_PATH_ANY) {
        return true;
    }
    if (draft->path_kind == RULE_PATH_EXACT || span_equal(draft->path, path)) {
        return span_equal(draft->path, path);
    }
    /* A prefix, and not the path itself: the prefix and a slash start the path. */
    size_t size = draft->path.size;
    bool has_slash = draft->path.data[size - 1] == '/';
    return path.size > size && memcmp(path.data, draft->path.data, size) == 0 &&
           (has_slash || path.data[size] == '/');
}

static inline bool oracle_host(const struct rule_draft *draft, struct span host)
{
    if (draft->host_kind == RULE_HOST_ANY) {
        return true;
    }
    if (host.size > 0 && host.data[host.size - 1] == '.') {
        host.size--;
    }
    if (draft->host_kind == RULE_HOST_EXACT) {
        return span_equal(draft->host, host);
    }
    return host.size > draft->host.size && span_ends_with(host, draft->host);
}

static inline bool oracle_method(const struct rule_draft *draft, const struct request_head *head)
{
    bool found = draft->method_mask == 0 && draft->methods_count == 0;
    for (uint32_t id = METHOD_GET; id <= METHOD_PATCH; id++) {
        found = found || ((uint32_t)head->method == id && (draft->method_mask >> id & 1) == 1);
    }
    for (size_t i = 0; i < draft->methods_count; i++) {
        found = found || span_equal(draft->methods[i], head->method_text);
    }
    return found;
}

/* Decodes into room, which has space for all of the text. */
static inline struct span oracle_decode(struct span text, uint8_t *room)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        bool escaped = text.data[i] == '%' && i + 2 < text.size &&
                       ascii_hex_value(text.data[i + 1]) >= 0 &&
                       ascii_hex_value(text.data[i + 2]) >= 0;
        if (escaped) {
            room[size++] = (uint8_t)(ascii_hex_value(text.data[i + 1]) * 16 +
                                     ascii_hex_value(text.data[i + 2]));
            i += 2;
        } else {
            room[size++] = text.data[i];
        }
    }
    return span_of(room, size);
}

static inline bool oracle_query(const struct rule_condition *condition, struct span query)
{
    uint8_t key_room[64];
    uint8_t value_room[64];
    ASSERT(query.size <= sizeof(key_room));
    size_t start = 0;
    for (size_t end = 0; end <= query.size; end++) {
        if (end < query.size && query.data[end] != '&') {
            continue;
        }
        struct span pair = span_first(span_from(query, start), end - start);
        start = end + 1;
        size_t equals = span_find(pair, '=');
        struct span value = equals < pair.size ? span_from(pair, equals + 1) : SPAN("");
        if (pair.size > 0 &&
            span_equal(oracle_decode(span_first(pair, equals), key_room), condition->name) &&
            (condition->present_only ||
             span_equal(oracle_decode(value, value_room), condition->value))) {
            return true;
        }
    }
    return false;
}

/* Whether a certificate's names, divided by ", ", have this one. */
static inline bool oracle_san(struct span names, struct span wanted)
{
    bool any_case = wanted.size >= 4 && memcmp(wanted.data, "DNS:", 4) == 0;
    size_t start = 0;
    for (size_t end = 0; end <= names.size; end++) {
        if (end < start || (end < names.size && names.data[end] != ',')) {
            continue;
        }
        struct span name = span_first(span_from(names, start), end - start);
        if (any_case ? span_equal_nocase(name, wanted) : span_equal(name, wanted)) {
            return true;
        }
        start = end + 2;
    }
    return false;
}

static inline bool oracle_client(const struct rule_condition *condition,
                                 const struct tls_certificate *client)
{
    bool shown = client != NULL;
    return (condition->kind == RULE_CONDITION_NO_CERTIFICATE && !shown) ||
           (condition->kind == RULE_CONDITION_CERTIFICATE && shown) ||
           (condition->kind == RULE_CONDITION_SUBJECT && shown &&
            span_equal(client->subject, condition->value)) ||
           (condition->kind == RULE_CONDITION_SAN && shown &&
            oracle_san(client->names, condition->value)) ||
           (condition->kind == RULE_CONDITION_FINGERPRINT && shown &&
            span_equal(client->fingerprint, condition->value));
}

static inline bool oracle_condition(const struct rule_condition *condition,
                                    const struct router_request *request)
{
    const struct request_head *head = request->head;
    if (condition->kind == RULE_CONDITION_QUERY) {
        return oracle_query(condition, head->query);
    }
    if (condition->kind != RULE_CONDITION_HEADER) {
        return oracle_client(condition, request->client);
    }
    for (size_t i = 0; i < head->fields.count; i++) {
        if (span_equal_nocase(head->fields.entries[i].name, condition->name) &&
            (condition->present_only ||
             span_equal(head->fields.entries[i].value, condition->value))) {
            return true;
        }
    }
    return false;
}

static inline bool oracle_matches(const struct rule_draft *draft,
                                  const struct router_request *request)
{
    const struct request_head *head = request->head;
    for (size_t i = 0; i < draft->conditions_count; i++) {
        bool holds = false;
        for (size_t j = 0; j < draft->conditions_count; j++) {
            holds = holds || (draft->conditions[i].group == draft->conditions[j].group &&
                              oracle_condition(&draft->conditions[j], request));
        }
        if (!holds) {
            return false;
        }
    }
    return oracle_path(draft, head->path) && oracle_host(draft, head->host) &&
           oracle_method(draft, head);
}

/* What the order compares, most important first; larger is better. */
static inline void oracle_rank(const struct rule_draft *draft, int64_t rank[6])
{
    int64_t demands = draft->method_mask != 0 || draft->methods_count > 0 ? 1 : 0;
    for (size_t i = 0; i < draft->conditions_count; i++) {
        demands += i == 0 || draft->conditions[i].group != draft->conditions[i - 1].group ? 1 : 0;
    }
    rank[0] = draft->priority;
    rank[1] = draft->path_kind;
    rank[2] = draft->path_kind == RULE_PATH_PREFIX ? (int64_t)draft->path.size : 0;
    rank[3] = draft->host_kind;
    rank[4] = draft->host_kind == RULE_HOST_SUFFIX ? (int64_t)draft->host.size : 0;
    rank[5] = demands;
}

static inline bool oracle_better(const struct rule_draft *a, const struct rule_draft *b)
{
    int64_t rank_a[6];
    int64_t rank_b[6];
    oracle_rank(a, rank_a);
    oracle_rank(b, rank_b);
    for (size_t i = 0; i < COUNT_OF(rank_a); i++) {
        if (rank_a[i] != rank_b[i]) {
            return rank_a[i] > rank_b[i];
        }
    }
    return a < b;
}

/* The draft that the request belongs to, or NULL. */
static inline const struct rule_draft *oracle_winner(const struct rule_draft *drafts, size_t count,
                                                     const struct router_request *request)
{
    const struct rule_draft *winner = NULL;
    for (size_t i = 0; i < count; i++) {
        if (oracle_matches(&drafts[i], request) &&
            (winner == NULL || oracle_better(&drafts[i], winner))) {
            winner = &drafts[i];
        }
    }
    return winner;
}

/* ---- The properties ---- */

/* The router's choice is the oracle's, and so is its judgement of each rule alone. */
static inline bool property_router_agrees(const struct generation *generation,
                                          const struct rules *rules,
                                          const struct router_request *request)
{
    const struct rule_draft *winner = oracle_winner(rules->drafts, rules->count, request);
    uint32_t found = UINT32_MAX;
    bool matched = router_match(generation, request, &found);
    if (matched != (winner != NULL) || (matched && rules->sorted[found] != winner)) {
        return false;
    }
    for (uint32_t rank = 0; rank < rules->count; rank++) {
        if (router_rule_matches(generation, rank, request) !=
            oracle_matches(rules->sorted[rank], request)) {
            return false;
        }
    }
    return matched || found == UINT32_MAX;
}

/* Nothing reported as unreachable wins, and who is said to take its requests does. */
static inline bool property_shadows_are_true(const struct rules *rules,
                                             const struct router_request *request)
{
    const struct rule_draft *winner = oracle_winner(rules->drafts, rules->count, request);
    for (size_t i = 0; i < rules->shadows_count; i++) {
        const struct rule_shadow *shadow = &rules->shadows[i];
        const struct rule_draft *draft = &rules->drafts[shadow->draft];
        const struct rule_draft *by = &rules->drafts[shadow->by];
        bool is_dead_route = shadow->whole_route && winner != NULL && winner->route == draft->route;
        if (winner == draft || is_dead_route || !oracle_better(by, draft) ||
            by->route == draft->route ||
            (oracle_matches(draft, request) && !oracle_matches(by, request))) {
            return false;
        }
    }
    return true;
}

#endif
