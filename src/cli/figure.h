/*
 * The memory and descriptor figure as a person reads it. `sentinel check` only.
 */
#ifndef SENTINEL_CLI_FIGURE_H
#define SENTINEL_CLI_FIGURE_H

#include <stdio.h>

#include "config/generation.h"

/* Prints the worst case of memory and descriptors as tables; limit 0: there is none. */
void figure_print(FILE *stream, const struct generation *generation, uint64_t descriptor_limit);

/*
 * The same as one JSON object, a line of it, and the certificates; figures in bytes, times in
 * seconds since 1970. A byte of a text outside ASCII shows as the character of its number.
 */
void figure_print_json(FILE *stream, const struct generation *generation,
                       uint64_t descriptor_limit);

#endif
