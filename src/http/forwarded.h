/*
 * The Forwarded field (RFC 7239): the way of a request through proxies, an element for each, the
 * client's first. Pure functions; each byte is looked at once, nothing is kept.
 */
#ifndef SENTINEL_HTTP_FORWARDED_H
#define SENTINEL_HTTP_FORWARDED_H

#include "base/address.h"
#include "base/output.h"
#include "base/status.h"

/* One element that was read; spans into the field's value. */
struct forwarded_element {
    /*
     * Who came to that proxy (for=), with port 0 where none is told. ADDRESS_NONE: it is absent,
     * unknown, obfuscated or no node at all.
     */
    struct address node;
    struct span proto; /* empty: absent, like host; or written with escapes, which no value needs */
    struct span host;
};

/*
 * Takes the next element off a field line. END: none is left. ERROR: the line is malformed, or
 * names a parameter twice in one element; nothing can be said of the rest. Blanks around `;` are
 * borne.
 */
NODISCARD enum status forwarded_next(struct span *rest, struct forwarded_element *element);

/* What a proxy says of a request that came to it. */
struct forwarded_hop {
    struct address node; /* its peer; any but internet addresses: unknown */
    struct span host;    /* empty: not told, like proto and by */
    struct span proto;
    struct span by; /* the proxy itself, without the `_` in front that makes it a name of our own */
};

/*
 * Appends the hop as an element, with quotes where they are needed. A host or proto that would need
 * escapes, as none in the world does, is left out: so no value takes more than two bytes more.
 */
void forwarded_write(struct output *output, const struct forwarded_hop *hop);

#endif
