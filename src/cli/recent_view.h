/*
 * What `sentinel recent` does with the lines of an instance (control/recent.h): it counts them,
 * keeps the newest that pass the filters, and prints those as a table or as JSON. Bounded by
 * RECENT_LIMIT_MAX lines and RECENT_CRASH_LINES_MAX lines of crashes.
 */
#ifndef SENTINEL_CLI_RECENT_VIEW_H
#define SENTINEL_CLI_RECENT_VIEW_H

#include <stdio.h>

#include "control/crash_report.h"

enum {
    RECENT_LIMIT_MAX = 10000,
    RECENT_LIMIT_DEFAULT = 50,
    RECENT_CRASH_LINES_MAX = CRASH_REPORTS_MAX * (CRASH_EXCHANGES_MAX + 1),
    RECENT_STUCK_MAX = 8, /* processes without a turn that are named */
};

enum recent_mode { RECENT_FINISHED, RECENT_FAILURES, RECENT_IN_FLIGHT, RECENT_CRASHES };

/* NULL: any. Borrowed. */
struct recent_filters {
    enum recent_mode mode;
    const char *route;
    const char *status; /* `503` or `5xx` */
    const char *reason;
    struct address_block client; /* family ADDRESS_NONE: any */
    const char *worker;
    uint32_t limit; /* 1 to RECENT_LIMIT_MAX */
};

struct recent_kept {
    char time[32];
    char *line; /* owned, NUL-terminated, without newline */
};

struct recent_view {
    struct recent_filters filters;
    struct recent_kept *kept; /* owned; in the order in which they are shown */
    uint32_t kept_count;
    uint32_t kept_max;
    uint32_t processes;
    uint32_t finished;
    uint32_t failures;
    uint32_t in_flight;
    uint32_t crashes;
    uint64_t oldest_ms; /* of those in flight */
    uint32_t stuck_count;
    char stuck[RECENT_STUCK_MAX][256];
    bool ended; /* the last line has come */
};

/* False without memory. */
NODISCARD bool recent_view_init(struct recent_view *view, const struct recent_filters *filters);

void recent_view_deinit(struct recent_view *view);

/* Takes a line, without its newline. False when it is none, or without memory. */
NODISCARD bool recent_view_take(struct recent_view *view, struct span line);

/* Prints what was kept. */
void recent_view_print(const struct recent_view *view, bool json, FILE *file);

#endif
