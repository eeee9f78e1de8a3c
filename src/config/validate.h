/*
 * From a document to settings: every node, argument and property is held against the option table,
 * `${NAME}` is expanded, values are read as their types. What comes out is a tree that mirrors the
 * table's blocks, in the order of the text. Everything that is wrong is reported; the tree is still
 * made, so that the checks of meaning (compile_*.c) can report what they find in the same run.
 * Compiler process; all memory is the arena's.
 */
#ifndef SENTINEL_CONFIG_VALIDATE_H
#define SENTINEL_CONFIG_VALIDATE_H

#include "base/address.h"
#include "config/diagnostics.h"
#include "config/document.h"
#include "config/environment.h"
#include "config/schema.h"

/* One value of a setting. Which members count depends on the key's type. */
struct setting_value {
    struct position position;
    bool bad;               /* was reported: no further check should look at it */
    struct span text;       /* texts: expanded, hosts in lower case, paths canonical but for `//` */
    int64_t number;         /* numbers, booleans, choices */
    struct address address; /* addresses; ADDRESS_NONE for "off" and for names */
    struct address_block network;
    struct setting_value *next;
};

/* One occurrence of a key. */
struct setting {
    const struct schema_key *key;
    struct position position;     /* of the key, for an argument of the value */
    struct setting_value *values; /* at least one */
    size_t count;
    struct setting *next; /* of the section, in the order of the text */
};

/* One occurrence of a block. */
struct section {
    const struct schema_block *schema;
    struct position position;
    struct setting *settings;
    struct setting *last_setting;
    struct section *children;
    struct section *last_child;
    struct section *next;           /* of the parent */
    uint32_t counts[SCHEMA_BLOCKS]; /* children of each block, refused ones included */
};

struct validator {
    const struct environment *environment;
    struct diagnostics *diagnostics;
    struct arena *arena;
};

/* The top section, or NULL when the arena is full (the only case not reported). */
NODISCARD struct section *validate_document(struct validator *validator,
                                            const struct document *document);

/* Reading a tree. A NULL section stands for a block that is absent: all its keys are unset. */

/* The first occurrence of a key, or NULL. */
const struct setting *section_setting(const struct section *section, enum schema_key_id key);

/* The first value of a key, or NULL where it is unset or bad. */
const struct setting_value *section_value(const struct section *section, enum schema_key_id key);

/* The number, choice or boolean of a key, or its default, which must exist. */
int64_t section_integer(const struct section *section, enum schema_key_id key);

/* As section_integer, for keys that cannot be negative. */
uint64_t section_number(const struct section *section, enum schema_key_id key);
uint32_t section_number32(const struct section *section, enum schema_key_id key);

/* The text of a key, or its default as the table has it, or the empty span. */
struct span section_text(const struct section *section, enum schema_key_id key);

/* The first child of that block, or NULL; then the next sibling of the same block. */
const struct section *section_child(const struct section *section, enum schema_block_id block);
const struct section *section_next(const struct section *section);

/* How many children of that block there are. */
uint32_t section_count(const struct section *section, enum schema_block_id block);

/* How a section is called in messages: `route "api"`, or just `server`; cut when very long. */
enum { SECTION_TITLE_MAX = 96 };
void section_title(const struct section *section, char title[SECTION_TITLE_MAX]);

#endif
