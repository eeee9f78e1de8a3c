#include "http/http1_parse.h"

#include "base/assert.h"
#include "http/bytes.h"
#include "http/head_rules.h"
#include "http/target.h"

size_t http1_arena_max(const struct http1_limits *limits)
{
    /* The field table, a path of which every byte becomes an escape, a host; each aligned. */
    return limits->fields_max * sizeof(struct field) + 3 * limits->request_line_max +
           TARGET_HOST_MAX + 3 * _Alignof(max_align_t);
}

size_t http1_request_arena_kept(const struct http1_limits *limits)
{
    /* A path with more escapes than a request line has room for is refused, see read_target. */
    return http1_arena_max(limits) - 2 * limits->request_line_max;
}

size_t http1_response_arena_kept(const struct http1_limits *limits)
{
    return limits->fields_max * sizeof(struct field) + _Alignof(max_align_t);
}

/* Takes a line off the front of *rest, without its CRLF; false: it has no strict end. */
static inline bool take_line(struct span *rest, struct span *line)
{
    size_t size = bytes_find_control(rest->data, rest->size);
    if (rest->size - size < 2 || rest->data[size] != '\r' || rest->data[size + 1] != '\n') {
        return false;
    }
    *line = span_first(*rest, size);
    *rest = span_from(*rest, size + 2);
    return true;
}

/* What a parse of field lines goes by. */
struct field_reader {
    struct fields *fields; /* its capacity bounds the lines, dropped ones included */
    struct field_presence presence;
    bool drop_aliases; /* whoever reads the message may take `_` for `-` */
};

/* Most values have one space before them and none behind. */
static inline struct span trim_value(struct span value)
{
    if (value.size > 0 && value.data[0] == ' ') {
        value = span_from(value, 1);
    }
    bool clean = value.size == 0 || (value.data[0] > ' ' && value.data[value.size - 1] > ' ');
    return clean ? value : span_trim(value);
}

/*
 * Takes one `name ":" OWS value OWS CRLF` off the front of *rest (RFC 9112, 5): no space before the
 * colon, no empty name, no other bytes than a token has. *has_underscore tells whether the name may
 * be an alias.
 */
static inline bool take_field(struct span *rest, struct field *field, bool *has_underscore)
{
    struct span line = *rest;
    /* Not the line's own size: neither search then waits for the other, and none crosses a CR. */
    size_t size = bytes_span_name(rest->data, rest->size);
    if (!take_line(rest, &line)) {
        return false;
    }
    unsigned classes = 0;
    while (size < line.size && line.data[size] != ':') {
        classes |= byte_classes[line.data[size]];
        if (!byte_is_token(line.data[size++])) {
            return false;
        }
    }
    if (size == 0 || size == line.size) {
        return false;
    }
    field->name = span_first(line, size);
    field->value = trim_value(span_from(line, size + 1));
    *has_underscore = (classes & BYTE_UNDERSCORE) != 0;
    return true;
}

/* Reads field lines up to the empty line, which must end the bytes. */
static enum reason read_lines(struct field_reader *reader, struct span rest)
{
    struct fields *fields = reader->fields;
    struct field_presence presence = {0};
    size_t dropped = 0;
    while (!span_equal(rest, SPAN("\r\n"))) {
        struct field *field = &fields->entries[fields->count];
        bool has_underscore = false;
        if (fields->count + dropped == fields->capacity) {
            return REASON_TOO_MANY_FIELDS;
        }
        if (!take_field(&rest, field, &has_underscore)) {
            return REASON_BAD_FIELD;
        }
        if (has_underscore && reader->drop_aliases && field_aliases_protected(field->name)) {
            dropped++;
            continue;
        }
        field->id = field_identify(field->name);
        field_mark_present(&presence, field->id);
        fields->count++;
    }
    reader->presence = presence;
    fields->absent = ~presence.seen;
    return REASON_NONE;
}

/*
 * Whether the options of Connection are more than anybody needs. Whoever forwards the message asks
 * for each of its fields whether they name it: without a bound one head could cost milliseconds.
 */
static bool has_many_options(const struct fields *fields)
{
    size_t count = 0;
    for (size_t i = 0; i < fields->count && count <= HTTP1_CONNECTION_OPTIONS_MAX; i++) {
        struct span rest = fields->entries[i].value;
        struct span option;
        while (fields->entries[i].id == FIELD_CONNECTION && count <= HTTP1_CONNECTION_OPTIONS_MAX &&
               span_next_element(&rest, &option)) {
            count++;
        }
    }
    return count > HTTP1_CONNECTION_OPTIONS_MAX;
}

/*
 * Reads all field lines into a table that keeps no more of the arena than it needs: what one
 * request in flight touches lies close together.
 */
