#include "base/assert.h"
#include "base/buffer.h"
#include "config/compile_parts.h"
#include "config/suggest.h"
#include "http/message.h"

/* What stands on every response unless the route says otherwise. */
static const struct {
    const char *name;
    const char *value;
} default_security[] = {
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"X-XSS-Protection", "1; mode=block"},
    {"Referrer-Policy", "strict-origin-when-cross-origin"},
};

enum { DEFAULT_SECURITY = sizeof(default_security) / sizeof(default_security[0]) };

static_assert(DEFAULT_SECURITY + SCHEMA_LIST_MAX >= GENERATION_SECURITY_MAX, "checked below");

/* The security fields of a response while a route changes them. */
struct security {
    struct field fields[DEFAULT_SECURITY + SCHEMA_LIST_MAX];
    size_t count;
};

/* In scratch, since it is large; NULL, with no_room set, when it does not fit. */
static struct security *security_defaults(struct compilation *compilation)
{
    struct security *security = compile_scratch(compilation, 1, sizeof(*security));
    if (security == NULL) {
        return NULL;
    }
    security->count = DEFAULT_SECURITY;
    for (size_t i = 0; i < DEFAULT_SECURITY; i++) {
        security->fields[i].name = span_of_string(default_security[i].name);
        security->fields[i].value = span_of_string(default_security[i].value);
    }
    return security;
}

static struct field *security_find(struct security *security, struct span name)
{
    for (size_t i = 0; i < security->count; i++) {
        if (span_equal_nocase(security->fields[i].name, name)) {
            return &security->fields[i];
        }
    }
    return NULL;
}

static void security_remove(struct compilation *compilation, struct security *security,
                            const struct setting_value *value)
{
    struct field *field = security_find(security, value->text);
    if (field != NULL) {
        *field = security->fields[--security->count];
        return;
    }
    struct suggestion suggestion;
    suggest_init(&suggestion, value->text);
    for (size_t i = 0; i < security->count; i++) {
        suggest_offer(&suggestion, security->fields[i].name);
    }
    char help[COMPILE_HELP_MAX];
    (void)snprintf(help, sizeof(help), "did you mean \"%.*s\"?", SPAN_ARGS(suggestion.best));
    COMPILE_ERROR(compilation, value->position, suggestion.best.size > 0 ? help : NULL,
                  "\"%.*s\" is not among the security headers", SPAN_ARGS(value->text));
}

static void security_set(struct compilation *compilation, struct security *security,
                         const struct setting *setting)
{
    const struct setting_value *name = setting->values;
    ASSERT(name != NULL); /* a setting has at least one value */
    if (name->bad || setting->count != 2) {
        return;
    }
    for (const struct setting *at = setting->next; at != NULL; at = at->next) {
        const struct setting_value *other = at->values;
        ASSERT(other != NULL);
        if (at->key == setting->key && span_equal_nocase(other->text, name->text)) {
            COMPILE_ERROR(compilation, other->position, NULL, "\"%.*s\" is set twice",
                          SPAN_ARGS(name->text));
            return;
        }
    }
    struct field *field = security_find(security, name->text);
    if (field == NULL) {
        ASSERT(security->count < sizeof(security->fields) / sizeof(security->fields[0]));
        field = &security->fields[security->count++];
    }
    *field = (struct field){.name = name->text, .value = name->next->text};
}

static bool write_security(struct compilation *compilation, const struct security *security,
                           struct ref *ref)
{
    struct generation_field *records =
        compile_scratch(compilation, security->count, sizeof(*records));
    if (records == NULL) {
        return false;
    }
    for (size_t i = 0; i < security->count; i++) {
        records[i].name = builder_text(&compilation->builder, security->fields[i].name);
        records[i].value = builder_text(&compilation->builder, security->fields[i].value);
    }
    *ref = builder_array(&compilation->builder, records, sizeof(*records), security->count);
    return true;
}

/* What stays within the limits must not fail for what the route adds to it. */
static void check_head_fits(struct compilation *compilation, const struct security *security,
                            struct position position)
{
    const struct generation_limits *limits = &compilation->header.server.limits;
    uint64_t bytes = 0;
    for (size_t i = 0; i < security->count; i++) {
        bytes += security->fields[i].name.size + security->fields[i].value.size;
    }
    if (!generation_head_fits(limits, security->count, bytes)) {
        char help[COMPILE_HELP_MAX];
        (void)snprintf(help, sizeof(help),
                       "a head leaves as at most %d bytes: `head-size` (%u), `request-line` (%u) "
                       "twice for escapes, %u for the fields, %d that are added, and these",
                       BYTE_QUEUE_MAX, limits->head_size, limits->request_line,
                       limits->header_fields, GENERATION_HEAD_ADDED);
        COMPILE_ERROR(compilation, position, help,
                      "security headers of %llu bytes do not fit behind the largest head",
                      (unsigned long long)bytes);
    }
}

