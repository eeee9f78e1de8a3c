#include "config/validate_text.h"

#include "base/address.h"
#include "http/bytes.h"

static bool is_alphanumeric(uint8_t byte)
{
    uint8_t lower = ascii_lower(byte);
    return ascii_is_digit(byte) || (lower >= 'a' && lower <= 'z');
}

bool text_is_name(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (!is_alphanumeric(byte) && byte != '-' && byte != '_' && byte != '.') {
            return false;
        }
    }
    return text.size > 0;
}

bool text_is_token(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!byte_is_token(text.data[i])) {
            return false;
        }
    }
    return text.size > 0;
}

bool text_is_field_value(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (byte_is_control(text.data[i])) {
            return false;
        }
    }
    return span_trim(text).size == text.size;
}

bool text_is_version(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!ascii_is_digit(text.data[i]) && text.data[i] != '.') {
            return false;
        }
    }
    return text.size > 0 && ascii_is_digit(text.data[0]) &&
           ascii_is_digit(text.data[text.size - 1]);
}

static bool is_visible(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= 0x20 || text.data[i] >= 0x7F || text.data[i] == '\\' ||
            text.data[i] == '"' || text.data[i] == '<' || text.data[i] == '>') {
            return false;
        }
    }
    return true;
}

bool text_is_target(struct span text)
{
    return span_starts_with(text, SPAN("/")) && is_visible(text) &&
           span_find(text, '#') == text.size;
}

bool text_is_location(struct span text)
{
    if (!is_visible(text)) {
        return false;
    }
    if (span_starts_with(text, SPAN("/"))) {
        return !span_starts_with(text, SPAN("//"));
    }
    const struct span schemes[] = {SPAN("https://"), SPAN("http://")};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (span_starts_with(text, schemes[i])) {
            struct span rest = span_from(text, schemes[i].size);
            return rest.size > 0 && (is_alphanumeric(rest.data[0]) || rest.data[0] == '[');
        }
    }
    return false;
}

bool text_is_unix_socket(struct span text)
{
    if (!span_starts_with(text, SPAN("unix:/")) || !text_is_field_value(text)) {
        return false;
    }
    struct span path = span_from(text, SPAN("unix:").size);
    return path.size > 1 && path.size <= ADDRESS_PATH_MAX && path.data[path.size - 1] != '/';
}

bool text_is_fingerprint(struct span text)
{
    enum { SHA256_DIGITS = 64 };
    for (size_t i = 0; i < text.size; i++) {
        if (ascii_hex_value(text.data[i]) < 0 || text.data[i] != ascii_lower(text.data[i])) {
            return false;
        }
    }
    return text.size == SHA256_DIGITS;
}

bool text_is_printable(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return text.size > 0;
}

/* Takes `type=` off the front. */
static bool take_attribute_type(struct span *text)
{
    size_t size = span_find(*text, '=');
    if (size == 0 || size == text->size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_alphanumeric(text->data[i]) && text->data[i] != '.' && text->data[i] != '-') {
            return false;
        }
    }
    *text = span_from(*text, size + 1);
    return true;
}

bool text_is_subject(struct span text)
{
    bool more = text_is_printable(text);
    if (!more) {
        return false;
    }
    while (more) { /* each turn takes an attribute */
        size_t at = 0;
        if (!take_attribute_type(&text) || span_starts_with(text, SPAN(" "))) {
            return false;
        }
        while (at < text.size && text.data[at] != ',' && text.data[at] != '+') {
            at += text.data[at] == '\\' ? 2 : 1;
        }
        more = at < text.size;
        text = more ? span_from(text, at + 1) : SPAN_EMPTY;
    }
    return true;
}

bool text_has_no_nul(struct span text)
{
    return span_find(text, 0) == text.size;
}
