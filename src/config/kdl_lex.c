/* White space, comments, identifiers and the choice of what a scalar is. */
#include "config/kdl_lex.h"

#include "base/assert.h"
#include "config/utf8.h"

/* Skips a block comment; comments nest, which a counter follows without recursion. */
static bool skip_block_comment(struct kdl_parser *parser)
{
    size_t start = parser->offset;
    size_t open = 0;
    do {
        if (kdl_at(parser, SPAN("/*"))) {
            open++;
            parser->offset += 2;
        } else if (kdl_at(parser, SPAN("*/"))) {
            open--;
            parser->offset += 2;
        } else if (parser->offset < parser->text.size) {
            parser->offset++;
        } else {
            return kdl_fail(parser, start, "comments nest: each /* needs its own */",
                            "the comment that begins here is never closed");
        }
    } while (open > 0);
    return true;
}

void kdl_skip_line_comment(struct kdl_parser *parser)
{
    ASSERT(kdl_at(parser, SPAN("//")));
    while (parser->offset < parser->text.size && kdl_newline(parser, parser->offset) == 0) {
        size_t size = 0;
        (void)kdl_peek(parser, parser->offset, &size);
        parser->offset += size;
    }
}

/* Skips white space and block comments on one line (the grammar's ws*). */
static bool skip_inline_space(struct kdl_parser *parser)
{
    for (;;) {
        size_t size = kdl_space(parser, parser->offset);
        if (size > 0) {
            parser->offset += size;
        } else if (!kdl_at(parser, SPAN("/*"))) {
            return true;
        } else if (!skip_block_comment(parser)) {
            return false;
        }
    }
}

/* Skips a backslash and the rest of its line, which joins the next line to this one. */
static bool skip_continuation(struct kdl_parser *parser)
{
    parser->offset++;
    if (!skip_inline_space(parser)) {
        return false;
    }
    if (kdl_at(parser, SPAN("//"))) {
        kdl_skip_line_comment(parser);
    }
    size_t newline = kdl_newline(parser, parser->offset);
    if (newline == 0 && parser->offset < parser->text.size) {
        return kdl_fail_expected(parser, "the end of the line after `\\`",
                                 "`\\` outside of a string joins the next line to this one");
    }
    parser->offset += newline;
    return true;
}

bool kdl_skip_node_space(struct kdl_parser *parser, bool *skipped)
{
    size_t start = parser->offset;
    for (;;) {
        if (!skip_inline_space(parser)) {
            return false;
        }
        if (kdl_byte(parser, parser->offset) != '\\') {
            *skipped = parser->offset > start;
            return true;
        }
        if (!skip_continuation(parser)) {
            return false;
        }
    }
}

bool kdl_skip_line_space(struct kdl_parser *parser)
{
    for (;;) {
        size_t newline = kdl_newline(parser, parser->offset);
        if (newline > 0) {
            parser->offset += newline;
        } else if (kdl_at(parser, SPAN("//"))) {
            kdl_skip_line_comment(parser);
        } else {
            /* A continued line between two nodes is new in KDL 2. */
            bool skipped = false;
            size_t start = parser->offset;
            bool read = parser->version == 1 ? skip_inline_space(parser)
                                             : kdl_skip_node_space(parser, &skipped);
            if (!read) {
                return false;
            }
            if (parser->offset == start) {
                return true;
            }
        }
    }
}

/* The keyword behind `#`, KDL 2 only. */
static bool read_keyword(struct kdl_parser *parser, struct value *value)
{
    static const struct {
        const char *word;
        enum value_kind kind;
        bool boolean;
    } keywords[] = {
        {"#true", VALUE_BOOLEAN, true}, {"#false", VALUE_BOOLEAN, false},
        {"#null", VALUE_NULL, false},   {"#inf", VALUE_NUMBER, false},
        {"#-inf", VALUE_NUMBER, false}, {"#nan", VALUE_NUMBER, false},
    };
    size_t end = parser->offset + 1;
    size_t size = 0;
    while (kdl_is_identifier_char(kdl_peek(parser, end, &size), parser->version)) {
        end += size;
    }
    struct span word = kdl_slice(parser, parser->offset, end);
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (span_equal(word, span_of_string(keywords[i].word))) {
            value->kind = keywords[i].kind;
            value->boolean = keywords[i].boolean;
            value->text = value->kind == VALUE_NUMBER ? word : SPAN_EMPTY;
            parser->offset = end;
            return true;
        }
    }
    return kdl_fail(parser, parser->offset,
                    word.size == 1 ? "comments begin with //" : "strings with `#` need quotes",
                    "expected #true, #false, #null, #inf, #-inf, #nan or a raw string after `#`");
}

static bool read_identifier(struct kdl_parser *parser, const char *what, struct span *text)
{
    size_t start = parser->offset;
    size_t size = 0;
    while (kdl_is_identifier_char(kdl_peek(parser, parser->offset, &size), parser->version)) {
        parser->offset += size;
    }
    if (parser->offset == start) {
        return kdl_fail_expected(parser, what, NULL);
    }
    *text = kdl_slice(parser, start, parser->offset);
    size_t sign = text->data[0] == '+' || text->data[0] == '-' ? 1 : 0;
    if (parser->version == 2 && text->size > sign + 1 && text->data[sign] == '.' &&
        ascii_is_digit(text->data[sign + 1])) {
        return kdl_fail(parser, start, "write a digit before the point: `0.5`",
                        "a number needs a digit before its decimal point");
    }
    return true;
}

bool kdl_read_scalar(struct kdl_parser *parser, const char *what, struct kdl_scalar *scalar)
{
    *scalar = (struct kdl_scalar){
        .value = {.kind = VALUE_STRING, .position = kdl_position(parser, parser->offset)}};
    if (kdl_at_string(parser)) {
        return kdl_read_string(parser, &scalar->value.text);
    }
    if (kdl_at_number(parser)) {
        return kdl_read_number(parser, &scalar->value);
    }
    if (parser->version == 2 && kdl_byte(parser, parser->offset) == '#') {
        return read_keyword(parser, &scalar->value);
    }
    scalar->bare = true;
    return read_identifier(parser, what, &scalar->value.text);
}

/* A digit behind a sign, in KDL 2 also behind a point, is what an identifier may not begin with. */
static bool begins_like_number(struct span text, unsigned version)
{
    size_t i = text.data[0] == '+' || text.data[0] == '-' ? 1 : 0;
    if (version == 2 && i < text.size && text.data[i] == '.') {
        i++;
    }
    return i < text.size && ascii_is_digit(text.data[i]);
}

bool kdl_is_identifier(struct span text, unsigned version)
{
    static const char *const reserved[] = {"true", "false", "null", "inf", "-inf", "nan"};
    size_t reserved_count = version == 1 ? 3 : 6; /* the words for numbers are KDL 2's */
    if (text.size == 0 || begins_like_number(text, version)) {
        return false;
    }
    for (size_t i = 0; i < reserved_count; i++) {
        if (span_equal(text, span_of_string(reserved[i]))) {
            return false;
        }
    }
    while (text.size > 0) {
        uint32_t code_point = 0;
        size_t size = utf8_decode(text, &code_point);
        if (size == 0 || !kdl_is_identifier_char(code_point, version)) {
            return false;
        }
        text = span_from(text, size);
    }
    return true;
}
