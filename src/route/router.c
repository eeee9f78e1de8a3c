#include "route/router.h"

#include "base/assert.h"
#include "base/hash.h"
#include "config/rules.h"

/* ---- One rule ---- */

static const struct generation_rule *rule_at(const struct generation *generation, uint32_t index)
{
    const struct generation_rule *rules = generation_array(generation, generation->header->rules);
    ASSERT(index < generation->header->rules.count);
    return &rules[index];
}

static bool path_matches(const struct generation *generation, const struct generation_rule *rule,
                         struct span path)
{
    struct span wanted = generation_text(generation, rule->path);
    switch ((enum rule_path)rule->path_kind) {
    case RULE_PATH_ANY:
        return true;
    case RULE_PATH_PREFIX:
        return rule_prefix_takes(wanted, path);
    case RULE_PATH_EXACT:
        return span_equal(wanted, path);
    }
    UNREACHABLE("generation_open checks path_kind");
}

/* `example.com.` names the same host as `example.com` (RFC 1034, section 3.1). */
static struct span without_trailing_dot(struct span host)
{
    return host.size > 0 && host.data[host.size - 1] == '.' ? span_first(host, host.size - 1)
                                                            : host;
}

static bool host_matches(const struct generation *generation, const struct generation_rule *rule,
                         struct span host)
{
    struct span wanted = generation_text(generation, rule->host);
    switch ((enum rule_host)rule->host_kind) {
    case RULE_HOST_ANY:
        return true;
    case RULE_HOST_SUFFIX:
        return host.size > wanted.size && span_ends_with(host, wanted);
    case RULE_HOST_EXACT:
        return span_equal(wanted, host);
    }
    UNREACHABLE("generation_open checks host_kind");
}

static bool method_matches(const struct generation *generation, const struct generation_rule *rule,
                           const struct request_head *head)
{
    if (rule->method_mask == 0 && rule->methods.count == 0) {
        return true;
    }
    if (head->method != METHOD_OTHER) {
        return (rule->method_mask & 1U << head->method) != 0;
    }
    const struct ref *names = generation_array(generation, rule->methods);
    for (uint32_t i = 0; i < rule->methods.count; i++) {
        if (span_equal(generation_text(generation, names[i]), head->method_text)) {
            return true;
        }
    }
    return false;
}

/* Takes one byte off the front of encoded text, which must not be empty, decoding `%XX`. */
static uint8_t take_decoded(struct span *encoded)
{
    uint8_t byte = encoded->data[0];
    size_t taken = 1;
    if (byte == '%' && encoded->size >= 3) {
        int high = ascii_hex_value(encoded->data[1]);
        int low = ascii_hex_value(encoded->data[2]);
        if (high >= 0 && low >= 0) {
            byte = (uint8_t)(high << 4 | low);
            taken = 3;
        }
    }
    *encoded = span_from(*encoded, taken);
    return byte;
}

/* Compares without room for the decoded form: in step, ending at the first difference. */
static bool decoded_equals(struct span encoded, struct span plain)
{
    for (size_t i = 0; i < plain.size; i++) {
        if (encoded.size == 0 || take_decoded(&encoded) != plain.data[i]) {
            return false;
        }
    }
    return encoded.size == 0;
}

static bool query_holds(const struct generation *generation,
                        const struct generation_condition *condition, struct span query)
{
    struct span name = generation_text(generation, condition->name);
    struct span value = generation_text(generation, condition->value);
    while (query.size > 0) {
        size_t pair_size = span_find(query, '&');
        struct span pair = span_first(query, pair_size);
        size_t key_size = span_find(pair, '=');
        size_t value_start = key_size < pair.size ? key_size + 1 : key_size;
        /* An empty pair (`a&&b`) is nothing, not a key without a name. */
        if (pair.size > 0 && decoded_equals(span_first(pair, key_size), name) &&
            (condition->present_only || decoded_equals(span_from(pair, value_start), value))) {
            return true;
        }
        query = span_from(query, pair_size < query.size ? pair_size + 1 : pair_size);
    }
    return false;
}

