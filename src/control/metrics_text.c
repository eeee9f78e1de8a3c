#include "control/metrics_text.h"

#include "base/reason.h"
#include "http/http2_names.h"

#if defined(__clang__)
#define BUILD_COMPILER "clang " __clang_version__
#else
#define BUILD_COMPILER "gcc " __VERSION__
#endif

/* What follows the rows of metrics.def: what the controller itself knows. */
enum {
    FAMILY_ENDPOINT_UP = METRIC_COUNT,
    FAMILY_CERTIFICATE_EXPIRY,
    FAMILY_BUILD_INFO,
    FAMILY_GENERATION,
    FAMILY_CONFIG_INFO,
    FAMILY_START_TIME,
    FAMILY_UPTIME,
    FAMILY_PROCESS_PROCESSOR, /* these five are rows of process_families */
    FAMILY_PROCESS_RESIDENT,
    FAMILY_PROCESS_DESCRIPTORS,
    FAMILY_PROCESS_STARTED,
    FAMILY_PROCESS_RESTARTS,
    FAMILY_COUNT,
};

enum {
    LABEL_MAX = 255,  /* bytes of a name; each may become two */
    LINE_EXTRA = 160, /* the metric's name, label names, `le`, the value */
    HISTOGRAM_LINES = METRICS_BUCKETS + 3,
    HEAD_EXTRA = 512, /* HELP and TYPE */
};

static_assert(HISTOGRAM_LINES * (2 * LABEL_MAX + LINE_EXTRA) + HEAD_EXTRA < METRICS_TEXT_PIECE_MAX,
              "one series of a histogram is one piece");

uint64_t metrics_source_sum(const struct metrics_source *source, uint32_t cell)
{
    uint64_t sum = atomic_load_explicit(source->totals->cells + cell, memory_order_relaxed);
    for (uint32_t i = 0; i < source->worker_count; i++) {
        if (source->workers[i] != NULL) {
            sum += metrics_cell_read(source->workers[i], cell);
        }
    }
    sum += source->logger != NULL ? metrics_cell_read(source->logger, cell) : 0;
    sum += source->own != NULL ? metrics_cell_read(source->own, cell) : 0;
    return sum;
}

static void put_string(struct output *output, const char *text)
{
    output_span(output, span_of_string(text));
}

static void put_head(struct output *output, const char *name, const char *type, const char *help)
{
    OUTPUT_LITERAL(output, "# HELP ");
    put_string(output, name);
    output_byte(output, ' ');
    put_string(output, help);
    OUTPUT_LITERAL(output, "\n# TYPE ");
    put_string(output, name);
    output_byte(output, ' ');
    put_string(output, type);
    output_byte(output, '\n');
}

/* name="value", with a comma before all but the first label; the value escaped. */
static void put_label(struct output *output, const char *name, struct span value)
{
    bool first = output->size > 0 && output->data[output->size - 1] == '{';
    if (!first) {
        output_byte(output, ',');
    }
    put_string(output, name);
    OUTPUT_LITERAL(output, "=\"");
    for (size_t i = 0; i < value.size && i < LABEL_MAX; i++) {
        uint8_t byte = value.data[i];
        if (byte == '\\' || byte == '"') {
            output_byte(output, '\\');
            output_byte(output, byte);
        } else if (byte == '\n') {
            OUTPUT_LITERAL(output, "\\n");
        } else {
            output_byte(output, byte);
        }
    }
    output_byte(output, '"');
}

static void put_listener(struct output *output, const struct generation *generation, uint32_t index)
{
    put_label(output, "listener",
              generation_text(generation, generation_listener(generation, index)->name));
}

static void put_route(struct output *output, const struct generation *generation, uint32_t index)
{
    struct span name = index < generation->header->routes.count
                           ? generation_text(generation, generation_route(generation, index)->name)
                           : SPAN("none");
    put_label(output, "route", name);
}

static void put_upstream(struct output *output, const struct generation *generation, uint32_t index)
{
    put_label(output, "upstream",
              generation_text(generation, generation_upstream(generation, index)->name));
}

