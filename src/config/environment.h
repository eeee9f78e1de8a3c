/*
 * What the compiler may know of the world besides its input text: variables, the number of cores,
 * who it runs as, and ways to resolve names of hosts and accounts. It is a value that the caller
 * fills, so that tests and the simulator give a world of their own and the compiler itself never
 * asks the system. Compiler process only.
 */
#ifndef SENTINEL_CONFIG_ENVIRONMENT_H
#define SENTINEL_CONFIG_ENVIRONMENT_H

#include "base/address.h"
#include "base/arena.h"
#include "base/span.h"
#include "base/status.h"
#include "config/generation.h"
#include "config/schema.h"
#include "config/secrets.h"

enum {
    ENVIRONMENT_ADDRESSES_MAX = 64, /* addresses taken from one name */
    FIGURE_ITEMS_MAX = 48,
};

#define ACCOUNT_NO_GROUP UINT32_MAX

struct account {
    uint32_t user;
    uint32_t group; /* the user's own; ACCOUNT_NO_GROUP: not known */
};

/*
 * Resolves a host name to at most ENVIRONMENT_ADDRESSES_MAX addresses with that port and returns
 * their count; 0 when the name has none. The name has no NUL inside.
 */
typedef size_t environment_resolve(struct span host, uint16_t port,
                                   struct address addresses[ENVIRONMENT_ADDRESSES_MAX]);

/*
 * Finds an account, or a group, by its name; what is all digits and nobody's name is the number
 * itself. False when there is none. Never a number that stands for none (UINT32_MAX).
 */
typedef bool environment_find_user(struct span name, struct account *account);
typedef bool environment_find_group(struct span name, uint32_t *group);

/* What was read of a file. */
struct file_content {
    size_t size;
    uint32_t mode; /* permissions, as of stat(2) */
};

/*
 * Reads a regular file as a whole. The path ends with NUL. 0, or an errno: EFBIG where it has more
 * than `size` bytes, EINVAL where it is no regular file.
 */
typedef int environment_read_file(const char *path, uint8_t *memory, size_t size,
                                  struct file_content *content);

/* What of a compiled configuration takes how much, in the worst case. */
struct figure_item {
    const char *name;       /* static, for people */
    enum schema_key_id key; /* that sizes it; SCHEMA_KEYS: none does alone */
    uint64_t bytes;
};

struct figure {
    uint64_t memory;            /* bytes, all processes together */
    uint64_t descriptors;       /* of the process that needs most */
    uint64_t other_descriptors; /* of the one that needs most and is no worker */
    uint32_t count;
    struct figure_item items[FIGURE_ITEMS_MAX];
};

/* Weighs a generation. Those who will allocate know; they are above the compiler. */
typedef void environment_measure(const struct generation *generation, struct figure *figure);

struct environment {
    const char *const *variables; /* NAME=VALUE, closed by NULL, borrowed; NULL: none are set */
    uint32_t cores;               /* what `workers 0` means; at least 1 */
    uint64_t descriptors;         /* that one process may have; 0: no bound */
    environment_resolve *resolve; /* NULL: no name resolves */
    bool switches_user;           /* started as root: children become somebody else */
    uint32_t user;                /* who started us, otherwise */
    uint32_t group;
    environment_find_user *find_user;   /* NULL: there is none */
    environment_find_group *find_group; /* NULL: there is none */
    environment_read_file *read_file;   /* NULL: what files would say is left out (TLS is) */
    struct secrets_builder *secrets;    /* where private keys go; as read_file */
    uint64_t now;                       /* seconds since 1970 */
    bool refuses_expired;               /* a certificate that has expired is an error */
    environment_measure *measure;       /* NULL: nothing is held against what there is */
};

/*
 * The process's own world: its variables (pass environ; borrowed), the cores it may run on, its
 * hard limit of descriptors, its user and group, and the system's accounts and resolver, which may
 * block for as long as the system lets them.
 */
struct environment environment_of_system(char **variables);

/* The value of a variable, borrowed; false when it is not set. */
NODISCARD bool environment_find(const struct environment *environment, struct span name,
                                struct span *value);

/* How an expansion ended. */
enum expansion {
    EXPANSION_DONE,
    EXPANSION_UNSET,     /* `wrong` names a variable that is not set and has no default */
    EXPANSION_MALFORMED, /* `wrong` is a `${` without its end or without a proper name */
    EXPANSION_NO_ROOM,   /* the arena is full */
};

/*
 * Replaces `${NAME}` and `${NAME:-default}` (used when NAME is unset or empty); `$${` stands for a
 * literal `${`. Values are not expanded again. *expanded is the text itself where nothing had to be
 * replaced, otherwise it lies in the arena.
 */
NODISCARD enum expansion environment_expand(const struct environment *environment,
                                            struct arena *arena, struct span text,
                                            struct span *expanded, struct span *wrong);

#endif
