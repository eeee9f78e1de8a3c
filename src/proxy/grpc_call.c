#include "proxy/grpc_call.h"

#include "base/assert.h"
#include "proxy/exchange.h"

static const struct span STATUS_FIELD = {(const uint8_t *)"grpc-status", 11};
static const struct span MESSAGE_FIELD = {(const uint8_t *)"grpc-message", 12};

static bool is_http2(const struct exchange *exchange)
{
    return exchange->request.version == HTTP_2;
}

void grpc_call_begin(struct exchange *exchange)
{
    const struct request_head *request = &exchange->request;
    exchange->grpc = (struct grpc_call){.deadline = UINT64_MAX,
                                        .status = GRPC_STATUS_NONE,
                                        .on = grpc_is_call(request->method, &request->fields)};
}

/* ---- Time ---- */

/* Two of them could be read in two ways. */
static enum status read_timeout(const struct fields *fields, uint64_t *timeout)
{
    const struct field *found = NULL;
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        if (field->id == FIELD_GRPC_TIMEOUT) {
            if (found != NULL) {
                return ERROR;
            }
            found = field;
        }
    }
    return found == NULL ? END : grpc_timeout_read(found->value, timeout);
}

enum reason grpc_call_admit(struct exchange *exchange)
{
    uint64_t timeout = 0;
    if (!exchange->grpc.on || !fields_have(&exchange->request.fields, FIELD_GRPC_TIMEOUT)) {
        return REASON_NONE;
    }
    enum status status = read_timeout(&exchange->request.fields, &timeout);
    if (status == ERROR) {
        return REASON_BAD_GRPC_TIMEOUT;
    }
    exchange->grpc.deadline = exchange->began + timeout;
    return exchange->grpc.deadline > io_now(exchange->proxy->io) ? REASON_NONE
                                                                 : REASON_GRPC_DEADLINE;
}

/* Its messages are bounded and not their sum: a stream of them may have no end. */
bool grpc_call_takes(struct exchange *exchange, struct span bytes)
{
    uint64_t max = exchange->route->body_size;
    return max == 0 || grpc_messages_read(&exchange->grpc.messages, bytes, max);
}

enum reason grpc_call_expired(const struct exchange *exchange)
{
    return exchange->grpc.on && exchange->grpc.deadline <= io_now(exchange->proxy->io)
               ? REASON_GRPC_DEADLINE
               : REASON_UPSTREAM_TIMEOUT;
}

bool grpc_call_add_timeout(struct exchange *exchange, struct fields *fields)
{
    uint64_t now = io_now(exchange->proxy->io);
    uint64_t deadline = exchange->grpc.deadline;
    if (!exchange->grpc.on || deadline == UINT64_MAX) {
        return true;
    }
    uint8_t *place = arena_alloc(&exchange->proxy->draft, GRPC_TIMEOUT_MAX);
    return place != NULL &&
           fields_add(fields, FIELD_GRPC_TIMEOUT, field_name(FIELD_GRPC_TIMEOUT),
                      grpc_timeout_write(deadline > now ? deadline - now : 0, place));
}

/* ---- What comes back ---- */

static void note_status(struct exchange *exchange, const struct fields *fields)
{
    const struct field *status = fields_find_name(fields, STATUS_FIELD);
    if (status != NULL) {
        exchange->grpc.status = (uint8_t)grpc_status_read(status->value);
    }
}

void grpc_call_note_response(struct exchange *exchange)
{
    const struct response_head *response = &exchange->response;
    if (!exchange->grpc.on) {
        return;
    }
    exchange->grpc.answered = response->status == 200 && grpc_has_content_type(&response->fields);
    if (exchange->grpc.answered) {
        note_status(exchange, &response->fields);
    }
}

void grpc_call_note_trailers(struct exchange *exchange, const struct fields *trailers)
{
    if (exchange->grpc.answered && trailers != NULL) {
        note_status(exchange, trailers);
    }
}

bool grpc_call_is_trailers_only(const struct exchange *exchange)
{
    const struct response_head *response = &exchange->response;
    return exchange->grpc.answered && is_http2(exchange) && !response->has_content_length &&
           response->framing == FRAMING_LENGTH && response->content_length == 0;
}

bool grpc_call_awaits_trailers(const struct exchange *exchange)
{
    return exchange->grpc.answered && is_http2(exchange) && exchange->response.has_content_length &&
           exchange->grpc.status == GRPC_STATUS_NONE;
}

/* RFC 9110, 6.5.1: framing, routing, modifiers, authentication, control data, content handling. */
bool grpc_call_passes_trailer(const struct field *field)
{
    static const char *const FORBIDDEN[] = {"cache-control",
                                            "max-forwards",
                                            "pragma",
                                            "range",
                                            "if-match",
                                            "if-none-match",
                                            "if-modified-since",
                                            "if-unmodified-since",
                                            "if-range",
                                            "authorization",
                                            "set-cookie",
                                            "cookie",
                                            "www-authenticate",
                                            "age",
                                            "expires",
                                            "date",
                                            "location",
                                            "retry-after",
                                            "vary",
                                            "warning",
                                            "content-encoding",
                                            "content-type",
                                            "content-range",
                                            "content-length",
                                            "host",
                                            "expect",
                                            "strict-transport-security",
                                            "authentication-info"};
    if ((field_flags(field->id) & FIELD_IS_HOP) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(FORBIDDEN) / sizeof(FORBIDDEN[0]); i++) {
        if (span_equal_nocase(field->name, span_of_string(FORBIDDEN[i]))) {
            return false;
        }
    }
    return true;
}

/* ---- What we say ---- */

bool grpc_call_add_status(struct exchange *exchange, struct fields *fields)
{
    enum grpc_status status = grpc_status_of_reason(exchange->reason);
    struct span text = span_of_string(reason_info(exchange->reason)->text);
    size_t size = text.size * GRPC_MESSAGE_GROWTH;
    void *memory = arena_alloc(&exchange->arena, size);
    if (memory == NULL) {
        return false;
    }
    struct output message = output_over(memory, size);
    grpc_message_write(&message, text);
    return fields_add(fields, FIELD_OTHER, STATUS_FIELD, grpc_status_digits(status)) &&
           fields_add(fields, FIELD_OTHER, MESSAGE_FIELD, output_bytes(&message));
}

bool grpc_call_can_close(const struct exchange *exchange, enum reason reason)
{
    struct stream *client = exchange->client;
    bool open = exchange->response.framing == FRAMING_CHUNKED ||
                exchange->response.framing == FRAMING_CLOSE;
    return exchange->step == EXCHANGE_RELAY && exchange->grpc.answered && is_http2(exchange) &&
           open && !client->out_ended && grpc_status_of_reason(reason) != GRPC_CANCELLED &&
           !client->ops->is_broken(client);
}

/* A failure says what it means to the client, also to one that could not be told. */
enum grpc_status grpc_call_outcome(const struct exchange *exchange)
{
    if (!exchange->grpc.on) {
        return GRPC_STATUS_NONE;
    }
    return exchange->reason != REASON_NONE ? grpc_status_of_reason(exchange->reason)
                                           : (enum grpc_status)exchange->grpc.status;
}
