#include "ledger.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "call.h"
#include "reader.h"

/* Nearly the worker's timer for a head, which begins where the first byte arrives. */
enum {
    HEAD_SLOW_US = 9 * 1000 * 1000,
    BODY_KEPT = 16 * 1024, /* what any worker that is not short of buffers can send again */
};

_Noreturn void run_failed(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fflush(stdout);
    (void)fprintf(stderr, "  invariant broken: ");
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    _Exit(1);
}

const char *verb_name(enum verb verb)
{
    static const char *const names[VERB_COUNT] = {"GET", "HEAD", "POST", "PUT", "CONNECT"};
    return names[verb];
}

bool verb_read(struct span name, enum verb *verb)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        if (span_equal(name, span_of_string(verb_name((enum verb)i)))) {
            *verb = (enum verb)i;
            return true;
        }
    }
    return false;
}

uint32_t ledger_add(struct ledger *ledger, enum verb verb, uint64_t request_size)
{
    if (ledger->count == LEDGER_MAX) {
        run_failed("the scenario makes more than %d requests", LEDGER_MAX);
    }
    ledger->exchanges[ledger->count] = (struct ledger_exchange){
        .verb = verb,
        .request_size = request_size,
    };
    return ledger->count++;
}

struct ledger_exchange *ledger_get(struct ledger *ledger, uint64_t number)
{
    if (number >= ledger->count) {
        run_failed("exchange %llu was never made by a client", (unsigned long long)number);
    }
    return &ledger->exchanges[number];
}

static uint64_t payload_word(uint32_t number, enum side side, uint64_t index)
{
    uint64_t word = (index + 1) * UINT64_C(0x9e3779b97f4a7c15) ^
                    (((uint64_t)number << 1 | (uint64_t)side) + 1) * UINT64_C(0xd1342543de82ef95);
    word = (word ^ word >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    return word ^ word >> 29;
}

void payload_fill(uint32_t number, enum side side, uint64_t offset, uint8_t *bytes, size_t size)
{
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t at = offset + i;
        if (i == 0 || at % 8 == 0) {
            word = payload_word(number, side, at / 8);
        }
        bytes[i] = (uint8_t)(word >> at % 8 * 8);
    }
}

void payload_verify(uint32_t number, enum side side, uint64_t offset, struct span bytes)
{
    uint8_t expected[1024];
    for (size_t done = 0; done < bytes.size;) {
        size_t left = bytes.size - done;
        size_t size = left < sizeof(expected) ? left : sizeof(expected);
        uint64_t at = offset + done;
        payload_fill(number, side, at, expected, size);
        if (memcmp(expected, bytes.data + done, size) != 0) {
            run_failed("exchange %u: wrong %s bytes in the %zu from offset %llu", number,
                       side == SIDE_REQUEST ? "request" : "response", size, (unsigned long long)at);
        }
        done += size;
    }
}

static struct ledger_exchange *arrived(struct ledger *ledger, uint32_t number, enum verb verb)
{
    struct ledger_exchange *exchange = ledger_get(ledger, number);
    if (exchange->hostile) {
        run_failed("exchange %u: a request that must be refused reached an origin", number);
    }
    if (verb != exchange->verb) {
        run_failed("exchange %u: sent as %s, arrived as %s", number, verb_name(exchange->verb),
                   verb_name(verb));
    }
    if (!exchange->head_sent) {
        run_failed("exchange %u: reached an origin before its client had sent the head", number);
    }
    if (exchange->attempts + exchange->refusals == LEDGER_ATTEMPTS_MAX) {
        run_failed("exchange %u: more than %d attempts", number, LEDGER_ATTEMPTS_MAX);
    }
    return exchange;
}

uint32_t ledger_arrived(struct ledger *ledger, uint32_t number, enum verb verb)
{
    struct ledger_exchange *exchange = arrived(ledger, number, verb);
    if (exchange->attempts > 0 && verb == VERB_POST) {
        run_failed("exchange %u: a POST was sent to origins twice", number);
    }
    return exchange->attempts++;
}

/* It may come late, when the same request has been answered on another connection already. */
void ledger_refused(struct ledger *ledger, uint32_t number, enum verb verb)
{
    arrived(ledger, number, verb)->refusals++;
}

void ledger_body_arrived(struct ledger *ledger, uint32_t number, uint64_t size)
{
    const struct ledger_exchange *exchange = ledger_get(ledger, number);
    if (exchange->verb == VERB_CONNECT && (exchange->tunnel_may_end || !exchange->tunnel_open)) {
        return;
    }
    uint64_t due = exchange->body_dropped ? 0 : exchange->request_size;
    if (size != due) {
        run_failed("exchange %u: a request body of %llu bytes arrived as %llu", number,
                   (unsigned long long)due, (unsigned long long)size);
    }
    if (!exchange->body_sent) {
        run_failed("exchange %u: its body was completed towards an origin, but not by the client",
                   number);
    }
}

/* The text behind `"name":` in a line of our own making; empty when it is not there. */
static struct span member(struct span line, const char *name)
{
    char key[32];
    int size = snprintf(key, sizeof(key), "\"%s\":", name);
    const uint8_t *found = memmem(line.data, line.size, key, (size_t)size);
    return found == NULL ? SPAN_EMPTY : span_from(line, (size_t)(found - line.data) + (size_t)size);
}

/* The inside of a quoted text that has no escapes. */
static struct span text_of(struct span value)
{
    value = value.size > 0 ? span_from(value, 1) : value;
    return span_first(value, span_find(value, '"'));
}

