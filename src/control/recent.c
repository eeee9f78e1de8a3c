#include "control/recent.h"

#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "control/crash_report.h"
#include "observe/json_write.h"
#include "proxy/attempt.h"

enum part { PART_PROCESSES, PART_CRASHES, PART_EXCHANGES, PART_END };

enum { TEXT_MAX = 256, SENTENCE_MAX = 160 };

static const char *const STEPS[] = {
#define STEP(name, function, request, response, committed, retry) #name,
#include "proxy/exchange.def"
#undef STEP
};

static const char *const ATTEMPT_STEPS[] = {
    [ATTEMPT_NONE] = "",
    [ATTEMPT_PICK] = "picking an endpoint",
    [ATTEMPT_LEASE] = "leasing a connection",
    [ATTEMPT_QUEUE] = "waiting for a connection",
    [ATTEMPT_CONNECT] = "connecting",
    [ATTEMPT_SEND_HEAD] = "sending the request head",
    [ATTEMPT_AWAIT_HEAD] = "awaiting the response head",
    [ATTEMPT_STREAM] = "",
    [ATTEMPT_LOST] = "",
};

const char *recent_role(enum process_role role)
{
    static const char *const NAMES[PROCESS_ROLE_COUNT] = {"compiler", "logger", "controller",
                                                          "worker"};
    ASSERT((unsigned)role < PROCESS_ROLE_COUNT);
    return NAMES[role];
}

void recent_step(const struct flight_entry *entry, char *text, size_t size)
{
    bool known = entry->step < sizeof(STEPS) / sizeof(STEPS[0]);
    bool in_attempt = entry->attempt_step < sizeof(ATTEMPT_STEPS) / sizeof(ATTEMPT_STEPS[0]);
    const char *step = known ? STEPS[entry->step] : "?";
    const char *attempt = in_attempt ? ATTEMPT_STEPS[entry->attempt_step] : "";
    (void)snprintf(text, size, "%s%s%s", step, attempt[0] != '\0' ? ", " : "", attempt);
}

void recent_activity(const struct flight_activity *activity, const struct generation *generation,
                     char *text, size_t size)
{
    uint32_t detail = activity->detail;
    if (activity->phase == FLIGHT_EXCHANGE && detail == FLIGHT_NONE) {
        (void)snprintf(text, size, "running an exchange");
    } else if (activity->phase == FLIGHT_EXCHANGE) {
        (void)snprintf(text, size, "running the exchange in slot %u", detail);
    } else if (activity->phase == FLIGHT_HEALTH && detail < generation->header->endpoints.count) {
        struct span name =
            generation_text(generation, generation_endpoint(generation, detail)->text);
        (void)snprintf(text, size, "checking the health of endpoint %.*s", SPAN_ARGS(name));
    } else {
        (void)snprintf(text, size, "%s", flight_phase_text(activity->phase));
    }
}

/* ---- Members ---- */

static void put_text(struct output *line, struct span key, struct span text)
{
    output_span(line, key);
    if (text.size == 0) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    json_string(line, text, TEXT_MAX);
}

static void put_number(struct output *line, struct span key, uint64_t number)
{
    output_span(line, key);
    output_u64(line, number);
}

/* Milliseconds with three decimals. */
static void put_duration(struct output *line, struct span key, uint64_t microseconds)
{
    uint8_t fraction[] = {'.', (uint8_t)('0' + microseconds / 100 % 10),
                          (uint8_t)('0' + microseconds / 10 % 10),
                          (uint8_t)('0' + microseconds % 10)};
    output_span(line, key);
    if (microseconds == FLIGHT_NO_TIME) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    output_u64(line, microseconds / 1000);
    output_span(line, span_of(fraction, sizeof(fraction)));
}

