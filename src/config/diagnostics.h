/*
 * A bounded list of what is wrong with a configuration: all of it in one run. Each entry is shown
 * as `file:line:col: error: message`, the source line, a caret below the column, and a `help:`
 * line. Lines end at LF, CRLF or CR.
 */
#ifndef SENTINEL_CONFIG_DIAGNOSTICS_H
#define SENTINEL_CONFIG_DIAGNOSTICS_H

#include <stdio.h>

#include "config/document.h"

enum severity { SEVERITY_WARNING, SEVERITY_ERROR };

enum { DIAGNOSTICS_MAX = 100 }; /* beyond it entries are only counted */

struct diagnostic {
    enum severity severity;
    struct position position; /* line 0: no place, such as an environment variable */
    struct span message;
    struct span help; /* empty: no help line */
};

struct diagnostics {
    struct arena *arena; /* borrowed; holds the texts */
    size_t count;        /* entries kept, in order of arrival */
    size_t errors;       /* all errors, kept or not */
    size_t warnings;
    struct diagnostic entries[DIAGNOSTICS_MAX];
};

void diagnostics_init(struct diagnostics *diagnostics, struct arena *arena);

/* Adds an entry; message is formatted. help may be NULL. */
void diagnostics_add(struct diagnostics *diagnostics, enum severity severity,
                     struct position position, const char *help, const char *format, ...)
    PRINTF_LIKE(5, 6);

/* Writes all entries, ordered by source and position, and a closing count. */
void diagnostics_print(const struct diagnostics *diagnostics, FILE *stream);

#endif
