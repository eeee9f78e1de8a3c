/*
 * The handshake of WebSocket over HTTP/1.1 (RFC 6455, 4): a key that the client draws, and what an
 * origin that speaks WebSocket makes of it. It keeps caches and origins without WebSocket from
 * taking part by accident and protects no secret, which is why its SHA-1 is ours: a library's would
 * bring its heap into workers that speak no TLS. HTTP/2 has neither (RFC 8441, 5), so that a proxy
 * between the two draws the one and makes the other. Pure functions.
 */
#ifndef SENTINEL_HTTP_WEBSOCKET_H
#define SENTINEL_HTTP_WEBSOCKET_H

#include "base/span.h"

enum {
    WEBSOCKET_NONCE_SIZE = 16,
    WEBSOCKET_KEY_SIZE = 24,    /* of base64 */
    WEBSOCKET_ACCEPT_SIZE = 28, /* the same */
};

/* Whether it is the base64 of 16 bytes. */
bool websocket_is_key(struct span text);

/* The key of 16 random bytes. */
void websocket_make_key(const uint8_t nonce[WEBSOCKET_NONCE_SIZE], uint8_t key[WEBSOCKET_KEY_SIZE]);

/* What Sec-WebSocket-Accept says to this key, which is one. */
void websocket_accept(struct span key, uint8_t accept[WEBSOCKET_ACCEPT_SIZE]);

#endif
