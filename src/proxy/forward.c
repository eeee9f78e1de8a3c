#include "proxy/forward.h"

#include "base/assert.h"
#include "proxy/origin.h"

#define HSTS SPAN("Strict-Transport-Security")

enum { TRACEPARENT_SIZE = 55 }; /* 00-<32 trace id>-<16 parent id>-<2 flags> */

/* One message is made at a time, and rendered at once. */
static struct arena *begin_draft(struct proxy *proxy)
{
    arena_reset(&proxy->draft);
    return &proxy->draft;
}

static struct connection *connection_of(const struct exchange *exchange)
{
    return connection_of_stream(exchange->client);
}

void forward_identify(struct exchange *exchange)
{
    const struct connection *connection = connection_of(exchange);
    const struct field *id = fields_find(&exchange->request.fields, FIELD_X_REQUEST_ID);
    origin_identify(exchange);
    if (connection->trusted && id != NULL && request_id_is_acceptable(id->value)) {
        memcpy(exchange->request_id, id->value.data, id->value.size);
        exchange->request_id_size = (uint32_t)id->value.size;
    } else {
        request_id_make(exchange->proxy->io, exchange->request_id);
        exchange->request_id_size = REQUEST_ID_SIZE;
    }
}

/* The names that the Connection fields of a message nominate (RFC 9110, 7.6.1). */
struct nominations {
    struct span *names; /* in the draft */
    size_t count;
};

/*
 * Found once for a message, since each of its fields is held against them. False where the draft
 * has no room.
 */
static bool find_nominations(struct exchange *exchange, const struct fields *fields,
                             struct nominations *found)
{
    *found = (struct nominations){0};
    if (!fields_have(fields, FIELD_CONNECTION)) {
        return true;
    }
    found->names = arena_alloc(&exchange->proxy->draft, FORWARD_NOMINATIONS_SIZE);
    if (found->names == NULL) {
        return false;
    }
    for (size_t i = 0; i < fields->count; i++) {
        struct span rest = fields->entries[i].value;
        struct span name;
        while (fields->entries[i].id == FIELD_CONNECTION && span_next_element(&rest, &name)) {
            ASSERT(found->count < HTTP1_CONNECTION_OPTIONS_MAX); /* the parser refuses more */
            found->names[found->count++] = name;
        }
    }
    return true;
}

static bool is_nominated(const struct nominations *nominations, struct span name)
{
    for (size_t i = 0; i < nominations->count; i++) {
        if (span_equal_nocase(nominations->names[i], name)) {
            return true;
        }
    }
    return false;
}

/* Whether a field of either direction ends here. */
static bool is_connection_specific(const struct nominations *nominations, const struct field *field)
{
    unsigned flags = field_flags(field->id);
    if ((flags & FIELD_IS_HOP) != 0) {
        return true;
    }
    return (flags & FIELD_IS_PROTECTED) == 0 && is_nominated(nominations, field->name);
}

static bool add(struct fields *fields, enum field_id id, struct span value)
{
    return fields_add(fields, id, field_name(id), value);
}

static bool is_lower_hex(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (ascii_hex_value(text.data[i]) < 0 || (text.data[i] >= 'A' && text.data[i] <= 'F')) {
            return false;
        }
    }
    return true;
}

static bool all_zero(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != '0') {
            return false;
        }
    }
    return true;
}

/* version-traceid-parentid-flags, version 00 (W3C Trace Context, 3.2). */
static bool is_valid_traceparent(struct span value)
{
    if (value.size != TRACEPARENT_SIZE || !span_starts_with(value, SPAN("00-")) ||
        value.data[35] != '-' || value.data[52] != '-') {
        return false;
    }
    struct span trace = span_of(value.data + 3, 32);
    struct span parent = span_of(value.data + 36, 16);
    struct span flags = span_of(value.data + 53, 2);
    return is_lower_hex(trace) && is_lower_hex(parent) && is_lower_hex(flags) && !all_zero(trace) &&
           !all_zero(parent);
}

