/*
 * JSON text (RFC 8259) into a bounded output, for records and small bodies whose structure the
 * caller writes literally. The result is always valid UTF-8: control bytes and what is not valid
 * UTF-8 are escaped as \u00XX byte by byte, so no input can break a line or a string.
 */
#ifndef SENTINEL_OBSERVE_JSON_WRITE_H
#define SENTINEL_OBSERVE_JSON_WRITE_H

#include "base/output.h"

/* Closes a string that was cut: an ellipsis and a word, so that nobody takes it for the whole. */
#define JSON_CUT_MARK "...[cut]"

/* Quotes and escapes all of the text. */
void json_string(struct output *output, struct span text);

/*
 * As json_string with at most max escaped bytes between the quotes, JSON_CUT_MARK included where
 * the text is longer; no character is torn. max is at least sizeof(JSON_CUT_MARK).
 */
void json_string_cut(struct output *output, struct span text, size_t max);

/* true or false. */
void json_boolean(struct output *output, bool value);

#endif