static void put_endpoint(struct output *output, const struct generation *generation, uint32_t index)
{
    const struct generation_endpoint *endpoint = generation_endpoint(generation, index);
    put_upstream(output, generation, endpoint->upstream);
    put_label(output, "endpoint", generation_text(generation, endpoint->text));
}

static void put_state(struct output *output, uint32_t state)
{
    put_label(output, "state", state == METRICS_STATE_IDLE ? SPAN("idle") : SPAN("active"));
}

static void put_reason(struct output *output, uint32_t reason)
{
    put_label(output, "reason", span_of_string(reason_info((enum reason)reason)->label));
}

/* The labels of one series, without braces; the inverse of the indexes in metrics.h. */
static void put_labels(struct output *output, const struct generation *generation,
                       enum metric_labels labels, uint32_t index)
{
    switch (labels) {
    case METRIC_LABELS_NONE:
        return;
    case METRIC_LABELS_LISTENER:
        put_listener(output, generation, index);
        return;
    case METRIC_LABELS_LISTENER_STATE:
        put_listener(output, generation, index / METRICS_STATE_COUNT);
        put_state(output, index % METRICS_STATE_COUNT);
        return;
    case METRIC_LABELS_ROUTE:
        put_route(output, generation, index);
        return;
    case METRIC_LABELS_ROUTE_STATUS:
        put_route(output, generation, index / METRICS_STATUS_COUNT);
        put_label(output, "status",
                  span_of_string(
                      metrics_status_label((enum metrics_status)(index % METRICS_STATUS_COUNT))));
        return;
    case METRIC_LABELS_ROUTE_GRPC:
        put_route(output, generation, index / METRICS_GRPC_COUNT);
        put_label(output, "grpc_status",
                  index % METRICS_GRPC_COUNT == GRPC_STATUS_NONE
                      ? SPAN("none")
                      : grpc_status_digits((enum grpc_status)(index % METRICS_GRPC_COUNT)));
        return;
    case METRIC_LABELS_UPSTREAM:
        put_upstream(output, generation, index);
        return;
    case METRIC_LABELS_UPSTREAM_STATE:
        put_upstream(output, generation, index / METRICS_STATE_COUNT);
        put_state(output, index % METRICS_STATE_COUNT);
        return;
    case METRIC_LABELS_UPSTREAM_REASON:
        put_upstream(output, generation, index / REASON_COUNT);
        put_reason(output, index % REASON_COUNT);
        return;
    case METRIC_LABELS_ENDPOINT:
        put_endpoint(output, generation, index);
        return;
    case METRIC_LABELS_ENDPOINT_RESULT:
        put_endpoint(output, generation, index / METRICS_RESULT_COUNT);
        put_label(output, "result",
                  index % METRICS_RESULT_COUNT == METRICS_RESULT_SUCCESS ? SPAN("success")
                                                                         : SPAN("failure"));
        return;
    case METRIC_LABELS_REASON:
        put_reason(output, index);
        return;
    case METRIC_LABELS_SHED:
        put_label(output, "kind", span_of_string(metrics_shed_label((enum shed_kind)index)));
        return;
    case METRIC_LABELS_GLITCH:
        put_label(output, "kind", span_of_string(http2_glitch_label((enum http2_glitch)index)));
        return;
    case METRIC_LABELS_HTTP2_CODE:
        put_label(output, "direction",
                  index / HTTP2_CODES == HTTP2_SENT ? SPAN("sent") : SPAN("received"));
        put_label(output, "code", span_of_string(http2_code_name(index % HTTP2_CODES)));
        return;
    case METRIC_LABELS_LIMIT:
        put_label(output, "limit", span_of_string(limit_info((enum limit)index)->label));
        return;
    }
    UNREACHABLE("a label set");
}

/* Series of these sets are told only once they have counted something. */
static bool is_sparse(enum metric_labels labels)
{
    return labels == METRIC_LABELS_ROUTE_STATUS || labels == METRIC_LABELS_ROUTE_GRPC ||
           labels == METRIC_LABELS_UPSTREAM_REASON || labels == METRIC_LABELS_ENDPOINT_RESULT ||
           labels == METRIC_LABELS_REASON || labels == METRIC_LABELS_HTTP2_CODE;
}

