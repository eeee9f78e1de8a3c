#include "wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "secure.h"

void wire_init(struct wire *wire, struct io *io)
{
    *wire = (struct wire){.io = io};
    io_socket_init(&wire->socket);
}

void wire_deinit(struct wire *wire)
{
    free(wire->out);
    wire->out = NULL;
}

static void begin(struct wire *wire)
{
    wire->connected = false;
    wire->failed = false;
    wire->head = wire->size = 0;
    wire->sent = wire->received = 0;
}

bool wire_connect(struct wire *wire, const struct address *address)
{
    begin(wire);
    enum status status = io_connect(wire->io, &wire->socket, address, 0);
    wire->connected = status == OK;
    wire->failed = status == ERROR;
    return !wire->failed;
}

bool wire_is_connected(struct wire *wire)
{
    if (!wire->connected && !wire->failed) {
        enum status status = io_connect_result(wire->io, &wire->socket);
        wire->connected = status == OK;
        wire->failed = status == ERROR;
    }
    return wire->connected && !wire->failed;
}

void wire_push(struct wire *wire, const void *bytes, size_t size)
{
    if (wire->head == wire->size) {
        wire->head = wire->size = 0;
    }
    if (wire->size + size > wire->room) {
        wire->room = (wire->size + size) * 2;
        wire->out = realloc(wire->out, wire->room);
        ASSERT(wire->out != NULL);
    }
    if (size > 0) {
        memcpy(wire->out + wire->size, bytes, size);
    }
    wire->size += size;
}

void wire_printf(struct wire *wire, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ASSERT(size >= 0 && (size_t)size < sizeof(text));
    wire_push(wire, text, (size_t)size);
}

size_t wire_pump(struct wire *wire, size_t most)
{
    size_t total = 0;
    if (wire->secure != NULL) {
        return secure_pump(wire, most);
    }
    while (wire_unsent(wire) > 0 && total < most && !wire->failed) {
        size_t size = wire_unsent(wire) < most - total ? wire_unsent(wire) : most - total;
        struct iovec piece = {wire->out + wire->head, size};
        size_t put = 0;
        enum status status = io_write(wire->io, &wire->socket, &piece, 1, &put);
        if (status != OK) {
            wire->failed = status == ERROR;
            break;
        }
        ASSERT(put >= 1 && put <= size);
        wire->head += put;
        total += put;
    }
    wire->sent += total;
    return total;
}

enum status wire_read(struct wire *wire, uint8_t *bytes, size_t size, size_t *got)
{
    enum status status = wire->secure != NULL ? secure_read(wire, bytes, size, got)
                                              : io_read(wire->io, &wire->socket, bytes, size, got);
    if (status == OK) {
        wire->received += *got;
    }
    if (status == END && wire->failed) {
        status = ERROR; /* a reset is told once, and a write was told: this end is no FIN */
    }
    wire->failed = wire->failed || status == ERROR;
    return status;
}

void wire_shutdown(struct wire *wire)
{
    if (wire->secure != NULL) {
        secure_shutdown(wire);
    } else {
        io_shutdown(wire->io, &wire->socket);
    }
}

bool wire_is_shut(const struct wire *wire)
{
    return wire->secure == NULL || secure_is_shut(wire->secure);
}

void wire_close(struct wire *wire, bool abruptly)
{
    if (wire->secure != NULL && !abruptly) {
        secure_finish(wire);
    }
    if (abruptly) {
        io_reset(wire->io, &wire->socket);
    } else {
        io_close(wire->io, &wire->socket);
    }
    wire->head = wire->size = 0;
    wire->connected = false;
}
