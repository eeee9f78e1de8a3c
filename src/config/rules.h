/*
 * From the `match` nodes of the routes to the router's tables: sorts the rules, builds the path
 * index and finds rules that can never match. Runs in the compiler process only; everything lives
 * in the caller's arena. src/route/router.h searches what is written here.
 *
 * How the compiler uses it:
 *   1. One rule_draft for each path value x host value of each `match` of each route, in
 *      configuration order (a `match` without a path or host gives one draft of that kind ANY; a
 * route without `match` gives one draft of all ANY). At most RULES_MAX drafts in all.
 *   2. rules_build(&rules, drafts, count, arena).
 *   3. A warning for each of rules.shadows.
 *   4. rules_write(&rules, &writer, arena, &tables), and tables.rules, .buckets and .any_rules go
 * into the generation's header as they are.
 *
 * The order of all rules is total, best first: higher priority; exact path, then longer prefix,
 * then no path; exact host, then longer suffix, then no host; more conditions (the methods count as
 * one, each group of alternatives as one); earlier in the configuration. A request
 * belongs to the first rule in this order that matches it.
 */
#ifndef SENTINEL_CONFIG_RULES_H
#define SENTINEL_CONFIG_RULES_H

#include "base/arena.h"
#include "config/document.h"
#include "config/generation.h"

enum {
    RULES_MAX = 16384,       /* keeps the search for unreachable rules (quadratic) below a second */
    RULE_CONDITIONS_MAX = 64 /* in one rule */
};

/*
 * One value of a `header`, a `query` or a `client-...`. Alternatives (several values of one kind
 * and name) share a group.
 */
struct rule_condition {
    enum rule_condition_kind kind;
    struct span name;  /* header: lower case; query: the decoded key; otherwise empty */
    struct span value; /* as compared; ignored where present_only */
    bool present_only;
    uint32_t group; /* ascending within a rule: equal groups stand together */
};

/* One rule as the compiler reads it. All spans and arrays are borrowed until rules_write is done.
 */
struct rule_draft {
    uint32_t route;   /* index of the route */
    int32_t priority; /* of the route; higher wins */
    enum rule_path path_kind;
    enum rule_host host_kind;
    struct span path;     /* canonical; a prefix has no trailing slash but for "/" itself */
    struct span host;     /* lower case, no port, no trailing dot; a suffix starts with its dot */
    uint32_t method_mask; /* bit (1 << enum method); never METHOD_OTHER */
    const struct span *methods; /* the methods that are METHOD_OTHER, by name */
    size_t methods_count;       /* no mask and no names: any method */
    const struct rule_condition *conditions;
    size_t conditions_count;  /* at most RULE_CONDITIONS_MAX */
    struct position position; /* for logs and warnings; source NULL: built-in */
};

/*
 * Something that can never match, since another rule takes all its requests. Both are indexes of
 * drafts. Where whole_route is set, no rule of draft's route can match, and it has this one entry:
 *     route "b" can never match: route "a" (line N) takes all its requests
 * Otherwise one alternative of a route that is reachable by others is dead:
 *     this match of route "b" can never hold: route "a" (line N) takes all its requests
 */
struct rule_shadow {
    uint32_t draft;
    uint32_t by;
    bool whole_route;
};

/* A path of the index, with its rules: a run of `lists`. */
struct rule_bucket {
    uint32_t hash;
    enum rule_path path_kind; /* RULE_PATH_ANY: free */
    struct span path;
    uint32_t first; /* index into lists */
    uint32_t count;
};

/* What rules_build made. A rank is an index into the sorted rules. */
struct rules {
    const struct rule_draft *drafts;  /* borrowed, configuration order */
    const struct rule_draft **sorted; /* by rank, best first */
    size_t count;
    struct rule_bucket *buckets; /* linear probing; power of two, at most half full; or none */
    size_t buckets_count;
    uint32_t *lists;     /* ranks, ascending within a run */
    uint32_t *any_rules; /* ranks of the rules without a path, ascending */
    size_t any_count;
    struct rule_shadow *shadows; /* in configuration order */
    size_t shadows_count;
};

/*
 * Sorts, indexes and judges the drafts, which must be valid as stated above and at most RULES_MAX.
 * False, with *rules untouched, only when the arena is full.
 */
NODISCARD bool rules_build(struct rules *rules, const struct rule_draft *drafts, size_t count,
                           struct arena *arena);

/*
 * Where the tables go. Both append a copy to the block (an array aligned to 8 bytes; count elements
 * of size bytes) and say where it stands; an empty text or array gives the empty reference. False
 * when the block is full.
 */
struct rules_writer {
    void *context;
    bool (*text)(void *context, struct span text, struct ref *ref);
    bool (*array)(void *context, const void *elements, size_t size, size_t count, struct ref *ref);
};

/* References for the fields of the same names in struct generation_header. */
struct rules_tables {
    struct ref rules;
    struct ref buckets;
    struct ref any_rules;
};

/*
 * Writes the tables as the generation's records. The arena serves as scratch and is rewound. False,
 * with *tables untouched, when the arena or the block is full.
 */
NODISCARD bool rules_write(const struct rules *rules, const struct rules_writer *writer,
                           struct arena *arena, struct rules_tables *tables);

/*
 * Whether a prefix rule of this path takes the path: at segment boundaries only, so that "/a" takes
 * "/a", "/a/" and "/a/b" but not "/ab"; "/" takes every path that starts with a slash.
 */
bool rule_prefix_takes(struct span prefix, struct span path);

/* Whether such a condition holds only for a client that has shown a certificate. */
bool rule_needs_certificate(enum rule_condition_kind kind);

#endif
