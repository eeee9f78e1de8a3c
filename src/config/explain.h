/*
 * The option table (config/schema.def) in the forms that people and programs read. Each function
 * writes to the stream and leaves errors to ferror.
 */
#ifndef SENTINEL_CONFIG_EXPLAIN_H
#define SENTINEL_CONFIG_EXPLAIN_H

#include <stdio.h>

/* `sentinel config-example`: a commented file of every key, which itself loads. */
void explain_example(FILE *stream);

/* `sentinel config-schema`: the table as JSON. */
void explain_schema(FILE *stream);

/* `sentinel config-reference`: docs/configuration.md. */
void explain_reference(FILE *stream);

#endif
