/*
 * A configuration's text made into a generation by the real compiler, as a scenario needs it.
 */
#ifndef SENTINEL_TESTS_SIM_COMPILED_H
#define SENTINEL_TESTS_SIM_COMPILED_H

#include "config/generation.h"

/*
 * Fills in the generation; returns the memory that it lies in, for free(). A text that does not
 * compile ends the run.
 */
NODISCARD void *compiled_open(struct generation *generation, struct span text);

#endif
