/* What a client hears, and whether it may hear that. */
#include "client.h"

enum { READS_MAX = 32 }; /* in one turn */

static struct ledger_exchange *current(struct client *client)
{
    return ledger_get(&client->world->ledger, client->plans[client->receiving].number);
}

static uint16_t status_of(const struct client *client)
{
    struct span line = reader_first_line(&client->reader);
    uint64_t status = digits_at(line, line.size < 9 ? line.size : 9);
    if (!span_starts_with(line, SPAN("HTTP/1.1 ")) || status < 100 || status > 599) {
        run_failed("a client got the status line \"%.*s\"", SPAN_ARGS(line));
    }
    return (uint16_t)status;
}

/* The origin's mark, `number-attempt`: whose response is this? */
static void read_mark(struct client *client, struct ledger_exchange *exchange)
{
    struct span mark = reader_field(&client->reader, "X-Exchange");
    exchange->from_origin = mark.data != NULL;
    if (mark.data == NULL) {
        return;
    }
    uint32_t number = client->plans[client->receiving].number;
    size_t dash = span_find(mark, '-');
    if (digits_at(mark, 0) != number || dash == mark.size) {
        run_failed("the response of exchange %.*s reached the client of %u", SPAN_ARGS(mark),
                   number);
    }
    exchange->answered_by = (uint32_t)digits_at(mark, dash + 1);
}

static void begin_body(struct client *client, uint16_t status)
{
    const struct ledger_exchange *exchange = current(client);
    enum reader_framing framing = BODY_NONE;
    uint64_t length = 0;
    if (!reader_framing(&client->reader, &framing, &length)) {
        run_failed("a client got a response with contradicting lengths");
    }
    if (framing == BODY_CHUNKED && client->http10) {
        run_failed("a client of HTTP/1.0 got the chunked coding");
    }
    bool bodiless = exchange->verb == VERB_HEAD || status == 204 || status == 304;
    if (bodiless) {
        framing = BODY_NONE;
    } else if (framing == BODY_NONE) {
        framing = BODY_CLOSE;
    }
    reader_body(&client->reader, framing, length);
}

/* A response to nothing that was asked: the proxy may refuse the connection as such. */
static void accept_unasked(struct client *client, uint16_t status)
{
    if (client->world->proxy == NULL || (status != 408 && status != 429 && status != 503)) {
        run_failed("a client got a response (%u) to no request", status);
    }
    client->plans[client->produced++] = (struct request_plan){
        .number = ledger_add(&client->world->ledger, VERB_GET, 0),
        .head_mark = UINT64_MAX,
        .body_mark = UINT64_MAX,
    };
    client->count = client->produced;
}

static void on_head(struct client *client)
{
    uint16_t status = status_of(client);
    if (status < 200) {
        if (client->http10) {
            run_failed("a client of HTTP/1.0 got a %u", status);
        }
        client->got_continue = client->got_continue || status == 100;
        reader_reset(&client->reader);
        return;
    }
    if (client->receiving == client->produced) {
        accept_unasked(client, status);
    }
    struct ledger_exchange *exchange = current(client);
    exchange->status = status;
    read_mark(client, exchange);
    if (exchange->hostile && status < 400) {
        run_failed("exchange %u: a request that must be refused got %u",
                   client->plans[client->receiving].number, status);
    }
    begin_body(client, status);
}

/* Whether the connection may go on after this response. */
static bool persists(const struct client *client)
{
    struct span connection = reader_field(&client->reader, "Connection");
    return !client->http10 && !client->hostile_sent &&
           !span_equal_nocase(connection, SPAN("close"));
}

/* False: the connection ends with this response. */
static bool on_response_end(struct client *client)
{
    struct ledger_exchange *exchange = current(client);
    exchange->outcome = OUTCOME_ANSWERED;
    exchange->received = client->reader.body;
    sim_note(client->io, "answer to %u: %u, %llu bytes", client->plans[client->receiving].number,
             exchange->status, (unsigned long long)exchange->received);
    bool early = client->phase != SEND_HEAD && client->receiving + 1 == client->produced;
    bool waits = early && client->phase == SEND_CONTINUE;
    bool goes_on = persists(client);
    client->receiving++;
    reader_reset(&client->reader);
    /* A refused expectation: the body will not come, so nothing else can either. */
    return goes_on && !waits;
}

/* False: the connection is over. */
static bool digest(struct client *client, struct span bytes)
{
    while (bytes.size > 0) {
        struct span body = SPAN_EMPTY;
        size_t taken = reader_feed(&client->reader, bytes.data, bytes.size, &body);
        bytes = span_from(bytes, taken);
        if (body.size > 0 && current(client)->from_origin) {
            payload_verify(client->plans[client->receiving].number, SIDE_RESPONSE,
                           client->reader.body - body.size, body);
        }
        if (client->reader.state == READER_HEAD_READY) {
            on_head(client);
        }
        if (client->reader.state == READER_BAD) {
            run_failed("a client got bytes that are no HTTP");
        }
        if (client->reader.state == READER_DONE && !on_response_end(client)) {
            client_settle(client, false);
            return false;
        }
    }
    return true;
}

static bool on_end(struct client *client)
{
    reader_end(&client->reader);
    if (client->reader.state == READER_DONE) {
        (void)on_response_end(client);
    }
    client_settle(client, false);
    return false;
}

/* Everything that was asked is answered, and nothing keeps the client here. */
static bool is_content(const struct client *client)
{
    bool all = client->produced == client->count && client->receiving == client->count &&
               client->phase == SEND_HEAD;
    return all && !client->hostile && !client->half_closes && client->silent_after == UINT64_MAX;
}

bool client_receive(struct client *client)
{
    uint64_t now = io_now(client->io);
    uint8_t bytes[2048];
    size_t size = sizeof(bytes);
    for (int reads = 0; reads < READS_MAX; reads++) {
        if (client->slow_reader) {
            if (now < client->next_read) {
                return true;
            }
            size = (size_t)sim_magnitude(&client->prng, 1, sizeof(bytes));
            client->next_read = now + sim_magnitude(&client->prng, 1000, SECOND / 2);
        }
        size_t got = 0;
        enum status status = wire_read(&client->wire, bytes, size, &got);
        if (status == AGAIN) {
            return true;
        }
        if (status == END) {
            return on_end(client);
        }
        if (status == ERROR) {
            client_settle(client, false);
            return false;
        }
        client->progress_at = now;
        if (!digest(client, span_of(bytes, got)) || is_content(client)) {
            return false;
        }
    }
    io_requeue(client->io, &client->wire.socket);
    return true;
}
