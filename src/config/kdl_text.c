/* The text below the tokens: what it may contain, its code points, places and failures. */
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "config/kdl_lex.h"
#include "config/utf8.h"

enum { BYTE_ORDER_MARK = 0xFEFF, BYTE_ORDER_MARK_SIZE = 3 };

void kdl_parser_init(struct kdl_parser *parser, const struct source *source, bool strict,
                     struct arena *arena)
{
    *parser = (struct kdl_parser){
        .text = source->text.size > 0 ? source->text : SPAN(""),
        .version = 2,
        .strict = strict,
        .arena = arena,
        .place = {.source = source, .line = 1, .column = 1},
    };
    if (kdl_at(parser, SPAN("\xEF\xBB\xBF"))) {
        parser->offset = BYTE_ORDER_MARK_SIZE;
        parser->place_offset = BYTE_ORDER_MARK_SIZE; /* the mark is no column */
    }
}

/* The code points that may not stand in a text (KDL 2, disallowed literal code points). */
static bool is_disallowed(uint32_t code_point)
{
    return code_point < 0x09 || (code_point > 0x0D && code_point < 0x20) || code_point == 0x7F ||
           code_point == 0x200E || code_point == 0x200F ||
           (code_point >= 0x202A && code_point <= 0x202E) ||
           (code_point >= 0x2066 && code_point <= 0x2069) || code_point == BYTE_ORDER_MARK;
}

static bool fail_disallowed(struct kdl_parser *parser, size_t offset, uint32_t code_point)
{
    if (code_point == BYTE_ORDER_MARK) {
        return kdl_fail(parser, offset, "it is invisible; remove it",
                        "a byte order mark may only be the first character of a text");
    }
    if (code_point >= 0x2000) {
        return kdl_fail(parser, offset,
                        "it makes a text look different from what it says; a string may have it as "
                        "\\u{...}",
                        "the invisible direction mark U+%04X is not allowed", code_point);
    }
    return kdl_fail(parser, offset, "a string may have it as \\u{...}",
                    "the control character U+%04X is not allowed", code_point);
}

bool kdl_check_text(struct kdl_parser *parser)
{
    if (parser->text.size > KDL_TEXT_MAX) {
        return kdl_fail(parser, 0, NULL, "the text has %zu bytes; at most %d are allowed",
                        parser->text.size, KDL_TEXT_MAX);
    }
    size_t size = 0;
    for (size_t offset = parser->offset; offset < parser->text.size; offset += size) {
        uint32_t code_point = 0;
        size = utf8_decode(span_from(parser->text, offset), &code_point);
        if (size == 0) {
            return kdl_fail(parser, offset, "save the file in the encoding UTF-8",
                            "the byte 0x%02X is not valid UTF-8 here", parser->text.data[offset]);
        }
        if (is_disallowed(code_point)) {
            return fail_disallowed(parser, offset, code_point);
        }
    }
    return true;
}

/* Moves the remembered place over one character, or over the CR and LF of one line end. */
static void step_place(struct kdl_parser *parser)
{
    int byte = kdl_byte(parser, parser->place_offset);
    if (byte == '\n' || byte == '\r') {
        bool pair = byte == '\r' && kdl_byte(parser, parser->place_offset + 1) == '\n';
        parser->place_offset += pair ? 2 : 1;
        parser->place.line++;
        parser->place.column = 1;
        return;
    }
    uint32_t code_point = 0;
    size_t size = utf8_decode(span_from(parser->text, parser->place_offset), &code_point);
    parser->place_offset += size > 0 ? size : 1;
    parser->place.column++;
}

struct position kdl_position(struct kdl_parser *parser, size_t offset)
{
    ASSERT(offset <= parser->text.size);
    if (offset < parser->place_offset) {
        parser->place_offset = 0;
        parser->place.line = 1;
        parser->place.column = 1;
        if (span_starts_with(parser->text, SPAN("\xEF\xBB\xBF"))) {
            parser->place_offset = BYTE_ORDER_MARK_SIZE;
        }
    }
    while (parser->place_offset < offset) {
        step_place(parser);
    }
    return parser->place;
}

