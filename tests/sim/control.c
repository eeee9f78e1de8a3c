#include "control.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "compiled.h"
#include "control/admin.h"
#include "control/controller.h"
#include "fault.h"
#include "observe/ledger.h"

enum {
    WORKERS = 2,
    ASKERS = 4,
    BUSY_TIME = 25 * SECOND,
    SETTLE_TIME = 35 * SECOND,
    PROBE_TIME = 10 * SECOND,
    DRAIN_TIME = 30 * SECOND,
    SLICE = SECOND / 4,
    STEPS_MAX = 2000 * 1000,
    TRIES_MAX = 500, /* of a call that fails, in TROUBLE_LASTS */
    /* Between the ends of two checks, jitter and rounding included. */
    CHECK_GAP_MAX = CHECK_INTERVAL * 11 / 10 + CHECK_TIMEOUT + SECOND / 10,
};

static const char CONFIG[] =
    "server {\n workers 2\n admin { address \"127.0.0.1:9090\"; }\n}\n"
    "observability { flight-recorder 64; }\n"
    "listener \"http\" { address \"127.0.0.1:8080\"; }\n"
    "upstream \"asked\" {\n target \"10.2.0.1:80\"\n target \"10.2.0.2:80\"\n health-check {\n"
    "  type \"http\" path=\"/health?deep=1\"\n  interval 5s\n  timeout 2s\n"
    "  healthy-threshold 2\n  unhealthy-threshold 3\n }\n}\n"
    "upstream \"touched\" {\n target \"10.2.0.3:80\"\n health-check {\n type \"tcp\"\n"
    "  interval 5s\n  timeout 2s\n  healthy-threshold 2\n  unhealthy-threshold 3\n }\n}\n"
    "upstream \"called\" {\n target \"10.2.0.4:80\"\n protocol \"grpc\"\n health-check {\n"
    "  type \"grpc\" service=\"a.B\"\n  interval 5s\n  timeout 2s\n"
    "  healthy-threshold 2\n  unhealthy-threshold 3\n }\n}\n"
    "route \"a\" {\n match path-prefix=\"/\"\n upstream \"asked\"\n}\n"
    "route \"b\" {\n match path-prefix=\"/b\"\n upstream \"touched\"\n}\n"
    "route \"c\" {\n match path-prefix=\"/c\"\n upstream \"called\"\n}\n";

/* What the test holds of an endpoint, from the outcomes alone. */
struct judged {
    uint64_t outcomes[METRICS_RESULT_COUNT];
    enum health_state state;
    unsigned streak;
    enum health_state told;
    uint64_t ended; /* its last check */
};

/* A worker process, as far as the controller sees it: what it counts and what it is doing. */
struct staged_worker {
    uint64_t incarnation; /* 0: none lives */
    void *cells;
    void *flight_memory;
    struct metrics metrics;
};

struct control {
    struct control_view view;
    struct sim *sim;
    struct prng prng;
    void *arena_memory;
    struct generation generation;
    struct io *io;
    struct controller *controller;
    int admin;
    int control;
    void *words;
    void *own;
    void *ledger_memory;
    struct ledger ledger;
    struct metrics_layout layout;
    uint64_t counted;
    uint64_t next_incarnation;
    uint64_t crashes;
    struct judged judged[CHECKED_MAX];
    struct staged_worker workers[WORKERS];
    struct checked *origins[CHECKED_MAX];
    struct asker *askers[ASKERS];
};

/* When something was made to fail, for the actors and for the call that is to go on failing. */
static struct {
    struct sim *sim;
    uint64_t over;  /* 0: not known */
    unsigned tries; /* of the call that goes on failing */
} trouble;

uint64_t control_fault_over(void)
{
    if (fault_has_struck() && trouble.over == 0) {
        bool checks = strcmp(fault_call(), "connect") == 0; /* longer than makes a verdict */
        uint64_t lasts = checks ? 4 * (uint64_t)CHECK_INTERVAL : (uint64_t)TROUBLE_LASTS;
        trouble.over = sim_now(trouble.sim) + (fault_lasts() ? lasts : 0);
    }
    return trouble.over;
}

static bool call_fails(const char *call)
{
    if (fault_strikes(call)) {
        return true;
    }
    if (!fault_is_at_work() || control_fault_over() <= sim_now(trouble.sim) ||
        strcmp(call, fault_call()) != 0) {
        return false;
    }
    if (++trouble.tries > TRIES_MAX) {
        run_failed("%s fails, and is tried over and over again", call);
    }
    return true;
}

static void *region(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    ASSERT(memory != NULL);
    memset(memory, 0, size);
    return memory;
}

/* ---- Health: what the controller says against what it saw ---- */