/* Whether nothing was observed: endpoints without health checks have no durations to show. */
static bool is_idle_check(const struct metrics_source *source, const struct metric_info *info,
                          uint32_t first)
{
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket <= METRICS_BUCKETS; bucket++) {
        count += metrics_source_sum(source, first + bucket);
    }
    return info->labels == METRIC_LABELS_ENDPOINT && count == 0;
}

static void put_signed(struct output *output, uint64_t value)
{
    bool negative = value > INT64_MAX;
    if (negative) {
        output_byte(output, '-');
    }
    output_u64(output, negative ? UINT64_C(0) - value : value);
}

/* Microseconds as seconds, without zeros at the end. */
static void put_seconds(struct output *output, uint64_t microseconds)
{
    output_u64(output, microseconds / 1000000);
    uint32_t fraction = (uint32_t)(microseconds % 1000000);
    if (fraction == 0) {
        return;
    }
    output_byte(output, '.');
    for (uint32_t unit = 100000; fraction > 0; unit /= 10) {
        output_byte(output, (uint8_t)('0' + fraction / unit));
        fraction %= unit;
    }
}

/* The fullest process, where each has the bound for itself. */
static uint64_t highest(const struct metrics_source *source, uint32_t cell)
{
    uint64_t most = source->own != NULL ? metrics_cell_read(source->own, cell) : 0;
    for (uint32_t i = 0; i < source->worker_count; i++) {
        uint64_t value =
            source->workers[i] != NULL ? metrics_cell_read(source->workers[i], cell) : 0;
        most = value > most ? value : most;
    }
    return most;
}

/* A ratio: what is counted in parts per million. */
static void put_ratio(struct output *output, const struct metrics_source *source, uint32_t cell,
                      enum limit limit)
{
    bool sum = limit_info(limit)->how == LIMIT_SUM;
    put_seconds(output, sum ? metrics_source_sum(source, cell) : highest(source, cell));
}

static void put_simple(struct output *output, const struct metrics_source *source,
                       const struct metric_info *info, uint32_t cell, uint32_t index)
{
    uint64_t value = metrics_source_sum(source, cell + index);
    if (value == 0 && is_sparse(info->labels)) {
        return;
    }
    put_string(output, info->name);
    if (info->labels != METRIC_LABELS_NONE) {
        output_byte(output, '{');
        put_labels(output, source->generation, info->labels, index);
        output_byte(output, '}');
    }
    output_byte(output, ' ');
    if (info->labels == METRIC_LABELS_LIMIT) {
        put_ratio(output, source, cell + index, (enum limit)index);
    } else if (info->kind == METRIC_KIND_GAUGE) {
        put_signed(output, value);
    } else {
        output_u64(output, value);
    }
    output_byte(output, '\n');
}

/* name_suffix{labels */
static void put_histogram_name(struct output *output, const struct metrics_source *source,
                               const struct metric_info *info, const char *suffix, uint32_t index)
{
    put_string(output, info->name);
    put_string(output, suffix);
    output_byte(output, '{');
    put_labels(output, source->generation, info->labels, index);
}

static void put_histogram(struct output *output, const struct metrics_source *source,
                          const struct metric_info *info, uint32_t cell, uint32_t index)
{
    uint32_t first = cell + index * METRICS_HISTOGRAM_CELLS;
    uint64_t count = 0;
    if (is_idle_check(source, info, first)) {
        return;
    }
    for (uint32_t bucket = 0; bucket <= METRICS_BUCKETS; bucket++) {
        count += metrics_source_sum(source, first + bucket);
        put_histogram_name(output, source, info, "_bucket", index);
        OUTPUT_LITERAL(output, ",le=\"");
        if (bucket < METRICS_BUCKETS) {
            put_seconds(output, metrics_bucket_bound_us(bucket));
        } else {
            OUTPUT_LITERAL(output, "+Inf");
        }
        OUTPUT_LITERAL(output, "\"} ");
        output_u64(output, count);
        output_byte(output, '\n');
    }
    put_histogram_name(output, source, info, "_sum", index);
    OUTPUT_LITERAL(output, "} ");
    put_seconds(output, metrics_source_sum(source, first + METRICS_BUCKETS + 1));
    OUTPUT_LITERAL(output, "\n");
    put_histogram_name(output, source, info, "_count", index);
    OUTPUT_LITERAL(output, "} ");
    output_u64(output, count);
    output_byte(output, '\n');
}

