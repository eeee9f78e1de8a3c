/*
 * The answer to GET /recent on the control socket: what the flight recorders of all processes hold,
 * as one flat JSON object a line. Runs in the controller process. A piece at a time is rendered
 * from the segments as they are then; nothing is collected, sorted or kept, so an answer of any
 * size costs one small buffer. Whoever asks sorts and filters (cli/command_recent.c).
 *
 *   {"kind":"process",...}         one for each process that lives
 *   {"kind":"crash",...}           reports of crashes, the oldest first, each followed by its
 *   {"kind":"crash-exchange",...}  exchanges in flight
 *   {"kind":"in-flight",...}       one for each exchange in flight
 *   {"kind":"finished",...}        the last ones, and those that failed; with the number of the
 *                                  report ("crash") behind it, if its worker has crashed since
 *   {"kind":"end"}                 without which the answer was cut short
 *
 * Bounds: RECENT_PIECE_MAX bytes and RECENT_CELLS_MAX cells looked at in one call.
 */
#ifndef SENTINEL_CONTROL_RECENT_H
#define SENTINEL_CONTROL_RECENT_H

#include "base/output.h"
#include "observe/flight_recorder.h"

enum {
    RECENT_PIECE_MAX = 16 * 1024,
    RECENT_LINE_MAX = 4096, /* bytes of a line with its newline */
    RECENT_CELLS_MAX = 2048,
};

/* A process as the controller knows it. view.header NULL: it is not there. */
struct recent_process {
    struct segment_identity identity;
    int32_t pid; /* as the process says; a hint */
    struct flight_view view;
};

/* The times of a look: the flight recorders tell monotonic ones, people want the wall's. */
struct recent_clock {
    uint64_t now;  /* microseconds of the monotonic clock */
    uint64_t wall; /* microseconds since the Unix epoch */
};

struct crash_reports;

/* What there is to tell. Borrowed. */
struct recent_source {
    const struct generation *generation;
    const struct recent_process *processes;
    uint32_t process_count;
    const struct crash_reports *crashes;
};

/* How far one answer has come. All zero: at the begin. */
struct recent_text {
    uint32_t part;
    uint32_t index;
    uint32_t list;
    uint32_t cell;
    bool ended;
};

/*
 * Appends as many whole lines as fit; the output must have RECENT_PIECE_MAX bytes of room. It may
 * append nothing, where there is nothing but free cells. After the last line text->ended is set.
 */
void recent_text_write(struct recent_text *text, const struct recent_source *source,
                       const struct recent_clock *clock, struct output *output);

/* `worker`, `controller`...; static. */
const char *recent_role(enum process_role role);

/*
 * Where an exchange in flight stands: `FORWARD`, or `FORWARD, awaiting the response head`.
 * NUL-terminated into text.
 */
void recent_step(const struct flight_entry *entry, char *text, size_t size);

/* What a process was doing: `running the exchange in slot 3`. NUL-terminated into text. */
void recent_activity(const struct flight_activity *activity, const struct generation *generation,
                     char *text, size_t size);

/* Microseconds from `since` to `now`; 0 where a process tells a time that has not come. */
static inline uint64_t recent_elapsed(uint64_t now, uint64_t since)
{
    return since != 0 && since <= now ? now - since : 0;
}

#endif
