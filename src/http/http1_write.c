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

/* A section being written: a start line or nothing, fields, and the empty line. */
struct section {
    struct output *output;
    size_t start; /* where it begins in the output */
    size_t lines; /* begun so far; each brings its own CRLF */
    bool has_te;
};

static struct section begin(struct output *output)
{
    return (struct section){.output = output, .start = output->size};
}

/* Copies width to 2 * width bytes as two pieces, which may overlap; width is a constant. */
__attribute__((always_inline)) static inline void put_ends(uint8_t *place, struct span bytes,
                                                           size_t width)
{
    memcpy(place, bytes.data, width);
    memcpy(place + bytes.size - width, bytes.data + bytes.size - width, width);
}

/* As memcpy, returning the end: names and values are mostly so short that a call costs more. */
static inline uint8_t *put(uint8_t *place, struct span bytes)
{
    if (bytes.size >= 4 && bytes.size <= 32) {
        if (bytes.size >= 16) {
            put_ends(place, bytes, 16);
        } else if (bytes.size >= 8) {
            put_ends(place, bytes, 8);
        } else {
            put_ends(place, bytes, 4);
        }
    } else if (bytes.size > 0) {
        memcpy(place, bytes.data, bytes.size);
    }
    return place + bytes.size;
}

static inline void write_field(struct section *section, struct span name, struct span value)
{
    ASSERT(name.size > 0);
    section->lines++;
    uint8_t *place = output_take(section->output, name.size + value.size + 4);
    if (place != NULL) {
        place = put(place, name);
        memcpy(place, ": ", 2);
        place = put(place + 2, value);
        memcpy(place, "\r\n", 2);
    }
}

/* Appends the fields in order, but ours and the one skipped (FIELD_COUNT for none). */
static void write_fields(struct section *section, const struct fields *fields,
                         enum field_id skipped)
{
    size_t count = fields == NULL ? 0 : fields->count;
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields->entries[i];
        if (is_framing_or_connection(field->id) || field->id == skipped) {
            continue;
        }
        section->has_te = section->has_te || field->id == FIELD_TE;
        write_field(section, field->name, field->value);
    }
}

static void write_framing(struct section *section, const struct http1_delivery *delivery)
{
    switch (delivery->framing) {
    case FRAMING_LENGTH:
        section->lines++;
        OUTPUT_LITERAL(section->output, "Content-Length: ");
        output_u64(section->output, delivery->content_length);
        OUTPUT_LITERAL(section->output, "\r\n");
        return;
    case FRAMING_CHUNKED:
        write_field(section, SPAN("Transfer-Encoding"), SPAN("chunked"));
        return;
    case FRAMING_NONE:
    case FRAMING_CLOSE:
    case FRAMING_TUNNEL:
        return;
    }
    UNREACHABLE("a framing without a name");
}

/* RFC 9110, 7.8, and RFC 6455, 4.1 and 4.2.2, where `key` is the name of one or the other field. */
static void write_switching(struct section *section, const struct switching *switching,
                            struct span key)
{
    write_field(section, SPAN("Connection"),
                section->has_te ? SPAN("Upgrade, TE") : SPAN("Upgrade"));
    write_field(section, SPAN("Upgrade"), switching->protocol);
    if (switching->key.size > 0) {
        write_field(section, key, switching->key);
    }
}

/* A TE field is for the next hop alone, and Connection has to say so (RFC 9110, 10.1.4). */
static void write_connection(struct section *section, enum http1_connection connection)
{
    const struct span name = SPAN("Connection");
    switch (connection) {
    case HTTP1_CONNECTION_CLOSE:
        write_field(section, name, section->has_te ? SPAN("close, TE") : SPAN("close"));
        return;
    case HTTP1_CONNECTION_KEEP_ALIVE:
        write_field(section, name, section->has_te ? SPAN("keep-alive, TE") : SPAN("keep-alive"));
        return;
    case HTTP1_CONNECTION_DEFAULT:
        if (section->has_te) {
            write_field(section, name, SPAN("TE"));
        }
        return;
    }
    UNREACHABLE("a connection option without a name");
}

/*
 * Ends a section with its empty line and asserts that it consists of the lines that were meant. All
 * values come from parsed heads or checked configuration; should a CR, LF or NUL have slipped in,
 * it must not leave this process. Our own CRLFs are all there, so a sum tells of any other byte;
 * where values hold HTAB or bytes above ASCII, the cheaper sum is too large and the exact one
 * counts.
 */
static bool finish(const struct section *section)
{
    OUTPUT_LITERAL(section->output, "\r\n");
    if (section->output->overflowed) {
        return false;
    }
    struct span bytes = span_from(output_bytes(section->output), section->start);
    size_t meant = 2 * (section->lines + 1);
    ASSERT(bytes_count_unprintable(bytes) == meant || bytes_count_breaks(bytes) == meant);
    return true;
}

static void write_request_line(struct section *section, const struct http1_request_line *line)
{
    struct output *output = section->output;
    section->lines++;
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
    struct section section = begin(output);
    write_request_line(&section, line);
    write_field(&section, SPAN("Host"), line->host);
    write_fields(&section, fields, FIELD_HOST);
    write_framing(&section, delivery);
    if (delivery->switching != NULL) {
        write_switching(&section, delivery->switching, SPAN("Sec-WebSocket-Key"));
    } else {
        write_connection(&section, delivery->connection);
    }
    return finish(&section);
}

static void write_status_line(struct section *section, uint16_t status)
{
    struct output *output = section->output;
    section->lines++;
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
    struct section section = begin(output);
    write_status_line(&section, status);
    write_fields(&section, fields, FIELD_COUNT);
    section.has_te = false; /* means nothing in a response, and asks for nothing */
    if (status >= 200 && status != 204) {
        write_framing(&section, delivery);
    }
    if (status >= 200) {
        write_connection(&section, delivery->connection);
    } else if (delivery->switching != NULL) {
        write_switching(&section, delivery->switching, SPAN("Sec-WebSocket-Accept"));
    }
    return finish(&section);
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
    struct section section = begin(output);
    section.lines++;
    OUTPUT_LITERAL(output, "0\r\n");
    write_fields(&section, trailers, FIELD_HOST);
    return finish(&section);
}
