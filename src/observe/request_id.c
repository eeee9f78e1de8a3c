#include "observe/request_id.h"

/* A nibble in each byte, then '0' to '9' or 'a' to 'f' without a branch. */
void request_id_digits(uint32_t word, uint8_t digits[8])
{
    uint64_t nibbles = word;
    nibbles = (nibbles | nibbles << 16) & UINT64_C(0x0000ffff0000ffff);
    nibbles = (nibbles | nibbles << 8) & UINT64_C(0x00ff00ff00ff00ff);
    nibbles = (nibbles | nibbles << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    uint64_t letters = (nibbles + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
    uint64_t text = nibbles + UINT64_C(0x3030303030303030) + letters * ('a' - '0' - 10);
    memcpy(digits, &text, sizeof(text));
}

void request_id_make(struct io *io, uint8_t id[REQUEST_ID_SIZE])
{
    uint32_t words[REQUEST_ID_SIZE / 8];
    io_random(io, words, sizeof(words));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        request_id_digits(words[i], id + 8 * i);
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
