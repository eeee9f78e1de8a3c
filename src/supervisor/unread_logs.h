/*
 * The log rings of workers that have ended while what is in them may not be written yet: a logger
 * that dies before it has read one, or is away when its worker dies, leaves it to its successor.
 * The supervisor keeps the segment until the logger's cursor has passed what the worker wrote.
 * Cursors only grow from one incarnation of a worker to the next, so one look tells.
 *
 * Supervisor process only. Bound: UNREAD_LOGS_MAX rings; of more, the oldest is given up, logged.
 */
#ifndef SENTINEL_SUPERVISOR_UNREAD_LOGS_H
#define SENTINEL_SUPERVISOR_UNREAD_LOGS_H

#include "observe/segment.h"

enum { UNREAD_LOGS_MAX = 16 };

struct unread_log {
    struct segment segment; /* mapped, with SEGMENT_RING */
    int fd;
};

/* All zero: none. In the order of their workers' ends. */
struct unread_logs {
    struct unread_log items[UNREAD_LOGS_MAX];
    uint32_t count;
};

/*
 * Keeps the ring of a worker that has ended, if it has one, with a mapping and a descriptor of its
 * own. What cannot be kept for want of those is left to the logger that lives.
 */
void unread_logs_keep(struct unread_logs *logs, const struct segment *segment, int fd);

/* Lets go of what this logger has read. Harmless when its segment is not mapped. */
void unread_logs_forget(struct unread_logs *logs, const struct segment *logger);

/* Lets go of all. */
void unread_logs_clear(struct unread_logs *logs);

#endif
