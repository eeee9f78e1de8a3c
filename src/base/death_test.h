/*
 * For tests of assertions: a broken contract must abort the process rather than go on. The crime is
 * committed in a forked child with standard error closed, so that the test's own output stays
 * readable; only an abort counts as a death, not a crash.
 */
#ifndef SENTINEL_BASE_DEATH_TEST_H
#define SENTINEL_BASE_DEATH_TEST_H

#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* True when crime(context) aborts; whatever it does to context stays in the child. */
static inline bool aborts(void (*crime)(void *context), void *context)
{
    pid_t child = fork();
    if (child == 0) {
        const struct sigaction plain = {.sa_handler = SIG_DFL};
        sigaction(SIGABRT, &plain, NULL);
        prctl(PR_SET_DUMPABLE, 0); /* no core file for a death on purpose */
        close(STDERR_FILENO);
        crime(context);
        _exit(0);
    }
    int result = 0;
    return child > 0 && waitpid(child, &result, 0) == child && WIFSIGNALED(result) &&
           WTERMSIG(result) == SIGABRT;
}

#endif
