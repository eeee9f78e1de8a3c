/*
 * How a record becomes a line: the two formats, and what they share. Private to the access log
 * (observe/access_log.h), which has reserved ACCESS_LINE_MAX bytes: everything that is written has
 * a bound of its own, and the bounds fit.
 */
#ifndef SENTINEL_OBSERVE_ACCESS_FORMAT_H
#define SENTINEL_OBSERVE_ACCESS_FORMAT_H

#include "base/output.h"
#include "observe/access_log.h"

/* Stands in place of what must not be read. */
#define ACCESS_REDACTED "[redacted]"

/* A line of JSON. rate: in millionths, shown where it is below GENERATION_RATE_ONE. */
void access_json(struct access_log *log, struct output *line, const struct access_record *record,
                 uint32_t rate);

/* A line in Apache's combined format. */
void access_combined(struct access_log *log, struct output *line,
                     const struct access_record *record);

/* Whether `redact` names it. */
static inline bool access_redacts(const struct access_log *log,
                                  enum generation_access_redaction what)
{
    return (log->access->redacted & 1u << what) != 0;
}

/* Nothing of targets is to be redacted, so that they need not be looked at. */
static inline bool access_shows_targets(const struct access_log *log)
{
    const uint32_t parts = 1u << ACCESS_REDACT_PATH | 1u << ACCESS_REDACT_QUERY;
    return (log->access->redacted & parts) == 0 && log->access->query_names.count == 0;
}

/*
 * A request target without what must not be read; cut behind ACCESS_PATH_MAX bytes, so that whoever
 * escapes it sees that it was longer. Borrowed: the target itself or the log's scratch, until the
 * next call.
 */
struct span access_redact_target(struct access_log *log, struct span target);

/*
 * The value of a recorded field as it may be read: the lines of the field joined by ", ", redacted;
 * NULL data where it is absent. Borrowed like access_redact_target's.
 */
struct span access_captured_value(struct access_log *log,
                                  const struct generation_captured *captured,
                                  const struct fields *fields);

/* Renders the calendar's parts of a moment; the caller caches them for the second. */
struct tm access_calendar(uint64_t second);

/* Writes so many decimal digits, leading zeros included. */
static inline void access_digits(uint8_t *place, unsigned count, uint32_t value)
{
    while (count > 0) {
        place[--count] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

#endif
