#include "base/output.h"

enum { DECIMAL_DIGITS_MAX = 20, HEX_DIGITS_MAX = 16 };

void output_u64(struct output *output, uint64_t value)
{
    uint8_t digits[DECIMAL_DIGITS_MAX];
    size_t start = sizeof(digits);
    if (value < 10) {
        output_byte(output, (uint8_t)('0' + value));
        return;
    }
    do {
        digits[--start] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    output_span(output, span_of(digits + start, sizeof(digits) - start));
}

void output_hex(struct output *output, uint64_t value)
{
    uint8_t digits[HEX_DIGITS_MAX];
    size_t start = sizeof(digits);
    do {
        digits[--start] = (uint8_t) "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value > 0);
    output_span(output, span_of(digits + start, sizeof(digits) - start));
}
