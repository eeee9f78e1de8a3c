/*
 * One call of grpc.health.v1.Health/Check on a connection of its own: HTTP/2 as far as that needs
 * it. nghttp2 codes the frames; the memory of all calls is one mapping, of which each has its own
 * share, so that no endpoint can take another's, or more of the controller than was planned. Bytes
 * go in and come out here; who moves them, and for how long, is the caller's matter
 * (control/health_check.h).
 *
 * The answer is strict: status 200, a content type of gRPC, exactly one message that says SERVING,
 * grpc-status 0. Everything else is not well: another status, GOAWAY or a reset before that, more
 * bytes than such an answer can have, a field that stands there twice.
 */
#ifndef SENTINEL_CONTROL_GRPC_CHECK_H
#define SENTINEL_CONTROL_GRPC_CHECK_H

#include "base/status.h"
#include "control/grpc_health.h"
#include "http/http2_memory.h"

enum {
    GRPC_CHECK_MEMORY = 64 * 1024,    /* of one call: it takes about 25 KiB */
    GRPC_CHECK_BYTES_MAX = 64 * 1024, /* that an endpoint may send in one */
};

/* What all calls share. */
struct grpc_check_context {
    struct http2_memory memory;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
};

/* Bytes that the memory of so many calls at a time takes. */
uint64_t grpc_check_bytes(uint32_t calls);

/* False with errno when memory is short. One that is all zero may be deinitialised, too. */
NODISCARD bool grpc_check_init(struct grpc_check_context *context, uint32_t calls);
void grpc_check_deinit(struct grpc_check_context *context);

/* What is asked. The spans are read during the call of grpc_check_begin only. */
struct grpc_question {
    struct span authority;
    struct span service; /* empty: the server as a whole */
    bool secure;         /* over TLS */
    uint64_t timeout;    /* microseconds: told to the endpoint, too */
};

/* All zero: no call is under way. Must not move while one is. */
struct grpc_check {
    struct http2_account account;
    nghttp2_session *codec; /* NULL: none */
    struct span pending;    /* out of the codec, not sent yet */
    int32_t stream;
    uint32_t received; /* bytes in all */
    uint16_t status;   /* of the response; 0: none yet */
    bool typed;        /* its content type is gRPC's */
    bool well;         /* grpc-status is 0 */
    bool ended;        /* END_STREAM has come */
    bool failed;
    uint32_t request_size;
    uint32_t request_sent;
    uint32_t answer_size;
    uint8_t request[GRPC_HEALTH_REQUEST_MAX];
    uint8_t answer[GRPC_HEALTH_RESPONSE_MAX];
};

/* Begins a call. False without memory for it, which says nothing of the endpoint. */
NODISCARD bool grpc_check_begin(struct grpc_check *check, struct grpc_check_context *context,
                                const struct grpc_question *question);

/*
 * What is to be sent next, and that so much of it was; empty: nothing now. `failed` is set where
 * nothing good can come of it any more, of whatever was received before.
 */
struct span grpc_check_output(struct grpc_check *check);
void grpc_check_sent(struct grpc_check *check, size_t size);

/* Takes what came. OK: the service is well. ERROR: it is not. AGAIN: that is still to be told. */
NODISCARD enum status grpc_check_input(struct grpc_check *check, struct span bytes);

/* Ends it, whatever came; harmless twice. */
void grpc_check_end(struct grpc_check *check);

#endif
