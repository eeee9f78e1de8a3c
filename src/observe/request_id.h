/*
 * Request ids: 128 bits of the system's entropy as 32 hexadecimal digits, so that nobody can guess
 * another request's. Pure functions.
 */
#ifndef SENTINEL_OBSERVE_REQUEST_ID_H
#define SENTINEL_OBSERVE_REQUEST_ID_H

#include "base/span.h"
#include "io/io.h"

enum {
    REQUEST_ID_SIZE = 32,     /* of the ids made here */
    REQUEST_ID_SIZE_MAX = 64, /* of those taken over from a trusted peer */
};

/* Eight lower-case digits of these bits, in an order of no meaning. */
void request_id_digits(uint32_t word, uint8_t digits[8]);

/* Writes a fresh id: lower-case digits, no NUL. */
void request_id_make(struct io *io, uint8_t id[REQUEST_ID_SIZE]);

/*
 * Whether a trusted peer's X-Request-Id may be kept: 1 to REQUEST_ID_SIZE_MAX letters, digits, `-`,
 * `_` and `.`. Anything else is replaced by an id of ours.
 */
bool request_id_is_acceptable(struct span id);

#endif
