/*
 * Finds the rule, and with it the route, that a request belongs to. Runs in the workers, over the
 * mapped generation, without state and without allocation. The rules stand in one total order
 * (src/config/rules.h); the answer is always the first one in that order that matches, as if all of
 * them were tried in turn.
 *
 * It is found faster than that: the rules are filed by path in a hash table, each file in order.
 * Only the request's own path (exact), its prefixes that end at a segment boundary, and the rules
 * without a path can match; of each file only rules better than the best so far are tried. One pass
 * over the path hashes all its prefixes, so the cost is linear in the path, whatever its shape,
 * plus the files that the configuration itself put on that path.
 *
 * What matches:
 *   path    the canonical path, bytes compared as they are; prefixes at segment boundaries only
 *   host    request_head.host, one trailing dot ignored; `*.x` takes any.thing.x but not x itself
 *   method  case-sensitive; GET does not include HEAD
 *   header  one field line with the name (any case) has exactly this value, or is just present
 *   client  the certificate that the client has shown, which holds: there at all or not, or its
 * whole subject, one of its names (case counts but for DNS), its fingerprint query   one
 * `key=value` pair between `&`, both percent-decoded (a `+` is a plus, a `%` without two
 * hexadecimal digits is itself, a key without `=` has the empty value), compared exactly Several
 * values of one kind (of header and query: of one name) are alternatives; all kinds must hold.
 */
#ifndef SENTINEL_ROUTE_ROUTER_H
#define SENTINEL_ROUTE_ROUTER_H

#include "config/generation.h"
#include "http/message.h"
#include "net/tls.h"

/* What is searched for. Borrowed for the call. */
struct router_request {
    const struct request_head *head;
    const struct tls_certificate *client; /* NULL: it has shown none */
};

/* How much work a search was; tests hold it to its bounds. */
struct router_effort {
    uint32_t lookups; /* prefixes and paths looked up */
    uint32_t probes;  /* buckets looked at */
    uint32_t rules;   /* rules tried */
};

/*
 * The index of the rule that the request belongs to; its `route` is the route. False, with
 * *rule_index untouched, when no rule matches. The generation must have passed generation_open.
 */
bool router_match(const struct generation *generation, const struct router_request *request,
                  uint32_t *rule_index);

/* As router_match, and counts into *effort, which it sets to zero first. */
bool router_match_measured(const struct generation *generation,
                           const struct router_request *request, uint32_t *rule_index,
                           struct router_effort *effort);

/* Whether this one rule matches, tried alone: what the search is an index for. */
bool router_rule_matches(const struct generation *generation, uint32_t rule_index,
                         const struct router_request *request);

#endif