static enum reason read_fields(struct field_reader *reader, struct span rest, size_t fields_max,
                               struct arena *arena)
{
    if (!fields_init(reader->fields, arena, fields_max)) {
        return REASON_BUFFERS_FULL;
    }
    enum reason reason = read_lines(reader, rest);
    fields_trim(reader->fields, arena);
    bool many = reason == REASON_NONE && field_is_present(&reader->presence, FIELD_CONNECTION) &&
                has_many_options(reader->fields);
    return many ? REASON_TOO_MANY_FIELDS : reason;
}

/*
 * The rules against smuggling (RFC 9112, 6.1 to 6.3, at their strictest): one Content-Length of
 * digits, or one Transfer-Encoding of exactly `chunked` in HTTP/1.1, never both. The bound of a
 * length keeps sums of lengths from overflowing.
 */
static enum reason read_framing(const struct fields *fields, const struct field_presence *presence,
                                enum http_version version, struct head_body *facts)
{
    if (field_is_present(presence, FIELD_TRANSFER_ENCODING)) {
        struct span coding = fields_find(fields, FIELD_TRANSFER_ENCODING)->value;
        if (version == HTTP_1_0 || field_is_repeated(presence, FIELD_TRANSFER_ENCODING) ||
            field_is_present(presence, FIELD_CONTENT_LENGTH) ||
            !span_equal_nocase(coding, SPAN("chunked"))) {
            return REASON_BAD_TRANSFER_ENCODING;
        }
        facts->chunked = true;
    }
    return head_read_length(fields, presence, facts);
}

/* RFC 9112, 9.3: close wins over keep-alive. */
static bool connection_persists(const struct fields *fields, const struct field_presence *presence,
                                enum http_version version)
{
    if (!field_is_present(presence, FIELD_CONNECTION)) {
        return version == HTTP_1_1;
    }
    return !field_list_has(fields, presence, FIELD_CONNECTION, SPAN("close")) &&
           (version == HTTP_1_1 ||
            field_list_has(fields, presence, FIELD_CONNECTION, SPAN("keep-alive")));
}

/* Exactly `HTTP/` DIGIT `.` DIGIT, of which two are spoken (RFC 9112, 2.3). */
static enum reason read_version(struct span text, enum http_version *version)
{
    if (span_equal(text, SPAN("HTTP/1.1"))) {
        *version = HTTP_1_1;
        return REASON_NONE;
    }
    if (span_equal(text, SPAN("HTTP/1.0"))) {
        *version = HTTP_1_0;
        return REASON_NONE;
    }
    bool other = text.size == 8 && span_starts_with(text, SPAN("HTTP/")) &&
                 ascii_is_digit(text.data[5]) && text.data[6] == '.' &&
                 ascii_is_digit(text.data[7]);
    return other ? REASON_BAD_VERSION : REASON_BAD_REQUEST_LINE;
}

/* method SP request-target SP HTTP-version (RFC 9112, 3), single spaces. */
static enum reason read_request_line(struct span line, struct request_head *head)
{
    size_t size = 0;
    while (size < line.size && byte_is_token(line.data[size])) {
        size++;
    }
    if (size == 0 || size > HTTP1_METHOD_MAX || size == line.size || line.data[size] != ' ') {
        return REASON_BAD_METHOD;
    }
    head->method_text = span_first(line, size);
    head->method = method_identify(head->method_text);
    struct span rest = span_from(line, size + 1);
    size_t target_size = span_find(rest, ' ');
    if (target_size == 0 || target_size == rest.size) {
        return REASON_BAD_REQUEST_LINE;
    }
    head->target = span_first(rest, target_size);
    return read_version(span_from(rest, target_size + 1), &head->version);
}

static enum reason read_request(struct span rest, const struct http1_limits *limits,
                                struct arena *arena, struct request_head *head)
{
    struct field_reader reader = {.fields = &head->fields, .drop_aliases = true};
    struct head_body body = {0};
    struct span line;
    struct span authority = SPAN_EMPTY;
    if (!take_line(&rest, &line)) {
        return REASON_BAD_REQUEST_LINE;
    }
    enum reason reason = read_request_line(line, head);
    if (reason == REASON_NONE) {
        reason = head_read_target(head, limits, arena, &authority);
    }
    if (reason == REASON_NONE) {
        reason = read_fields(&reader, rest, limits->fields_max, arena);
    }
    if (reason == REASON_NONE) {
        reason = head_read_host(head, &reader.presence, authority, arena);
    }
    if (reason == REASON_NONE) {
        reason = read_framing(&head->fields, &reader.presence, head->version, &body);
    }
    if (reason != REASON_NONE) {
        return reason;
    }
    head->content_length = body.length;
    head->framing = body.chunked      ? FRAMING_CHUNKED
                    : body.has_length ? FRAMING_LENGTH
                                      : FRAMING_NONE;
    head->keep_alive = connection_persists(&head->fields, &reader.presence, head->version);
    head->upgrade = head_asks_upgrade(head, &reader.presence);
    reason = head_read_options(head, &reader.presence);
    bool tunnel = head->method == METHOD_CONNECT;
    return reason == REASON_NONE && tunnel ? REASON_CONNECT_REFUSED : reason;
}

