#include "control/health_check.h"

#include <errno.h>
#include <stdlib.h>

#include "base/output.h"
#include "control/grpc_check.h"
#include "http/http1_parse.h"
#include "http/http1_write.h"

enum {
    HEALTH_FIELDS_MAX = 100,
    HEALTH_STATUS_MIN = 200, /* healthy answers: 200 to 399 */
    HEALTH_STATUS_MAX = 399,
    READS_MAX = 8, /* of one turn: an endpoint cannot keep the controller to itself */
};

static_assert((int)GENERATION_SERVICE_MAX <= (int)GRPC_HEALTH_SERVICE_MAX, "any service fits");

enum check_step {
    CHECK_WAITING,
    CHECK_CONNECTING,
    CHECK_HANDSHAKE,
    CHECK_SENDING,
    CHECK_READING,
    CHECK_CALLING, /* gRPC: both ways at once */
};

struct health_check {
    struct transport transport;
    struct dialing_target target;
    struct tls_resumption resumption;
    struct timer timer;
    struct health_judge judge;
    enum check_step step;
    uint32_t endpoint;
    bool checked; /* once at least */
    uint64_t began;
    size_t done; /* bytes sent, or received */
    size_t preface_sent;
    size_t size; /* of the request */
    struct http1_scan scan;
    uint8_t *bytes;          /* HEALTH_HEAD_MAX: the request, then the answer */
    struct grpc_check *call; /* NULL: it does not speak gRPC */
};

struct health_checks {
    struct health_options options;
    struct prng jitter;
    struct http1_limits limits;
    struct arena arena; /* for the head that is being parsed */
    uint32_t count;
    uint32_t pending;
    void *arena_memory;
    uint8_t *buffers;
    struct grpc_check_context grpc;
    struct grpc_check *calls; /* one for each check that speaks gRPC */
    struct health_check checks[];
};

void health_judge_note(struct health_judge *judge, bool success, uint32_t rise, uint32_t fall)
{
    ASSERT(rise >= 1);
    ASSERT(fall >= 1);
    if (judge->state == HEALTH_UNKNOWN && success) {
        *judge = (struct health_judge){HEALTH_UP, 0};
        return;
    }
    bool agrees = success == (judge->state == HEALTH_UP);
    bool against = judge->state == HEALTH_UNKNOWN || !agrees;
    judge->streak = against ? judge->streak + 1 : 0;
    if (judge->streak >= (success ? rise : fall)) {
        *judge = (struct health_judge){success ? HEALTH_UP : HEALTH_DOWN, 0};
    }
}

static const struct generation_upstream *upstream_of(const struct health_checks *checks,
                                                     const struct health_check *check)
{
    const struct generation *generation = checks->options.generation;
    return generation_upstream(generation,
                               generation_endpoint(generation, check->endpoint)->upstream);
}

/* The interval, plus or minus a tenth. */
static uint64_t next_interval(struct health_checks *checks, uint64_t interval)
{
    uint32_t permille = 900 + prng_below(&checks->jitter, 201);
    return interval / 1000 * permille + interval % 1000 * permille / 1000;
}

static void wait_for_next(struct health_checks *checks, struct health_check *check)
{
    check->step = CHECK_WAITING;
    uint64_t now = io_now(checks->options.io);
    uint64_t next =
        check->began + next_interval(checks, upstream_of(checks, check)->health_interval);
    timer_set(checks->options.wheel, &check->timer, next > now ? next : now);
}

static void hang_up(struct health_check *check)
{
    check->transport.ops->close(&check->transport);
    if (check->call != NULL) {
        grpc_check_end(check->call);
    }
}

/* What TLS knows of why the check failed, its transport still being there. */
static enum tls_detail detail_of(const struct health_check *check)
{
    return tls_is_on(&check->transport) ? tls_failure_detail(&check->transport) : TLS_DETAIL_NONE;
}

