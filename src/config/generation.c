#include "config/generation.h"

#include "base/assert.h"
#include "base/buffer.h"
#include "config/generation_check.h"
#include "config/schema.h"
#include "config/validate_text.h"
#include "http/message.h"

/* Folds the record sizes into one number: any change of a record changes it. */
#define FOLD(folded, type) ((uint32_t)((folded)*31u + sizeof(type)))
#define LAYOUT_SMALL                                                                               \
    FOLD(FOLD(FOLD(FOLD(17u, struct ref), struct address), struct address_block),                  \
         struct generation_field)
#define LAYOUT_ROUTING                                                                             \
    FOLD(FOLD(FOLD(FOLD(LAYOUT_SMALL, struct generation_route), struct generation_rule),           \
              struct generation_bucket),                                                           \
         struct generation_condition)
#define LAYOUT_TLS                                                                                 \
    FOLD(FOLD(FOLD(LAYOUT_ROUTING, struct generation_certificate), struct generation_tls_host),    \
         struct generation_tls_server)
#define LAYOUT                                                                                     \
    FOLD(FOLD(FOLD(FOLD(FOLD(LAYOUT_TLS, struct generation_header), struct generation_listener),   \
                   struct generation_upstream),                                                    \
              struct generation_endpoint),                                                         \
         struct generation_captured)

enum { BLOCK_ALIGNMENT = 8 };

static_assert(sizeof(struct generation_header) % BLOCK_ALIGNMENT == 0, "records follow it aligned");
static_assert(GENERATION_SIZE_MAX <= INT32_MAX, "offsets and sizes fit 32 bits with room");

static bool check_address(const struct address *address)
{
    static const uint8_t zeros[12];
    if (address->reserved != 0 || address->port == 0) {
        return false;
    }
    return address->family == ADDRESS_IPV6 ||
           (address->family == ADDRESS_IPV4 && memcmp(address->ip + 4, zeros, sizeof(zeros)) == 0);
}

/* A redirect to https is for listeners that do not speak it. */
static bool check_redirect(const struct generation_listener *listener)
{
    if (listener->redirect_status == 0) {
        return listener->redirect_port == 0;
    }
    return schema_is_redirect(listener->redirect_status) && listener->tls == GENERATION_NONE &&
           listener->redirect_port >= 1 && listener->redirect_port <= UINT16_MAX;
}

/* What is said of https is said over it. */
static bool check_hsts(const struct generation_check *check,
                       const struct generation_listener *listener)
{
    return generation_check_text_or_none(check, listener->hsts, text_is_field_value) &&
           (listener->hsts.count == 0 || listener->tls != GENERATION_NONE);
}

/* The address of a listener or endpoint, and the text in which a Unix socket has its path. */
static bool check_place_of(const struct generation_check *check, const struct address *address,
                           struct ref text)
{
    static const struct address local = {.family = ADDRESS_UNIX};
    if (text.count == 0 || !generation_check_text_as(check, text, text_is_field_value)) {
        return false;
    }
    struct span printed = span_of(check->base + text.offset, text.count);
    if (address->family == ADDRESS_UNIX) {
        return memcmp(address, &local, sizeof(local)) == 0 && text_is_unix_socket(printed);
    }
    return check_address(address) && !span_starts_with(printed, SPAN("unix:"));
}

static bool check_socket_mode(const struct generation_listener *listener)
{
    return listener->address.family == ADDRESS_UNIX
               ? listener->socket_mode != 0 && (listener->socket_mode & ~0666U) == 0
               : listener->socket_mode == 0;
}

static bool check_no_address(const struct address *address)
{
    static const struct address none;
    return memcmp(address, &none, sizeof(none)) == 0;
}

/* The worker divides by the one and takes one off the other. */
static bool check_rate(const struct generation_limits *limits)
{
    if (limits->request_rate == 0) {
        return limits->request_burst == 0;
    }
    return schema_in_range(KEY_REQUEST_RATE_RATE, limits->request_rate) &&
           schema_in_range(KEY_REQUEST_RATE_BURST, limits->request_burst);
}

