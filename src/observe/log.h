/*
 * Operator messages: one line each, written to standard error at once, with no state between calls.
 * Every process may use it from its shell; library code does not log. Nothing of a peer's bytes
 * belongs in here: those go to the access log, escaped.
 */
#ifndef SENTINEL_OBSERVE_LOG_H
#define SENTINEL_OBSERVE_LOG_H

#include "base/status.h"

enum log_level { LOG_INFO, LOG_WARNING, LOG_ERROR };

enum { LOG_LINE_MAX = 1024 }; /* bytes of a line with its newline; longer ones are cut */

/*
 * Writes `2026-01-31T12:00:00.123Z level sentinel[pid] text` with a single write, so that lines of
 * several processes do not mix. Control bytes in the text become '?': a line stays one line. A
 * standard error that cannot be written to is ignored; where nobody reads it, a line waits for 100
 * ms and is then lost, so that a reader that stands still stops no process. errno is preserved.
 */
void log_message(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
