#include "supervisor/compilation.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "config/compile.h"
#include "supervisor/budget.h"
#include "supervisor/refusal.h"

/* All keys, the two blocks of them, and what they are read into. */
#define KEYS_SIZE ((size_t)4 * SECRETS_SIZE_MAX)

/* Kept out of core files. */
static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, size, MADV_DONTDUMP); /* the process is not dumpable, either */
    return memory;
}

static enum status compile(struct compilation *compilation, struct diagnostics *diagnostics,
                           const char *config, struct environment *world)
{
    struct arena arena;
    struct arena texts;
    arena_init(&arena, compilation->memory, COMPILE_ARENA_SIZE);
    arena_init(&texts, compilation->texts, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(diagnostics, &texts);
    world->secrets = compilation->secrets;
    arena_init(&compilation->secrets->arena, compilation->keys, KEYS_SIZE);
    enum status status = config != NULL
                             ? compile_file(config, world, diagnostics, &arena, &compilation->block)
                             : compile_builtin(world, diagnostics, &arena, &compilation->block);
    if (diagnostics->count > 0) {
        diagnostics_print(diagnostics, stderr);
    }
    return status;
}

enum status compilation_open(struct compilation *compilation, const char *config,
                             char **environment, enum compilation_purpose purpose)
{
    struct compilation opened = {.memory = reserve(COMPILE_ARENA_SIZE),
                                 .texts = reserve(COMPILE_DIAGNOSTICS_ARENA_SIZE),
                                 .keys = reserve(KEYS_SIZE),
                                 .secrets = calloc(1, sizeof(*opened.secrets))};
    struct environment world = environment_of_system(environment);
    world.measure = budget_measure;
    world.refuses_expired = purpose == COMPILATION_TO_CHECK;
    if (purpose == COMPILATION_TO_LOOK) {
        /* It runs elsewhere, as somebody else and within other limits. */
        world.read_file = NULL;
        world.switches_user = true;
        world.descriptors = 0;
    }
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    enum status status = ERROR;
    if (diagnostics == NULL || opened.memory == NULL || opened.texts == NULL ||
        opened.keys == NULL || opened.secrets == NULL) {
        log_message(LOG_ERROR, "no memory for a compilation: %s%s",
                    refusal_reason(REFUSAL_OF_PROCESS, errno),
                    refusal_advice(REFUSAL_OF_PROCESS, errno));
    } else {
        status = compile(&opened, diagnostics, config, &world);
    }
    free(diagnostics);
    if (status != OK) {
        compilation_close(&opened);
        return ERROR;
    }
    *compilation = opened;
    return OK;
}

void compilation_close(struct compilation *compilation)
{
    if (compilation->memory != NULL) {
        (void)munmap(compilation->memory, COMPILE_ARENA_SIZE);
    }
    if (compilation->texts != NULL) {
        (void)munmap(compilation->texts, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    }
    if (compilation->keys != NULL) {
        explicit_bzero(compilation->keys,
                       compilation->secrets != NULL ? compilation->secrets->arena.used : 0);
        (void)munmap(compilation->keys, KEYS_SIZE);
    }
    free(compilation->secrets);
    *compilation = (struct compilation){0};
}