/* The thresholds once more, written apart from health_judge_note. */
static void judge_outcome(struct judged *judged, bool success)
{
    bool first = judged->state == HEALTH_UNKNOWN;
    bool changes = first ? true : success != (judged->state == HEALTH_UP);
    judged->streak = changes ? judged->streak + 1 : 0;
    unsigned needed = !success ? CHECK_FALL : first ? 1 : CHECK_RISE;
    if (judged->streak >= needed) {
        judged->state = success ? HEALTH_UP : HEALTH_DOWN;
        judged->streak = 0;
    }
}

static void look_at_endpoint(struct control *control, uint32_t endpoint)
{
    struct judged *judged = &control->judged[endpoint];
    uint64_t now = sim_now(control->sim);
    for (uint32_t result = 0; result < METRICS_RESULT_COUNT; result++) {
        uint32_t cell = control->layout.offsets[METRIC_HEALTH_CHECKS] +
                        endpoint * METRICS_RESULT_COUNT + result;
        uint64_t count = metrics_cell_read(control->own, cell);
        for (; judged->outcomes[result] < count; judged->outcomes[result]++) {
            judge_outcome(judged, result == METRICS_RESULT_SUCCESS);
            judged->ended = now;
        }
    }
    struct health_view view;
    health_view_init(&view, control->words, &control->generation);
    uint32_t word = atomic_load(view.words + endpoint);
    if (word != (uint32_t)judged->state || judged->told != judged->state) {
        run_failed("endpoint %u is said to be %u and was told to be %u; its checks make it %u",
                   endpoint, word, (unsigned)judged->told, (unsigned)judged->state);
    }
    if (now > judged->ended + CHECK_GAP_MAX) {
        run_failed("endpoint %u was not checked for %llu ms", endpoint,
                   (unsigned long long)(now - judged->ended) / MILLISECOND);
    }
}

static void on_health(void *context, uint32_t endpoint, enum health_state state,
                      enum tls_detail detail)
{
    struct control *control = context;
    ASSERT(detail == TLS_DETAIL_NONE); /* nobody speaks TLS here */
    ASSERT(endpoint < CHECKED_MAX);
    control->judged[endpoint].told = state;
    if (endpoint == 0 && control->view.calm && state == HEALTH_DOWN) {
        run_failed("an endpoint that is always well is taken out");
    }
}

/* A check that could not be made has no outcome, and says nothing. */
static void on_trouble(void *context, enum controller_trouble what, int error)
{
    struct control *control = context;
    if (error == 0 || (control->view.calm && !fault_has_struck())) {
        run_failed("trouble %u is told without any: errno %d", (unsigned)what, error);
    }
    for (uint32_t i = 0; i < CHECKED_MAX && what == TROUBLE_CHECK; i++) {
        control->judged[i].ended = sim_now(control->sim);
    }
}

static void turn(void *context)
{
    struct control *control = context;
    fault_begin(FAULTS_AT_WORK);
    controller_turn(control->controller);
    fault_end();
    for (uint32_t i = 0; i < CHECKED_MAX; i++) {
        look_at_endpoint(control, i);
    }
}

/* ---- Workers ---- */

/* One request finished, one in flight. */
static void record_flight(struct control *control, struct staged_worker *worker)
{
    static const struct flight_outcome outcome = {
        .endpoint = 1, .attempts = 1, .status = 200, .total = 1500, .first_byte = 9};
    struct flight_request request = {.began = 1000000,
                                     .client = {.family = ADDRESS_IPV4, .ip = {10, 0, 0, 7}},
                                     .id = SPAN("abc"),
                                     .method = SPAN("GET"),
                                     .host = SPAN("h\"x"),
                                     .path = SPAN("/good\x01")};
    struct flight_recorder recorder;
    bool open = flight_recorder_init(&recorder, worker->flight_memory, PROCESS_WORKER,
                                     &control->generation, 1);
    ASSERT(open);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t slot = flight_begin(&recorder, &request);
        flight_step(&recorder, slot, 3, 6, 1);
        flight_describe(&recorder, slot, &request);
        if (i == 0) {
            flight_end(&recorder, slot, &outcome);
        }
    }
    flight_recorder_deinit(&recorder);
}

static struct segment_identity identity_of(const struct control *control, uint32_t index)
{
    return (struct segment_identity){PROCESS_WORKER, index, control->workers[index].incarnation};
}

static void begin_worker(struct control *control, uint32_t index)
{
    struct staged_worker *worker = &control->workers[index];
    worker->incarnation = ++control->next_incarnation;
    worker->cells = region(metrics_size(&control->generation));
    worker->flight_memory = region(flight_size(PROCESS_WORKER, &control->generation));
    metrics_init(&worker->metrics, worker->cells, &control->generation);
    metrics_add(&worker->metrics, METRIC_WORKERS, 1);
    record_flight(control, worker);
    struct segment_identity identity = identity_of(control, index);
    fault_begin(FAULTS_AT_WORK);
    controller_set_process(control->controller, &identity, worker->cells);
    controller_set_flight(control->controller, &identity, 42, worker->flight_memory);
    fault_end();
}