static const char *type_name(enum metric_kind kind)
{
    switch (kind) {
    case METRIC_KIND_COUNTER:
        return "counter";
    case METRIC_KIND_GAUGE:
        return "gauge";
    case METRIC_KIND_HISTOGRAM:
        return "histogram";
    }
    UNREACHABLE("a metric kind");
}

static uint32_t put_metric(const struct metrics_text *text, const struct metrics_source *source,
                           struct output *output)
{
    const struct metrics_layout *layout = &source->totals->layout;
    const struct metric_info *info = metric_info((enum metric)text->family);
    if (text->series == 0) {
        put_head(output, info->name, type_name(info->kind), info->help);
    }
    uint32_t series = metrics_series(layout, (enum metric)text->family);
    if (text->series < series) {
        uint32_t cell = layout->offsets[text->family];
        if (info->kind == METRIC_KIND_HISTOGRAM) {
            put_histogram(output, source, info, cell, text->series);
        } else {
            put_simple(output, source, info, cell, text->series);
        }
    }
    return series;
}

static uint32_t put_endpoint_up(const struct metrics_text *text,
                                const struct metrics_source *source, struct output *output)
{
    if (text->series == 0) {
        put_head(output, "sentinel_endpoint_up", "gauge",
                 "1 where health checks let traffic through, or there are none.");
    }
    uint32_t series = source->generation->header->endpoints.count;
    if (text->series < series) {
        OUTPUT_LITERAL(output, "sentinel_endpoint_up{");
        put_endpoint(output, source->generation, text->series);
        OUTPUT_LITERAL(output, "} ");
        output_byte(output, health_get(source->health, text->series) == HEALTH_DOWN ? '0' : '1');
        output_byte(output, '\n');
    }
    return series;
}

/* Whether the labels of two certificates are the same; they are the same certificate then. */
static bool is_same_certificate(const struct generation *generation, uint32_t a, uint32_t b)
{
    const struct generation_certificate *one = generation_certificate(generation, a);
    const struct generation_certificate *other = generation_certificate(generation, b);
    struct span one_file = generation_text(generation, one->file);
    struct span other_file = generation_text(generation, other->file);
    return span_equal(generation_text(generation, one->name),
                      generation_text(generation, other->name)) &&
           span_equal(
               span_first(one_file, one_file.size < LABEL_MAX ? one_file.size : LABEL_MAX),
               span_first(other_file, other_file.size < LABEL_MAX ? other_file.size : LABEL_MAX));
}

static uint32_t put_certificate(const struct metrics_text *text,
                                const struct metrics_source *source, struct output *output)
{
    const struct generation *generation = source->generation;
    uint32_t series = generation->header->certificates.count;
    if (text->series == 0) {
        put_head(output, "sentinel_certificate_expiry_timestamp_seconds", "gauge",
                 "When a certificate expires that is shown to clients or upstreams, in seconds "
                 "since 1970.");
    }
    /* A file that stands with several keys or OCSP responses is one series. */
    for (uint32_t i = 0; i < text->series; i++) {
        if (text->series < series && is_same_certificate(generation, i, text->series)) {
            return series;
        }
    }
    if (text->series < series) {
        const struct generation_certificate *certificate =
            generation_certificate(generation, text->series);
        OUTPUT_LITERAL(output, "sentinel_certificate_expiry_timestamp_seconds{");
        put_label(output, "certificate", generation_text(generation, certificate->name));
        put_label(output, "file", generation_text(generation, certificate->file));
        OUTPUT_LITERAL(output, "} ");
        output_u64(output, certificate->not_after);
        output_byte(output, '\n');
    }
    return series;
}

