/*
 * An actor's side of one connection: bytes to send wait in a buffer that grows as it likes, reading
 * is direct. Written on io.h, like everything in the simulation.
 */
#ifndef SENTINEL_TESTS_SIM_WIRE_H
#define SENTINEL_TESTS_SIM_WIRE_H

#include "io/io.h"

struct secure;

struct wire {
    struct io *io;
    struct io_socket socket;
    bool connected;
    bool failed; /* reset, refused, or a call failed */
    uint8_t *out;
    size_t head; /* of the unsent bytes */
    size_t size; /* end of them */
    size_t room;
    uint64_t sent; /* without the coding, like the next */
    uint64_t received;
    struct secure *secure; /* borrowed; NULL: the bytes go as they are */
};

void wire_init(struct wire *wire, struct io *io);

/* Frees the buffer; the socket must be closed or its simulator about to be destroyed. */
void wire_deinit(struct wire *wire);

/* Begins anew on a closed socket. False: failed at once. */
bool wire_connect(struct wire *wire, const struct address *address);

/* Whether the connection stands. Asks once; sets `failed` when it does not and will not. */
bool wire_is_connected(struct wire *wire);

void wire_push(struct wire *wire, const void *bytes, size_t size);
void wire_printf(struct wire *wire, const char *format, ...) PRINTF_LIKE(2, 3);

static inline size_t wire_unsent(const struct wire *wire)
{
    return wire->size - wire->head;
}

/*
 * Writes at most `most` bytes, those that wait or what they are coded as, as far as the socket
 * takes them; how many went.
 */
size_t wire_pump(struct wire *wire, size_t most);

/* As io_read; sets `failed` on ERROR. */
enum status wire_read(struct wire *wire, uint8_t *bytes, size_t size, size_t *got);

/* Nothing more is pushed: says so, by the next wire_pump at the latest. */
void wire_shutdown(struct wire *wire);

/* Whether that is said. */
bool wire_is_shut(const struct wire *wire);

/* Forgets what waits, and closes; abruptly: with a reset. */
void wire_close(struct wire *wire, bool abruptly);

#endif
