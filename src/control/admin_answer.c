#include "control/admin_answer.h"

#include "http/http1_write.h"
#include "observe/json_write.h"

enum { TEXT_MAX = 256 };

static void begin_body(struct admin_answer *answer, struct output *body, uint16_t status)
{
    answer->status = status;
    answer->source = ADMIN_BODY_HERE;
    *body = output_over(answer->body, sizeof(answer->body));
}

static void end_body(struct admin_answer *answer, const struct output *body)
{
    ASSERT(!body->overflowed);
    answer->body_size = body->size;
}

static void answer_error(struct admin_answer *answer, uint16_t status, const char *label,
                         const char *message)
{
    struct output body;
    begin_body(answer, &body, status);
    OUTPUT_LITERAL(&body, "{\"status\":");
    output_u64(&body, status);
    OUTPUT_LITERAL(&body, ",\"reason\":");
    json_string(&body, span_of_string(label), TEXT_MAX);
    OUTPUT_LITERAL(&body, ",\"message\":");
    json_string(&body, span_of_string(message), TEXT_MAX);
    OUTPUT_LITERAL(&body, "}\n");
    end_body(answer, &body);
}

void admin_answer_refusal(struct admin_answer *answer, enum reason reason)
{
    const struct reason_info *info = reason_info(reason);
    answer_error(answer, info->status == 0 ? 400 : info->status, info->label, info->text);
}

static void answer_health(struct admin_answer *answer)
{
    struct output body;
    begin_body(answer, &body, 200);
    OUTPUT_LITERAL(&body, "{\"status\":\"ok\"}\n");
    end_body(answer, &body);
}

static void put_reason(struct output *body, bool applies, struct span label, bool *first)
{
    if (!applies) {
        return;
    }
    if (!*first) {
        output_byte(body, ',');
    }
    *first = false;
    json_string(body, label, TEXT_MAX);
}

static void answer_ready(struct admin_answer *answer, const struct admin_source *source)
{
    struct admin_unready unready = source->unready(source->context);
    bool ready = !unready.workers && !unready.health_checks && !unready.draining;
    struct output body;
    begin_body(answer, &body, ready ? 200 : 503);
    OUTPUT_LITERAL(&body, "{\"ready\":");
    json_boolean(&body, ready);
    OUTPUT_LITERAL(&body, ",\"waiting_for\":[");
    bool first = true;
    put_reason(&body, unready.draining, SPAN("draining"), &first);
    put_reason(&body, unready.workers, SPAN("workers"), &first);
    put_reason(&body, unready.health_checks, SPAN("health_checks"), &first);
    OUTPUT_LITERAL(&body, "]}\n");
    end_body(answer, &body);
}

/*
 * Whether the host is the admin address's own ip. An address that means "all of them" has every ip
 * for its own: names, which DNS can point anywhere, are what must not pass.
 */
static bool is_own_ip(const struct address *admin, struct span host)
{
    static const uint8_t ANY[sizeof(admin->ip)];
    uint8_t text[ADDRESS_TEXT_MAX];
    struct output output = output_over(text, sizeof(text));
    output_span(&output, host);
    OUTPUT_LITERAL(&output, ":1"); /* addresses are parsed with a port */
    struct address address;
    if (output.overflowed || !address_parse(output_bytes(&output), &address)) {
        return false;
    }
    return memcmp(admin->ip, ANY, sizeof(ANY)) == 0 || address_same_host(admin, &address);
}

bool admin_host_is_allowed(const struct generation *generation, struct span host)
{
    const struct generation_server *server = &generation->header->server;
    if (host.size == 0 || span_equal_nocase(host, SPAN("localhost")) ||
        is_own_ip(&server->admin, host)) {
        return true;
    }
    const struct ref *allowed =
        (const struct ref *)generation_array(generation, server->admin_hosts);
    for (uint32_t i = 0; i < server->admin_hosts.count; i++) {
        if (span_equal_nocase(host, generation_text(generation, allowed[i]))) {
            return true;
        }
    }
    return false;
}