static bool check_limits(const struct generation_limits *limits)
{
    return check_rate(limits) && schema_in_range(KEY_LIMITS_HEADER_FIELDS, limits->header_fields) &&
           schema_in_range(KEY_LIMITS_HEAD_SIZE, limits->head_size) &&
           schema_in_range(KEY_LIMITS_REQUEST_LINE, limits->request_line) &&
           limits->request_line <= limits->head_size &&
           schema_in_range(KEY_LIMITS_CONNECTIONS_PER_CLIENT, limits->connections_per_client) &&
           schema_in_range(KEY_LIMITS_REQUESTS_PER_CONNECTION, limits->requests_per_connection) &&
           schema_in_range(KEY_LIMITS_MAX_REQUESTS, limits->requests) &&
           schema_in_range(KEY_LIMITS_MAX_HANDSHAKES, limits->handshakes) &&
           schema_in_range(KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS, limits->upstream_connections) &&
           schema_in_range(KEY_LIMITS_MAX_TUNNELS, limits->tunnels) &&
           schema_in_range(KEY_LIMITS_TUNNELS_PER_CLIENT, limits->tunnels_per_client) &&
           schema_in_range(KEY_LIMITS_HTTP2_STREAMS, limits->http2_streams) &&
           schema_in_range(KEY_LIMITS_HTTP2_WINDOW, limits->http2_window) &&
           schema_in_range(KEY_LIMITS_HTTP2_GLITCHES, limits->http2_glitches) &&
           schema_in_range(KEY_LIMITS_HTTP2_POOL, limits->http2_pool) &&
           schema_in_range(KEY_LIMITS_BUFFER_POOL, limits->buffer_pool) &&
           schema_in_range(KEY_LIMITS_HOLD_POOL, limits->hold_pool) &&
           schema_in_range(KEY_LIMITS_SPLICE_PIPES, limits->splice_pipes);
}

static bool check_timeouts(const struct generation_timeouts *timeouts)
{
    return schema_in_range(KEY_TIMEOUTS_TLS_HANDSHAKE, timeouts->tls_handshake) &&
           schema_in_range(KEY_TIMEOUTS_PROXY_HEADER, timeouts->proxy_header) &&
           schema_in_range(KEY_TIMEOUTS_REQUEST_HEAD, timeouts->request_head) &&
           schema_in_range(KEY_TIMEOUTS_REQUEST_BODY_IDLE, timeouts->request_body_idle) &&
           schema_in_range(KEY_TIMEOUTS_KEEP_ALIVE, timeouts->keep_alive) &&
           schema_in_range(KEY_TIMEOUTS_RESPONSE_WRITE_IDLE, timeouts->response_write_idle) &&
           schema_in_range(KEY_TIMEOUTS_CONNECT, timeouts->connect) &&
           schema_in_range(KEY_TIMEOUTS_QUEUE, timeouts->queue) &&
           schema_in_range(KEY_TIMEOUTS_CONTINUE, timeouts->continue_wait) &&
           schema_in_range(KEY_TIMEOUTS_UPSTREAM_BODY_IDLE, timeouts->upstream_body_idle) &&
           schema_in_range(KEY_TIMEOUTS_UPSTREAM_KEEP_ALIVE, timeouts->upstream_keep_alive) &&
           schema_in_range(KEY_TIMEOUTS_TUNNEL_IDLE, timeouts->tunnel_idle) &&
           schema_in_range(KEY_TIMEOUTS_TUNNEL_HALF_CLOSED, timeouts->tunnel_half_closed) &&
           schema_in_range(KEY_TIMEOUTS_UPSTREAM_PING, timeouts->upstream_ping) &&
           schema_in_range(KEY_TIMEOUTS_LINGER, timeouts->linger) &&
           schema_in_range(KEY_TIMEOUTS_REQUEST_BODY_MIN_RATE, timeouts->request_body_min_rate);
}

