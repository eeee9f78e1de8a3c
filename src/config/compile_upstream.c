#include "base/assert.h"
#include "config/compile_parts.h"

/* The endpoints of all upstreams as they are collected. */
struct endpoints {
    struct generation_endpoint *records;
    size_t count;
    size_t capacity;
};

/* The host name of a target; empty where it is an address. */
static struct span target_host(const struct setting_value *target)
{
    size_t colon = target->text.size;
    if (target->address.family != ADDRESS_NONE) {
        return SPAN_EMPTY;
    }
    while (colon > 0 && target->text.data[colon - 1] != ':') {
        colon--;
    }
    ASSERT(colon > 1); /* the validator has seen to it */
    return span_first(target->text, colon - 1);
}

/* The addresses of a target: one as written, or those that its name resolves to. 0: reported. */
static size_t resolve_target(struct compilation *compilation, const struct setting_value *target,
                             struct address addresses[ENVIRONMENT_ADDRESSES_MAX])
{
    const struct environment *environment = compilation->validator.environment;
    if (target->address.family != ADDRESS_NONE) {
        addresses[0] = target->address;
        return 1;
    }
    uint64_t port = 0;
    struct span host = target_host(target);
    bool valid = span_to_u64(span_from(target->text, host.size + 1), UINT16_MAX, &port) && port > 0;
    ASSERT(valid); /* the validator has seen to it */
    size_t count =
        environment->resolve == NULL ? 0 : environment->resolve(host, (uint16_t)port, addresses);
    ASSERT(count <= ENVIRONMENT_ADDRESSES_MAX);
    if (count == 0) {
        COMPILE_ERROR(compilation, target->position, "names are resolved once, at the start",
                      "the name `%.*s` has no address", SPAN_ARGS(host));
    }
    return count;
}

static struct span written(const struct builder *builder, struct ref text)
{
    return span_of(builder->memory + text.offset, text.count);
}

/* A target with an address that its upstream already has gets more than its weight says. */
static void check_endpoint(struct compilation *compilation, const struct endpoints *endpoints,
                           uint32_t upstream, const struct setting_value *target,
                           const struct address *address)
{
    for (size_t i = endpoints->count; i > 0 && endpoints->records[i - 1].upstream == upstream;
         i--) {
        const struct generation_endpoint *other = &endpoints->records[i - 1];
        bool same = address->family == ADDRESS_UNIX
                        ? span_equal(written(&compilation->builder, other->text), target->text)
                        : address_equal(&other->address, address);
        if (same) {
            COMPILE_WARNING(compilation, target->position, "use weight= to give it a larger share",
                            "the target \"%.*s\" stands in this upstream twice",
                            SPAN_ARGS(target->text));
            return;
        }
    }
}

static void add_target(struct compilation *compilation, struct endpoints *endpoints,
                       uint32_t upstream, const struct section *section)
{
    struct address addresses[ENVIRONMENT_ADDRESSES_MAX];
    const struct setting_value *target = section_value(section, KEY_TARGET_ADDRESS);
    if (target == NULL) {
        return;
    }
    size_t count = resolve_target(compilation, target, addresses);
    if (count > endpoints->capacity - endpoints->count) {
        ASSERT(endpoints->capacity == COMPILE_ENDPOINTS_MAX);
        COMPILE_ERROR(compilation, target->position, NULL, "there are more than %zu endpoints",
                      endpoints->capacity);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        /* A name with several addresses: each is told apart by its own. */
        char printed[ADDRESS_TEXT_MAX];
        struct span text = target->text;
        if (count > 1) {
            text = span_of(printed, address_print(&addresses[i], printed));
        }
        check_endpoint(compilation, endpoints, upstream, target, &addresses[i]);
        endpoints->records[endpoints->count++] = (struct generation_endpoint){
            .text = builder_text(&compilation->builder, text),
            .host = builder_text(&compilation->builder, target_host(target)),
            .address = addresses[i],
            .weight = section_number32(section, KEY_TARGET_WEIGHT),
            .upstream = upstream,
        };
    }
}

