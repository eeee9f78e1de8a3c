#include "http/target.h"

#include <arpa/inet.h>

#include "base/assert.h"
#include "http/bytes.h"

/*
 * Most paths are canonical as they come, and then nothing is copied: only plain bytes, and no
 * segment that begins with a dot or is empty. (A final empty segment is a final `/`, which is
 * fine.)
 */
static bool is_canonical(struct span raw, bool merge_slashes)
{
    uint8_t before = 0;
    for (size_t i = 0; i < raw.size; i++) {
        uint8_t byte = raw.data[i];
        if ((byte_classes[byte] & BYTE_PATH) == 0) {
            return false;
        }
        if (before == '/' && (byte == '.' || (byte == '/' && merge_slashes))) {
            return false;
        }
        before = byte;
    }
    return true;
}

/* The canonical path while it grows. It never gets longer than three times the raw one. */
struct path_writer {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
    size_t segment; /* where the current segment begins, just after a `/` */
    bool merge_slashes;
    bool encoded_slash;
    bool encoded_backslash;
};

static void put(struct path_writer *writer, uint8_t byte)
{
    ASSERT(writer->size < writer->capacity);
    writer->bytes[writer->size++] = byte;
}

static void put_escape(struct path_writer *writer, uint8_t byte)
{
    static const char digits[] = "0123456789ABCDEF";
    put(writer, '%');
    put(writer, (uint8_t)digits[byte >> 4]);
    put(writer, (uint8_t)digits[byte & 15]);
}

static bool is_dots(struct span segment)
{
    return span_equal(segment, SPAN(".")) || span_equal(segment, SPAN(".."));
}

/*
 * Whether a server might read a dot segment where we see none: because it strips parameters
 * (`..;x`) or because it decodes separators (`..%2Fx`).
 */
static bool is_ambiguous_piece(struct span piece, bool beside_separator)
{
    for (size_t dots = 1; dots <= 2 && dots <= piece.size; dots++) {
        struct span rest = span_from(piece, dots);
        bool parameters = span_starts_with(rest, SPAN(";")) || span_starts_with(rest, SPAN("%3B"));
        if (is_dots(span_first(piece, dots)) &&
            (parameters || (rest.size == 0 && beside_separator))) {
            return true;
        }
    }
    return false;
}

static bool is_encoded_separator(struct span rest)
{
    return span_starts_with(rest, SPAN("%2F")) || span_starts_with(rest, SPAN("%5C"));
}

static bool is_ambiguous(struct span segment)
{
    size_t start = 0;
    for (size_t i = 0; i < segment.size; i++) {
        if (is_encoded_separator(span_from(segment, i))) {
            if (is_ambiguous_piece(span_of(segment.data + start, i - start), true)) {
                return true;
            }
            start = i + 3;
        }
    }
    return is_ambiguous_piece(span_from(segment, start), start > 0);
}

/*
 * Removes the current segment and the one before. false at the root, and where the one before has
 * an encoded separator: who decodes it first climbs to another place.
 */
static bool climb(struct path_writer *writer)
{
    ASSERT(writer->segment >= 1 && writer->bytes[writer->segment - 1] == '/');
    if (writer->segment == 1) {
        return false;
    }
    size_t end = writer->segment - 1;
    size_t start = end;
    while (writer->bytes[start - 1] != '/') {
        start--;
        if (is_encoded_separator(span_of(writer->bytes + start, end - start))) {
            return false;
        }
    }
    writer->segment = start;
    writer->size = start;
    return true;
}

/* Decides on the segment that is complete now; false: ambiguous. */
static bool end_segment(struct path_writer *writer, bool slash_follows)
{
    struct span segment = span_of(writer->bytes + writer->segment, writer->size - writer->segment);
    if (span_equal(segment, SPAN("."))) {
        writer->size = writer->segment;
        return true;
    }
    if (span_equal(segment, SPAN(".."))) {
        return climb(writer);
    }
    if (is_ambiguous(segment)) {
        return false;
    }
    if (slash_follows && !(segment.size == 0 && writer->merge_slashes)) {
        put(writer, '/');
        writer->segment = writer->size;
    }
    return true;
}

