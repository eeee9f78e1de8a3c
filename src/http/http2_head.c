#include "http/http2_head.h"

#include "base/assert.h"
#include "http/bytes.h"

enum {
    REQUEST_LINE_REST = 10, /* of HTTP/1: two spaces and the version */
    FIELD_REST = 4,         /* the colon, the space and the line's end */
    SECTION_MIN = 1024,     /* a browser's head; it grows by doubling */
    CODED_MAX = 12,         /* bytes that the codec adds to a name and a value at most */
    HEAD_MAX = 64 * 1024,   /* what the codec sends at most, as it estimates */
    HTTP2_PROTOCOL_MAX = 64,
};

/* How a field stands in a section, before its name and value. */
struct record {
    uint32_t name;
    uint32_t value;
};

static bool is_pseudo(struct span name)
{
    return name.size > 0 && name.data[0] == ':';
}

/* Counts the field against the limits, as HTTP/1 would count its line. */
static enum reason weigh(struct http2_section *section, const struct http1_limits *limits,
                         struct span name, struct span value, bool request)
{
    if (name.size > limits->head_max || value.size > limits->head_max) {
        return span_equal(name, SPAN(":path")) ? REASON_URI_TOO_LONG : REASON_HEAD_TOO_LARGE;
    }
    if (!is_pseudo(name)) {
        bool crumb = request && span_equal(name, SPAN("cookie"));
        section->crumbs += crumb ? 1 : 0;
        section->fields += crumb && section->crumbs > 1 ? 0 : 1;
        section->weight += (uint32_t)(name.size + value.size) + FIELD_REST;
    } else {
        bool in_line = span_equal(name, SPAN(":path")) || span_equal(name, SPAN(":method"));
        section->start_line += in_line ? (uint32_t)value.size : 0;
        section->weight += (uint32_t)value.size + FIELD_REST;
    }
    if (section->start_line + REQUEST_LINE_REST > limits->request_line_max) {
        return REASON_URI_TOO_LONG;
    }
    if (section->fields > limits->fields_max) {
        return REASON_TOO_MANY_FIELDS;
    }
    return section->weight > limits->head_max ? REASON_HEAD_TOO_LARGE : REASON_NONE;
}

static bool make_room(struct http2_section *section, struct http2_account *account, size_t more)
{
    size_t needed = section->size + more;
    size_t there = section->bytes == NULL ? 0 : http2_size_of(account, section->bytes);
    if (needed <= there) {
        return true;
    }
    size_t size = there == 0 ? SECTION_MIN : 2 * there;
    uint8_t *bytes = http2_resize(account, section->bytes, size < needed ? needed : size);
    if (bytes == NULL) {
        return false;
    }
    section->bytes = bytes;
    return true;
}

void http2_section_add(struct http2_section *section, struct http2_account *account,
                       const struct http1_limits *limits, struct span name, struct span value,
                       bool request)
{
    if (section->refusal != REASON_NONE) {
        return;
    }
    section->refusal = weigh(section, limits, name, value, request);
    if (section->refusal != REASON_NONE) {
        return;
    }
    const struct record record = {(uint32_t)name.size, (uint32_t)value.size};
    if (!make_room(section, account, sizeof(record) + name.size + value.size)) {
        section->refusal = REASON_BUFFERS_FULL;
        return;
    }
    uint8_t *place = section->bytes + section->size;
    memcpy(place, &record, sizeof(record));
    memcpy(place + sizeof(record), name.data, name.size);
    if (value.size > 0) {
        memcpy(place + sizeof(record) + name.size, value.data, value.size);
    }
    section->size += (uint32_t)(sizeof(record) + name.size + value.size);
}

void http2_section_clear(struct http2_section *section, struct http2_account *account)
{
    http2_free(account, section->bytes);
    *section = (struct http2_section){0};
}

static struct span records_of(const struct http2_section *section)
{
    return section->bytes == NULL ? SPAN_EMPTY : span_of(section->bytes, section->size);
}

/* Takes the next field off the front of *rest. */
static bool next_record(struct span *rest, struct span *name, struct span *value)
{
    struct record record;
    if (rest->size == 0) {
        return false;
    }
    ASSERT(rest->size >= sizeof(record));
    memcpy(&record, rest->data, sizeof(record));
    *rest = span_from(*rest, sizeof(record));
    ASSERT(rest->size >= (size_t)record.name + record.value);
    *name = span_first(*rest, record.name);
    *value = span_first(span_from(*rest, record.name), record.value);
    *rest = span_from(*rest, (size_t)record.name + record.value);
    return true;
}

