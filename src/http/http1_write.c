#include "http/http1_write.h"

#include "base/assert.h"
#include "http/bytes.h"

/* The fields that say what only the delivery may say (RFC 9112, 6 and 9). */
static bool is_framing_or_connection(enum field_id id)
{
    static_assert(FIELD_COUNT <= 64, "one bit for each known field");
    const uint64_t ours = UINT64_C(1) << FIELD_CONTENT_LENGTH |
                          UINT64_C(1) << FIELD_TRANSFER_ENCODING | UINT64_C(1) << FIELD_CONNECTION |
                          UINT64_C(1) << FIELD_KEEP_ALIVE;
    return (ours >> id & 1) != 0;
}

static void write_field(struct output *output, struct span name, struct span value)
{
    uint8_t *place = output_take(output, name.size + value.size + 4);
    if (place == NULL) {
        return;
    }
    memcpy(place, name.data, name.size);
    place += name.size;
    *place++ = ':';
    *place++ = ' ';
    if (value.size > 0) {
        memcpy(place, value.data, value.size);
    }
    place += value.size;
    *place++ = '\r';
    *place = '\n';
}

/* Appends the fields in order, but ours and the one skipped (FIELD_COUNT for none); counts them. */
static size_t write_fields(struct output *output, const struct fields *fields,
                           enum field_id skipped)
{
    size_t lines = 0;
    for (size_t i = 0; fields != NULL && i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        if (is_framing_or_connection(field->id) || field->id == skipped) {
            continue;
        }
        ASSERT(field->name.size > 0);
        write_field(output, field->name, field->value);
        lines++;
    }
    return lines;
}

static size_t write_framing(struct output *output, const struct http1_delivery *delivery)
{
    switch (delivery->framing) {
    case FRAMING_LENGTH:
        OUTPUT_LITERAL(output, "Content-Length: ");
        output_u64(output, delivery->content_length);
        OUTPUT_LITERAL(output, "\r\n");
        return 1;
    case FRAMING_CHUNKED:
        OUTPUT_LITERAL(output, "Transfer-Encoding: chunked\r\n");
        return 1;
    case FRAMING_NONE:
    case FRAMING_CLOSE:
        return 0;
    }
    UNREACHABLE("a framing without a name");
}

static size_t write_connection(struct output *output, enum http1_connection connection)
{
    switch (connection) {
    case HTTP1_CONNECTION_CLOSE:
        OUTPUT_LITERAL(output, "Connection: close\r\n");
        return 1;
    case HTTP1_CONNECTION_KEEP_ALIVE:
        OUTPUT_LITERAL(output, "Connection: keep-alive\r\n");
        return 1;
    case HTTP1_CONNECTION_DEFAULT:
        return 0;
    }
    UNREACHABLE("a connection option without a name");
}

/*
 * Ends a section with its empty line and asserts that it consists of the lines that were meant. All
 * values come from parsed heads or checked configuration; should a CR, LF or NUL have slipped in,
 * it must not leave this process.
 */
static bool finish(struct output *output, size_t start, size_t lines)
{
    OUTPUT_LITERAL(output, "\r\n");
    if (output->overflowed) {
        return false;
    }
    struct line_count count = bytes_count_lines(span_from(output_bytes(output), start));
    ASSERT(count.line_feeds == lines + 1);
    ASSERT(count.carriage_returns == lines + 1);
    ASSERT(count.nuls == 0);
    return true;
}

static void write_request_line(struct output *output, const struct http1_request_line *line)
{
    output_span(output, line->method);
    output_byte(output, ' ');
    output_span(output, line->path);
    if (line->query.data != NULL) {
        output_byte(output, '?');
        output_span(output, line->query);
    }
    OUTPUT_LITERAL(output, " HTTP/1.1\r\n");
}

bool http1_write_request(struct output *output, const struct http1_request_line *line,
                         const struct fields *fields, const struct http1_delivery *delivery)
{
    ASSERT(line->method.size > 0 && line->path.size > 0 && line->host.size > 0);
    ASSERT(delivery->framing != FRAMING_CLOSE);
    size_t start = output->size;
    size_t lines = 2;
    write_request_line(output, line);
    write_field(output, SPAN("Host"), line->host);
    lines += write_fields(output, fields, FIELD_HOST);
    lines += write_framing(output, delivery);
    lines += write_connection(output, delivery->connection);
    return finish(output, start, lines);
}

static void write_status_line(struct output *output, uint16_t status)
{
    OUTPUT_LITERAL(output, "HTTP/1.1 ");
    output_u64(output, status);
    output_byte(output, ' ');
    output_span(output, span_of_string(status_phrase(status)));
    OUTPUT_LITERAL(output, "\r\n");
}

bool http1_write_response(struct output *output, uint16_t status, const struct fields *fields,
                          const struct http1_delivery *delivery)
{
    ASSERT(status >= 100 && status <= 599);
    size_t start = output->size;
    size_t lines = 1;
    write_status_line(output, status);
    lines += write_fields(output, fields, FIELD_COUNT);
    if (status >= 200 && status != 204) {
        lines += write_framing(output, delivery);
    }
    if (status >= 200) {
        lines += write_connection(output, delivery->connection);
    }
    return finish(output, start, lines);
}

bool http1_write_chunk_header(struct output *output, uint64_t size)
{
    ASSERT(size > 0);
    output_hex(output, size);
    OUTPUT_LITERAL(output, "\r\n");
    return !output->overflowed;
}

bool http1_write_chunk_end(struct output *output)
{
    OUTPUT_LITERAL(output, "\r\n");
    return !output->overflowed;
}

bool http1_write_last_chunk(struct output *output, const struct fields *trailers)
{
    size_t start = output->size;
    OUTPUT_LITERAL(output, "0\r\n");
    size_t lines = 1 + write_fields(output, trailers, FIELD_HOST);
    return finish(output, start, lines);
}
