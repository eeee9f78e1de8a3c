/*
 * A byte stream between us and one peer: what a session reads from and writes to without knowing
 * whether it is plain TCP or encrypted. One vtable per kind; a transport is embedded in its session
 * and lives as long as the connection. The calls have io.h's contract: they return at once, and
 * after AGAIN the socket is queued when there is a reason to try again.
 */
#ifndef SENTINEL_NET_TRANSPORT_H
#define SENTINEL_NET_TRANSPORT_H

#include "io/io.h"

struct tls;
struct transport;

struct transport_ops {
    const char *name;
    enum status (*read)(struct transport *transport, void *data, size_t size, size_t *got);
    /* What was offered and not taken must stand at the front of what is offered next. */
    enum status (*write)(struct transport *transport, const struct iovec *pieces, int count,
                         size_t *put);
    /*
     * io_splice_in and io_splice_out, where the peer's bytes are the socket's own; NULL where they
     * are coded on the way.
     */
    enum status (*splice_in)(struct transport *transport, struct io_pipe *pipe, size_t max,
                             size_t *got);
    enum status (*splice_out)(struct transport *transport, struct io_pipe *pipe, size_t *put);
    /*
     * Whether a read may find something although the socket has nothing: NULL where all that has
     * come is still the socket's.
     */
    bool (*has_buffered)(const struct transport *transport);
    /*
     * No more bytes from us: FIN, behind what the coding has to say of it. AGAIN: that waits for
     * room; FIN goes with the call that says OK, also where nothing can be said any more.
     */
    enum status (*shutdown)(struct transport *transport);
    void (*close)(struct transport *transport); /* harmless when closed already */
    void (*reset)(struct transport *transport); /* close so that the peer sees a failure */
};

struct transport {
    const struct transport_ops *ops;
    struct io *io;
    struct tls *tls; /* what stands behind it where it is TLS, else NULL (net/tls.h) */
    struct io_socket socket;
};

/* Prepares a plain TCP transport; the socket is still closed. */
void transport_init_tcp(struct transport *transport, struct io *io);

/* What is left of a transport when its coding ends: plain TCP over the same socket, as it is. */
void transport_restore_tcp(struct transport *transport);

static inline bool transport_is_open(const struct transport *transport)
{
    return io_is_open(&transport->socket);
}

/* False: a read would say AGAIN. */
static inline bool transport_may_read(const struct transport *transport)
{
    return (transport->socket.ready & IO_READABLE) != 0 ||
           (transport->ops->has_buffered != NULL && transport->ops->has_buffered(transport));
}

/* True when the connection is known to be broken: nothing can be read or written any more. */
static inline bool transport_has_failed(const struct transport *transport)
{
    return (transport->socket.ready & IO_FAILED) != 0;
}

#endif
