/*
 * The parts of the compiler (config/compile.h): each takes a kind of block from the settings tree,
 * reports what makes no sense, and writes records into the generation. They go on after an error,
 * so that one run reports everything; what they wrote then is thrown away.
 */
#ifndef SENTINEL_CONFIG_COMPILE_PARTS_H
#define SENTINEL_CONFIG_COMPILE_PARTS_H

#include "config/compile_build.h"
#include "config/validate.h"

struct compilation {
    struct validator validator;
    struct section *top;   /* server, observability, waf */
    struct section *parts; /* listeners, upstreams and routes: top, or the built-in ones */
    struct builder builder;
    struct generation_header header;
    bool is_builtin; /* parts are the built-in ones: places name no file */
    bool merge_slashes;
    struct compile_tls *tls; /* NULL: nothing of TLS has been met yet */
    bool no_room;            /* the arena or the block was full */
};

/* Each returns false only when memory ran out; no_room is set then. */
NODISCARD bool compile_server(struct compilation *compilation);
/* Fills in whom the processes become, and whose the control socket is; reports what cannot be. */
void compile_account(struct compilation *compilation, const struct section *section);
void compile_control_group(struct compilation *compilation, const struct section *section);

NODISCARD bool compile_listeners(struct compilation *compilation);
NODISCARD bool compile_upstreams(struct compilation *compilation);
/* The value of Strict-Transport-Security that a `hsts` block means; empty where it is NULL. */
struct hsts_keys {
    enum schema_key_id max_age;
    enum schema_key_id include_subdomains;
    enum schema_key_id preload;
};
struct ref compile_hsts(struct compilation *compilation, const struct section *section,
                        const struct hsts_keys *keys);

/*
 * TLS. The index of the listener's TLS server, or GENERATION_NONE; what the upstream's TLS is; and
 * last, the certificates that both have come to name.
 */
uint32_t compile_tls_listener(struct compilation *compilation, const struct section *listener);
void compile_tls_upstream(struct compilation *compilation, const struct section *section,
                          struct generation_upstream *upstream);
NODISCARD bool compile_tls_finish(struct compilation *compilation);

NODISCARD bool compile_routes(struct compilation *compilation); /* after upstreams and server */

/* Where the access log goes and what is in it; the section may be NULL. Part of compile_server. */
void compile_access_log(struct compilation *compilation, const struct section *section);

/* The rules of all routes; reports those that can never match. After a run without errors only. */
NODISCARD bool compile_rules(struct compilation *compilation);

/*
 * Holds what was compiled against memory-budget and the hard limit of descriptors: lowers defaults,
 * or reports what does not fit.
 * After a run without errors only; the block is finished anew afterwards.
 */
void compile_budget(struct compilation *compilation);

/* ---- What the parts share ---- */

/* Zeroed scratch for count objects; NULL, with no_room set, when it does not fit. */
NODISCARD void *compile_scratch(struct compilation *compilation, size_t count, size_t size);

/* Adds an error or warning at a position. help may be NULL. */
#define COMPILE_ERROR(compilation, position, help, ...)                                            \
    diagnostics_add((compilation)->validator.diagnostics, SEVERITY_ERROR, position, help,          \
                    __VA_ARGS__)
#define COMPILE_WARNING(compilation, position, help, ...)                                          \
    diagnostics_add((compilation)->validator.diagnostics, SEVERITY_WARNING, position, help,        \
                    __VA_ARGS__)

enum { COMPILE_HELP_MAX = 256, COMPILE_ENDPOINTS_MAX = 4096 };

/* The address of a key: as set, else its default, which must exist. */
struct address compile_address(const struct section *section, enum schema_key_id key);

/* A place in the listeners, upstreams and routes; those that are built in have no file. */
struct generation_place compile_place(struct compilation *compilation, struct position position);

/* A place in what only a file can say, even where listeners and routes are built in. */
struct generation_place compile_file_place(struct compilation *compilation,
                                           struct position position);

/* The texts of a list key as an array of texts; empty where unset. */
struct ref compile_texts(struct compilation *compilation, const struct section *section,
                         enum schema_key_id key);

/* Reports sections of the block in compilation->parts whose names were used before. */
void compile_check_names(struct compilation *compilation, enum schema_block_id block);

/* Reports a setting that stands where it has no effect. Does nothing where it is unset. */
void compile_refuse_setting(struct compilation *compilation, const struct section *section,
                            enum schema_key_id key, const char *why);

#endif
