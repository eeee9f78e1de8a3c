#include "observe/json_write.h"

#include "config/utf8.h"

enum { ESCAPED_MAX = 6 }; /* bytes that one character can become */

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Nonzero if one of the eight bytes is zero. */
static inline uint64_t find_zero(uint64_t word)
{
    return (word - EACH_BYTE(0x01)) & ~word & EACH_BYTE(0x80);
}

/* True for printable ASCII but the quote and the backslash: what stands for itself in a string. */
static inline bool is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

/* True if one of the eight bytes does not stand for itself. */
static inline bool has_special(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    uint64_t control = (word - EACH_BYTE(0x20)) & ~word & EACH_BYTE(0x80);
    uint64_t special = find_zero(word ^ EACH_BYTE('"')) | find_zero(word ^ EACH_BYTE('\\')) |
                       find_zero(word ^ EACH_BYTE(0x7f));
    return (control | special | (word & EACH_BYTE(0x80))) != 0;
}

/* True for a text without a byte that needs an escape: nearly all are such. */
static bool is_plain_text(struct span text)
{
    if (text.size < sizeof(uint64_t)) {
        bool plain = true;
        for (size_t i = 0; i < text.size; i++) {
            plain &= is_plain(text.data[i]);
        }
        return plain;
    }
    for (size_t i = 0; text.size - i > sizeof(uint64_t); i += sizeof(uint64_t)) {
        if (has_special(text.data + i)) {
            return false;
        }
    }
    return !has_special(text.data + text.size - sizeof(uint64_t)); /* may overlap the one before */
}

/*
 * Writes the escaped form of the text's first character and returns its size in the text; what is
 * no UTF-8 is a character of one byte.
 */
static size_t escape_one(struct span text, uint8_t escaped[ESCAPED_MAX], size_t *escaped_size)
{
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t byte = text.data[0];
    uint32_t code_point = byte;
    size_t size = utf8_decode(text, &code_point);
    if (is_plain(byte) || (size > 1 && code_point >= 0xa0)) {
        memcpy(escaped, text.data, size);
        *escaped_size = size;
        return size;
    }
    if (byte == '"' || byte == '\\') {
        escaped[0] = '\\';
        escaped[1] = byte;
        *escaped_size = 2;
        return 1;
    }
    memcpy(escaped, "\\u00", 4);
    escaped[4] = (uint8_t)DIGITS[(code_point >> 4) & 15];
    escaped[5] = (uint8_t)DIGITS[code_point & 15];
    *escaped_size = ESCAPED_MAX;
    return size == 0 ? 1 : size;
}

static void escape_slowly(struct output *output, struct span text, size_t max)
{
    struct span mark = SPAN(JSON_CUT_MARK);
    size_t start = output->size;
    size_t cut = start; /* where the mark would go: as late as it still fits */
    while (text.size > 0) {
        uint8_t escaped[ESCAPED_MAX];
        size_t escaped_size = 0;
        size_t size = escape_one(text, escaped, &escaped_size);
        size_t used = output->size - start;
        if (used <= max - mark.size) {
            cut = output->size;
        }
        if (escaped_size > max - used) {
            output->size = cut;
            output_span(output, mark);
            return;
        }
        output_span(output, span_of(escaped, escaped_size));
        if (output->overflowed) {
            return;
        }
        text = span_from(text, size);
    }
}

void json_escape(struct output *output, struct span text, size_t max)
{
    ASSERT(max >= sizeof(JSON_CUT_MARK) - 1);
    if (text.size <= max && is_plain_text(text)) {
        output_span(output, text);
        return;
    }
    escape_slowly(output, text, max);
}

void json_string(struct output *output, struct span text, size_t max)
{
    output_byte(output, '"');
    json_escape(output, text, max);
    output_byte(output, '"');
}

void json_boolean(struct output *output, bool value)
{
    output_span(output, value ? SPAN("true") : SPAN("false"));
}
