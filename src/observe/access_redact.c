/*
 * What must not be read is taken out before a line is made, so that no secret reaches the ring.
 */
#include "observe/access_format.h"

static void append(struct output *output, struct span text)
{
    size_t room = output->capacity - output->size;
    output_span(output, span_first(text, text.size < room ? text.size : room));
}

/* The next byte of a query's name as the application will read it. */
static uint8_t decode(struct span *rest)
{
    uint8_t byte = rest->data[0];
    int high = rest->size > 2 ? ascii_hex_value(rest->data[1]) : -1;
    int low = rest->size > 2 ? ascii_hex_value(rest->data[2]) : -1;
    if (byte == '%' && high >= 0 && low >= 0) {
        *rest = span_from(*rest, 3);
        return ascii_lower((uint8_t)(high * 16 + low));
    }
    *rest = span_from(*rest, 1);
    return byte == '+' ? ' ' : ascii_lower(byte);
}

static bool is_name(struct span text, struct span name)
{
    size_t at = 0;
    while (text.size > 0 && at < name.size) {
        if (decode(&text) != name.data[at++]) {
            return false;
        }
    }
    return text.size == 0 && at == name.size;
}

static bool is_secret(const struct access_log *log, struct span text)
{
    const struct ref *names = generation_array(log->generation, log->access->query_names);
    for (uint32_t i = 0; i < log->access->query_names.count; i++) {
        if (is_name(text, generation_text(log->generation, names[i]))) {
            return true;
        }
    }
    return false;
}

/*
 * A parameter begins behind `&` or `;`, for some servers read both so, or behind `#`, and `?`
 * behind that, since tokens travel in the fragment of a Location as well. A secret value ends at
 * `&` only, for others take the rest for a part of it.
 */
static void append_query(const struct access_log *log, struct output *output, struct span query)
{
    while (query.size > 0 && output->size < output->capacity) {
        size_t ampersand = span_find(query, '&');
        size_t end = span_find(span_first(query, ampersand), ';');
        end = span_find(span_first(query, end), '#');
        end = span_find(span_first(query, end), '?');
        size_t equals = span_find(span_first(query, end), '=');
        if (equals < end && is_secret(log, span_first(query, equals))) {
            append(output, span_first(query, equals + 1));
            append(output, SPAN(ACCESS_REDACTED));
            end = ampersand;
        } else {
            append(output, span_first(query, end));
        }
        if (end < query.size) {
            append(output, span_of(query.data + end, 1));
            end++;
        }
        query = span_from(query, end);
    }
}

/*
 * Takes the authority off the front of a target that has one, without the name and password that
 * may stand in it (RFC 3986, 3.2.1): no server gets these, and no log should.
 */
static struct span append_authority(struct output *output, struct span target)
{
    size_t begin = 0;
    size_t colon = span_find(target, ':');
    if (span_starts_with(target, SPAN("//"))) {
        begin = 2; /* the scheme is that of the page which the reference stands in */
    } else if (span_starts_with(span_from(target, colon), SPAN("://"))) {
        begin = colon + 3;
    }
    size_t end = begin;
    size_t userinfo = begin; /* its end */
    while (end < target.size && target.data[end] != '/' && target.data[end] != '?' &&
           target.data[end] != '#') {
        userinfo = target.data[end] == '@' ? end : userinfo;
        end++;
    }
    append(output, span_first(target, begin));
    if (userinfo > begin) {
        append(output, SPAN(ACCESS_REDACTED));
    }
    append(output, span_from(span_first(target, end), userinfo));
    return span_from(target, end);
}

/* Redacts a target, or any URL, that is a path, or may have an authority in front of it. */
static struct span redact(struct access_log *log, struct span target, bool is_path)
{
    if (target.size == 0 || (is_path && access_shows_targets(log))) {
        return target;
    }
    if (access_redacts(log, ACCESS_REDACT_PATH)) {
        return SPAN(ACCESS_REDACTED);
    }
    struct output output = output_over(log->scratch, sizeof(log->scratch));
    if (!is_path) {
        target = append_authority(&output, target);
    }
    size_t mark = span_find(target, '?');
    mark = span_find(span_first(target, mark), '#'); /* in a URL out of a field */
    if (mark == target.size) {
        append(&output, target);
        return output_bytes(&output);
    }
    append(&output, span_first(target, mark + 1));
    if (access_redacts(log, ACCESS_REDACT_QUERY)) {
        append(&output, SPAN(ACCESS_REDACTED));
    } else if (access_shows_targets(log)) {
        append(&output, span_from(target, mark + 1));
    } else {
        append_query(log, &output, span_from(target, mark + 1));
    }
    return output_bytes(&output);
}

static bool begins_as_path(struct span target)
{
    return target.size > 0 && target.data[0] == '/';
}

struct span access_redact_target(struct access_log *log, struct span target)
{
    return redact(log, target, begins_as_path(target));
}

/* Here a `//` begins an authority (RFC 3986, 4.2). */
static struct span redact_reference(struct access_log *log, struct span reference)
{
    bool is_path = begins_as_path(reference) && !span_starts_with(reference, SPAN("//"));
    return redact(log, reference, is_path);
}

static bool is_captured(const struct field *field, const struct generation_captured *captured,
                        struct span name)
{
    return captured->field == FIELD_OTHER
               ? field->id == FIELD_OTHER && span_equal_nocase(field->name, name)
               : field->id == captured->field;
}

struct span access_captured_value(struct access_log *log,
                                  const struct generation_captured *captured,
                                  const struct fields *fields)
{
    struct span name = generation_text(log->generation, captured->name);
    struct span value = SPAN_EMPTY;
    struct output joined = output_over(log->scratch, ACCESS_HEADER_MAX + 1);
    for (size_t i = 0; fields != NULL && i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        if (!is_captured(field, captured, name)) {
            continue;
        }
        if (captured->redacted != 0) {
            return SPAN(ACCESS_REDACTED);
        }
        if (captured->field == FIELD_REFERER || captured->field == FIELD_LOCATION) {
            return redact_reference(log, field->value);
        }
        if (value.data == NULL) {
            value = field->value.data != NULL ? field->value : SPAN("");
            continue;
        }
        if (joined.size == 0) {
            append(&joined, value);
        }
        append(&joined, SPAN(", "));
        append(&joined, field->value);
        value = output_bytes(&joined);
    }
    return value;
}
