#include "proxy/answer.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/output.h"
#include "proxy/answer_form.h"
#include "proxy/forward.h"

enum {
    ANSWER_FIELDS = 12,
    CLOSING_FIELDS = 3,
    ANSWER_VALUES_MAX = 512, /* bytes of an error's field values */
    TRACE_EXTRA = 512,       /* of a TRACE that ends here, its target aside */
    RETRY_AFTER_MIN_S = 1,
    HTTPS_PORT = 443,
    RETRY_AFTER_SPREAD_S = 5, /* so that those who were refused together do not come back so */
};

static_assert((int)GENERATION_SECURITY_MAX <= (int)FORWARD_FIELDS_ADDED, "an answer has room");
static_assert((FORWARD_FIELDS_ADDED + ANSWER_FIELDS) * sizeof(struct field) +
                      sizeof(struct fields) + ANSWER_FORM_MAX + ANSWER_VALUES_MAX <=
                  ANSWER_ARENA_MAX,
              "an error has room in any arena");

static bool add(struct fields *fields, enum field_id id, struct span value)
{
    return value.data != NULL && fields_add(fields, id, field_name(id), value);
}

static bool add_named(struct fields *fields, struct span name, struct span value)
{
    return value.data != NULL && fields_add(fields, FIELD_OTHER, name, value);
}

bool answer_ends_here(const struct exchange *exchange)
{
    const struct request_head *request = &exchange->request;
    return (request->method == METHOD_TRACE || request->method == METHOD_OPTIONS) &&
           request->max_forwards == 0;
}

static enum status read_answer(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct answer_source *source = self;
    bool in_front = source->offset < source->front.size;
    struct span rest = in_front ? span_from(source->front, source->offset)
                                : span_from(source->body, source->offset - source->front.size);
    (void)reason;
    if (rest.size == 0) {
        return END;
    }
    *bytes = span_first(rest, rest.size < max ? rest.size : max);
    source->offset += bytes->size;
    return OK;
}

static const struct fields *answer_trailers(void *self)
{
    const struct answer_source *source = self;
    return source->trailers;
}

struct source answer_as_source(struct exchange *exchange)
{
    return (struct source){
        .read = read_answer, .trailers = answer_trailers, .self = &exchange->answer};
}

/*
 * Who refused may know when to come back. Else, bounds that are reached now are soon left again,
 * and an ejected endpoint comes back by itself.
 */
static bool add_retry_after(struct exchange *exchange, struct fields *fields, uint16_t status)
{
    uint32_t seconds = exchange->retry_after;
    if (seconds == 0 && status != 429 && status != 503) {
        return true;
    }
    if (seconds == 0) {
        seconds = RETRY_AFTER_MIN_S + prng_below(&exchange->proxy->prng, RETRY_AFTER_SPREAD_S);
    }
    struct span value = arena_printf(&exchange->arena, "%u", (unsigned)seconds);
    return value.data != NULL && add_named(fields, SPAN("Retry-After"), value);
}

/* An item with parameters, of a structured field (RFC 9209, 2; RFC 8941, 3.3): all texts are ours.
 */
static bool add_proxy_status(struct exchange *exchange, struct fields *fields,
                             const struct reason_info *info)
{
    struct span value = arena_printf(&exchange->arena, "sentinel; error=%s; details=\"%s\"",
                                     info->proxy_status, info->label);
    return value.data != NULL && add_named(fields, SPAN("Proxy-Status"), value);
}

/* What a gRPC client takes for a response that is nothing but its trailers. */
static bool make_grpc_error(struct exchange *exchange, struct fields *fields)
{
    const struct reason_info *info = reason_info(exchange->reason);
    struct span id = span_of(exchange->request_id, exchange->request_id_size);
    return add(fields, FIELD_CONTENT_TYPE, SPAN("application/grpc")) &&
           grpc_call_add_status(exchange, fields) &&
           add_retry_after(exchange, fields, info->status) &&
           add_proxy_status(exchange, fields, info) && add(fields, FIELD_X_REQUEST_ID, id);
}

