/*
 * The compiler process: reads the configuration, which is the one text from outside that the
 * supervisor's family reads, within bounds of memory and time, leaves the generation in the memory
 * that it was given, and ends. Its diagnostics go to standard error.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "config/compile.h"
#include "observe/log.h"
#include "supervisor/process.h"

enum { PROCESSOR_SECONDS = 10 };

#define MEMORY_MAX ((rlim_t)1024 * 1024 * 1024)

/* A sanitizer reserves terabytes of addresses for its shadow: there the limit cannot be set. */
#if defined(__SANITIZE_ADDRESS__)
enum { LIMIT_MEMORY = 0 };
#else
enum { LIMIT_MEMORY = 1 };
#endif

static enum status limit_self(void)
{
    const struct rlimit memory = {MEMORY_MAX, MEMORY_MAX};
    const struct rlimit processor = {PROCESSOR_SECONDS, PROCESSOR_SECONDS};
    if (LIMIT_MEMORY != 0 && setrlimit(RLIMIT_AS, &memory) != 0) {
        return ERROR;
    }
    return setrlimit(RLIMIT_CPU, &processor) == 0 ? OK : ERROR;
}

static bool reserve(struct arena *arena, size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    arena_init(arena, memory, size);
    return true;
}

int process_compile(struct process *process, char **environment)
{
    struct arena arena;
    struct arena texts;
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    if (limit_self() != OK || diagnostics == NULL || !reserve(&arena, COMPILE_ARENA_SIZE) ||
        !reserve(&texts, COMPILE_DIAGNOSTICS_ARENA_SIZE)) {
        log_message(LOG_ERROR, "the compiler cannot start: %s", strerror(errno));
        free(diagnostics);
        return 1;
    }
    diagnostics_init(diagnostics, &texts);
    const char *config = process->spec->config;
    struct environment world = environment_of_system(environment);
    struct span block;
    enum status status = config[0] != '\0'
                             ? compile_file(config, &world, diagnostics, &arena, &block)
                             : compile_builtin(&world, diagnostics, &arena, &block);
    if (diagnostics->count > 0) {
        diagnostics_print(diagnostics, stderr);
    }
    free(diagnostics);
    if (status == OK && generation_memory_write(SPAWN_FD_GENERATION, block) != OK) {
        log_message(LOG_ERROR, "the compiler cannot hand over: %s", strerror(errno));
        status = ERROR;
    }
    return status == OK ? 0 : 1; /* the arenas go with the process */
}