static void conclude(struct health_checks *checks, struct health_check *check, bool success)
{
    const struct generation_upstream *upstream = upstream_of(checks, check);
    enum tls_detail detail = success ? TLS_DETAIL_NONE : detail_of(check);
    hang_up(check);
    metrics_count_at(checks->options.metrics, METRIC_HEALTH_CHECKS,
                     check->endpoint * METRICS_RESULT_COUNT +
                         (success ? METRICS_RESULT_SUCCESS : METRICS_RESULT_FAILURE));
    metrics_observe(checks->options.metrics, METRIC_HEALTH_CHECK_DURATION, check->endpoint,
                    io_now(checks->options.io) - check->began);
    enum health_state before = check->judge.state;
    health_judge_note(&check->judge, success, upstream->health_rise, upstream->health_fall);
    health_set(checks->options.board, check->endpoint, check->judge.state);
    if (check->judge.state != before && checks->options.on_change != NULL) {
        checks->options.on_change(checks->options.change_context, check->endpoint,
                                  check->judge.state, detail);
    }
    if (!check->checked) {
        check->checked = true;
        checks->pending--;
    }
    wait_for_next(checks, check);
}

/* The Host that a check sends: as configured, else the target; a path is no host. */
static struct span host_of(const struct health_checks *checks, const struct health_check *check)
{
    const struct generation *generation = checks->options.generation;
    const struct generation_endpoint *endpoint = generation_endpoint(generation, check->endpoint);
    struct span host = generation_text(generation, upstream_of(checks, check)->health_host);
    if (host.size > 0) {
        return host;
    }
    return endpoint->address.family == ADDRESS_UNIX ? SPAN("localhost")
                                                    : generation_text(generation, endpoint->text);
}

/* Renders the request into the check's buffer. */
static bool render_request(struct health_checks *checks, struct health_check *check)
{
    const struct generation *generation = checks->options.generation;
    const struct generation_upstream *upstream = upstream_of(checks, check);
    struct span target = generation_text(generation, upstream->health_path);
    size_t mark = span_find(target, '?');
    struct http1_request_line line = {
        .method = SPAN("GET"),
        .path = span_first(target, mark),
        .query = mark < target.size ? span_from(target, mark + 1) : SPAN_EMPTY,
        .host = host_of(checks, check),
    };
    struct field entries[] = {
        {SPAN("User-Agent"), SPAN("sentinel/" SENTINEL_VERSION " (health check)"),
         FIELD_USER_AGENT},
        {SPAN("Accept"), SPAN("*/*"), FIELD_ACCEPT},
    };
    const size_t count = sizeof(entries) / sizeof(entries[0]);
    struct fields fields = {.entries = entries, .count = count, .capacity = count};
    const struct http1_delivery delivery = {.connection = HTTP1_CONNECTION_CLOSE};
    struct output output = output_over(check->bytes, HEALTH_HEAD_MAX);
    if (!http1_write_request(&output, &line, &fields, &delivery)) {
        return false;
    }
    check->size = output.size;
    check->done = 0;
    return true;
}

/* OK: the answer's head says healthy. AGAIN: more is to come. ERROR: unhealthy. */
static enum status judge_answer(struct health_checks *checks, struct health_check *check)
{
    enum reason reason = REASON_NONE;
    /* An interim answer is followed by another head; each takes bytes away. */
    while (check->done > 0) {
        struct span bytes = span_of(check->bytes, check->done);
        enum status status = http1_scan_head(&check->scan, bytes, &checks->limits, &reason);
        if (status != OK) {
            return status;
        }
        struct response_head head;
        arena_reset(&checks->arena);
        if (http1_parse_response(http1_scan_head_bytes(&check->scan, bytes), METHOD_GET,
                                 &checks->limits, &checks->arena, &head, &reason) != OK) {
            return ERROR;
        }
        if (head.status >= 200 || head.status == 101) {
            bool good = head.status >= HEALTH_STATUS_MIN && head.status <= HEALTH_STATUS_MAX;
            return good ? OK : ERROR;
        }
        check->done -= check->scan.head_size;
        memmove(check->bytes, check->bytes + check->scan.head_size, check->done);
        http1_scan_init(&check->scan, HTTP1_RESPONSE);
    }
    return AGAIN;
}

