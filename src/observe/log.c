#include "observe/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

enum { PATIENCE_MS = 100 };

static_assert(LOG_LINE_MAX <= PIPE_BUF, "a line fits where POLLOUT is told, and is never torn");

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_INFO:
        return "info";
    case LOG_WARNING:
        return "warning";
    case LOG_ERROR:
        return "error";
    }
    UNREACHABLE("a log level");
}

/* Writes `time level sentinel[pid] ` and returns its length, which is far below LOG_LINE_MAX. */
static size_t write_prefix(char *line, size_t size, enum log_level level)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct tm day = {0};
    (void)gmtime_r(&now.tv_sec, &day);
    char date[32] = "";
    size_t date_size = strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &day);
    ASSERT(date_size > 0);
    int length = snprintf(line, size, "%s.%03uZ %s sentinel[%d] ", date,
                          (unsigned)(now.tv_nsec / 1000000), level_name(level), (int)getpid());
    ASSERT(length > 0 && (size_t)length < size);
    return (size_t)length;
}

/*
 * A reader that stands still must not stop who has something to say. For a pipe, POLLOUT promises
 * room for more than a line.
 */
static bool has_room(void)
{
    struct pollfd output = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&output, 1, PATIENCE_MS) != 0;
}

void log_message(enum log_level level, const char *format, ...)
{
    int saved = errno;
    char line[LOG_LINE_MAX];
    size_t prefix = write_prefix(line, sizeof(line), level);
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + prefix, sizeof(line) - prefix, format, arguments);
    va_end(arguments);
    size_t room = sizeof(line) - prefix - 1;
    size_t length = wanted < 0 ? 0 : (size_t)wanted < room ? (size_t)wanted : room;
    for (size_t i = prefix; i < prefix + length; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[prefix + length] = '\n'; /* over the NUL */
    if (has_room()) {
        ssize_t ignored = write(STDERR_FILENO, line, prefix + length + 1);
        (void)ignored;
    }
    errno = saved;
}
