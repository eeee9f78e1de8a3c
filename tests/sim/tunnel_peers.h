/*
 * The peers of tunnels: each client asks for one, an origin grants it with a 101, and then they are
 * alike: bytes of their own in both directions, each direction with an end of its own. Both may
 * send their first raw bytes together with their head, may stop speaking, or reset. Who stands
 * between them is the scenario's matter: a story, or workers.
 */
#ifndef SENTINEL_TESTS_SIM_TUNNEL_PEERS_H
#define SENTINEL_TESTS_SIM_TUNNEL_PEERS_H

#include "world.h"

enum { TUNNELS_MAX = 8 };

/* What the peers may expect of who stands between them. */
struct tunnel_manners {
    bool calm;         /* nothing breaks but what they break themselves */
    bool ends_silence; /* a tunnel in which a side stays silent at its end is ended, by FINs */
    bool ends;         /* any may be */
};

struct tunnel_peers;

/* The clients connect to the world's entry; the origin listens at this address. Both borrowed. */
struct tunnel_peers *tunnel_peers_create(struct world *world, const struct address *origin,
                                         const struct tunnel_manners *manners);
void tunnel_peers_destroy(struct tunnel_peers *peers);
bool tunnel_peers_are_finished(const struct tunnel_peers *peers);

#endif