bool answer_make_closing(struct exchange *exchange)
{
    struct fields *fields = arena_alloc(&exchange->arena, sizeof(*fields));
    ASSERT(exchange->reason != REASON_NONE);
    if (fields == NULL || !fields_init(fields, &exchange->arena, CLOSING_FIELDS) ||
        !grpc_call_add_status(exchange, fields) ||
        !add_proxy_status(exchange, fields, reason_info(exchange->reason))) {
        return false;
    }
    exchange->answer = (struct answer_source){.trailers = fields};
    return true;
}

static bool make_error(struct exchange *exchange, struct fields *fields)
{
    if (exchange->grpc.on) {
        return make_grpc_error(exchange, fields);
    }
    const struct reason_info *info = reason_info(exchange->reason);
    struct span id = span_of(exchange->request_id, exchange->request_id_size);
    enum answer_form form = answer_form_choose(&exchange->request.fields);
    struct span policy = answer_form_policy(form);
    void *memory = arena_alloc(&exchange->arena, ANSWER_FORM_MAX);
    if (memory == NULL) {
        return false;
    }
    struct output output = output_over(memory, ANSWER_FORM_MAX);
    answer_form_write(form, info, id, &output);
    ASSERT(!output.overflowed);
    exchange->answer.front = answer_form_front(form);
    exchange->answer.body = output_bytes(&output);
    return add(fields, FIELD_CONTENT_TYPE, answer_form_type(form)) &&
           add(fields, FIELD_CACHE_CONTROL, SPAN("no-store")) &&
           add_named(fields, SPAN("Vary"), SPAN("Accept")) &&
           (policy.size == 0 || add_named(fields, SPAN("Content-Security-Policy"), policy)) &&
           add_retry_after(exchange, fields, info->status) &&
           add_proxy_status(exchange, fields, info) && add(fields, FIELD_X_REQUEST_ID, id);
}

static const struct generation_listener *listener_of(const struct exchange *exchange)
{
    return generation_listener(exchange->proxy->generation,
                               connection_of_stream(exchange->client)->listener);
}

/* The request's own place, by https. */
static struct span https_location(struct exchange *exchange)
{
    const struct request_head *request = &exchange->request;
    uint32_t port = listener_of(exchange)->redirect_port;
    char colon_port[8] = "";
    if (port != HTTPS_PORT) {
        (void)snprintf(colon_port, sizeof(colon_port), ":%u", port & UINT16_MAX);
    }
    bool query = request->query.data != NULL;
    struct span path = request->path.data[0] == '/' ? request->path : SPAN("/");
    return arena_printf(&exchange->arena, "https://%.*s%s%.*s%s%.*s", SPAN_ARGS(request->host),
                        colon_port, SPAN_ARGS(path), query ? "?" : "",
                        query ? (int)request->query.size : 0,
                        query ? (const char *)request->query.data : "");
}

/* Where a redirect leads: with keep_path, path and query of the request go behind the location. */
static struct span location_of(struct exchange *exchange)
{
    const struct request_head *request = &exchange->request;
    struct span location = generation_text(exchange->proxy->generation, exchange->route->location);
    if (exchange->route->keep_path == 0 || request->path.data[0] != '/') {
        return location;
    }
    while (location.size > 0 && location.data[location.size - 1] == '/') {
        location.size--; /* the path brings its own */
    }
    bool query = request->query.data != NULL;
    return arena_printf(&exchange->arena, "%.*s%.*s%s%.*s", SPAN_ARGS(location),
                        SPAN_ARGS(request->path), query ? "?" : "",
                        query ? (int)request->query.size : 0,
                        query ? (const char *)request->query.data : "");
}

