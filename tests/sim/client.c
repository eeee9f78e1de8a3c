#include "client.h"

#include <stdlib.h>

#include "base/assert.h"

enum {
    PATIENCE = 300 * SECOND, /* without a byte either way: every timer of a proxy is shorter */
};

static bool draws(struct client *client, uint32_t permille)
{
    return sim_chance(&client->prng, permille);
}

static void plan_connection(struct client *client)
{
    const struct habits *habits = &client->world->habits;
    struct prng *prng = &client->prng;
    uint64_t now = io_now(client->io);
    client->count = (uint32_t)sim_between(prng, 1, habits->requests);
    client->produced = client->receiving = 0;
    client->phase = SEND_HEAD;
    client->shut = client->hostile_sent = client->got_continue = false;
    client->http10 = draws(client, habits->http10);
    client->count = client->http10 ? 1 : client->count;
    client->hostile = draws(client, habits->hostile);
    client->half_closes = !client->hostile && draws(client, habits->half_closes);
    client->slow_sender = draws(client, habits->slow_sender);
    client->slow_reader = draws(client, habits->slow_reader);
    client->next_send = client->next_read = now;
    client->abort_at = UINT64_MAX;
    if (draws(client, habits->aborts)) {
        client->abort_at = now + sim_magnitude(prng, 100, 20 * SECOND);
    }
    client->silent_after = UINT64_MAX;
    if (draws(client, habits->silent)) {
        client->silent_after = sim_magnitude(prng, 1, 100000) - 1;
    }
    client->progress_at = now;
    reader_reset(&client->reader);
}

static void connection_over(struct client *client)
{
    client->connections_left--;
    client->state = client->connections_left == 0 ? CLIENT_FINISHED : CLIENT_PAUSED;
    client->begin_at = io_now(client->io) + sim_magnitude(&client->prng, 1, 5 * SECOND);
}

static void open_connection(struct client *client)
{
    plan_connection(client);
    if (wire_connect(&client->wire, &client->world->entry)) {
        client->state = CLIENT_TALKING;
        sim_note(client->io, "plans %u requests%s%s%s%s%s", client->count,
                 client->http10 ? ", 1.0" : "", client->slow_sender ? ", sends slowly" : "",
                 client->slow_reader ? ", reads slowly" : "", client->hostile ? ", hostile" : "",
                 client->half_closes ? ", half-closes" : "");
    } else {
        connection_over(client);
    }
}

void client_settle(struct client *client, bool gave_up)
{
    bool begun = client->reader.head_size > 0 || client->reader.state != READER_HEAD;
    for (uint32_t i = client->receiving; i < client->produced; i++) {
        struct ledger_exchange *exchange =
            ledger_get(&client->world->ledger, client->plans[i].number);
        bool cut = i == client->receiving && begun;
        exchange->outcome = gave_up ? OUTCOME_NONE : cut ? OUTCOME_CUT : OUTCOME_CLOSED;
    }
    client->receiving = client->produced;
}

/* Tells the ledger whose last byte has left. */
static void note_sent(struct client *client)
{
    uint64_t now = io_now(client->io);
    for (uint32_t i = 0; i < client->produced; i++) {
        struct ledger_exchange *exchange =
            ledger_get(&client->world->ledger, client->plans[i].number);
        uint64_t before = i == 0 ? 0 : client->plans[i - 1].body_mark;
        if (exchange->head_began == 0 && client->wire.sent > before) {
            exchange->head_began = now;
        }
        if (!exchange->head_sent && client->wire.sent >= client->plans[i].head_mark) {
            exchange->head_sent = true;
            exchange->head_took = now - exchange->head_began;
        }
        exchange->body_sent |= client->wire.sent >= client->plans[i].body_mark;
    }
}

