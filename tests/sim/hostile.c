/* Requests that a proxy must refuse: the HTTP/1 rows of threats, and noise. */
#include "client.h"

/* Each %u is the exchange's number. None of these may reach an origin, whole or in part. */
static const char *const refused[] = {
    ("POST /x/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
     "0\r\n\r\nGET /x/%u HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("POST /x/%u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
     "2c\r\nGET /x/%u HTTP/1.1\r\nHost: a\r\n\r\n"),
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nabcd",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ("POST /x/%u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
     "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "POST /x/%u HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /x/%u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /x/%u HTTP/1.1\nHost: a\n\n",
    "GET /x/%u HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\nHost: a\r\nX: a\001b\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
    "GET /x/%u HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /x/%u HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET  /x/%u HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x/%u/../../../y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x/%u\\y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x/%u%%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x/%u#y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b/x/%u HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT x%u:80 HTTP/1.1\r\nHost: x%u:80\r\n\r\n",
    "GET /x/%u HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n",
};

/* These may begin to reach an origin, but their body must never be complete there. */
static const char *const broken_bodies[] = {
    "5\nabcde\r\n0\r\n\r\n",
    "5 \r\nabcde\r\n0\r\n\r\n",
    "-5\r\nabcde\r\n0\r\n\r\n",
    "0x5\r\nabcde\r\n0\r\n\r\n",
    "5\r\nabcdef\r\n0\r\n\r\n",
    "5\r\nabcde\n0\r\n\r\n",
    "10000000000000005\r\nabcde\r\n0\r\n\r\n",
    "\r\nabcde\r\n0\r\n\r\n",
    "5;a\nb\r\nabcde\r\n0\r\n\r\n",
    "5\r\nabcde\r\n0\r\nX : y\r\n\r\n",
    "5\r\nabcde\r\n0\r\nX: y\n\r\n",
};

enum {
    REFUSED_COUNT = sizeof(refused) / sizeof(refused[0]),
    BROKEN_COUNT = sizeof(broken_bodies) / sizeof(broken_bodies[0]),
};

static void push_noise(struct client *client)
{
    uint8_t bytes[300];
    size_t size = (size_t)sim_magnitude(&client->caller.prng, 1, sizeof(bytes));
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)sim_between(&client->caller.prng, 0, 255);
    }
    wire_push(&client->caller.wire, bytes, size);
}

/* The templates are ours, so a plain replacement of %u and %% will do. */
static void push_template(struct client *client, const char *text, uint32_t number)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 'u') {
            wire_printf(&client->caller.wire, "%u", number);
            at++;
        } else {
            wire_push(&client->caller.wire, at, 1);
            at += at[0] == '%' ? 1 : 0;
        }
    }
}

void hostile_push(struct client *client)
{
    struct request_plan *plan = &client->plans[client->produced++];
    uint32_t kind = prng_below(&client->caller.prng, REFUSED_COUNT + BROKEN_COUNT);
    bool noise = sim_chance(&client->caller.prng, client->caller.world->habits.noise);
    bool broken_body = !noise && kind >= REFUSED_COUNT;
    *plan = (struct request_plan){
        .number = caller_add_exchange(&client->caller, broken_body ? VERB_POST : VERB_GET,
                                      broken_body ? LEDGER_NEVER_COMPLETE : 0),
        .body_mark = UINT64_MAX,
    };
    client->count = client->produced;
    caller_exchange(&client->caller, plan->number)->hostile |= !broken_body;
    if (noise) {
        push_noise(client);
    } else if (broken_body) {
        wire_printf(&client->caller.wire,
                    "POST /x/%u HTTP/1.1\r\nHost: a\r\nX-Number: %u\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n%s",
                    plan->number, plan->number, broken_bodies[kind - REFUSED_COUNT]);
    } else {
        push_template(client, refused[kind], plan->number);
    }
    plan->head_mark = client->caller.wire.sent; /* from its first byte on it may be seen */
    sim_note(client->caller.io, "request %u is hostile, kind %u%s", plan->number, kind,
             noise ? ", noise" : "");
}
