#include "http/websocket.h"

#include <string.h>

#include "base/assert.h"

#define SUFFIX "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

enum {
    BLOCK_SIZE = 64,
    DIGEST_WORDS = 5,
    DIGEST_SIZE = 4 * DIGEST_WORDS,
    ROUNDS = 80,
    LENGTH_SIZE = 8, /* of the message, in bits, at the end of its last block */
    MESSAGE_SIZE = WEBSOCKET_KEY_SIZE + sizeof(SUFFIX) - 1,
};

/* Key and suffix fill a block but for the mark of their end; the length is in the next one. */
static_assert((int)MESSAGE_SIZE < BLOCK_SIZE && (int)MESSAGE_SIZE > BLOCK_SIZE - LENGTH_SIZE, "");

static const char ALPHABET[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Base64 with padding (RFC 4648, 4). */
static void encode(const uint8_t *bytes, size_t size, uint8_t *text)
{
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        *text++ = (uint8_t)ALPHABET[group >> 18];
        *text++ = (uint8_t)ALPHABET[group >> 12 & 63];
        *text++ = left > 1 ? (uint8_t)ALPHABET[group >> 6 & 63] : '=';
        *text++ = left > 2 ? (uint8_t)ALPHABET[group & 63] : '=';
    }
}

bool websocket_is_key(struct span text)
{
    if (text.size != WEBSOCKET_KEY_SIZE || text.data[22] != '=' || text.data[23] != '=') {
        return false;
    }
    for (size_t i = 0; i < 22; i++) {
        if (text.data[i] == '\0' || strchr(ALPHABET, text.data[i]) == NULL) {
            return false;
        }
    }
    return strchr("AQgw", text.data[21]) != NULL; /* four bits of it are none of the 16 bytes */
}

void websocket_make_key(const uint8_t nonce[WEBSOCKET_NONCE_SIZE], uint8_t key[WEBSOCKET_KEY_SIZE])
{
    encode(nonce, WEBSOCKET_NONCE_SIZE, key);
}

static uint32_t rotate(uint32_t word, unsigned bits)
{
    return word << bits | word >> (32 - bits);
}

/* The words of a block and what follows from them (RFC 3174, 6.1). */
static void schedule(const uint8_t block[BLOCK_SIZE], uint32_t words[ROUNDS])
{
    for (size_t i = 0; i < ROUNDS; i++) {
        if (i < BLOCK_SIZE / 4) {
            const uint8_t *at = block + 4 * i;
            words[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        } else {
            words[i] = rotate(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
        }
    }
}

/* The function and the constant of a round. */
static uint32_t mix(size_t round, const uint32_t state[DIGEST_WORDS])
{
    uint32_t b = state[1];
    uint32_t c = state[2];
    uint32_t d = state[3];
    switch (round / 20) {
    case 0:
        return ((b & c) | (~b & d)) + 0x5A827999U;
    case 1:
        return (b ^ c ^ d) + 0x6ED9EBA1U;
    case 2:
        return ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDCU;
    default:
        return (b ^ c ^ d) + 0xCA62C1D6U;
    }
}

static void digest_block(uint32_t digest[DIGEST_WORDS], const uint8_t block[BLOCK_SIZE])
{
    uint32_t words[ROUNDS];
    uint32_t state[DIGEST_WORDS];
    schedule(block, words);
    memcpy(state, digest, sizeof(state));
    for (size_t i = 0; i < ROUNDS; i++) {
        uint32_t next = rotate(state[0], 5) + mix(i, state) + state[4] + words[i];
        state[4] = state[3];
        state[3] = state[2];
        state[2] = rotate(state[1], 30);
        state[1] = state[0];
        state[0] = next;
    }
    for (size_t i = 0; i < DIGEST_WORDS; i++) {
        digest[i] += state[i];
    }
}

void websocket_accept(struct span key, uint8_t accept[WEBSOCKET_ACCEPT_SIZE])
{
    uint32_t digest[DIGEST_WORDS] = {0x67452301U, 0xEFCDAB89U, 0x98BADCFEU, 0x10325476U,
                                     0xC3D2E1F0U};
    uint8_t blocks[2][BLOCK_SIZE] = {{0}};
    uint8_t bytes[DIGEST_SIZE];
    ASSERT(key.size == WEBSOCKET_KEY_SIZE);
    memcpy(blocks[0], key.data, key.size);
    memcpy(blocks[0] + key.size, SUFFIX, sizeof(SUFFIX) - 1);
    blocks[0][MESSAGE_SIZE] = 0x80;
    blocks[1][BLOCK_SIZE - 2] = (uint8_t)(8 * MESSAGE_SIZE >> 8);
    blocks[1][BLOCK_SIZE - 1] = (uint8_t)(8 * MESSAGE_SIZE);
    digest_block(digest, blocks[0]);
    digest_block(digest, blocks[1]);
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        bytes[i] = (uint8_t)(digest[i / 4] >> (24 - 8 * (i % 4)));
    }
    encode(bytes, sizeof(bytes), accept);
}
