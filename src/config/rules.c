#include "config/rules.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "http/message.h"

static_assert(METHOD_PATCH < 32, "method_mask has a bit for each method");

bool rule_prefix_takes(struct span prefix, struct span path)
{
    if (!span_starts_with(path, prefix)) {
        return false;
    }
    bool is_root = prefix.size == 1 && prefix.data[0] == '/';
    return is_root || path.size == prefix.size || path.data[prefix.size] == '/';
}

bool rule_needs_certificate(enum rule_condition_kind kind)
{
    return kind == RULE_CONDITION_CERTIFICATE || kind == RULE_CONDITION_SUBJECT ||
           kind == RULE_CONDITION_SAN || kind == RULE_CONDITION_FINGERPRINT;
}

/* What rules.h asks of the compiler: a breach is a defect of ours, never of a configuration. */
static void check_draft(const struct rule_draft *draft)
{
    ASSERT(draft->route < RULES_MAX);
    ASSERT(draft->path_kind == RULE_PATH_ANY || draft->path.size > 0);
    ASSERT(draft->host_kind == RULE_HOST_ANY || draft->host.size > 0);
    ASSERT(draft->host_kind != RULE_HOST_SUFFIX || draft->host.data[0] == '.');
    ASSERT((draft->method_mask & 1U << METHOD_OTHER) == 0);
    ASSERT(draft->conditions_count <= RULE_CONDITIONS_MAX);
    if (draft->path_kind == RULE_PATH_PREFIX && draft->path.size > 1) {
        ASSERT(draft->path.data[draft->path.size - 1] != '/');
    }
    for (size_t i = 1; i < draft->conditions_count; i++) {
        ASSERT(draft->conditions[i - 1].group <= draft->conditions[i].group);
    }
}

/* ---- The order ---- */

static bool takes_any_method(const struct rule_draft *draft)
{
    return draft->method_mask == 0 && draft->methods_count == 0;
}

/* The end of the group of conditions that starts here. */
static size_t group_end(const struct rule_draft *draft, size_t start)
{
    size_t end = start + 1;
    while (end < draft->conditions_count &&
           draft->conditions[end].group == draft->conditions[start].group) {
        end++;
    }
    return end;
}

static size_t count_demands(const struct rule_draft *draft)
{
    size_t count = takes_any_method(draft) ? 0 : 1;
    for (size_t at = 0; at < draft->conditions_count; at = group_end(draft, at)) {
        count++;
    }
    return count;
}

/* Negative when the larger comes first. */
static int larger_first(int64_t a, int64_t b)
{
    return a > b ? -1 : a < b;
}

/* The order of rules.h, for qsort: no two drafts are equal. */
static int compare_drafts(const void *left, const void *right)
{
    const struct rule_draft *a = *(const struct rule_draft *const *)left;
    const struct rule_draft *b = *(const struct rule_draft *const *)right;
    int order = larger_first(a->priority, b->priority);
    if (order == 0) {
        order = larger_first(a->path_kind, b->path_kind);
    }
    if (order == 0 && a->path_kind == RULE_PATH_PREFIX) {
        order = larger_first((int64_t)a->path.size, (int64_t)b->path.size);
    }
    if (order == 0) {
        order = larger_first(a->host_kind, b->host_kind);
    }
    if (order == 0 && a->host_kind == RULE_HOST_SUFFIX) {
        order = larger_first((int64_t)a->host.size, (int64_t)b->host.size);
    }
    if (order == 0) {
        order = larger_first((int64_t)count_demands(a), (int64_t)count_demands(b));
    }
    return order != 0 ? order : larger_first(b - a, 0);
}

static bool sort_drafts(struct rules *rules, struct arena *arena)
{
    rules->sorted = arena_calloc(arena, rules->count, sizeof(rules->sorted[0]));
    if (rules->sorted == NULL) {
        return false;
    }
    for (size_t i = 0; i < rules->count; i++) {
        check_draft(&rules->drafts[i]);
        rules->sorted[i] = &rules->drafts[i];
    }
    if (rules->count > 1) {
        qsort(rules->sorted, rules->count, sizeof(rules->sorted[0]), compare_drafts);
    }
    return true;
}

/* ---- The path index ---- */

/* The bucket of the draft's path, or the free one where it belongs. */
static struct rule_bucket *find_bucket(const struct rules *rules, const struct rule_draft *draft)
{
    uint32_t hash = hash_fast(draft->path);
    for (size_t i = 0; i < rules->buckets_count; i++) {
        struct rule_bucket *bucket = &rules->buckets[(hash + i) & (rules->buckets_count - 1)];
        bool is_free = bucket->path_kind == RULE_PATH_ANY;
        if (is_free ||
            (bucket->path_kind == draft->path_kind && span_equal(bucket->path, draft->path))) {
            return bucket;
        }
    }
    UNREACHABLE("the path index is at most half full");
}

