/*
 * What a worker gives up when a bound is near, so that an attack on the bound, or a flood, costs
 * those who cause it before it costs others. This is the one place that says what goes first:
 *
 *   max-connections
 *      90% to  80%   answers close their connections; connections that have been idle for 5 s are
 *                    closed, those idle longest first
 *      95% to  90%   those that linger after our close for 250 ms, those idle for 1 s, then heads
 *                    that began 1 s ago and are not complete (503 connections_full), oldest first,
 *                    as many as are too many beside those that linger
 *     100%           one that lingers, or has been idle longest, if for 250 ms: the new one takes
 *                    its place; else the new one (503 connections_full)
 *   the place for connections, which is larger, for answers that refuse
 *     100%           one that lingers, the oldest: the new one takes its place; else the new one
 *                    (reset)
 *   max-requests
 *      90% to  80%   answers close their connections
 *      95% to  90%   exchanges whose client has neither sent nor taken 16 KiB for 1 s: request
 *                    bodies (408 shed_slow_body), then responses (cut off, shed_slow_reader),
 *                    those that stand longest first
 *     100%           new requests (503 requests_full)
 *   max-handshakes
 *     100%, and      TLS handshakes that have stood for 250 ms, oldest first (closed,
 *     some wait      tls_handshakes_full)
 *   the heap for TLS, which `sentinel check` plans
 *      90%           heads that began 1 s ago and are not complete (503 connections_full)
 *      95%           new handshakes (closed, tls_memory)
 *   http2-pool, of which the last quarter is for the streams of those that are connected
 *      70% to  60%   connections of HTTP/2 that have been idle for 5 s, those idle longest first;
 *                    then responses of HTTP/2 upstreams whose client has not taken 16 KiB for 1 s
 *                    (cut off, shed_slow_reader), those that stand longest first
 *      75%           those idle for 1 s; for a new one, the one that has been idle longest, if for
 *                    250 ms; else the new one (ENHANCE_YOUR_CALM, http2_memory); requests over
 *                    HTTP/2 whose upstream has not taken 16 KiB for 1 s (503 buffers_full), those
 *                    that stand longest first
 *   max-upstream-connections
 *     in use, and    of those that hold one the same exchanges, in the same order; and of those
 *     some wait      that hold memory of hold-pool while another response cannot give its
 *                    connection back for want of it
 *   hold-pool
 *     empty          nothing: bodies stream, as on routes that do not buffer
 *   buffer-pool
 *     empty, and     responses whose client has not taken 16 KiB for 1 s (cut off,
 *     some wait      shed_slow_reader), then requests whose upstream has not (503 buffers_full),
 *                    those that stand longest first
 *
 * A tunnel through which nothing goes is not shed, and max-tunnels keeps them from filling the
 * place for requests; one with bytes that its peer does not take is as any other exchange.
 *
 * The second figure ends what the first began, so that nothing flutters. max-connections and
 * max-requests are held against the sum over all workers, each of which sheds its own part; a
 * worker whose own place for requests runs out sheds, too. Everything shed is counted by kind
 * (sentinel_shed_total); what was a request has its record with the reason as well.
 *
 * Owned by the worker. Bounds: SHED_TURN_MAX things shed in one turn, nothing allocated; while no
 * bound is near a turn costs a few comparisons, a request two list operations.
 */
#ifndef SENTINEL_PROXY_SHEDDING_H
#define SENTINEL_PROXY_SHEDDING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum {
    SHED_STALL_BYTES = 16 * 1024, /* one buffer: less than so much is no progress */
    SHED_TURN_MAX = 64,
};

struct connection;
struct exchange;
struct lane;
struct proxy;

/* A bound with two thresholds, each with its hysteresis. */
struct shed_level {
    bool high;
    bool full;
};

struct shedding {
    struct list lingers;    /* connections that we have closed, by the time of that */
    struct list idle;       /* connections between requests, by the time that they have been so */
    struct list idle_http2; /* the same of HTTP/2, which may have to go for its memory alone */
    struct list handshakes; /* connections whose TLS handshake is under way, by its begin */
    struct list heads;      /* connections with a part of a head, by the time that it began */
    struct list senders; /* exchanges that wait for their client's body, by their last progress */
    struct list readers; /* those that wait for their client to take bytes, or open a window */
    struct list uploads; /* those that wait for their upstream to do so */
    struct shed_level connections;
    struct shed_level requests;
    struct shed_level http2;
    uint64_t leaving; /* connections that count for max-connections, and linger */
    uint64_t looked;  /* when the other workers' counts were read last */
    uint64_t again;   /* when there may be something to shed; UINT64_MAX: never */
    uint64_t requests_elsewhere;
};

/* How an exchange's lane stands still. All zero but for the link: it does not. */
struct stall {
    struct list link;
    struct list *in;   /* which list that is */
    uint64_t since;    /* the last progress worth the name */
    uint64_t progress; /* bytes moved until then */
};

void shedding_init(struct shedding *shedding);

/* Ends one connection that lingers, so that there is memory for a new one. */
bool shedding_make_place(struct proxy *proxy);

/* Closes a connection that lingers, or has been idle for long enough, so that a new one fits. */
bool shedding_make_room(struct proxy *proxy);

/* Lets go idle connections of HTTP/2, a few at most, until there is memory for a new one. */
void shedding_make_http2_room(struct proxy *proxy);

/* A client's session has run: the connection stands in the list where it belongs. */
void shedding_note_connection(struct proxy *proxy, struct connection *connection);

/* The connection is closed, and in no list any more. */
void shedding_forget_connection(struct proxy *proxy, struct connection *connection);

/* A lane of the exchange has run: the request's or the response's. */
void shedding_note_lane(struct exchange *exchange, const struct lane *lane);

/* Whether one more request fits the bound over all workers; the caller counts it then. */
bool shedding_admits_request(struct proxy *proxy);

/* Looks at the bounds, once in a turn, and sheds what is due. */
void shedding_turn(struct proxy *proxy);

#endif
