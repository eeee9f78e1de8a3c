#include "single_step.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMORY_ALIGNMENT = 64, CANNOT_BE_TRACED = 99 };

static _Noreturn void be_stepped(void (*run)(void *context), void *context)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    (void)sigaction(SIGABRT, &plain, NULL); /* a failure in here is told by the end alone */
    (void)sigaction(SIGSEGV, &plain, NULL);
    /* A test that fails half-way must leave nobody standing. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
        _exit(CANNOT_BE_TRACED);
    }
    (void)raise(SIGSTOP);
    run(context);
    /* At once: a sanitizer does a lot before it lets a process exit in the usual way. */
    (void)syscall(SYS_exit_group, 0);
    _exit(0);
}

/* Waits for the child to stand still or end. True: it stands, as it should. */
static bool wait_for_stop(struct single_step *step, int expected)
{
    int status = 0;
    pid_t waited;
    do {
        waited = waitpid(step->pid, &status, 0);
    } while (waited < 0 && errno == EINTR);
    if (waited == step->pid && WIFSTOPPED(status)) {
        if (WSTOPSIG(status) == expected) {
            return true;
        }
        single_step_kill(step); /* it crashed */
        step->failed = true;
        return false;
    }
    step->pid = 0;
    step->failed = waited < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    return false;
}

bool single_step_begin(struct single_step *step, void (*run)(void *context), void *context)
{
    *step = (struct single_step){.pid = fork()};
    if (step->pid == 0) {
        be_stepped(run, context);
    }
    if (step->pid < 0) {
        step->pid = 0;
        return false;
    }
    return wait_for_stop(step, SIGSTOP);
}

bool single_step_next(struct single_step *step)
{
    if (step->pid == 0 || ptrace(PTRACE_SINGLESTEP, step->pid, NULL, NULL) != 0) {
        return false;
    }
    step->executed++;
    return wait_for_stop(step, SIGTRAP);
}

bool single_step_finish(struct single_step *step)
{
    if (step->pid != 0 && ptrace(PTRACE_CONT, step->pid, NULL, NULL) == 0) {
        (void)wait_for_stop(step, 0);
    }
    return step->pid == 0 && !step->failed;
}

void single_step_kill(struct single_step *step)
{
    if (step->pid == 0) {
        return;
    }
    (void)kill(step->pid, SIGKILL);
    while (waitpid(step->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    step->pid = 0;
}

void *single_step_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

void single_step_unshare(void *memory, size_t size)
{
    if (memory != NULL) {
        (void)munmap(memory, size);
    }
}

/* `seen` is the state judged last, `remains` what the check may write to. */
static void judge(struct crash_walk *walk, void *seen, void *remains)
{
    memcpy(seen, walk->memory, walk->size);
    memcpy(remains, seen, walk->size);
    walk->points++;
    walk->check(walk->context, remains);
}

static bool take_the_walk(struct crash_walk *walk, void *seen, void *remains)
{
    struct single_step step;
    if (!single_step_begin(&step, walk->run, walk->context)) {
        return false;
    }
    judge(walk, seen, remains);
    while (single_step_next(&step) && step.executed < SINGLE_STEP_MAX) {
        if (memcmp(seen, walk->memory, walk->size) != 0) {
            judge(walk, seen, remains);
        }
    }
    walk->instructions = step.executed;
    bool returned = step.pid == 0 && !step.failed;
    single_step_kill(&step);
    return returned;
}

bool crash_walk(struct crash_walk *walk)
{
    size_t rounded = (walk->size + MEMORY_ALIGNMENT - 1) & ~(size_t)(MEMORY_ALIGNMENT - 1);
    void *seen = aligned_alloc(MEMORY_ALIGNMENT, rounded);
    void *remains = aligned_alloc(MEMORY_ALIGNMENT, rounded);
    walk->instructions = 0;
    walk->points = 0;
    bool walked = seen != NULL && remains != NULL && take_the_walk(walk, seen, remains);
    free(seen);
    free(remains);
    return walked;
}