/* Children that are told to become somebody must not become root, or nobody at all. */
static bool check_account(const struct generation_account *account)
{
    return generation_check_boolean(account->change) && account->user != UINT32_MAX &&
           account->group != UINT32_MAX && (account->change == 0 || account->user != 0) &&
           account->reserved == 0;
}

/* The members of a record, each at most once: so a record's size has its bound. */
static bool check_access_fields(const struct generation_check *check,
                                const struct generation_access *access)
{
    if (!GENERATION_CHECK_ARRAY(check, access->fields, uint32_t) ||
        (access->fields.count > 0) != (access->format == ACCESS_JSON)) {
        return false;
    }
    const uint32_t *fields = (const void *)(check->base + access->fields.offset);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < access->fields.count; i++) {
        if (fields[i] >= ACCESS_FIELD_COUNT || (seen & 1u << fields[i]) != 0) {
            return false;
        }
        seen |= 1u << fields[i];
    }
    return true;
}

static bool check_rates(const struct generation_check *check, struct ref ref)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, uint32_t) ||
        (ref.count != 0 && ref.count != GENERATION_STATUSES)) {
        return false;
    }
    const uint32_t *rates = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (rates[i] > GENERATION_RATE_ONE) {
            return false;
        }
    }
    return true;
}

static bool check_captured(const struct generation_check *check, struct ref ref)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, struct generation_captured)) {
        return false;
    }
    const struct generation_captured *captured = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        struct span name;
        if (!generation_check_text_as(check, captured[i].name, text_is_token) ||
            captured[i].name.count > GENERATION_CAPTURED_NAME_MAX ||
            !generation_check_boolean(captured[i].redacted) ||
            !generation_check_read(check, captured[i].name, &name) ||
            captured[i].field != field_identify(name)) {
            return false;
        }
    }
    return true;
}

static bool check_access(const struct generation_check *check,
                         const struct generation_access *access)
{
    uint64_t captured = (uint64_t)access->request_captured.count + access->response_captured.count;
    return access->format <= ACCESS_COMBINED && access->redacted < 1u << ACCESS_REDACT_COUNT &&
           check_access_fields(check, access) && check_rates(check, access->rates) &&
           generation_check_texts(check, access->query_names) &&
           captured <= GENERATION_CAPTURED_MAX && check_captured(check, access->request_captured) &&
           check_captured(check, access->response_captured) &&
           (access->format == ACCESS_JSON ||
            (access->request_captured.count == 2 && access->response_captured.count == 0));
}

static bool check_server(const struct generation_check *check,
                         const struct generation_server *server)
{
    if (server->workers == 0 || !schema_in_range(KEY_SERVER_WORKERS, server->workers) ||
        !schema_in_range(KEY_SERVER_MAX_CONNECTIONS, server->connections) ||
        !schema_in_range(KEY_SERVER_SHUTDOWN_TIMEOUT, server->shutdown_timeout) ||
        !schema_in_range(KEY_SERVER_MEMORY_BUDGET, server->memory_budget) ||
        !generation_check_boolean(server->merge_slashes)) {
        return false;
    }
    /* These are split among the workers, and no part may be nothing. */
    if (server->limits.requests < server->workers ||
        server->limits.upstream_connections < server->workers) {
        return false;
    }
    return (check_no_address(&server->admin) || check_address(&server->admin)) &&
           generation_check_place(check, server->admin_place) &&
           generation_check_texts(check, server->admin_hosts) && server->access_log.count > 0 &&
           generation_check_text_as(check, server->access_log, text_has_no_nul) &&
           generation_check_place(check, server->access_log_place) && server->pid_file.count > 0 &&
           generation_check_text_as(check, server->pid_file, text_has_no_nul) &&
           generation_check_place(check, server->pid_file_place) &&
           check_account(&server->account) && check_access(check, &server->access) &&
           server->control_socket.count > 0 &&
           generation_check_text_as(check, server->control_socket, text_has_no_nul) &&
           generation_check_place(check, server->control_place) &&
           schema_in_range(KEY_OBSERVABILITY_FLIGHT_RECORDER, server->flight_recorder) &&
           check_limits(&server->limits) && check_timeouts(&server->timeouts);
}

