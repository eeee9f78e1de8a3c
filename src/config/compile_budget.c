/*
 * Holds the compiled configuration against `memory-budget`. Whoever will allocate does the weighing
 * (environment.measure); here defaults are lowered until it fits, loudly, and what was asked for
 * explicitly and cannot fit is refused with the figures.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "config/compile_parts.h"

enum {
    BIGGEST_MAX = 3, /* keys named in a refusal */
    HELP_MAX = 1024,
};

/* Defaults that can be lowered, in the order in which they are, and how far. */
struct lowerable {
    enum schema_block_id block;
    enum schema_key_id key;
    uint64_t unit; /* it stays a multiple of this */
    uint64_t floor;
};

static const struct lowerable lowerables[] = {
    {BLOCK_LIMITS, KEY_LIMITS_BUFFER_POOL, 1024 * 1024, 1024 * 1024},
    {BLOCK_LIMITS, KEY_LIMITS_MAX_REQUESTS, 16, 256}, /* one at least for each possible worker */
    {BLOCK_SERVER, KEY_SERVER_WORKERS, 1, 1},
    {BLOCK_SERVER, KEY_SERVER_MAX_CONNECTIONS, 100, 1000},
};

static const struct section *section_of(const struct compilation *compilation,
                                        enum schema_block_id block)
{
    const struct section *server = section_child(compilation->top, BLOCK_SERVER);
    return block == BLOCK_SERVER ? server : section_child(server, block);
}

/* The setting that makes a key explicit, or NULL; `workers 0` leaves the number to us. */
static const struct setting *explicit_setting(const struct compilation *compilation,
                                              enum schema_key_id key)
{
    const struct section *section = section_of(compilation, schema_key(key)->block);
    const struct setting *setting = section_setting(section, key);
    bool automatic = key == KEY_SERVER_WORKERS && section_number(section, key) == 0;
    return automatic ? NULL : setting;
}

static uint64_t get(const struct generation_server *server, enum schema_key_id key)
{
    return key == KEY_LIMITS_BUFFER_POOL    ? server->limits.buffer_pool
           : key == KEY_LIMITS_MAX_REQUESTS ? server->limits.requests
           : key == KEY_SERVER_WORKERS      ? server->workers
                                            : server->connections;
}

static void set(struct generation_server *server, enum schema_key_id key, uint64_t value)
{
    if (key == KEY_LIMITS_BUFFER_POOL) {
        server->limits.buffer_pool = value;
    } else if (key == KEY_LIMITS_MAX_REQUESTS) {
        ASSERT(value >= server->workers);
        server->limits.requests = (uint32_t)value;
    } else if (key == KEY_SERVER_WORKERS) {
        server->workers = (uint32_t)value;
    } else {
        ASSERT(key == KEY_SERVER_MAX_CONNECTIONS);
        server->connections = (uint32_t)value;
    }
}

/* What the generation weighs with the header as it is now. */
static uint64_t weigh(struct compilation *compilation, struct figure *figure)
{
    struct span block = builder_finish(&compilation->builder, &compilation->header);
    const struct generation draft = {.base = block.data, .header = (const void *)block.data};
    compilation->validator.environment->measure(&draft, figure);
    return figure->memory;
}

/* Finds the largest value that fits, or takes the smallest; says so if that is less than it was. */
static void lower(struct compilation *compilation, const struct lowerable *lowerable,
                  struct figure *figure)
{
    struct generation_server *server = &compilation->header.server;
    const struct schema_key *key = schema_key(lowerable->key);
    uint64_t before = get(server, lowerable->key);
    uint64_t needed = figure->memory;
    uint64_t low = lowerable->floor;
    if (low >= before) {
        return;
    }
    uint64_t units = (before - low) / lowerable->unit;
    uint64_t fitting = 0; /* units above the floor */
    while (fitting < units) {
        uint64_t middle = fitting + (units - fitting + 1) / 2;
        set(server, lowerable->key, low + middle * lowerable->unit);
        if (weigh(compilation, figure) <= server->memory_budget) {
            fitting = middle;
        } else {
            units = middle - 1;
        }
    }
    set(server, lowerable->key, low + fitting * lowerable->unit);
    (void)weigh(compilation, figure);
    char from[SCHEMA_NUMBER_MAX];
    char to[SCHEMA_NUMBER_MAX];
    char budget[SCHEMA_NUMBER_MAX];
    schema_print_number(key, (int64_t)before, from);
    schema_print_number(key, (int64_t)get(server, lowerable->key), to);
    schema_print_number(schema_key(KEY_SERVER_MEMORY_BUDGET), (int64_t)server->memory_budget,
                        budget);
    COMPILE_WARNING(compilation, (struct position){0},
                    "raise server `memory-budget`, or set the key yourself; `sentinel check` "
                    "prints the sum",
                    "`%s` is lowered from %s to %s: %" PRIu64
                    " MiB of memory could be needed, `memory-budget` is %s",
                    key->name, from, to, needed >> 20, budget);
}

