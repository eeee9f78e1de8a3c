/*
 * The text of /metrics (Prometheus exposition format 0.0.4), a piece at a time: sums over the cells
 * of the live processes and the totals of the dead, then what the controller itself knows. Nothing
 * here allocates, and no piece is larger than METRICS_TEXT_PIECE_MAX, so a scrape of any size needs
 * one small buffer.
 *
 * Series with a status, reason or result that never occurred are left out: they are most of the
 * table. Labels come from the configuration and from fixed lists, never from a peer, so the size of
 * the text has a bound: metrics_text_bound.
 */
#ifndef SENTINEL_CONTROL_METRICS_TEXT_H
#define SENTINEL_CONTROL_METRICS_TEXT_H

#include "base/output.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "observe/process_table.h"

enum { METRICS_TEXT_PIECE_MAX = 16 * 1024 };

/* Where the figures are. Borrowed, and looked at anew with every piece. */
struct metrics_source {
    const struct generation *generation;
    const void *const *workers; /* cells of each worker; NULL: none now */
    uint32_t worker_count;
    const void *logger;           /* cells of the logger; NULL: none now */
    const void *own;              /* cells of the controller; NULL: it counts nothing */
    const struct metrics *totals; /* of processes that have ended */
    const struct health_board *health;
    const struct process_row *processes; /* rows of process_table_rows; NULL: not known */
    uint64_t config_hash;                /* of the generation's bytes */
    uint64_t started;                    /* of this process, microseconds since the Unix epoch */
    uint64_t now;                        /* likewise */
};

/* How far one scrape has come. All zero: at the begin. */
struct metrics_text {
    uint32_t family;
    uint32_t series;
    bool ended;
};

/*
 * Appends as many whole pieces as fit. The output must have METRICS_TEXT_PIECE_MAX bytes of room.
 * After the last piece text->ended is set; before, something is appended in every call.
 */
void metrics_text_write(struct metrics_text *text, const struct metrics_source *source,
                        struct output *output);

/* No text for this generation is longer, whatever has happened. */
uint64_t metrics_text_bound(const struct generation *generation);

/* The sum of one cell over the live and the dead. */
uint64_t metrics_source_sum(const struct metrics_source *source, uint32_t cell);

#endif
