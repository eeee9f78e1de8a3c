/*
 * Requests that ask to switch protocols (Upgrade, RFC 9110, 7.8; extended CONNECT, RFC 8441) and
 * what becomes of them where their route lists the protocol and the upstream consents: a tunnel,
 * in which both lanes of the exchange carry bytes that nobody looks at. Nothing is switched before
 * the upstream's own 101, so that no request of HTTP can be smuggled behind one; what came early
 * follows it. Each direction ends for itself.
 *
 * Bounds: max-tunnels and tunnels-per-client, the worker's share of which counts from the request
 * on; timeouts tunnel-idle and tunnel-half-closed. A part of its exchange.
 */
#ifndef SENTINEL_PROXY_TUNNEL_H
#define SENTINEL_PROXY_TUNNEL_H

#include "base/list.h"
#include "http/stream.h"
#include "http/websocket.h"

struct exchange;

struct tunnel {
    struct list link;         /* among the worker's */
    uint64_t client;          /* client_tag of its address; 0: it has none */
    struct switching asked;   /* of the upstream */
    struct switching granted; /* what the client is told then */
    uint64_t opened;          /* when the client was told; 0: not yet */
    uint64_t moved;           /* bytes of both directions, and their departure, at the last look */
    bool is_websocket;
    bool half_closed;
    uint8_t key[WEBSOCKET_KEY_SIZE]; /* where the client, of HTTP/2, has none */
    uint8_t accept[WEBSOCKET_ACCEPT_SIZE];
};

/*
 * Decides whether an admitted request switches protocols (exchange->switches), and takes its place
 * among the tunnels then. A protocol that the route does not list is ignored in Upgrade, as RFC
 * 9110 allows; an extended CONNECT is nothing without it. REASON_NONE, or why it is refused.
 */
NODISCARD enum reason tunnel_admit(struct exchange *exchange);

/*
 * Whether a 101 of the upstream is an answer to what was asked: by HTTP/1.1 it names the protocol
 * and, for WebSocket, answers the key (RFC 6455, 4.1).
 */
bool tunnel_is_granted(const struct exchange *exchange);

/* Of a message that switches: a field that is told anew, or not at all. */
bool tunnel_tells(const struct field *field);

/* The client was told: opens both lanes. */
void tunnel_open(struct exchange *exchange);

/* Moves what can be moved, as lane_run. END: both directions are through. ERROR: *reason. */
NODISCARD enum status tunnel_run(struct exchange *exchange, enum reason *reason);

/*
 * It ends for this reason. Where no peer is to blame both are told by an end that is orderly as far
 * as bytes go; where one broke, the other sees that too.
 */
void tunnel_part(struct exchange *exchange, enum reason reason);

/* The exchange is over: its place is free. */
void tunnel_leave(struct exchange *exchange);

/* Whether the exchange became a tunnel. */
bool tunnel_is_open(const struct exchange *exchange);

#endif
