/*
 * Every way in which an exchange, a session or an attempt can fail has one row in error.def, and
 * with it one enum value, one metric label, one log text and one hint for the operator.
 */
#ifndef SENTINEL_BASE_REASON_H
#define SENTINEL_BASE_REASON_H

#include <stdint.h>

enum reason {
    REASON_NONE,
#define REASON(id, status, proxy_status, label, keys, text, hint) REASON_##id,
#include "base/error.def"
#undef REASON
    REASON_COUNT
};

/* All strings are static. For REASON_NONE: status 0, label "none", empty texts. */
struct reason_info {
    uint16_t status;          /* HTTP status of the answer; 0 where none can be sent any more */
    const char *proxy_status; /* error type of RFC 9209, section 2.3 */
    const char *label;        /* in logs and metrics: [a-z_]+ */
    const char *keys;         /* configuration keys that raise it, divided by spaces; or "" */
    const char *text;         /* one clause for clients and logs */
    const char *hint;         /* what an operator can do */
};

/* The row of a reason; asserts that the value is in range. */
const struct reason_info *reason_info(enum reason reason);

#endif