static bool check_blocks(const struct generation_check *check, struct ref ref)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, struct address_block)) {
        return false;
    }
    const struct address_block *blocks = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        unsigned bits = blocks[i].family == ADDRESS_IPV4   ? 32
                        : blocks[i].family == ADDRESS_IPV6 ? 128
                                                           : 0;
        bool known = bits != 0 || blocks[i].family == ADDRESS_UNIX;
        if (!known || blocks[i].prefix_bits > bits) {
            return false;
        }
    }
    return true;
}

static bool check_listeners(const struct generation_check *check)
{
    struct ref ref = check->header->listeners;
    if (ref.count == 0 || !GENERATION_CHECK_ARRAY(check, ref, struct generation_listener)) {
        return false;
    }
    const struct generation_listener *listeners = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        const struct generation_listener *listener = &listeners[i];
        if (!generation_check_text_as(check, listener->name, text_is_name) ||
            !check_place_of(check, &listener->address, listener->text) ||
            !check_socket_mode(listener) ||
            (listener->tls >= check->header->tls_servers.count &&
             listener->tls != GENERATION_NONE) ||
            !generation_check_boolean(listener->h2c) ||
            !check_blocks(check, listener->trusted_proxies) ||
            !check_blocks(check, listener->proxied) || listener->forwarded > FORWARDED_BOTH ||
            !check_redirect(listener) || !check_hsts(check, listener) ||
            !generation_check_place(check, listener->place)) {
            return false;
        }
    }
    return true;
}

static bool is_empty(struct ref ref)
{
    return ref.offset == 0 && ref.count == 0;
}

static bool check_health(const struct generation_check *check,
                         const struct generation_upstream *upstream)
{
    bool no_path = is_empty(upstream->health_path);
    bool no_host = is_empty(upstream->health_host);
    bool no_service = is_empty(upstream->health_service);
    if (upstream->health == HEALTH_NONE) {
        return no_path && no_host && no_service;
    }
    if (upstream->health > HEALTH_GRPC ||
        !schema_in_range(KEY_HEALTH_CHECK_INTERVAL, upstream->health_interval) ||
        !schema_in_range(KEY_HEALTH_CHECK_TIMEOUT, upstream->health_timeout) ||
        upstream->health_timeout > upstream->health_interval ||
        !schema_in_range(KEY_HEALTH_CHECK_HEALTHY_THRESHOLD, upstream->health_rise) ||
        !schema_in_range(KEY_HEALTH_CHECK_UNHEALTHY_THRESHOLD, upstream->health_fall)) {
        return false;
    }
    if (upstream->health == HEALTH_TCP) {
        return no_path && no_host && no_service;
    }
    if (!generation_check_text_or_none(check, upstream->health_host, text_is_field_value)) {
        return false;
    }
    if (upstream->health == HEALTH_HTTP) {
        return no_service && generation_check_text_as(check, upstream->health_path, text_is_target);
    }
    return no_path && upstream->health_service.count <= GENERATION_SERVICE_MAX &&
           generation_check_text_or_none(check, upstream->health_service, text_is_name) &&
           upstream->http_version == UPSTREAM_HTTP_2;
}

/* The endpoints of an upstream are a run of the array, and each knows its upstream. */
static bool check_endpoints(const struct generation_check *check,
                            const struct generation_upstream *upstream, uint32_t index)
{
    struct ref ref = check->header->endpoints;
    const struct generation_endpoint *endpoints = (const void *)(check->base + ref.offset);
    if (upstream->endpoint_count == 0 || upstream->endpoint_first > ref.count ||
        upstream->endpoint_count > ref.count - upstream->endpoint_first) {
        return false;
    }
    for (uint32_t i = 0; i < upstream->endpoint_count; i++) {
        const struct generation_endpoint *endpoint = &endpoints[upstream->endpoint_first + i];
        if (!check_place_of(check, &endpoint->address, endpoint->text) ||
            !generation_check_text_or_none(check, endpoint->host, text_is_field_value) ||
            endpoint->upstream != index || !schema_in_range(KEY_TARGET_WEIGHT, endpoint->weight) ||
            endpoint->reserved != 0) {
            return false;
        }
    }
    return true;
}

