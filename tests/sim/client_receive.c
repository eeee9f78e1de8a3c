/* What a client hears, and whether it may hear that. */
#include "client.h"

static struct ledger_exchange *current(struct client *client)
{
    return caller_exchange(&client->caller, client->plans[client->receiving].number);
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
    if (client->caller.world->proxy == NULL || (status != 408 && status != 429 && status != 503)) {
        run_failed("a client got a response (%u) to no request", status);
    }
    client->plans[client->produced++] = (struct request_plan){
        .number = ledger_add(&client->caller.world->ledger, VERB_GET, 0),
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
    uint32_t number = client->plans[client->receiving].number;
    caller_note_status(&client->caller, number, status);
    caller_read_mark(&client->caller, number, reader_field(&client->reader, "X-Exchange"));
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
    sim_note(client->caller.io, "answer to %u: %u, %llu bytes",
             client->plans[client->receiving].number, exchange->status,
             (unsigned long long)exchange->received);
    bool early = client->phase != SEND_HEAD && client->receiving + 1 == client->produced;
    bool waits = early && client->phase == SEND_CONTINUE;
    bool goes_on = persists(client);
    client->receiving++;
    reader_reset(&client->reader);
    /* A refused expectation: the body will not come, so nothing else can either. */
    return goes_on && !waits;
}

bool client_take(struct caller *caller, struct span bytes)
{
    struct client *client = client_of(caller);
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
            return false;
        }
    }
    return true;
}

void client_on_end(struct caller *caller)
{
    struct client *client = client_of(caller);
    reader_end(&client->reader);
    if (client->reader.state == READER_DONE) {
        (void)on_response_end(client);
    }
}

bool client_is_content(struct caller *caller)
{
    const struct client *client = client_of(caller);
    bool all = client->produced == client->count && client->receiving == client->count &&
               client->phase == SEND_HEAD;
    return all && !client->hostile && !client->half_closes && caller->silent_after == UINT64_MAX;
}