static bool allocate_index(struct rules *rules, struct arena *arena)
{
    size_t with_path = 0;
    for (size_t i = 0; i < rules->count; i++) {
        with_path += rules->drafts[i].path_kind != RULE_PATH_ANY ? 1 : 0;
    }
    rules->any_count = rules->count - with_path;
    rules->buckets_count = with_path > 0 ? 1 : 0;
    while (rules->buckets_count < 2 * with_path) {
        rules->buckets_count *= 2;
    }
    rules->buckets = arena_calloc(arena, rules->buckets_count, sizeof(rules->buckets[0]));
    rules->lists = arena_calloc(arena, with_path, sizeof(rules->lists[0]));
    rules->any_rules = arena_calloc(arena, rules->any_count, sizeof(rules->any_rules[0]));
    return rules->buckets != NULL && rules->lists != NULL && rules->any_rules != NULL;
}

/* Counts the rules of each path, lays out the runs, then files the ranks: ascending, as they come.
 */
static bool index_paths(struct rules *rules, struct arena *arena)
{
    if (!allocate_index(rules, arena)) {
        return false;
    }
    uint32_t any_used = 0;
    for (uint32_t rank = 0; rank < rules->count; rank++) {
        const struct rule_draft *draft = rules->sorted[rank];
        if (draft->path_kind == RULE_PATH_ANY) {
            rules->any_rules[any_used++] = rank;
            continue;
        }
        struct rule_bucket *bucket = find_bucket(rules, draft);
        bucket->hash = hash_fast(draft->path);
        bucket->path_kind = draft->path_kind;
        bucket->path = draft->path;
        bucket->count++;
    }
    ASSERT(any_used == rules->any_count);
    uint32_t first = 0;
    for (size_t i = 0; i < rules->buckets_count; i++) {
        rules->buckets[i].first = first;
        first += rules->buckets[i].count;
        rules->buckets[i].count = 0;
    }
    for (uint32_t rank = 0; rank < rules->count; rank++) {
        if (rules->sorted[rank]->path_kind != RULE_PATH_ANY) {
            struct rule_bucket *bucket = find_bucket(rules, rules->sorted[rank]);
            rules->lists[bucket->first + bucket->count++] = rank;
        }
    }
    return true;
}

/* ---- Rules that can never match ---- */

/*
 * "a covers b": whatever matches b matches a. Each part is judged alone, so the answer may miss a
 * covering that only several parts or several rules make together; it never claims one falsely.
 */
static bool path_covers(const struct rule_draft *a, const struct rule_draft *b)
{
    switch (a->path_kind) {
    case RULE_PATH_ANY:
        return true;
    case RULE_PATH_PREFIX:
        return b->path_kind != RULE_PATH_ANY && rule_prefix_takes(a->path, b->path);
    case RULE_PATH_EXACT:
        return b->path_kind == RULE_PATH_EXACT && span_equal(a->path, b->path);
    }
    UNREACHABLE("enum rule_path");
}

static bool host_covers(const struct rule_draft *a, const struct rule_draft *b)
{
    switch (a->host_kind) {
    case RULE_HOST_ANY:
        return true;
    case RULE_HOST_SUFFIX:
        /* x.example is taken by .example, and so is all of .x.example; but example is not. */
        return b->host_kind != RULE_HOST_ANY && span_ends_with(b->host, a->host) &&
               (b->host_kind == RULE_HOST_SUFFIX || b->host.size > a->host.size);
    case RULE_HOST_EXACT:
        return b->host_kind == RULE_HOST_EXACT && span_equal(a->host, b->host);
    }
    UNREACHABLE("enum rule_host");
}

static bool has_method(const struct rule_draft *draft, struct span method)
{
    for (size_t i = 0; i < draft->methods_count; i++) {
        if (span_equal(draft->methods[i], method)) {
            return true;
        }
    }
    return false;
}

static bool methods_cover(const struct rule_draft *a, const struct rule_draft *b)
{
    if (takes_any_method(a)) {
        return true;
    }
    if (takes_any_method(b) || (b->method_mask & ~a->method_mask) != 0) {
        return false;
    }
    for (size_t i = 0; i < b->methods_count; i++) {
        if (!has_method(a, b->methods[i])) {
            return false;
        }
    }
    return true;
}