bool kdl_fail(struct kdl_parser *parser, size_t offset, const char *help, const char *format, ...)
{
    parser->failure.offset = offset;
    parser->failure.help = help;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(parser->failure.message, KDL_MESSAGE_MAX, format, arguments);
    va_end(arguments);
    return false;
}

bool kdl_fail_memory(struct kdl_parser *parser)
{
    return kdl_fail(parser, parser->offset, "split it, or look for a part that was generated twice",
                    "the configuration is too large for the memory it may have");
}

/* What people of other languages write here, and what KDL has instead. */
static const char *guess_help(const struct kdl_parser *parser, uint32_t found)
{
    int before = parser->offset > 0 ? kdl_byte(parser, parser->offset - 1) : -1;
    switch (found) {
    case '=':
        return "`name value` gives a node its value; `name=value` adds a property to the node "
               "before it";
    case '[':
    case ']':
        return "there are no lists in brackets: write the values one after another";
    case '#':
        return "comments begin with //";
    case '"':
        return before == 'r' ? "raw strings are written #\"...\"# in KDL 2" : NULL;
    default:
        return NULL;
    }
}

bool kdl_fail_expected(struct kdl_parser *parser, const char *what, const char *help)
{
    size_t size = 0;
    size_t offset = parser->offset;
    uint32_t found = kdl_peek(parser, offset, &size);
    if (help == NULL) {
        help = guess_help(parser, found);
    }
    if (found == KDL_END) {
        return kdl_fail(parser, offset, help, "expected %s, found the end of the text", what);
    }
    if (kdl_newline(parser, offset) > 0) {
        return kdl_fail(parser, offset, help, "expected %s, found the end of the line", what);
    }
    if (kdl_space(parser, offset) > 0) {
        return kdl_fail(parser, offset, help, "expected %s, found white space", what);
    }
    struct span shown = kdl_slice(parser, offset, offset + size);
    return kdl_fail(parser, offset, help, "expected %s, found `%.*s`", what, SPAN_ARGS(shown));
}

uint32_t kdl_peek(const struct kdl_parser *parser, size_t offset, size_t *size)
{
    if (offset >= parser->text.size) {
        *size = 0;
        return KDL_END;
    }
    uint32_t code_point = 0;
    *size = utf8_decode(span_from(parser->text, offset), &code_point);
    ASSERT(*size > 0); /* kdl_check_text has seen all of the text */
    return code_point;
}

/* KDL 2 lists VT too; KDL 1 leaves it undefined, and one meaning for both is the safer one. */
static bool is_newline(uint32_t code_point)
{
    return (code_point >= 0x0A && code_point <= 0x0D) || code_point == 0x85 ||
           code_point == 0x2028 || code_point == 0x2029;
}

static bool is_space(uint32_t code_point)
{
    return code_point == ' ' || code_point == '\t' || code_point == 0xA0 || code_point == 0x1680 ||
           (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x202F ||
           code_point == 0x205F || code_point == 0x3000;
}

size_t kdl_newline(const struct kdl_parser *parser, size_t offset)
{
    size_t size = 0;
    uint32_t code_point = kdl_peek(parser, offset, &size);
    if (code_point == '\r' && kdl_byte(parser, offset + 1) == '\n') {
        return 2;
    }
    return is_newline(code_point) ? size : 0;
}

size_t kdl_space(const struct kdl_parser *parser, size_t offset)
{
    size_t size = 0;
    uint32_t code_point = kdl_peek(parser, offset, &size);
    return is_space(code_point) ? size : 0;
}

bool kdl_is_identifier_char(uint32_t code_point, unsigned version)
{
    if (code_point == KDL_END || is_newline(code_point) || is_space(code_point) ||
        is_disallowed(code_point)) {
        return false;
    }
    struct span excluded = version == 1 ? SPAN("\\/(){}<>;[]=,\"") : SPAN("\\/(){};[]\"#=");
    return code_point >= 0x80 || span_find(excluded, (uint8_t)code_point) == excluded.size;
}
