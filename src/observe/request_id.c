#include "observe/request_id.h"

void request_id_make(struct io *io, uint8_t id[REQUEST_ID_SIZE])
{
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t bytes[REQUEST_ID_SIZE / 2];
    io_random(io, bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        id[2 * i] = (uint8_t)DIGITS[bytes[i] >> 4];
        id[2 * i + 1] = (uint8_t)DIGITS[bytes[i] & 15];
    }
}

static bool is_id_byte(uint8_t byte)
{
    uint8_t lower = ascii_lower(byte);
    return ascii_is_digit(byte) || (lower >= 'a' && lower <= 'z') || byte == '-' || byte == '_' ||
           byte == '.';
}

bool request_id_is_acceptable(struct span id)
{
    if (id.size == 0 || id.size > REQUEST_ID_SIZE_MAX) {
        return false;
    }
    for (size_t i = 0; i < id.size; i++) {
        if (!is_id_byte(id.data[i])) {
            return false;
        }
    }
    return true;
}