static enum status read_answer(struct health_checks *checks, struct health_check *check)
{
    for (unsigned i = 0; i < READS_MAX; i++) {
        if (check->done == HEALTH_HEAD_MAX) {
            return ERROR;
        }
        size_t got = 0;
        enum status status = check->transport.ops->read(
            &check->transport, check->bytes + check->done, HEALTH_HEAD_MAX - check->done, &got);
        if (status != OK) {
            return status == AGAIN ? AGAIN : ERROR;
        }
        check->done += got;
        status = judge_answer(checks, check);
        if (status != AGAIN) {
            return status;
        }
    }
    io_requeue(checks->options.io, &check->transport.socket);
    return AGAIN;
}

static enum status send_request(struct health_check *check)
{
    while (check->done < check->size) {
        struct iovec piece = {check->bytes + check->done, check->size - check->done};
        size_t put = 0;
        enum status status = check->transport.ops->write(&check->transport, &piece, 1, &put);
        if (status != OK) {
            return status;
        }
        check->done += put;
    }
    check->done = 0;
    http1_scan_init(&check->scan, HTTP1_RESPONSE);
    return OK;
}

/* ERROR: the connection broke. What the socket does not take is sent when it does. */
static enum status send_call(struct health_check *check)
{
    struct span bytes = grpc_check_output(check->call);
    while (bytes.size > 0) {
        struct iovec piece = {(void *)(uintptr_t)bytes.data, bytes.size}; /* only read */
        size_t put = 0;
        enum status status = check->transport.ops->write(&check->transport, &piece, 1, &put);
        if (status != OK) {
            return status == AGAIN ? OK : ERROR;
        }
        grpc_check_sent(check->call, put);
        bytes = grpc_check_output(check->call);
    }
    return OK;
}

static enum status go_on_calling(struct health_checks *checks, struct health_check *check)
{
    for (unsigned i = 0; i < READS_MAX; i++) {
        size_t got = 0;
        if (send_call(check) != OK || check->call->failed) {
            return ERROR;
        }
        enum status status =
            check->transport.ops->read(&check->transport, check->bytes, HEALTH_HEAD_MAX, &got);
        if (status != OK) {
            return status == AGAIN ? AGAIN : ERROR;
        }
        status = grpc_check_input(check->call, span_of(check->bytes, got));
        if (status != AGAIN) {
            return status;
        }
    }
    io_requeue(checks->options.io, &check->transport.socket);
    return AGAIN;
}

/* A check is nobody's but ours: where endpoints are told of clients, they are told of none. */
static enum status send_preface(struct health_checks *checks, struct health_check *check)
{
    static const struct address nobody = {.family = ADDRESS_NONE};
    uint8_t bytes[PROXY_HEADER_WRITTEN_MAX];
    uint32_t version = upstream_of(checks, check)->send_proxy_protocol;
    size_t size = version == SEND_PROXY_OFF
                      ? 0
                      : proxy_header_write((enum proxy_version)version, &nobody, &nobody, bytes);
    while (check->preface_sent < size) {
        struct iovec piece = {bytes + check->preface_sent, size - check->preface_sent};
        size_t put = 0;
        enum status status =
            io_write(checks->options.io, &check->transport.socket, &piece, 1, &put);
        if (status != OK) {
            return status;
        }
        check->preface_sent += put;
    }
    return OK;
}

/* OK: connected, and TLS agreed on where the endpoint speaks it. */
static enum status open_transport(struct health_checks *checks, struct health_check *check)
{
    const struct dialing_target *target = &check->target;
    enum tls_failure failure = TLS_FAILURE_CLOSED;
    if (check->step == CHECK_CONNECTING) {
        enum status status = io_connect_result(checks->options.io, &check->transport.socket);
        if (status != OK) {
            return status;
        }
        check->step = CHECK_HANDSHAKE;
        check->preface_sent = 0;
    }
    enum status sent = send_preface(checks, check);
    if (sent != OK || target->tls == NULL) {
        return sent;
    }
    if (!tls_is_on(&check->transport) &&
        !tls_begin_client(&check->transport, target->tls, &target->peer, target->resumption)) {
        return ERROR;
    }
    return tls_handshake(&check->transport, &failure);
}

