#include "control/grpc_health.h"

#include "base/assert.h"
#include "base/output.h"

enum {
    SERVING = 1,
    FIELD = 1, /* of both messages */
    WIRE_VARINT = 0,
    WIRE_64 = 1,
    WIRE_BYTES = 2,
    WIRE_32 = 5,
    WIRE_BITS = 3,
    VARINT_MAX = 10, /* bytes */
    GROUP_BITS = 7,
};

struct span grpc_health_request(struct span service, uint8_t bytes[GRPC_HEALTH_REQUEST_MAX])
{
    struct output output = output_over(bytes, GRPC_HEALTH_REQUEST_MAX);
    const bool two = service.size > 127; /* bytes of its length */
    const size_t size = service.size == 0 ? 0 : service.size + (two ? 3 : 2);
    ASSERT(service.size <= GRPC_HEALTH_SERVICE_MAX);
    const uint8_t prefix[GRPC_PREFIX_SIZE] = {0, 0, 0, (uint8_t)(size >> 8), (uint8_t)size};
    output_span(&output, span_of(prefix, sizeof(prefix)));
    if (size > 0) {
        output_byte(&output, FIELD << WIRE_BITS | WIRE_BYTES);
        output_byte(&output, (uint8_t)(two ? service.size | 0x80 : service.size));
        if (two) {
            output_byte(&output, (uint8_t)(service.size >> GROUP_BITS));
        }
        output_span(&output, service);
    }
    ASSERT(!output.overflowed && output.size == GRPC_PREFIX_SIZE + size);
    return output_bytes(&output);
}

/* Takes a varint off the front: 64 bits, in as few bytes as they need. */
static bool take_varint(struct span *rest, uint64_t *value)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < rest->size && i < VARINT_MAX; i++) {
        uint8_t byte = rest->data[i];
        bool last = (byte & 0x80) == 0;
        if ((i == VARINT_MAX - 1 && byte > 1) || (last && byte == 0 && i > 0)) {
            return false;
        }
        sum |= (uint64_t)(byte & 0x7F) << (i * GROUP_BITS);
        if (last) {
            *rest = span_from(*rest, i + 1);
            *value = sum;
            return true;
        }
    }
    return false;
}

static bool take_bytes(struct span *rest, uint64_t size)
{
    if (size > rest->size) {
        return false;
    }
    *rest = span_from(*rest, (size_t)size);
    return true;
}

static bool skip(struct span *rest, unsigned wire)
{
    uint64_t value = 0;
    switch (wire) {
    case WIRE_VARINT:
        return take_varint(rest, &value);
    case WIRE_64:
        return take_bytes(rest, 8);
    case WIRE_BYTES:
        return take_varint(rest, &value) && take_bytes(rest, value);
    case WIRE_32:
        return take_bytes(rest, 4);
    default:
        return false; /* groups, which nobody uses, and what is no type */
    }
}

static bool is_serving(struct span message)
{
    bool seen = false;
    uint64_t status = 0;
    while (message.size > 0) {
        uint64_t tag = 0;
        if (!take_varint(&message, &tag) || tag >> WIRE_BITS == 0 || tag > UINT32_MAX) {
            return false;
        }
        unsigned wire = tag & 7;
        if (tag >> WIRE_BITS != FIELD) {
            if (!skip(&message, wire)) {
                return false;
            }
            continue;
        }
        if (seen || wire != WIRE_VARINT || !take_varint(&message, &status)) {
            return false;
        }
        seen = true;
    }
    return status == SERVING;
}

bool grpc_health_is_serving(struct span body)
{
    if (body.size < GRPC_PREFIX_SIZE || body.data[0] != 0) {
        return false;
    }
    size_t size = 0;
    for (size_t i = 1; i < GRPC_PREFIX_SIZE; i++) {
        size = size << 8 | body.data[i];
    }
    struct span message = span_from(body, GRPC_PREFIX_SIZE);
    return message.size == size && is_serving(message);
}