static bool header_holds(const struct generation *generation,
                         const struct generation_condition *condition, const struct fields *fields)
{
    struct span name = generation_text(generation, condition->name);
    struct span value = generation_text(generation, condition->value);
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        if (span_equal_nocase(field->name, name) &&
            (condition->present_only || span_equal(field->value, value))) {
            return true;
        }
    }
    return false;
}

/* Nobody's domain changes with case; the rest of a name may be another's then. */
static bool names_equal(struct span one, struct span other)
{
    return span_starts_with(other, SPAN("DNS:")) ? span_equal_nocase(one, other)
                                                 : span_equal(one, other);
}

/* They are divided by ", ", and no comma is part of a name: src/net/tls.h. */
static bool names_hold(struct span names, struct span value)
{
    while (names.size > 0) {
        size_t size = span_find(names, ',');
        if (names_equal(span_first(names, size), value)) {
            return true;
        }
        names = size + 2 < names.size ? span_from(names, size + 2) : SPAN_EMPTY;
    }
    return false;
}

/* A text that is empty was too long to be shown, and could be anything. */
static bool certificate_holds(const struct tls_certificate *client, enum rule_condition_kind kind,
                              struct span value)
{
    switch (kind) {
    case RULE_CONDITION_NO_CERTIFICATE:
        return client == NULL;
    case RULE_CONDITION_CERTIFICATE:
        return client != NULL;
    case RULE_CONDITION_SUBJECT:
        return client != NULL && client->subject.size > 0 && span_equal(client->subject, value);
    case RULE_CONDITION_SAN:
        return client != NULL && names_hold(client->names, value);
    case RULE_CONDITION_FINGERPRINT:
        return client != NULL && span_equal(client->fingerprint, value);
    case RULE_CONDITION_HEADER:
    case RULE_CONDITION_QUERY:
    case RULE_CONDITION_KINDS:
        break;
    }
    UNREACHABLE("generation_open checks kind");
}

static bool condition_holds(const struct generation *generation,
                            const struct generation_condition *condition,
                            const struct router_request *request)
{
    enum rule_condition_kind kind = (enum rule_condition_kind)condition->kind;
    if (kind == RULE_CONDITION_HEADER) {
        return header_holds(generation, condition, &request->head->fields);
    }
    if (kind == RULE_CONDITION_QUERY) {
        return query_holds(generation, condition, request->head->query);
    }
    return certificate_holds(request->client, kind, generation_text(generation, condition->value));
}

/* In each group of conditions, which stand together, one must hold. */
static bool conditions_match(const struct generation *generation,
                             const struct generation_rule *rule,
                             const struct router_request *request)
{
    const struct generation_condition *conditions = generation_array(generation, rule->conditions);
    bool holds = true; /* some condition of the current group */
    for (uint32_t i = 0; i < rule->conditions.count; i++) {
        const struct generation_condition *condition = &conditions[i];
        if (i == 0 || condition->group != conditions[i - 1].group) {
            if (!holds) {
                return false;
            }
            holds = false;
        }
        if (!holds) {
            holds = condition_holds(generation, condition, request);
        }
    }
    return holds;
}

/* Everything but the path. */
static bool rest_matches(const struct generation *generation, const struct generation_rule *rule,
                         const struct router_request *request)
{
    const struct request_head *head = request->head;
    return host_matches(generation, rule, without_trailing_dot(head->host)) &&
           method_matches(generation, rule, head) && conditions_match(generation, rule, request);
}

bool router_rule_matches(const struct generation *generation, uint32_t rule_index,
                         const struct router_request *request)
{
    const struct generation_rule *rule = rule_at(generation, rule_index);
    return path_matches(generation, rule, request->head->path) &&
           rest_matches(generation, rule, request);
}

/* ---- The search ---- */