/* As the supervisor does (the ledger first), and then the controller's shell. */
static void end_worker(struct control *control, uint32_t index, bool crashes)
{
    struct staged_worker *worker = &control->workers[index];
    if (worker->incarnation == 0) {
        return;
    }
    struct segment_identity identity = identity_of(control, index);
    ledger_fold(&control->ledger, &identity, worker->cells);
    fault_begin(FAULTS_AT_WORK);
    if (crashes) {
        const struct crash_report *report = controller_report_crash(
            control->controller, &identity, 42, worker->flight_memory, SIGSEGV);
        char line[CRASH_LINE_MAX];
        uint32_t lines = 0;
        while (crash_report_line(report, &control->generation, lines, line)) {
            lines++;
        }
        control->crashes++;
        if (lines < 2 || report->number != control->crashes || report->in_flight != 1) {
            run_failed("the report of a crash has %u lines, number %llu, %llu in flight", lines,
                       (unsigned long long)report->number, (unsigned long long)report->in_flight);
        }
    }
    controller_set_process(control->controller, &identity, NULL);
    controller_set_flight(control->controller, &identity, 0, NULL);
    fault_end();
    worker->incarnation = 0;
    free(worker->cells);
    free(worker->flight_memory);
}

/* Between two slices of time: somebody counts, dies, is replaced. */
static void stir(struct control *control)
{
    uint32_t index = prng_below(&control->prng, WORKERS);
    struct staged_worker *worker = &control->workers[index];
    if (worker->incarnation == 0) {
        begin_worker(control, index);
    } else if (sim_chance(&control->prng, 100)) {
        end_worker(control, index, sim_chance(&control->prng, 700));
    } else {
        uint64_t more = prng_below(&control->prng, 1000);
        control->counted += more;
        metrics_add(&worker->metrics, METRIC_ACCESS_LOG_DROPS, more);
    }
}

/* ---- The run ---- */

static void pass(struct control *control, uint64_t time, bool stirs)
{
    uint64_t end = sim_now(control->sim) + time;
    while (sim_now(control->sim) < end) {
        if (!sim_run(control->sim, sim_now(control->sim) + SLICE, STEPS_MAX)) {
            run_failed("the controller runs in circles");
        }
        if (stirs) {
            stir(control);
        }
    }
}

static void set_network(struct control *control, struct sim_options *options)
{
    control->view.calm = sim_chance(&control->prng, 600);
    control->view.rude = sim_chance(&control->prng, 500);
    bool narrow = sim_chance(&control->prng, 300) && !fault_is_watching();
    options->buffer_min = narrow ? 1 : options->buffer_min;
    options->segment_min = narrow ? 1 : options->segment_min;
    options->short_write = prng_below(&control->prng, 300);
    options->spurious = prng_below(&control->prng, 100);
    options->late_writable = prng_below(&control->prng, 200);
    options->connect_instant = prng_below(&control->prng, 300);
    options->clock_jump = prng_below(&control->prng, 100);
    options->fault = call_fails;
    options->fault_error = control->view.calm ? EMFILE : 0;
    if (!control->view.calm) {
        options->call_error = prng_below(&control->prng, 50);
        options->accept_error = prng_below(&control->prng, 200);
        options->connect_error = prng_below(&control->prng, 100);
        options->connect_refused = prng_below(&control->prng, 100);
        options->connect_blackhole = prng_below(&control->prng, 100);
        options->reset = prng_below(&control->prng, 200);
        options->stall = prng_below(&control->prng, 100);
        options->trouble_within = SECOND;
    }
}

static void open_controller(struct control *control)
{
    struct controller_options options = {
        .io = control->io,
        .generation = &control->generation,
        .admin = control->admin,
        .control = control->control,
        .health = control->words,
        .metrics = control->own,
        .ledger = control->ledger_memory,
        .on_health = on_health,
        .health_context = control,
        .on_trouble = on_trouble,
        .trouble_context = control,
    };
    errno = 0;
    fault_begin(FAULTS_AT_START);
    control->controller = controller_create(&options);
    fault_end();
    if (control->controller != NULL) {
        sim_node_run(control->io, turn, control);
        return;
    }
    if (errno == 0) {
        run_failed("the controller does not start, and cannot say why");
    }
}