static bool condition_covers(const struct rule_condition *a, const struct rule_condition *b)
{
    if (a->kind == RULE_CONDITION_CERTIFICATE) {
        return rule_needs_certificate(b->kind);
    }
    return a->kind == b->kind && span_equal(a->name, b->name) &&
           (a->present_only || (!b->present_only && span_equal(a->value, b->value)));
}

/* Whether every alternative of b's group is covered by one of a's group. Groups by their start. */
static bool group_covers(const struct rule_draft *a, size_t a_start, const struct rule_draft *b,
                         size_t b_start)
{
    size_t a_end = group_end(a, a_start);
    size_t b_end = group_end(b, b_start);
    for (size_t i = b_start; i < b_end; i++) {
        size_t at = a_start;
        while (at < a_end && !condition_covers(&a->conditions[at], &b->conditions[i])) {
            at++;
        }
        if (at == a_end) {
            return false;
        }
    }
    return true;
}

/* Whether everything that a demands is demanded by b too. */
static bool conditions_cover(const struct rule_draft *a, const struct rule_draft *b)
{
    for (size_t i = 0; i < a->conditions_count; i = group_end(a, i)) {
        size_t at = 0;
        while (at < b->conditions_count && !group_covers(a, i, b, at)) {
            at = group_end(b, at);
        }
        if (at >= b->conditions_count) {
            return false;
        }
    }
    return true;
}

static bool draft_covers(const struct rule_draft *a, const struct rule_draft *b)
{
    return path_covers(a, b) && host_covers(a, b) && methods_cover(a, b) && conditions_cover(a, b);
}

/* Notes for each draft and route while shadows are looked for. */
struct shadow_notes {
    const struct rule_draft **covered_by; /* by draft; NULL: it can match */
    const struct rule_draft **best;       /* by route: its best rule */
    bool *reachable;                      /* by route: some rule of it can match */
    bool *reported;                       /* by route */
};

static bool take_notes(const struct rules *rules, struct arena *arena, struct shadow_notes *notes)
{
    size_t routes = 0;
    for (size_t i = 0; i < rules->count; i++) {
        size_t needed = (size_t)rules->drafts[i].route + 1;
        routes = needed > routes ? needed : routes;
    }
    notes->covered_by = arena_calloc(arena, rules->count, sizeof(notes->covered_by[0]));
    notes->best = arena_calloc(arena, routes, sizeof(notes->best[0]));
    notes->reachable = arena_calloc(arena, routes, sizeof(notes->reachable[0]));
    notes->reported = arena_calloc(arena, routes, sizeof(notes->reported[0]));
    if (notes->covered_by == NULL || notes->best == NULL || notes->reachable == NULL ||
        notes->reported == NULL) {
        return false;
    }
    for (size_t rank = 0; rank < rules->count; rank++) {
        const struct rule_draft *draft = rules->sorted[rank];
        size_t better = 0;
        while (better < rank && !draft_covers(rules->sorted[better], draft)) {
            better++;
        }
        if (better < rank) {
            notes->covered_by[draft - rules->drafts] = rules->sorted[better];
        } else {
            notes->reachable[draft->route] = true;
        }
        if (notes->best[draft->route] == NULL) {
            notes->best[draft->route] = draft;
        }
    }
    return true;
}

static bool find_shadows(struct rules *rules, struct arena *arena)
{
    rules->shadows = arena_calloc(arena, rules->count, sizeof(rules->shadows[0]));
    size_t mark = arena_mark(arena);
    struct shadow_notes notes = {0};
    if (rules->shadows == NULL || !take_notes(rules, arena, &notes)) {
        return false;
    }
    for (size_t i = 0; i < rules->count; i++) {
        const struct rule_draft *draft = &rules->drafts[i];
        bool whole_route = !notes.reachable[draft->route];
        if (whole_route) {
            draft = notes.best[draft->route]; /* covered by another route's: it is its own best */
        }
        const struct rule_draft *by = notes.covered_by[draft - rules->drafts];
        if (by == NULL || by->route == draft->route ||
            (whole_route && notes.reported[draft->route])) {
            continue;
        }
        notes.reported[draft->route] = true;
        rules->shadows[rules->shadows_count++] = (struct rule_shadow){
            .draft = (uint32_t)(draft - rules->drafts),
            .by = (uint32_t)(by - rules->drafts),
            .whole_route = whole_route,
        };
    }
    arena_rewind(arena, mark);
    return true;
}

