/*
 * Holds the compiled configuration against what there is: memory against `memory-budget`, and the
 * descriptors of each process against the system's hard limit. Whoever will allocate does the
 * weighing (environment.measure); here defaults are lowered until it fits, loudly, and what was
 * asked for explicitly and cannot fit is refused with the figures.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "config/compile_parts.h"

enum {
    BIGGEST_MAX = 3, /* keys named in a refusal */
    LOWERABLES_MAX = 16,
    HELP_MAX = 1024,
    MIB = 1024 * 1024,
};

enum resource {
    MEMORY,
    DESCRIPTORS,       /* of any process */
    OTHER_DESCRIPTORS, /* of those that are no workers */
};

/* One resource of one compilation. */
struct weighing {
    struct compilation *compilation;
    enum resource resource;
    uint64_t limit;
    struct figure figure; /* of the header as it is now */
};

/* A default that can be lowered, and how far. */
struct lowerable {
    enum schema_key_id key;
    uint64_t unit; /* it stays a multiple of this above the floor */
    uint64_t floor;
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

/* Where the header has the bound of 32 bits that a key sets. */
static uint32_t *bound_of(struct generation_server *server, enum schema_key_id key)
{
    switch ((int)key) {
    case KEY_LIMITS_MAX_REQUESTS:
        return &server->limits.requests;
    case KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS:
        return &server->limits.upstream_connections;
    case KEY_LIMITS_SPLICE_PIPES:
        return &server->limits.splice_pipes;
    case KEY_SERVER_WORKERS:
        return &server->workers;
    case KEY_SERVER_MAX_CONNECTIONS:
        return &server->connections;
    default:
        UNREACHABLE("a key that is lowered");
    }
}

/* The same for a pool's bytes; NULL: the key sets another kind of bound. */
static uint64_t *pool_of(struct generation_server *server, enum schema_key_id key)
{
    return key == KEY_LIMITS_BUFFER_POOL  ? &server->limits.buffer_pool
           : key == KEY_LIMITS_HOLD_POOL  ? &server->limits.hold_pool
           : key == KEY_LIMITS_HTTP2_POOL ? &server->limits.http2_pool
                                          : NULL;
}

static uint64_t get(struct generation_server *server, enum schema_key_id key)
{
    const uint64_t *pool = pool_of(server, key);
    return pool != NULL ? *pool : *bound_of(server, key);
}

static void set(struct generation_server *server, enum schema_key_id key, uint64_t value)
{
    uint64_t *pool = pool_of(server, key);
    if (pool != NULL) {
        *pool = value;
    } else {
        /* Each worker has its share of these, which is at least one. */
        ASSERT((key != KEY_LIMITS_MAX_REQUESTS && key != KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS) ||
               value >= server->workers);
        *bound_of(server, key) = (uint32_t)value;
    }
}

/* Weighs the generation with the header as it is now. */
static void weigh(struct weighing *weighing)
{
    struct compilation *compilation = weighing->compilation;
    struct span block = builder_finish(&compilation->builder, &compilation->header);
    const struct generation draft = {.base = block.data, .header = (const void *)block.data};
    compilation->validator.environment->measure(&draft, &weighing->figure);
}

static uint64_t needed(const struct weighing *weighing)
{
    return weighing->resource == MEMORY        ? weighing->figure.memory
           : weighing->resource == DESCRIPTORS ? weighing->figure.descriptors
                                               : weighing->figure.other_descriptors;
}

static bool fits(const struct weighing *weighing)
{
    return needed(weighing) <= weighing->limit;
}

static void say_lowered(struct weighing *weighing, enum schema_key_id id, uint64_t before,
                        uint64_t was_needed)
{
    const struct schema_key *key = schema_key(id);
    char from[SCHEMA_NUMBER_MAX];
    char to[SCHEMA_NUMBER_MAX];
    schema_print_number(key, (int64_t)before, from);
    schema_print_number(key, (int64_t)get(&weighing->compilation->header.server, id), to);
    if (weighing->resource != MEMORY) {
        COMPILE_WARNING(weighing->compilation, (struct position){0},
                        "raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or set the "
                        "key yourself; `sentinel check` prints the sum",
                        "`%s` is lowered from %s to %s: a process could need %" PRIu64
                        " descriptors, %" PRIu64 " are allowed here",
                        key->name, from, to, was_needed, weighing->limit);
        return;
    }
    char budget[SCHEMA_NUMBER_MAX];
    schema_print_number(schema_key(KEY_SERVER_MEMORY_BUDGET), (int64_t)weighing->limit, budget);
    COMPILE_WARNING(weighing->compilation, (struct position){0},
                    "raise server `memory-budget`, or set the key yourself; `sentinel check` "
                    "prints the sum",
                    "`%s` is lowered from %s to %s: %" PRIu64
                    " MiB of memory could be needed, `memory-budget` is %s",
                    key->name, from, to, was_needed >> 20, budget);
}

/* Finds the largest value that fits, or takes the smallest. */
static void lower(struct weighing *weighing, const struct lowerable *lowerable)
{
    struct generation_server *server = &weighing->compilation->header.server;
    uint64_t before = get(server, lowerable->key);
    uint64_t low = lowerable->floor;
    if (low >= before) {
        return;
    }
    uint64_t units = (before - low) / lowerable->unit;
    uint64_t fitting = 0; /* units above the floor */
    while (fitting < units) {
        uint64_t middle = fitting + (units - fitting + 1) / 2;
        set(server, lowerable->key, low + middle * lowerable->unit);
        weigh(weighing);
        if (fits(weighing)) {
            fitting = middle;
        } else {
            units = middle - 1;
        }
    }
    set(server, lowerable->key, low + fitting * lowerable->unit);
    weigh(weighing);
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

/* Explicit ones stay, and a pool that nobody here uses saves nothing. */
static bool may_lower(const struct weighing *weighing, enum schema_key_id key)
{
    return explicit_setting(weighing->compilation, key) == NULL &&
           ((key != KEY_LIMITS_HTTP2_POOL && key != KEY_LIMITS_HOLD_POOL) ||
            bytes_of(&weighing->figure, key) > 0);
}

/* Lowers defaults, in this order, until it fits; a key may come twice, and is told of once. */
static void lower_all(struct weighing *weighing, const struct lowerable *lowerables, size_t count)
{
    struct generation_server *server = &weighing->compilation->header.server;
    uint64_t was_needed = needed(weighing);
    uint64_t before[LOWERABLES_MAX];
    ASSERT(count <= LOWERABLES_MAX);
    for (size_t i = 0; i < count; i++) {
        before[i] = get(server, lowerables[i].key);
    }
    for (size_t i = 0; !fits(weighing) && i < count; i++) {
        if (may_lower(weighing, lowerables[i].key)) {
            lower(weighing, &lowerables[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t first = 0;
        while (lowerables[first].key != lowerables[i].key) {
            first++;
        }
        if (first == i && get(server, lowerables[i].key) < before[i]) {
            say_lowered(weighing, lowerables[i].key, before[i], was_needed);
        }
    }
}

/* ---- Memory ---- */

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

static void refuse_memory(const struct weighing *weighing)
{
    struct compilation *compilation = weighing->compilation;
    const struct figure *figure = &weighing->figure;
    char help[HELP_MAX];
    char budget[SCHEMA_NUMBER_MAX];
    const struct setting *setting = explicit_setting(compilation, KEY_SERVER_MEMORY_BUDGET);
    if (setting == NULL) {
        enum schema_key_id biggest = next_biggest(figure, UINT64_MAX);
        setting = biggest == SCHEMA_KEYS ? NULL : explicit_setting(compilation, biggest);
    }
    describe(compilation, figure, help);
    schema_print_number(schema_key(KEY_SERVER_MEMORY_BUDGET), (int64_t)weighing->limit, budget);
    COMPILE_ERROR(compilation, setting != NULL ? setting->values->position : (struct position){0},
                  help,
                  "this configuration can take %" PRIu64 " MiB of memory, `memory-budget` is %s",
                  figure->memory >> 20, budget);
}

static void hold_memory(struct compilation *compilation)
{
    /* First each to what most can live with; processors are left idle when that is not enough. */
    static const struct lowerable lowerables[] = {
        {KEY_LIMITS_HOLD_POOL, MIB, MIB},
        {KEY_LIMITS_BUFFER_POOL, MIB, 8 * MIB},
        {KEY_LIMITS_MAX_REQUESTS, 16, 1024},
        {KEY_LIMITS_BUFFER_POOL, MIB, 2 * MIB},
        {KEY_SERVER_MAX_CONNECTIONS, 100, 4000},
        {KEY_LIMITS_HTTP2_POOL, MIB, 16 * MIB},
        {KEY_LIMITS_BUFFER_POOL, MIB, MIB},
        {KEY_LIMITS_HTTP2_POOL, MIB, 4 * MIB},
        {KEY_LIMITS_MAX_REQUESTS, 16, 256}, /* one at least for each possible worker */
        {KEY_SERVER_WORKERS, 1, 1},
        {KEY_SERVER_MAX_CONNECTIONS, 100, 1000},
    };
    struct weighing weighing = {
        .compilation = compilation,
        .resource = MEMORY,
        .limit = compilation->header.server.memory_budget,
    };
    weigh(&weighing);
    lower_all(&weighing, lowerables, sizeof(lowerables) / sizeof(lowerables[0]));
    if (!fits(&weighing)) {
        refuse_memory(&weighing);
    }
}

/* ---- Descriptors ---- */

static void refuse_descriptors(const struct weighing *weighing)
{
    static const enum schema_key_id keys[] = {
        KEY_SERVER_MAX_CONNECTIONS, KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS, KEY_LIMITS_SPLICE_PIPES};
    const struct compilation *compilation = weighing->compilation;
    const struct setting *setting = NULL;
    bool of_workers = weighing->resource == DESCRIPTORS;
    for (size_t i = 0; of_workers && i < sizeof(keys) / sizeof(keys[0]) && setting == NULL; i++) {
        setting = explicit_setting(compilation, keys[i]);
    }
    COMPILE_ERROR(compilation, setting != NULL ? setting->values->position : (struct position){0},
                  of_workers ? "raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or "
                               "lower `max-connections`, `max-upstream-connections` or "
                               "`splice-pipes`"
                             : "raise the hard limit of open files (ulimit -Hn, LimitNOFILE)",
                  "%s of this configuration can need %" PRIu64 " descriptors, %" PRIu64
                  " are allowed here",
                  of_workers ? "a worker" : "the supervisor or the controller", needed(weighing),
                  weighing->limit);
}

/*
 * What the processes need that are no workers goes by the number of these. Of a worker's
 * descriptors half are left to its clients: its pipes give way first, down to an eighth, then its
 * upstream connections, down to a quarter.
 */
static void hold_descriptors(struct compilation *compilation)
{
    struct weighing weighing = {
        .compilation = compilation,
        .resource = OTHER_DESCRIPTORS,
        .limit = compilation->validator.environment->descriptors,
    };
    if (weighing.limit == 0) {
        return;
    }
    const struct lowerable workers = {KEY_SERVER_WORKERS, 1, 1};
    weigh(&weighing);
    lower_all(&weighing, &workers, 1);
    if (fits(&weighing)) {
        uint64_t of_workers = weighing.limit * compilation->header.server.workers;
        const struct lowerable bounds[] = {
            {KEY_LIMITS_SPLICE_PIPES, 1, of_workers / 16},
            {KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS, 1, of_workers / 4},
            {KEY_SERVER_MAX_CONNECTIONS, 1, 1},
        };
        weighing.resource = DESCRIPTORS;
        lower_all(&weighing, bounds, sizeof(bounds) / sizeof(bounds[0]));
    }
    if (!fits(&weighing)) {
        refuse_descriptors(&weighing);
    }
}

void compile_budget(struct compilation *compilation)
{
    if (compilation->validator.environment->measure != NULL) {
        hold_memory(compilation);
        hold_descriptors(compilation); /* later: fewer workers have more connections each */
    }
}