static void put_time(struct output *line, struct span key, uint64_t wall)
{
    char text[48];
    time_t second = (time_t)(wall / 1000000);
    struct tm day = {0};
    output_span(line, key);
    if (gmtime_r(&second, &day) == NULL || day.tm_year > 8099) {
        OUTPUT_LITERAL(line, "null"); /* what a hostile owner calls a time */
        return;
    }
    size_t size = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &day);
    int more = snprintf(text + size, sizeof(text) - size, ".%06uZ", (unsigned)(wall % 1000000));
    json_string(line, span_of(text, size + (size_t)more), TEXT_MAX);
}

static void put_request(struct output *line, const struct generation *generation,
                        const struct flight_entry *entry)
{
    char client[ADDRESS_TEXT_MAX];
    struct span listener = SPAN_EMPTY;
    if (entry->listener != FLIGHT_NONE) {
        listener =
            generation_text(generation, generation_listener(generation, entry->listener)->name);
    }
    size_t size =
        entry->client.family == ADDRESS_NONE ? 0 : address_print_host(&entry->client, client);
    put_time(line, SPAN(",\"time\":"), entry->began);
    put_text(line, SPAN(",\"request_id\":"), flight_id(entry));
    put_text(line, SPAN(",\"client\":"), span_of(client, size));
    put_text(line, SPAN(",\"listener\":"), listener);
    put_text(line, SPAN(",\"method\":"), flight_method(entry));
    put_text(line, SPAN(",\"host\":"), flight_host(entry));
    OUTPUT_LITERAL(line, ",\"host_cut\":");
    json_boolean(line, entry->host_cut);
    put_text(line, SPAN(",\"path\":"), flight_path(entry));
    OUTPUT_LITERAL(line, ",\"path_cut\":");
    json_boolean(line, entry->path_cut);
    OUTPUT_LITERAL(line, ",\"query\":");
    json_boolean(line, entry->has_query);
}

static void put_way(struct output *line, const struct generation *generation,
                    const struct flight_entry *entry)
{
    struct span route = SPAN_EMPTY;
    struct span endpoint = SPAN_EMPTY;
    struct span upstream = SPAN_EMPTY;
    if (entry->route != FLIGHT_NONE) {
        route = generation_text(generation, generation_route(generation, entry->route)->name);
    }
    if (entry->endpoint != FLIGHT_NONE) {
        const struct generation_endpoint *target = generation_endpoint(generation, entry->endpoint);
        endpoint = generation_text(generation, target->text);
        upstream =
            generation_text(generation, generation_upstream(generation, target->upstream)->name);
    }
    put_text(line, SPAN(",\"route\":"), route);
    put_text(line, SPAN(",\"upstream\":"), upstream);
    put_text(line, SPAN(",\"endpoint\":"), endpoint);
    put_number(line, SPAN(",\"attempts\":"), entry->attempts);
}

static void put_progress(struct output *line, const struct flight_entry *entry, uint64_t now,
                         uint64_t wall)
{
    char step[SENTENCE_MAX];
    recent_step(entry, step, sizeof(step));
    put_text(line, SPAN(",\"step\":"), span_of_string(step));
    put_duration(line, SPAN(",\"step_ms\":"), recent_elapsed(now, entry->since));
    put_duration(line, SPAN(",\"age_ms\":"), recent_elapsed(wall, entry->began));
}

static void put_outcome(struct output *line, const struct flight_entry *entry)
{
    const char *label = entry->reason == REASON_NONE ? "" : reason_info(entry->reason)->label;
    if (entry->status == 0) {
        OUTPUT_LITERAL(line, ",\"status\":null");
    } else {
        put_number(line, SPAN(",\"status\":"), entry->status);
    }
    put_text(line, SPAN(",\"reason\":"), span_of_string(label));
    if (entry->detail != TLS_DETAIL_NONE) {
        put_text(line, SPAN(",\"detail\":"), span_of_string(tls_detail_text(entry->detail)));
    }
    put_duration(line, SPAN(",\"first_byte_ms\":"), entry->first_byte);
    put_duration(line, SPAN(",\"total_ms\":"), entry->total);
}

