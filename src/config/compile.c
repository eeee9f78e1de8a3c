#include "config/compile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "config/compile_parts.h"
#include "config/kdl.h"

static_assert((size_t)COMPILE_SOURCE_MAX <= (size_t)KDL_TEXT_MAX, "the parser takes every source");

/*
 * The built-in configuration, for when there is no file. The same text, without variables, stands
 * in for listeners, upstreams and routes of a file that has none of them.
 */
#define BUILTIN_TEXT                                                                               \
    "server { workers \"${SENTINEL_WORKERS:-0}\"; }\n"                                             \
    "listener \"http\" { address \"${SENTINEL_LISTEN:-0.0.0.0:8080}\"; }\n"                        \
    "upstream \"default\" { target \"${SENTINEL_UPSTREAM:-127.0.0.1:8081}\"; }\n"                  \
    "route \"default\" { upstream \"default\"; }\n"

static const char *const own_variables[] = {"SENTINEL_UPSTREAM", "SENTINEL_LISTEN",
                                            "SENTINEL_WORKERS"};

static const struct position nowhere = {0};

/* Diagnostics keep pointing at their source, so it lives in the arena. */
static const struct source *make_source(struct arena *arena, struct span name, struct span text)
{
    struct source *source = arena_alloc(arena, sizeof(*source));
    if (source != NULL) {
        *source = (struct source){.name = name, .text = text};
    }
    return source;
}

static void report_no_room(struct diagnostics *diagnostics)
{
    diagnostics_add(diagnostics, SEVERITY_ERROR, nowhere, NULL, "the configuration is too large");
}

/* Parses and validates a source; NULL when that failed so early that there is no tree. */
static struct section *read_source(struct validator *validator, const struct source *source)
{
    struct document document;
    struct kdl_options options = {.version = 0};
    if (kdl_parse(source, options, validator->arena, validator->diagnostics, &document) != OK) {
        ASSERT(validator->diagnostics->errors > 0);
        return NULL;
    }
    struct section *top = validate_document(validator, &document);
    if (top == NULL) {
        report_no_room(validator->diagnostics);
    }
    return top;
}

/* Blocks that the table knows but this build does not. */
static void check_refused(struct compilation *compilation)
{
    const struct section *waf = section_child(compilation->top, BLOCK_WAF);
    if (waf != NULL) {
        COMPILE_ERROR(compilation, waf->position,
                      "take the block out; nothing would inspect the requests",
                      "no WAF agent in this build");
    }
}

/* Listeners, upstreams and routes come from the file, or all of them are the built-in ones. */
static bool choose_parts(struct compilation *compilation, const struct source *source)
{
    struct section *top = compilation->top;
    compilation->parts = top;
    if (top->counts[BLOCK_LISTENER] + top->counts[BLOCK_UPSTREAM] + top->counts[BLOCK_ROUTE] > 0) {
        if (top->counts[BLOCK_LISTENER] == 0) {
            COMPILE_ERROR(compilation, nowhere, "add one: listener \"http\" { address ... }",
                          "%.*s: there is no listener", SPAN_ARGS(source->name));
        }
        if (top->counts[BLOCK_ROUTE] == 0) {
            COMPILE_ERROR(compilation, nowhere, "add one: route \"all\" { upstream ... }",
                          "%.*s: there is no route; every request would be answered 404",
                          SPAN_ARGS(source->name));
        }
        return true;
    }
    struct environment world = *compilation->validator.environment;
    struct validator validator = compilation->validator;
    const struct source *builtin =
        make_source(validator.arena, SPAN("built-in configuration"), SPAN(BUILTIN_TEXT));
    world.variables = NULL;
    compilation->is_builtin = true;
    validator.environment = &world;
    compilation->parts = builtin == NULL ? NULL : read_source(&validator, builtin);
    return compilation->parts != NULL;
}

static bool compile_all(struct compilation *compilation, const struct source *source)
{
    check_refused(compilation);
    return choose_parts(compilation, source) &&
           builder_init(&compilation->builder, compilation->validator.arena) &&
           compile_server(compilation) && compile_listeners(compilation) &&
           compile_upstreams(compilation) && compile_routes(compilation) &&
           compile_rules(compilation) && compile_tls_finish(compilation) &&
           !compilation->builder.full;
}

