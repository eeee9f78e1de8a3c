/*
 * UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. Used by
 * the parsers of the configuration and by the diagnostics; pure functions, no state.
 */
#ifndef SENTINEL_CONFIG_UTF8_H
#define SENTINEL_CONFIG_UTF8_H

#include "base/span.h"

enum { UTF8_SIZE_MAX = 4 };

/*
 * Decodes the first code point of a span that is not empty. Returns its size in bytes, or 0, with
 * *code_point untouched, when the bytes are malformed or cut short.
 */
size_t utf8_decode(struct span bytes, uint32_t *code_point);

/* Writes a Unicode scalar value (asserted) and returns its size in bytes. */
size_t utf8_encode(uint32_t code_point, uint8_t bytes[UTF8_SIZE_MAX]);

/* True for a code point that is neither a surrogate nor above U+10FFFF. */
static inline bool utf8_is_scalar(uint32_t code_point)
{
    return code_point < 0xD800 || (code_point > 0xDFFF && code_point <= 0x10FFFF);
}

#endif
