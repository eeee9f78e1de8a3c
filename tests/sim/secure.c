#include "secure.h"

#include "base/assert.h"

enum { MASK = 0x5a, ALL_PROTOCOLS = 1U << SECURE_HTTP1 | 1U << SECURE_HTTP2 };

enum { FINISHED = 0x14, GOODBYE = 0x15, HELLO = 0x16, DATA = 0x17 };

/* ---- What becomes of a connection ---- */

static enum secure_kind draw_kind(const struct secure_habits *habits, struct prng *prng)
{
    static const enum secure_kind bad[] = {
        SECURE_OTHER_NAME, SECURE_UNKNOWN_NAME, SECURE_NO_PROTOCOL, SECURE_NOISE,
        SECURE_ALERT,      SECURE_GONE,         SECURE_SILENT,      SECURE_PLAIN};
    if (!sim_chance(prng, habits->bad)) {
        return SECURE_GOOD;
    }
    enum secure_kind kind = bad[prng_below(prng, sizeof(bad) / sizeof(bad[0]))];
    bool served = kind == SECURE_UNKNOWN_NAME && habits->has_default; /* nobody is unknown */
    bool spoken = kind == SECURE_NO_PROTOCOL && habits->protocols == ALL_PROTOCOLS;
    bool other = kind == SECURE_OTHER_NAME && habits->no_others;
    return served || spoken || other ? SECURE_GOOD : kind;
}

static struct span draw_name(const struct secure_habits *habits, struct prng *prng,
                             enum secure_kind kind)
{
    static const char *const ours[] = {"sim.test", "SIM.test", "sim.test", ""};
    static const char *const others[] = {"other.test", "a.wild.test", "a.b.WILD.test"};
    static const char *const strangers[] = {"wild.test", "im.test", "x.sim.test", ""};
    if (kind == SECURE_OTHER_NAME) {
        return span_of_string(others[prng_below(prng, 3)]);
    }
    if (kind == SECURE_UNKNOWN_NAME) {
        return span_of_string(strangers[prng_below(prng, 4)]);
    }
    return span_of_string(ours[prng_below(prng, habits->has_default ? 4 : 3)]);
}

/* What is asked for; a listener of both prefers HTTP/2. */
static void draw_offers(const struct secure_habits *habits, struct prng *prng, bool http2,
                        struct secure *secure)
{
    const uint8_t one = 1U << SECURE_HTTP1;
    const uint8_t two = 1U << SECURE_HTTP2;
    secure->protocol = http2 ? SECURE_HTTP2 : SECURE_HTTP1;
    if (secure->kind == SECURE_NO_PROTOCOL) {
        secure->offers = (uint8_t)(habits->protocols ^ ALL_PROTOCOLS);
    } else if (http2) {
        secure->offers = sim_chance(prng, 500) ? two : one | two;
    } else {
        secure->offers = sim_chance(prng, 500) ? 0 : one;
    }
}

static void draw_end(const struct secure_habits *habits, struct prng *prng, struct secure *secure)
{
    secure->end_after = UINT64_MAX;
    secure->fin_follows = sim_chance(prng, 500);
    if (secure->kind == SECURE_GOOD && sim_chance(prng, habits->ends)) {
        secure->end = (enum secure_end)sim_between(prng, SECURE_END_BREAKS, SECURE_END_GOODBYES);
        secure->end_after = sim_magnitude(prng, 1, 100000) - 1;
    }
}

static bool draw(const struct secure_habits *habits, struct prng *prng, bool http2,
                 struct secure *secure)
{
    *secure = (struct secure){.limit = UINT64_MAX};
    if (!habits->on) {
        return false;
    }
    secure->kind = draw_kind(habits, prng);
    secure->name = draw_name(habits, prng, secure->kind);
    draw_offers(habits, prng, http2, secure);
    draw_end(habits, prng, secure);
    secure->drips = sim_chance(prng, habits->drips);
    prng_init(&secure->prng, prng_next(prng));
    return secure->kind != SECURE_PLAIN;
}

