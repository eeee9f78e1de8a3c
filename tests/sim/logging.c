/*
 * The logger's scenario: the real logger between rings that workers fill, die over and are
 * replaced, and outputs that are full, stand still and are rotated away. What must hold at the end:
 *
 *  - each record that a ring took is in an output, whole and once, or counted as lost; the records
 *    of a worker are in their order; no line is torn, but for the last one of a file that was
 *    rotated away;
 *  - what was lost, and that an output was broken, was said on the operator's log;
 *  - nothing blocked, no call took longer than it may; the logger closes its outputs, once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/prng.h"
#include "compiled.h"
#include "control/logger.h"
#include "fault.h"
#include "io/sim.h"
#include "observe/access_log.h"
#include "observe/ring.h"
#include "outputs.h"
#include "reader.h"

enum {
    WORKERS = 2,
    BUSY_TIME = 6 * SECOND,
    BUSY_TIME_SWEPT = 2 * SECOND,
    CALM_TIME = 5 * SECOND,   /* longer than a fault lasts */
    TURN_MAX = SECOND / 2,    /* of a turn, or of a ring that is retired */
    QUIET_TIME = 61 * SECOND, /* until the same may be said again */
    FLUSH_MS = 60 * 1000,     /* the slowest reader takes full rings in 32 s */
    HEAD_SIZE = 25,           /* of a line: worker, number, size */
};

static const char CONFIG[] = "server {\n workers 2\n}\n";

struct logged_worker {
    void *ring; /* NULL: none lives */
    struct ring_writer writer;
    uint32_t next; /* number of its next line */
    uint32_t seen; /* lines up to this number were found */
};

struct logging {
    struct prng prng;
    void *arena_memory;
    struct generation generation;
    void *cursors;
    uint64_t incarnation;
    uint64_t accepted;
    uint64_t refused;
    uint64_t whole;
    uint64_t busy_until;
    uint32_t current; /* output */
    struct logger *logger;
    struct logged_worker workers[WORKERS];
    char line[ACCESS_LINE_MAX];
};

static void *region(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    ASSERT(memory != NULL);
    memset(memory, 0, size);
    return memory;
}

static void enter(enum fault_stage stage)
{
    outputs_attend(true);
    fault_begin(stage);
}

static void leave(void)
{
    fault_end();
    outputs_attend(false);
}

/* ---- Workers ---- */

static void put_line(struct logging *logging, uint32_t index)
{
    struct logged_worker *worker = &logging->workers[index];
    bool long_one = sim_chance(&logging->prng, 30);
    size_t size =
        (size_t)sim_magnitude(&logging->prng, HEAD_SIZE + 1, long_one ? ACCESS_LINE_MAX : 900);
    int head = snprintf(logging->line, sizeof(logging->line), "w%u n%010u s%08zu", index,
                        worker->next, size);
    ASSERT(head == HEAD_SIZE - 1);
    memset(logging->line + head, '.', size - (size_t)head - 1);
    logging->line[size - 1] = '\n';
    worker->next++;
    if (ring_write(&worker->writer, span_of(logging->line, size))) {
        logging->accepted++;
    } else {
        logging->refused++;
    }
}

static void open_ring(struct logging *logging, uint32_t index)
{
    struct logged_worker *worker = &logging->workers[index];
    worker->ring = region(ring_size(RING_CAPACITY_DEFAULT));
    ring_writer_init(&worker->writer, worker->ring, RING_CAPACITY_DEFAULT, ++logging->incarnation);
    ring_writer_attach(&worker->writer, logger_cursor(logging->cursors, index));
}

/* The worker's end, its replacement, or both at once: then the old memory is gone. */
static void replace_ring(struct logging *logging, uint32_t index)
{
    struct logged_worker *worker = &logging->workers[index];
    void *old = worker->ring;
    worker->ring = NULL;
    if (old == NULL || sim_chance(&logging->prng, 500)) {
        open_ring(logging, index);
    }
    uint64_t began = outputs_now();
    enter(FAULTS_AT_WORK);
    logger_set_ring(logging->logger, index, worker->ring);
    leave();
    if (outputs_now() - began > TURN_MAX) {
        run_failed("a ring took %llu ms to be let go",
                   (unsigned long long)(outputs_now() - began) / MILLISECOND);
    }
    free(old);
}

