/*
 * The chunked coding as a machine over bytes; only chunk data and trailer fields are taken in runs.
 *
 *   SIZE ─► SIZE_DIGITS ─┬───────────────► SIZE_LF ─► DATA ─► DATA_CR ─► DATA_LF ─► SIZE
 *                        └─► extensions ──┘   │
 *                                             └ size 0 ─► TRAILER_START ─┬─► TRAILER_LF ─► DONE
 *                                                                        └─► TRAILERS ───► DONE
 *
 * Extensions (RFC 9112, 7.1.1) are `*( BWS ";" BWS name [ BWS "=" BWS value ] )`: the states from
 * EXT_GAP to EXT_QUOTED_END follow that grammar, so that nothing in them can be taken for a line
 * end.
 */
#include "http/http1_chunked.h"

#include "base/assert.h"
#include "http/bytes.h"

enum chunk_state {
    CHUNK_SIZE,        /* the first digit */
    CHUNK_SIZE_DIGITS, /* further digits, or what ends the size */
    CHUNK_EXT_GAP,     /* white space before `;` */
    CHUNK_EXT_START,   /* after `;`: white space, then a name */
    CHUNK_EXT_NAME,
    CHUNK_EXT_NAME_GAP,    /* white space after a name: `=` or `;` */
    CHUNK_EXT_VALUE_START, /* after `=`: white space, then a token or a quoted string */
    CHUNK_EXT_VALUE,
    CHUNK_EXT_QUOTED,
    CHUNK_EXT_QUOTED_PAIR,
    CHUNK_EXT_QUOTED_END,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER_START,
    CHUNK_TRAILER_LF,
    CHUNK_TRAILERS,
    CHUNK_DONE,
    CHUNK_BROKEN,
};

void http1_chunked_init(struct http1_chunked *chunked, enum http1_kind kind, struct arena *arena)
{
    ASSERT(kind == HTTP1_REQUEST || kind == HTTP1_RESPONSE);
    ASSERT(arena != NULL);
    *chunked = (struct http1_chunked){.kind = kind, .state = CHUNK_SIZE, .arena = arena};
}

static enum chunk_state after_size_byte(struct http1_chunked *chunked, uint8_t byte)
{
    int digit = ascii_hex_value(byte);
    if (digit >= 0) {
        /* As many digits as fit the integer, so the shift cannot lose a bit. */
        static_assert(HTTP1_CHUNK_SIZE_DIGITS_MAX * 4 == sizeof(chunked->remaining) * 8,
                      "the digits of a chunk size fill an uint64_t");
        if (chunked->size_digits == HTTP1_CHUNK_SIZE_DIGITS_MAX) {
            return CHUNK_BROKEN;
        }
        chunked->size_digits++;
        chunked->remaining = chunked->remaining << 4 | (uint64_t)digit;
        return CHUNK_SIZE_DIGITS;
    }
    if (chunked->size_digits == 0) {
        return CHUNK_BROKEN;
    }
    switch (byte) {
    case '\r':
        return CHUNK_SIZE_LF;
    case ';':
        return CHUNK_EXT_START;
    case ' ':
    case '\t':
        return CHUNK_EXT_GAP;
    default:
        return CHUNK_BROKEN;
    }
}

/* The end of a name or value: the next extension, the end of the line, or white space. */
static enum chunk_state after_extension_part(uint8_t byte, enum chunk_state gap)
{
    switch (byte) {
    case '\r':
        return CHUNK_SIZE_LF;
    case ';':
        return CHUNK_EXT_START;
    case ' ':
    case '\t':
        return gap;
    default:
        return CHUNK_BROKEN;
    }
}

/* Where white space may stand: stays in the gap, or goes on with one of two bytes. */
static enum chunk_state after_gap(uint8_t byte, enum chunk_state gap, bool equals_allowed)
{
    if (byte == ' ' || byte == '\t') {
        return gap;
    }
    if (byte == ';') {
        return CHUNK_EXT_START;
    }
    return byte == '=' && equals_allowed ? CHUNK_EXT_VALUE_START : CHUNK_BROKEN;
}

static enum chunk_state after_extension_start(uint8_t byte, enum chunk_state state)
{
    if (byte == ' ' || byte == '\t') {
        return state;
    }
    if (byte_is_token(byte)) {
        return state == CHUNK_EXT_START ? CHUNK_EXT_NAME : CHUNK_EXT_VALUE;
    }
    return byte == '"' && state == CHUNK_EXT_VALUE_START ? CHUNK_EXT_QUOTED : CHUNK_BROKEN;
}