/* Bytes of all items that this key sizes. */
static uint64_t bytes_of(const struct figure *figure, enum schema_key_id key)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < figure->count; i++) {
        bool counts = figure->items[i].key == key;
        if (counts && __builtin_add_overflow(sum, figure->items[i].bytes, &sum)) {
            return UINT64_MAX;
        }
    }
    return sum;
}

/* The key below `bound` bytes that takes most; SCHEMA_KEYS: there is none. */
static enum schema_key_id next_biggest(const struct figure *figure, uint64_t bound)
{
    uint64_t most = 0;
    enum schema_key_id biggest = SCHEMA_KEYS;
    for (uint32_t i = 0; i < figure->count; i++) {
        enum schema_key_id key = figure->items[i].key;
        uint64_t bytes = key == SCHEMA_KEYS ? 0 : bytes_of(figure, key);
        if (bytes > most && bytes < bound) {
            most = bytes;
            biggest = key;
        }
    }
    return biggest;
}

/* Appends to a text that is cut where it would not fit: file names may be long. */
static void append(char help[HELP_MAX], const char *format, ...) PRINTF_LIKE(2, 3);

static void append(char help[HELP_MAX], const char *format, ...)
{
    size_t used = strlen(help);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(help + used, HELP_MAX - used, format, arguments);
    va_end(arguments);
}

static void describe(const struct compilation *compilation, const struct figure *figure,
                     char help[HELP_MAX])
{
    uint64_t bound = UINT64_MAX;
    help[0] = '\0';
    append(help, "lower these, or `workers`, or raise server `memory-budget`; most of it:");
    for (int i = 0; i < BIGGEST_MAX; i++) {
        enum schema_key_id id = next_biggest(figure, bound);
        if (id == SCHEMA_KEYS) {
            return;
        }
        bound = bytes_of(figure, id);
        const struct setting *setting = explicit_setting(compilation, id);
        append(help, "%s %" PRIu64 " MiB by `%s`", i > 0 ? "," : "", bound >> 20,
               schema_key(id)->name);
        if (setting != NULL && setting->position.source != NULL) {
            append(help, " (%.*s:%" PRIu32 ")", SPAN_ARGS(setting->position.source->name),
                   setting->position.line);
        }
    }
}

static void refuse(struct compilation *compilation, const struct figure *figure)
{
    char help[HELP_MAX];
    char budget[SCHEMA_NUMBER_MAX];
    const struct setting *setting = explicit_setting(compilation, KEY_SERVER_MEMORY_BUDGET);
    if (setting == NULL) {
        enum schema_key_id biggest = next_biggest(figure, UINT64_MAX);
        setting = biggest == SCHEMA_KEYS ? NULL : explicit_setting(compilation, biggest);
    }
    describe(compilation, figure, help);
    schema_print_number(schema_key(KEY_SERVER_MEMORY_BUDGET),
                        (int64_t)compilation->header.server.memory_budget, budget);
    COMPILE_ERROR(compilation, setting != NULL ? setting->values->position : (struct position){0},
                  help,
                  "this configuration can take %" PRIu64 " MiB of memory, `memory-budget` is %s",
                  figure->memory >> 20, budget);
}

void compile_budget(struct compilation *compilation)
{
    struct figure figure;
    if (compilation->validator.environment->measure == NULL) {
        return;
    }
    uint64_t budget = compilation->header.server.memory_budget;
    uint64_t needed = weigh(compilation, &figure);
    for (size_t i = 0; needed > budget && i < sizeof(lowerables) / sizeof(lowerables[0]); i++) {
        if (explicit_setting(compilation, lowerables[i].key) == NULL) {
            lower(compilation, &lowerables[i], &figure);
            needed = figure.memory;
        }
    }
    if (needed > budget) {
        refuse(compilation, &figure);
    }
}