/* ---- Outputs ---- */

static uint32_t add_output(struct logging *logging)
{
    struct prng *prng = &logging->prng;
    struct output_options options = {
        .pipe = sim_chance(prng, 500),
        .blocking = sim_chance(prng, 500),
        .rate = sim_magnitude(prng, 64 * 1024, 64 * 1024 * 1024),
    };
    if (sim_chance(prng, 600)) {
        options.outage_from = outputs_now() + sim_magnitude(prng, 1, 2 * SECOND);
        options.outage_until = options.outage_from + sim_magnitude(prng, 1, 4 * SECOND);
    }
    if (options.outage_until > logging->busy_until) {
        options.outage_until = logging->busy_until;
    }
    return outputs_add(&options);
}

/* Another file, or the same one opened anew. */
static void rotate(struct logging *logging)
{
    if (outputs_count() + 2 >= OUTPUTS_MAX) {
        return;
    }
    if (sim_chance(&logging->prng, 600)) {
        logging->current = add_output(logging);
    }
    int handle = outputs_open(logging->current);
    enter(FAULTS_AT_WORK);
    logger_set_output(logging->logger, handle);
    leave();
}

/* ---- The run ---- */

static void take_turn(struct logging *logging)
{
    uint64_t began = outputs_now();
    enter(FAULTS_AT_WORK);
    int sleep_ms = logger_turn(logging->logger);
    leave();
    uint64_t took = outputs_now() - began;
    if (sleep_ms < 0 || sleep_ms > LOGGER_SLEEP_MAX_MS || took > TURN_MAX) {
        run_failed("a turn takes %llu ms and wants to sleep for %d",
                   (unsigned long long)(took / MILLISECOND), sleep_ms);
    }
    outputs_wait((uint64_t)sleep_ms * MILLISECOND);
}

static void stir(struct logging *logging)
{
    uint32_t index = prng_below(&logging->prng, WORKERS);
    if (sim_chance(&logging->prng, 60)) {
        replace_ring(logging, index);
    }
    if (sim_chance(&logging->prng, 60)) {
        rotate(logging);
    }
    if (logging->workers[index].ring == NULL) {
        return;
    }
    uint64_t most = sim_chance(&logging->prng, 20) ? 6000 : 60;
    uint64_t count = sim_magnitude(&logging->prng, 1, most);
    for (uint64_t i = 0; i < count; i++) {
        put_line(logging, index);
    }
}

static void pass(struct logging *logging, uint64_t time, bool stirs)
{
    uint64_t end = outputs_now() + time;
    while (outputs_now() < end) {
        take_turn(logging);
        outputs_wait(100);
        if (stirs) {
            stir(logging);
        }
    }
}

/* ---- What must hold ---- */

/* A whole line that a worker wrote, behind those that it wrote before. */
static bool take_line(struct logging *logging, struct span line)
{
    if (line.size < HEAD_SIZE - 1 || line.data[0] != 'w') {
        return false;
    }
    uint64_t index = digits_at(line, 1);
    uint64_t number = digits_at(line, 4);
    if (digits_at(line, 16) != line.size + 1 || index >= WORKERS ||
        number < logging->workers[index].seen || number >= logging->workers[index].next) {
        return false;
    }
    logging->workers[index].seen = (uint32_t)number + 1;
    logging->whole++;
    return true;
}

static void check_output(struct logging *logging, uint32_t index)
{
    struct span rest = outputs_content(index);
    while (rest.size > 0) {
        size_t end = span_find(rest, '\n');
        if (end == rest.size && index != logging->current) {
            return; /* the stump of a file that was rotated away */
        }
        struct span line = span_first(rest, end);
        if (end == rest.size || !take_line(logging, line)) {
            run_failed("output %u has a line that is torn, or out of its order: `%.*s`", index,
                       (int)(line.size < HEAD_SIZE ? line.size : HEAD_SIZE),
                       (const char *)line.data);
        }
        rest = span_from(rest, end + 1);
    }
}

