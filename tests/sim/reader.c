#include "reader.h"

#include "base/assert.h"

void reader_reset(struct reader *reader)
{
    reader->state = READER_HEAD;
    reader->left = 0;
    reader->body = 0;
    reader->line_size = 0;
    reader->head_size = 0;
}

static size_t feed_head(struct reader *reader, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (reader->head_size == READER_HEAD_MAX) {
            reader->state = READER_BAD;
            return i;
        }
        reader->head[reader->head_size++] = bytes[i];
        if (reader->head_size >= 4 &&
            memcmp(reader->head + reader->head_size - 4, "\r\n\r\n", 4) == 0) {
            reader->state = READER_HEAD_READY;
            return i + 1;
        }
    }
    return size;
}

/* Whether a line of the chunked coding is complete, without its CRLF, in reader->line. */
static bool take_line_byte(struct reader *reader, uint8_t byte)
{
    if (reader->line_size == sizeof(reader->line)) {
        reader->state = READER_BAD;
        return false;
    }
    reader->line[reader->line_size++] = (char)byte;
    if (byte != '\n') {
        return false;
    }
    if (reader->line_size < 2 || reader->line[reader->line_size - 2] != '\r') {
        reader->state = READER_BAD;
        return false;
    }
    reader->line_size -= 2;
    return true;
}

static void end_of_chunk_line(struct reader *reader)
{
    uint64_t size = 0;
    if (reader->line_size == 0 || reader->line_size > 8) {
        reader->state = READER_BAD; /* neither the proxy nor an actor writes extensions */
        return;
    }
    for (size_t i = 0; i < reader->line_size; i++) {
        int digit = ascii_hex_value((uint8_t)reader->line[i]);
        if (digit < 0) {
            reader->state = READER_BAD;
            return;
        }
        size = size * 16 + (uint64_t)digit;
    }
    reader->left = size;
    reader->state = size == 0 ? READER_TRAILERS : READER_CHUNK_DATA;
}

static void end_of_line(struct reader *reader)
{
    if (reader->state == READER_CHUNK_LINE) {
        end_of_chunk_line(reader);
    } else if (reader->state == READER_CHUNK_END) {
        reader->state = reader->line_size == 0 ? READER_CHUNK_LINE : READER_BAD;
    } else if (reader->line_size == 0) {
        reader->state = READER_DONE;
    }
    reader->line_size = 0;
}

static size_t feed_line(struct reader *reader, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (take_line_byte(reader, bytes[i])) {
            end_of_line(reader);
            return i + 1;
        }
        if (reader->state == READER_BAD) {
            return i;
        }
    }
    return size;
}

static size_t feed_data(struct reader *reader, const uint8_t *bytes, size_t size, struct span *body)
{
    size_t taken = size;
    if (reader->state != READER_UNTIL_CLOSE) {
        taken = size < reader->left ? size : (size_t)reader->left;
        reader->left -= taken;
    }
    *body = span_of(bytes, taken);
    reader->body += taken;
    if (reader->left == 0 && reader->state == READER_LENGTH) {
        reader->state = READER_DONE;
    } else if (reader->left == 0 && reader->state == READER_CHUNK_DATA) {
        reader->state = READER_CHUNK_END;
    }
    return taken;
}

size_t reader_feed(struct reader *reader, const uint8_t *bytes, size_t size, struct span *body)
{
    *body = SPAN_EMPTY;
    switch (reader->state) {
    case READER_HEAD:
        return feed_head(reader, bytes, size);
    case READER_CHUNK_LINE:
    case READER_CHUNK_END:
    case READER_TRAILERS:
        return feed_line(reader, bytes, size);
    case READER_LENGTH:
    case READER_CHUNK_DATA:
    case READER_UNTIL_CLOSE:
        return feed_data(reader, bytes, size, body);
    case READER_HEAD_READY:
    case READER_DONE:
    case READER_BAD:
        return 0;
    }
    UNREACHABLE("a reader in no state");
}

void reader_body(struct reader *reader, enum reader_framing framing, uint64_t length)
{
    ASSERT(reader->state == READER_HEAD_READY);
    reader->left = 0;
    switch (framing) {
    case BODY_NONE:
        reader->state = READER_DONE;
        break;
    case BODY_LENGTH:
        reader->left = length;
        reader->state = length == 0 ? READER_DONE : READER_LENGTH;
        break;
    case BODY_CHUNKED:
        reader->state = READER_CHUNK_LINE;
        break;
    case BODY_CLOSE:
        reader->state = READER_UNTIL_CLOSE;
        break;
    }
}

void reader_end(struct reader *reader)
{
    reader->state = reader->state == READER_UNTIL_CLOSE ? READER_DONE : READER_BAD;
}

static struct span next_line(struct span *rest)
{
    size_t end = span_find(*rest, '\n');
    struct span line = span_first(*rest, end);
    *rest = span_from(*rest, end < rest->size ? end + 1 : end);
    return line.size > 0 && line.data[line.size - 1] == '\r' ? span_first(line, line.size - 1)
                                                             : line;
}

struct span reader_first_line(const struct reader *reader)
{
    struct span rest = span_of(reader->head, reader->head_size);
    return next_line(&rest);
}

struct span reader_field(const struct reader *reader, const char *name)
{
    struct span rest = span_of(reader->head, reader->head_size);
    struct span wanted = span_of_string(name);
    (void)next_line(&rest);
    while (rest.size > 0) {
        struct span line = next_line(&rest);
        size_t colon = span_find(line, ':');
        if (colon < line.size && span_equal_nocase(span_first(line, colon), wanted)) {
            return span_trim(span_from(line, colon + 1));
        }
    }
    return SPAN_EMPTY;
}

bool reader_framing(const struct reader *reader, enum reader_framing *framing, uint64_t *length)
{
    struct span coding = reader_field(reader, "Transfer-Encoding");
    struct span size = reader_field(reader, "Content-Length");
    *framing = BODY_NONE;
    if (coding.data != NULL) {
        *framing = BODY_CHUNKED;
        return size.data == NULL && span_equal_nocase(coding, SPAN("chunked"));
    }
    if (size.data != NULL) {
        *framing = BODY_LENGTH;
        return span_to_u64(size, UINT64_C(1) << 40, length);
    }
    return true;
}

uint64_t digits_at(struct span text, size_t offset)
{
    uint64_t value = 0;
    size_t at = offset;
    while (at < text.size && ascii_is_digit(text.data[at]) && at - offset < 18) {
        value = value * 10 + (uint64_t)(text.data[at++] - '0');
    }
    return at == offset ? UINT64_MAX : value;
}
