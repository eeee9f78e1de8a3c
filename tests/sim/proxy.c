/*
 * The workers of a run, as their processes would hold them: the real compiler's generation, metrics
 * and access-log rings of their own, a shared listener. Stands in for supervisor and logger.
 */
#include <stdlib.h>
#include <string.h>

#include "balancer.h"
#include "base/assert.h"
#include "compiled.h"
#include "fault.h"
#include "observe/access_log.h"
#include "observe/commons.h"
#include "observe/flight_recorder.h"
#include "observe/health.h"
#include "proxy/worker.h"
#include "secure.h"
#include "world.h"

enum {
    SHUTDOWN_TIMEOUT = 8 * SECOND,
    TURN_SLACK = 2 * SECOND,
    TURNS_FREE = 2000, /* of a worker, between two looks */
    TURNS_FOR_STEP = 4,
};

struct proxy_worker {
    struct proxy *proxy;
    struct io *io;
    struct worker *worker; /* NULL: killed */
    struct metrics metrics;
    struct access_log log;
    struct flight_recorder flight;
    struct ring_reader reader;
    _Atomic uint64_t cursor;
    void *cells;
    void *ring;
    void *board;
    void *flight_memory;
    uint64_t turns; /* since the last look */
};

struct proxy {
    struct world *world;
    void *arena_memory;
    struct generation generation;
    int listener;
    struct health_view health;
    uint64_t trouble_at; /* of the drain or the kills */
    bool draining;
    bool hurt;
    uint32_t count;
    const void *boards[WORKERS_MAX]; /* NULL: killed */
    struct client_counts observer;   /* a worker without clients: reads all boards */
    void *observer_board;
    void *commons;
    uint64_t began;
    uint64_t steps;               /* of the simulator, at the last look at the turns */
    uint64_t last;                /* when a record was read */
    uint32_t let_in[CLIENTS_MAX]; /* requests of each host that the rate let in */
    uint32_t bad_headers;         /* records of them */
    uint32_t late_headers;
    uint32_t told[SECURE_KINDS]; /* records of handshakes that failed, by what should do so */
    uint32_t turned_away;        /* for want of room among handshakes */
    uint32_t starved;            /* for want of memory */
    struct proxy_worker workers[WORKERS_MAX];
};

static void print_http2_limits(const struct multi_habits *habits, FILE *stream)
{
    if (habits->clients == 0 && !habits->origins) {
        return;
    }
    if (habits->pool > 0) {
        (void)fprintf(stream, " http2-pool %lluB;", (unsigned long long)habits->pool);
    }
    (void)fprintf(stream, " http2-streams %u; http2-window %uB; http2-glitches %u;",
                  habits->streams_max, habits->window, habits->glitches);
}

static void print_balancers(const struct habits *habits, FILE *stream)
{
    (void)fputs(" proxy-protocol { from", stream);
    for (uint32_t i = 0; i < habits->hosts; i++) {
        char text[ADDRESS_TEXT_MAX];
        struct address address = client_host(i);
        (void)address_print_host(&address, text);
        if (host_is_balancer(i)) {
            (void)fprintf(stream, " \"%s/32\"", text);
        }
    }
    (void)fputs("; };", stream);
}

static void print_tls(const struct secure_habits *habits, FILE *stream)
{
    bool http1 = (habits->protocols & 1U << SECURE_HTTP1) != 0;
    bool http2 = (habits->protocols & 1U << SECURE_HTTP2) != 0;
    (void)fprintf(stream, " protocol \"https\"; tls {");
    (void)fprintf(stream, " alpn%s%s;", http2 ? " \"h2\"" : "", http1 ? " \"http/1.1\"" : "");
    if (habits->has_default) {
        (void)fprintf(stream, " certificate \"sim.pem\";");
    }
    (void)fprintf(stream, "\n host \"sim.test\" { certificate \"sim.pem\"; }"
                          "\n host \"other.test\" { certificate \"other.pem\"; }"
                          "\n host \"*.wild.test\" { certificate \"wild.pem\"; }\n };");
}

static void print_listener(const struct habits *habits, FILE *stream)
{
    (void)fprintf(stream, "listener \"http\" {\n address \"10.1.0.1:8080\";");
    if (habits->secure.on) {
        print_tls(&habits->secure, stream);
    } else {
        (void)fprintf(stream, " h2c %s;", habits->multi.clients > 0 ? "true" : "false");
    }
    if (habits->proxied.on) {
        print_balancers(habits, stream);
    }
    (void)fputs("\n}\n", stream);
}

