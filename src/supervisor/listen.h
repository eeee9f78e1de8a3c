/*
 * The listening sockets. They belong to the supervisor process, are bound before the first worker
 * exists and outlive every worker: while one is replaced, the kernel keeps queueing clients for the
 * others. Bound: the listeners of one generation, the admin listener and the control socket.
 */
#ifndef SENTINEL_SUPERVISOR_LISTEN_H
#define SENTINEL_SUPERVISOR_LISTEN_H

#include "base/status.h"
#include "config/generation.h"
#include "supervisor/unix_socket.h"

/* The sockets of the controller. */
enum { LISTENERS_ADMIN, LISTENERS_CONTROL, LISTENERS_OF_CONTROLLER };

struct listeners {
    int *fds; /* one for each of the generation's listeners, in its order */
    uint32_t count;
    int controller[LISTENERS_OF_CONTROLLER]; /* -1: there is none */
    struct unix_socket *files; /* likewise: those that are Unix sockets; fd is that of fds */
    struct unix_socket control;
};

/*
 * Binds everything that the generation names; control_socket: see control_socket_open. Each one
 * that cannot be bound is logged with its address and its place in the configuration, so that one
 * run shows them all; then ERROR, with nothing left open and *listeners untouched.
 */
NODISCARD enum status listeners_open(struct listeners *listeners,
                                     const struct generation *generation,
                                     const char *control_socket);

/* None is open. */
void listeners_init(struct listeners *listeners);

/*
 * Closes the listeners of traffic, not the controller's: how a drain goes must stay visible.
 * Workers that still hold them take what is queued; then the kernel refuses. Files of Unix sockets
 * are removed.
 */
void listeners_stop(struct listeners *listeners);

/*
 * Makes those of TCP listen again that do not any more, and logs it; takes a time to linger from
 * all. All processes share these sockets, and what one that was taken over does to them (connect to
 * AF_UNSPEC, SO_LINGER) it does to the others and its successors, too. For now and then; each look
 * is two calls for each.
 */
void listeners_mend(const struct listeners *listeners, const struct generation *generation);

/* Closes what is open. Harmless twice. */
void listeners_close(struct listeners *listeners);

#endif
