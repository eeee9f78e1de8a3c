#include "config/utf8.h"

#include "base/assert.h"

/* The number of bytes that a lead byte announces; 0 for a byte that cannot lead. */
static size_t announced_size(uint8_t lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2) { /* a continuation byte, or an overlong form of ASCII */
        return 0;
    }
    if (lead < 0xE0) {
        return 2;
    }
    if (lead < 0xF0) {
        return 3;
    }
    return lead < 0xF5 ? 4 : 0;
}

size_t utf8_decode(struct span bytes, uint32_t *code_point)
{
    static const uint32_t lowest[UTF8_SIZE_MAX + 1] = {0, 0, 0x80, 0x800, 0x10000};
    ASSERT(bytes.size > 0);
    size_t size = announced_size(bytes.data[0]);
    if (size == 1) {
        *code_point = bytes.data[0];
        return 1;
    }
    if (size == 0 || size > bytes.size) {
        return 0;
    }
    uint32_t result = bytes.data[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((bytes.data[i] & 0xC0) != 0x80) {
            return 0;
        }
        result = result << 6 | (bytes.data[i] & 0x3F);
    }
    if (result < lowest[size] || !utf8_is_scalar(result)) {
        return 0;
    }
    *code_point = result;
    return size;
}

size_t utf8_encode(uint32_t code_point, uint8_t bytes[UTF8_SIZE_MAX])
{
    ASSERT(utf8_is_scalar(code_point));
    if (code_point < 0x80) {
        bytes[0] = (uint8_t)code_point;
        return 1;
    }
    size_t size = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        bytes[i] = (uint8_t)(0x80 | (code_point & 0x3F));
        code_point >>= 6;
    }
    bytes[0] = (uint8_t)((0xF00u >> size) | code_point);
    return size;
}