static void print_config(const struct habits *habits, FILE *stream)
{
    (void)fprintf(stream,
                  "server {\n workers %u\n max-connections %u\n graceful-shutdown-timeout %us\n"
                  " admin { address \"off\"; }\n"
                  " limits { connections-per-client %u; max-requests %u;"
                  " max-upstream-connections %u; buffer-pool %lluB; splice-pipes %u;",
                  habits->workers, habits->connections_max, SHUTDOWN_TIMEOUT / SECOND,
                  habits->connections_per_client, habits->requests_max,
                  habits->upstream_connections_max, (unsigned long long)habits->buffer_pool,
                  habits->splice_pipes);
    (void)fprintf(stream, " hold-pool %lluB;", (unsigned long long)habits->hold_pool);
    if (habits->request_rate > 0) {
        (void)fprintf(stream, " request-rate-per-client %u burst=%u;", habits->request_rate,
                      habits->request_burst);
    }
    print_http2_limits(&habits->multi, stream);
    if (habits->secure.on) {
        (void)fprintf(stream, " max-handshakes %u;", habits->secure.handshakes);
    }
    (void)fprintf(stream,
                  " }\n timeouts { tunnel-idle 20s; tunnel-half-closed 10s; proxy-header %us;"
                  " tls-handshake %us; }\n}\n",
                  HEADER_TIMEOUT / SECOND, HANDSHAKE_TIMEOUT / SECOND);
    if (habits->multi.calls > 0) {
        (void)fputs(
            "observability { access-log \"stdout\" { fields \"client\" \"route\" \"method\""
            " \"path\" \"status\" \"reason\" \"bytes_out\" \"total_ms\" \"grpc_status\" } }\n",
            stream);
    }
    print_listener(habits, stream);
    (void)fprintf(stream, "upstream \"origins\" {\n http-version \"%s\"\n",
                  habits->multi.origins ? "2" : "1");
    for (uint32_t i = 0; i < habits->origins; i++) {
        (void)fprintf(stream, " target \"10.2.0.%u:80\"\n", i + 1);
    }
    (void)fprintf(
        stream,
        "}\nroute \"all\" {\n match path-prefix=\"/\"\n upstream \"origins\"\n"
        "%s policies { timeout %llums; max-body-size 0; retry-policy { max-attempts %u; };"
        " buffering { request %lluB; response %lluB; } }\n}\n",
        habits->multi.tunnels > 0 ? " upgrade \"toy\"\n" : "",
        (unsigned long long)(habits->timeout / MILLISECOND), habits->attempts,
        (unsigned long long)habits->hold_request, (unsigned long long)habits->hold_response);
    if (habits->tunnels) {
        (void)fprintf(stream,
                      "upstream \"tunnels\" { target \"10.2.0.%u:80\"; }\n"
                      "route \"tunnels\" {\n match path-prefix=\"/tunnel\"\n"
                      " upstream \"tunnels\"\n upgrade \"toy\"\n}\n",
                      ORIGINS_MAX + 1);
    }
}

static char *config_text(const struct habits *habits, size_t *size)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, size);
    ASSERT(stream != NULL);
    print_config(habits, stream);
    (void)fclose(stream);
    return text;
}

static void compile(struct proxy *proxy)
{
    size_t size = 0;
    char *text = config_text(&proxy->world->habits, &size);
    proxy->arena_memory = compiled_open(&proxy->generation, span_of(text, size));
    free(text);
}