static const struct {
    const char *name;
    const char *type;
    const char *help;
} process_families[] = {
    {"sentinel_process_cpu_seconds_total", "counter",
     "Processor time of a process, in user and kernel mode."},
    {"sentinel_process_resident_memory_bytes", "gauge",
     "Memory of a process that is in use, shared pages included."},
    {"sentinel_process_open_fds", "gauge", "Descriptors that a process has open."},
    {"sentinel_process_start_time_seconds", "gauge",
     "When a process began, in seconds since 1970."},
    {"sentinel_process_restarts_total", "counter",
     "Times that a process was started again after its end."},
};

static_assert(sizeof(process_families) / sizeof(process_families[0]) ==
                  FAMILY_PROCESS_RESTARTS - FAMILY_PROCESS_PROCESSOR + 1,
              "a row each");

/* A process's figure; PROCESS_UNKNOWN: there is none to show. */
static uint64_t process_figure(const struct process_row *row, uint32_t family)
{
    uint64_t began = process_row_read(&row->began);
    uint64_t starts = process_row_read(&row->starts);
    if (family == FAMILY_PROCESS_RESTARTS) {
        return starts > 0 ? starts - 1 : PROCESS_UNKNOWN;
    }
    if (began == 0) {
        return PROCESS_UNKNOWN;
    }
    return family == FAMILY_PROCESS_PROCESSOR     ? process_row_read(&row->processor)
           : family == FAMILY_PROCESS_RESIDENT    ? process_row_read(&row->resident)
           : family == FAMILY_PROCESS_DESCRIPTORS ? process_row_read(&row->descriptors)
                                                  : began;
}

static void put_process_labels(struct output *output, uint32_t row)
{
    static const char *const names[] = {"supervisor", "logger", "controller", "worker"};
    uint8_t digits[20];
    struct output index = output_over(digits, sizeof(digits));
    bool worker = row >= PROCESS_ROW_WORKERS;
    output_u64(&index, worker ? row - PROCESS_ROW_WORKERS : 0);
    put_label(output, "process", span_of_string(names[worker ? PROCESS_ROW_WORKERS : row]));
    put_label(output, "index", output_bytes(&index));
}

static uint32_t put_process(const struct metrics_text *text, const struct metrics_source *source,
                            struct output *output)
{
    uint32_t which = text->family - FAMILY_PROCESS_PROCESSOR;
    const char *name = process_families[which].name;
    if (text->series == 0) {
        put_head(output, name, process_families[which].type, process_families[which].help);
    }
    uint32_t rows = source->processes == NULL ? 0 : process_table_rows(source->generation);
    uint64_t value = text->series < rows
                         ? process_figure(&source->processes[text->series], text->family)
                         : PROCESS_UNKNOWN;
    if (value != PROCESS_UNKNOWN) {
        bool is_time =
            text->family == FAMILY_PROCESS_PROCESSOR || text->family == FAMILY_PROCESS_STARTED;
        put_string(output, name);
        output_byte(output, '{');
        put_process_labels(output, text->series);
        OUTPUT_LITERAL(output, "} ");
        if (is_time) {
            put_seconds(output, value);
        } else {
            output_u64(output, value);
        }
        output_byte(output, '\n');
    }
    return rows;
}

/* When the instance began: the supervisor, where that is known. */
static uint64_t instance_began(const struct metrics_source *source)
{
    uint64_t began = source->processes == NULL ? 0 : process_row_read(&source->processes->began);
    return began != 0 ? began : source->started;
}

static void put_hash(struct output *output, uint64_t hash)
{
    static const char digits[] = "0123456789abcdef";
    for (int shift = 60; shift >= 0; shift -= 4) {
        output_byte(output, (uint8_t)digits[hash >> shift & 15]);
    }
}

