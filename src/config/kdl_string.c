/*
 * Strings in quotes: quoted, raw, and those over several lines of KDL 2.
 *
 * Each is read twice: once to find its end, which tells the most memory that it can need (no escape
 * is longer than what it stands for), and once to decode it. A string without escapes is not
 * copied.
 *
 * In a string over several lines the white space behind a backslash goes first, then the common
 * indentation, then the other escapes. One pass can do all three: a backslash takes all white space
 * behind it, newlines included, so the indentation of a line never continues behind one.
 */
#include "config/kdl_lex.h"

#include "base/assert.h"
#include "config/utf8.h"

enum { TRIPLE = 3 };

/* The quotes of one string, found before its contents are looked at. */
struct quotes {
    size_t start;  /* of the whole token */
    size_t body;   /* the first byte inside */
    size_t end;    /* the closing quote */
    size_t hashes; /* behind the closing quote */
    size_t count;  /* of quotes on each side: 1 or 3 */
    bool raw;      /* no escapes */
};

static size_t count_bytes(const struct kdl_parser *parser, size_t offset, char byte)
{
    size_t count = 0;
    while (kdl_byte(parser, offset + count) == byte) {
        count++;
    }
    return count;
}

bool kdl_at_string(const struct kdl_parser *parser)
{
    size_t offset = parser->offset;
    int byte = kdl_byte(parser, offset);
    if (parser->version == 1 && byte == 'r') {
        offset++;
        offset += count_bytes(parser, offset, '#');
    } else if (parser->version == 2) {
        offset += count_bytes(parser, offset, '#');
    }
    return kdl_byte(parser, offset) == '"';
}

static struct quotes read_opening(const struct kdl_parser *parser)
{
    struct quotes quotes = {.start = parser->offset, .body = parser->offset};
    bool old_raw = parser->version == 1 && kdl_byte(parser, quotes.body) == 'r';
    quotes.body += old_raw ? 1 : 0;
    quotes.hashes = count_bytes(parser, quotes.body, '#');
    quotes.raw = old_raw || quotes.hashes > 0;
    quotes.body += quotes.hashes;
    bool triple = parser->version == 2 && count_bytes(parser, quotes.body, '"') >= TRIPLE;
    quotes.count = triple ? TRIPLE : 1;
    quotes.body += quotes.count;
    return quotes;
}

/* Skips white space and newlines: what a backslash in front of them removes. */
static void skip_escaped_space(struct kdl_parser *parser)
{
    size_t size = 0;
    do {
        parser->offset += size;
        size = kdl_newline(parser, parser->offset);
        if (size == 0) {
            size = kdl_space(parser, parser->offset);
        }
    } while (size > 0);
}

static bool is_space_escape(const struct kdl_parser *parser)
{
    return parser->version == 2 && kdl_byte(parser, parser->offset) == '\\' &&
           (kdl_newline(parser, parser->offset + 1) > 0 ||
            kdl_space(parser, parser->offset + 1) > 0);
}

/* Skips one character or newline of a body, or an escape as far as its end cannot be mistaken. */
static void skip_character(struct kdl_parser *parser, const struct quotes *quotes)
{
    if (!quotes->raw && is_space_escape(parser)) {
        parser->offset++;
        skip_escaped_space(parser);
        return;
    }
    if (!quotes->raw && kdl_byte(parser, parser->offset) == '\\') {
        parser->offset++;
    }
    size_t size = kdl_newline(parser, parser->offset);
    if (size == 0) {
        (void)kdl_peek(parser, parser->offset, &size);
    }
    parser->offset += size;
}

static bool at_closing(const struct kdl_parser *parser, const struct quotes *quotes)
{
    size_t offset = parser->offset;
    for (size_t i = 0; i < quotes->count; i++) {
        if (kdl_byte(parser, offset + i) != '"') {
            return false;
        }
    }
    for (size_t i = 0; i < quotes->hashes; i++) {
        if (kdl_byte(parser, offset + quotes->count + i) != '#') {
            return false;
        }
    }
    return true;
}

static bool fail_unclosed(struct kdl_parser *parser, const struct quotes *quotes)
{
    if (quotes->raw) {
        return kdl_fail(parser, quotes->start, "it ends with as many `#` as it begins with",
                        "the raw string that begins here is never closed");
    }
    return kdl_fail(parser, quotes->start, NULL, "the string that begins here is never closed");
}

