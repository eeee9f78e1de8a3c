/*
 * gRPC as far as a proxy has to know it (PROTOCOL-HTTP2 of its documentation): which requests are
 * calls, what a call's outcome is called and which HTTP statuses and reasons of ours mean which,
 * how long a call may take, and how a status tells its message. Pure functions over spans; nothing
 * is allocated.
 */
#ifndef SENTINEL_HTTP_GRPC_H
#define SENTINEL_HTTP_GRPC_H

#include "base/output.h"
#include "base/reason.h"
#include "http/message.h"

enum grpc_status {
#define GRPC_STATUS(id, code) GRPC_##id = code,
#include "http/grpc.def"
    GRPC_STATUS_COUNT,
    GRPC_STATUS_NONE = GRPC_STATUS_COUNT, /* none was told */
};

enum {
    GRPC_PREFIX_SIZE = 5,     /* bytes before a message: whether it is compressed, its length */
    GRPC_TIMEOUT_MAX = 9,     /* bytes: eight digits and a unit */
    GRPC_STATUS_TEXT_MAX = 2, /* digits */
    GRPC_MESSAGE_GROWTH = 3,  /* a byte of a message takes so many at most */
};

/* How far a body of length-prefixed messages was read. All zero: not yet. */
struct grpc_messages {
    uint32_t length; /* as far as its bytes have come */
    uint32_t left;   /* bytes of the message that are still to come */
    uint8_t prefix;  /* bytes of the next message's prefix that have come */
};

/*
 * Whether a Content-Type is gRPC's: application/grpc by itself, with a +suffix, or with parameters.
 * application/grpc-web and the like are other protocols.
 */
bool grpc_is_content_type(struct span value);

/* Whether a message's one Content-Type is gRPC's. */
bool grpc_has_content_type(const struct fields *fields);

/* Whether a request is a call: POST with such a content type. */
bool grpc_is_call(enum method method, const struct fields *fields);

/* The name, as in "UNAVAILABLE", and digits of a status below GRPC_STATUS_COUNT. Static. */
const char *grpc_status_name(enum grpc_status status);
struct span grpc_status_digits(enum grpc_status status);

/* The value of a grpc-status field; what is none of the known ones is UNKNOWN, as clients take it.
 */
enum grpc_status grpc_status_read(struct span value);

/* What an HTTP status that is no gRPC answer means to a client, by the published mapping. */
enum grpc_status grpc_status_of_http(uint16_t status);

/* What a failure of ours is to a gRPC client. The reason is not REASON_NONE. */
enum grpc_status grpc_status_of_reason(enum reason reason);

/*
 * The value of a grpc-timeout field: 1 to 8 digits and a unit (H, M, S, m, u, n), in microseconds,
 * rounded up. 0 stays 0: the time is up already. ERROR for anything else.
 */
NODISCARD enum status grpc_timeout_read(struct span value, uint64_t *microseconds);

/*
 * Writes a timeout in the finest unit that has room for it, rounded down but never to 0; what
 * exceeds the longest one is that.
 */
struct span grpc_timeout_write(uint64_t microseconds, uint8_t bytes[GRPC_TIMEOUT_MAX]);

/*
 * Reads on, over the next bytes of the body, however it is divided. False: there begins a message
 * of more than `max` bytes, its prefix aside.
 */
NODISCARD bool grpc_messages_read(struct grpc_messages *messages, struct span bytes, uint64_t max);

/* Writes text as the value of a grpc-message field: %XX for all but printable ASCII, and for %. */
void grpc_message_write(struct output *output, struct span text);

#endif