/* Goes on as far as the socket allows; OK and ERROR are the check's outcome. */
static enum status advance(struct health_checks *checks, struct health_check *check)
{
    enum status status = OK;
    if (check->step == CHECK_CONNECTING || check->step == CHECK_HANDSHAKE) {
        status = open_transport(checks, check);
        if (status != OK || upstream_of(checks, check)->health == HEALTH_TCP) {
            return status;
        }
        check->step = check->call != NULL ? CHECK_CALLING : CHECK_SENDING;
    }
    if (check->step == CHECK_CALLING) {
        return go_on_calling(checks, check);
    }
    if (check->step == CHECK_SENDING) {
        status = send_request(check);
        if (status != OK) {
            return status;
        }
        check->step = CHECK_READING;
    }
    ASSERT(check->step == CHECK_READING);
    return read_answer(checks, check);
}

static void run(struct health_checks *checks, struct health_check *check)
{
    enum status status = advance(checks, check);
    if (status != AGAIN) {
        conclude(checks, check, status == OK);
    }
}

/*
 * What this process or machine lacks, whoever was to be connected to. Without a free port for
 * another connection to this endpoint, those that there are may serve well; where there has never
 * been one, this machine has no address of the endpoint's family.
 */
static bool is_own_trouble(const struct health_check *check, int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == ENOSPC || (error == EADDRNOTAVAIL && check->judge.state == HEALTH_UP);
}

static void fail_to_begin(struct health_checks *checks, struct health_check *check, int error)
{
    if (!is_own_trouble(check, error)) {
        conclude(checks, check, false);
        return;
    }
    hang_up(check);
    wait_for_next(checks, check);
    if (checks->options.on_trouble != NULL) {
        checks->options.on_trouble(checks->options.trouble_context, error);
    }
}

static bool begin_call(struct health_checks *checks, struct health_check *check)
{
    const struct generation_upstream *upstream = upstream_of(checks, check);
    const struct grpc_question question = {
        .authority = host_of(checks, check),
        .service = generation_text(checks->options.generation, upstream->health_service),
        .secure = check->target.tls != NULL,
        .timeout = upstream->health_timeout,
    };
    return grpc_check_begin(check->call, &checks->grpc, &question);
}

static void begin(struct health_checks *checks, struct health_check *check)
{
    const struct generation_upstream *upstream = upstream_of(checks, check);
    check->began = io_now(checks->options.io);
    if (upstream->health == HEALTH_HTTP && !render_request(checks, check)) {
        conclude(checks, check, false);
        return;
    }
    if (check->call != NULL && !begin_call(checks, check)) {
        fail_to_begin(checks, check, ENOMEM);
        return;
    }
    const struct dialing_target *target = &check->target;
    struct io *io = checks->options.io;
    struct io_socket *socket = &check->transport.socket;
    enum status status = target->address->family == ADDRESS_UNIX
                             ? io_connect_unix(io, socket, target->path, checks->options.kind)
                             : io_connect(io, socket, target->address, checks->options.kind);
    if (status == ERROR) {
        fail_to_begin(checks, check, socket->error);
        return;
    }
    check->step = CHECK_CONNECTING;
    timer_set(checks->options.wheel, &check->timer, check->began + upstream->health_timeout);
    if (status == OK) {
        run(checks, check);
    }
}

void health_checks_on_ready(struct health_checks *checks, struct io_socket *socket)
{
    struct transport *transport = CONTAINER_OF(socket, struct transport, socket);
    struct health_check *check = CONTAINER_OF(transport, struct health_check, transport);
    ASSERT(check->step != CHECK_WAITING);
    flight_doing(checks->options.flight, FLIGHT_HEALTH, check->endpoint);
    run(checks, check);
}

void health_checks_on_timer(struct health_checks *checks, struct timer *timer)
{
    struct health_check *check = CONTAINER_OF(timer, struct health_check, timer);
    flight_doing(checks->options.flight, FLIGHT_HEALTH, check->endpoint);
    if (check->step == CHECK_WAITING) {
        begin(checks, check);
    } else {
        conclude(checks, check, false);
    }
}

