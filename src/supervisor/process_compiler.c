/*
 * The compiler process: reads the configuration, which is the one text from outside that the
 * supervisor's family reads, within bounds of memory and time, leaves the generation in the memory
 * that it was given, and ends. Its diagnostics go to standard error.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "observe/log.h"
#include "supervisor/compilation.h"
#include "supervisor/privileges.h"
#include "supervisor/process.h"
#include "supervisor/sandbox.h"

enum { PROCESSOR_SECONDS = 10 };

#define MEMORY_MAX ((rlim_t)1024 * 1024 * 1024)

/* A sanitizer reserves terabytes of addresses for its shadow: there the limit cannot be set. */
#if defined(__SANITIZE_ADDRESS__)
enum { LIMIT_MEMORY = 0 };
#else
enum { LIMIT_MEMORY = 1 };
#endif

/* Lowers a limit of this process to so much, or to what it was started with. */
static enum status limit_to(__rlimit_resource_t resource, rlim_t most)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) {
        return ERROR;
    }
    most = limit.rlim_max < most ? limit.rlim_max : most;
    limit = (struct rlimit){most, most};
    return setrlimit(resource, &limit) == 0 ? OK : ERROR;
}

static enum status limit_self(void)
{
    if (LIMIT_MEMORY != 0 && limit_to(RLIMIT_AS, MEMORY_MAX) != OK) {
        return ERROR;
    }
    return limit_to(RLIMIT_CPU, PROCESSOR_SECONDS);
}

int process_compile(struct process *process, char **environment)
{
    if (limit_self() != OK) {
        log_message(LOG_ERROR, "the compiler cannot bound itself: %s", strerror(errno));
        return 1;
    }
    if (privileges_keep_reading() != OK || sandbox_enter(PROCESS_COMPILER, NULL) != OK) {
        return 1;
    }
    /* It has nothing to say but its exit code, and could send the supervisor descriptors. */
    (void)close(SPAWN_FD_CHANNEL);
    const char *config = process->spec->config;
    struct compilation compilation = {0};
    if (compilation_open(&compilation, config[0] != '\0' ? config : NULL, environment,
                         COMPILATION_TO_RUN) != OK) {
        return 1;
    }
    enum status status = sealed_memory_write(SPAWN_FD_GENERATION, compilation.block);
    if (status == OK) {
        status = sealed_memory_write(SPAWN_FD_SECRETS, compilation.secrets->block);
    }
    if (status == OK) {
        status = sealed_memory_write(SPAWN_FD_CHECK_SECRETS, compilation.secrets->check_block);
    }
    if (status != OK) {
        log_message(LOG_ERROR, "the compiler cannot hand over: %s", strerror(errno));
    }
    compilation_close(&compilation);
    return status == OK ? 0 : 1;
}