bool rules_build(struct rules *rules, const struct rule_draft *drafts, size_t count,
                 struct arena *arena)
{
    ASSERT(count <= RULES_MAX);
    size_t mark = arena_mark(arena);
    struct rules built = {.drafts = drafts, .count = count};
    if (!sort_drafts(&built, arena) || !index_paths(&built, arena) ||
        !find_shadows(&built, arena)) {
        arena_rewind(arena, mark);
        return false;
    }
    *rules = built;
    return true;
}

/* ---- Into the generation's form ---- */

static bool write_methods(const struct rules_writer *writer, const struct rule_draft *draft,
                          struct arena *arena, struct ref *ref)
{
    struct ref *names = arena_calloc(arena, draft->methods_count, sizeof(*names));
    if (names == NULL) {
        return false;
    }
    for (size_t i = 0; i < draft->methods_count; i++) {
        if (!writer->text(writer->context, draft->methods[i], &names[i])) {
            return false;
        }
    }
    return writer->array(writer->context, names, sizeof(*names), draft->methods_count, ref);
}

static bool write_conditions(const struct rules_writer *writer, const struct rule_draft *draft,
                             struct arena *arena, struct ref *ref)
{
    size_t count = draft->conditions_count;
    struct generation_condition *records = arena_calloc(arena, count, sizeof(*records));
    if (records == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct rule_condition *condition = &draft->conditions[i];
        struct span value = condition->present_only ? SPAN_EMPTY : condition->value;
        records[i].present_only = condition->present_only;
        records[i].kind = condition->kind;
        records[i].group = condition->group;
        if (!writer->text(writer->context, condition->name, &records[i].name) ||
            !writer->text(writer->context, value, &records[i].value)) {
            return false;
        }
    }
    return writer->array(writer->context, records, sizeof(*records), count, ref);
}

static bool write_rule(const struct rules_writer *writer, const struct rule_draft *draft,
                       struct arena *arena, struct generation_rule *record)
{
    const struct source *source = draft->position.source;
    struct span path = draft->path_kind == RULE_PATH_ANY ? SPAN_EMPTY : draft->path;
    struct span host = draft->host_kind == RULE_HOST_ANY ? SPAN_EMPTY : draft->host;
    struct span file = source == NULL ? SPAN_EMPTY : source->name;
    size_t mark = arena_mark(arena);
    record->route = draft->route;
    record->path_kind = draft->path_kind;
    record->host_kind = draft->host_kind;
    record->method_mask = draft->method_mask;
    record->place.line = draft->position.line;
    bool written = writer->text(writer->context, path, &record->path) &&
                   writer->text(writer->context, host, &record->host) &&
                   writer->text(writer->context, file, &record->place.file) &&
                   write_methods(writer, draft, arena, &record->methods) &&
                   write_conditions(writer, draft, arena, &record->conditions);
    arena_rewind(arena, mark);
    return written;
}

static bool write_rules(const struct rules *rules, const struct rules_writer *writer,
                        struct arena *arena, struct ref *ref)
{
    struct generation_rule *records = arena_calloc(arena, rules->count, sizeof(*records));
    if (records == NULL) {
        return false;
    }
    for (size_t rank = 0; rank < rules->count; rank++) {
        if (!write_rule(writer, rules->sorted[rank], arena, &records[rank])) {
            return false;
        }
    }
    return writer->array(writer->context, records, sizeof(*records), rules->count, ref);
}

static bool write_buckets(const struct rules *rules, const struct rules_writer *writer,
                          struct arena *arena, struct ref *ref)
{
    size_t count = rules->buckets_count;
    struct generation_bucket *records = arena_calloc(arena, count, sizeof(*records));
    if (records == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct rule_bucket *bucket = &rules->buckets[i];
        if (bucket->path_kind == RULE_PATH_ANY) {
            continue; /* free: all zero */
        }
        records[i].hash = bucket->hash;
        records[i].path_kind = bucket->path_kind;
        if (!writer->text(writer->context, bucket->path, &records[i].path) ||
            !writer->array(writer->context, &rules->lists[bucket->first], sizeof(uint32_t),
                           bucket->count, &records[i].rules)) {
            return false;
        }
    }
    return writer->array(writer->context, records, sizeof(*records), count, ref);
}

bool rules_write(const struct rules *rules, const struct rules_writer *writer, struct arena *arena,
                 struct rules_tables *tables)
{
    size_t mark = arena_mark(arena);
    struct rules_tables written = {0};
    bool ok = write_rules(rules, writer, arena, &written.rules) &&
              write_buckets(rules, writer, arena, &written.buckets) &&
              writer->array(writer->context, rules->any_rules, sizeof(uint32_t), rules->any_count,
                            &written.any_rules);
    arena_rewind(arena, mark);
    if (ok) {
        *tables = written;
    }
    return ok;
}
