#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "control.h"
#include "fault.h"
#include "reader.h"
#include "wire.h"

enum {
    ASKS_MAX = 3, /* of one connection */
    PATIENCE = 20 * SECOND,
    TAIL_MAX = 32,
    LINE_MAX_KEPT = 96,
    BITE = 4096,
    SLOW_BITE = 1500,
    SLOW_PAUSE = 50 * MILLISECOND,
};

enum manner {
    MANNER_POLITE,
    MANNER_SLOW,   /* reads now and then, a little */
    MANNER_SILENT, /* connects and says nothing */
    MANNER_HALF,   /* sends half a head */
    MANNER_DEAF,   /* asks and never reads */
    MANNER_ABRUPT, /* asks and resets */
    MANNER_COUNT,
};

enum body { BODY_ANY, BODY_METRICS, BODY_RECENT };

struct question {
    const char *text; /* method and path */
    const char *host;
    uint16_t admin; /* the status there; 0: 200 or 503 */
    uint16_t control;
    enum body body; /* of a 200 */
};

static const struct question QUESTIONS[] = {
    {"GET /health", "localhost", 200, 200, BODY_ANY},
    {"GET /ready", "localhost", 0, 0, BODY_ANY},
    {"GET /metrics", "localhost", 200, 200, BODY_METRICS},
    {"HEAD /metrics", "localhost", 200, 200, BODY_ANY},
    {"GET /recent", "localhost", 404, 200, BODY_RECENT},
    {"GET /nothing", "localhost", 404, 404, BODY_ANY},
    {"POST /health", "localhost", 405, 405, BODY_ANY},
    {"GET /health", "evil.example", 403, 200, BODY_ANY},
    {"GET no-path", "localhost", 400, 400, BODY_ANY},
};

enum { QUESTION_COUNT = sizeof(QUESTIONS) / sizeof(QUESTIONS[0]) };

struct asker {
    const struct control_view *view;
    struct io *io;
    struct prng prng;
    struct address address;
    bool control;
    bool polite;
    uint64_t until;
    uint64_t next;    /* when to begin */
    uint64_t read_at; /* SLOW: when to read again */
    uint64_t began;
    uint64_t floor; /* what was counted when it was asked */
    enum manner manner;
    bool connected;
    bool pipelines;
    uint32_t answers;
    bool refused;        /* for want of memory, on this connection */
    uint32_t deviations; /* connections that did not get what they asked for */
    uint32_t asked;
    uint32_t ask_count;
    uint32_t answered;
    const struct question *asks[ASKS_MAX];
    bool seen_count; /* in this answer's body */
    size_t line_size;
    char line[LINE_MAX_KEPT];
    size_t tail_size;
    char tail[TAIL_MAX];
    struct wire wire;
    struct reader reader;
    uint8_t bytes[BITE];
};

/* A whole line of the answer's body, cut to what is kept. */
static void judge_line(struct asker *asker, const struct question *question)
{
    static const char COUNTER[] = "sentinel_access_log_dropped_total ";
    asker->line[asker->line_size < LINE_MAX_KEPT ? asker->line_size : LINE_MAX_KEPT - 1] = '\0';
    if (digits_at(reader_first_line(&asker->reader), 9) != 200) {
        return; /* in JSON, why */
    }
    if (question->body == BODY_RECENT && asker->line[0] != '{') {
        run_failed("/recent has a line `%s`", asker->line);
    }
    if (question->body != BODY_METRICS) {
        return;
    }
    if (asker->line[0] != '#' && strncmp(asker->line, "sentinel_", 9) != 0 &&
        strncmp(asker->line, "process_", 8) != 0) {
        run_failed("/metrics has a line `%s`", asker->line);
    }
    if (strncmp(asker->line, COUNTER, sizeof(COUNTER) - 1) == 0) {
        uint64_t shown = digits_at(span_of_string(asker->line), sizeof(COUNTER) - 1);
        asker->seen_count = true;
        if (shown < asker->floor || shown > *asker->view->counted) {
            run_failed("/metrics shows %llu; %llu were counted when it was asked, %llu are now",
                       (unsigned long long)shown, (unsigned long long)asker->floor,
                       (unsigned long long)*asker->view->counted);
        }
    }
}

static void take_body(struct asker *asker, const struct question *question, struct span body)
{
    for (size_t i = 0; i < body.size; i++) {
        char byte = (char)body.data[i];
        if (asker->tail_size == TAIL_MAX) {
            memmove(asker->tail, asker->tail + 1, TAIL_MAX - 1);
            asker->tail_size--;
        }
        asker->tail[asker->tail_size++] = byte;
        if (byte == '\n') {
            judge_line(asker, question);
            asker->line_size = 0;
        } else if (asker->line_size < LINE_MAX_KEPT) {
            asker->line[asker->line_size++] = byte;
        }
    }
}

