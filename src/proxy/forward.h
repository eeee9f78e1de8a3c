/*
 * What goes on to the other side: the fields of the forwarded request and of the relayed response,
 * made anew from the parsed ones. Hop-by-hop fields and those a peer nominated end here (RFC 9110,
 * 7.6 and 7.6.1); what tells where a request came from is made in proxy/origin.h, the trace goes on
 * (W3C Trace Context).
 */
#ifndef SENTINEL_PROXY_FORWARD_H
#define SENTINEL_PROXY_FORWARD_H

#include "proxy/exchange.h"

enum {
    FORWARD_FIELDS_ADDED = 48, /* most fields that we add to a message of either direction */
    /* Draft bytes of the names that Connection nominates. */
    FORWARD_NOMINATIONS_SIZE = HTTP1_CONNECTION_OPTIONS_MAX * (int)sizeof(struct span),
};

/* Finds out who the client is (proxy/origin.h) and gives the request its id. Needs the parsed one.
 */
void forward_identify(struct exchange *exchange);

/*
 * The request as it goes to the upstream. What is made for it lives in the worker's draft, until
 * the next message is forwarded.
 */
NODISCARD bool forward_request(struct exchange *exchange, struct request_message *message);

/* The fields of the upstream's response as they go to the client; in the draft, too. */
NODISCARD bool forward_response(struct exchange *exchange, struct fields *fields);

/* Leaves out of a trailer section (NULL: none) what may not be passed on. */
const struct fields *forward_trailers(const struct exchange *exchange, struct fields *trailers);

/* Adds the security fields of the route (or the defaults), for answers of our own. */
NODISCARD bool forward_add_security(const struct exchange *exchange, struct fields *fields);

#endif
