/*
 * The two messages of gRPC's health checking protocol (grpc.health.v1.Health/Check), framed as gRPC
 * frames messages: a byte that says whether it is compressed, a length of four bytes, and Protocol
 * Buffers of one field each. Pure functions.
 */
#ifndef SENTINEL_CONTROL_GRPC_HEALTH_H
#define SENTINEL_CONTROL_GRPC_HEALTH_H

#include "base/span.h"
#include "http/grpc.h"

enum {
    GRPC_HEALTH_SERVICE_MAX = 255, /* bytes of a service's name */
    GRPC_HEALTH_REQUEST_MAX = GRPC_PREFIX_SIZE + 3 + GRPC_HEALTH_SERVICE_MAX,
    GRPC_HEALTH_RESPONSE_MAX = 256, /* longer ones are no answer: two bytes do */
};

/* HealthCheckRequest{service}; empty: the server as a whole. */
struct span grpc_health_request(struct span service, uint8_t bytes[GRPC_HEALTH_REQUEST_MAX]);

/*
 * Whether the bytes of a response are exactly one uncompressed HealthCheckResponse whose status is
 * SERVING. Other fields are skipped, since a later version may have some; a status that stands
 * there twice or in another type, longer than needed, or cut off, is none.
 */
bool grpc_health_is_serving(struct span body);

#endif
