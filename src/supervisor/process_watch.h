/*
 * What the shells of io-driven children (workers, the controller) add to their event loop: the
 * control channel, and a tick once a second, so that an idle loop still turns and the watchdog sees
 * it. One per process; both are sockets that the loop reports as not its own.
 */
#ifndef SENTINEL_SUPERVISOR_PROCESS_WATCH_H
#define SENTINEL_SUPERVISOR_PROCESS_WATCH_H

#include "io/io.h"

struct process_watch {
    struct io *io;
    struct io_socket channel;
    struct io_socket tick;
    int timer; /* timerfd behind tick */
};

/* Watches both, under the given kind. ERROR with errno; then nothing is open. */
NODISCARD enum status process_watch_open(struct process_watch *watch, struct io *io, uint8_t kind);

void process_watch_close(struct process_watch *watch);

/* Stops watching the channel: its other end is gone, and would be reported for ever. */
void process_watch_forget_channel(struct process_watch *watch);

/* Takes the tick that was reported, if one was. */
void process_watch_take_tick(struct process_watch *watch);

#endif
