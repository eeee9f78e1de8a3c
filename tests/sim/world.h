/*
 * A run: one simulator with its clients, its origins and, but for the scenario `direct`, the
 * workers between them. Scenarios are made of habits: how many of each there are and how badly they
 * behave.
 */
#ifndef SENTINEL_TESTS_SIM_WORLD_H
#define SENTINEL_TESTS_SIM_WORLD_H

#include "io/sim.h"
#include "ledger.h"
#include "reader.h"
#include "wire.h"

enum {
    CLIENTS_MAX = 40,
    ORIGINS_MAX = 4,
    WORKERS_MAX = 4,
    REQUESTS_MAX = 16,       /* of one connection */
    ORIGIN_CONNECTIONS = 64, /* of one origin */
    SECURE_KINDS_MAX = 16,
};

/* What the exchanges of a seam do (seam.h); chances in thousandths. */
struct seam_manners {
    uint64_t drains_within; /* microseconds until all sessions are told to end; 0: never */
    uint64_t patience;      /* microseconds without progress that an exchange bears */
    uint32_t drains;        /* chance, an early response: the rest of the request is read */
    uint64_t hedge_after;   /* microseconds until a second attempt begins; 0: never */
    uint32_t hold_max;      /* bytes that an agent's filter may hold; 0: no agent */
    uint64_t verdict_within;
    uint32_t agent_silent; /* chances, a question */
    uint32_t agent_drops;
    uint32_t agent_fails;
    uint32_t agent_breaks;
    bool calm; /* the network and the origins do nothing wrong */
};

/* What is HTTP/2 in a world (multi.h); chances in thousandths. */
struct multi_habits {
    uint32_t clients;  /* chance, a client: speaks it */
    bool origins;      /* they all do */
    uint32_t streams;  /* of a connection of a client at a time, at most */
    uint32_t requests; /* likewise, one after the other */

    uint32_t small_windows; /* chance, a connection: of few bytes */
    uint32_t late_windows;  /* chance, an opening */
    uint32_t shut_windows;  /* chance, a connection: they are never opened again */
    uint32_t few_streams;   /* chance, an origin's connection: allows one to four at a time */
    uint32_t changes;       /* chance, a connection: announces other SETTINGS in its course */
    uint32_t splits;        /* chance, a head */
    uint32_t pads;          /* chance, a frame */
    uint32_t chatter;       /* chance, a turn */
    uint32_t deaf;          /* chance, a connection: answers no PING */
    uint32_t goodbyes;      /* chance, a connection: GOAWAY at some point */
    uint32_t resets;        /* chance, a request: its client resets it */
    uint32_t refuses;       /* chance, a request: its origin refuses it unseen */
    uint32_t holds;         /* chance, a request: its origin looks at it later */
    uint32_t tunnels;       /* chance, a request of a client: it is an extended CONNECT */
    uint32_t calls;         /* chance, a request of a client: it is a gRPC call */

    uint64_t pool; /* bytes of the workers' memory; 0: the default */
    uint32_t streams_max;
    uint32_t window;
    uint32_t glitches;
};

/* PROXY headers in a world (balancer.h); chances in thousandths. */
struct proxied_habits {
    bool on;          /* balancers have to send them */
    uint32_t bad;     /* chance, a connection of a balancer: none, a wrong one, or a part of one */
    uint32_t nobody;  /* likewise: one that names nobody */
    uint32_t unasked; /* chance, a connection of others: one all the same */
    uint32_t drips;   /* chance, a header: a few bytes at a time */
};

/* TLS in a world (secure.h); chances in thousandths. */
struct secure_habits {
    bool on;
    bool has_default;    /* who names nobody who is known is served all the same */
    uint8_t protocols;   /* a set of those that the listener knows */
    uint32_t handshakes; /* at a time, in all workers */
    uint32_t bad;        /* chance, a connection: it does not come to speak for itself */
    uint32_t ends;       /* chance, one of the others: it ends by itself, somewhere */
    uint32_t drips;      /* chance, a handshake: a few bytes at a time */
    bool no_others;      /* nobody asks for what is served with another certificate */
};

/* All chances in thousandths. */
struct habits {
    uint32_t clients;
    uint32_t hosts;       /* that the clients share by turns; 0: one each */
    uint32_t connections; /* of each client, one after the other */
    uint32_t requests;    /* of a connection, at most */
    uint32_t pipeline;    /* requests under way on a connection */
    uint64_t request_body_max;
    uint32_t bodies;      /* POST or PUT */
    uint32_t heads;       /* HEAD */
    uint32_t chunked;     /* a request body */
    uint32_t expects;     /* Expect: 100-continue */
    uint32_t http10;      /* HTTP/1.0 */
    uint32_t half_closes; /* shuts its side after the last request */
    uint32_t aborts;      /* a connection: gives up somewhere */
    uint32_t hostile;     /* a connection: ends in a request that must be refused */
    uint32_t noise;       /* a hostile request: random bytes instead */
    uint32_t slow_sender;
    uint32_t slow_reader;
    uint32_t silent; /* a connection: stops sending in the middle of a request */