/* Takes the escape at the front of rest; false: broken, or NUL. */
static bool put_decoded(struct path_writer *writer, struct span rest)
{
    int high = rest.size < 3 ? -1 : ascii_hex_value(rest.data[1]);
    int low = rest.size < 3 ? -1 : ascii_hex_value(rest.data[2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) {
        return false;
    }
    uint8_t byte = (uint8_t)(high * 16 + low);
    if ((byte_classes[byte] & BYTE_UNRESERVED) != 0) {
        put(writer, byte);
        return true;
    }
    writer->encoded_slash = writer->encoded_slash || byte == '/';
    writer->encoded_backslash = writer->encoded_backslash || byte == '\\';
    put_escape(writer, byte);
    return true;
}

/* Writes the canonical form of raw; REASON_NONE, or why it has none. */
static enum reason rewrite(struct path_writer *writer, struct span raw)
{
    put(writer, '/');
    writer->segment = 1;
    for (size_t i = 1; i < raw.size; i++) {
        uint8_t byte = raw.data[i];
        if (byte == '/') {
            if (!end_segment(writer, true)) {
                return REASON_AMBIGUOUS_PATH;
            }
        } else if (byte == '%') {
            if (!put_decoded(writer, span_from(raw, i))) {
                return REASON_BAD_TARGET;
            }
            i += 2;
        } else if ((byte_classes[byte] & BYTE_PATH) != 0) {
            put(writer, byte);
        } else if ((byte_classes[byte] & BYTE_PATH_ENCODE) != 0) {
            put_escape(writer, byte);
        } else {
            return REASON_BAD_TARGET;
        }
    }
    return end_segment(writer, false) ? REASON_NONE : REASON_AMBIGUOUS_PATH;
}

enum status target_canonical_path(struct span raw, bool merge_slashes, struct arena *arena,
                                  struct target_path *out, enum reason *reason)
{
    if (raw.size == 0 || raw.data[0] != '/') {
        *reason = REASON_BAD_TARGET;
        return ERROR;
    }
    if (is_canonical(raw, merge_slashes)) {
        *out = (struct target_path){.path = raw};
        return OK;
    }
    size_t mark = arena_mark(arena);
    struct path_writer writer = {.merge_slashes = merge_slashes, .capacity = 3 * raw.size};
    writer.bytes = arena_alloc(arena, writer.capacity);
    if (writer.bytes == NULL) {
        *reason = REASON_BUFFERS_FULL;
        return ERROR;
    }
    enum reason why = rewrite(&writer, raw);
    /* What the path did not need goes back: it is the last piece of the arena. */
    arena_rewind(arena,
                 why == REASON_NONE ? (size_t)(writer.bytes - arena->memory) + writer.size : mark);
    if (why != REASON_NONE) {
        *reason = why;
        return ERROR;
    }
    *out = (struct target_path){
        .path = span_of(writer.bytes, writer.size),
        .encoded_slash = writer.encoded_slash,
        .encoded_backslash = writer.encoded_backslash,
    };
    return OK;
}

/* Letters, digits, `-`, `.`, `_`, `~`, without an empty label but for a final dot. */
static bool is_host_name(struct span name)
{
    uint8_t before = '.';
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        if ((byte_classes[byte] & BYTE_UNRESERVED) == 0 || (byte == '.' && before == '.')) {
            return false;
        }
        before = byte;
    }
    return name.size > 0 && name.size <= TARGET_HOST_MAX;
}

/* The address between the brackets, without a zone (RFC 3986, 3.2.2). */
static bool is_ipv6(struct span text)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (text.size == 0 || text.size >= sizeof(copy) || memchr(text.data, 0, text.size) != NULL) {
        return false;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return inet_pton(AF_INET6, copy, &address) == 1;
}

/* Borrows the host if it has no capital letter. Data is NULL when the arena is full. */
static struct span lower_case(struct span host, struct arena *arena)
{
    size_t plain = 0;
    while (plain < host.size && ascii_lower(host.data[plain]) == host.data[plain]) {
        plain++;
    }
    if (plain == host.size) {
        return host;
    }
    uint8_t *lower = arena_alloc(arena, host.size);
    for (size_t i = 0; lower != NULL && i < host.size; i++) {
        lower[i] = ascii_lower(host.data[i]);
    }
    return lower == NULL ? SPAN_EMPTY : span_of(lower, host.size);
}

