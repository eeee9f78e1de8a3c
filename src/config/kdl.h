/*
 * The KDL parser: one text in, one document out. It speaks KDL 2 and KDL 1 in full, and two
 * extensions that strict mode turns off:
 *
 *   - a decimal number may carry a unit, letters directly behind it: 30s, 250ms, 10MB, 8KiB;
 *   - bare true, false and null are values in KDL 2 too.
 *
 * A text may name its version in its first line, `/- kdl-version 1` or 2. Without that KDL 2 is
 * tried, then KDL 1; where neither fits, the error of KDL 2 is the one shown. The two never read
 * one text differently, so this order decides nothing but which texts are accepted.
 *
 * In both versions the text must be UTF-8 without the code points that KDL 2 disallows (controls,
 * direction marks, a byte order mark other than at the start): they let a text look different from
 * what it says. For the same reason lines count as editors count them, by LF, CRLF or CR, although
 * KDL ends a node at other newlines as well.
 *
 * Runs in the compiler process and in `sentinel check`. Time is linear in the text's size.
 */
#ifndef SENTINEL_CONFIG_KDL_H
#define SENTINEL_CONFIG_KDL_H

#include "base/arena.h"
#include "base/status.h"
#include "config/diagnostics.h"
#include "config/document.h"

enum {
    KDL_TEXT_MAX = 4 * 1024 * 1024, /* bytes; a configuration of this size is a mistake */
    KDL_DEPTH_MAX = 64,             /* nested blocks; bounds the recursion of all readers */
    KDL_PROPERTIES_MAX = 256,       /* different names in one node; found by linear search */
};

struct kdl_options {
    unsigned version; /* 1, 2, or 0: as the text says, else 2 and then 1 */
    bool strict;      /* no extensions */
};

/*
 * Parses the source. OK fills *document, whose texts live in the source and in the arena: both must
 * outlive it. ERROR adds exactly one error to diagnostics (the first of the text) and leaves
 * *document and what the arena held untouched. Nodes and arguments are bounded by the arena's size.
 */
NODISCARD enum status kdl_parse(const struct source *source, struct kdl_options options,
                                struct arena *arena, struct diagnostics *diagnostics,
                                struct document *document);

/* True when the text can stand as a string without quotes in that version (1 or 2). */
bool kdl_is_identifier(struct span text, unsigned version);

#endif