static enum chunk_state after_quoted_byte(uint8_t byte, enum chunk_state state)
{
    if (byte_is_control(byte)) {
        return CHUNK_BROKEN;
    }
    if (state == CHUNK_EXT_QUOTED_PAIR) {
        return CHUNK_EXT_QUOTED;
    }
    return byte == '"' ? CHUNK_EXT_QUOTED_END : byte == '\\' ? CHUNK_EXT_QUOTED_PAIR : state;
}

/* One byte of an extension, counted against both bounds. */
static enum chunk_state after_extension_byte(struct http1_chunked *chunked, uint8_t byte)
{
    enum chunk_state state = chunked->state;
    if (++chunked->extension_bytes > HTTP1_CHUNK_EXTENSION_MAX ||
        ++chunked->extension_bytes_total > HTTP1_CHUNK_EXTENSIONS_MAX) {
        return CHUNK_BROKEN;
    }
    if (state == CHUNK_EXT_GAP) {
        return after_gap(byte, state, false);
    }
    if (state == CHUNK_EXT_NAME_GAP) {
        return after_gap(byte, state, true);
    }
    if (state == CHUNK_EXT_START || state == CHUNK_EXT_VALUE_START) {
        return after_extension_start(byte, state);
    }
    if (state == CHUNK_EXT_QUOTED || state == CHUNK_EXT_QUOTED_PAIR) {
        return after_quoted_byte(byte, state);
    }
    if (state == CHUNK_EXT_NAME && byte == '=') {
        return CHUNK_EXT_VALUE_START;
    }
    if (state != CHUNK_EXT_QUOTED_END && byte_is_token(byte)) {
        return state;
    }
    return after_extension_part(byte, state == CHUNK_EXT_NAME ? CHUNK_EXT_NAME_GAP : CHUNK_EXT_GAP);
}

/* The size line is complete: data follows, or the trailer section. */
static enum chunk_state after_size_line(struct http1_chunked *chunked)
{
    chunked->size_digits = 0;
    chunked->extension_bytes = 0;
    return chunked->remaining > 0 ? CHUNK_DATA : CHUNK_TRAILER_START;
}

static enum chunk_state after_byte(struct http1_chunked *chunked, uint8_t byte)
{
    switch ((enum chunk_state)chunked->state) {
    case CHUNK_SIZE:
    case CHUNK_SIZE_DIGITS:
        return after_size_byte(chunked, byte);
    case CHUNK_EXT_GAP:
    case CHUNK_EXT_START:
    case CHUNK_EXT_NAME:
    case CHUNK_EXT_NAME_GAP:
    case CHUNK_EXT_VALUE_START:
    case CHUNK_EXT_VALUE:
    case CHUNK_EXT_QUOTED:
    case CHUNK_EXT_QUOTED_PAIR:
    case CHUNK_EXT_QUOTED_END:
        return after_extension_byte(chunked, byte);
    case CHUNK_SIZE_LF:
        return byte == '\n' ? after_size_line(chunked) : CHUNK_BROKEN;
    case CHUNK_DATA_CR:
        return byte == '\r' ? CHUNK_DATA_LF : CHUNK_BROKEN;
    case CHUNK_DATA_LF:
        return byte == '\n' ? CHUNK_SIZE : CHUNK_BROKEN;
    case CHUNK_TRAILER_LF:
        return byte == '\n' ? CHUNK_DONE : CHUNK_BROKEN;
    case CHUNK_DATA:
    case CHUNK_TRAILER_START:
    case CHUNK_TRAILERS:
    case CHUNK_DONE:
    case CHUNK_BROKEN:
        break;
    }
    UNREACHABLE("a state of the chunked coding that is not decided by one byte");
}

/* Takes as much chunk data as there is, moving it up to the data decoded before in this call. */
static size_t take_data(struct http1_chunked *chunked, uint8_t *data, size_t size,
                        struct http1_chunked_result *result)
{
    size_t taken = chunked->remaining < size ? (size_t)chunked->remaining : size;
    if (result->body.size == 0) {
        result->body.data = data;
    }
    /* What lies between the decoded bytes and these: sizes and line ends, already consumed. */
    size_t gap = (size_t)(data - result->body.data) - result->body.size;
    ASSERT(gap <= (size_t)(data - result->body.data));
    if (gap > 0) {
        memmove(data - gap, data, taken);
    }
    result->body.size += taken;
    chunked->remaining -= taken;
    if (chunked->remaining == 0) {
        chunked->state = CHUNK_DATA_CR;
    }
    return taken;
}

