/*
 * JSON text (RFC 8259) into a bounded output, for records and small bodies whose structure the
 * caller writes literally. The result is always valid UTF-8: control bytes and what is not valid
 * UTF-8 are escaped as \u00XX byte by byte, so no input can break a line or a string.
 */
#ifndef SENTINEL_OBSERVE_JSON_WRITE_H
#define SENTINEL_OBSERVE_JSON_WRITE_H

#include "base/output.h"
#include "base/status.h"

/* Stands at the end of a text that was cut, so that nobody takes it for the whole. */
#define JSON_CUT_MARK "...[cut]"

/*
 * Escapes the text, without quotes, into at most max bytes, JSON_CUT_MARK included where there was
 * more; no character is torn. max is at least the mark's size. Characters that steer terminals (C0,
 * DEL, C1) are escaped, too.
 */
void json_escape(struct output *output, struct span text, size_t max);

/*
 * Appends the text as it is if every byte of it is printable ASCII other than the quote and the
 * backslash, as nearly all are; else false, with nothing appended. For any format in which the rest
 * needs escapes.
 */
NODISCARD bool json_plain(struct output *output, struct span text);

/* json_escape between quotes; max does not count the quotes. */
void json_string(struct output *output, struct span text, size_t max);

/* true or false. */
void json_boolean(struct output *output, bool value);

#endif