/*
 * Files found on the way down the path, to be tried from the longest prefix to the shortest: the
 * longer prefix usually holds the better rules, which then cut the search in the shorter one's
 * file short. A path on which more files lie has the rest tried at once: slower, no less right.
 */
enum { FILES_MAX = 16 };

struct search {
    const struct generation *generation;
    const struct router_request *request;
    uint32_t best; /* UINT32_MAX: none yet */
    uint32_t files_count;
    struct ref files[FILES_MAX];
    struct router_effort *effort;
};

/* Tries the rules of a file, which stand best first, while they can still improve on the best. */
static void try_file(struct search *search, struct ref file)
{
    const uint32_t *indexes = generation_array(search->generation, file);
    for (uint32_t i = 0; i < file.count && indexes[i] < search->best; i++) {
        search->effort->rules++;
        if (rest_matches(search->generation, rule_at(search->generation, indexes[i]),
                         search->request)) {
            search->best = indexes[i];
        }
    }
}

/* The file of the rules with exactly this path or prefix; empty when there is none. */
static struct ref find_file(struct search *search, enum rule_path kind, struct span path,
                            uint32_t hash)
{
    struct ref table = search->generation->header->buckets;
    const struct generation_bucket *buckets = generation_array(search->generation, table);
    ASSERT((table.count & (table.count - 1)) == 0);
    search->effort->lookups++;
    for (uint32_t i = 0; i < table.count; i++) {
        const struct generation_bucket *bucket = &buckets[(hash + i) & (table.count - 1)];
        search->effort->probes++;
        if (bucket->path_kind == RULE_PATH_ANY) {
            break;
        }
        if (bucket->hash == hash && bucket->path_kind == (uint32_t)kind &&
            span_equal(generation_text(search->generation, bucket->path), path)) {
            return bucket->rules;
        }
    }
    return (struct ref){0};
}

static void note_prefix(struct search *search, struct span prefix, uint32_t hash)
{
    struct ref file = find_file(search, RULE_PATH_PREFIX, prefix, hash);
    if (file.count > 0 && search->files_count < FILES_MAX) {
        search->files[search->files_count++] = file;
    } else if (file.count > 0) {
        try_file(search, file);
    }
}

/*
 * Walks down the path once, hashing as it goes. A prefix can end before a slash or at the path's
 * end, and "/" ends after the first byte. Returns the hash of the whole path.
 */
static uint32_t note_prefixes(struct search *search, struct span path)
{
    uint32_t state = HASH_FAST_SEED;
    for (size_t i = 0; i < path.size; i++) {
        bool is_root = i == 1 && path.data[0] == '/';
        if (is_root || (i > 0 && path.data[i] == '/')) {
            note_prefix(search, span_first(path, i), hash_fast_finish(state));
        }
        state = hash_fast_step(state, path.data[i]);
    }
    uint32_t hash = hash_fast_finish(state);
    note_prefix(search, path, hash);
    return hash;
}

bool router_match_measured(const struct generation *generation,
                           const struct router_request *request, uint32_t *rule_index,
                           struct router_effort *effort)
{
    struct span path = request->head->path;
    struct search search;
    *effort = (struct router_effort){0};
    search.generation = generation;
    search.request = request;
    search.best = UINT32_MAX;
    search.files_count = 0;
    search.effort = effort;
    if (generation->header->buckets.count > 0) {
        uint32_t hash = note_prefixes(&search, path);
        try_file(&search, find_file(&search, RULE_PATH_EXACT, path, hash));
        while (search.files_count > 0) {
            try_file(&search, search.files[--search.files_count]);
        }
    }
    try_file(&search, generation->header->any_rules);
    if (search.best == UINT32_MAX) {
        return false;
    }
    *rule_index = search.best;
    return true;
}

bool router_match(const struct generation *generation, const struct router_request *request,
                  uint32_t *rule_index)
{
    struct router_effort effort;
    return router_match_measured(generation, request, rule_index, &effort);
}