/* Continues the client's trace under a parent id of ours, or starts one that is not sampled. */
static bool add_trace(struct exchange *exchange, struct fields *fields)
{
    const struct fields *given = &exchange->request.fields;
    const struct field *parent = fields_find(given, FIELD_TRACEPARENT);
    const struct field *state = fields_find(given, FIELD_TRACESTATE);
    bool valid = parent != NULL && is_valid_traceparent(parent->value);
    uint8_t *value = arena_alloc(&exchange->proxy->draft, TRACEPARENT_SIZE);
    uint32_t own[2];
    if (value == NULL) {
        return false;
    }
    if (valid) {
        memcpy(value, parent->value.data, TRACEPARENT_SIZE);
    } else {
        memcpy(value, "00-", 3);
        request_id_make(exchange->proxy->io, value + 3);
        memcpy(value + TRACEPARENT_SIZE - 3, "-00", 3);
    }
    io_random(exchange->proxy->io, own, sizeof(own));
    value[35] = '-';
    request_id_digits(own[0], value + 36);
    request_id_digits(own[1], value + 44);
    bool added = add(fields, FIELD_TRACEPARENT, span_of(value, TRACEPARENT_SIZE));
    return added && (!valid || state == NULL || add(fields, FIELD_TRACESTATE, state->value));
}

/* Our own hop behind those that the request has made so far (RFC 9110, 7.6.3). */
static bool add_via(struct exchange *exchange, struct fields *fields)
{
    const struct fields *given = &exchange->request.fields;
    enum http_version version = exchange->request.version;
    struct span hop = version == HTTP_2     ? SPAN("2 sentinel")
                      : version == HTTP_1_0 ? SPAN("1.0 sentinel")
                                            : SPAN("1.1 sentinel");
    size_t count = fields_have(given, FIELD_VIA) ? given->count : 0;
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &given->entries[i];
        if (field->id == FIELD_VIA && !fields_add(fields, FIELD_VIA, field->name, field->value)) {
            return false;
        }
    }
    return add(fields, FIELD_VIA, hop);
}

/* Request fields that are not copied: they are set anew, or tell what only we may tell. */
static bool is_replaced(const struct field *field)
{
    const uint64_t replaced = UINT64_C(1) << FIELD_HOST | UINT64_C(1) << FIELD_EXPECT |
                              UINT64_C(1) << FIELD_CONTENT_LENGTH |
                              UINT64_C(1) << FIELD_MAX_FORWARDS | UINT64_C(1) << FIELD_TRACEPARENT |
                              UINT64_C(1) << FIELD_TRACESTATE | UINT64_C(1) << FIELD_VIA;
    return (replaced >> field->id & 1) != 0 ||
           (field_flags(field->id) & (FIELD_IS_FORWARDED | FIELD_IS_OURS)) != 0;
}

static bool add_conditional(struct exchange *exchange, struct fields *fields)
{
    const struct request_head *request = &exchange->request;
    bool hops = request->method == METHOD_TRACE || request->method == METHOD_OPTIONS;
    if (request->expect_continue && !add(fields, FIELD_EXPECT, SPAN("100-continue"))) {
        return false;
    }
    if (hops && request->max_forwards != UINT64_MAX) {
        struct span left = arena_printf(&exchange->proxy->draft, "%llu",
                                        (unsigned long long)request->max_forwards - 1);
        return left.data != NULL && add(fields, FIELD_MAX_FORWARDS, left);
    }
    return true;
}