static enum status compile_source(struct compilation *compilation, const struct source *source,
                                  struct span *block)
{
    struct diagnostics *diagnostics = compilation->validator.diagnostics;
    if (!compile_all(compilation, source)) {
        report_no_room(diagnostics);
        return ERROR;
    }
    compilation->header.number = 1;
    if (diagnostics->errors == 0) {
        compile_budget(compilation);
    }
    if (diagnostics->errors > 0) {
        return ERROR;
    }
    struct span built = builder_finish(&compilation->builder, &compilation->header);
    struct generation generation;
    struct secrets_builder *secrets = compilation->validator.environment->secrets;
    if (secrets != NULL && !secrets_finish(secrets, compilation->header.certificates.count,
                                           compilation->header.number)) {
        report_no_room(diagnostics);
        return ERROR;
    }
    bool opened = generation_open(&generation, built);
    ASSERT(opened); /* what the compiler writes, the workers accept */
    *block = built;
    return OK;
}

/* `compilation` says what is special about the run; the input's source is its file. */
static enum status compile_input(struct compilation *compilation, const struct compile_input *input,
                                 struct span *block)
{
    struct validator *validator = &compilation->validator;
    const struct source *source = make_source(validator->arena, input->name, input->text);
    if (source == NULL || input->text.size > COMPILE_SOURCE_MAX) {
        report_no_room(validator->diagnostics);
        return ERROR;
    }
    compilation->top = read_source(validator, source);
    if (compilation->top == NULL) {
        return ERROR;
    }
    return compile_source(compilation, source, block);
}

enum status compile_text(const struct compile_input *input, struct diagnostics *diagnostics,
                         struct arena *arena, struct span *block)
{
    struct compilation compilation = {
        .validator = {input->environment, diagnostics, arena},
    };
    return compile_input(&compilation, input, block);
}

enum status compile_builtin(const struct environment *environment, struct diagnostics *diagnostics,
                            struct arena *arena, struct span *block)
{
    struct compilation compilation = {
        .validator = {environment, diagnostics, arena},
        .is_builtin = true,
    };
    struct compile_input input = {
        .name = SPAN("built-in configuration"),
        .text = SPAN(BUILTIN_TEXT),
        .environment = environment,
    };
    return compile_input(&compilation, &input, block);
}

static enum status refuse_file(struct diagnostics *diagnostics, const char *path, const char *why)
{
    diagnostics_add(diagnostics, SEVERITY_ERROR, nowhere, NULL, "cannot read %s: %s", path, why);
    return ERROR;
}

/*
 * Reads a descriptor to its end; ERROR was reported. One byte more than is allowed is asked for, so
 * that too large a file shows by filling it; what a file does not touch of it costs nothing.
 */
static enum status read_descriptor(int descriptor, const char *path,
                                   struct diagnostics *diagnostics, struct arena *arena,
                                   struct span *text)
{
    size_t used = 0;
    uint8_t *memory = arena_alloc(arena, COMPILE_SOURCE_MAX + 1);
    if (memory == NULL) {
        report_no_room(diagnostics);
        return ERROR;
    }
    while (used <= COMPILE_SOURCE_MAX) {
        ssize_t got = read(descriptor, memory + used, COMPILE_SOURCE_MAX + 1 - used);
        if (got < 0 && errno != EINTR) {
            return refuse_file(diagnostics, path, strerror(errno));
        }
        if (got == 0) {
            *text = span_of(memory, used);
            return OK;
        }
        used += got > 0 ? (size_t)got : 0;
    }
    return refuse_file(diagnostics, path, "it is larger than 4 MiB");
}

static_assert(COMPILE_SOURCE_MAX == 4 * 1024 * 1024, "the message above says so");

static enum status read_file(const char *path, struct diagnostics *diagnostics, struct arena *arena,
                             struct span *text)
{
    struct span name = span_of_string(path);
    if (span_ends_with(name, SPAN(".json")) || span_ends_with(name, SPAN(".toml"))) {
        return refuse_file(diagnostics, path, "JSON and TOML are not in this build; write KDL");
    }
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0) {
        return refuse_file(diagnostics, path, strerror(errno));
    }
    enum status status = read_descriptor(descriptor, path, diagnostics, arena, text);
    (void)close(descriptor);
    return status;
}

enum status compile_file(const char *path, const struct environment *environment,
                         struct diagnostics *diagnostics, struct arena *arena, struct span *block)
{
    struct span text = SPAN_EMPTY;
    struct span value = SPAN_EMPTY;
    struct compilation compilation = {
        .validator = {environment, diagnostics, arena},
    };
    for (size_t i = 0; i < sizeof(own_variables) / sizeof(own_variables[0]); i++) {
        if (environment_find(environment, span_of_string(own_variables[i]), &value)) {
            diagnostics_add(diagnostics, SEVERITY_WARNING, nowhere,
                            "it counts only where there is no configuration file",
                            "the environment variable %s is ignored", own_variables[i]);
        }
    }
    if (read_file(path, diagnostics, arena, &text) != OK) {
        return ERROR;
    }
    struct compile_input input = {
        .name = span_of_string(path),
        .text = text,
        .environment = environment,
    };
    return compile_input(&compilation, &input, block);
}
