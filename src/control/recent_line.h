/*
 * Reading the lines of control/recent.h: flat JSON objects of strings, numbers, booleans and null.
 * For the command line, which trusts the instance no further than that it bounds what it says.
 */
#ifndef SENTINEL_CONTROL_RECENT_LINE_H
#define SENTINEL_CONTROL_RECENT_LINE_H

#include "base/span.h"
#include "base/status.h"

/* Whether the line is such an object, and nothing else. */
bool recent_line_is_sound(struct span line);

/*
 * The value of a member as text, unescaped, printable and NUL-terminated, cut to the size (at least
 * 1). False, with an empty text, when there is none or it is null.
 */
bool recent_line_get(struct span line, const char *key, char *text, size_t size);

/* Whether the member is there and equals the text. */
bool recent_line_is(struct span line, const char *key, const char *text);

/* A member that is a number, without its fraction; 0 when there is none. */
uint64_t recent_line_number(struct span line, const char *key);

#endif
