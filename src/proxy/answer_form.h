/*
 * The three forms in which an error can be told: JSON for programs, plain text for terminals, HTML
 * for browsers. Pure functions of a row of error.def, its status and the request's id; nothing else
 * goes into a body, so nothing of the configuration, of addresses or of what a client sent can come
 * out with it. The large part of the HTML is the same for all and is lent, not copied.
 */
#ifndef SENTINEL_PROXY_ANSWER_FORM_H
#define SENTINEL_PROXY_ANSWER_FORM_H

#include "base/output.h"
#include "base/reason.h"
#include "http/message.h"

enum answer_form { ANSWER_JSON, ANSWER_TEXT, ANSWER_HTML, ANSWER_FORM_COUNT };

enum { ANSWER_FORM_MAX = 2048 }; /* bytes that answer_form_write needs at most */

/* The form that a client's Accept asks for; of equals, and where nothing fits, the first. */
enum answer_form answer_form_choose(const struct fields *fields);

/* Content-Type; and Content-Security-Policy where the form is one that browsers run, else empty. */
struct span answer_form_type(enum answer_form form);
struct span answer_form_policy(enum answer_form form);

/* What stands before the part that answer_form_write makes. Static, often empty. */
struct span answer_form_front(enum answer_form form);

/*
 * Appends the rest of the body. The id is what request_id_is_acceptable lets through; everything is
 * escaped all the same.
 */
void answer_form_write(enum answer_form form, const struct reason_info *info,
                       struct span request_id, struct output *output);

#endif
