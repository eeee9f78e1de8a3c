/*
 * The other end of a connection for fuzzers of sessions: what comes is the input, in pieces of any
 * size, and what is sent is taken in pieces of any size, as a generator of numbers decides. And
 * what no message may show that is handed out, whatever came.
 */
#ifndef SENTINEL_HTTP_HOSTILE_PEER_FUZZ_H
#define SENTINEL_HTTP_HOSTILE_PEER_FUZZ_H

#include <string.h>

#include "base/assert.h"
#include "base/span.h"
#include "http/bytes.h"
#include "http/http1_chunked.h"
#include "http/message.h"
#include "net/transport.h"

enum { PEER_INPUT_MAX = 64 * 1024 };

struct hostile_peer {
    struct span input;
    uint32_t random;
};

static struct hostile_peer *the_peer; /* a fuzzer's transport knows no owner */

static uint32_t peer_roll(struct hostile_peer *peer, uint32_t bound)
{
    peer->random = peer->random * 1664525 + 1013904223;
    return (peer->random >> 16) % bound;
}

/*
 * A fuzzer's input: two bytes that steer, then what the peer says; a bit leaves out what `front`
 * puts before it. False: it is none.
 */
static bool peer_begin(struct hostile_peer *peer, struct span front, struct span data)
{
    static uint8_t input[PEER_INPUT_MAX];
    if (data.size < 2 || data.size > sizeof(input) - front.size) {
        return false;
    }
    size_t size = (data.data[0] & 1) != 0 ? 0 : front.size;
    memcpy(input, front.data, size);
    memcpy(input + size, data.data + 2, data.size - 2);
    peer->input = span_of(input, size + data.size - 2);
    peer->random = (uint32_t)data.data[0] << 8 | data.data[1];
    return true;
}

/* Fields as HTTP/1 has them, which nobody takes for anything else. */
static void peer_check_fields(const struct fields *fields, size_t most)
{
    ASSERT(fields->count <= most);
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        ASSERT(field->name.size > 0);
        for (size_t j = 0; j < field->name.size; j++) {
            ASSERT(byte_is_token(field->name.data[j]));
        }
        ASSERT(bytes_find_control(field->value.data, field->value.size) == field->value.size);
        ASSERT(field->id != FIELD_CONNECTION && field->id != FIELD_TRANSFER_ENCODING);
    }
}

static enum status peer_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    struct hostile_peer *peer = the_peer;
    (void)transport;
    if (peer->input.size == 0) {
        return peer_roll(peer, 8) == 0 ? END : AGAIN;
    }
    if (peer_roll(peer, 4) == 0) {
        return AGAIN;
    }
    size_t wanted = 1 + peer_roll(peer, peer_roll(peer, 2) == 0 ? 30 : 5000);
    wanted = wanted < peer->input.size ? wanted : peer->input.size;
    *got = wanted < size ? wanted : size;
    memcpy(data, peer->input.data, *got);
    peer->input = span_from(peer->input, *got);
    return OK;
}

static enum status peer_write(struct transport *transport, const struct iovec *pieces, int count,
                              size_t *put)
{
    struct hostile_peer *peer = the_peer;
    size_t all = 0;
    (void)transport;
    for (int i = 0; i < count; i++) {
        all += pieces[i].iov_len;
    }
    ASSERT(all > 0);
    switch (peer_roll(peer, 6)) {
    case 0:
        return AGAIN;
    case 1:
        *put = 1 + peer_roll(peer, (uint32_t)all);
        return OK;
    default:
        *put = all;
        return OK;
    }
}

static enum status peer_shutdown(struct transport *transport)
{
    (void)transport;
    return OK;
}

static void peer_close(struct transport *transport)
{
    transport->socket.fd = -1;
    list_unlink(&transport->socket.ready_link);
}

static const struct transport_ops HOSTILE_PEER = {.name = "hostile peer",
                                                  .read = peer_read,
                                                  .write = peer_write,
                                                  .shutdown = peer_shutdown,
                                                  .close = peer_close,
                                                  .reset = peer_close};

#endif
