#include "control/recent_line.h"

#include <string.h>

#include "config/utf8.h"

/* A member as it stands in the line: both without quotes. */
struct member {
    struct span key;
    struct span value;
    bool is_text;
};

static bool take_byte(struct span *rest, uint8_t byte)
{
    if (rest->size == 0 || rest->data[0] != byte) {
        return false;
    }
    *rest = span_from(*rest, 1);
    return true;
}

/*
 * The size of the character that the text begins with; 0 for what is no UTF-8 or steers a terminal.
 * Sentinel escapes both; who answers in its place may not, and lines are printed as they came.
 */
static size_t character_size(struct span text)
{
    uint32_t code_point = 0;
    size_t size = utf8_decode(text, &code_point);
    bool steers = code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
    return steers ? 0 : size;
}

/* Takes a string with its quotes; escapes stay. */
static bool take_string(struct span *rest, struct span *string)
{
    if (!take_byte(rest, '"')) {
        return false;
    }
    bool escaped = false;
    for (size_t i = 0; i < rest->size;) {
        size_t size = character_size(span_from(*rest, i));
        if (size == 0) {
            return false;
        }
        if (rest->data[i] == '"' && !escaped) {
            *string = span_first(*rest, i);
            *rest = span_from(*rest, i + 1);
            return true;
        }
        escaped = rest->data[i] == '\\' && !escaped;
        i += size;
    }
    return false;
}

static bool is_plain(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || ascii_is_digit(byte) || byte == '.' || byte == '-';
}

/* Takes a number, true, false or null. */
static bool take_plain(struct span *rest, struct span *value)
{
    size_t size = 0;
    while (size < rest->size && is_plain(rest->data[size])) {
        size++;
    }
    *value = span_first(*rest, size);
    *rest = span_from(*rest, size);
    return size > 0;
}

static bool take_member(struct span *rest, struct member *member)
{
    if (!take_string(rest, &member->key) || !take_byte(rest, ':')) {
        return false;
    }
    member->is_text = rest->size > 0 && rest->data[0] == '"';
    return member->is_text ? take_string(rest, &member->value) : take_plain(rest, &member->value);
}

/* Goes through the members up to the one of this key (NULL: to the end). */
static bool find(struct span line, const char *key, struct member *member)
{
    struct span rest = line;
    if (!take_byte(&rest, '{')) {
        return false;
    }
    do { /* each member takes bytes away */
        if (!take_member(&rest, member)) {
            return false;
        }
        if (key != NULL && span_equal(member->key, span_of_string(key))) {
            return true;
        }
    } while (take_byte(&rest, ','));
    return key == NULL && take_byte(&rest, '}') && rest.size == 0;
}

bool recent_line_is_sound(struct span line)
{
    struct member member;
    return find(line, NULL, &member);
}

/* The byte that stands at the begin of rest, escaped or not, of what it takes. */
static uint8_t unescape(struct span rest, size_t *taken)
{
    uint8_t byte = rest.data[0];
    *taken = 1;
    if (byte == '\\' && rest.size > 1) {
        byte = rest.data[1];
        *taken = 2;
        if (byte == 'u') {
            *taken = rest.size < 6 ? rest.size : 6;
        }
        if (byte != '"' && byte != '\\' && byte != '/') {
            return '?'; /* only what is not printable is written so */
        }
    }
    return byte >= 0x20 && byte < 0x7f ? byte : '?';
}

bool recent_line_get(struct span line, const char *key, char *text, size_t size)
{
    struct member member;
    text[0] = '\0';
    if (!find(line, key, &member) || (!member.is_text && span_equal(member.value, SPAN("null")))) {
        return false;
    }
    size_t used = 0;
    size_t taken = 0;
    for (size_t i = 0; i < member.value.size && used + 1 < size; i += taken) {
        text[used++] = (char)unescape(span_from(member.value, i), &taken);
    }
    text[used] = '\0';
    return true;
}

bool recent_line_is(struct span line, const char *key, const char *text)
{
    char value[256];
    return recent_line_get(line, key, value, sizeof(value)) && strcmp(value, text) == 0;
}

uint64_t recent_line_number(struct span line, const char *key)
{
    struct member member;
    uint64_t number = 0;
    if (!find(line, key, &member) || member.is_text) {
        return 0;
    }
    return span_to_u64(span_first(member.value, span_find(member.value, '.')), UINT64_MAX, &number)
               ? number
               : 0;
}