static void put_identity(struct output *line, const struct segment_identity *identity)
{
    put_text(line, SPAN(",\"role\":"), span_of_string(recent_role(identity->role)));
    put_number(line, SPAN(",\"index\":"), identity->index);
    put_number(line, SPAN(",\"incarnation\":"), identity->incarnation);
}

/* ---- Lines ---- */

static void put_process(struct output *line, const struct recent_source *source,
                        const struct recent_process *process, const struct recent_clock *clock)
{
    struct flight_activity activity;
    char doing[SENTENCE_MAX];
    flight_read_activity(&process->view, &activity);
    recent_activity(&activity, source->generation, doing, sizeof(doing));
    OUTPUT_LITERAL(line, "{\"kind\":\"process\"");
    put_identity(line, &process->identity);
    put_number(line, SPAN(",\"pid\":"), process->pid > 0 ? (uint64_t)process->pid : 0);
    put_text(line, SPAN(",\"phase\":"), span_of_string(flight_phase_label(activity.phase)));
    put_text(line, SPAN(",\"doing\":"), span_of_string(doing));
    put_duration(line, SPAN(",\"turn_ms\":"), recent_elapsed(clock->now, activity.turned));
    put_duration(line, SPAN(",\"uptime_ms\":"), recent_elapsed(clock->now, activity.started));
    put_number(line, SPAN(",\"untold\":"), activity.untold);
    OUTPUT_LITERAL(line, "}\n");
}

static void put_in_flight(struct output *line, const struct recent_source *source,
                          const struct recent_process *process, const struct flight_entry *entry,
                          const struct recent_clock *clock)
{
    OUTPUT_LITERAL(line, "{\"kind\":\"in-flight\"");
    put_number(line, SPAN(",\"worker\":"), process->identity.index);
    put_request(line, source->generation, entry);
    put_way(line, source->generation, entry);
    put_progress(line, entry, clock->now, clock->wall);
    OUTPUT_LITERAL(line, "}\n");
}

/* `crash` is the number of the report that kept it; 0: its worker lives. */
static void put_finished(struct output *line, const struct recent_source *source, uint32_t worker,
                         const struct flight_entry *entry, uint64_t crash)
{
    OUTPUT_LITERAL(line, "{\"kind\":\"finished\"");
    put_number(line, SPAN(",\"worker\":"), worker);
    if (crash != 0) {
        put_number(line, SPAN(",\"crash\":"), crash);
    }
    put_request(line, source->generation, entry);
    put_way(line, source->generation, entry);
    put_outcome(line, entry);
    OUTPUT_LITERAL(line, "}\n");
}

static void put_crash(struct output *line, const struct recent_source *source,
                      const struct crash_report *report)
{
    char text[SENTENCE_MAX];
    OUTPUT_LITERAL(line, "{\"kind\":\"crash\"");
    put_number(line, SPAN(",\"crash\":"), report->number);
    put_time(line, SPAN(",\"time\":"), report->time);
    put_identity(line, &report->identity);
    put_number(line, SPAN(",\"pid\":"), report->pid > 0 ? (uint64_t)report->pid : 0);
    crash_report_end(report, text, sizeof(text));
    put_text(line, SPAN(",\"ended\":"), span_of_string(text));
    recent_activity(&report->activity, source->generation, text, sizeof(text));
    put_text(line, SPAN(",\"doing\":"), span_of_string(text));
    put_duration(line, SPAN(",\"turn_ms\":"),
                 recent_elapsed(report->seen, report->activity.turned));
    put_duration(line, SPAN(",\"uptime_ms\":"),
                 recent_elapsed(report->seen, report->activity.started));
    put_number(line, SPAN(",\"in_flight\":"), report->in_flight);
    OUTPUT_LITERAL(line, "}\n");
}

