/* Numbers, kept as they are written: whoever needs a value knows its range. */
#include "config/kdl_lex.h"

#include "base/assert.h"

static bool is_sign(int byte)
{
    return byte == '+' || byte == '-';
}

static bool is_digit(int byte, unsigned radix)
{
    int value = byte < 0 ? -1 : ascii_hex_value((uint8_t)byte);
    return value >= 0 && (unsigned)value < radix;
}

static bool is_letter(int byte)
{
    return byte >= 0 && ascii_lower((uint8_t)byte) >= 'a' && ascii_lower((uint8_t)byte) <= 'z';
}

bool kdl_at_number(const struct kdl_parser *parser)
{
    size_t offset = parser->offset;
    if (is_sign(kdl_byte(parser, offset))) {
        offset++;
    }
    return is_digit(kdl_byte(parser, offset), 10);
}

/* Skips digits and underscores; false when the first is no digit. */
static bool skip_digits(struct kdl_parser *parser, unsigned radix)
{
    if (!is_digit(kdl_byte(parser, parser->offset), radix)) {
        return false;
    }
    while (is_digit(kdl_byte(parser, parser->offset), radix) ||
           kdl_byte(parser, parser->offset) == '_') {
        parser->offset++;
    }
    return true;
}

/* 16, 8 or 2 where a radix prefix stands at the offset, else 10. */
static unsigned radix_at(const struct kdl_parser *parser)
{
    if (kdl_at(parser, SPAN("0x"))) {
        return 16;
    }
    if (kdl_at(parser, SPAN("0o"))) {
        return 8;
    }
    return kdl_at(parser, SPAN("0b")) ? 2 : 10;
}

/* Skips `e`, a sign and digits, if all that is there: a lone `e` may be a unit. */
static void skip_exponent(struct kdl_parser *parser)
{
    size_t start = parser->offset;
    int byte = kdl_byte(parser, start);
    if (byte != 'e' && byte != 'E') {
        return;
    }
    parser->offset += is_sign(kdl_byte(parser, start + 1)) ? 2 : 1;
    if (!skip_digits(parser, 10)) {
        parser->offset = start;
    }
}

static bool skip_decimal(struct kdl_parser *parser)
{
    bool digits = skip_digits(parser, 10);
    ASSERT(digits); /* kdl_at_number */
    if (kdl_byte(parser, parser->offset) == '.') {
        parser->offset++;
        if (!skip_digits(parser, 10)) {
            return kdl_fail_expected(parser, "a digit after the decimal point", NULL);
        }
    }
    skip_exponent(parser);
    return true;
}

static bool skip_radix(struct kdl_parser *parser, unsigned radix)
{
    parser->offset += 2;
    if (!skip_digits(parser, radix)) {
        const char *digits = radix == 16  ? "a hexadecimal digit after `0x`"
                             : radix == 8 ? "an octal digit after `0o`"
                                          : "a binary digit after `0b`";
        return kdl_fail_expected(parser, digits, NULL);
    }
    return true;
}

bool kdl_read_number(struct kdl_parser *parser, struct value *value)
{
    size_t start = parser->offset;
    if (is_sign(kdl_byte(parser, start))) {
        parser->offset++;
    }
    unsigned radix = radix_at(parser);
    if (!(radix == 10 ? skip_decimal(parser) : skip_radix(parser, radix))) {
        return false;
    }
    size_t end = parser->offset;
    while (radix == 10 && !parser->strict && is_letter(kdl_byte(parser, parser->offset))) {
        parser->offset++;
    }
    size_t size = 0;
    if (kdl_is_identifier_char(kdl_peek(parser, parser->offset, &size), parser->version)) {
        const char *help = parser->strict && radix == 10 && is_letter(kdl_byte(parser, end))
                               ? "strict KDL has no units behind numbers: quote it"
                               : "text that begins with a digit needs quotes";
        return kdl_fail_expected(parser, "the end of the number", help);
    }
    value->kind = VALUE_NUMBER;
    value->text = kdl_slice(parser, start, end);
    value->unit = kdl_slice(parser, end, parser->offset);
    return true;
}
