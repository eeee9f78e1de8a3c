#include <inttypes.h>

#include "base/assert.h"
#include "config/compile_parts.h"
#include "config/rules.h"
#include "http/message.h"
#include "http/target.h"

/* All rules of the configuration as they are collected. */
struct drafts {
    struct rule_draft *records;
    const struct section **routes; /* of each draft */
    size_t count;
    size_t capacity; /* as many as there will be, at most RULES_MAX */
    bool too_many;
};

/* One `match` while its values are multiplied out. */
struct match {
    struct compilation *compilation;
    const struct section *route;
    const struct section *section; /* NULL: the route has no match */
    struct rule_draft draft;       /* what all its drafts share */
};

static bool add_draft(struct match *match, struct drafts *drafts)
{
    if (drafts->count == drafts->capacity) {
        ASSERT(drafts->capacity == RULES_MAX);
        if (!drafts->too_many) {
            COMPILE_ERROR(match->compilation, match->draft.position,
                          "each path for each host of each match counts as one",
                          "there are more than %d rules", RULES_MAX);
        }
        drafts->too_many = true;
        return false;
    }
    drafts->routes[drafts->count] = match->route;
    drafts->records[drafts->count++] = match->draft;
    return true;
}

/* One draft for each host, or one for any host. */
static bool add_hosts(struct match *match, struct drafts *drafts)
{
    const struct setting *setting = section_setting(match->section, KEY_MATCH_HOST);
    if (setting == NULL) {
        match->draft.host_kind = RULE_HOST_ANY;
        match->draft.host = SPAN_EMPTY;
        return add_draft(match, drafts);
    }
    for (const struct setting_value *at = setting->values; at != NULL; at = at->next) {
        if (at->bad) {
            continue;
        }
        bool is_suffix = span_starts_with(at->text, SPAN("*."));
        match->draft.host_kind = is_suffix ? RULE_HOST_SUFFIX : RULE_HOST_EXACT;
        match->draft.host = is_suffix ? span_from(at->text, 1) : at->text;
        if (!add_draft(match, drafts)) {
            return false;
        }
    }
    return true;
}

/* The path as the router will see it: slashes merged if the server does, a prefix without its own.
 */
static bool canonical_path(struct match *match, const struct setting_value *value,
                           enum rule_path kind, struct span *result)
{
    struct target_path path;
    enum reason reason = REASON_NONE;
    if (target_canonical_path(value->text, match->compilation->merge_slashes,
                              match->compilation->validator.arena, &path, &reason) != OK) {
        ASSERT(reason == REASON_BUFFERS_FULL); /* the validator has read it before */
        match->compilation->no_room = true;
        return false;
    }
    while (kind == RULE_PATH_PREFIX && path.path.size > 1 &&
           path.path.data[path.path.size - 1] == '/') {
        path.path.size--;
    }
    const struct setting *allowed = section_setting(match->route, KEY_ROUTE_ALLOW_ENCODED);
    if ((path.encoded_slash || path.encoded_backslash) && allowed == NULL) {
        COMPILE_WARNING(match->compilation, value->position,
                        "see allow-encoded; without it such requests are answered 400",
                        "the path has an encoded separator, which the route does not allow");
    }
    *result = path.path;
    return true;
}

static bool add_paths(struct match *match, struct drafts *drafts, enum schema_key_id key)
{
    const struct setting *setting = section_setting(match->section, key);
    const struct setting_value *at = setting == NULL ? NULL : setting->values;
    enum rule_path kind = key == KEY_MATCH_PATH ? RULE_PATH_EXACT : RULE_PATH_PREFIX;
    for (; at != NULL; at = at->next) {
        if (at->bad) {
            continue;
        }
        match->draft.path_kind = kind;
        if (!canonical_path(match, at, kind, &match->draft.path) || !add_hosts(match, drafts)) {
            return false;
        }
    }
    return true;
}