static void send_some(struct client *client)
{
    uint64_t now = io_now(client->io);
    uint64_t most = UINT64_MAX;
    if (client->slow_sender) {
        if (now < client->next_send) {
            return;
        }
        most = sim_magnitude(&client->prng, 1, 2000);
        client->next_send = now + sim_magnitude(&client->prng, 100, SECOND);
    }
    if (client->silent_after != UINT64_MAX) {
        uint64_t left =
            client->silent_after > client->wire.sent ? client->silent_after - client->wire.sent : 0;
        most = most < left ? most : left;
    }
    while (!client->wire.failed && most > 0) {
        client_produce(client);
        size_t sent = wire_pump(&client->wire, most);
        note_sent(client); /* an empty body has left with its head */
        if (sent == 0) {
            break;
        }
        most -= sent;
        client->progress_at = now;
    }
}

/* The client has waited for too long, which only a silent network or a direct origin may cause. */
static void lose_patience(struct client *client)
{
    if (client->world->proxy != NULL && !sim_socket_is_stalled(client->io, &client->wire.socket)) {
        run_failed("a client waited %d s (of the virtual clock) without an answer or a close",
                   PATIENCE / SECOND);
    }
    client_settle(client, true);
}

/* False: nothing more can come of this connection. */
static bool talk(struct client *client)
{
    uint64_t now = io_now(client->io);
    if (now >= client->abort_at) {
        sim_note(client->io, "gives up");
        client_settle(client, true);
        return false;
    }
    if (now - client->progress_at > PATIENCE) {
        lose_patience(client);
        return false;
    }
    if (!wire_is_connected(&client->wire)) {
        return !client->wire.failed;
    }
    send_some(client);
    /* A failed write says nothing of what the peer had sent before: read on. */
    return client_receive(client);
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t wake_time(const struct client *client)
{
    if (client->state == CLIENT_PAUSED) {
        return client->begin_at;
    }
    if (client->state == CLIENT_FINISHED) {
        return UINT64_MAX;
    }
    uint64_t wake = earliest(client->abort_at, client->progress_at + PATIENCE + 1);
    if (!client->wire.connected) {
        return wake;
    }
    if (client->slow_sender && wire_unsent(&client->wire) > 0) {
        wake = earliest(wake, client->next_send);
    }
    if (client->slow_reader) {
        wake = earliest(wake, client->next_read);
    }
    if (client->phase == SEND_CONTINUE && client->continue_until > io_now(client->io)) {
        wake = earliest(wake, client->continue_until);
    }
    return wake;
}

static void client_turn(void *context)
{
    struct client *client = context;
    io_wait(client->io, wake_time(client));
    while (io_next_ready(client->io) != NULL) {
    }
    if (client->state == CLIENT_PAUSED && io_now(client->io) >= client->begin_at) {
        open_connection(client);
    }
    if (client->state == CLIENT_TALKING && !talk(client)) {
        wire_close(&client->wire, draws(client, 300));
        connection_over(client);
    }
}

struct address client_host(uint32_t host)
{
    return (struct address){.family = ADDRESS_IPV4, .ip = {10, 3, 0, (uint8_t)(host + 1)}};
}

struct client *client_create(struct world *world, uint32_t index)
{
    struct client *client = calloc(1, sizeof(*client));
    ASSERT(client != NULL);
    char name[24];
    (void)snprintf(name, sizeof(name), "client%u", index);
    client->world = world;
    client->io = sim_node_create(world->sim, name);
    if (world->habits.hosts > 0) {
        struct address host = client_host(index % world->habits.hosts);
        sim_node_set_host(client->io, &host);
    }
    prng_init(&client->prng, prng_next(&world->prng));
    client->connections_left = (uint32_t)sim_between(&client->prng, 1, world->habits.connections);
    client->begin_at = sim_now(world->sim) + sim_magnitude(&client->prng, 1, 3 * SECOND);
    wire_init(&client->wire, client->io);
    sim_node_run(client->io, client_turn, client);
    return client;
}

void client_destroy(struct client *client)
{
    if (client != NULL) {
        wire_deinit(&client->wire);
        free(client);
    }
}

bool client_is_finished(const struct client *client)
{
    return client->state == CLIENT_FINISHED;
}
