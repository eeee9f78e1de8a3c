/*
 * Reads one value as the type that the option table asks for. Part of the validator
 * (config/validate.h).
 */
#ifndef SENTINEL_CONFIG_VALIDATE_VALUE_H
#define SENTINEL_CONFIG_VALIDATE_VALUE_H

#include "config/validate.h"

/*
 * Reads the value number `index` of a setting of this key. Where the value is not one, the mistake
 * is reported and out->bad is set. False only when the arena is full.
 */
NODISCARD bool validate_value(struct validator *validator, const struct schema_key *key,
                              size_t index, const struct value *value, struct setting_value *out);

#endif