static void check_losses(const struct logging *logging)
{
    uint64_t lost = logger_lost(logging->logger);
    if (logging->whole + lost != logging->accepted) {
        run_failed("%llu records were taken; %llu are written and %llu counted as lost",
                   (unsigned long long)logging->accepted, (unsigned long long)logging->whole,
                   (unsigned long long)lost);
    }
    if (fault_call() != NULL && strcmp(fault_call(), "write: standard error") == 0) {
        return; /* what could not be said was not heard */
    }
    uint64_t said = outputs_said_last("records lost, ");
    uint64_t said_later = outputs_said_last("records lost so far: ");
    said = said_later > said ? said_later : said;
    uint64_t missing = lost + logging->refused;
    if (said != missing) {
        run_failed("the operator was told of %llu lost records; they are %llu",
                   (unsigned long long)said, (unsigned long long)missing);
    }
    if (outputs_failures() > 0 && outputs_said("cannot write: ") == 0) {
        run_failed("an output broke, and the operator was not told");
    }
    if (outputs_said("writes again after") > outputs_said("cannot write: ")) {
        run_failed("an output that was not said to be broken is said to work again");
    }
}

static void check_all(struct logging *logging)
{
    enter(FAULTS_AT_WORK);
    bool flushed = logger_flush(logging->logger, FLUSH_MS);
    leave();
    if (!flushed && !fault_has_struck()) {
        run_failed("what waits cannot be written, though the output works");
    }
    pass(logging, CALM_TIME, false);
    outputs_wait(QUIET_TIME);
    take_turn(logging);
    for (uint32_t i = 0; i < outputs_count(); i++) {
        check_output(logging, i);
    }
    check_losses(logging);
}

static bool open_logger(struct logging *logging)
{
    int handle = outputs_open(logging->current);
    errno = 0;
    enter(FAULTS_AT_START);
    logging->logger = logger_create(&logging->generation, logging->cursors, handle);
    leave();
    if (logging->logger != NULL) {
        for (uint32_t i = 0; i < WORKERS; i++) {
            replace_ring(logging, i);
        }
        return true;
    }
    if (errno == 0 || outputs_open_handles() != 1) {
        run_failed("the logger does not start; errno %d, %u outputs open", errno,
                   outputs_open_handles());
    }
    return false;
}

static void close_run(struct logging *logging)
{
    enter(FAULTS_AT_WORK);
    logger_destroy(logging->logger);
    leave();
    if (logging->logger != NULL && outputs_open_handles() != 0) {
        run_failed("%u outputs are left open", outputs_open_handles());
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        free(logging->workers[i].ring);
    }
    outputs_reset();
    free(logging->cursors);
    free(logging->arena_memory);
    free(logging);
}

void logging_run(uint64_t seed, FILE *trace)
{
    struct logging *logging = calloc(1, sizeof(*logging));
    ASSERT(logging != NULL);
    prng_init(&logging->prng, seed);
    outputs_reset();
    uint64_t busy = fault_is_watching() ? BUSY_TIME_SWEPT : BUSY_TIME;
    logging->busy_until = outputs_now() + busy;
    logging->arena_memory = compiled_open(&logging->generation, span_of_string(CONFIG));
    logging->cursors = region(logger_cursors_size(&logging->generation));
    logging->current = add_output(logging);
    if (!open_logger(logging)) {
        close_run(logging);
        fault_refused_start();
    }
    pass(logging, busy, true);
    pass(logging, CALM_TIME, false);
    check_all(logging);
    if (trace != NULL) {
        (void)fprintf(
            trace, "%llu records taken, %llu refused, %llu lost, %u outputs, %u failures\n",
            (unsigned long long)logging->accepted, (unsigned long long)logging->refused,
            (unsigned long long)logger_lost(logging->logger), outputs_count(), outputs_failures());
    }
    close_run(logging);
}