static bool make_route_answer(struct exchange *exchange, struct fields *fields)
{
    const struct generation *generation = exchange->proxy->generation;
    const struct generation_route *route = exchange->route;
    if (exchange->to_https) {
        return add(fields, FIELD_LOCATION, https_location(exchange));
    }
    if (route->action == ACTION_REDIRECT) {
        return add(fields, FIELD_LOCATION, location_of(exchange));
    }
    ASSERT(route->action == ACTION_RESPOND);
    exchange->answer.body = generation_text(generation, route->body);
    struct span type = generation_text(generation, route->content_type);
    return type.size == 0 || exchange->answer.body.size == 0 ||
           add(fields, FIELD_CONTENT_TYPE, type);
}

/*
 * TRACE that ends here (RFC 9110, 9.3.8): the request line and those fields that tell of the way.
 * Credentials and whatever else the client sent are not reflected.
 */
static bool make_trace(struct exchange *exchange, struct fields *fields)
{
    const struct request_head *request = &exchange->request;
    size_t capacity = request->target.size + TRACE_EXTRA;
    void *memory = arena_alloc(&exchange->arena, capacity);
    if (memory == NULL) {
        return false;
    }
    struct output output = output_over(memory, capacity);
    OUTPUT_LITERAL(&output, "TRACE ");
    output_span(&output, request->target);
    OUTPUT_LITERAL(&output, " HTTP/1.1\r\nHost: ");
    output_span(&output, request->authority);
    OUTPUT_LITERAL(&output, "\r\nMax-Forwards: 0\r\n\r\n");
    ASSERT(!output.overflowed);
    exchange->answer.body = output_bytes(&output);
    return add(fields, FIELD_CONTENT_TYPE, SPAN("message/http"));
}

static bool make_fields(struct exchange *exchange, struct fields *fields)
{
    if (exchange->reason != REASON_NONE) {
        return make_error(exchange, fields);
    }
    if (!answer_ends_here(exchange)) {
        return make_route_answer(exchange, fields);
    }
    if (exchange->request.method == METHOD_TRACE) {
        return make_trace(exchange, fields);
    }
    return add_named(fields, SPAN("Allow"),
                     SPAN("GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, PATCH"));
}

uint16_t answer_status(const struct exchange *exchange)
{
    if (exchange->reason != REASON_NONE) {
        return reason_info(exchange->reason)->status;
    }
    if (exchange->to_https) {
        return (uint16_t)listener_of(exchange)->redirect_status;
    }
    return answer_ends_here(exchange) ? 200 : (uint16_t)exchange->route->status;
}

bool answer_make(struct exchange *exchange, struct response_message *message)
{
    struct fields *fields = arena_alloc(&exchange->arena, sizeof(*fields));
    size_t capacity = FORWARD_FIELDS_ADDED + ANSWER_FIELDS;
    exchange->answer = (struct answer_source){0};
    if (fields == NULL || !fields_init(fields, &exchange->arena, capacity) ||
        !make_fields(exchange, fields) || !add(fields, FIELD_DATE, proxy_date(exchange->proxy)) ||
        !forward_add_security(exchange, fields)) {
        return false;
    }
    bool grpc = exchange->grpc.on && exchange->reason != REASON_NONE;
    bool bare = grpc && exchange->request.version == HTTP_2; /* Trailers-Only: no length */
    uint16_t status = grpc ? 200 : answer_status(exchange);
    bool bodiless = status == 204 || status == 304;
    if (bodiless) {
        exchange->answer = (struct answer_source){0};
    }
    size_t length = exchange->answer.front.size + exchange->answer.body.size;
    *message = (struct response_message){
        .status = status,
        .fields = fields,
        .framing = bodiless || bare ? FRAMING_NONE : FRAMING_LENGTH,
        .content_length = length,
        .head_only = length == 0 || exchange->request.method == METHOD_HEAD,
        .close = exchange->reason != REASON_NONE && !exchange->client->in_ended,
    };
    return true;
}
