#include "proxy/client_board.h"

#include "base/assert.h"

enum {
    IPV6_SUBSCRIBER_BYTES = 8,
    CELLS_MIN = 16,
    /*
     * Cells looked at on another's board. At most half of them are used and tags are random, so
     * not even a million clients make a run of half that length; only a hostile board does.
     */
    PEER_PROBES_MAX = 128,
};

static_assert(sizeof(struct client_cell) == 16, "cells and cache lines go together");

static uint32_t cells_of(const struct generation *generation)
{
    uint32_t cells = CELLS_MIN;
    while (cells < generation->header->server.connections * 2) {
        cells *= 2; /* the schema's maximum is far below 2^31 */
    }
    return cells;
}

size_t client_board_size(const struct generation *generation)
{
    return sizeof(struct client_board) + cells_of(generation) * sizeof(struct client_cell);
}

uint32_t client_board_connections(const void *board)
{
    const struct client_board *other = (const struct client_board *)board;
    return atomic_load_explicit(&other->connections, memory_order_relaxed);
}

void client_counts_init(struct client_counts *counts, const struct generation *generation,
                        void *board, const struct hash_key *key, const struct client_peers *peers)
{
    *counts = (struct client_counts){
        .board = board, .peers = *peers, .key = *key, .mask = cells_of(generation) - 1};
}

uint64_t client_tag(const struct hash_key *secret, const struct address *client)
{
    struct address key = {.family = client->family};
    size_t size = client->family == ADDRESS_IPV6 ? IPV6_SUBSCRIBER_BYTES : sizeof(key.ip);
    memcpy(key.ip, client->ip, size);
    uint64_t tag = hash_keyed(secret, span_of(&key, sizeof(key)));
    return tag != 0 ? tag : 1;
}

static uint64_t tag_of(const struct client_counts *counts, const struct address *client)
{
    return client_tag(&counts->key, client);
}

static uint64_t tag_at(const struct client_board *board, uint32_t at)
{
    return atomic_load_explicit(&board->cells[at].tag, memory_order_acquire);
}

static uint32_t count_at(const struct client_board *board, uint32_t at)
{
    return atomic_load_explicit(&board->cells[at].count, memory_order_relaxed);
}

/* The count first: who sees the tag sees a count that goes with it. */
static void put(struct client_board *board, uint32_t at, uint64_t tag, uint32_t count)
{
    atomic_store_explicit(&board->cells[at].count, count, memory_order_relaxed);
    atomic_store_explicit(&board->cells[at].tag, tag, memory_order_release);
}

/* The own cell of this tag, or the free cell where it would stand. */
static uint32_t find(const struct client_counts *counts, uint64_t tag)
{
    uint32_t at = (uint32_t)tag & counts->mask;
    for (uint32_t probes = 0; probes <= counts->mask; probes++) {
        uint64_t there = tag_at(counts->board, at);
        if (there == 0 || there == tag) {
            return at;
        }
        at = (at + 1) & counts->mask;
    }
    UNREACHABLE("the board is never full");
}

static void set_connections(struct client_counts *counts, uint32_t connections)
{
    counts->connections = connections;
    atomic_store_explicit(&counts->board->connections, connections, memory_order_relaxed);
}

void client_counts_enter(struct client_counts *counts, const struct address *client)
{
    uint64_t tag = tag_of(counts, client);
    uint32_t at = find(counts, tag);
    if (tag_at(counts->board, at) == 0) {
        ASSERT(counts->used <= counts->mask / 2);
        counts->used++;
        put(counts->board, at, tag, 1);
    } else {
        put(counts->board, at, tag, count_at(counts->board, at) + 1);
    }
    set_connections(counts, counts->connections + 1);
    /* Seen by the others before we read their boards for the next client: an overshoot of one. */
    atomic_thread_fence(memory_order_seq_cst);
}

/* Frees a cell and moves up those behind it that would not be found any more. */
static void remove_cell(struct client_counts *counts, uint32_t hole)
{
    struct client_board *board = counts->board;
    uint32_t mask = counts->mask;
    uint32_t at = (hole + 1) & mask;
    for (uint64_t tag = tag_at(board, at); tag != 0; tag = tag_at(board, at)) {
        uint32_t home = (uint32_t)tag & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            put(board, hole, tag, count_at(board, at)); /* for a moment it stands twice */
            hole = at;
        }
        at = (at + 1) & mask;
    }
    put(board, hole, 0, 0);
    counts->used--;
}

void client_counts_leave(struct client_counts *counts, const struct address *client)
{
    uint64_t tag = tag_of(counts, client);
    uint32_t at = find(counts, tag);
    uint32_t count = count_at(counts->board, at);
    ASSERT(tag_at(counts->board, at) == tag && count > 0 && counts->connections > 0);
    if (count == 1) {
        remove_cell(counts, at);
    } else {
        put(counts->board, at, tag, count - 1);
    }
    set_connections(counts, counts->connections - 1);
}

static uint32_t peer_count_of(const struct client_counts *counts, const struct client_board *board,
                              uint64_t tag)
{
    uint32_t at = (uint32_t)tag & counts->mask;
    for (uint32_t probes = 0; probes < PEER_PROBES_MAX; probes++) {
        uint64_t there = tag_at(board, at);
        if (there == tag) {
            return count_at(board, at);
        }
        if (there == 0) {
            return 0;
        }
        at = (at + 1) & counts->mask;
    }
    return 0;
}

/* Another worker's board, or NULL. */
static const struct client_board *peer_at(const struct client_counts *counts, uint32_t index)
{
    const struct client_board *board = (const struct client_board *)counts->peers.boards[index];
    return board != counts->board ? board : NULL;
}

uint64_t client_counts_of(const struct client_counts *counts, const struct address *client)
{
    uint64_t tag = tag_of(counts, client);
    uint32_t at = find(counts, tag);
    uint64_t sum = tag_at(counts->board, at) == tag ? count_at(counts->board, at) : 0;
    for (uint32_t i = 0; i < counts->peers.count; i++) {
        const struct client_board *board = peer_at(counts, i);
        sum += board != NULL ? peer_count_of(counts, board, tag) : 0;
    }
    return sum;
}

uint64_t client_counts_elsewhere(const struct client_counts *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < counts->peers.count; i++) {
        const struct client_board *board = peer_at(counts, i);
        sum += board != NULL ? client_board_connections(board) : 0;
    }
    return sum;
}

uint64_t client_counts_requests_elsewhere(const struct client_counts *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < counts->peers.count; i++) {
        const struct client_board *board = peer_at(counts, i);
        sum += board != NULL ? atomic_load_explicit(&board->requests, memory_order_relaxed) : 0;
    }
    return sum;
}

uint64_t client_counts_handshakes_elsewhere(const struct client_counts *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < counts->peers.count; i++) {
        const struct client_board *board = peer_at(counts, i);
        sum += board != NULL ? atomic_load_explicit(&board->handshakes, memory_order_relaxed) : 0;
    }
    return sum;
}

bool client_counts_any_below(const struct client_counts *counts, uint32_t connections)
{
    for (uint32_t i = 0; i < counts->peers.count; i++) {
        const struct client_board *board = peer_at(counts, i);
        if (board != NULL && client_board_connections(board) < connections) {
            return true;
        }
    }
    return false;
}