static struct control *open_run(uint64_t seed, FILE *trace)
{
    static const struct address ADMIN = {.family = ADDRESS_IPV4, .port = 9090, .ip = {10, 1, 0, 1}};
    static const struct address SOCKET = {
        .family = ADDRESS_IPV4, .port = 9091, .ip = {10, 1, 0, 1}};
    struct control *control = calloc(1, sizeof(*control));
    ASSERT(control != NULL);
    prng_init(&control->prng, seed);
    struct sim_options options = sim_options_quiet();
    options.trace = trace;
    set_network(control, &options);
    control->sim = sim_create(seed, &options);
    trouble.sim = control->sim;
    control->view.sim = control->sim;
    control->view.prng = &control->prng;
    control->view.counted = &control->counted;
    control->arena_memory = compiled_open(&control->generation, span_of_string(CONFIG));
    control->words = region(health_size(&control->generation));
    control->own = region(metrics_size(&control->generation));
    metrics_layout_init(&control->layout, &control->generation);
    control->ledger_memory = region(ledger_size(&control->generation));
    ledger_init(&control->ledger, control->ledger_memory, &control->generation);
    control->io = sim_node_create(control->sim, "controller");
    control->admin = sim_listen(control->sim, &ADMIN);
    control->control = sim_listen(control->sim, &SOCKET);
    for (uint32_t i = 0; i < CHECKED_MAX; i++) {
        control->origins[i] = checked_create(&control->view, i);
        control->judged[i].ended = sim_now(control->sim); /* the first one begins at once */
    }
    for (uint32_t i = 0; i < ASKERS; i++) {
        bool asks_control = i % 2 == 1;
        control->askers[i] =
            asker_create(&control->view, i, asks_control ? &SOCKET : &ADMIN, asks_control);
    }
    open_controller(control);
    return control;
}

static void close_run(struct control *control)
{
    controller_destroy(control->controller);
    if (sim_node_sockets(control->io) != 0) {
        run_failed("%u sockets outlive the controller", sim_node_sockets(control->io));
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        if (control->workers[i].incarnation != 0) {
            free(control->workers[i].cells);
            free(control->workers[i].flight_memory);
        }
    }
    for (uint32_t i = 0; i < CHECKED_MAX; i++) {
        checked_destroy(control->origins[i]);
    }
    for (uint32_t i = 0; i < ASKERS; i++) {
        asker_destroy(control->askers[i]);
    }
    sim_destroy(control->sim);
    free(control->words);
    free(control->own);
    free(control->ledger_memory);
    free(control->arena_memory);
    free(control);
}

/* All have gone: what is open now is at most a check of each endpoint. */
static void check_idle(const struct control *control)
{
    uint32_t cell = control->layout.offsets[METRIC_LIMIT_UTILIZATION] + LIMIT_ADMIN_CONNECTIONS;
    uint64_t used = metrics_cell_read(control->own, cell);
    if (used != 0 || sim_node_sockets(control->io) > CHECKED_MAX) {
        run_failed("nobody asks, and %u sockets are open; admin-connections stands at %llu ppm",
                   sim_node_sockets(control->io), (unsigned long long)used);
    }
    for (uint32_t i = 0; i < CHECKED_MAX; i++) {
        if (control->view.calm && control->judged[i].state != HEALTH_UP) {
            run_failed("endpoint %u is well for long and still not up", i);
        }
    }
}

/* Whatever has happened: who asks now is answered. */
static void probe(struct control *control)
{
    uint32_t before[ASKERS];
    for (uint32_t i = 0; i < ASKERS; i++) {
        before[i] = asker_answers(control->askers[i]);
        asker_ask_until(control->askers[i], sim_now(control->sim) + PROBE_TIME, true);
    }
    pass(control, PROBE_TIME, true);
    for (uint32_t i = 0; i < ASKERS; i++) {
        if (control->view.calm && asker_answers(control->askers[i]) == before[i]) {
            run_failed("asker %u is not answered any more", i);
        }
    }
}

void control_run(uint64_t seed, FILE *trace)
{
    trouble.over = 0;
    struct control *control = open_run(seed, trace);
    if (control->controller == NULL) {
        close_run(control);
        fault_refused_start();
    }
    for (uint32_t i = 0; i < ASKERS; i++) {
        asker_ask_until(control->askers[i], sim_now(control->sim) + BUSY_TIME, !control->view.rude);
    }
    pass(control, BUSY_TIME, true);
    pass(control, SETTLE_TIME, false);
    check_idle(control);
    probe(control);
    controller_drain(control->controller);
    pass(control, DRAIN_TIME, false);
    check_idle(control);
    if (trace != NULL) {
        (void)fprintf(trace, "%llu steps, hash %016llx\n",
                      (unsigned long long)sim_steps(control->sim),
                      (unsigned long long)sim_trace_hash(control->sim));
    }
    close_run(control);
}