uint32_t health_checks_pending(const struct health_checks *checks)
{
    return checks->pending;
}

struct counts {
    uint32_t all;
    uint32_t calls; /* of gRPC */
};

static struct counts count_checks(const struct generation *generation)
{
    struct counts count = {0};
    for (uint32_t i = 0; i < generation->header->endpoints.count; i++) {
        uint32_t upstream = generation_endpoint(generation, i)->upstream;
        uint32_t kind = generation_upstream(generation, upstream)->health;
        count.all += kind != HEALTH_NONE;
        count.calls += kind == HEALTH_GRPC;
    }
    return count;
}

static void add_checks(struct health_checks *checks)
{
    const struct generation *generation = checks->options.generation;
    uint64_t now = io_now(checks->options.io);
    struct grpc_check *call = checks->calls;
    for (uint32_t i = 0; i < generation->header->endpoints.count; i++) {
        uint32_t upstream = generation_endpoint(generation, i)->upstream;
        uint32_t kind = generation_upstream(generation, upstream)->health;
        if (kind == HEALTH_NONE) {
            continue;
        }
        struct health_check *check = &checks->checks[checks->count];
        check->endpoint = i;
        check->bytes = checks->buffers + (size_t)checks->count * HEALTH_HEAD_MAX;
        check->call = kind == HEALTH_GRPC ? call++ : NULL;
        transport_init_tcp(&check->transport, checks->options.io);
        upstream_tls_target(checks->options.tls, generation, i, &check->resumption, &check->target);
        timer_init(&check->timer, checks->options.kind);
        timer_set(checks->options.wheel, &check->timer, now);
        checks->count++;
    }
    checks->pending = checks->count;
}

static struct http1_limits limits_of_heads(void)
{
    return (struct http1_limits){
        .request_line_max = HEALTH_HEAD_MAX,
        .head_max = HEALTH_HEAD_MAX,
        .fields_max = HEALTH_FIELDS_MAX,
    };
}

uint64_t health_checks_bytes(const struct generation *generation)
{
    struct counts count = count_checks(generation);
    struct http1_limits limits = limits_of_heads();
    return sizeof(struct health_checks) + count.all * sizeof(struct health_check) +
           http1_arena_max(&limits) + ((uint64_t)count.all + 1) * HEALTH_HEAD_MAX +
           (count.calls + UINT64_C(1)) * sizeof(struct grpc_check) + grpc_check_bytes(count.calls);
}

struct health_checks *health_checks_create(const struct health_options *options)
{
    struct counts count = count_checks(options->generation);
    struct health_checks *checks =
        calloc(1, sizeof(*checks) + count.all * sizeof(struct health_check));
    if (checks == NULL) {
        return NULL;
    }
    checks->options = *options;
    checks->limits = limits_of_heads();
    size_t arena_size = http1_arena_max(&checks->limits);
    checks->arena_memory = malloc(arena_size);
    /* One more: never of size 0. */
    checks->buffers = calloc((size_t)count.all + 1, HEALTH_HEAD_MAX);
    checks->calls = calloc((size_t)count.calls + 1, sizeof(*checks->calls));
    if (checks->arena_memory == NULL || checks->buffers == NULL || checks->calls == NULL ||
        !grpc_check_init(&checks->grpc, count.calls)) {
        health_checks_destroy(checks);
        return NULL;
    }
    arena_init(&checks->arena, checks->arena_memory, arena_size);
    uint64_t seed = 0;
    io_random(options->io, &seed, sizeof(seed));
    prng_init(&checks->jitter, seed);
    add_checks(checks);
    return checks;
}

void health_checks_destroy(struct health_checks *checks)
{
    if (checks == NULL) {
        return;
    }
    for (uint32_t i = 0; i < checks->count; i++) {
        hang_up(&checks->checks[i]);
        tls_resumption_drop(&checks->checks[i].resumption);
        timer_cancel(checks->options.wheel, &checks->checks[i].timer);
    }
    free(checks->arena_memory);
    free(checks->buffers);
    free(checks->calls);
    grpc_check_deinit(&checks->grpc);
    free(checks);
}