/* Who the client is by its certificate, where the listener is to tell it. */
static bool add_client_certificate(const struct exchange *exchange, struct fields *fields)
{
    const struct connection *connection = connection_of(exchange);
    const struct generation *generation = exchange->proxy->generation;
    uint32_t index = generation_listener(generation, connection->listener)->tls;
    if (index == GENERATION_NONE || generation_tls_server(generation, index)->forward_client == 0) {
        return true;
    }
    const struct tls_certificate *shown =
        connection_is_secure(connection) ? tls_client_certificate(&connection->session.transport)
                                         : NULL;
    if (shown == NULL) {
        return add(fields, FIELD_X_CLIENT_VERIFY, SPAN("NONE"));
    }
    return add(fields, FIELD_X_CLIENT_VERIFY, SPAN("SUCCESS")) &&
           add(fields, FIELD_X_CLIENT_FINGERPRINT, shown->fingerprint) &&
           (shown->subject.size == 0 || add(fields, FIELD_X_CLIENT_SUBJECT, shown->subject)) &&
           (shown->names.size == 0 || add(fields, FIELD_X_CLIENT_SAN, shown->names));
}

static bool copy_request_fields(struct exchange *exchange, struct fields *fields)
{
    const struct fields *given = &exchange->request.fields;
    struct nominations nominations;
    if (!find_nominations(exchange, given, &nominations)) {
        return false;
    }
    for (size_t i = 0; i < given->count; i++) {
        const struct field *field = &given->entries[i];
        if (is_replaced(field) || is_connection_specific(&nominations, field) ||
            (exchange->switches && tunnel_tells(field)) ||
            (exchange->grpc.on && field->id == FIELD_GRPC_TIMEOUT)) {
            continue;
        }
        if (!fields_add(fields, field->id, field->name, field->value)) {
            return false;
        }
    }
    return true;
}

/* The Host that the upstream sees: the route's, or the client's; HTTP/1.0 may have none. */
static struct span upstream_host(const struct exchange *exchange)
{
    const struct generation *generation = exchange->proxy->generation;
    if (exchange->route->upstream_host.count > 0) {
        return generation_text(generation, exchange->route->upstream_host);
    }
    if (exchange->request.authority.size > 0) {
        return exchange->request.authority;
    }
    return generation_text(generation, exchange->attempt.endpoint->config->text);
}

bool forward_request(struct exchange *exchange, struct request_message *message)
{
    const struct request_head *request = &exchange->request;
    struct arena *draft = begin_draft(exchange->proxy);
    struct fields *fields = arena_alloc(draft, sizeof(*fields));
    size_t capacity = request->fields.count + FORWARD_FIELDS_ADDED;
    if (fields == NULL || !fields_init(fields, draft, capacity) ||
        !copy_request_fields(exchange, fields) || !add_conditional(exchange, fields) ||
        !add_via(exchange, fields) || !origin_add(exchange, fields) ||
        !add_client_certificate(exchange, fields) || !add_trace(exchange, fields) ||
        !grpc_call_add_timeout(exchange, fields)) {
        return false;
    }
    bool trailers = request->te_trailers || exchange->grpc.on;
    if (trailers && !add(fields, FIELD_TE, SPAN("trailers"))) {
        return false;
    }
    *message = (struct request_message){.method = request->method_text,
                                        .path = request->path,
                                        .query = request->query,
                                        .host = upstream_host(exchange),
                                        .fields = fields,
                                        .framing = request->framing,
                                        .content_length = request->content_length};
    if (exchange->switches) {
        message->framing = FRAMING_TUNNEL;
        message->switching = &exchange->tunnel.asked;
    }
    return true;
}

static struct ref security_of(const struct exchange *exchange)
{
    return exchange->route != NULL ? exchange->route->security
                                   : exchange->proxy->generation->header->default_security;
}

/* Whether a security field of ours replaces this one of the upstream. */
static bool is_overridden(const struct exchange *exchange, struct span name)
{
    const struct generation *generation = exchange->proxy->generation;
    struct ref security = security_of(exchange);
    const struct generation_field *field = generation_array(generation, security);
    for (uint32_t i = 0; i < security.count; i++) {
        if (span_equal_nocase(generation_text(generation, field[i].name), name)) {
            return true;
        }
    }
    return false;
}

/* What clients are told of https, who would not believe it over anything else; empty: nothing. */
static struct span hsts_of(const struct exchange *exchange)
{
    const struct connection *connection = connection_of(exchange);
    const struct generation *generation = exchange->proxy->generation;
    if (!connection_is_secure(connection)) {
        return SPAN_EMPTY;
    }
    bool own = exchange->route != NULL && exchange->route->hsts.count > 0;
    return generation_text(generation,
                           own ? exchange->route->hsts
                               : generation_listener(generation, connection->listener)->hsts);
}

