#include "observe/json_write.h"

#include "config/utf8.h"

enum { ESCAPED_MAX = 6 }; /* bytes that one character can become */

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* True for printable ASCII but the quote and the backslash: what stands for itself in a string. */
static inline bool is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

/*
 * Has the top bit of some byte set if one of the eight bytes does not stand for itself. A byte of 0
 * to 0x7f gets it by falling below zero in one of the differences; what it borrows from the bytes
 * above can only mark them, too, when there is a mark already.
 */
static inline uint64_t mark_special(uint64_t word)
{
    uint64_t marks = word | (word - EACH_BYTE(0x20)) | ((word ^ EACH_BYTE('"')) - EACH_BYTE(1)) |
                     ((word ^ EACH_BYTE('\\')) - EACH_BYTE(1)) |
                     ((word ^ EACH_BYTE(0x7f)) - EACH_BYTE(1));
    return marks & EACH_BYTE(0x80);
}

static inline uint64_t copy_word(uint8_t *to, const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof(word));
    memcpy(to, &word, sizeof(word));
    return mark_special(word);
}

static inline uint64_t copy_half(uint8_t *to, const uint8_t *from)
{
    uint32_t half;
    memcpy(&half, from, sizeof(half));
    memcpy(to, &half, sizeof(half));
    return mark_special(half | (uint64_t)half << 32);
}

/*
 * Copies the text as it is; false if a byte of it needs an escape, which nearly none does: then the
 * copy is worthless.
 */
static inline bool copy_plain(uint8_t *to, struct span text)
{
    uint64_t marks = 0;
    size_t size = text.size;
    if (size >= sizeof(uint64_t)) {
        size_t last = size - sizeof(uint64_t);
        for (size_t i = 0; i < last; i += sizeof(uint64_t)) {
            marks |= copy_word(to + i, text.data + i);
        }
        marks |= copy_word(to + last, text.data + last); /* may overlap the one before */
    } else if (size >= sizeof(uint32_t)) {
        size_t last = size - sizeof(uint32_t);
        marks |= copy_half(to, text.data);
        marks |= copy_half(to + last, text.data + last);
    } else {
        for (size_t i = 0; i < size; i++) {
            to[i] = text.data[i];
            marks |= is_plain(to[i]) ? 0 : 1;
        }
    }
    return marks == 0;
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

bool json_plain(struct output *output, struct span text)
{
    uint8_t *place = output_take(output, text.size);
    if (place == NULL || copy_plain(place, text)) {
        return place != NULL;
    }
    output->size -= text.size;
    return false;
}

void json_escape(struct output *output, struct span text, size_t max)
{
    ASSERT(max >= sizeof(JSON_CUT_MARK) - 1);
    if (text.size > max || !json_plain(output, text)) {
        escape_slowly(output, text, max);
    }
}

void json_string(struct output *output, struct span text, size_t max)
{
    size_t start = output->size;
    uint8_t *place = text.size <= max ? output_take(output, text.size + 2) : NULL;
    if (place != NULL && copy_plain(place + 1, text)) {
        place[0] = '"';
        place[text.size + 1] = '"';
        return;
    }
    if (place != NULL) {
        output->size = start;
    }
    output_byte(output, '"');
    json_escape(output, text, max);
    output_byte(output, '"');
}

void json_boolean(struct output *output, bool value)
{
    output_span(output, value ? SPAN("true") : SPAN("false"));
}