bool http2_section_is_interim(const struct http2_section *section)
{
    struct span rest = records_of(section);
    struct span name;
    struct span value;
    return next_record(&rest, &name, &value) && span_equal(name, SPAN(":status")) &&
           value.size == 3 && value.data[0] == '1';
}

/* ---- Regular fields ---- */

/* A token in lower case (RFC 9113, 8.2.1); *has_underscore tells whether it may be an alias. */
static bool is_name(struct span name, bool *has_underscore)
{
    unsigned classes = 0;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        classes |= byte_classes[byte];
        if (!byte_is_token(byte) || (byte >= 'A' && byte <= 'Z')) {
            return false;
        }
    }
    *has_underscore = (classes & BYTE_UNDERSCORE) != 0;
    return name.size > 0;
}

/* No control byte but HTAB, and no space at an end. */
static bool is_value(struct span value)
{
    if (value.size == 0) {
        return true;
    }
    uint8_t first = value.data[0];
    uint8_t last = value.data[value.size - 1];
    return first != ' ' && first != '\t' && last != ' ' && last != '\t' &&
           bytes_find_control(value.data, value.size) == value.size;
}

/* RFC 9113, 8.2.2: what speaks of the connection is malformed here, but for TE: trailers. */
static bool is_of_connection(enum field_id id, struct span value)
{
    const uint64_t refused = UINT64_C(1) << FIELD_CONNECTION | UINT64_C(1) << FIELD_KEEP_ALIVE |
                             UINT64_C(1) << FIELD_PROXY_CONNECTION |
                             UINT64_C(1) << FIELD_TRANSFER_ENCODING | UINT64_C(1) << FIELD_UPGRADE;
    return (refused >> id & 1) != 0 ||
           (id == FIELD_TE && !span_equal_nocase(value, SPAN("trailers")));
}

/* What a parse of field records goes by. */
struct reader {
    struct fields *fields;
    struct field_presence presence;
    struct arena *arena; /* NULL: what is read stays where it is */
    bool drop_aliases;
    struct field *cookie; /* the one into which others are joined */
    uint8_t *cookie_end;
    size_t cookies_left; /* bytes of cookie lines that are still to come, with separators */
};

/* Known names have their usual spelling, and no copy. */
static bool copy_field(struct reader *reader, enum field_id id, struct span name, struct span value)
{
    if (reader->arena == NULL) {
        return fields_add(reader->fields, id, name, value);
    }
    struct span own_name = id != FIELD_OTHER ? field_name(id) : arena_copy(reader->arena, name);
    struct span own_value = arena_copy(reader->arena, value);
    return own_name.data != NULL && own_value.data != NULL &&
           fields_add(reader->fields, id, own_name, own_value);
}

static size_t cookie_bytes(struct span rest)
{
    struct span name;
    struct span value;
    size_t size = 0;
    while (next_record(&rest, &name, &value)) {
        size += span_equal(name, SPAN("cookie")) ? value.size + 2 : 0;
    }
    return size;
}

/* RFC 9113, 8.2.3: one line, its parts divided by "; ". `rest` is what follows this one. */
static bool join_cookie(struct reader *reader, struct span value, struct span rest)
{
    if (reader->cookie == NULL) {
        reader->cookies_left = cookie_bytes(rest);
        uint8_t *place = arena_alloc(reader->arena, value.size + reader->cookies_left);
        if (place == NULL || !fields_add(reader->fields, FIELD_COOKIE, field_name(FIELD_COOKIE),
                                         span_of(place, 0))) {
            return false;
        }
        reader->cookie = &reader->fields->entries[reader->fields->count - 1];
        reader->cookie_end = place;
    } else {
        ASSERT(reader->cookies_left >= value.size + 2);
        reader->cookies_left -= value.size + 2;
        memcpy(reader->cookie_end, "; ", 2);
        reader->cookie_end += 2;
    }
    if (value.size > 0) {
        memcpy(reader->cookie_end, value.data, value.size);
    }
    reader->cookie_end += value.size;
    reader->cookie->value.size = (size_t)(reader->cookie_end - reader->cookie->value.data);
    return true;
}

