/*
 * The document model: what a configuration text says before anyone asks whether it makes sense.
 * KDL maps onto it one to one; JSON and TOML map onto the same nodes. It lives in the compiler
 * process (and in `sentinel check`), in one arena that holds the texts as well.
 */
#ifndef SENTINEL_CONFIG_DOCUMENT_H
#define SENTINEL_CONFIG_DOCUMENT_H

#include "base/arena.h"
#include "base/span.h"
#include "base/status.h"

/* A place in a source. Lines and columns count from 1; columns count code points. line 0: none. */
struct position {
    const struct source *source;
    uint32_t line;
    uint32_t column;
};

/* One input text. Borrowed by everything that was parsed from it. */
struct source {
    struct span name; /* as shown in messages: the file's path */
    struct span text;
};

enum value_kind { VALUE_STRING, VALUE_NUMBER, VALUE_BOOLEAN, VALUE_NULL };

struct value {
    enum value_kind kind;
    bool boolean;
    struct span text; /* a string's contents; a number's digits as written (`0x1F`, `1_000`) */
    struct span unit; /* the unit behind a number, a part of no strict document; else empty */
    struct span type; /* type annotation; NULL data when there is none */
    struct position position;
};

struct property {
    struct span name;
    struct value value;
    struct position position; /* of the name */
    struct property *next;
};

struct argument {
    struct value value;
    struct argument *next;
};

struct node {
    struct span name;
    struct span type; /* type annotation; NULL data when there is none */
    struct argument *arguments;
    struct property *properties; /* one each name: the last wins (KDL) */
    struct node *children;       /* the first child */
    struct node *next;           /* the next sibling */
    struct position position;    /* of the name */
};

struct document {
    struct node *nodes; /* the first top-level node; NULL for an empty document */
};

#endif
