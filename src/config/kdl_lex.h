/*
 * Inside the KDL parser: the state of one attempt at one version, and its lexical layer. Every
 * function that returns bool returns false after it noted the one failure of the attempt; the
 * caller then gives up. All of them rely on kdl_check_text: the text is valid UTF-8 here.
 */
#ifndef SENTINEL_CONFIG_KDL_LEX_H
#define SENTINEL_CONFIG_KDL_LEX_H

#include "config/kdl.h"

enum { KDL_MESSAGE_MAX = 160 };

/* What kdl_peek returns behind the last byte: no code point. */
#define KDL_END UINT32_MAX

struct kdl_failure {
    size_t offset;
    const char *help; /* static, or NULL */
    char message[KDL_MESSAGE_MAX];
};

struct kdl_parser {
    struct span text;
    size_t offset; /* of the next byte to read */
    unsigned version;
    unsigned depth; /* of open blocks */
    bool strict;
    struct arena *arena;        /* borrowed */
    size_t place_offset;        /* the offset whose position is `place` */
    struct position place;      /* remembered, so that all positions together cost one pass */
    struct kdl_failure failure; /* valid once a function returned false */
};

/* Starts at the beginning of the text, behind a byte order mark, as KDL 2. Both are borrowed. */
void kdl_parser_init(struct kdl_parser *parser, const struct source *source, bool strict,
                     struct arena *arena);

/* Refuses what neither version may contain: size, encoding, disallowed code points. */
NODISCARD bool kdl_check_text(struct kdl_parser *parser);

/* The place of an offset. Cheap while offsets grow from call to call. */
struct position kdl_position(struct kdl_parser *parser, size_t offset);

/* Notes the failure and returns false. The message is formatted, and cut where it is too long. */
NODISCARD bool kdl_fail(struct kdl_parser *parser, size_t offset, const char *help,
                        const char *format, ...) PRINTF_LIKE(4, 5);

/* "expected WHAT, found ..." at the current offset; help NULL: a guess from what was found. */
NODISCARD bool kdl_fail_expected(struct kdl_parser *parser, const char *what, const char *help);

/* The arena is full. */
NODISCARD bool kdl_fail_memory(struct kdl_parser *parser);

/* The byte at an offset, or -1 behind the end. */
static inline int kdl_byte(const struct kdl_parser *parser, size_t offset)
{
    return offset < parser->text.size ? parser->text.data[offset] : -1;
}

static inline bool kdl_at(const struct kdl_parser *parser, struct span token)
{
    return span_starts_with(span_from(parser->text, parser->offset), token);
}

/* The text from one offset up to another. */
static inline struct span kdl_slice(const struct kdl_parser *parser, size_t start, size_t end)
{
    return span_first(span_from(parser->text, start), end - start);
}

/* The code point at an offset, or KDL_END; *size is its bytes (0 at the end). */
uint32_t kdl_peek(const struct kdl_parser *parser, size_t offset, size_t *size);

/* The bytes of the newline at an offset, CRLF being one; 0 when there is none. */
size_t kdl_newline(const struct kdl_parser *parser, size_t offset);

/* The bytes of the white space (other than newlines) at an offset, one code point; 0: none. */
size_t kdl_space(const struct kdl_parser *parser, size_t offset);

bool kdl_is_identifier_char(uint32_t code_point, unsigned version);

/* Skips white space, block comments and continued lines; *skipped tells whether there was any. */
NODISCARD bool kdl_skip_node_space(struct kdl_parser *parser, bool *skipped);

/* Skips what may stand between two nodes: also newlines and line comments. */
NODISCARD bool kdl_skip_line_space(struct kdl_parser *parser);

/* Skips from `//` to the newline or the end; the newline is left. */
void kdl_skip_line_comment(struct kdl_parser *parser);

/* One value without its type annotation, or one name. */
struct kdl_scalar {
    struct value value;
    bool bare; /* an identifier without quotes: a word whose meaning depends on its place */
};

/* Reads a scalar; fails with "expected WHAT" when none begins here. */
NODISCARD bool kdl_read_scalar(struct kdl_parser *parser, const char *what,
                               struct kdl_scalar *scalar);

/* Whether a string in quotes, raw or not, begins at the current offset. */
bool kdl_at_string(const struct kdl_parser *parser);

/* Reads the string that kdl_at_string saw. */
NODISCARD bool kdl_read_string(struct kdl_parser *parser, struct span *text);

/* Whether a number begins at the current offset. */
bool kdl_at_number(const struct kdl_parser *parser);

/* Reads the number, with its unit unless strict. */
NODISCARD bool kdl_read_number(struct kdl_parser *parser, struct value *value);

#endif