/* `":" *DIGIT` or nothing. */
static bool read_port(struct span text, struct authority *out)
{
    enum { PORT_DIGITS_MAX = 5 };
    uint64_t port = 0;
    if (text.size == 0 || span_equal(text, SPAN(":"))) {
        return true;
    }
    struct span digits = span_from(text, 1);
    if (text.data[0] != ':' || digits.size > PORT_DIGITS_MAX ||
        !span_to_u64(digits, UINT16_MAX, &port)) {
        return false;
    }
    out->has_port = true;
    out->port = (uint16_t)port;
    return true;
}

/* The host that the text begins with, its brackets included; empty where it is none. */
static struct span take_host(struct span text)
{
    if (text.size > 0 && text.data[0] == '[') {
        size_t end = span_find(text, ']');
        bool good = end < text.size && is_ipv6(span_of(text.data + 1, end - 1));
        return good ? span_first(text, end + 1) : SPAN_EMPTY;
    }
    struct span name = span_first(text, span_find(text, ':'));
    return is_host_name(name) ? name : SPAN_EMPTY;
}

bool target_parse_authority(struct span text, struct arena *arena, struct authority *out)
{
    struct authority parsed = {0};
    struct span host = take_host(text);
    if (host.size == 0) {
        return false;
    }
    if (!read_port(span_from(text, host.size), &parsed)) {
        return false;
    }
    /* `a.example.` is the same host as `a.example`, and must meet the same routes. */
    if (host.data[host.size - 1] == '.') {
        host.size--;
    }
    parsed.host = lower_case(host, arena);
    if (parsed.host.data == NULL) {
        return false;
    }
    *out = parsed;
    return true;
}

/* Visible ASCII without `#`: a query is forwarded as it is, so this is all that is asked of it. */
static bool is_query(struct span query)
{
    return bytes_span_printable(query.data, query.size) == query.size &&
           span_find(query, ' ') == query.size && span_find(query, '#') == query.size;
}

/* Takes `path ["?" query]` apart. */
static bool split_query(struct span text, struct target *out)
{
    size_t mark = span_find(text, '?');
    out->path = span_first(text, mark);
    if (mark == text.size) {
        return true;
    }
    out->query = span_from(text, mark + 1);
    return is_query(out->query);
}

/* What follows `http://` or `https://`; NULL data for any other scheme. */
static struct span after_scheme(struct span text)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        struct span scheme = span_of_string(schemes[i]);
        if (text.size >= scheme.size && span_equal_nocase(span_first(text, scheme.size), scheme)) {
            return span_from(text, scheme.size);
        }
    }
    return SPAN_EMPTY;
}

static bool split_absolute(struct span text, enum method method, struct target *out)
{
    struct span rest = after_scheme(text);
    if (rest.data == NULL) {
        return false;
    }
    size_t size = 0;
    while (size < rest.size && rest.data[size] != '/' && rest.data[size] != '?') {
        size++;
    }
    out->form = TARGET_ABSOLUTE;
    out->authority = span_first(rest, size);
    if (size == rest.size) {
        out->path = method == METHOD_OPTIONS ? SPAN("*") : SPAN("/");
        return true;
    }
    bool good = split_query(span_from(rest, size), out);
    if (out->path.size == 0) {
        out->path = SPAN("/");
    }
    return good;
}

enum status target_split(struct span text, enum method method, struct target *out,
                         enum reason *reason)
{
    struct target split = {.form = TARGET_ORIGIN};
    bool good = false;
    if (method == METHOD_CONNECT) {
        split.form = TARGET_AUTHORITY;
        split.authority = text;
        good = true;
    } else if (text.size > 0 && text.data[0] == '/') {
        good = split_query(text, &split);
    } else if (span_equal(text, SPAN("*"))) {
        split.form = TARGET_ASTERISK;
        split.path = text;
        good = method == METHOD_OPTIONS;
    } else {
        good = split_absolute(text, method, &split);
    }
    if (!good) {
        *reason = REASON_BAD_TARGET;
        return ERROR;
    }
    *out = split;
    return OK;
}