/* Reads a string with one quote on each side up to its closing quote, which is left. */
static bool find_single_end(struct kdl_parser *parser, struct quotes *quotes, bool *escapes)
{
    parser->offset = quotes->body;
    while (!at_closing(parser, quotes)) {
        if (parser->offset >= parser->text.size) {
            return fail_unclosed(parser, quotes);
        }
        if (parser->version == 2 && kdl_newline(parser, parser->offset) > 0) {
            return kdl_fail(parser, quotes->start,
                            "add the closing quote, or put text of several lines between lines of "
                            "\"\"\"",
                            "the string that begins here is not closed on its line");
        }
        *escapes = *escapes || kdl_byte(parser, parser->offset) == '\\';
        skip_character(parser, quotes);
    }
    quotes->end = parser->offset;
    return true;
}

/* Decodes `{...}` behind `\u`; escape is the offset of the backslash. */
static bool decode_unicode(struct kdl_parser *parser, size_t escape, uint8_t **to)
{
    enum { HEX_DIGITS_MAX = 6 };
    uint32_t code_point = 0;
    size_t digits = 0;
    size_t offset = parser->offset + 1;
    for (; digits <= HEX_DIGITS_MAX; digits++) {
        int byte = kdl_byte(parser, offset + digits);
        int value = byte < 0 ? -1 : ascii_hex_value((uint8_t)byte);
        if (value < 0) {
            break;
        }
        code_point = code_point << 4 | (uint32_t)value;
    }
    if (kdl_byte(parser, parser->offset) != '{' || digits == 0 || digits > HEX_DIGITS_MAX ||
        kdl_byte(parser, offset + digits) != '}') {
        return kdl_fail(parser, escape, "for example \\u{1F600}",
                        "`\\u` needs one to six hexadecimal digits in braces");
    }
    if (!utf8_is_scalar(code_point)) {
        return kdl_fail(parser, escape, NULL, "U+%04X is not a Unicode character", code_point);
    }
    *to += utf8_encode(code_point, *to);
    parser->offset = offset + digits + 1;
    return true;
}

/* Decodes the escape at the current offset, appending to *to. */
static bool decode_escape(struct kdl_parser *parser, uint8_t **to)
{
    static const char letters[] = "nrt\\\"bf/s";
    static const char meanings[] = "\n\r\t\\\"\b\f/ ";
    size_t escape = parser->offset;
    if (is_space_escape(parser)) {
        parser->offset++;
        skip_escaped_space(parser);
        return true;
    }
    int letter = kdl_byte(parser, escape + 1);
    if (letter == 'u') {
        parser->offset += 2;
        return decode_unicode(parser, escape, to);
    }
    struct span known = span_of(letters, sizeof(letters) - 1);
    size_t which = letter < 0 ? known.size : span_find(known, (uint8_t)letter);
    int foreign = parser->version == 2 ? '/' : 's'; /* each version has one of its own */
    if (which == known.size || letter == foreign) {
        return kdl_fail(parser, escape,
                        parser->version == 2
                            ? "known are \\n \\r \\t \\s \\b \\f \\\\ \\\" \\u{...} and \\ before "
                              "white space; #\"...\"# has no escapes"
                            : "known are \\n \\r \\t \\b \\f \\/ \\\\ \\\" \\u{...}; r\"...\" has "
                              "no escapes",
                        "unknown escape in a string");
    }
    *(*to)++ = (uint8_t)meanings[which];
    parser->offset += 2;
    return true;
}

/* Decodes up to an offset, or up to a newline that is no part of an escape. */
static bool decode_until(struct kdl_parser *parser, const struct quotes *quotes, size_t end,
                         uint8_t **to)
{
    while (parser->offset < end) {
        bool several_lines = quotes->count == TRIPLE;
        if (several_lines && kdl_newline(parser, parser->offset) > 0) {
            return true;
        }
        if (!quotes->raw && kdl_byte(parser, parser->offset) == '\\') {
            if (!decode_escape(parser, to)) {
                return false;
            }
            continue;
        }
        *(*to)++ = parser->text.data[parser->offset++];
        while (parser->offset < end && (parser->text.data[parser->offset] & 0xC0) == 0x80) {
            *(*to)++ = parser->text.data[parser->offset++];
        }
    }
    return true;
}

static bool read_single(struct kdl_parser *parser, struct quotes *quotes, struct span *text)
{
    bool escapes = false;
    if (!find_single_end(parser, quotes, &escapes)) {
        return false;
    }
    if (quotes->raw || !escapes) {
        *text = kdl_slice(parser, quotes->body, quotes->end);
        return true;
    }
    uint8_t *start = arena_alloc(parser->arena, quotes->end - quotes->body);
    if (start == NULL) {
        return kdl_fail_memory(parser);
    }
    uint8_t *to = start;
    parser->offset = quotes->body;
    if (!decode_until(parser, quotes, quotes->end, &to)) {
        return false;
    }
    ASSERT(parser->offset == quotes->end);
    ASSERT(to <= start + (quotes->end - quotes->body));
    *text = span_of(start, (size_t)(to - start));
    return true;
}

