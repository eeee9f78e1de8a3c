#include "compiled.h"

#include <stdlib.h>

#include "base/assert.h"
#include "certificates.h"
#include "config/compile.h"
#include "run.h"

enum { ARENA_SIZE = 24 * 1024 * 1024, SECRETS_ARENA_SIZE = 4 * 1024 * 1024 };

/* What is needed while compiling only; too large for a stack frame. */
struct notes {
    struct diagnostics diagnostics;
    struct arena arena;
    uint8_t memory[64 * 1024];
    struct secrets_builder secrets;
    uint8_t keys[SECRETS_ARENA_SIZE];
};

void *compiled_open(struct generation *generation, struct span text)
{
    struct notes *notes = malloc(sizeof(*notes));
    void *memory = malloc(ARENA_SIZE);
    ASSERT(notes != NULL && memory != NULL);
    struct arena arena;
    arena_init(&arena, memory, ARENA_SIZE);
    arena_init(&notes->arena, notes->memory, sizeof(notes->memory));
    diagnostics_init(&notes->diagnostics, &notes->arena);
    memset(&notes->secrets, 0, sizeof(notes->secrets));
    arena_init(&notes->secrets.arena, notes->keys, sizeof(notes->keys));
    struct environment environment = {.cores = 1,
                                      .read_file = certificates_read_file,
                                      .secrets = &notes->secrets,
                                      .now = CERTIFICATES_NOW};
    struct compile_input input = {SPAN("sim.kdl"), text, &environment};
    struct span block = SPAN_EMPTY;
    if (compile_text(&input, &notes->diagnostics, &arena, &block) != OK) {
        diagnostics_print(&notes->diagnostics, stderr);
        run_failed("the scenario's configuration does not compile");
    }
    if (!generation_open(generation, block)) {
        run_failed("the compiled generation does not open");
    }
    free(notes);
    return memory;
}
