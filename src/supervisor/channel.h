/*
 * The control channel between the supervisor and one child: a pair of sequenced-packet sockets that
 * carries messages of one fixed size, some with a descriptor. Neither side ever blocks on it. The
 * supervisor treats what comes from a child as hostile; a child trusts the supervisor.
 *
 * Bound: a child that does not read at all can be sent CHANNEL_BACKLOG messages; one more fails,
 * and the supervisor then ends the child, since it would miss news.
 */
#ifndef SENTINEL_SUPERVISOR_CHANNEL_H
#define SENTINEL_SUPERVISOR_CHANNEL_H

#include <stdint.h>

#include "base/status.h"
#include "observe/segment.h"

enum { CHANNEL_BACKLOG = 300 };

enum channel_kind {
    CHANNEL_READY = 1, /* child: it serves */
    CHANNEL_DRAIN,     /* supervisor: finish what runs, then end */
    CHANNEL_QUIT,      /* supervisor: end; the logger empties the rings first */
    CHANNEL_LOG,       /* supervisor: the logger writes to this descriptor from now on */
    CHANNEL_SEGMENT,   /* supervisor: the segment of this identity, as the descriptor */
    CHANNEL_GONE,      /* supervisor: the process of this identity, whose segment came, has ended */
};

struct channel_message {
    uint32_t kind; /* enum channel_kind */
    uint32_t role; /* the identity, of CHANNEL_SEGMENT and CHANNEL_GONE */
    uint32_t index;
    int32_t wait_status; /* of CHANNEL_GONE: how it ended, as of waitpid */
    uint64_t incarnation;
};

/* Makes both ends, close-on-exec and non-blocking, owned by the caller. ERROR with errno. */
NODISCARD enum status channel_create(int ends[2]);

/*
 * Sends a message, with a copy of the descriptor unless it is -1. AGAIN: the peer does not read.
 * ERROR with errno: the peer is gone.
 */
NODISCARD enum status channel_send(int channel, const struct channel_message *message,
                                   int descriptor);

/*
 * Sends a message without a descriptor, by write(2), which can bring none: the one way that a
 * child's sandbox leaves. The peer has to be there, or SIGPIPE be ignored. AGAIN and ERROR as
 * channel_send.
 */
NODISCARD enum status channel_tell(int channel, const struct channel_message *message);

/*
 * Receives a message. OK: *descriptor is -1 or a descriptor (close-on-exec) that the caller now
 * owns; CHANNEL_SEGMENT and CHANNEL_LOG always come with one, no other kind does. AGAIN: nothing
 * now. END: the peer is gone. ERROR: what came is no message; it is dropped, with all its
 * descriptors.
 */
NODISCARD enum status channel_receive(int channel, struct channel_message *message,
                                      int *descriptor);

static inline struct segment_identity channel_identity(const struct channel_message *message)
{
    return (struct segment_identity){(enum process_role)message->role, message->index,
                                     message->incarnation};
}

#endif
