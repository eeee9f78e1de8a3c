#include "base/span.h"

int ascii_hex_value(uint8_t byte)
{
    if (ascii_is_digit(byte)) {
        return byte - '0';
    }
    uint8_t lower = ascii_lower(byte);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool span_equal_nocase(struct span a, struct span b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

size_t span_find(struct span span, uint8_t byte)
{
    if (span.size == 0) {
        return 0;
    }
    const uint8_t *found = memchr(span.data, byte, span.size);
    return found == NULL ? span.size : (size_t)(found - span.data);
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

struct span span_trim(struct span span)
{
    while (span.size > 0 && is_blank(span.data[0])) {
        span = span_from(span, 1);
    }
    while (span.size > 0 && is_blank(span.data[span.size - 1])) {
        span.size--;
    }
    return span;
}

bool span_next_element(struct span *rest, struct span *element)
{
    while (rest->size > 0) {
        size_t size = span_find(*rest, ',');
        struct span found = span_trim(span_first(*rest, size));
        *rest = span_from(*rest, size < rest->size ? size + 1 : size);
        if (found.size > 0) {
            *element = found;
            return true;
        }
    }
    return false;
}

bool span_to_u64(struct span span, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < span.size; i++) {
        if (!ascii_is_digit(span.data[i]) || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(span.data[i] - '0'), &sum) || sum > max) {
            return false;
        }
    }
    if (span.size == 0) {
        return false;
    }
    *value = sum;
    return true;
}
