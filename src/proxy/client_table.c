#include "proxy/client_table.h"

#include <stdlib.h>

#include "base/assert.h"

enum { IPV6_SUBSCRIBER_BYTES = 8 };

bool client_table_init(struct client_table *table, uint32_t connections, const struct hash_key *key)
{
    uint32_t size = 16;
    while (size < connections * 2) {
        size *= 2;
    }
    *table = (struct client_table){.mask = size - 1, .key = *key};
    table->cells = calloc(size, sizeof(*table->cells));
    return table->cells != NULL;
}

void client_table_deinit(struct client_table *table)
{
    ASSERT(table->used == 0);
    free(table->cells);
    *table = (struct client_table){0};
}

static struct address key_of(const struct address *client)
{
    struct address key = {.family = client->family};
    size_t size = client->family == ADDRESS_IPV6 ? IPV6_SUBSCRIBER_BYTES : sizeof(key.ip);
    memcpy(key.ip, client->ip, size);
    return key;
}

static uint32_t home_of(const struct client_table *table, const struct address *key)
{
    return (uint32_t)hash_keyed(&table->key, span_of(key, sizeof(*key))) & table->mask;
}

/* The cell of this key, or the free cell where it would stand. */
static uint32_t find(const struct client_table *table, const struct address *key)
{
    uint32_t at = home_of(table, key);
    for (uint32_t probes = 0; probes <= table->mask; probes++) {
        const struct client_cell *cell = &table->cells[at];
        if (cell->key.family == ADDRESS_NONE || memcmp(&cell->key, key, sizeof(*key)) == 0) {
            return at;
        }
        at = (at + 1) & table->mask;
    }
    UNREACHABLE("the table is never full");
}

bool client_table_enter(struct client_table *table, const struct address *client, uint32_t max)
{
    struct address key = key_of(client);
    struct client_cell *cell = &table->cells[find(table, &key)];
    if (cell->key.family == ADDRESS_NONE) {
        ASSERT(table->used < table->mask);
        cell->key = key;
        cell->count = 0;
        table->used++;
    }
    if (cell->count >= max) {
        return false; /* a new cell has count 0, so max 0 is refused by the schema */
    }
    cell->count++;
    return true;
}

/* Frees a cell and moves up those behind it that would not be found any more. */
static void remove_cell(struct client_table *table, uint32_t hole)
{
    uint32_t at = hole;
    for (;;) {
        at = (at + 1) & table->mask;
        const struct client_cell *cell = &table->cells[at];
        if (cell->key.family == ADDRESS_NONE) {
            break;
        }
        uint32_t home = home_of(table, &cell->key);
        if (((at - home) & table->mask) >= ((at - hole) & table->mask)) {
            table->cells[hole] = *cell;
            hole = at;
        }
    }
    table->cells[hole] = (struct client_cell){0};
    table->used--;
}

void client_table_leave(struct client_table *table, const struct address *client)
{
    struct address key = key_of(client);
    uint32_t at = find(table, &key);
    struct client_cell *cell = &table->cells[at];
    ASSERT(cell->key.family != ADDRESS_NONE && cell->count > 0);
    cell->count--;
    if (cell->count == 0) {
        remove_cell(table, at);
    }
}

uint32_t client_table_count(const struct client_table *table, const struct address *client)
{
    struct address key = key_of(client);
    const struct client_cell *cell = &table->cells[find(table, &key)];
    return cell->key.family == ADDRESS_NONE ? 0 : cell->count;
}