void ledger_check_client(struct ledger *ledger, uint32_t number, struct span name)
{
    const struct ledger_exchange *exchange = ledger_get(ledger, number);
    char text[ADDRESS_TEXT_MAX];
    size_t size = address_print_host(&exchange->client, text);
    if (exchange->client.family != ADDRESS_NONE && !span_equal(name, span_of(text, size))) {
        run_failed("exchange %u: of the client %s, not of %.*s", number, text, SPAN_ARGS(name));
    }
}

void ledger_log_line(struct ledger *ledger, struct span line)
{
    struct span path = member(line, "path");
    if (!span_starts_with(path, SPAN("\"/x/"))) {
        return; /* no request of ours, or none that could be read */
    }
    uint32_t number = (uint32_t)digits_at(path, 4);
    struct ledger_exchange *exchange = ledger_get(ledger, number);
    exchange->records++;
    ledger_check_client(ledger, number, text_of(member(line, "client")));
    uint64_t status = digits_at(member(line, "status"), 0);
    exchange->logged_status = status == UINT64_MAX ? 0 : (uint16_t)status;
    exchange->logged_attempts = (uint32_t)digits_at(member(line, "attempts"), 0);
    exchange->logged_bytes_out = digits_at(member(line, "bytes_out"), 0);
    exchange->shed = span_equal(text_of(member(line, "reason")), SPAN("connections_full"));
    call_note_record(exchange, member(line, "grpc_status"), member(line, "total_ms"));
}

static void check_answer(const struct ledger_exchange *exchange, uint32_t number)
{
    if (!exchange->from_origin) {
        return;
    }
    if (exchange->answered_by >= exchange->attempts) {
        run_failed("exchange %u: answered by an attempt that never was", number);
    }
    const struct ledger_attempt *attempt = &exchange->attempt[exchange->answered_by];
    if (exchange->status != attempt->status) {
        run_failed("exchange %u: status %u became %u", number, attempt->status, exchange->status);
    }
    if (!attempt->sound) {
        run_failed("exchange %u: a malformed response was passed on", number);
    }
    bool may_end = attempt->status == 200 && exchange->tunnel_may_end;
    if (exchange->outcome != OUTCOME_ANSWERED || call_was_told(exchange) || may_end) {
        return;
    }
    if (!attempt->complete) {
        run_failed("exchange %u: a truncated response was completed", number);
    }
    if (exchange->received != attempt->size) {
        run_failed("exchange %u: %llu bytes of response became %llu", number,
                   (unsigned long long)attempt->size, (unsigned long long)exchange->received);
    }
}

static void check_record(const struct ledger_exchange *exchange, uint32_t number)
{
    bool known =
        exchange->attempts > 0 ||
        (exchange->outcome == OUTCOME_ANSWERED && !exchange->hostile && exchange->head_sent &&
         exchange->status != 429 && exchange->status != 503 && exchange->status != 408);
    if (exchange->records > 1) {
        run_failed("exchange %u: %u access records", number, exchange->records);
    }
    if (known && exchange->records == 0) {
        run_failed("exchange %u: no access record", number);
    }
    if (exchange->records == 0 || exchange->outcome != OUTCOME_ANSWERED ||
        exchange->tunnel_open) { /* with status 101 */
        return;
    }
    bool told_by_grpc = exchange->call && !exchange->from_origin; /* with 200, whatever is logged */
    if (told_by_grpc ? exchange->logged_status < 400
                     : exchange->logged_status != exchange->status) {
        run_failed("exchange %u: status %u was logged as %u", number, exchange->status,
                   exchange->logged_status);
    }
    if (exchange->logged_bytes_out != exchange->received) {
        run_failed("exchange %u: %llu bytes of response were logged as %llu", number,
                   (unsigned long long)exchange->received,
                   (unsigned long long)exchange->logged_bytes_out);
    }
}

/*
 * On a link with room for a byte at a time even an honest client's head can come too late, or its
 * body by less than the rate that is asked for.
 */
static bool was_too_slow(const struct ledger_exchange *exchange)
{
    bool narrow = exchange->head_took > HEAD_SLOW_US || !exchange->body_sent;
    return exchange->status == 408 && (!exchange->head_sent || narrow);
}

/* It is sent again as often as may be, unless its body is too large to be kept. */
static bool was_refused_for_good(const struct ledger_exchange *exchange, uint32_t attempts_max)
{
    return exchange->logged_attempts >= attempts_max ||
           (exchange->refusals > 0 && exchange->request_size > BODY_KEPT);
}

void ledger_check(struct ledger *ledger, const struct ledger_expectation *expectation)
{
    for (uint32_t number = 0; number < ledger->count; number++) {
        const struct ledger_exchange *exchange = &ledger->exchanges[number];
        check_answer(exchange, number);
        if (expectation->logged) {
            check_record(exchange, number);
        }
        if (exchange->call) {
            call_check(exchange, number);
        }
        if (exchange->attempts + exchange->refusals > expectation->attempts_max) {
            run_failed("exchange %u: %u attempts, %u of them refused; %u are allowed", number,
                       exchange->attempts + exchange->refusals, exchange->refusals,
                       expectation->attempts_max);
        }
        if (exchange->unprocessed && exchange->attempts > 0) {
            run_failed("exchange %u: its client was told that nobody has looked at it", number);
        }
        bool safe = exchange->verb == VERB_GET || exchange->verb == VERB_HEAD;
        bool must = expectation->all_answered || (expectation->safe_answered && safe);
        bool answered = exchange->outcome == OUTCOME_ANSWERED && exchange->from_origin;
        if (must && !exchange->hostile && !answered && !was_too_slow(exchange) &&
            !was_refused_for_good(exchange, expectation->attempts_max)) {
            run_failed("exchange %u: not answered (status %u, outcome %d), though it could be",
                       number, exchange->status, (int)exchange->outcome);
        }
    }
}