static void worker_begin(struct proxy *proxy, uint32_t index)
{
    struct proxy_worker *slot = &proxy->workers[index];
    char name[24];
    (void)snprintf(name, sizeof(name), "worker%u", index);
    slot->io = sim_node_create(proxy->world->sim, name);
    slot->cells = calloc(1, metrics_size(&proxy->generation));
    size_t ring = access_log_size(&proxy->generation);
    slot->ring = aligned_alloc(64, ring);
    slot->board = calloc(1, client_board_size(&proxy->generation));
    ASSERT(slot->cells != NULL && slot->ring != NULL && slot->board != NULL);
    proxy->boards[index] = slot->board;
    slot->proxy = proxy;
    metrics_init(&slot->metrics, slot->cells, &proxy->generation);
    slot->flight_memory = aligned_alloc(64, flight_size(PROCESS_WORKER, &proxy->generation));
    ASSERT(slot->flight_memory != NULL);
    memset(slot->flight_memory, 0, flight_size(PROCESS_WORKER, &proxy->generation));
    bool recording = flight_recorder_init(&slot->flight, slot->flight_memory, PROCESS_WORKER,
                                          &proxy->generation, io_now(slot->io));
    ASSERT(recording);
    access_log_init(&slot->log, slot->ring, 0, &slot->metrics, &proxy->generation);
    ring_reader_init(&slot->reader, slot->ring, RING_CAPACITY_DEFAULT, &slot->cursor);
    access_log_attach(&slot->log, &slot->cursor);
    struct worker_options options = {
        .io = slot->io,
        .generation = &proxy->generation,
        .listeners = &proxy->listener,
        .metrics = &slot->metrics,
        .access_log = &slot->log,
        .flight = &slot->flight,
        .health = &proxy->health,
        .board = slot->board,
        .commons = proxy->commons,
        .client_key = proxy->observer.key,
        .peers = proxy->observer.peers,
        .index = index,
    };
    fault_begin(FAULTS_AT_START);
    slot->worker = worker_create(&options);
    fault_end();
    if (slot->worker == NULL) {
        fault_refused_start();
    }
}

static void check_client(const struct proxy *proxy, struct address client)
{
    char text[ADDRESS_TEXT_MAX];
    uint32_t most = proxy->world->habits.connections_per_client;
    uint64_t sum = client_counts_of(&proxy->observer, &client);
    if (sum > most) {
        (void)address_print_host(&client, text);
        run_failed("the client %s has %llu connections; connections-per-client is %u", text,
                   (unsigned long long)sum, most);
    }
}

/* Turns do not overlap here, so the sums over the workers never exceed the limits. */
static void check_connections(const struct proxy *proxy)
{
    const struct habits *habits = &proxy->world->habits;
    uint64_t sum = client_counts_elsewhere(&proxy->observer);
    if (sum > habits->connections_max) {
        run_failed("%llu connections are open; max-connections is %u", (unsigned long long)sum,
                   habits->connections_max);
    }
    sum = client_counts_requests_elsewhere(&proxy->observer);
    if (sum > habits->requests_max) {
        run_failed("%llu requests are in flight; max-requests is %u", (unsigned long long)sum,
                   habits->requests_max);
    }
    for (uint32_t i = 0; i < habits->hosts; i++) {
        check_client(proxy, client_host(i));
    }
    for (uint32_t i = 0; habits->proxied.on && i < NAMED_CLIENTS; i++) {
        check_client(proxy, named_client(i));
    }
}

static void observe(struct proxy *proxy)
{
    struct client_peers peers = {.boards = proxy->boards, .count = proxy->count};
    struct hash_key key;
    key.low = prng_next(&proxy->world->prng);
    key.high = prng_next(&proxy->world->prng);
    proxy->observer_board = calloc(1, client_board_size(&proxy->generation));
    ASSERT(proxy->observer_board != NULL);
    client_counts_init(&proxy->observer, &proxy->generation, proxy->observer_board, &key, &peers);
}

static void turn(void *context)
{
    struct proxy_worker *slot = context;
    fault_begin(FAULTS_AT_WORK);
    worker_turn(slot->worker);
    fault_end();
    slot->turns++;
    check_connections(slot->proxy);
}

/* A worker that has turns beyond all that happens around it is busy with nothing. */
static void check_turns(struct proxy *proxy)
{
    uint64_t steps = sim_steps(proxy->world->sim) - proxy->steps;
    proxy->steps += steps;
    for (uint32_t i = 0; i < proxy->count; i++) {
        uint64_t turns = proxy->workers[i].turns;
        if (turns > TURNS_FREE + TURNS_FOR_STEP * (steps - turns)) {
            run_failed("worker %u: %llu turns while %llu other things happened", i,
                       (unsigned long long)turns, (unsigned long long)(steps - turns));
        }
        proxy->workers[i].turns = 0;
    }
}

struct proxy *proxy_create(struct world *world)
{
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    ASSERT(proxy != NULL);
    proxy->world = world;
    proxy->began = sim_now(world->sim);
    proxy->trouble_at = sim_now(world->sim) + sim_magnitude(&world->prng, 1, 10 * SECOND);
    compile(proxy);
    proxy->listener = sim_listen(world->sim, &world->entry);
    proxy->count = world->habits.workers;
    observe(proxy);
    size_t commons = commons_size(&proxy->generation);
    proxy->commons = aligned_alloc(64, commons);
    ASSERT(proxy->commons != NULL);
    memset(proxy->commons, 0, commons);
    for (uint32_t i = 0; i < proxy->count; i++) {
        worker_begin(proxy, i);
        sim_node_run(proxy->workers[i].io, turn, &proxy->workers[i]);
    }
    return proxy;
}