/* Reads all records, which are regular fields from here on. */
static enum reason read_fields(struct reader *reader, struct span rest)
{
    struct span name;
    struct span value;
    while (next_record(&rest, &name, &value)) {
        bool has_underscore = false;
        if (!is_name(name, &has_underscore) || !is_value(value)) {
            return REASON_HTTP2_MALFORMED; /* a pseudo-field behind others, too */
        }
        if (has_underscore && reader->drop_aliases && field_aliases_protected(name)) {
            continue;
        }
        enum field_id id = field_identify(name);
        if (is_of_connection(id, value)) {
            return REASON_HTTP2_MALFORMED;
        }
        field_mark_present(&reader->presence, id);
        bool kept = id == FIELD_COOKIE && reader->drop_aliases
                        ? join_cookie(reader, value, rest)
                        : copy_field(reader, id, name, value);
        if (!kept) {
            return REASON_BUFFERS_FULL; /* arenas are sized for it */
        }
    }
    reader->fields->absent = ~reader->presence.seen;
    return REASON_NONE;
}

/* ---- Requests ---- */

struct pseudo {
    struct span method;
    struct span scheme;
    struct span authority;
    struct span path;
    struct span protocol;
};

static struct span *pseudo_place(struct pseudo *pseudo, struct span name)
{
    return span_equal(name, SPAN(":method"))      ? &pseudo->method
           : span_equal(name, SPAN(":scheme"))    ? &pseudo->scheme
           : span_equal(name, SPAN(":authority")) ? &pseudo->authority
           : span_equal(name, SPAN(":path"))      ? &pseudo->path
           : span_equal(name, SPAN(":protocol"))  ? &pseudo->protocol
                                                  : NULL;
}

/* Takes the pseudo-fields off the front: each at most once, none unknown (RFC 9113, 8.3). */
static bool take_pseudo(struct span *rest, struct pseudo *pseudo, struct arena *arena)
{
    struct span name;
    struct span value;
    struct span next = *rest;
    while (next_record(&next, &name, &value) && is_pseudo(name)) {
        struct span *place = pseudo_place(pseudo, name);
        if (place == NULL || place->data != NULL || !is_value(value)) {
            return false;
        }
        *place = arena_copy(arena, value);
        if (place->data == NULL) {
            return false; /* arenas are sized for it */
        }
        *rest = next;
    }
    return true;
}

/* RFC 9113, 8.3.1 and 8.5, RFC 8441, 4: what must be there and what must not. */
static enum reason judge_pseudo(const struct pseudo *pseudo, enum method method)
{
    bool connect = method == METHOD_CONNECT;
    bool extended = pseudo->protocol.data != NULL;
    if (pseudo->method.size == 0 || (extended && (!connect || pseudo->authority.size == 0))) {
        return REASON_HTTP2_MALFORMED;
    }
    if (connect && !extended) {
        bool bare = pseudo->scheme.data == NULL && pseudo->path.data == NULL;
        return bare && pseudo->authority.size > 0 ? REASON_NONE : REASON_HTTP2_MALFORMED;
    }
    bool known_scheme = span_equal_nocase(pseudo->scheme, SPAN("http")) ||
                        span_equal_nocase(pseudo->scheme, SPAN("https"));
    bool origin = pseudo->path.size > 0 && pseudo->path.data[0] == '/';
    bool asterisk = method == METHOD_OPTIONS && span_equal(pseudo->path, SPAN("*"));
    return known_scheme && (origin || asterisk) ? REASON_NONE : REASON_HTTP2_MALFORMED;
}

static bool span_is_token(struct span text)
{
    size_t size = 0;
    while (size < text.size && byte_is_token(text.data[size])) {
        size++;
    }
    return size > 0 && size == text.size;
}

static bool is_method(struct span text)
{
    return text.size <= HTTP1_METHOD_MAX && span_is_token(text);
}

/* Length and end: an ended section has no body, whatever it announces must be nothing. */
static enum reason read_body_facts(struct request_head *head, const struct field_presence *presence,
                                   bool ended)
{
    struct head_body body = {0};
    enum reason reason = head_read_length(&head->fields, presence, &body);
    if (reason != REASON_NONE) {
        return reason;
    }
    if (head->protocol.size > 0) {
        /* What follows is the other protocol's, without a length; its end is not its begin. */
        head->framing = FRAMING_NONE;
        return body.has_length || ended ? REASON_HTTP2_MALFORMED : REASON_NONE;
    }
    if (ended && body.length > 0) {
        return REASON_HTTP2_MALFORMED;
    }
    head->content_length = body.length;
    head->framing = body.has_length ? FRAMING_LENGTH : ended ? FRAMING_NONE : FRAMING_CHUNKED;
    return REASON_NONE;
}

