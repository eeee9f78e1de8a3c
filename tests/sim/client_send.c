/* What a client says. */
#include "client.h"

enum {
    BUFFERED_MAX = 16 * 1024, /* produced and unsent */
    CONTINUE_PATIENCE = SECOND,
};

static void push_head(struct client *client)
{
    const struct habits *habits = &client->caller.world->habits;
    struct prng *prng = &client->caller.prng;
    struct request_plan *plan = &client->plans[client->produced];
    enum verb verb = caller_draw_verb(&client->caller);
    bool has_body = verb == VERB_POST || verb == VERB_PUT;
    bool empty = !has_body || sim_chance(prng, 150);
    uint64_t size = empty ? 0 : sim_magnitude(prng, 1, habits->request_body_max);
    bool last = client->produced + 1 == client->count && !client->hostile;
    *plan = (struct request_plan){
        .number = caller_add_exchange(&client->caller, verb, size),
        .chunked = has_body && !client->http10 && sim_chance(prng, habits->chunked),
        .body_mark = UINT64_MAX,
    };
    plan->expects =
        (plan->chunked || size > 0) && !client->http10 && sim_chance(prng, habits->expects);
    wire_printf(&client->caller.wire, "%s /x/%u?%llu HTTP/1.%d\r\n", verb_name(verb), plan->number,
                (unsigned long long)prng_next(prng), client->http10 ? 0 : 1);
    wire_printf(&client->caller.wire, "Host: sim.test\r\nX-Number: %u\r\n", plan->number);
    for (uint64_t i = sim_between(prng, 0, 3); i > 0; i--) {
        wire_printf(&client->caller.wire, "X-Filler-%llu: %0*d\r\n", (unsigned long long)i,
                    (int)sim_magnitude(prng, 1, 500), 7);
    }
    if (plan->chunked) {
        wire_printf(&client->caller.wire, "Transfer-Encoding: chunked\r\n");
    } else if (has_body) {
        wire_printf(&client->caller.wire, "Content-Length: %llu\r\n", (unsigned long long)size);
    }
    if (plan->expects) {
        wire_printf(&client->caller.wire, "Expect: 100-continue\r\n");
    }
    if (last && sim_chance(prng, 300)) {
        wire_printf(&client->caller.wire, "Connection: close\r\n");
    }
    wire_printf(&client->caller.wire, "\r\n");
    plan->head_mark = client->caller.wire.sent + wire_unsent(&client->caller.wire);
    client->body_offset = 0;
    client->got_continue = false;
    client->continue_until = io_now(client->caller.io) + CONTINUE_PATIENCE;
    client->phase = plan->expects ? SEND_CONTINUE : SEND_BODY;
    client->produced++;
    sim_note(client->caller.io, "request %u: %s of %llu bytes%s%s", plan->number, verb_name(verb),
             (unsigned long long)size, plan->chunked ? ", chunked" : "",
             plan->expects ? ", expects 100" : "");
}

static void push_body(struct client *client)
{
    struct request_plan *plan = &client->plans[client->produced - 1];
    uint64_t size = caller_exchange(&client->caller, plan->number)->request_size;
    uint64_t left = size - client->body_offset;
    if (left > 0) {
        uint8_t bytes[1024];
        size_t piece = (size_t)sim_magnitude(&client->caller.prng, 1, sizeof(bytes));
        piece = piece < left ? piece : (size_t)left;
        payload_fill(plan->number, SIDE_REQUEST, client->body_offset, bytes, piece);
        if (plan->chunked) {
            wire_printf(&client->caller.wire, "%zx\r\n", piece);
        }
        wire_push(&client->caller.wire, bytes, piece);
        if (plan->chunked) {
            wire_printf(&client->caller.wire, "\r\n");
        }
        client->body_offset += piece;
        left -= piece;
    }
    if (left == 0) {
        if (plan->chunked) {
            wire_printf(&client->caller.wire, "0\r\n\r\n");
        }
        plan->body_mark = client->caller.wire.sent + wire_unsent(&client->caller.wire);
        client->phase = SEND_HEAD;
    }
}

/* All requests are on their way: what a connection ends with. */
static void conclude(struct client *client)
{
    bool answered = client->receiving == client->produced;
    if (client->hostile && !client->hostile_sent && answered) {
        client->hostile_sent = true;
        hostile_push(client);
    } else if (client->half_closes && !client->shut && wire_unsent(&client->caller.wire) == 0) {
        client->shut = true;
        wire_shutdown(&client->caller.wire);
    }
}

void client_produce(struct caller *caller)
{
    const struct habits *habits = &caller->world->habits;
    struct client *client = client_of(caller);
    while (wire_unsent(&client->caller.wire) < BUFFERED_MAX && !client->shut &&
           !client->hostile_sent) {
        uint32_t under_way = client->produced - client->receiving;
        if (client->phase == SEND_CONTINUE) {
            if (!client->got_continue && io_now(client->caller.io) < client->continue_until) {
                return;
            }
            client->phase = SEND_BODY;
        } else if (client->phase == SEND_BODY) {
            push_body(client);
        } else if (client->produced == client->count) {
            conclude(client);
            return;
        } else if (under_way < habits->pipeline) {
            push_head(client);
        } else {
            return;
        }
    }
}