static bool compile_security(struct compilation *compilation, const struct section *section,
                             struct generation_route *route)
{
    if (section == NULL) {
        route->security = compilation->header.default_security;
        return true;
    }
    struct security *security = security_defaults(compilation);
    if (security == NULL) {
        return false;
    }
    const struct setting *at = section->settings;
    for (; at != NULL; at = at->next) {
        if (at->key->id != KEY_SECURITY_HEADERS_REMOVE) {
            continue;
        }
        for (const struct setting_value *value = at->values; value != NULL; value = value->next) {
            if (!value->bad) {
                security_remove(compilation, security, value);
            }
        }
    }
    for (at = section->settings; at != NULL; at = at->next) {
        if (at->key->id == KEY_SECURITY_HEADERS_SET) {
            security_set(compilation, security, at);
        }
    }
    if (security->count > GENERATION_SECURITY_MAX) {
        COMPILE_ERROR(compilation, section->position, NULL,
                      "there are more than %d security headers", GENERATION_SECURITY_MAX);
    }
    check_head_fits(compilation, security, section->position);
    route->upstream_wins = section_number32(section, KEY_SECURITY_HEADERS_UPSTREAM_WINS);
    return write_security(compilation, security, &route->security);
}

/* The index of the upstream that the route names; reports names that do not exist. */
static uint32_t find_upstream(struct compilation *compilation, const struct setting_value *name)
{
    struct suggestion suggestion;
    uint32_t index = 0;
    suggest_init(&suggestion, name->text);
    const struct section *at = section_child(compilation->parts, BLOCK_UPSTREAM);
    for (; at != NULL; at = section_next(at), index++) {
        struct span candidate = section_text(at, KEY_UPSTREAM_NAME);
        if (span_equal(candidate, name->text)) {
            return index;
        }
        suggest_offer(&suggestion, candidate);
    }
    char help[COMPILE_HELP_MAX];
    (void)snprintf(help, sizeof(help), "did you mean \"%.*s\"?", SPAN_ARGS(suggestion.best));
    COMPILE_ERROR(compilation, name->position, suggestion.best.size > 0 ? help : NULL,
                  "there is no upstream \"%.*s\"", SPAN_ARGS(name->text));
    return 0;
}

/* With keep-path the location is a prefix: the request's path, which has its slash, follows it. */
static struct span redirect_prefix(struct compilation *compilation, struct span location,
                                   struct position position)
{
    bool is_path = span_starts_with(location, SPAN("/"));
    if (span_find(location, '?') < location.size || span_find(location, '#') < location.size) {
        COMPILE_ERROR(compilation, position, "leave out keep-path, or query and fragment",
                      "with `keep-path` the location cannot have a query or a fragment");
    }
    while (location.size > 0 && location.data[location.size - 1] == '/') {
        location.size--;
    }
    if (is_path && location.size == 0) {
        COMPILE_ERROR(compilation, position, NULL, "this redirects every request to itself");
    }
    return location;
}

static void compile_redirect(struct compilation *compilation, const struct section *section,
                             struct generation_route *route)
{
    const struct setting_value *location = section_value(section, KEY_REDIRECT_LOCATION);
    route->action = ACTION_REDIRECT;
    route->status = section_number32(section, KEY_REDIRECT_STATUS);
    route->keep_path = section_number32(section, KEY_REDIRECT_KEEP_PATH);
    if (location == NULL) {
        return;
    }
    struct span text = location->text;
    if (route->keep_path != 0) {
        text = redirect_prefix(compilation, text, location->position);
    }
    route->location = builder_text(&compilation->builder, text);
}

static void compile_respond(struct compilation *compilation, const struct section *section,
                            struct generation_route *route)
{
    const struct setting_value *status = section_value(section, KEY_RESPOND_STATUS);
    struct span body = section_text(section, KEY_RESPOND_BODY);
    route->action = ACTION_RESPOND;
    route->status = status == NULL ? 0 : (uint32_t)status->number;
    if (body.size == 0) {
        compile_refuse_setting(compilation, section, KEY_RESPOND_CONTENT_TYPE,
                               "there is no body for it to describe");
        return;
    }
    if (route->status == 204 || route->status == 205 || route->status == 304) {
        COMPILE_ERROR(compilation, section_setting(section, KEY_RESPOND_BODY)->position,
                      "see RFC 9110, 6.4.1", "a response with status %u has no body",
                      route->status);
    }
    route->body = builder_text(&compilation->builder, body);
    route->content_type =
        builder_text(&compilation->builder, section_text(section, KEY_RESPOND_CONTENT_TYPE));
}