/*
 * It asks for what GET with Upgrade asks for in HTTP/1.1, and is known as that from here on: by
 * routes, by the log and by what is sent to an upstream of HTTP/1.1.
 */
static enum reason read_extended_connect(struct request_head *head, struct span protocol)
{
    if (protocol.size > HTTP2_PROTOCOL_MAX || !span_is_token(protocol)) {
        return REASON_HTTP2_MALFORMED;
    }
    head->protocol = protocol;
    head->method = METHOD_GET;
    head->method_text = SPAN("GET");
    return REASON_NONE;
}

/* Method and target, as far as there are any; the fields' table. */
static enum reason read_start(const struct http2_section *section, struct span *rest,
                              struct arena *arena, struct request_head *head, struct pseudo *pseudo)
{
    bool whole = take_pseudo(rest, pseudo, arena);
    if (is_method(pseudo->method)) {
        head->method_text = pseudo->method;
        head->method = method_identify(pseudo->method);
        bool bare = head->method == METHOD_CONNECT && pseudo->protocol.data == NULL;
        head->target = bare ? pseudo->authority : pseudo->path;
    }
    if (!fields_init(&head->fields, arena, section->fields)) {
        return REASON_BUFFERS_FULL;
    }
    if (!whole) {
        return REASON_HTTP2_MALFORMED;
    }
    enum reason reason = judge_pseudo(pseudo, head->method);
    if (reason == REASON_NONE && pseudo->protocol.data != NULL) {
        return read_extended_connect(head, pseudo->protocol);
    }
    return reason == REASON_NONE && head->method_text.size == 0 ? REASON_BAD_METHOD : reason;
}

static enum reason read_request(const struct http2_section *section, bool ended,
                                const struct http1_limits *limits, struct arena *arena,
                                struct request_head *head)
{
    struct reader reader = {.fields = &head->fields, .arena = arena, .drop_aliases = true};
    struct pseudo pseudo = {0};
    struct span rest = records_of(section);
    struct span authority = SPAN_EMPTY;
    enum reason reason = read_start(section, &rest, arena, head, &pseudo);
    if (reason == REASON_NONE || section->refusal != REASON_NONE) {
        enum reason fields = read_fields(&reader, rest);
        reason = reason != REASON_NONE ? reason : fields;
    }
    if (reason != REASON_NONE || section->refusal != REASON_NONE) {
        head->fields.absent = 0; /* it may have ended before it knew what there is */
        return section->refusal != REASON_NONE ? section->refusal : reason;
    }
    reason = head_read_target(head, limits, arena, &authority);
    if (reason == REASON_NONE) {
        reason = head_read_host(head, &reader.presence, pseudo.authority, arena);
    }
    if (reason == REASON_NONE) {
        reason = read_body_facts(head, &reader.presence, ended);
    }
    if (reason == REASON_NONE) {
        reason = head_read_options(head, &reader.presence);
    }
    bool tunnel = head->method == METHOD_CONNECT;
    return reason == REASON_NONE && tunnel ? REASON_CONNECT_REFUSED : reason;
}

enum status http2_parse_request(const struct http2_section *section, bool ended,
                                const struct http1_limits *limits, struct arena *arena,
                                struct request_head *out, enum reason *reason)
{
    *out = (struct request_head){.version = HTTP_2, .keep_alive = true};
    enum reason why = read_request(section, ended, limits, arena, out);
    if (why == REASON_NONE) {
        return OK;
    }
    *reason = why;
    return ERROR;
}

/* ---- Responses and trailers ---- */

/* Takes `:status`, which is all there may be and comes first (RFC 9113, 8.3.2). */
static bool take_status(struct span *rest, struct response_head *head)
{
    struct span name;
    struct span value;
    uint64_t status = 0;
    if (!next_record(rest, &name, &value) || !span_equal(name, SPAN(":status")) ||
        value.size != 3 || !span_to_u64(value, 599, &status) || status < 100) {
        return false;
    }
    head->status = (uint16_t)status;
    return true;
}