bool secure_draw(const struct world *world, struct prng *prng, bool http2, struct secure *secure)
{
    struct secure_habits habits = world->habits.secure;
    /* A call is told by 200 that it is misdirected. */
    habits.no_others = http2 && world->habits.multi.calls > 0;
    return draw(&habits, prng, http2, secure);
}

bool secure_draw_good(const struct world *world, struct prng *prng, struct secure *secure)
{
    struct secure_habits habits = world->habits.secure;
    habits.bad = habits.ends = 0;
    return draw(&habits, prng, false, secure);
}

/* ---- Sending ---- */

static void put_record(struct secure *secure, uint8_t type, struct span payload)
{
    ASSERT(secure->record_end == 0 && payload.size <= SECURE_RECORD_MAX);
    secure->record[0] = type;
    secure->record[1] = (uint8_t)(payload.size >> 8);
    secure->record[2] = (uint8_t)payload.size;
    for (size_t i = 0; i < payload.size; i++) {
        secure->record[SECURE_HEADER + i] = payload.data[i] ^ MASK;
    }
    secure->record_end = SECURE_HEADER + payload.size;
    secure->record_sent = secure->plain = 0;
}

static void put_hello(struct secure *secure)
{
    uint8_t payload[256] = {secure->offers};
    if (secure->name.size > 0) {
        memcpy(payload + 1, secure->name.data, secure->name.size);
    }
    put_record(secure, HELLO, span_of(payload, 1 + secure->name.size));
    secure->said_hello = true;
}

/* Neither is what it should be: no type, no place, no size. */
static void put_noise(struct secure *secure, bool shaken)
{
    struct prng *prng = &secure->prng;
    switch (prng_below(prng, 4)) {
    case 0:
        put_record(secure, (uint8_t)(sim_chance(prng, 500) ? 0x80 : 0x01), SPAN("noise"));
        break;
    case 1: /* longer than any */
        put_record(secure, shaken ? DATA : HELLO, SPAN("noise"));
        secure->record[1] = 0xff;
        break;
    case 2: /* not now */
        put_record(secure, shaken ? HELLO : DATA, SPAN("noise"));
        break;
    default: /* nothing in it */
        put_record(secure, shaken ? DATA : HELLO, SPAN_EMPTY);
        break;
    }
    secure->ended = true;
}

/* A handshake that stops: nothing of it, a part, or all of it but the end. False: it has. */
static bool stop_handshake(struct secure *secure)
{
    if (secure->said_hello) {
        secure->ended = true;
        return false;
    }
    put_hello(secure);
    if (!sim_chance(&secure->prng, 300)) {
        secure->record_end = sim_between(&secure->prng, 1, secure->record_end - 1);
        secure->ended = true;
    }
    return true;
}

/* The next record of a handshake. False: it is the other side's turn. */
static bool next_of_handshake(struct secure *secure)
{
    if (secure->kind == SECURE_GONE || secure->kind == SECURE_SILENT) {
        return stop_handshake(secure);
    }
    if (!secure->said_hello && secure->kind == SECURE_NOISE && sim_chance(&secure->prng, 700)) {
        put_noise(secure, false);
        return true;
    }
    if (!secure->said_hello) {
        put_hello(secure);
        return true;
    }
    if (!secure->heard_hello) {
        return false;
    }
    if (secure->kind == SECURE_NOISE) {
        put_record(secure, FINISHED, SPAN("\xff"));
        secure->ended = true;
        return true;
    }
    if (secure->kind == SECURE_ALERT) {
        put_record(secure, GOODBYE, SPAN_EMPTY);
        secure->ended = true;
        return true;
    }
    const uint8_t protocol = secure->offers == 0 ? 0 : (uint8_t)secure->protocol;
    put_record(secure, FINISHED, span_of(&protocol, 1));
    secure->established = true;
    return true;
}

/* It ends as it was drawn. */
static void end_badly(struct wire *wire, struct secure *secure)
{
    if (secure->end == SECURE_END_BREAKS) {
        put_noise(secure, true);
        return;
    }
    secure->goodbye_due = secure->end == SECURE_END_GOODBYES;
    secure->fin_follows = secure->fin_follows || !secure->goodbye_due;
    if (!secure->goodbye_due && wire_unsent(wire) > 0 && sim_chance(&secure->prng, 500)) {
        struct span bytes = span_of(wire->out + wire->head, 1);
        put_record(secure, DATA, bytes);
        secure->record_end -= 1; /* all of it but what is in it */
    }
    secure->end = SECURE_END_ORDERLY;
    if (!secure->goodbye_due) {
        secure->ended = true;
    }
}