static bool check_upstreams(const struct generation_check *check)
{
    struct ref ref = check->header->upstreams;
    if (!GENERATION_CHECK_ARRAY(check, ref, struct generation_upstream) ||
        !GENERATION_CHECK_ARRAY(check, check->header->endpoints, struct generation_endpoint)) {
        return false;
    }
    const struct generation_upstream *upstreams = (const void *)(check->base + ref.offset);
    uint32_t next = 0; /* the runs follow each other, so every endpoint was looked at */
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!generation_check_text_as(check, upstreams[i].name, text_is_name) ||
            upstreams[i].balancer > BALANCER_ROUND_ROBIN || upstreams[i].endpoint_first != next ||
            !check_endpoints(check, &upstreams[i], i) || !check_health(check, &upstreams[i]) ||
            !generation_check_upstream_tls(check, &upstreams[i]) ||
            upstreams[i].send_proxy_protocol > SEND_PROXY_2 ||
            !generation_check_place(check, upstreams[i].place)) {
            return false;
        }
        next += upstreams[i].endpoint_count;
    }
    return next == check->header->endpoints.count;
}

static bool check_fields(const struct generation_check *check, struct ref ref)
{
    if (ref.count > GENERATION_SECURITY_MAX ||
        !GENERATION_CHECK_ARRAY(check, ref, struct generation_field)) {
        return false;
    }
    const struct generation_field *fields = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!generation_check_text_as(check, fields[i].name, text_is_token) ||
            !generation_check_text_as(check, fields[i].value, text_is_field_value)) {
            return false;
        }
    }
    return true;
}

/* Exactly the members that the action uses are set. */
static bool check_action(const struct generation_check *check, const struct generation_route *route)
{
    bool has_location = route->location.count > 0;
    bool has_content = route->body.count > 0 || route->content_type.count > 0;
    if (!generation_check_text_or_none(check, route->location, text_is_location) ||
        !generation_check_text(check, route->body) ||
        !generation_check_text_or_none(check, route->content_type, text_is_field_value) ||
        !generation_check_text_or_none(check, route->upstream_host, text_is_field_value)) {
        return false;
    }
    switch (route->action) {
    case ACTION_UPSTREAM:
        return route->upstream < check->header->upstreams.count && route->status == 0 &&
               route->keep_path == 0 && !has_location && !has_content;
    case ACTION_REDIRECT:
        return route->upstream == 0 && has_location && !has_content &&
               schema_is_redirect(route->status) && generation_check_boolean(route->keep_path);
    case ACTION_RESPOND:
        return route->upstream == 0 && !has_location && route->keep_path == 0 &&
               schema_in_range(KEY_RESPOND_STATUS, route->status) &&
               (route->content_type.count > 0) == (route->body.count > 0);
    default:
        return false;
    }
}

static bool check_policies(const struct generation_route *route)
{
    return schema_in_range(KEY_POLICIES_TIMEOUT, route->timeout) &&
           (route->try_timeout == 0 ||
            schema_in_range(KEY_RETRY_POLICY_TIMEOUT, route->try_timeout)) &&
           schema_in_range(KEY_POLICIES_MAX_BODY_SIZE, route->body_size) &&
           schema_in_range(KEY_RETRY_POLICY_MAX_ATTEMPTS, route->attempts) &&
           schema_in_range(KEY_BUFFERING_REQUEST, route->hold_request) &&
           schema_in_range(KEY_BUFFERING_RESPONSE, route->hold_response) &&
           (route->action == ACTION_UPSTREAM ||
            (route->hold_request == 0 && route->hold_response == 0)) &&
           generation_check_boolean(route->allow_encoded_slash) &&
           generation_check_boolean(route->allow_encoded_backslash) &&
           generation_check_boolean(route->upstream_wins);
}

