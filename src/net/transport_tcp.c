#include "net/transport.h"

static enum status tcp_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    return io_read(transport->io, &transport->socket, data, size, got);
}

static enum status tcp_write(struct transport *transport, const struct iovec *pieces, int count,
                             size_t *put)
{
    return io_write(transport->io, &transport->socket, pieces, count, put);
}

static enum status tcp_splice_in(struct transport *transport, struct io_pipe *pipe, size_t max,
                                 size_t *got)
{
    return io_splice_in(transport->io, &transport->socket, pipe, max, got);
}

static enum status tcp_splice_out(struct transport *transport, struct io_pipe *pipe, size_t *put)
{
    return io_splice_out(transport->io, &transport->socket, pipe, put);
}

static enum status tcp_shutdown(struct transport *transport)
{
    io_shutdown(transport->io, &transport->socket);
    return OK;
}

static void tcp_close(struct transport *transport)
{
    io_close(transport->io, &transport->socket);
}

static void tcp_reset(struct transport *transport)
{
    io_reset(transport->io, &transport->socket);
}

static const struct transport_ops TCP = {
    .name = "tcp",
    .read = tcp_read,
    .write = tcp_write,
    .splice_in = tcp_splice_in,
    .splice_out = tcp_splice_out,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .reset = tcp_reset,
};

void transport_restore_tcp(struct transport *transport)
{
    transport->ops = &TCP;
    transport->tls = NULL;
}

void transport_init_tcp(struct transport *transport, struct io *io)
{
    transport_restore_tcp(transport);
    transport->io = io;
    io_socket_init(&transport->socket);
}