static bool take_methods(struct match *match)
{
    const struct setting *setting = section_setting(match->section, KEY_MATCH_METHOD);
    if (setting == NULL) {
        return true;
    }
    struct span *names = compile_scratch(match->compilation, setting->count, sizeof(*names));
    if (names == NULL) {
        return false;
    }
    for (const struct setting_value *at = setting->values; at != NULL; at = at->next) {
        enum method method = method_identify(at->text);
        if (method == METHOD_OTHER) {
            names[match->draft.methods_count++] = at->text;
        } else {
            match->draft.method_mask |= UINT32_C(1) << method;
        }
    }
    match->draft.methods = names;
    return true;
}

static const struct {
    enum schema_key_id key;
    enum rule_condition_kind kind;
} CONDITIONS[] = {
    {KEY_MATCH_HEADER, RULE_CONDITION_HEADER},
    {KEY_MATCH_QUERY, RULE_CONDITION_QUERY},
    {KEY_MATCH_CLIENT_CERTIFICATE, RULE_CONDITION_CERTIFICATE},
    {KEY_MATCH_CLIENT_SUBJECT, RULE_CONDITION_SUBJECT},
    {KEY_MATCH_CLIENT_SAN, RULE_CONDITION_SAN},
    {KEY_MATCH_CLIENT_FINGERPRINT, RULE_CONDITION_FINGERPRINT},
};

/* What a setting looks at; RULE_CONDITION_KINDS: it is no condition. */
static enum rule_condition_kind kind_of(const struct setting *setting)
{
    for (size_t i = 0; i < sizeof(CONDITIONS) / sizeof(CONDITIONS[0]); i++) {
        if (CONDITIONS[i].key == setting->key->id) {
            bool negated = setting->key->type == TYPE_BOOLEAN && setting->values->number == 0;
            return negated ? RULE_CONDITION_NO_CERTIFICATE : CONDITIONS[i].kind;
        }
    }
    return RULE_CONDITION_KINDS;
}

static bool is_condition(const struct setting *setting)
{
    return kind_of(setting) != RULE_CONDITION_KINDS;
}

/* Its first value is a name, not one to compare with. */
static bool is_named(const struct setting *setting)
{
    return setting->key->id == KEY_MATCH_HEADER || setting->key->id == KEY_MATCH_QUERY;
}

/* Whether two settings are alternatives: the same kind and the same name. */
static bool same_group(const struct setting *a, const struct setting *b)
{
    return a->key == b->key && (!is_named(a) || span_equal(a->values->text, b->values->text));
}

static size_t count_conditions(const struct section *section)
{
    size_t count = 0;
    for (const struct setting *at = section->settings; at != NULL; at = at->next) {
        if (is_condition(at)) {
            count += is_named(at) && at->count > 1 ? at->count - 1 : at->count;
        }
    }
    return count;
}

/* Writes the conditions of one setting: one per value, or one for its mere presence. */
static size_t write_group(struct rule_condition *conditions, const struct setting *setting,
                          uint32_t group)
{
    bool named = is_named(setting);
    struct rule_condition condition = {
        .kind = kind_of(setting),
        .name = named ? setting->values->text : SPAN_EMPTY,
        .present_only = named ? setting->count == 1 : setting->key->type == TYPE_BOOLEAN,
        .group = group,
    };
    const struct setting_value *at = named ? setting->values->next : setting->values;
    size_t count = 0;
    if (condition.present_only) {
        conditions[count++] = condition;
        return count;
    }
    for (; at != NULL; at = at->next) {
        condition.value = at->text;
        conditions[count++] = condition;
    }
    return count;
}

