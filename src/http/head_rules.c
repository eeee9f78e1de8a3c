#include "http/head_rules.h"

#include "base/assert.h"
#include "http/target.h"

/* Whether a list holds this token. */
static bool list_has(struct span list, struct span token)
{
    struct span element;
    while (span_next_element(&list, &element)) {
        if (span_equal_nocase(element, token)) {
            return true;
        }
    }
    return false;
}

bool field_list_has(const struct fields *fields, const struct field_presence *presence,
                    enum field_id id, struct span token)
{
    const struct field *field = fields_find(fields, id);
    const struct field *end = fields->entries + fields->count;
    if (!field_is_repeated(presence, id)) {
        return list_has(field->value, token);
    }
    for (; field < end; field++) {
        if (field->id == id && list_has(field->value, token)) {
            return true;
        }
    }
    return false;
}

enum reason head_read_length(const struct fields *fields, const struct field_presence *presence,
                             struct head_body *body)
{
    if (!field_is_present(presence, FIELD_CONTENT_LENGTH)) {
        return REASON_NONE;
    }
    struct span length = fields_find(fields, FIELD_CONTENT_LENGTH)->value;
    if (field_is_repeated(presence, FIELD_CONTENT_LENGTH) ||
        !span_to_u64(length, INT64_MAX, &body->length)) {
        return REASON_BAD_CONTENT_LENGTH;
    }
    body->has_length = true;
    return REASON_NONE;
}

enum reason head_read_target(struct request_head *head, const struct http1_limits *limits,
                             struct arena *arena, struct span *authority)
{
    struct target target;
    struct target_path path;
    enum reason reason = REASON_NONE;
    if (target_split(head->target, head->method, &target, &reason) != OK) {
        return reason;
    }
    head->target_form = target.form;
    head->query = target.query;
    head->path = target.path;
    *authority = target.authority;
    if (target.path.size > 0 && !span_equal(target.path, SPAN("*"))) {
        if (target_canonical_path(target.path, limits->merge_slashes, arena, &path, &reason) !=
            OK) {
            return reason;
        }
        if (path.path.size > limits->request_line_max) {
            return REASON_URI_TOO_LONG; /* by its escapes: nor could it be sent on */
        }
        head->path = path.path;
        head->encoded_slash = path.encoded_slash;
        head->encoded_backslash = path.encoded_backslash;
    }
    return REASON_NONE;
}

enum reason head_read_host(struct request_head *head, const struct field_presence *presence,
                           struct span in_target, struct arena *arena)
{
    struct authority authority;
    bool present = field_is_present(presence, FIELD_HOST);
    if (field_is_repeated(presence, FIELD_HOST) || (!present && head->version == HTTP_1_1)) {
        return REASON_BAD_HOST;
    }
    struct span text = present ? fields_find(&head->fields, FIELD_HOST)->value : in_target;
    if (text.data == NULL) {
        return head->version == HTTP_2 ? REASON_BAD_HOST : REASON_NONE;
    }
    if (in_target.data != NULL && !span_equal_nocase(text, in_target)) {
        return REASON_BAD_HOST;
    }
    if (!target_parse_authority(text, arena, &authority)) {
        return arena->overflowed ? REASON_BUFFERS_FULL : REASON_BAD_HOST;
    }
    if (head->method == METHOD_CONNECT && !authority.has_port) {
        return REASON_BAD_TARGET;
    }
    head->authority = text;
    head->host = authority.host;
    return REASON_NONE;
}

enum reason head_read_options(struct request_head *head, const struct field_presence *presence)
{
    head->max_forwards = UINT64_MAX;
    head->te_trailers = field_is_present(presence, FIELD_TE) &&
                        field_list_has(&head->fields, presence, FIELD_TE, SPAN("trailers"));
    if (field_is_present(presence, FIELD_EXPECT)) {
        if (field_is_repeated(presence, FIELD_EXPECT) ||
            !span_equal_nocase(fields_find(&head->fields, FIELD_EXPECT)->value,
                               SPAN("100-continue"))) {
            return REASON_BAD_EXPECT;
        }
        /* To be ignored from HTTP/1.0 (RFC 9110, 10.1.1), and pointless without a body. */
        bool has_body = head->framing == FRAMING_CHUNKED || head->content_length > 0;
        head->expect_continue = head->version != HTTP_1_0 && has_body;
    }
    if (field_is_present(presence, FIELD_MAX_FORWARDS) &&
        (field_is_repeated(presence, FIELD_MAX_FORWARDS) ||
         !span_to_u64(fields_find(&head->fields, FIELD_MAX_FORWARDS)->value, UINT64_MAX - 1,
                      &head->max_forwards))) {
        return REASON_TRACE_LOOP;
    }
    return REASON_NONE;
}

bool head_asks_upgrade(const struct request_head *head, const struct field_presence *presence)
{
    bool has_body = head->framing == FRAMING_CHUNKED || head->content_length > 0;
    return head->version == HTTP_1_1 && !has_body && field_is_present(presence, FIELD_UPGRADE) &&
           field_is_present(presence, FIELD_CONNECTION) &&
           field_list_has(&head->fields, presence, FIELD_CONNECTION, SPAN("upgrade"));
}

bool head_decide_framing(struct response_head *head, enum method method,
                         const struct head_body *body)
{
    bool interim = head->status < 200;
    bool announces = body->chunked || body->length > 0;
    if (interim || head->status == 204) {
        /* RFC 9110, 8.6 and 9112, 6.1 forbid both fields here. After a 204 with one, the peer may
         * well send the body it announced: such a connection is not used again. */
        head->keep_alive = head->keep_alive && !announces;
        head->framing = FRAMING_NONE;
        return !(interim && announces);
    }
    head->has_content_length = body->has_length;
    head->content_length = body->length;
    if (method == METHOD_HEAD || head->status == 304) {
        head->framing = FRAMING_NONE;
    } else if (body->chunked) {
        head->framing = FRAMING_CHUNKED;
    } else if (body->has_length) {
        head->framing = FRAMING_LENGTH;
    } else {
        head->framing = FRAMING_CLOSE;
        head->keep_alive = false;
    }
    return true;
}