enum status http1_parse_request(struct span head_bytes, const struct http1_limits *limits,
                                struct arena *arena, struct request_head *out, enum reason *reason)
{
    *out = (struct request_head){0};
    enum reason why = read_request(head_bytes, limits, arena, out);
    if (why == REASON_NONE) {
        return OK;
    }
    *reason = why;
    return ERROR;
}

/* The method, and the target if there is all of it, or too much. */
static void read_refused_line(struct span line, size_t line_max, struct request_head *head)
{
    size_t size = 0;
    while (size < line.size && byte_is_token(line.data[size])) {
        size++;
    }
    if (size == 0 || size > HTTP1_METHOD_MAX || size == line.size || line.data[size] != ' ') {
        return;
    }
    head->method_text = span_first(line, size);
    head->method = method_identify(head->method_text);
    struct span rest = span_from(line, size + 1);
    size_t target_size = span_find(rest, ' ');
    if (target_size < rest.size || line.size > line_max) {
        head->target = span_first(rest, target_size);
    }
}

void http1_parse_refused(struct span head_bytes, const struct http1_limits *limits,
                         struct arena *arena, struct request_head *out)
{
    struct field_reader reader = {.fields = &out->fields, .drop_aliases = true};
    struct span rest = head_bytes;
    struct span line = span_first(rest, bytes_find_control(rest.data, rest.size));
    *out = (struct request_head){0};
    read_refused_line(line, limits->request_line_max, out);
    if (take_line(&rest, &line)) {
        (void)read_fields(&reader, rest, limits->fields_max, arena);
        out->fields.absent = 0; /* it may have ended before it knew what there is */
    }
}

/* HTTP-version SP status-code [ SP reason-phrase ] (RFC 9112, 4); the phrase is not kept. */
static bool read_status_line(struct span line, struct response_head *head)
{
    uint64_t status = 0;
    if (line.size < 12 || read_version(span_first(line, 8), &head->version) != REASON_NONE ||
        line.data[8] != ' ' || (line.size > 12 && line.data[12] != ' ') ||
        !span_to_u64(span_of(line.data + 9, 3), 599, &status) || status < 100) {
        return false;
    }
    head->status = (uint16_t)status;
    return true;
}

/* `Keep-Alive: timeout=5, max=100`; what cannot be understood counts as absent. */
static uint32_t read_keep_alive_timeout(const struct fields *fields)
{
    const struct field *field = fields_find(fields, FIELD_KEEP_ALIVE);
    const struct span name = SPAN("timeout=");
    struct span rest = field == NULL ? SPAN_EMPTY : field->value;
    struct span element;
    while (span_next_element(&rest, &element)) {
        uint64_t seconds = 0;
        if (element.size > name.size && span_equal_nocase(span_first(element, name.size), name) &&
            span_to_u64(span_from(element, name.size), UINT32_MAX - 1, &seconds)) {
            return (uint32_t)seconds;
        }
    }
    return UINT32_MAX;
}

static enum reason read_response(struct span rest, enum method method,
                                 const struct http1_limits *limits, struct arena *arena,
                                 struct response_head *head)
{
    struct field_reader reader = {.fields = &head->fields};
    struct head_body body = {0};
    struct span line;
    if (!take_line(&rest, &line) || !read_status_line(line, head)) {
        return REASON_BAD_RESPONSE;
    }
    enum reason reason = read_fields(&reader, rest, limits->fields_max, arena);
    if (reason == REASON_BUFFERS_FULL) {
        return reason;
    }
    if (reason == REASON_TOO_MANY_FIELDS) {
        return REASON_RESPONSE_HEAD_TOO_LARGE;
    }
    if (reason == REASON_NONE) {
        reason = read_framing(&head->fields, &reader.presence, head->version, &body);
    }
    if (reason != REASON_NONE) {
        return REASON_BAD_RESPONSE;
    }
    head->keep_alive = connection_persists(&head->fields, &reader.presence, head->version);
    head->keep_alive_timeout_s = read_keep_alive_timeout(&head->fields);
    return head_decide_framing(head, method, &body) ? REASON_NONE : REASON_BAD_RESPONSE;
}

enum status http1_parse_response(struct span head_bytes, enum method method,
                                 const struct http1_limits *limits, struct arena *arena,
                                 struct response_head *out, enum reason *reason)
{
    struct response_head head = {0};
    enum reason why = read_response(head_bytes, method, limits, arena, &head);
    if (why != REASON_NONE) {
        *reason = why;
        return ERROR;
    }
    *out = head;
    return OK;
}

enum status http1_parse_trailers(struct span bytes, struct fields *out, enum reason *reason)
{
    struct field_reader reader = {.fields = out, .drop_aliases = true};
    enum reason why = read_lines(&reader, bytes);
    if (why == REASON_NONE) {
        return OK;
    }
    *reason = why;
    return ERROR;
}