static void put_data(struct wire *wire, struct secure *secure, uint64_t left)
{
    size_t size = (size_t)sim_magnitude(&secure->prng, 1, SECURE_RECORD_MAX);
    size = size < wire_unsent(wire) ? size : wire_unsent(wire);
    size = size < left ? size : (size_t)left;
    put_record(secure, DATA, span_of(wire->out + wire->head, size));
    secure->plain = size;
}

/* What goes in front of all records. */
static void put_prefix(struct wire *wire, struct secure *secure, uint64_t left)
{
    size_t size = secure->prefix - wire->sent;
    size = size < wire_unsent(wire) ? size : wire_unsent(wire);
    size = size < left ? size : (size_t)left;
    size = size < sizeof(secure->record) ? size : sizeof(secure->record);
    memcpy(secure->record, wire->out + wire->head, size);
    secure->record_end = secure->plain = size;
    secure->record_sent = 0;
}

/* False: there is nothing to say, now or ever. */
static bool next_record(struct wire *wire)
{
    struct secure *secure = wire->secure;
    uint64_t left = secure->limit - wire->sent;
    if (wire->sent < secure->prefix) {
        put_prefix(wire, secure, left);
        return secure->record_end > 0;
    }
    if (secure->ended) {
        return false;
    }
    if (!secure->established) {
        return next_of_handshake(secure);
    }
    if (secure->end != SECURE_END_ORDERLY && wire->sent >= secure->prefix + secure->end_after) {
        end_badly(wire, secure);
        if (secure->record_end > 0) {
            return true;
        }
    }
    if (secure->goodbye_due) {
        put_record(secure, GOODBYE, SPAN_EMPTY);
        secure->ended = true;
        return true;
    }
    if (secure->ended || wire_unsent(wire) == 0 || left == 0) {
        return false;
    }
    if (secure->end != SECURE_END_ORDERLY) { /* at that byte */
        uint64_t until = secure->prefix + secure->end_after - wire->sent;
        left = left < until ? left : until;
    }
    put_data(wire, secure, left);
    return true;
}

/* Nothing is left to say: FIN, if that is how it ends. */
static void note_end(struct wire *wire)
{
    struct secure *secure = wire->secure;
    bool gone = secure->kind == SECURE_GONE || (secure->kind == SECURE_GOOD && secure->fin_follows);
    if (secure->ended && gone && !secure->fin_sent && !wire->failed) {
        secure->fin_sent = true;
        io_shutdown(wire->io, &wire->socket);
    }
}

static void note_shaken(struct wire *wire)
{
    struct secure *secure = wire->secure;
    if (secure->established && secure->shaken_at == 0) {
        secure->shaken_at = io_now(wire->io);
    }
}

size_t secure_pump(struct wire *wire, size_t most)
{
    struct secure *secure = wire->secure;
    size_t total = 0;
    while (!wire->failed && total < most) {
        if (secure->record_end == 0 && !next_record(wire)) {
            note_end(wire);
            break;
        }
        size_t size = secure->record_end - secure->record_sent;
        size = size < most - total ? size : most - total;
        struct iovec piece = {secure->record + secure->record_sent, size};
        size_t put = 0;
        enum status status = io_write(wire->io, &wire->socket, &piece, 1, &put);
        if (status != OK) {
            wire->failed = status == ERROR;
            break;
        }
        total += put;
        secure->record_sent += put;
        if (secure->record_sent == secure->record_end) {
            wire->head += secure->plain;
            wire->sent += secure->plain;
            secure->record_end = 0;
            note_shaken(wire);
        }
    }
    return total;
}

void secure_shutdown(struct wire *wire)
{
    wire->secure->goodbye_due = true;
}