/* Gathers the settings so that those of one kind and name stand together. */
static bool take_conditions(struct match *match)
{
    if (match->section == NULL) {
        return true;
    }
    size_t count = count_conditions(match->section);
    if (count > RULE_CONDITIONS_MAX) {
        COMPILE_ERROR(match->compilation, match->section->position, NULL,
                      "this match has more than %d values of headers, queries and certificates",
                      RULE_CONDITIONS_MAX);
        return true;
    }
    struct rule_condition *conditions =
        compile_scratch(match->compilation, count, sizeof(*conditions));
    if (conditions == NULL) {
        return false;
    }
    uint32_t group = 0;
    size_t used = 0;
    for (const struct setting *at = match->section->settings; at != NULL; at = at->next) {
        const struct setting *first = match->section->settings;
        while (is_condition(at) && !(is_condition(first) && same_group(first, at))) {
            first = first->next;
            ASSERT(first != NULL); /* it ends at `at` itself */
        }
        if (first != at || !is_condition(at)) {
            continue; /* no condition, or written with the first of its name */
        }
        for (const struct setting *other = at; other != NULL; other = other->next) {
            if (is_condition(other) && same_group(at, other)) {
                used += write_group(&conditions[used], other, group);
            }
        }
        group++;
    }
    ASSERT(used == count);
    match->draft.conditions = conditions;
    match->draft.conditions_count = count;
    return true;
}

/* Whether some listener asks for certificates, and whether each insists on one. */
struct clients_asked {
    bool some;
    bool all;
};

static struct clients_asked who_is_asked(const struct compilation *compilation)
{
    struct clients_asked asked = {.all = true};
    const struct section *listener = section_child(compilation->parts, BLOCK_LISTENER);
    for (; listener != NULL; listener = section_next(listener)) {
        const struct section *auth =
            section_child(section_child(listener, BLOCK_TLS), BLOCK_CLIENT_AUTH);
        const struct setting_value *mode = section_value(auth, KEY_CLIENT_AUTH_MODE);
        asked.some |= mode != NULL && mode->number != CLIENT_AUTH_OFF;
        asked.all &= mode != NULL && mode->number == CLIENT_AUTH_REQUIRED;
    }
    return asked;
}

/* A match of clients that cannot come. */
static void judge_clients(const struct match *match)
{
    const struct clients_asked asked = who_is_asked(match->compilation);
    const struct rule_draft *draft = &match->draft;
    const char *why = NULL;
    bool shown = false;
    bool not_shown = false;
    for (size_t i = 0; i < draft->conditions_count; i++) {
        shown |= rule_needs_certificate(draft->conditions[i].kind);
        not_shown |= draft->conditions[i].kind == RULE_CONDITION_NO_CERTIFICATE;
    }
    if (shown && not_shown) {
        why = "who has shown no certificate has no names";
    } else if (shown && !asked.some) {
        why = "no listener asks for certificates (tls client-auth)";
    } else if (not_shown && asked.all) {
        why = "every listener requires a certificate";
    }
    if (why != NULL && match->compilation->validator.diagnostics->errors == 0) {
        char title[SECTION_TITLE_MAX];
        section_title(match->route, title);
        COMPILE_WARNING(match->compilation, draft->position, NULL,
                        "this match of %s can never hold: %s", title, why);
    }
}

/* All rules of one match, or of a route without any. False: no memory, or too many rules. */
static bool add_match(struct match *match, struct drafts *drafts)
{
    const struct section *section = match->section;
    if (section != NULL && section->settings == NULL) {
        COMPILE_ERROR(match->compilation, section->position,
                      "for all requests leave it out, or write match path-prefix=\"/\"",
                      "this match says nothing");
    }
    if (!take_methods(match) || !take_conditions(match)) {
        return false;
    }
    judge_clients(match);
    if (section_setting(section, KEY_MATCH_PATH) == NULL &&
        section_setting(section, KEY_MATCH_PATH_PREFIX) == NULL) {
        match->draft.path_kind = RULE_PATH_ANY;
        return add_hosts(match, drafts);
    }
    return add_paths(match, drafts, KEY_MATCH_PATH) &&
           add_paths(match, drafts, KEY_MATCH_PATH_PREFIX);
}

