/*
 * What the three small programs of the benchmark share: loopback sockets, epoll and a clock. They
 * are tools that trust their surroundings, and exit when something is wrong with these.
 */
#ifndef BENCH_LOOPBACK_H
#define BENCH_LOOPBACK_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DESCRIPTORS_MAX = 65536, EVENTS_MAX = 256 };

static inline _Noreturn void quit(const char *what)
{
    perror(what);
    exit(1);
}

static inline uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline struct sockaddr_in loopback(const char *port)
{
    unsigned long number = strtoul(port, NULL, 10);
    if (number == 0 || number > 65535) {
        errno = EINVAL;
        quit(port);
    }
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)number),
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

static inline int stream_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || fd >= DESCRIPTORS_MAX) {
        quit("socket");
    }
    return fd;
}

static inline void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static inline int listen_on(const char *port)
{
    struct sockaddr_in address = loopback(port);
    int fd = stream_socket();
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0) {
        quit("listen");
    }
    return fd;
}

/* Begins to connect; the socket becomes writable when that is done. */
static inline int connect_to(const struct sockaddr_in *address)
{
    int fd = stream_socket();
    no_delay(fd);
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
        errno != EINPROGRESS) {
        quit("connect");
    }
    return fd;
}

static inline int epoll_new(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        quit("epoll_create1");
    }
    return epoll;
}

/* Registers a socket once and for all: edge-triggered, both directions. */
static inline void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data = {.fd = fd}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        quit("epoll_ctl");
    }
}

static inline void watch_listener(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        quit("epoll_ctl");
    }
}

#endif