static void put_crash_exchange(struct output *line, const struct recent_source *source,
                               const struct crash_report *report, uint32_t index)
{
    const struct flight_entry *entry = &report->exchanges[index];
    OUTPUT_LITERAL(line, "{\"kind\":\"crash-exchange\"");
    put_number(line, SPAN(",\"crash\":"), report->number);
    OUTPUT_LITERAL(line, ",\"running\":");
    json_boolean(line, report->running && index == 0);
    put_request(line, source->generation, entry);
    put_way(line, source->generation, entry);
    put_progress(line, entry, report->seen, report->time);
    OUTPUT_LITERAL(line, "}\n");
}

/* ---- One step of the answer: at most one line, then the place of the next ---- */

static void next_part(struct recent_text *text, enum part part)
{
    *text = (struct recent_text){.part = (uint32_t)part};
}

static void step_processes(struct recent_text *text, const struct recent_source *source,
                           const struct recent_clock *clock, struct output *output)
{
    if (text->index >= source->process_count) {
        next_part(text, PART_CRASHES);
        return;
    }
    const struct recent_process *process = &source->processes[text->index++];
    if (process->view.header != NULL) {
        put_process(output, source, process, clock);
    }
}

/*
 * text->list is the number of the report whose exchanges are under way: reports may move on. Those
 * that were in flight come first, then the finished ones.
 */
static void step_crashes(struct recent_text *text, const struct recent_source *source,
                         struct output *output)
{
    const struct crash_report *report = crash_reports_get(source->crashes, text->index);
    if (report == NULL) {
        next_part(text, PART_EXCHANGES);
        return;
    }
    if (text->cell == 0) {
        put_crash(output, source, report);
        text->list = (uint32_t)report->number;
        text->cell = 1;
        return;
    }
    uint32_t index = text->cell++ - 1;
    bool same = text->list == (uint32_t)report->number;
    const struct flight_entry *finished =
        same && index >= report->told ? crash_report_finished(report, index - report->told) : NULL;
    if (same && index < report->told) {
        put_crash_exchange(output, source, report, index);
    } else if (finished != NULL) {
        put_finished(output, source, report->identity.index, finished, report->number);
    } else {
        text->cell = 0;
        text->index++;
    }
}

static void step_exchanges(struct recent_text *text, const struct recent_source *source,
                           const struct recent_clock *clock, struct output *output)
{
    struct flight_entry entry;
    if (text->index >= source->process_count) {
        next_part(text, PART_END);
        return;
    }
    const struct recent_process *process = &source->processes[text->index];
    enum flight_list list = (enum flight_list)text->list;
    if (process->view.header == NULL || text->list >= FLIGHT_LIST_COUNT) {
        *text = (struct recent_text){.part = PART_EXCHANGES, .index = text->index + 1};
    } else if (text->cell >= flight_count(&process->view, list)) {
        text->cell = 0;
        text->list++;
    } else if (flight_read(&process->view, list, text->cell++, &entry)) {
        if (list == FLIGHT_IN_FLIGHT) {
            put_in_flight(output, source, process, &entry, clock);
        } else {
            put_finished(output, source, process->identity.index, &entry, 0);
        }
    }
}

static void take_step(struct recent_text *text, const struct recent_source *source,
                      const struct recent_clock *clock, struct output *output)
{
    switch ((enum part)text->part) {
    case PART_PROCESSES:
        step_processes(text, source, clock, output);
        return;
    case PART_CRASHES:
        step_crashes(text, source, output);
        return;
    case PART_EXCHANGES:
        step_exchanges(text, source, clock, output);
        return;
    case PART_END:
        OUTPUT_LITERAL(output, "{\"kind\":\"end\"}\n");
        text->ended = true;
        return;
    }
    UNREACHABLE("a part");
}

void recent_text_write(struct recent_text *text, const struct recent_source *source,
                       const struct recent_clock *clock, struct output *output)
{
    ASSERT(output->capacity - output->size >= RECENT_PIECE_MAX);
    size_t limit = output->size + RECENT_PIECE_MAX - RECENT_LINE_MAX;
    for (uint32_t i = 0; i < RECENT_CELLS_MAX && !text->ended && output->size < limit; i++) {
        take_step(text, source, clock, output);
        ASSERT(!output->overflowed);
    }
}