/* gRPC needs HTTP/2, which it gets by itself. */
static void compile_protocol(struct compilation *compilation, const struct section *section,
                             struct generation_upstream *upstream)
{
    upstream->http_version = section_number32(section, KEY_UPSTREAM_HTTP_VERSION);
    if (section_number32(section, KEY_UPSTREAM_PROTOCOL) != UPSTREAM_PROTOCOL_GRPC) {
        return;
    }
    if (upstream->http_version == UPSTREAM_HTTP_1) {
        COMPILE_ERROR(compilation,
                      section_setting(section, KEY_UPSTREAM_HTTP_VERSION)->values->position,
                      "leave it out: `protocol \"grpc\"` speaks HTTP/2 by itself",
                      "gRPC is not spoken over HTTP/1.1");
    }
    upstream->http_version = UPSTREAM_HTTP_2;
}

/* What a check asks; each kind has something of its own. */
static void compile_health_type(struct compilation *compilation, const struct section *type,
                                const struct setting_value *kind,
                                struct generation_upstream *upstream)
{
    struct builder *builder = &compilation->builder;
    bool tcp = span_equal(kind->text, SPAN("tcp"));
    bool grpc = span_equal(kind->text, SPAN("grpc"));
    upstream->health = tcp ? HEALTH_TCP : grpc ? HEALTH_GRPC : HEALTH_HTTP;
    if (tcp || grpc) {
        compile_refuse_setting(compilation, type, KEY_HEALTH_TYPE_PATH,
                               "only a check of type \"http\" has it");
    } else {
        upstream->health_path = builder_text(builder, section_text(type, KEY_HEALTH_TYPE_PATH));
    }
    if (tcp) {
        compile_refuse_setting(compilation, type, KEY_HEALTH_TYPE_HOST,
                               "a check of type \"tcp\" asks nothing");
    } else {
        upstream->health_host = builder_text(builder, section_text(type, KEY_HEALTH_TYPE_HOST));
    }
    if (!grpc) {
        compile_refuse_setting(compilation, type, KEY_HEALTH_TYPE_SERVICE,
                               "only a check of type \"grpc\" has it");
        return;
    }
    upstream->health_service = builder_text(builder, section_text(type, KEY_HEALTH_TYPE_SERVICE));
    if (upstream->http_version != UPSTREAM_HTTP_2) {
        COMPILE_ERROR(compilation, kind->position, "add to the upstream: protocol \"grpc\"",
                      "a check of type \"grpc\" speaks HTTP/2, and this upstream does not");
    }
}

static void compile_health(struct compilation *compilation, const struct section *section,
                           struct generation_upstream *upstream)
{
    const struct section *type = section_child(section, BLOCK_HEALTH_TYPE);
    const struct setting_value *kind = section_value(type, KEY_HEALTH_TYPE_KIND);
    upstream->health_interval = section_number(section, KEY_HEALTH_CHECK_INTERVAL);
    upstream->health_timeout = section_number(section, KEY_HEALTH_CHECK_TIMEOUT);
    upstream->health_rise = section_number32(section, KEY_HEALTH_CHECK_HEALTHY_THRESHOLD);
    upstream->health_fall = section_number32(section, KEY_HEALTH_CHECK_UNHEALTHY_THRESHOLD);
    if (upstream->health_timeout > upstream->health_interval) {
        const struct setting *setting = section_setting(section, KEY_HEALTH_CHECK_TIMEOUT);
        if (setting != NULL) {
            COMPILE_ERROR(compilation, setting->values->position,
                          "a check must be over before the next one begins",
                          "`timeout` of the health check exceeds its `interval`");
        }
        upstream->health_timeout = upstream->health_interval;
    }
    if (kind == NULL) {
        return;
    }
    compile_health_type(compilation, type, kind, upstream);
}

