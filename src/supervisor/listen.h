/*
 * The listening sockets. They belong to the supervisor process, are bound before the first worker
 * exists and outlive every worker: while one is replaced, the kernel keeps queueing clients for the
 * others. Bound: the listeners of one generation and the admin listener.
 */
#ifndef SENTINEL_SUPERVISOR_LISTEN_H
#define SENTINEL_SUPERVISOR_LISTEN_H

#include "base/status.h"
#include "config/generation.h"

struct listeners {
    int *fds; /* one for each of the generation's listeners, in its order */
    uint32_t count;
    int admin; /* -1: the generation has no admin listener */
};

/*
 * Binds everything that the generation names. Each one that cannot be bound is logged with its
 * address and its place in the configuration, so that one run shows them all; then ERROR, with
 * nothing left open and *listeners untouched.
 */
NODISCARD enum status listeners_open(struct listeners *listeners,
                                     const struct generation *generation);

/*
 * Closes the listeners of traffic, not the admin listener: how a drain goes must stay visible.
 * Workers that still hold them take what is queued; then the kernel refuses.
 */
void listeners_stop(struct listeners *listeners);

/* Closes what is open. Harmless twice, and on a zeroed struct whose admin is -1. */
void listeners_close(struct listeners *listeners);

#endif