void secure_finish(struct wire *wire)
{
    struct secure *secure = wire->secure;
    if (secure->established && !secure->ended && !wire->failed && secure->record_end == 0 &&
        sim_chance(&secure->prng, 700)) {
        wire->head = wire->size;
        secure->goodbye_due = true;
        (void)secure_pump(wire, SIZE_MAX);
    }
}

/* ---- Reading ---- */

static size_t payload_size(const struct secure *secure)
{
    return (size_t)secure->in[1] << 8 | secure->in[2];
}

/* Whether a whole record stands in front; what comes must be one, and in its place. */
static bool has_record(const struct secure *secure)
{
    if (secure->in_size > 0 && (secure->in[0] < GOODBYE || secure->in[0] > DATA)) {
        run_failed("a client got a record of type %u", secure->in[0]);
    }
    if (secure->in_size < SECURE_HEADER) {
        return false;
    }
    bool good = secure->in[0] == GOODBYE
                    ? payload_size(secure) == 0
                    : payload_size(secure) > 0 && payload_size(secure) <= SECURE_RECORD_MAX;
    if (!good) {
        run_failed("a client got a record of type %u with %zu bytes", secure->in[0],
                   payload_size(secure));
    }
    return secure->in_size >= SECURE_HEADER + payload_size(secure);
}

static void drop_record(struct secure *secure)
{
    size_t size = SECURE_HEADER + payload_size(secure);
    secure->in_size -= size;
    secure->in_read = 0;
    memmove(secure->in, secure->in + size, secure->in_size);
}

static void take_hello(struct wire *wire)
{
    struct secure *secure = wire->secure;
    const uint8_t protocol = secure->in[SECURE_HEADER] ^ MASK;
    const uint8_t due = secure->offers == 0 ? 0 : (uint8_t)secure->protocol;
    bool early = secure->kind == SECURE_UNKNOWN_NAME || secure->kind == SECURE_NO_PROTOCOL;
    if (early || !secure->said_hello || secure->heard_hello || payload_size(secure) != 1) {
        run_failed("a client of kind %d got a HELLO", (int)secure->kind);
    }
    if (protocol != due) {
        run_failed("a client that speaks protocol %u is answered in %u", due, protocol);
    }
    secure->heard_hello = true;
    drop_record(secure);
    io_requeue(wire->io, &wire->socket); /* there is something to say now */
}

/* What stands in front, if it is whole. AGAIN: it is not. */
static enum status take_record(struct wire *wire, uint8_t *bytes, size_t size, size_t *got)
{
    struct secure *secure = wire->secure;
    while (has_record(secure) && secure->in[0] == HELLO) {
        take_hello(wire);
    }
    if (!has_record(secure)) {
        return AGAIN;
    }
    if (secure->in[0] == GOODBYE) {
        if (secure->in_size > SECURE_HEADER) {
            run_failed("a client got %zu bytes behind GOODBYE", secure->in_size - SECURE_HEADER);
        }
        secure->goodbye_came = true;
        return END;
    }
    if (!secure->established || secure_is_refused(secure)) {
        run_failed("a client of kind %d got data", (int)secure->kind);
    }
    size_t part = payload_size(secure) - secure->in_read;
    part = part < size ? part : size;
    for (size_t i = 0; i < part; i++) {
        bytes[i] = secure->in[SECURE_HEADER + secure->in_read + i] ^ MASK;
    }
    secure->in_read += part;
    if (secure->in_read == payload_size(secure)) {
        drop_record(secure);
    }
    *got = part;
    return OK;
}

enum status secure_read(struct wire *wire, uint8_t *bytes, size_t size, size_t *got)
{
    struct secure *secure = wire->secure;
    for (;;) {
        enum status status = secure->goodbye_came ? END : take_record(wire, bytes, size, got);
        if (status != AGAIN) {
            return status;
        }
        size_t room = sizeof(secure->in) - secure->in_size;
        size_t more = 0;
        room = room < size ? room : size;
        status = io_read(wire->io, &wire->socket, secure->in + secure->in_size, room, &more);
        if (status != OK) {
            return status == END ? ERROR : status; /* without GOODBYE nothing is complete */
        }
        secure->in_size += more;
    }
}