/* Otherwise any certificate that the CA has signed would do: a Unix socket has no name. */
static void check_names(struct compilation *compilation, const struct section *section,
                        const struct generation_upstream *upstream)
{
    const struct generation_upstream_tls *tls = &upstream->tls;
    if (tls->on == 0 || tls->skip_verify != 0 || tls->server_name.count > 0) {
        return;
    }
    const struct section *target = section_child(section, BLOCK_TARGET);
    for (; target != NULL; target = section_next(target)) {
        const struct setting_value *value = section_value(target, KEY_TARGET_ADDRESS);
        if (value != NULL && value->address.family == ADDRESS_UNIX) {
            COMPILE_ERROR(compilation, value->position, "give `tls` a server-name",
                          "nothing says which name the certificate of \"%.*s\" is for",
                          SPAN_ARGS(value->text));
        }
    }
}

static void compile_upstream(struct compilation *compilation, const struct section *section,
                             struct endpoints *endpoints, uint32_t index,
                             struct generation_upstream *upstream)
{
    const struct section *health = section_child(section, BLOCK_HEALTH_CHECK);
    *upstream = (struct generation_upstream){
        .name = builder_text(&compilation->builder, section_text(section, KEY_UPSTREAM_NAME)),
        .balancer = section_number32(section, KEY_UPSTREAM_LOAD_BALANCING),
        .endpoint_first = (uint32_t)endpoints->count,
        .send_proxy_protocol = section_number32(section, KEY_UPSTREAM_SEND_PROXY_PROTOCOL),
        .tls = {.certificate = GENERATION_NONE},
        .place = compile_place(compilation, section->position),
    };
    const struct section *target = section_child(section, BLOCK_TARGET);
    for (; target != NULL; target = section_next(target)) {
        add_target(compilation, endpoints, index, target);
    }
    upstream->endpoint_count = (uint32_t)endpoints->count - upstream->endpoint_first;
    compile_protocol(compilation, section, upstream);
    if (health != NULL) {
        compile_health(compilation, health, upstream);
    }
    compile_tls_upstream(compilation, section, upstream);
    check_names(compilation, section, upstream);
}

/* Choices are written as their index, so the table and the enum must agree. */
static_assert(BALANCER_ROUND_ROBIN == 0, "the first choice of load-balancing");
static_assert(UPSTREAM_PROTOCOL_GRPC == 1, "the second choice of protocol");
static_assert(SEND_PROXY_OFF == 0 && SEND_PROXY_1 == 1 && SEND_PROXY_2 == 2,
              "the choices of send-proxy-protocol");

/* Room for the endpoints of all targets: a name may have many. */
static size_t count_endpoints(const struct compilation *compilation)
{
    size_t count = 0;
    const struct section *upstream = section_child(compilation->parts, BLOCK_UPSTREAM);
    for (; upstream != NULL; upstream = section_next(upstream)) {
        const struct section *at = section_child(upstream, BLOCK_TARGET);
        for (; at != NULL; at = section_next(at)) {
            const struct setting_value *target = section_value(at, KEY_TARGET_ADDRESS);
            bool is_name = target != NULL && target->address.family == ADDRESS_NONE;
            count += is_name ? ENVIRONMENT_ADDRESSES_MAX : 1;
        }
    }
    return count < COMPILE_ENDPOINTS_MAX ? count : COMPILE_ENDPOINTS_MAX;
}

bool compile_upstreams(struct compilation *compilation)
{
    uint32_t count = section_count(compilation->parts, BLOCK_UPSTREAM);
    struct endpoints endpoints = {.capacity = count_endpoints(compilation)};
    struct generation_upstream *upstreams = compile_scratch(compilation, count, sizeof(*upstreams));
    endpoints.records =
        compile_scratch(compilation, endpoints.capacity, sizeof(*endpoints.records));
    if (upstreams == NULL || endpoints.records == NULL) {
        return false;
    }
    compile_check_names(compilation, BLOCK_UPSTREAM);
    uint32_t index = 0;
    const struct section *section = section_child(compilation->parts, BLOCK_UPSTREAM);
    for (; section != NULL; section = section_next(section), index++) {
        ASSERT(index < count);
        compile_upstream(compilation, section, &endpoints, index, &upstreams[index]);
    }
    compilation->header.upstreams =
        builder_array(&compilation->builder, upstreams, sizeof(*upstreams), index);
    compilation->header.endpoints = builder_array(&compilation->builder, endpoints.records,
                                                  sizeof(*endpoints.records), endpoints.count);
    return true;
}