/* The host of `scheme://host:port`; empty for anything else, such as `null`. */
static struct span origin_host(struct span origin)
{
    struct span rest = span_starts_with(origin, SPAN("http://"))    ? span_from(origin, 7)
                       : span_starts_with(origin, SPAN("https://")) ? span_from(origin, 8)
                                                                    : SPAN_EMPTY;
    size_t search = span_starts_with(rest, SPAN("[")) ? span_find(rest, ']') : 0;
    struct span tail = search <= rest.size ? span_from(rest, search) : SPAN_EMPTY;
    return span_first(rest, search + span_find(tail, ':'));
}

static bool is_foreign(const struct generation *generation, const struct request_head *head)
{
    if (!admin_host_is_allowed(generation, head->host)) {
        return true;
    }
    const struct field *origin = fields_find_name(&head->fields, SPAN("Origin"));
    if (origin == NULL) {
        return false;
    }
    struct span host = origin_host(origin->value);
    return host.size == 0 || !admin_host_is_allowed(generation, host);
}

void admin_answer_request(struct admin_answer *answer, const struct generation *generation,
                          const struct admin_source *source, const struct request_head *head)
{
    bool metrics = span_equal(head->path, SPAN("/metrics"));
    bool health = span_equal(head->path, SPAN("/health"));
    bool ready = span_equal(head->path, SPAN("/ready"));
    bool recent = source->recent != NULL && span_equal(head->path, SPAN("/recent"));
    if (source->recent == NULL && is_foreign(generation, head)) {
        answer_error(answer, 403, "foreign_host",
                     "this host name is not one of the admin listener; see admin allowed-hosts");
    } else if (!metrics && !health && !ready && !recent) {
        answer_error(answer, 404, "not_found",
                     source->recent == NULL ? "there are /metrics, /health and /ready"
                                            : "there are /recent, /metrics, /health and /ready");
    } else if (head->method != METHOD_GET && head->method != METHOD_HEAD) {
        answer_error(answer, 405, "method_not_allowed", "only GET and HEAD are allowed");
    } else if (metrics || recent) {
        answer->status = 200;
        answer->source = metrics ? ADMIN_BODY_METRICS : ADMIN_BODY_RECENT;
        answer->body_size = 0;
    } else if (ready) {
        answer_ready(answer, source);
    } else {
        answer_health(answer);
    }
}

bool admin_write_head(const struct admin_answer *answer, struct output *output, bool chunked,
                      bool close)
{
    static const char *const TYPES[] = {
        [ADMIN_BODY_HERE] = "application/json",
        [ADMIN_BODY_METRICS] = "text/plain; version=0.0.4; charset=utf-8",
        [ADMIN_BODY_RECENT] = "application/x-ndjson",
    };
    struct span type = span_of_string(TYPES[answer->source]);
    struct field entries[] = {
        {SPAN("Content-Type"), type, FIELD_CONTENT_TYPE},
        {SPAN("Cache-Control"), SPAN("no-store"), FIELD_CACHE_CONTROL},
        {SPAN("X-Content-Type-Options"), SPAN("nosniff"), FIELD_X_CONTENT_TYPE_OPTIONS},
        {SPAN("X-Frame-Options"), SPAN("DENY"), FIELD_X_FRAME_OPTIONS},
        {SPAN("X-XSS-Protection"), SPAN("1; mode=block"), FIELD_X_XSS_PROTECTION},
        {SPAN("Referrer-Policy"), SPAN("strict-origin-when-cross-origin"), FIELD_REFERRER_POLICY},
        {SPAN("Allow"), SPAN("GET, HEAD"), FIELD_OTHER}, /* with 405 only (RFC 9110, 15.5.6) */
    };
    size_t count = sizeof(entries) / sizeof(entries[0]) - (answer->status != 405);
    struct fields fields = {.entries = entries, .count = count, .capacity = count};
    struct http1_delivery delivery = {
        .framing = answer->source == ADMIN_BODY_HERE ? FRAMING_LENGTH
                   : chunked                         ? FRAMING_CHUNKED
                                                     : FRAMING_CLOSE,
        .content_length = answer->body_size,
        .connection = close ? HTTP1_CONNECTION_CLOSE : HTTP1_CONNECTION_DEFAULT,
    };
    return http1_write_response(output, answer->status, &fields, &delivery);
}