static bool add_route(struct compilation *compilation, const struct section *route, uint32_t index,
                      struct drafts *drafts)
{
    const struct section *section = section_child(route, BLOCK_MATCH);
    do {
        struct match match = {
            .compilation = compilation,
            .route = route,
            .section = section,
            .draft.route = index,
            .draft.priority = (int32_t)section_integer(route, KEY_ROUTE_PRIORITY),
        };
        if (!compilation->is_builtin) {
            match.draft.position = section != NULL ? section->position : route->position;
        }
        if (!add_match(&match, drafts)) {
            return drafts->too_many;
        }
        section = section == NULL ? NULL : section_next(section);
    } while (section != NULL);
    return true;
}

static void report_shadows(struct compilation *compilation, const struct drafts *drafts,
                           const struct rules *rules)
{
    char dead[SECTION_TITLE_MAX];
    char better[SECTION_TITLE_MAX];
    for (size_t i = 0; i < rules->shadows_count; i++) {
        const struct rule_shadow *shadow = &rules->shadows[i];
        const struct section *by = drafts->routes[shadow->by];
        section_title(drafts->routes[shadow->draft], dead);
        section_title(by, better);
        COMPILE_WARNING(
            compilation, drafts->records[shadow->draft].position, NULL,
            shadow->whole_route
                ? "%s can never match: %s (line %u) takes all its requests"
                : "this match of %s can never hold: %s (line %u) takes all its requests",
            dead, better, by->position.line);
    }
}

static bool write_text(void *context, struct span text, struct ref *ref)
{
    struct builder *builder = context;
    *ref = builder_text(builder, text);
    return !builder->full;
}

static bool write_array(void *context, const void *elements, size_t size, size_t count,
                        struct ref *ref)
{
    struct builder *builder = context;
    *ref = builder_array(builder, elements, size, count);
    return !builder->full;
}

static bool write_rules(struct compilation *compilation, const struct rules *rules)
{
    struct rules_writer writer = {
        .context = &compilation->builder,
        .text = write_text,
        .array = write_array,
    };
    struct rules_tables tables;
    if (!rules_write(rules, &writer, compilation->validator.arena, &tables)) {
        compilation->no_room = true;
        return false;
    }
    compilation->header.rules = tables.rules;
    compilation->header.buckets = tables.buckets;
    compilation->header.any_rules = tables.any_rules;
    return true;
}

static size_t count_values(const struct section *section, enum schema_key_id key)
{
    const struct setting *setting = section_setting(section, key);
    return setting == NULL ? 0 : setting->count;
}

/* How many drafts the routes will make, at most RULES_MAX. */
static size_t count_drafts(const struct compilation *compilation)
{
    size_t count = 0;
    const struct section *route = section_child(compilation->parts, BLOCK_ROUTE);
    for (; route != NULL; route = section_next(route)) {
        const struct section *match = section_child(route, BLOCK_MATCH);
        count += match == NULL;
        for (; match != NULL; match = section_next(match)) {
            size_t paths =
                count_values(match, KEY_MATCH_PATH) + count_values(match, KEY_MATCH_PATH_PREFIX);
            size_t hosts = count_values(match, KEY_MATCH_HOST);
            count += (paths > 0 ? paths : 1) * (hosts > 0 ? hosts : 1);
        }
    }
    return count < RULES_MAX ? count : RULES_MAX;
}

bool compile_rules(struct compilation *compilation)
{
    struct drafts drafts = {.capacity = count_drafts(compilation)};
    struct rules rules;
    drafts.records = compile_scratch(compilation, drafts.capacity, sizeof(*drafts.records));
    drafts.routes = compile_scratch(compilation, drafts.capacity, sizeof(const struct section *));
    if (drafts.records == NULL || drafts.routes == NULL) {
        return false;
    }
    uint32_t index = 0;
    const struct section *route = section_child(compilation->parts, BLOCK_ROUTE);
    for (; route != NULL; route = section_next(route)) {
        if (!add_route(compilation, route, index++, &drafts)) {
            return false;
        }
    }
    if (compilation->validator.diagnostics->errors > 0) {
        return true;
    }
    if (!rules_build(&rules, drafts.records, drafts.count, compilation->validator.arena)) {
        compilation->no_room = true;
        return false;
    }
    report_shadows(compilation, &drafts, &rules);
    return write_rules(compilation, &rules);
}