void proxy_destroy(struct proxy *proxy)
{
    if (proxy == NULL) {
        return;
    }
    for (uint32_t i = 0; i < proxy->count; i++) {
        worker_destroy(proxy->workers[i].worker);
        free(proxy->workers[i].cells);
        free(proxy->workers[i].ring);
        free(proxy->workers[i].board);
        flight_recorder_deinit(&proxy->workers[i].flight);
        free(proxy->workers[i].flight_memory);
    }
    free(proxy->observer_board);
    free(proxy->commons);
    free(proxy->arena_memory);
    free(proxy);
}

/* Which host a record is of, and whether its request passed the rate. */
static void count_rate(struct proxy *proxy, struct span record)
{
    char text[ADDRESS_TEXT_MAX + 16];
    char host[ADDRESS_TEXT_MAX];
    static const char ROUTED[] = "\"route\":\"all\"";
    if (memmem(record.data, record.size, ROUTED, sizeof(ROUTED) - 1) == NULL) {
        return; /* refused, or never a whole head */
    }
    for (uint32_t i = 0; i < proxy->world->habits.hosts; i++) {
        struct address address = client_host(i);
        (void)address_print_host(&address, host);
        int size = snprintf(text, sizeof(text), "\"client\":\"%s\"", host);
        if (memmem(record.data, record.size, text, (size_t)size) != NULL) {
            proxy->let_in[i]++;
        }
    }
}

static bool has_reason(struct span record, const char *reason)
{
    char text[64];
    int size = snprintf(text, sizeof(text), "\"reason\":\"%s\"", reason);
    return memmem(record.data, record.size, text, (size_t)size) != NULL;
}

/* Where nothing else goes wrong each PROXY header that was refused has one record. */
static void check_headers(const struct proxy *proxy)
{
    const struct world *world = proxy->world;
    bool same =
        proxy->bad_headers == world->bad_headers && proxy->late_headers == world->cut_headers;
    if (world->habits.strict && !fault_has_struck() && !same) {
        run_failed("%u bad PROXY headers and %u cut ones have %u and %u records",
                   world->bad_headers, world->cut_headers, proxy->bad_headers, proxy->late_headers);
    }
}

static const struct {
    const char *reason;
    enum secure_kind kind;
    bool only; /* nothing else leads to it */
} told[] = {
    {"tls_unknown_name", SECURE_UNKNOWN_NAME, true},
    {"tls_no_alpn", SECURE_NO_PROTOCOL, true},
    {"tls_protocol", SECURE_NOISE, true},
    {"tls_refused", SECURE_ALERT, true},
    {"tls_plain_http", SECURE_PLAIN, true},
    {"tls_closed", SECURE_GONE, false},
    {"tls_handshake_timeout", SECURE_SILENT, false},
};

enum { TOLD_COUNT = sizeof(told) / sizeof(told[0]) };

static void note_handshake(struct proxy *proxy, struct span record)
{
    static const char NOTHING[] = "\"method\":null";
    /* A client of HTTP/2 may leave in the middle of its preface, which could have been a request.
     */
    bool prefaced = proxy->world->habits.multi.clients > 0;
    bool calm = proxy->world->habits.strict && !fault_has_struck() && !prefaced;
    if (calm && has_reason(record, "client_closed") &&
        memmem(record.data, record.size, NOTHING, sizeof(NOTHING) - 1) != NULL) {
        run_failed("a client that closed between requests has a record");
    }
    for (int i = 0; i < TOLD_COUNT; i++) {
        proxy->told[told[i].kind] += has_reason(record, told[i].reason);
    }
    proxy->turned_away += has_reason(record, "tls_handshakes_full");
    proxy->starved += has_reason(record, "tls_memory");
}

