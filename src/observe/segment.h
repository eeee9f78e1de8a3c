/*
 * Shared memory of one process incarnation. The supervisor creates it, the process that it was made
 * for maps it for writing and seals it against any other writer, and everyone else maps it
 * read-only: there is nothing to recover after a death and nobody to trust. A segment is a header
 * and up to SEGMENT_REGION_COUNT regions; both sides compute sizes and offsets from the same
 * generation (struct segment_plan), so no length, offset or index is ever read out of a segment.
 *
 * All processes use this, each with its own mappings. Bounds: SEGMENT_SIZE_MAX bytes a segment.
 */
#ifndef SENTINEL_OBSERVE_SEGMENT_H
#define SENTINEL_OBSERVE_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The kinds of process. The compiler lives before there is a generation and owns no segment. */
enum process_role { PROCESS_COMPILER, PROCESS_LOGGER, PROCESS_CONTROLLER, PROCESS_WORKER };

enum { PROCESS_ROLE_COUNT = PROCESS_WORKER + 1 };

/* What a segment may hold. What a region means is its own module's matter. */
enum segment_region {
    SEGMENT_METRICS, /* observe/metrics.h: the owner's cells */
    SEGMENT_RING,    /* observe/ring.h: log records of a worker */
    SEGMENT_CURSORS, /* control/logger.h: how far the logger has read each worker's ring */
    SEGMENT_HEALTH,  /* observe/health.h: the controller's word on each endpoint */
    SEGMENT_CLIENTS, /* proxy/client_board.h: a worker's connections, in all and by client */
    SEGMENT_FLIGHT,  /* observe/flight_recorder.h: what the process is doing, and has done */
    SEGMENT_CRASHES, /* control/crash_report.h: what the controller has reported */
    SEGMENT_REGION_COUNT,
};

enum {
    SEGMENT_ALIGNMENT = 64, /* of each region: cache lines are never shared between regions */
    SEGMENT_SIZE_MAX = 256 * 1024 * 1024,
};

/* Bytes of each region; 0: the segment has no such region. */
struct segment_plan {
    size_t sizes[SEGMENT_REGION_COUNT];
};

/* Whose segment it is. A restarted process has the same role and index and a new incarnation. */
struct segment_identity {
    enum process_role role;
    uint32_t index;       /* among the processes of this role */
    uint64_t incarnation; /* counted by the supervisor over all processes, from 1 */
};

struct segment_header;

/* A mapping. All zero: not mapped. The descriptor is not kept. */
struct segment {
    struct segment_header *header; /* read-only memory unless writable */
    size_t size;
    bool writable;
    struct segment_plan plan;
    struct segment_identity identity;
};

/*
 * Creates a zeroed segment of the planned size that can neither shrink nor grow, names it in its
 * header, and returns its descriptor (close-on-exec), which the caller owns. -1 with errno; EFBIG
 * when the plan exceeds SEGMENT_SIZE_MAX.
 */
NODISCARD int segment_create(const struct segment_plan *plan,
                             const struct segment_identity *identity);

/*
 * Maps the segment for its owner and seals it: from then on no other process can write to it. ERROR
 * with errno, *segment untouched; EINVAL when the descriptor is no segment of this plan and
 * identity. The descriptor stays the caller's and may be closed.
 */
NODISCARD enum status segment_map_owner(struct segment *segment, int fd,
                                        const struct segment_plan *plan,
                                        const struct segment_identity *identity);

/*
 * Maps another process's segment, read-only, under the same conditions. What is in it must be
 * judged as input: its owner may be compromised.
 */
NODISCARD enum status segment_map_reader(struct segment *segment, int fd,
                                         const struct segment_plan *plan,
                                         const struct segment_identity *identity);

/* Unmaps; harmless when not mapped. */
void segment_unmap(struct segment *segment);

static inline bool segment_is_mapped(const struct segment *segment)
{
    return segment->header != NULL;
}

/* The owner's view of a region, plan.sizes[region] bytes; NULL when the plan has none. */
void *segment_region(const struct segment *segment, enum segment_region region);

/* A reader's view of a region (the owner may use it, too). */
const void *segment_region_read(const struct segment *segment, enum segment_region region);

/* The owner's process id as the owner wrote it; 0 before it mapped its segment. A hint for logs. */
int32_t segment_pid(const struct segment *segment);

/* The owner counts a turn of its loop: the sign of life that the watchdog looks for. */
void segment_count_turn(struct segment *segment);

/* Turns counted so far. */
uint64_t segment_turns(const struct segment *segment);

#endif