static bool add_hsts(const struct exchange *exchange, struct fields *fields)
{
    struct span value = hsts_of(exchange);
    return value.size == 0 || fields_find_name(fields, HSTS) != NULL ||
           fields_add(fields, FIELD_OTHER, HSTS, value);
}

bool forward_add_security(const struct exchange *exchange, struct fields *fields)
{
    const struct generation *generation = exchange->proxy->generation;
    struct ref security = security_of(exchange);
    const struct generation_field *field = generation_array(generation, security);
    for (uint32_t i = 0; i < security.count; i++) {
        struct span name = generation_text(generation, field[i].name);
        bool stays = exchange->step == EXCHANGE_ANSWER || /* ours says what ours needs */
                     (exchange->route != NULL && exchange->route->upstream_wins != 0);
        bool there = stays && fields_find_name(fields, name) != NULL;
        if (!there &&
            !fields_add(fields, FIELD_OTHER, name, generation_text(generation, field[i].value))) {
            return false;
        }
    }
    return add_hsts(exchange, fields);
}

static bool copy_response_fields(struct exchange *exchange, struct fields *fields)
{
    const struct fields *given = &exchange->response.fields;
    struct nominations nominations;
    if (!find_nominations(exchange, given, &nominations)) {
        return false;
    }
    bool override = exchange->route->upstream_wins == 0;
    bool hsts = override && hsts_of(exchange).size > 0;
    for (size_t i = 0; i < given->count; i++) {
        const struct field *field = &given->entries[i];
        if (is_connection_specific(&nominations, field) || field->id == FIELD_CONTENT_LENGTH ||
            (exchange->switches && tunnel_tells(field)) ||
            (override && is_overridden(exchange, field->name)) ||
            (hsts && span_equal_nocase(field->name, HSTS))) {
            continue;
        }
        if (!fields_add(fields, field->id, field->name, field->value)) {
            return false;
        }
    }
    return true;
}

bool forward_response(struct exchange *exchange, struct fields *fields)
{
    size_t capacity = exchange->response.fields.count + security_of(exchange).count + 8;
    if (!fields_init(fields, begin_draft(exchange->proxy), capacity) ||
        !copy_response_fields(exchange, fields)) {
        return false;
    }
    if (exchange->response.status < 200) {
        return true; /* interim responses carry what they were given and nothing of ours */
    }
    if (!fields_have(fields, FIELD_DATE) && !add(fields, FIELD_DATE, proxy_date(exchange->proxy))) {
        return false;
    }
    return forward_add_security(exchange, fields);
}

/*
 * Trailers are merged by some recipients: only those that cannot do harm (RFC 9110, 6.5.1). A gRPC
 * client keeps them apart, and a service may put its own names there.
 */
static bool is_allowed_trailer(const struct exchange *exchange, const struct field *field)
{
    static const char *const ALLOWED[] = {"digest",       "content-digest",         "repr-digest",
                                          "content-md5",  "server-timing",          "grpc-status",
                                          "grpc-message", "grpc-status-details-bin"};
    if (exchange->grpc.answered) {
        return grpc_call_passes_trailer(field);
    }
    for (size_t i = 0; i < sizeof(ALLOWED) / sizeof(ALLOWED[0]); i++) {
        if (span_equal_nocase(field->name, span_of_string(ALLOWED[i]))) {
            return true;
        }
    }
    return false;
}

const struct fields *forward_trailers(const struct exchange *exchange, struct fields *trailers)
{
    size_t count = trailers == NULL ? 0 : trailers->count;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_allowed_trailer(exchange, &trailers->entries[i])) {
            trailers->entries[kept++] = trailers->entries[i];
        }
    }
    if (count > 0) {
        trailers->count = kept;
    }
    return trailers;
}