    uint32_t origins;
    uint64_t response_max;
    uint32_t origin_fails; /* a response: one of the ways not to give one */
    uint32_t origin_truncates;
    uint32_t origin_malformed;
    uint32_t origin_extra;  /* bytes behind the response */
    bool extra_responses;   /* they look like a response: needs a network that keeps writes whole */
    uint32_t origin_silent; /* never answers */
    uint32_t origin_early;  /* answers before the request body is read */
    uint32_t origin_slow;
    uint32_t origin_interim; /* 103, and 100 unasked */
    uint32_t origin_closes;  /* Connection: close, or a body until close */
    uint32_t origin_stale;   /* closes an idle connection after a while */
    uint32_t origin_refuses; /* an origin: does not listen at all */
    bool first_refuses;      /* the first origin never listens, all others do */

    uint32_t workers; /* 0: clients and origins talk directly */
    uint32_t connections_max;
    uint32_t connections_per_client;
    uint32_t requests_max;
    uint32_t upstream_connections_max;
    uint64_t buffer_pool;
    uint64_t hold_request; /* buffering of the route; 0: none, like the next */
    uint64_t hold_response;
    uint64_t hold_pool;
    uint32_t request_rate; /* of one host, a second; 0: any */
    uint32_t request_burst;
    uint64_t timeout;      /* of the route */
    uint32_t attempts;     /* of the route */
    bool drains;           /* at some point the workers are told to stop */
    bool kills;            /* at some point all workers but one are killed */
    bool strict;           /* no faults: everything must be answered by an origin */
    bool strict_safe;      /* GET and HEAD must be */
    uint32_t splice_pipes; /* of all workers */

    bool tunnels;      /* through the workers, beside the requests */
    bool tunnels_stop; /* their network may come to a standstill, which is silence, too */

    struct seam_manners seam;  /* of scenarios with a story */
    struct multi_habits multi; /* all zero: nobody speaks HTTP/2 */
    struct proxied_habits proxied;
    struct secure_habits secure;
};

struct seam_story;

struct scenario {
    const char *name;
    void (*tune)(struct prng *prng, struct habits *habits, struct sim_options *options);
    const struct seam_story *story; /* stands between clients and origins; NULL: workers do */
    void (*run)(uint64_t seed,
                FILE *trace); /* a world of its own, without habits; NULL: this one */
};

struct caller;
struct server;
struct proxy;
struct seam;
struct tunnel_manners;
struct tunnel_peers;

struct world {
    const struct scenario *scenario;
    struct prng prng;
    struct habits habits;
    struct sim *sim;
    struct ledger ledger;
    struct address entry; /* where clients connect to */
    /* Connections of balancers that began with no good header, and whose header came in part. */
    uint32_t bad_headers;
    uint32_t cut_headers;
    uint32_t secured[SECURE_KINDS_MAX]; /* connections by enum secure_kind (secure.h) */
    struct caller *clients[CLIENTS_MAX];
    struct server *origins[ORIGINS_MAX];
    struct proxy *proxy; /* NULL: direct, or a story */
    struct seam *seam;   /* NULL: no story */
    struct tunnel_manners *tunnel_manners;
    struct tunnel_peers *tunnels; /* NULL: none */
};

/* The scenarios, closed by one without a name. */
extern const struct scenario scenarios[];

/* Clients: of HTTP/1, and of HTTP/2. Borrow the world. */
struct caller *client_create(struct world *world, uint32_t index);
struct caller *multi_client_create(struct world *world, uint32_t index);
struct address client_host(uint32_t host);
void caller_destroy(struct caller *caller);
bool caller_is_finished(const struct caller *caller);

/* Origins, likewise: bound to 10.2.0.(index + 1):80. */
struct server *origin_create(struct world *world, uint32_t index);
struct server *multi_origin_create(struct world *world, uint32_t index);
void server_destroy(struct server *server);
struct address origin_address(uint32_t index);

/* The workers, compiled configuration, metrics and logs: see proxy.c. NULL in direct worlds. */
struct proxy *proxy_create(struct world *world);
void proxy_destroy(struct proxy *proxy);

/* Between steps: reads the access logs, drains and kills when their time has come. */
void proxy_tend(struct proxy *proxy);

/* Once the clients have gone: everything is back to zero. */
void proxy_check(struct proxy *proxy);

/* Something of the proxy was killed: requests may lack their record. */
bool proxy_was_hurt(const struct proxy *proxy);

#endif
