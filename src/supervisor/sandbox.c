#include "supervisor/sandbox.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/assert.h"
#include "observe/log.h"
#include "supervisor/sandbox_parts.h"

#if defined(__SANITIZE_ADDRESS__)
/*
 * LeakSanitizer stops all threads by ptrace, which no sandbox allows: it asks here whether to try.
 * A filter on this process says that it has entered one.
 */
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 0;
}
#endif

void sandbox_probe(struct sandbox_support *support)
{
    *support = (struct sandbox_support){
        .no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) >= 0,
        /* A filter at address 0: EFAULT says that it would have been looked at. */
        .seccomp = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) != 0 && errno == EFAULT,
        .landlock = sandbox_landlock_version(),
    };
    support->landlock_error = support->landlock == 0 ? errno : 0;
}

bool sandbox_is_full(const struct sandbox_support *support)
{
    return support->no_new_privs && support->seccomp && support->landlock >= SANDBOX_LANDLOCK_FILES;
}

static const char *landlock_reason(const struct sandbox_support *support)
{
    return support->landlock_error == EOPNOTSUPP ? "it is not among the kernel's lsm= modules"
           : support->landlock_error == ENOSYS   ? "the kernel has none"
                                                 : strerror(support->landlock_error);
}

void sandbox_log_missing(const struct sandbox_support *support)
{
    if (!support->no_new_privs) {
        log_message(LOG_WARNING, "sandbox: this kernel has no no_new_privs; done without");
    }
    if (!support->seccomp) {
        log_message(LOG_WARNING, "sandbox: no seccomp filters here: children can make any system "
                                 "call");
    }
    if (support->landlock == 0) {
        log_message(LOG_WARNING,
                    "sandbox: no Landlock (%s): children are kept from files by their "
                    "user's rights%s",
                    landlock_reason(support), support->seccomp ? " and by seccomp" : " alone");
    } else if (support->landlock < SANDBOX_LANDLOCK_SCOPES) {
        log_message(LOG_INFO,
                    "sandbox: this kernel's Landlock (version %d) knows files%s; %s are "
                    "left to seccomp",
                    support->landlock,
                    support->landlock >= SANDBOX_LANDLOCK_PORTS ? " and ports" : "",
                    support->landlock >= SANDBOX_LANDLOCK_PORTS ? "signals" : "ports and signals");
    }
}

void sandbox_print(FILE *stream, const struct sandbox_support *support)
{
    (void)fprintf(stream, "no_new_privs    %s\n", support->no_new_privs ? "yes" : "no");
    (void)fprintf(stream, "seccomp         %s\n",
                  support->seccomp ? "yes: a list of system calls for each kind of process"
                                   : "no: the kernel, or a container around us, has no filters");
    if (support->landlock == 0) {
        (void)fprintf(stream, "Landlock        no: %s\n", landlock_reason(support));
        return;
    }
    (void)fprintf(stream, "Landlock        yes, version %d\n", support->landlock);
    (void)fprintf(stream, "  files         none can be opened\n");
    (void)fprintf(stream, "  TCP ports     %s\n",
                  support->landlock >= SANDBOX_LANDLOCK_PORTS
                      ? "connect to those of the upstreams only, bind none"
                      : "not in this version (4 has it); seccomp allows to connect, not to bind");
    (void)fprintf(stream, "  signals       %s\n",
                  support->landlock >= SANDBOX_LANDLOCK_SCOPES
                      ? "none to other processes"
                      : "not in this version (6 has it); seccomp allows none");
}

/* The C library reads the time zone when it first prints a date: there are no files later. */
static void load_what_is_read_late(void)
{
    tzset();
}

enum status sandbox_enter(enum process_role role, const struct generation *generation)
{
    ASSERT(generation != NULL || role == PROCESS_COMPILER);
    struct sandbox_support support;
    sandbox_probe(&support);
    load_what_is_read_late();
    if (support.no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        log_message(LOG_ERROR, "cannot set no_new_privs: %s", strerror(errno));
        return ERROR;
    }
    /* Neither another process of this user nor a core file gets to see what clients sent. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        log_message(LOG_ERROR, "cannot become undumpable: %s", strerror(errno));
        return ERROR;
    }
    if (support.landlock >= SANDBOX_LANDLOCK_FILES &&
        sandbox_deny_files(support.landlock, role, generation) != OK) {
        log_message(LOG_ERROR, "cannot enter the sandbox (Landlock): %s", strerror(errno));
        return ERROR;
    }
    if (support.seccomp && sandbox_deny_calls(role, generation) != OK) {
        log_message(LOG_ERROR, "cannot enter the sandbox (seccomp): %s", strerror(errno));
        return ERROR;
    }
    return OK;
}
