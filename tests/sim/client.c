#include "client.h"

#include <stdlib.h>

#include "base/assert.h"

static void plan(struct caller *caller)
{
    const struct habits *habits = &caller->world->habits;
    struct client *client = client_of(caller);
    client->count = (uint32_t)sim_between(&caller->prng, 1, habits->requests);
    client->produced = client->receiving = 0;
    client->phase = SEND_HEAD;
    client->shut = client->hostile_sent = client->got_continue = false;
    client->http10 = caller_draws(caller, habits->http10);
    client->count = client->http10 ? 1 : client->count;
    client->hostile = caller_draws(caller, habits->hostile);
    client->half_closes = !client->hostile && caller_draws(caller, habits->half_closes);
    if (caller_draws(caller, habits->silent)) {
        caller->silent_after = sim_magnitude(&caller->prng, 1, 100000) - 1;
    }
    reader_reset(&client->reader);
}

static void greet(struct caller *caller)
{
    const struct client *client = client_of(caller);
    sim_note(caller->io, "plans %u requests%s%s%s", client->count, client->http10 ? ", 1.0" : "",
             client->hostile ? ", hostile" : "", client->half_closes ? ", half-closes" : "");
}

static void settle(struct caller *caller, bool gave_up)
{
    struct client *client = client_of(caller);
    bool begun = client->reader.head_size > 0 || client->reader.state != READER_HEAD;
    for (uint32_t i = client->receiving; i < client->produced; i++) {
        bool cut = i == client->receiving && begun;
        caller_exchange(caller, client->plans[i].number)->outcome = gave_up ? OUTCOME_NONE
                                                                    : cut   ? OUTCOME_CUT
                                                                            : OUTCOME_CLOSED;
    }
    client->receiving = client->produced;
}

static void note_sent(struct caller *caller)
{
    uint64_t now = io_now(caller->io);
    struct client *client = client_of(caller);
    for (uint32_t i = 0; i < client->produced; i++) {
        const struct request_plan *request = &client->plans[i];
        struct ledger_exchange *exchange = caller_exchange(caller, request->number);
        uint64_t before = i == 0 ? caller->header.size : client->plans[i - 1].body_mark;
        if (exchange->head_began == 0 && caller->wire.sent > before) {
            exchange->head_began = now;
        }
        if (!exchange->head_sent && caller->wire.sent >= request->head_mark) {
            exchange->head_sent = true;
            exchange->head_took = now - exchange->head_began;
        }
        exchange->body_sent |= caller->wire.sent >= request->body_mark;
    }
}

static uint64_t wake_time(struct caller *caller)
{
    const struct client *client = client_of(caller);
    bool waits = client->phase == SEND_CONTINUE && client->continue_until > io_now(caller->io);
    return waits ? client->continue_until : UINT64_MAX;
}

static const struct caller_ops OPS = {
    .name = "client",
    .plan = plan,
    .greet = greet,
    .produce = client_produce,
    .note_sent = note_sent,
    .take = client_take,
    .on_end = client_on_end,
    .is_content = client_is_content,
    .settle = settle,
    .wake_time = wake_time,
};

struct caller *client_create(struct world *world, uint32_t index)
{
    struct client *client = calloc(1, sizeof(*client));
    ASSERT(client != NULL);
    caller_init(&client->caller, &OPS, world, index);
    return &client->caller;
}