/* The families that are one line. */
static void put_single(uint32_t family, const struct metrics_source *source, struct output *output)
{
    uint64_t began = instance_began(source);
    switch (family) {
    case FAMILY_BUILD_INFO:
        put_head(output, "sentinel_build_info", "gauge", "The version that runs.");
        OUTPUT_LITERAL(output, "sentinel_build_info{version=\"" SENTINEL_VERSION
                               "\",compiler=\"" BUILD_COMPILER "\"} 1");
        break;
    case FAMILY_GENERATION:
        put_head(output, "sentinel_config_generation", "gauge",
                 "Number of the configuration in use.");
        OUTPUT_LITERAL(output, "sentinel_config_generation ");
        output_u64(output, source->generation->header->number);
        break;
    case FAMILY_CONFIG_INFO:
        put_head(output, "sentinel_config_info", "gauge",
                 "A hash of the configuration in use: equal ones are compiled from equal files.");
        OUTPUT_LITERAL(output, "sentinel_config_info{hash=\"");
        put_hash(output, source->config_hash);
        OUTPUT_LITERAL(output, "\"} 1");
        break;
    case FAMILY_START_TIME:
        put_head(output, "process_start_time_seconds", "gauge",
                 "When this instance began, in seconds since 1970.");
        OUTPUT_LITERAL(output, "process_start_time_seconds ");
        put_seconds(output, began);
        break;
    case FAMILY_UPTIME:
        put_head(output, "sentinel_uptime_seconds", "gauge", "How long this instance has run.");
        OUTPUT_LITERAL(output, "sentinel_uptime_seconds ");
        put_seconds(output, source->now > began ? source->now - began : 0);
        break;
    default:
        UNREACHABLE("a metric family");
    }
    output_byte(output, '\n');
}

/* Renders the next piece; returns how many series its family has. */
static uint32_t put_piece(const struct metrics_text *text, const struct metrics_source *source,
                          struct output *output)
{
    if (text->family < METRIC_COUNT) {
        return put_metric(text, source, output);
    }
    if (text->family == FAMILY_ENDPOINT_UP) {
        return put_endpoint_up(text, source, output);
    }
    if (text->family == FAMILY_CERTIFICATE_EXPIRY) {
        return put_certificate(text, source, output);
    }
    if (text->family >= FAMILY_PROCESS_PROCESSOR) {
        return put_process(text, source, output);
    }
    put_single(text->family, source, output);
    return 1;
}

uint64_t metrics_text_bound(const struct generation *generation)
{
    const uint64_t line = 2 * LABEL_MAX + LINE_EXTRA;
    struct metrics_layout layout;
    metrics_layout_init(&layout, generation);
    uint64_t lines = layout.endpoints;                             /* FAMILY_ENDPOINT_UP */
    lines += 2 * (uint64_t)generation->header->certificates.count; /* of two long labels each */
    lines += (uint64_t)(FAMILY_PROCESS_RESTARTS - FAMILY_PROCESS_PROCESSOR + 1) *
             process_table_rows(generation);
    lines += FAMILY_PROCESS_PROCESSOR - FAMILY_BUILD_INFO;
    for (uint32_t metric = 0; metric < METRIC_COUNT; metric++) {
        bool histogram = metric_info((enum metric)metric)->kind == METRIC_KIND_HISTOGRAM;
        lines += (uint64_t)metrics_series(&layout, (enum metric)metric) *
                 (histogram ? HISTOGRAM_LINES : 1);
    }
    return lines * line + (uint64_t)FAMILY_COUNT * HEAD_EXTRA;
}

void metrics_text_write(struct metrics_text *text, const struct metrics_source *source,
                        struct output *output)
{
    ASSERT(output->capacity - output->size >= METRICS_TEXT_PIECE_MAX);
    size_t before = output->size;
    while (!text->ended) {
        size_t whole = output->size;
        uint32_t series = put_piece(text, source, output);
        if (output->overflowed) {
            ASSERT(whole > before);
            output->size = whole;
            output->overflowed = false;
            return;
        }
        text->series++;
        if (text->series >= series) {
            text->series = 0;
            text->family++;
            text->ended = text->family == FAMILY_COUNT;
        }
    }
}
