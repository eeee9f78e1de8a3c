/*
 * What an exchange knows of the gRPC call that it carries, and how it tells such a client what went
 * wrong: 200 with grpc-status and grpc-message in place of an error page, or, where the response
 * has begun, trailers with them. Every function here is called for any exchange; those that are no
 * calls pass through.
 */
#ifndef SENTINEL_PROXY_GRPC_CALL_H
#define SENTINEL_PROXY_GRPC_CALL_H

#include "http/grpc.h"

struct exchange;

struct grpc_call {
    uint64_t deadline; /* of the whole call, out of its grpc-timeout; UINT64_MAX: none was given */
    uint8_t status;    /* enum grpc_status: how it ended; GRPC_STATUS_NONE: not known */
    bool on;           /* the request is a call */
    struct grpc_messages messages; /* of the client's, as far as they have come */
    bool answered;                 /* and its response, which has begun, is gRPC's, too */
};

/* Finds out whether the request is a call, also of a head that is refused. */
void grpc_call_begin(struct exchange *exchange);

/* Reads how long it may take. REASON_NONE, or why it is not to be tried at all. */
enum reason grpc_call_admit(struct exchange *exchange);

/* Takes the next bytes of its request; false: a message of it is longer than the route takes. */
NODISCARD bool grpc_call_takes(struct exchange *exchange, struct span bytes);

/* Why a total deadline that has passed has passed. */
enum reason grpc_call_expired(const struct exchange *exchange);

/* Tells the upstream what is left of the time; the value is in the draft. */
NODISCARD bool grpc_call_add_timeout(struct exchange *exchange, struct fields *fields);

/* Takes what the response's head, and later its trailers (NULL: none), say of the outcome. */
void grpc_call_note_response(struct exchange *exchange);
void grpc_call_note_trailers(struct exchange *exchange, const struct fields *trailers);

/* Whether the response is but a head (Trailers-Only), which needs no length of nothing. */
bool grpc_call_is_trailers_only(const struct exchange *exchange);

/*
 * Whether the outcome has yet to come, behind a body whose length was announced; known once the
 * response was noted.
 */
bool grpc_call_awaits_trailers(const struct exchange *exchange);

/* Whether a trailer field may be passed on to a gRPC client: any but those of RFC 9110, 6.5.1. */
bool grpc_call_passes_trailer(const struct field *field);

/* grpc-status and grpc-message for the exchange's reason; they live in its arena. */
NODISCARD bool grpc_call_add_status(struct exchange *exchange, struct fields *fields);

/*
 * Whether a response that is being relayed can still end with trailers that say why: the client is
 * there, reads, and was promised no length.
 */
bool grpc_call_can_close(const struct exchange *exchange, enum reason reason);

/* What the record tells of the outcome: for failures what they mean to the client. */
enum grpc_status grpc_call_outcome(const struct exchange *exchange);

#endif
