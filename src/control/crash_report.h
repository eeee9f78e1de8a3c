/*
 * Reports of crashes: what a process was doing when it ended and should not have, taken from the
 * segment that it left. Made in the controller process, told on the operator's log by its shell,
 * and kept for `sentinel recent --crashes`. The exchanges in flight at a crash have no access
 * record: this is where they are seen. What a worker had finished last is kept as well, so that
 * `sentinel recent` tells of it after its death, too.
 *
 * Bounds: the last CRASH_REPORTS_MAX reports, each with CRASH_EXCHANGES_MAX exchanges in flight,
 * CRASH_FINISHED_MAX finished ones, and as many failed ones; all allocated within the struct. They
 * end with the controller.
 */
#ifndef SENTINEL_CONTROL_CRASH_REPORT_H
#define SENTINEL_CONTROL_CRASH_REPORT_H

#include "control/recent.h"

enum {
    CRASH_REPORTS_MAX = 16,
    CRASH_EXCHANGES_MAX = 16,
    CRASH_FINISHED_MAX = 32,
    CRASH_LINE_MAX = 832,
};

/* The newest of a list, in no order. */
struct crash_finished {
    uint32_t count;
    struct flight_entry entries[CRASH_FINISHED_MAX];
};

struct crash_report {
    uint64_t number; /* from 1; 0: no report */
    uint64_t seen;   /* monotonic */
    uint64_t time;   /* on the wall clock */
    struct segment_identity identity;
    int32_t pid;
    int wait_status; /* as of waitpid */
    struct flight_activity activity;
    uint64_t in_flight; /* all of them */
    uint32_t told;      /* of which are below */
    bool running;       /* the first one below was running when it happened */
    struct flight_entry exchanges[CRASH_EXCHANGES_MAX]; /* the oldest */
    struct crash_finished finished;                     /* what went well */
    struct crash_finished failures;
};

/* All zero: none. A controller keeps them in its segment, for its successor. */
struct crash_reports {
    uint64_t before; /* how many the controllers before this one made, and are not here any more */
    uint64_t count;  /* the others, of which the last are below */
    struct crash_report items[CRASH_REPORTS_MAX];
};

/* Whether an end of this kind is a crash: by a signal, or with a code other than 0. */
bool crash_is_one(int wait_status);

/* Makes a report from what the process left, in the place of the oldest; valid until the next. */
const struct crash_report *crash_reports_add(struct crash_reports *reports,
                                             const struct recent_process *process, int wait_status,
                                             const struct recent_clock *clock);

/*
 * Takes over, before any of our own is made, what a controller that has ended has reported, out of
 * its segment: from the newest back to the first that it was killed over, or cannot have written
 * in its right mind. Nothing in there is believed.
 */
void crash_reports_inherit(struct crash_reports *reports, const void *memory,
                           const struct generation *generation);

/* The report of this place, the oldest first; NULL behind the last. */
const struct crash_report *crash_reports_get(const struct crash_reports *reports, uint32_t index);

/* A finished exchange of the report, or a failed one behind them; NULL behind the last. */
const struct flight_entry *crash_report_finished(const struct crash_report *report, uint32_t index);

/*
 * The line of the operator's log of this index (0: what happened, then its exchanges, then how many
 * more there were), NUL-terminated. False behind the last.
 */
bool crash_report_line(const struct crash_report *report, const struct generation *generation,
                       uint32_t index, char line[CRASH_LINE_MAX]);

/* `by SIGSEGV`, `with code 3`: how it ended, NUL-terminated. */
void crash_report_end(const struct crash_report *report, char *text, size_t size);

#endif
