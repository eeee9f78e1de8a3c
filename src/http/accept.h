/*
 * What a client would rather have: the Accept field (RFC 9110, 12.5.1) against the few media types
 * in which something can be had. Pure functions; each byte of the field is looked at once, and
 * nothing is kept of it.
 */
#ifndef SENTINEL_HTTP_ACCEPT_H
#define SENTINEL_HTTP_ACCEPT_H

#include "http/message.h"

enum { ACCEPT_OFFERS_MAX = 8 };

/* Type and subtype, our own: {"text", "html"}. */
struct media_type {
    const char *type;
    const char *subtype;
};

/*
 * The index of the offer (1 to ACCEPT_OFFERS_MAX of them) that the client likes best, by all Accept
 * lines of its head together:
 *
 *   1. the highest quality, which for an offer is that of the closest range that covers it: its own
 *      name, before its type with any subtype, before anything at all. No offer has a range's
 *      parameters (other than charset=utf-8, which all have), so a range with some speaks only
 *      where nothing else covers the offer;
 *   2. covered by the closer range: who names HTML and then takes anything wants HTML;
 *   3. named first;
 *   4. the first offer.
 *
 * The first offer, too, where the field is absent, or nothing that can be had is acceptable: the
 * client gets something it may not like rather than nothing. A malformed element counts as absent.
 */
size_t accept_choose(const struct fields *fields, const struct media_type *offers, size_t count);

#endif