static bool ends_with(const struct asker *asker, const char *text)
{
    size_t size = strlen(text);
    return asker->tail_size >= size &&
           memcmp(asker->tail + asker->tail_size - size, text, size) == 0;
}

static const struct question *current(const struct asker *asker)
{
    ASSERT(asker->answered < asker->ask_count);
    return asker->asks[asker->answered];
}

/* The answer's head is there. */
static void judge_head(struct asker *asker)
{
    const struct question *question = current(asker);
    uint64_t status = digits_at(reader_first_line(&asker->reader), 9);
    uint16_t wanted = asker->control ? question->control : question->admin;
    bool right = wanted == status || (wanted == 0 && (status == 200 || status == 503));
    enum reader_framing framing = BODY_NONE;
    uint64_t length = 0;
    if (!reader_framing(&asker->reader, &framing, &length)) {
        run_failed("an answer's framing contradicts itself");
    }
    /* Without memory for the head it is refused, in so many words. */
    if (!right && !(fault_has_struck() && status == 503)) {
        run_failed("%s of %s is answered with %llu", question->text,
                   asker->control ? "the control socket" : "the admin listener",
                   (unsigned long long)status);
    }
    asker->seen_count = false;
    asker->line_size = 0;
    asker->tail_size = 0;
    asker->refused |= !right;
    bool head_only = strncmp(question->text, "HEAD", 4) == 0;
    if (!head_only && framing == BODY_NONE && status == 200) {
        framing = BODY_CLOSE;
    }
    reader_body(&asker->reader, head_only ? BODY_NONE : framing, length);
}

/* The answer is whole. */
static void judge_answer(struct asker *asker)
{
    const struct question *question = current(asker);
    uint64_t status = digits_at(reader_first_line(&asker->reader), 9);
    if (status == 200 && question->body == BODY_RECENT &&
        !ends_with(asker, "{\"kind\":\"end\"}\n")) {
        run_failed("/recent is cut short");
    }
    if (status == 200 && question->body == BODY_METRICS &&
        (!asker->seen_count || !ends_with(asker, "\n"))) {
        run_failed("/metrics is cut short");
    }
    asker->answers++;
    asker->answered++;
    reader_reset(&asker->reader);
}

static void say(struct asker *asker)
{
    while (asker->asked < asker->ask_count &&
           (asker->pipelines || asker->asked == asker->answered)) {
        const struct question *question = asker->asks[asker->asked++];
        if (asker->asked == asker->answered + 1) {
            asker->floor = *asker->view->counted;
        }
        wire_printf(&asker->wire, "%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", question->text,
                    question->host,
                    asker->asked == asker->ask_count ? "Connection: close\r\n" : "");
    }
    (void)wire_pump(&asker->wire, SIZE_MAX);
}

/*
 * A connection that should have been answered and was not. One call that fails costs one of them,
 * trouble that lasts those of its time; where nothing can be accepted they wait, and none is lost.
 */
static void deviate(struct asker *asker)
{
    uint64_t over = control_fault_over();
    bool delays = over > 0 && strcmp(fault_call(), "accept") == 0;
    asker->deviations++;
    bool may =
        over > 0 && !delays && asker->began <= over && (fault_lasts() || asker->deviations == 1);
    if (asker->view->calm && !may) {
        run_failed("%u of %u questions of a calm connection were answered, the last `%s`",
                   asker->answered, asker->ask_count, asker->asks[asker->asked - 1]->text);
    }
}

static void part(struct asker *asker, bool abruptly)
{
    bool owed = asker->manner <= MANNER_SLOW && asker->answered < asker->ask_count;
    if (owed || asker->refused) {
        deviate(asker);
    }
    wire_close(&asker->wire, abruptly);
    asker->connected = false;
    asker->next = io_now(asker->io) + sim_magnitude(&asker->prng, 1, 3 * SECOND);
}

static void begin(struct asker *asker)
{
    asker->manner = asker->polite || sim_chance(&asker->prng, 500)
                        ? MANNER_POLITE
                        : (enum manner)prng_below(&asker->prng, MANNER_COUNT);
    asker->began = io_now(asker->io);
    asker->pipelines = sim_chance(&asker->prng, 300);
    asker->asked = 0;
    asker->answered = 0;
    asker->refused = false;
    asker->ask_count = (uint32_t)sim_between(&asker->prng, 1, ASKS_MAX);
    for (uint32_t i = 0; i < asker->ask_count; i++) {
        /* The last row is refused, so nothing follows it. */
        uint32_t most = i + 1 < asker->ask_count ? QUESTION_COUNT - 1 : QUESTION_COUNT;
        asker->asks[i] = &QUESTIONS[prng_below(&asker->prng, most)];
    }
    reader_reset(&asker->reader);
    asker->connected = wire_connect(&asker->wire, &asker->address);
    asker->read_at = asker->manner == MANNER_SLOW ? asker->began : UINT64_MAX;
    if (asker->connected && asker->manner == MANNER_HALF) {
        wire_printf(&asker->wire, "GET /metrics HTTP/1.1\r\nHost: loc");
    }
    if (!asker->connected) {
        part(asker, false);
    }
}

