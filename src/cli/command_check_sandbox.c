/* `sentinel check --sandbox`: what keeps the processes in on this machine, and whether it holds. */
#include <stdio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "supervisor/privileges.h"
#include "supervisor/sandbox.h"

/* Has a process go the way of a worker, as far as it is about itself; it says itself what fails. */
static bool try_as_worker(const struct generation *generation)
{
    int status = 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        bool entered = privileges_drop(&generation->header->server.account) == OK &&
                       sandbox_enter(PROCESS_WORKER, generation) == OK;
        _exit(entered ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

int command_check_sandbox(const struct generation *generation)
{
    struct sandbox_support support;
    struct utsname system = {0};
    const struct generation_account *account = &generation->header->server.account;
    sandbox_probe(&support);
    (void)uname(&system);
    (void)printf("system          %s %s, %s\n", system.sysname, system.release, system.machine);
    if (account->change != 0) {
        (void)printf("started as      root; all processes but the supervisor become user %u, "
                     "group %u\n",
                     account->user, account->group);
    } else {
        (void)printf("started as      user %u, group %u, which all processes stay\n", account->user,
                     account->group);
    }
    sandbox_print(stdout, &support);
    bool entered = try_as_worker(generation);
    (void)printf("tried           a worker's sandbox %s be entered\n", entered ? "can" : "cannot");
    bool full = entered && sandbox_is_full(&support);
    (void)puts(full      ? "ok: workers are fully sandboxed here"
               : entered ? "workers run here without what is missing above"
                         : "workers would refuse to start here");
    return full ? CLI_OK : CLI_REFUSED;
}
