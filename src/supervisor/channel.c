#include "supervisor/channel.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

enum {
    DESCRIPTORS_MAX = 4, /* one is meant; room for a few makes sure that all are seen and closed */
    SEND_BUFFER = 512 * 1024, /* what CHANNEL_BACKLOG messages occupy; the system may give less */
};

static_assert(sizeof(struct channel_message) == 24, "no padding leaves the process");

union control {
    char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    struct cmsghdr aligned;
};

enum status channel_create(int ends[2])
{
    int made[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, made) != 0) {
        return ERROR;
    }
    int size = SEND_BUFFER;
    for (int i = 0; i < 2; i++) {
        /* Forced where we are privileged; otherwise the system's bound applies and will do. */
        if (setsockopt(made[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0) {
            (void)setsockopt(made[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        }
        ends[i] = made[i];
    }
    return OK;
}

static bool carries_descriptor(uint32_t kind)
{
    return kind == CHANNEL_SEGMENT || kind == CHANNEL_LOG;
}

enum status channel_send(int channel, const struct channel_message *message, int descriptor)
{
    ASSERT(carries_descriptor(message->kind) == (descriptor >= 0));
    struct channel_message copy = *message;
    struct iovec piece = {.iov_base = &copy, .iov_len = sizeof(copy)};
    union control control = {0};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(channel, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return OK;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? AGAIN : ERROR;
}

enum status channel_tell(int channel, const struct channel_message *message)
{
    ssize_t written;
    ASSERT(!carries_descriptor(message->kind));
    do {
        written = write(channel, message, sizeof(*message));
    } while (written < 0 && errno == EINTR);
    if (written >= 0) {
        return OK;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? AGAIN : ERROR;
}

/* Closes all descriptors that came but the first, which it returns; -1 when there was none. */
static int take_first(struct msghdr *header, size_t *count)
{
    int first = -1;
    *count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t descriptors = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < descriptors; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if ((*count)++ == 0) {
                first = descriptor;
            } else {
                (void)close(descriptor);
            }
        }
    }
    return first;
}

static bool is_sound(const struct channel_message *message, size_t descriptors)
{
    if (message->kind < CHANNEL_READY || message->kind > CHANNEL_GONE) {
        return false;
    }
    return descriptors == (carries_descriptor(message->kind) ? 1 : 0) &&
           message->role < PROCESS_ROLE_COUNT;
}

enum status channel_receive(int channel, struct channel_message *message, int *descriptor)
{
    struct channel_message received = {0};
    struct iovec piece = {.iov_base = &received, .iov_len = sizeof(received)};
    union control control = {0};
    struct msghdr header = {.msg_iov = &piece,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    ssize_t got;
    do {
        got = recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        bool again = errno == EAGAIN || errno == EWOULDBLOCK;
        return again ? AGAIN : END; /* ECONNRESET: the peer went with messages unread */
    }
    size_t descriptors = 0;
    int first = take_first(&header, &descriptors);
    if (got == 0 && descriptors == 0) {
        return END;
    }
    bool whole =
        (size_t)got == sizeof(received) && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    if (!whole || !is_sound(&received, descriptors)) {
        if (first >= 0) {
            (void)close(first);
        }
        return ERROR;
    }
    *message = received;
    *descriptor = first;
    return OK;
}