bool generation_head_fits(const struct generation_limits *limits, size_t security_fields,
                          uint64_t security_bytes)
{
    enum { LINE_EXTRA = 4 }; /* colon, space and line end; a received field may lack the space */
    uint64_t fields = (uint64_t)limits->header_fields + LINE_EXTRA * (uint64_t)security_fields;
    uint64_t escapes = 2 * (uint64_t)limits->request_line; /* a byte becomes three */
    return security_bytes <= BYTE_QUEUE_MAX &&
           limits->head_size + escapes + fields + security_bytes + GENERATION_HEAD_ADDED <=
               BYTE_QUEUE_MAX;
}

/* The fields were checked. */
static bool check_head_fits(const struct generation_check *check, struct ref security)
{
    const struct generation_field *fields = (const void *)(check->base + security.offset);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < security.count; i++) {
        bytes += (uint64_t)fields[i].name.count + fields[i].value.count;
    }
    return generation_head_fits(&check->header->server.limits, security.count, bytes);
}

/* They are written into heads as they are, and only an upstream can agree to one. */
static bool check_upgrades(const struct generation_check *check,
                           const struct generation_route *route)
{
    if (!generation_check_texts(check, route->upgrades)) {
        return false;
    }
    const struct ref *names = (const void *)(check->base + route->upgrades.offset);
    for (uint32_t i = 0; i < route->upgrades.count; i++) {
        if (!generation_check_text_as(check, names[i], text_is_token)) {
            return false;
        }
    }
    return route->upgrades.count == 0 || route->action == ACTION_UPSTREAM;
}

static bool check_routes(const struct generation_check *check)
{
    struct ref ref = check->header->routes;
    if (ref.count == 0 || !GENERATION_CHECK_ARRAY(check, ref, struct generation_route)) {
        return false;
    }
    const struct generation_route *routes = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!generation_check_text_as(check, routes[i].name, text_is_name) ||
            !check_action(check, &routes[i]) || !check_policies(&routes[i]) ||
            !check_fields(check, routes[i].security) ||
            !generation_check_text_or_none(check, routes[i].hsts, text_is_field_value) ||
            !check_head_fits(check, routes[i].security) || !check_upgrades(check, &routes[i]) ||
            !generation_check_place(check, routes[i].place)) {
            return false;
        }
    }
    return true;
}

static bool is_not_empty(struct span text)
{
    return text.size > 0;
}

/* A name where there is one to have, a value where something is compared. */
static bool check_condition(const struct generation_check *check,
                            const struct generation_condition *condition)
{
    bool is_presence = condition->kind == RULE_CONDITION_CERTIFICATE ||
                       condition->kind == RULE_CONDITION_NO_CERTIFICATE;
    if (condition->kind >= RULE_CONDITION_KINDS || condition->reserved != 0 ||
        !generation_check_boolean(condition->present_only) ||
        !generation_check_text(check, condition->value)) {
        return false;
    }
    if (condition->kind == RULE_CONDITION_HEADER || condition->kind == RULE_CONDITION_QUERY) {
        return generation_check_text_as(check, condition->name, is_not_empty);
    }
    return condition->name.count == 0 && generation_check_text(check, condition->name) &&
           (condition->present_only != 0) == is_presence &&
           (is_presence ? condition->value.count == 0
                        : generation_check_text_as(check, condition->value,
                                                   condition->kind == RULE_CONDITION_FINGERPRINT
                                                       ? text_is_fingerprint
                                                       : is_not_empty));
}

static bool check_conditions(const struct generation_check *check, struct ref ref)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, struct generation_condition)) {
        return false;
    }
    const struct generation_condition *conditions = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!check_condition(check, &conditions[i]) ||
            (i > 0 && conditions[i].group < conditions[i - 1].group)) {
            return false;
        }
    }
    return true;
}