static enum reason read_response(const struct http2_section *section, bool ended,
                                 enum method method, struct arena *arena,
                                 struct response_head *head)
{
    struct reader reader = {.fields = &head->fields, .arena = arena};
    struct head_body body = {0};
    struct span rest = records_of(section);
    if (section->refusal != REASON_NONE) {
        return section->refusal == REASON_BUFFERS_FULL ? REASON_BUFFERS_FULL
                                                       : REASON_RESPONSE_HEAD_TOO_LARGE;
    }
    if (!take_status(&rest, head)) {
        return REASON_BAD_RESPONSE;
    }
    if (!fields_init(&head->fields, arena, section->fields)) {
        return REASON_BUFFERS_FULL;
    }
    if (read_fields(&reader, rest) != REASON_NONE ||
        head_read_length(&head->fields, &reader.presence, &body) != REASON_NONE) {
        return REASON_BAD_RESPONSE;
    }
    /* A head that ends the stream, or says 101, which HTTP/2 does not have (RFC 9113, 8.6). */
    bool interim = head->status < 200;
    if (head->status == 101 || (interim && ended)) {
        return REASON_BAD_RESPONSE;
    }
    body.chunked = !body.has_length && !interim && head->status != 204;
    if (!head_decide_framing(head, method, &body)) {
        return REASON_BAD_RESPONSE;
    }
    if (ended && head->framing != FRAMING_NONE) {
        bool empty = body.length == 0;
        head->framing = FRAMING_LENGTH; /* of nothing, which HTTP/1 has to be told */
        return empty ? REASON_NONE : REASON_BAD_RESPONSE;
    }
    return REASON_NONE;
}

enum status http2_parse_response(const struct http2_section *section, bool ended,
                                 enum method method, struct arena *arena, struct response_head *out,
                                 enum reason *reason)
{
    struct response_head head = {
        .version = HTTP_2, .keep_alive = true, .keep_alive_timeout_s = UINT32_MAX};
    enum reason why = read_response(section, ended, method, arena, &head);
    if (why != REASON_NONE) {
        *reason = why;
        return ERROR;
    }
    *out = head;
    return OK;
}

enum status http2_parse_trailers(const struct http2_section *section, struct fields *fields)
{
    struct reader reader = {.fields = fields};
    ASSERT(section->refusal == REASON_NONE);
    return read_fields(&reader, records_of(section)) == REASON_NONE ? OK : ERROR;
}

/* ---- What we send ---- */

struct http2_rendered http2_render_begin(void *memory, size_t size, size_t fields)
{
    struct http2_rendered rendered = {.entries = memory, .weight = CODED_MAX};
    size_t entries = 0;
    if (__builtin_mul_overflow(fields, sizeof(nghttp2_nv), &entries) || entries > size) {
        rendered.overflowed = true;
        return rendered;
    }
    rendered.capacity = fields;
    rendered.names = output_over((uint8_t *)memory + entries, size - entries);
    return rendered;
}

void http2_render(struct http2_rendered *rendered, struct span name, struct span value)
{
    rendered->weight += name.size + value.size + CODED_MAX;
    if (rendered->count == rendered->capacity || rendered->weight > HEAD_MAX) {
        rendered->overflowed = true;
        return;
    }
    /* Whatever it came from, what would split a message further on must not leave this process. */
    ASSERT(bytes_count_breaks(value) == 0);
    nghttp2_nv *entry = &rendered->entries[rendered->count++];
    entry->name = (uint8_t *)(uintptr_t)name.data; /* only read */
    entry->value = (uint8_t *)(uintptr_t)value.data;
    entry->namelen = name.size;
    entry->valuelen = value.size;
    entry->flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
}

/* Fields that have no place in a section that we send, or are told by other means. */
static bool is_left_out(enum field_id id)
{
    const uint64_t told = UINT64_C(1) << FIELD_HOST | UINT64_C(1) << FIELD_CONTENT_LENGTH;
    return (told >> id & 1) != 0 ||
           (id != FIELD_TE && id != FIELD_TRAILER && (field_flags(id) & FIELD_IS_HOP) != 0);
}

void http2_render_fields(struct http2_rendered *rendered, const struct fields *fields)
{
    size_t count = fields == NULL ? 0 : fields->count;
    for (size_t i = 0; i < count && !rendered->overflowed; i++) {
        const struct field *field = &fields->entries[i];
        if (is_left_out(field->id)) {
            continue;
        }
        uint8_t *name = output_take(&rendered->names, field->name.size);
        if (name == NULL) {
            rendered->overflowed = true;
            return;
        }
        bytes_copy_lower(name, field->name);
        http2_render(rendered, span_of(name, field->name.size), field->value);
    }
}
