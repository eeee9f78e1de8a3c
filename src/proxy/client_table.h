/*
 * How many connections each client address has open in this worker. A bounded hash table under a
 * secret key, at most half full since it has two cells for each connection that can be open. IPv6
 * clients are counted by their /64, which is what one subscriber is given.
 */
#ifndef SENTINEL_PROXY_CLIENT_TABLE_H
#define SENTINEL_PROXY_CLIENT_TABLE_H

#include "base/address.h"
#include "base/hash.h"
#include "base/status.h"

#define CLIENT_TABLE_NONE UINT32_MAX

struct client_cell {
    struct address key; /* port 0; IPv6 cut to its /64; family ADDRESS_NONE: free */
    uint32_t count;
};

struct client_table {
    struct client_cell *cells;
    uint32_t mask; /* cells - 1 */
    uint32_t used;
    struct hash_key key;
};

/* Room for so many connections. False when memory is short. */
NODISCARD bool client_table_init(struct client_table *table, uint32_t connections,
                                 const struct hash_key *key);
void client_table_deinit(struct client_table *table);

/*
 * Counts one more connection of this client unless it has `max` already. Returns whether it was
 * counted.
 */
NODISCARD bool client_table_enter(struct client_table *table, const struct address *client,
                                  uint32_t max);

/* One connection of this client, which was counted, has ended. */
void client_table_leave(struct client_table *table, const struct address *client);

/* How many connections are counted for this client. */
uint32_t client_table_count(const struct client_table *table, const struct address *client);

#endif