/* Handshakes fail for the reason that they have; where nothing else goes wrong each is told. */
static void check_handshakes(const struct proxy *proxy)
{
    const struct world *world = proxy->world;
    for (int i = 0; i < TOLD_COUNT; i++) {
        uint32_t told_times = proxy->told[told[i].kind];
        uint32_t drawn = world->secured[told[i].kind];
        bool exact = world->habits.strict && !fault_has_struck();
        if ((exact && told_times != drawn) || (told[i].only && told_times > drawn)) {
            run_failed("%u connections have %u records of %s", drawn, told_times, told[i].reason);
        }
    }
    if (proxy->turned_away > 0 && (!world->habits.secure.on || world->habits.strict)) {
        run_failed("%u handshakes had no place, of %u", proxy->turned_away,
                   world->habits.secure.handshakes);
    }
    if (proxy->starved > 0 && !proxy->hurt && !fault_has_struck()) {
        run_failed("%u handshakes had no memory", proxy->starved);
    }
}

/*
 * A burst, and what the rate gives in the time there was: workers count together, whoever dies
 * among them. Nobody races here, so nobody is let in uncounted.
 */
static void check_rates(const struct proxy *proxy)
{
    const struct habits *habits = &proxy->world->habits;
    uint64_t elapsed = proxy->last - proxy->began;
    for (uint32_t i = 0; habits->request_rate > 0 && i < habits->hosts; i++) {
        uint64_t most = habits->request_burst + elapsed * habits->request_rate / SECOND + 1;
        if (proxy->let_in[i] > most) {
            run_failed("host %u was let in %u times; its rate allows %llu", i, proxy->let_in[i],
                       (unsigned long long)most);
        }
    }
}

/* After each failed probe nobody probes for 10 s; a killed worker may leave one without verdict. */
static void check_probes(const struct proxy *proxy)
{
    uint64_t probes = 0;
    uint64_t elapsed = proxy->last - proxy->began;
    uint64_t most = elapsed / (10 * (uint64_t)SECOND) + proxy->count;
    for (uint32_t i = 0; i < proxy->count; i++) {
        const struct metrics_layout *layout = &proxy->workers[i].metrics.layout;
        probes +=
            metrics_cell_read(proxy->workers[i].cells, layout->offsets[METRIC_ENDPOINT_PROBES]);
    }
    if (proxy->world->habits.first_refuses && probes > most) {
        run_failed("%llu probes of an endpoint that is gone, of %llu that there was time for",
                   (unsigned long long)probes, (unsigned long long)most);
    }
}

static void read_log(struct proxy *proxy, struct proxy_worker *slot)
{
    struct span record = SPAN_EMPTY;
    enum status status = AGAIN;
    while ((status = ring_read(&slot->reader, &record)) == OK) {
        ledger_log_line(&proxy->world->ledger, record);
        count_rate(proxy, record);
        proxy->bad_headers += has_reason(record, "bad_proxy_header");
        proxy->late_headers += has_reason(record, "proxy_header_timeout");
        note_handshake(proxy, record);
        proxy->last = sim_now(proxy->world->sim);
        sim_note(slot->io, "log %.*s", (int)record.size - 1, (const char *)record.data);
    }
    if (status == ERROR) {
        run_failed("the access log's ring holds something that is no record");
    }
    ring_release(&slot->reader);
}

static void drain(struct proxy *proxy)
{
    proxy->draining = true;
    for (uint32_t i = 0; i < proxy->count; i++) {
        struct proxy_worker *slot = &proxy->workers[i];
        worker_drain(slot->worker);
        sim_node_run(slot->io, turn, slot); /* the order came from outside: it must not sleep on */
    }
}

static void kill_all_but_one(struct proxy *proxy)
{
    proxy->hurt = true;
    for (uint32_t i = 1; i < proxy->count; i++) {
        struct proxy_worker *slot = &proxy->workers[i];
        read_log(proxy, slot);
        sim_node_kill(slot->io);
        proxy->boards[i] = NULL; /* before its connections are seen to end: the kernel is quick */
        worker_destroy(slot->worker);
        slot->worker = NULL;
    }
}

/* The supervisor's copy of the listener is closed once every worker has taken what waited. */
static void tend_drain(struct proxy *proxy, uint64_t now)
{
    if (now > proxy->trouble_at + TURN_SLACK) {
        sim_listener_close(proxy->world->sim, proxy->listener);
        proxy->world->habits.drains = false;
    }
}

static void check_drained(const struct proxy *proxy, uint64_t now)
{
    if (now < proxy->trouble_at + SHUTDOWN_TIMEOUT + TURN_SLACK + TURN_SLACK) {
        return;
    }
    for (uint32_t i = 0; i < proxy->count; i++) {
        if (!worker_is_drained(proxy->workers[i].worker)) {
            run_failed("worker %u is not drained after its shutdown timeout", i);
        }
    }
}