/* Reads what there is, at most a bite of it; false: the connection has ended. */
static bool hear(struct asker *asker)
{
    bool slow = asker->manner == MANNER_SLOW;
    size_t size = slow ? SLOW_BITE : BITE;
    if (slow && io_now(asker->io) < asker->read_at) {
        return true;
    }
    asker->read_at = slow ? io_now(asker->io) + SLOW_PAUSE : UINT64_MAX;
    size_t got = 0;
    enum status status = wire_read(&asker->wire, asker->bytes, size, &got);
    if (status == AGAIN) {
        return true;
    }
    if (status != OK) {
        reader_end(&asker->reader);
        if (asker->reader.state == READER_DONE) {
            judge_answer(asker);
        }
        return false;
    }
    for (size_t done = 0; done < got;) {
        struct span body = SPAN_EMPTY;
        if (asker->answered == asker->ask_count) {
            run_failed("there is something behind the last answer");
        }
        done += reader_feed(&asker->reader, asker->bytes + done, got - done, &body);
        take_body(asker, current(asker), body);
        if (asker->reader.state == READER_BAD) {
            run_failed("an answer is malformed");
        }
        if (asker->reader.state == READER_HEAD_READY) {
            judge_head(asker);
        }
        if (asker->reader.state == READER_DONE) {
            judge_answer(asker);
        }
    }
    if (!slow) {
        io_requeue(asker->io, &asker->wire.socket);
    }
    return true;
}

static void go_on(struct asker *asker)
{
    if (asker->manner == MANNER_HALF) {
        (void)wire_pump(&asker->wire, SIZE_MAX);
    }
    if (asker->manner != MANNER_SILENT && asker->manner != MANNER_HALF) {
        say(asker);
    }
    if (asker->manner == MANNER_ABRUPT && wire_unsent(&asker->wire) == 0) {
        part(asker, true);
        return;
    }
    if (asker->manner == MANNER_DEAF || asker->manner == MANNER_ABRUPT) {
        return;
    }
    if (asker->manner == MANNER_SILENT || asker->manner == MANNER_HALF) {
        asker->ask_count = 1; /* a refusal may come */
        asker->asks[0] = &QUESTIONS[QUESTION_COUNT - 1];
        size_t got = 0;
        if (wire_read(&asker->wire, asker->bytes, BITE, &got) > AGAIN) {
            part(asker, false);
        }
        return;
    }
    if (!hear(asker)) {
        part(asker, false);
    }
}

static uint64_t next_look(const struct asker *asker)
{
    uint64_t now = sim_now(asker->view->sim);
    uint64_t patience = asker->began + PATIENCE;
    if (asker->connected) {
        return asker->read_at < patience ? asker->read_at : patience;
    }
    uint64_t glance = now + SECOND; /* it may be told to go on */
    return asker->next < asker->until && asker->next < glance ? asker->next : glance;
}

static void turn(void *context)
{
    struct asker *asker = context;
    io_wait(asker->io, next_look(asker));
    while (io_next_ready(asker->io) != NULL) {
    }
    uint64_t now = io_now(asker->io);
    if (!asker->connected) {
        if (now >= asker->next && now < asker->until) {
            begin(asker);
        }
        return;
    }
    if (wire_is_connected(&asker->wire)) {
        go_on(asker);
    }
    if (asker->connected && (asker->wire.failed || now >= asker->began + PATIENCE)) {
        part(asker, false);
    }
}

struct asker *asker_create(const struct control_view *view, uint32_t index,
                           const struct address *address, bool control)
{
    static const char *const names[] = {"asker0", "asker1", "asker2", "asker3"};
    struct asker *asker = calloc(1, sizeof(*asker));
    ASSERT(asker != NULL && index < sizeof(names) / sizeof(names[0]));
    asker->view = view;
    asker->io = sim_node_create(view->sim, names[index]);
    asker->address = *address;
    asker->control = control;
    prng_init(&asker->prng, prng_next(view->prng));
    wire_init(&asker->wire, asker->io);
    sim_node_run(asker->io, turn, asker);
    return asker;
}

void asker_ask_until(struct asker *asker, uint64_t until, bool polite)
{
    asker->until = until;
    asker->polite = polite;
    asker->next = sim_now(asker->view->sim) + sim_magnitude(&asker->prng, 1, SECOND);
}

bool asker_is_finished(const struct asker *asker)
{
    return !asker->connected;
}

uint32_t asker_answers(const struct asker *asker)
{
    return asker->answers;
}

void asker_destroy(struct asker *asker)
{
    wire_deinit(&asker->wire);
    free(asker);
}
