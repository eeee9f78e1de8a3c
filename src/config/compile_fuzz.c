/*
 * Any text as a configuration: the compiler never crashes, reports an error or makes a block that
 * opens, and its own report can be printed. Whether the block opens is asserted by the compiler.
 */
#include "config/compile.h"

#include <stdlib.h>

#include "config/certificate_fixed_fuzz.h"

enum {
    FUZZ_ARENA_SIZE = 3 * 1024 * 1024,
    FUZZ_TEXT_MAX = 32 * 1024,
    FUZZ_SECRETS_SIZE = 2 * 1024 * 1024
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t resolve_by_length(struct span host, uint16_t port,
                                struct address addresses[ENVIRONMENT_ADDRESSES_MAX])
{
    size_t count = host.size % 4;
    for (size_t i = 0; i < count; i++) {
        addresses[i] = (struct address){
            .family = ADDRESS_IPV4,
            .port = port,
            .ip = {10, 0, 0, (uint8_t)(host.data[0] + i)},
        };
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const variables[] = {"A=1", "EMPTY=", "PORT=80", NULL};
    if (size > FUZZ_TEXT_MAX) {
        return 0;
    }
    void *memory = malloc(FUZZ_ARENA_SIZE);
    void *notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    struct arena arena;
    struct arena note_arena;
    struct span block = SPAN_EMPTY;
    struct secrets_builder *secrets = calloc(1, sizeof(*secrets));
    static _Alignas(16) uint8_t keys[FUZZ_SECRETS_SIZE]; /* as large as it is, made once */
    struct environment environment = {
        .variables = variables,
        .cores = 2,
        .resolve = resolve_by_length,
        .read_file = fixed_read_file,
        .secrets = secrets,
        .now = FUZZ_NOW,
    };
    struct compile_input input = {
        .name = SPAN("fuzz.kdl"),
        .text = span_of(data, size),
        .environment = &environment,
    };
    FILE *stream = fopen("/dev/null", "w");
    ASSERT(secrets != NULL);
    arena_init(&secrets->arena, keys, FUZZ_SECRETS_SIZE);
    ASSERT(memory != NULL && notes != NULL && diagnostics != NULL && stream != NULL);
    arena_init(&arena, memory, FUZZ_ARENA_SIZE);
    arena_init(&note_arena, notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(diagnostics, &note_arena);
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    ASSERT((status == OK) == (diagnostics->errors == 0));
    if (status == OK) {
        struct generation generation;
        bool opened = generation_open(&generation, block);
        ASSERT(opened);
        compile_print_summary(stream, &generation, FUZZ_NOW);
        struct secrets opened_secrets;
        ASSERT(secrets_open(&opened_secrets, secrets->block, &generation));
        ASSERT(secrets_open(&opened_secrets, secrets->check_block, &generation));
    }
    diagnostics_print(diagnostics, stream);
    (void)fclose(stream);
    free(secrets);
    free(diagnostics);
    free(notes);
    free(memory);
    return 0;
}