/* The first byte after the last chunk: the empty line, or a field for which memory is taken now. */
static enum reason start_trailers(struct http1_chunked *chunked, uint8_t byte, size_t *taken)
{
    if (byte == '\r') {
        chunked->state = CHUNK_TRAILER_LF;
        *taken = 1;
        return REASON_NONE;
    }
    chunked->trailer_bytes = arena_alloc(chunked->arena, HTTP1_TRAILERS_MAX);
    if (chunked->trailer_bytes == NULL ||
        !fields_init(&chunked->trailers, chunked->arena, HTTP1_TRAILER_FIELDS_MAX)) {
        return REASON_BUFFERS_FULL;
    }
    http1_scan_init(&chunked->trailer_scan, HTTP1_TRAILERS);
    chunked->state = CHUNK_TRAILERS;
    *taken = 0;
    return REASON_NONE;
}

/* Collects the trailer section until its empty line, then parses it. */
static enum reason take_trailers(struct http1_chunked *chunked, struct span bytes, size_t *taken)
{
    static const struct http1_limits limits = {
        .request_line_max = 1,
        .head_max = HTTP1_TRAILERS_MAX,
        .fields_max = HTTP1_TRAILER_FIELDS_MAX,
    };
    size_t before = chunked->trailer_size;
    size_t room = HTTP1_TRAILERS_MAX - before;
    size_t copied = bytes.size < room ? bytes.size : room;
    enum reason reason = REASON_NONE;
    memcpy(chunked->trailer_bytes + before, bytes.data, copied);
    chunked->trailer_size += copied;
    struct span collected = span_of(chunked->trailer_bytes, chunked->trailer_size);
    switch (http1_scan_head(&chunked->trailer_scan, collected, &limits, &reason)) {
    case AGAIN:
        *taken = copied;
        return REASON_NONE;
    case OK:
        break;
    case END:
    case ERROR:
        return REASON_BAD_TRAILER;
    }
    chunked->trailer_size = chunked->trailer_scan.head_size;
    *taken = chunked->trailer_size - before;
    struct span section = span_first(collected, chunked->trailer_size);
    if (http1_parse_trailers(section, &chunked->trailers, &reason) != OK) {
        return REASON_BAD_TRAILER;
    }
    chunked->state = CHUNK_DONE;
    return REASON_NONE;
}

/* Consumes at least one byte, or goes on to a state that does. */
static enum reason advance(struct http1_chunked *chunked, uint8_t *data, size_t size,
                           struct http1_chunked_result *result)
{
    enum reason reason = REASON_NONE;
    size_t taken = 1;
    if (chunked->state == CHUNK_DATA) {
        taken = take_data(chunked, data, size, result);
    } else if (chunked->state == CHUNK_TRAILER_START) {
        reason = start_trailers(chunked, data[0], &taken);
    } else if (chunked->state == CHUNK_TRAILERS) {
        reason = take_trailers(chunked, span_of(data, size), &taken);
    } else {
        chunked->state = (uint8_t)after_byte(chunked, data[0]);
        reason = chunked->state == CHUNK_BROKEN ? REASON_BAD_CHUNK : REASON_NONE;
    }
    result->consumed += taken;
    return reason;
}

enum status http1_chunked_decode(struct http1_chunked *chunked, uint8_t *data, size_t size,
                                 struct http1_chunked_result *result, enum reason *reason)
{
    struct http1_chunked_result progress = {.body = span_of(data, 0)};
    ASSERT(chunked->state != CHUNK_DONE && chunked->state != CHUNK_BROKEN);
    while (progress.consumed < size && chunked->state != CHUNK_DONE) {
        enum reason why =
            advance(chunked, data + progress.consumed, size - progress.consumed, &progress);
        if (why != REASON_NONE) {
            chunked->state = CHUNK_BROKEN;
            bool upstream = chunked->kind == HTTP1_RESPONSE && why != REASON_BUFFERS_FULL;
            *reason = upstream ? REASON_UPSTREAM_BAD_BODY : why;
            return ERROR;
        }
    }
    *result = progress;
    return chunked->state == CHUNK_DONE ? END : OK;
}