/* Exactly one of upstream, redirect and respond. */
static void compile_action(struct compilation *compilation, const struct section *section,
                           struct generation_route *route)
{
    const struct setting *upstream = section_setting(section, KEY_ROUTE_UPSTREAM);
    const struct section *redirect = section_child(section, BLOCK_REDIRECT);
    const struct section *respond = section_child(section, BLOCK_RESPOND);
    char title[SECTION_TITLE_MAX];
    section_title(section, title);
    int actions = (upstream != NULL) + (redirect != NULL) + (respond != NULL);
    if (actions != 1) {
        COMPILE_ERROR(compilation, section->position,
                      "give it exactly one of `upstream`, `redirect` and `respond`",
                      actions == 0 ? "%s does nothing" : "%s does several things at once", title);
    }
    if (upstream != NULL && !upstream->values->bad) {
        route->action = ACTION_UPSTREAM;
        route->upstream = find_upstream(compilation, upstream->values);
    } else if (redirect != NULL) {
        compile_redirect(compilation, redirect, route);
    } else if (respond != NULL) {
        compile_respond(compilation, respond, route);
    }
    if (upstream == NULL && actions > 0) {
        compile_refuse_setting(compilation, section, KEY_ROUTE_UPSTREAM_HOST,
                               "the route has no upstream");
        compile_refuse_setting(compilation, section, KEY_ROUTE_UPGRADE,
                               "the route has no upstream");
        const struct section *policies = section_child(section, BLOCK_POLICIES);
        const struct section *retry = section_child(policies, BLOCK_RETRY_POLICY);
        const struct section *buffering = section_child(policies, BLOCK_BUFFERING);
        compile_refuse_setting(compilation, policies, KEY_POLICIES_TIMEOUT,
                               "the route has no upstream");
        compile_refuse_setting(compilation, retry, KEY_RETRY_POLICY_MAX_ATTEMPTS,
                               "the route has no upstream");
        compile_refuse_setting(compilation, retry, KEY_RETRY_POLICY_TIMEOUT,
                               "the route has no upstream");
        compile_refuse_setting(compilation, buffering, KEY_BUFFERING_REQUEST,
                               "the route has no upstream");
        compile_refuse_setting(compilation, buffering, KEY_BUFFERING_RESPONSE,
                               "the route has no upstream");
    }
}

/* What is larger than all of the memory there is for it can never be had. */
static void compile_hold(struct compilation *compilation, const struct section *section,
                         enum schema_key_id key, uint64_t *size)
{
    const struct setting_value *value = section_value(section, key);
    uint64_t pool = compilation->header.server.limits.hold_pool;
    *size = section_number(section, key);
    if (value != NULL && !value->bad && *size > pool) {
        COMPILE_WARNING(compilation, value->position, "raise server limits `hold-pool`",
                        "`%s` is more than the memory of all bodies, `hold-pool`",
                        schema_key(key)->name);
    }
}

static void compile_policies(struct compilation *compilation, const struct section *section,
                             struct generation_route *route)
{
    const struct section *retry = section_child(section, BLOCK_RETRY_POLICY);
    const struct setting_value *try_timeout = section_value(retry, KEY_RETRY_POLICY_TIMEOUT);
    const struct setting_value *mode = section_value(section, KEY_POLICIES_FAILURE_MODE);
    route->timeout = section_number(section, KEY_POLICIES_TIMEOUT);
    route->body_size = section_number(section, KEY_POLICIES_MAX_BODY_SIZE);
    route->attempts = section_number32(retry, KEY_RETRY_POLICY_MAX_ATTEMPTS);
    if (try_timeout != NULL) {
        route->try_timeout = (uint64_t)try_timeout->number;
    }
    const struct section *buffering = section_child(section, BLOCK_BUFFERING);
    compile_hold(compilation, buffering, KEY_BUFFERING_REQUEST, &route->hold_request);
    compile_hold(compilation, buffering, KEY_BUFFERING_RESPONSE, &route->hold_response);
    if (route->try_timeout > route->timeout) {
        COMPILE_WARNING(compilation, try_timeout->position, "the route's timeout ends it first",
                        "`timeout` of one attempt exceeds that of the whole route");
    }
    if (mode != NULL && span_equal(mode->text, SPAN("open"))) {
        COMPILE_ERROR(compilation, mode->position, "use \"closed\", which is the default",
                      "`failure-mode` cannot be \"open\" where no agent is attached");
    }
}

