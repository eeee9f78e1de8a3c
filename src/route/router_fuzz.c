/*
 * The input decides a configuration and a request; then one part of the request, path, query,
 * host or the names in the client's certificate, is the rest of the input as it stands. The router
 * must agree with the naive oracle.
 */
#include <stdlib.h>

#include "route/router_oracle.h"

enum { RAW_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _Alignas(16) static uint8_t block_memory[CASE_BLOCK_SIZE];
    _Alignas(16) static uint8_t arena_memory[CASE_ARENA_SIZE];
    static struct case_drafts drafts;
    static struct case_request request;
    struct choices choices = {.bytes = span_of(data, size), .from_bytes = true};
    struct block block = {.memory = block_memory};
    struct generation generation;
    struct rules rules;
    struct arena arena;
    arena_init(&arena, arena_memory, sizeof(arena_memory));
    choose_drafts(&choices, &drafts);
    block_compile(&block, &arena, drafts.drafts, drafts.count, &rules, &generation);
    choose_request(&choices, &request);
    uint32_t part = choose(&choices, 5);
    struct span raw = choices.bytes;
    raw.size = raw.size < RAW_MAX ? raw.size : RAW_MAX;
    /* An exact copy, so that a read past the end is seen. */
    uint8_t *copy = malloc(raw.size);
    if (raw.size > 0 && copy != NULL) {
        memcpy(copy, raw.data, raw.size);
        struct span *parts[] = {&request.head.path, &request.head.query, &request.head.host,
                                &request.client.names};
        if (part < COUNT_OF(parts)) {
            *parts[part] = span_of(copy, raw.size);
        }
    }
    ASSERT(property_router_agrees(&generation, &rules, &request.request));
    ASSERT(property_shadows_are_true(&rules, &request.request));
    free(copy);
    return 0;
}
