#include "supervisor/refusal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FOLDER_ADVICE "; make its folder, or name another path"

struct refusal {
    enum refusal_of what;
    int error;
    const char *reason; /* NULL: the system's words */
    const char *advice;
};

static const struct refusal REFUSALS[] = {
    {REFUSAL_OF_ADDRESS, EADDRINUSE, NULL, "; `ss -ltnp` shows who listens there"},
    {REFUSAL_OF_ADDRESS, EADDRNOTAVAIL, NULL, "; `ip address` shows those of this machine"},
    {REFUSAL_OF_ADDRESS, EACCES, NULL, "; ports below 1024 are for root and CAP_NET_BIND_SERVICE"},
    {REFUSAL_OF_ADDRESS, EAFNOSUPPORT, "this machine has no IPv6", ""},
    {REFUSAL_OF_FILE, ELOOP, "it is a symbolic link, which is not followed", ""},
    {REFUSAL_OF_FILE, EMLINK, "it has a second name (a hard link), which may be anybody's file",
     "; move it away"},
    {REFUSAL_OF_FILE, ENXIO, "it is a named pipe that nobody reads", "; start its reader first"},
    {REFUSAL_OF_FILE, ENOENT, NULL, FOLDER_ADVICE},
    {REFUSAL_OF_SOCKET, EADDRINUSE, "another instance answers there", ""},
    {REFUSAL_OF_SOCKET, EEXIST, "there is a file that is no socket", ""},
    {REFUSAL_OF_SOCKET, ENOENT, NULL, FOLDER_ADVICE},
    {REFUSAL_OF_PROCESS, ENOENT, NULL, "; are /proc/self/exe and /dev/null there?"},
    {REFUSAL_OF_PROCESS, EAGAIN, NULL,
     "; the limit of processes of this user or control group is reached (ulimit -u, TasksMax)"},
    {REFUSAL_OF_PROCESS, ENOMEM, NULL,
     "; the machine, or a limit (ulimit -v, LimitAS, MemoryMax), leaves too little"},
    {REFUSAL_OF_PROCESS, EMFILE, NULL, "; raise the limit of open files (ulimit -n, LimitNOFILE)"},
    {REFUSAL_OF_PROCESS, EFBIG, NULL, "; raise the limit of file sizes (ulimit -f, LimitFSIZE)"},
};

static const struct refusal *find(enum refusal_of what, int error)
{
    for (size_t i = 0; i < sizeof(REFUSALS) / sizeof(REFUSALS[0]); i++) {
        if (REFUSALS[i].what == what && REFUSALS[i].error == error) {
            return &REFUSALS[i];
        }
    }
    return NULL;
}

const char *refusal_reason(enum refusal_of what, int error)
{
    const struct refusal *refusal = find(what, error);
    return refusal != NULL && refusal->reason != NULL ? refusal->reason : strerror(error);
}

const char *refusal_advice(enum refusal_of what, int error)
{
    const struct refusal *refusal = find(what, error);
    return refusal != NULL ? refusal->advice : "";
}

void refusal_log(enum log_level level, const struct generation *generation,
                 const struct generation_place *place, const char *advice, const char *format, ...)
{
    int error = errno;
    char text[LOG_LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    struct span file = generation_text(generation, place->file);
    if (place->line > 0 && file.size > 0) {
        log_message(level, "%s (%.*s:%u)%s", text, SPAN_ARGS(file), place->line, advice);
    } else {
        log_message(level, "%s%s", text, advice);
    }
    errno = error;
}