static void compile_allowed(const struct section *section, struct generation_route *route)
{
    const struct setting *setting = section_setting(section, KEY_ROUTE_ALLOW_ENCODED);
    const struct setting_value *value = setting == NULL ? NULL : setting->values;
    for (; value != NULL; value = value->next) {
        if (span_equal(value->text, SPAN("slash"))) {
            route->allow_encoded_slash = 1;
        } else if (span_equal(value->text, SPAN("backslash"))) {
            route->allow_encoded_backslash = 1;
        }
    }
}

/* HTTP itself is not switched to by Upgrade: h2c is for those who begin with it. */
static bool is_http(struct span protocol)
{
    return span_equal_nocase(protocol, SPAN("h2c")) || span_equal_nocase(protocol, SPAN("h2")) ||
           span_equal_nocase(protocol, SPAN("http"));
}

static void compile_upgrades(struct compilation *compilation, const struct section *section,
                             struct generation_route *route)
{
    const struct setting *setting = section_setting(section, KEY_ROUTE_UPGRADE);
    const struct setting_value *at = setting == NULL ? NULL : setting->values;
    for (; at != NULL; at = at->next) {
        if (!at->bad && is_http(at->text)) {
            COMPILE_ERROR(compilation, at->position,
                          "see `h2c` of a listener and `http-version` of an upstream",
                          "\"%.*s\" is HTTP, which is not switched to", SPAN_ARGS(at->text));
        }
    }
    route->upgrades = compile_texts(compilation, section, KEY_ROUTE_UPGRADE);
}

/* Metrics have one name for all requests that no route took. */
static void check_route_name(struct compilation *compilation, const struct section *section)
{
    if (span_equal(section_text(section, KEY_ROUTE_NAME), SPAN("none"))) {
        COMPILE_ERROR(compilation, section_setting(section, KEY_ROUTE_NAME)->position,
                      "metrics call requests without a route that", "no route can be \"none\"");
    }
}

static bool compile_route(struct compilation *compilation, const struct section *section,
                          struct generation_route *route)
{
    static const struct hsts_keys hsts = {KEY_ROUTE_HSTS_MAX_AGE, KEY_ROUTE_HSTS_INCLUDE_SUBDOMAINS,
                                          KEY_ROUTE_HSTS_PRELOAD};
    check_route_name(compilation, section);
    *route = (struct generation_route){
        .name = builder_text(&compilation->builder, section_text(section, KEY_ROUTE_NAME)),
        .upstream_host =
            builder_text(&compilation->builder, section_text(section, KEY_ROUTE_UPSTREAM_HOST)),
        .place = compile_place(compilation, section->position),
    };
    compile_action(compilation, section, route);
    compile_policies(compilation, section_child(section, BLOCK_POLICIES), route);
    compile_allowed(section, route);
    compile_upgrades(compilation, section, route);
    route->hsts = compile_hsts(compilation, section_child(section, BLOCK_ROUTE_HSTS), &hsts);
    return compile_security(compilation, section_child(section, BLOCK_SECURITY_HEADERS), route);
}

/* Upstreams that no route refers to: endpoints would be checked but never used. */
static void check_used(struct compilation *compilation, const struct generation_route *routes,
                       uint32_t routes_count)
{
    uint32_t index = 0;
    const struct section *at = section_child(compilation->parts, BLOCK_UPSTREAM);
    for (; at != NULL; at = section_next(at), index++) {
        uint32_t i = 0;
        while (i < routes_count &&
               (routes[i].action != ACTION_UPSTREAM || routes[i].upstream != index)) {
            i++;
        }
        if (i == routes_count) {
            COMPILE_WARNING(compilation, at->position, NULL, "no route uses upstream \"%.*s\"",
                            SPAN_ARGS(section_text(at, KEY_UPSTREAM_NAME)));
        }
    }
}

bool compile_routes(struct compilation *compilation)
{
    uint32_t count = section_count(compilation->parts, BLOCK_ROUTE);
    struct generation_route *routes = compile_scratch(compilation, count, sizeof(*routes));
    if (routes == NULL) {
        return false;
    }
    const struct security *defaults = security_defaults(compilation);
    if (defaults == NULL ||
        !write_security(compilation, defaults, &compilation->header.default_security)) {
        return false;
    }
    compile_check_names(compilation, BLOCK_ROUTE);
    uint32_t index = 0;
    const struct section *section = section_child(compilation->parts, BLOCK_ROUTE);
    for (; section != NULL; section = section_next(section)) {
        ASSERT(index < count);
        if (!compile_route(compilation, section, &routes[index++])) {
            return false;
        }
    }
    if (compilation->validator.diagnostics->errors == 0) {
        check_used(compilation, routes, index);
    }
    compilation->header.routes =
        builder_array(&compilation->builder, routes, sizeof(*routes), index);
    return true;
}