static bool starts_with_slash(struct span text)
{
    return span_starts_with(text, SPAN("/"));
}

static bool starts_with_dot(struct span text)
{
    return text.size > 1 && text.data[0] == '.';
}

static bool check_rule(const struct generation_check *check, const struct generation_rule *rule)
{
    bool path = false;
    bool host = false;
    switch (rule->path_kind) {
    case RULE_PATH_ANY:
        path = rule->path.count == 0 && generation_check_text(check, rule->path);
        break;
    case RULE_PATH_PREFIX:
    case RULE_PATH_EXACT:
        path = generation_check_text_as(check, rule->path, starts_with_slash);
        break;
    default:
        return false;
    }
    switch (rule->host_kind) {
    case RULE_HOST_ANY:
        host = rule->host.count == 0 && generation_check_text(check, rule->host);
        break;
    case RULE_HOST_SUFFIX:
        host = generation_check_text_as(check, rule->host, starts_with_dot);
        break;
    case RULE_HOST_EXACT:
        host = generation_check_text_as(check, rule->host, is_not_empty);
        break;
    default:
        return false;
    }
    return path && host && rule->route < check->header->routes.count &&
           rule->method_mask < 2u << METHOD_PATCH && (rule->method_mask & 1u) == 0 &&
           generation_check_texts(check, rule->methods) &&
           check_conditions(check, rule->conditions) && generation_check_place(check, rule->place);
}

static bool check_rules(const struct generation_check *check)
{
    struct ref ref = check->header->rules;
    if (ref.count == 0 || !GENERATION_CHECK_ARRAY(check, ref, struct generation_rule)) {
        return false;
    }
    const struct generation_rule *rules = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!check_rule(check, &rules[i])) {
            return false;
        }
    }
    return true;
}

/* A list of rules, best first: rising indexes, all of them of this path. */
static bool check_rule_list(const struct generation_check *check, struct ref ref,
                            uint32_t path_kind, struct span path)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, uint32_t)) {
        return false;
    }
    const uint32_t *list = (const void *)(check->base + ref.offset);
    const struct generation_rule *rules = (const void *)(check->base + check->header->rules.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (list[i] >= check->header->rules.count || (i > 0 && list[i] <= list[i - 1])) {
            return false;
        }
        const struct generation_rule *rule = &rules[list[i]];
        struct span rule_path = span_of(check->base + rule->path.offset, rule->path.count);
        if (rule->path_kind != path_kind || !span_equal(rule_path, path)) {
            return false;
        }
    }
    return true;
}

/* One bucket; *filed counts the rules in it. */
static bool check_bucket(const struct generation_check *check,
                         const struct generation_bucket *bucket, uint64_t *filed)
{
    static const struct generation_bucket free_bucket;
    struct span path;
    if (bucket->path_kind == RULE_PATH_ANY) {
        return memcmp(bucket, &free_bucket, sizeof(free_bucket)) == 0;
    }
    *filed += bucket->rules.count;
    return bucket->path_kind <= RULE_PATH_EXACT && bucket->rules.count > 0 &&
           generation_check_read(check, bucket->path, &path) && starts_with_slash(path) &&
           check_rule_list(check, bucket->rules, bucket->path_kind, path);
}

/* Every rule is filed once, by its path or under any_rules; a free bucket ends every search. */
static bool check_index(const struct generation_check *check)
{
    struct ref ref = check->header->buckets;
    if (!GENERATION_CHECK_ARRAY(check, ref, struct generation_bucket) ||
        (ref.count & (ref.count - 1)) != 0 ||
        !check_rule_list(check, check->header->any_rules, RULE_PATH_ANY, SPAN_EMPTY)) {
        return false;
    }
    const struct generation_bucket *buckets = (const void *)(check->base + ref.offset);
    uint64_t filed = check->header->any_rules.count;
    uint32_t used = 0;
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!check_bucket(check, &buckets[i], &filed)) {
            return false;
        }
        used += buckets[i].path_kind != RULE_PATH_ANY;
    }
    return used <= ref.count / 2 && filed == check->header->rules.count;
}

