/*
 * The one result type of every call that can wait or fail. A call that returns ERROR has said why
 * through an `enum reason` out-parameter or member beside it; out-parameters are untouched unless
 * the call's contract says otherwise.
 */
#ifndef SENTINEL_BASE_STATUS_H
#define SENTINEL_BASE_STATUS_H

enum status {
    OK,    /* done */
    AGAIN, /* nothing now; whoever can change that will wake the caller */
    END,   /* an orderly end: nothing follows */
    ERROR, /* failed for good */
};

#define NODISCARD __attribute__((warn_unused_result))
#define UNUSED __attribute__((unused))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

#endif