void proxy_tend(struct proxy *proxy)
{
    uint64_t now = sim_now(proxy->world->sim);
    check_turns(proxy);
    for (uint32_t i = 0; i < proxy->count; i++) {
        read_log(proxy, &proxy->workers[i]);
    }
    if (proxy->world->habits.kills && !proxy->hurt && now >= proxy->trouble_at) {
        kill_all_but_one(proxy);
    }
    if (proxy->draining) {
        check_drained(proxy, now);
    }
    if (proxy->world->habits.drains && now >= proxy->trouble_at) {
        if (!proxy->draining) {
            drain(proxy);
        }
        tend_drain(proxy, now);
    }
}

bool proxy_was_hurt(const struct proxy *proxy)
{
    return proxy->hurt;
}

/*
 * Every cell of every gauge, but for the one that says "this worker accepts". Three limits tell of
 * a while ago: the log's is what its reader, another process, had left at the last turn. The heap
 * for TLS is never empty.
 */
static void check_gauges(const struct proxy_worker *slot, uint32_t index)
{
    const struct metrics_layout *layout = &slot->metrics.layout;
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        const struct metric_info *info = metric_info((enum metric)metric);
        if (info->kind != METRIC_KIND_GAUGE || metric == METRIC_WORKERS) {
            continue;
        }
        for (uint32_t i = 0; i < metrics_series(layout, (enum metric)metric); i++) {
            uint64_t value = metrics_cell_read(slot->cells, layout->offsets[metric] + i);
            bool lately = metric == METRIC_LIMIT_UTILIZATION &&
                          (i == LIMIT_CLIENT_CONNECTIONS || i == LIMIT_RATE_TABLE ||
                           i == LIMIT_ACCESS_LOG || i == LIMIT_TLS_HEAP);
            if (value != 0 && !lately) {
                run_failed("worker %u: the gauge %s (cell %u) is left at %lld", index, info->name,
                           i, (long long)value);
            }
        }
    }
    uint64_t drops = metrics_cell_read(slot->cells, layout->offsets[METRIC_ACCESS_LOG_DROPS]);
    if (drops != 0) {
        run_failed("worker %u: %llu access records were dropped", index, (unsigned long long)drops);
    }
}

/* What others read of a worker that is idle: nothing in flight, and every finished one whole. */
static void check_flight(const struct proxy *proxy, const struct proxy_worker *slot, uint32_t index)
{
    struct flight_view view;
    struct flight_entry entry;
    flight_view_init(&view, slot->flight_memory, PROCESS_WORKER, &proxy->generation);
    for (int list = 0; list < FLIGHT_LIST_COUNT; list++) {
        uint32_t count = flight_count(&view, (enum flight_list)list);
        for (uint32_t i = 0; i < count; i++) {
            if (!flight_read(&view, (enum flight_list)list, i, &entry)) {
                continue;
            }
            if (list == FLIGHT_IN_FLIGHT) {
                run_failed("worker %u: slot %u of the flight recorder is left in use", index, i);
            }
            bool failed = entry.reason != REASON_NONE || entry.status >= 500;
            if (entry.torn || entry.began == 0 || entry.id_size == 0 ||
                (list == FLIGHT_FAILED && !failed)) {
                run_failed("worker %u: the flight recorder holds what never finished", index);
            }
        }
    }
}

void proxy_check(struct proxy *proxy)
{
    for (uint32_t i = 0; i < proxy->count; i++) {
        read_log(proxy, &proxy->workers[i]);
    }
    check_headers(proxy);
    check_handshakes(proxy);
    check_probes(proxy);
    check_rates(proxy);
    for (uint32_t i = 0; i < proxy->count; i++) {
        struct proxy_worker *slot = &proxy->workers[i];
        if (slot->worker == NULL) {
            continue;
        }
        if (sim_node_sockets(slot->io) != 0) {
            run_failed("worker %u: %u connections are left open", i, sim_node_sockets(slot->io));
        }
        if (sim_node_pipes(slot->io) > proxy->world->habits.splice_pipes) {
            run_failed("worker %u: %u pipes are open", i, sim_node_pipes(slot->io));
        }
        worker_check_idle(slot->worker);
        check_gauges(slot, i);
        check_flight(proxy, slot, i);
    }
}
