/*
 * What only the real backend offers: its life, and descriptors that are no traffic (control
 * channels, signal descriptors). Used by the process shells, never by code that the simulator runs.
 */
#ifndef SENTINEL_IO_IO_EPOLL_H
#define SENTINEL_IO_IO_EPOLL_H

#include "io/io.h"

/* Creates the process's io, in a process that ignores SIGPIPE; NULL with errno when refused. */
NODISCARD struct io *io_epoll_create(void);
void io_epoll_destroy(struct io *io);

/*
 * Watches a descriptor for input, level-triggered: the socket is queued, with IO_READABLE, in
 * every turn in which there is some. The descriptor stays the caller's; io_close unregisters it.
 */
NODISCARD enum status io_epoll_watch(struct io *io, struct io_socket *socket, int fd, uint8_t kind);

#endif