/* Finds the closing quotes, and where the line that they stand on begins. */
static bool find_triple_end(struct kdl_parser *parser, struct quotes *quotes, size_t *last_line)
{
    parser->offset = quotes->body;
    *last_line = quotes->body;
    while (!at_closing(parser, quotes)) {
        if (parser->offset >= parser->text.size) {
            return fail_unclosed(parser, quotes);
        }
        bool ends_line = kdl_newline(parser, parser->offset) > 0;
        skip_character(parser, quotes);
        if (ends_line) {
            *last_line = parser->offset;
        }
    }
    quotes->end = parser->offset;
    return true;
}

/* The indentation of the closing quotes; only white space, also escaped, may precede them. */
static bool read_indentation(struct kdl_parser *parser, const struct quotes *quotes,
                             size_t last_line, struct span *indentation)
{
    parser->offset = last_line;
    size_t size = 0;
    while ((size = kdl_space(parser, parser->offset)) > 0) {
        parser->offset += size;
    }
    *indentation = kdl_slice(parser, last_line, parser->offset);
    while (!quotes->raw && is_space_escape(parser)) {
        parser->offset++;
        skip_escaped_space(parser);
    }
    if (parser->offset < quotes->end) {
        return kdl_fail(parser, quotes->end,
                        "its indentation is what is removed from the lines above",
                        "the closing \"\"\" must stand on a line of its own");
    }
    return true;
}

/* Whether the line has white space only; *next is then the offset behind its newline. */
static bool is_blank_line(const struct kdl_parser *parser, size_t *next)
{
    size_t offset = parser->offset;
    size_t size = 0;
    while ((size = kdl_space(parser, offset)) > 0) {
        offset += size;
    }
    *next = offset + kdl_newline(parser, offset);
    return *next > offset;
}

/* Decodes the lines between the first and the last one, joined by LF. */
static bool decode_lines(struct kdl_parser *parser, const struct quotes *quotes, size_t last_line,
                         struct span indentation, uint8_t **to)
{
    parser->offset = quotes->body;
    while (parser->offset < last_line) {
        size_t next = 0;
        if (is_blank_line(parser, &next)) {
            parser->offset = next;
        } else if (!kdl_at(parser, indentation)) {
            return kdl_fail(parser, parser->offset,
                            "begin it with exactly the same spaces and tabs, or move the closing "
                            "quotes to the left",
                            "this line is not indented like the closing \"\"\" of its string");
        } else {
            parser->offset += indentation.size;
            if (!decode_until(parser, quotes, last_line, to)) {
                return false;
            }
            parser->offset += kdl_newline(parser, parser->offset);
        }
        *(*to)++ = '\n';
    }
    ASSERT(parser->offset == last_line);
    return true;
}

static bool read_triple(struct kdl_parser *parser, struct quotes *quotes, struct span *text)
{
    size_t newline = kdl_newline(parser, quotes->body);
    if (newline == 0) {
        return kdl_fail(parser, quotes->start, "for a string of one line use one quote: \"...\"",
                        "the text between \"\"\" begins on a new line");
    }
    quotes->body += newline;
    size_t last_line = 0;
    struct span indentation = SPAN_EMPTY;
    if (!find_triple_end(parser, quotes, &last_line) ||
        !read_indentation(parser, quotes, last_line, &indentation)) {
        return false;
    }
    uint8_t *start = arena_alloc(parser->arena, last_line - quotes->body);
    if (start == NULL) {
        return kdl_fail_memory(parser);
    }
    uint8_t *to = start;
    if (!decode_lines(parser, quotes, last_line, indentation, &to)) {
        return false;
    }
    ASSERT(to <= start + (last_line - quotes->body));
    /* The newline before the closing line belongs to the quotes. */
    *text = span_of(start, to > start ? (size_t)(to - start) - 1 : 0);
    return true;
}

bool kdl_read_string(struct kdl_parser *parser, struct span *text)
{
    ASSERT(kdl_at_string(parser));
    struct quotes quotes = read_opening(parser);
    bool read = quotes.count == TRIPLE ? read_triple(parser, &quotes, text)
                                       : read_single(parser, &quotes, text);
    if (read) {
        parser->offset = quotes.end + quotes.count + quotes.hashes;
    }
    return read;
}
