#include "supervisor/unread_logs.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "control/logger.h"
#include "observe/log.h"
#include "observe/ring.h"

static void drop(struct unread_logs *logs, uint32_t at)
{
    ASSERT(at < logs->count);
    segment_unmap(&logs->items[at].segment);
    (void)close(logs->items[at].fd);
    logs->count--;
    memmove(logs->items + at, logs->items + at + 1, (logs->count - at) * sizeof(logs->items[0]));
}

void unread_logs_keep(struct unread_logs *logs, const struct segment *segment, int fd)
{
    if (!segment_is_mapped(segment) || segment_region_read(segment, SEGMENT_RING) == NULL) {
        return;
    }
    struct unread_log log = {.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (log.fd < 0) {
        return;
    }
    if (segment_map_reader(&log.segment, log.fd, &segment->plan, &segment->identity) != OK) {
        (void)close(log.fd);
        return;
    }
    if (logs->count == UNREAD_LOGS_MAX) {
        log_message(LOG_WARNING, "access records of worker %u may be lost: no logger reads them",
                    logs->items[0].segment.identity.index);
        drop(logs, 0);
    }
    logs->items[logs->count++] = log;
}

void unread_logs_forget(struct unread_logs *logs, const struct segment *logger)
{
    if (!segment_is_mapped(logger)) {
        return;
    }
    const void *cursors = segment_region_read(logger, SEGMENT_CURSORS);
    for (uint32_t i = logs->count; i > 0; i--) {
        const struct segment *segment = &logs->items[i - 1].segment;
        uint64_t tail = ring_tail(segment_region_read(segment, SEGMENT_RING));
        const _Atomic uint64_t *cursor = logger_cursor(cursors, segment->identity.index);
        if (atomic_load_explicit(cursor, memory_order_relaxed) >= tail) {
            drop(logs, i - 1);
        }
    }
}

void unread_logs_clear(struct unread_logs *logs)
{
    while (logs->count > 0) {
        drop(logs, logs->count - 1);
    }
}