bool generation_open(struct generation *generation, struct span block)
{
    if (block.data == NULL || block.size < sizeof(struct generation_header) ||
        block.size > GENERATION_SIZE_MAX || (uintptr_t)block.data % BLOCK_ALIGNMENT != 0) {
        return false;
    }
    const struct generation_header *header = (const void *)block.data;
    struct generation_check check = {.base = block.data, .size = block.size, .header = header};
    if (header->magic != GENERATION_MAGIC || header->layout != LAYOUT ||
        header->size != block.size || header->number == 0) {
        return false;
    }
    /* Certificates stand before what shows them, upstreams before routes, routes before rules,
     * rules before the index: each check reads what the one before has found good. */
    if (!check_server(&check, &header->server) || !generation_check_tls(&check) ||
        !check_listeners(&check) || !check_upstreams(&check) || !check_routes(&check) ||
        !check_rules(&check) || !check_index(&check) ||
        !check_fields(&check, header->default_security) ||
        !check_head_fits(&check, header->default_security)) {
        return false;
    }
    *generation = (struct generation){.base = block.data, .header = header};
    return true;
}

uint32_t generation_layout(void)
{
    return LAYOUT;
}

/* The element of an array that generation_open has checked. */
static const void *element(const struct generation *generation, struct ref ref, uint32_t index,
                           size_t size)
{
    ASSERT(index < ref.count);
    return generation->base + ref.offset + (size_t)index * size;
}

static bool offers_http2(const struct generation *generation, uint32_t tls)
{
    if (tls == GENERATION_NONE) {
        return false;
    }
    struct ref alpn = generation_tls_server(generation, tls)->alpn;
    const uint32_t *protocols = generation_array(generation, alpn);
    for (uint32_t i = 0; i < alpn.count; i++) {
        if (protocols[i] == ALPN_HTTP2) {
            return true;
        }
    }
    return false;
}

bool generation_switches(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->routes.count; i++) {
        if (generation_route(generation, i)->upgrades.count > 0) {
            return true;
        }
    }
    return false;
}

bool generation_speaks_http2(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->listeners.count; i++) {
        const struct generation_listener *listener = generation_listener(generation, i);
        if (listener->h2c != 0 || offers_http2(generation, listener->tls)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < generation->header->upstreams.count; i++) {
        if (generation_upstream(generation, i)->http_version == UPSTREAM_HTTP_2) {
            return true;
        }
    }
    return false;
}

bool generation_buffers(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->routes.count; i++) {
        const struct generation_route *route = generation_route(generation, i);
        if (route->hold_request > 0 || route->hold_response > 0) {
            return true;
        }
    }
    return false;
}

const struct generation_listener *generation_listener(const struct generation *generation,
                                                      uint32_t index)
{
    return element(generation, generation->header->listeners, index,
                   sizeof(struct generation_listener));
}

const struct generation_upstream *generation_upstream(const struct generation *generation,
                                                      uint32_t index)
{
    return element(generation, generation->header->upstreams, index,
                   sizeof(struct generation_upstream));
}

const struct generation_endpoint *generation_endpoint(const struct generation *generation,
                                                      uint32_t index)
{
    return element(generation, generation->header->endpoints, index,
                   sizeof(struct generation_endpoint));
}

const struct generation_route *generation_route(const struct generation *generation, uint32_t index)
{
    return element(generation, generation->header->routes, index, sizeof(struct generation_route));
}

const struct generation_certificate *generation_certificate(const struct generation *generation,
                                                            uint32_t index)
{
    return element(generation, generation->header->certificates, index,
                   sizeof(struct generation_certificate));
}

const struct generation_tls_server *generation_tls_server(const struct generation *generation,
                                                          uint32_t index)
{
    return element(generation, generation->header->tls_servers, index,
                   sizeof(struct generation_tls_server));
}
