#include "call.h"

#include "fault.h"
#include "world.h"

enum {
    CLOSING_MAX = 35 * SECOND, /* a client that does not read its trailers is borne for so long */
    ROUNDING = MILLISECOND,    /* of the access log */
};

/* What workers say by themselves; origins say all the others. */
static bool is_of_workers(uint8_t status)
{
    return status == 1 || status == 2 || status == 4 || status == 8 || status == 13 || status == 14;
}

uint8_t call_draw_status(struct prng *prng)
{
    static const uint8_t statuses[] = {3, 5, 6, 7, 9, 10, 11, 12, 15, 16};
    return sim_chance(prng, 600) ? CALL_OK : statuses[prng_below(prng, sizeof(statuses))];
}

void call_draw_timeout(const struct world *world, struct prng *prng,
                       struct ledger_exchange *exchange, char text[CALL_TIMEOUT_MAX])
{
    static const struct {
        char letter;
        uint64_t nanoseconds;
    } units[] = {
        {'n', 1},
        {'u', 1000},
        {'m', 1000 * 1000},
        {'S', 1000 * 1000 * 1000},
        {'M', UINT64_C(60) * 1000 * 1000 * 1000},
        {'H', UINT64_C(3600) * 1000 * 1000 * 1000},
    };
    enum { UNITS = sizeof(units) / sizeof(units[0]), DIGITS_BOUND = 100 * 1000 * 1000 };
    uint64_t wanted = world->habits.strict ? 3600 * UINT64_C(1000000000)
                                           : sim_magnitude(prng, 1, 30 * UINT64_C(1000000000));
    uint32_t unit = prng_below(prng, UNITS);
    while (wanted / units[unit].nanoseconds >= DIGITS_BOUND) {
        unit++;
    }
    uint64_t count = wanted / units[unit].nanoseconds;
    (void)snprintf(text, CALL_TIMEOUT_MAX, "%llu%c", (unsigned long long)count, units[unit].letter);
    exchange->timeout = exchange->deadline = (count * units[unit].nanoseconds + 999) / 1000;
    if (world->habits.timeout < exchange->deadline) {
        exchange->deadline = world->habits.timeout;
    }
    exchange->has_timeout = true;
}

static uint64_t microseconds_of(struct span value)
{
    uint64_t count = digits_at(value, 0);
    switch (value.size > 0 ? value.data[value.size - 1] : 0) {
    case 'n':
        return (count + 999) / 1000;
    case 'u':
        return count;
    case 'm':
        return count * MILLISECOND;
    case 'S':
        return count * SECOND;
    case 'M':
        return count * 60 * SECOND;
    case 'H':
        return count * 3600 * SECOND;
    default:
        return UINT64_MAX;
    }
}

void call_check_timeout(const struct ledger_exchange *exchange, uint32_t number, struct span value)
{
    if (exchange->has_timeout != (value.data != NULL) ||
        (exchange->has_timeout && microseconds_of(value) > exchange->timeout)) {
        run_failed("exchange %u: %llu us to go arrived as \"%.*s\"", number,
                   (unsigned long long)exchange->timeout, SPAN_ARGS(value));
    }
}

void call_note_status(struct ledger_exchange *exchange, uint32_t number, struct span value)
{
    if (value.data == NULL || !exchange->call) {
        return;
    }
    uint64_t status = digits_at(value, 0);
    if (exchange->grpc_status != CALL_NO_STATUS || status > 16) {
        run_failed("exchange %u: grpc-status %.*s came behind %u", number, SPAN_ARGS(value),
                   exchange->grpc_status);
    }
    exchange->grpc_status = (uint8_t)status;
}

void call_note_record(struct ledger_exchange *exchange, struct span status, struct span total_ms)
{
    uint64_t number = digits_at(status, 0);
    exchange->logged_grpc_status = number <= 16 ? (uint8_t)number : CALL_NO_STATUS;
    exchange->logged_time = digits_at(total_ms, 0) * MILLISECOND;
}

bool call_was_told(const struct ledger_exchange *exchange)
{
    return exchange->call && exchange->from_origin && exchange->status == 200 &&
           is_of_workers(exchange->grpc_status);
}

static void check_outcome(const struct ledger_exchange *exchange, uint32_t number)
{
    uint8_t status = exchange->grpc_status;
    if (exchange->status == 200 && status == CALL_NO_STATUS) {
        run_failed("exchange %u: a call ended without a grpc-status", number);
    }
    if (!exchange->from_origin) {
        /*
         * No memory for the head, no room for one that had come in part, or it did not come in
         * time: nothing says yet that it is a call.
         */
        bool unread = (exchange->status == 503 && (fault_has_struck() || exchange->shed)) ||
                      exchange->status == 408;
        if (!unread && (exchange->status != 200 || !is_of_workers(status))) {
            run_failed("exchange %u: a worker answered a call with %u, grpc-status %u", number,
                       exchange->status, status);
        }
    } else if (!call_was_told(exchange) &&
               status != exchange->attempt[exchange->answered_by].grpc_status) {
        run_failed("exchange %u: grpc-status %u became %u", number,
                   exchange->attempt[exchange->answered_by].grpc_status, status);
    }
}

/*
 * Deadlines pass when they are due, and a call does not go on much longer; but what an origin has
 * said in time its client may read as slowly as any response.
 */
static void check_time(const struct ledger_exchange *exchange, uint32_t number)
{
    uint64_t time = exchange->logged_time;
    uint8_t status = exchange->logged_grpc_status;
    bool late_head = exchange->logged_status == 408; /* a deadline, too, but not that of the call */
    bool early = status == 4 && !late_head && time + ROUNDING < exchange->deadline;
    uint32_t attempts = exchange->attempts;
    bool said = (status != CALL_NO_STATUS && !is_of_workers(status)) ||
                (attempts > 0 && exchange->attempt[attempts - 1].complete);
    if (early || (!said && !late_head && time > exchange->deadline + CLOSING_MAX)) {
        run_failed("exchange %u: took %llu us with grpc-status %u, its deadline is %llu", number,
                   (unsigned long long)time, exchange->logged_grpc_status,
                   (unsigned long long)exchange->deadline);
    }
}

void call_check(const struct ledger_exchange *exchange, uint32_t number)
{
    static const uint8_t CANCELLED = 1; /* a client that has gone when all was said */
    bool answered = exchange->outcome == OUTCOME_ANSWERED;
    if (answered) {
        check_outcome(exchange, number);
    }
    if (exchange->records == 0) {
        return;
    }
    /* An origin that fails behind the announced length of an answer that is no call's. */
    uint8_t logged = exchange->logged_grpc_status;
    bool behind =
        exchange->grpc_status == CALL_NO_STATUS && exchange->status != 200 && is_of_workers(logged);
    if (answered && !behind && logged != exchange->grpc_status && logged != CANCELLED) {
        run_failed("exchange %u: grpc-status %u was logged as %u", number, exchange->grpc_status,
                   exchange->logged_grpc_status);
    }
    check_time(exchange, number);
}
