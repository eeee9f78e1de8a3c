#include "supervisor/process_watch.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "io/io_epoll.h"
#include "supervisor/spawn.h"

static int open_timer(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    const struct itimerspec second = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};
    if (fd >= 0 && timerfd_settime(fd, 0, &second, NULL) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

enum status process_watch_open(struct process_watch *watch, struct io *io, uint8_t kind)
{
    *watch = (struct process_watch){.io = io, .timer = open_timer()};
    io_socket_init(&watch->channel);
    io_socket_init(&watch->tick);
    if (watch->timer < 0) {
        return ERROR;
    }
    if (io_epoll_watch(io, &watch->channel, SPAWN_FD_CHANNEL, kind) != OK ||
        io_epoll_watch(io, &watch->tick, watch->timer, kind) != OK) {
        int error = errno;
        process_watch_close(watch);
        errno = error;
        return ERROR;
    }
    return OK;
}

void process_watch_close(struct process_watch *watch)
{
    io_close(watch->io, &watch->channel);
    io_close(watch->io, &watch->tick);
    if (watch->timer >= 0) {
        (void)close(watch->timer);
    }
    watch->timer = -1;
}

void process_watch_forget_channel(struct process_watch *watch)
{
    io_close(watch->io, &watch->channel);
}

void process_watch_take_tick(struct process_watch *watch)
{
    uint64_t expirations;
    ssize_t ignored = read(watch->timer, &expirations, sizeof(expirations));
    (void)ignored; /* without a tick there is nothing to take */
}
