#include "control/crash_report.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/assert.h"

enum { SENTENCE_MAX = 160 };

bool crash_is_one(int wait_status)
{
    return WIFSIGNALED(wait_status) || WEXITSTATUS(wait_status) != 0;
}

static bool is_running(const struct crash_report *report, uint32_t slot)
{
    return report->activity.phase == FLIGHT_EXCHANGE && report->activity.detail == slot;
}

/* Puts an exchange where it belongs among the oldest; the one that was running stands first. */
static void tell(struct crash_report *report, const struct flight_entry *entry, bool running)
{
    uint32_t first = report->running ? 1 : 0;
    uint32_t at = running ? 0 : first;
    while (!running && at < report->told && report->exchanges[at].began <= entry->began) {
        at++;
    }
    if (at >= CRASH_EXCHANGES_MAX) {
        return;
    }
    uint32_t moved = report->told < CRASH_EXCHANGES_MAX ? report->told : CRASH_EXCHANGES_MAX - 1;
    for (uint32_t i = moved; i > at; i--) {
        report->exchanges[i] = report->exchanges[i - 1];
    }
    report->exchanges[at] = *entry;
    report->told = moved + 1;
    report->running = report->running || running;
}

/* Keeps the entry if it is among the newest. */
static void keep(struct crash_finished *kept, const struct flight_entry *entry)
{
    struct flight_entry *oldest = &kept->entries[0];
    if (kept->count < CRASH_FINISHED_MAX) {
        kept->entries[kept->count++] = *entry;
        return;
    }
    for (uint32_t i = 1; i < kept->count; i++) {
        oldest = kept->entries[i].number < oldest->number ? &kept->entries[i] : oldest;
    }
    if (oldest->number < entry->number) {
        *oldest = *entry;
    }
}

static void keep_finished(struct crash_report *report, const struct flight_view *view,
                          enum flight_list list)
{
    struct flight_entry entry;
    uint32_t count = flight_count(view, list);
    for (uint32_t i = 0; i < count; i++) {
        if (flight_read(view, list, i, &entry)) {
            bool failed = entry.reason != REASON_NONE || entry.status >= 500;
            keep(failed ? &report->failures : &report->finished, &entry);
        }
    }
}

const struct crash_report *crash_reports_add(struct crash_reports *reports,
                                             const struct recent_process *process, int wait_status,
                                             const struct recent_clock *clock)
{
    struct crash_report *report = &reports->items[reports->count % CRASH_REPORTS_MAX];
    struct flight_entry entry;
    report->number = 0; /* not whole, should we be killed over it */
    atomic_signal_fence(memory_order_seq_cst);
    report->seen = clock->now;
    report->time = clock->wall;
    report->identity = process->identity;
    report->pid = process->pid;
    report->wait_status = wait_status;
    report->running = false;
    report->told = 0;
    report->finished.count = 0;
    report->failures.count = 0;
    flight_read_activity(&process->view, &report->activity);
    report->in_flight = report->activity.untold;
    uint32_t count = flight_count(&process->view, FLIGHT_IN_FLIGHT);
    for (uint32_t i = 0; i < count; i++) {
        if (flight_read(&process->view, FLIGHT_IN_FLIGHT, i, &entry)) {
            report->in_flight++;
            tell(report, &entry, is_running(report, i));
        }
    }
    keep_finished(report, &process->view, FLIGHT_FINISHED);
    keep_finished(report, &process->view, FLIGHT_FAILED);
    atomic_signal_fence(memory_order_seq_cst);
    report->number = reports->before + reports->count + 1;
    atomic_signal_fence(memory_order_seq_cst);
    reports->count++;
    return report;
}

/* ---- What a controller left ---- */

/* A boolean out of foreign memory: one that is neither must not be looked at as one. */
static bool is_boolean(const bool *place)
{
    uint8_t byte;
    memcpy(&byte, place, sizeof(byte));
    return byte <= 1;
}

static bool is_index(uint32_t index, uint32_t count)
{
    return index == FLIGHT_NONE || index < count;
}

/* As flight_read makes them: numbers in range, texts printable. */
static bool is_entry(const struct flight_entry *entry, const struct generation_header *header)
{
    size_t text = (size_t)entry->id_size + entry->method_size + entry->host_size + entry->path_size;
    bool whole = is_boolean(&entry->torn) && is_boolean(&entry->has_query) &&
                 is_boolean(&entry->host_cut) && is_boolean(&entry->path_cut) &&
                 entry->client.family <= ADDRESS_UNIX && entry->status < 1000 &&
                 (unsigned)entry->reason < REASON_COUNT &&
                 (unsigned)entry->detail < TLS_DETAIL_COUNT &&
                 is_index(entry->listener, header->listeners.count) &&
                 is_index(entry->route, header->routes.count) &&
                 is_index(entry->endpoint, header->endpoints.count) && text <= FLIGHT_TEXT_MAX;
    for (size_t i = 0; whole && i < text; i++) {
        whole = entry->text[i] >= 0x20 && entry->text[i] < 0x7f;
    }
    return whole;
}

static bool are_entries(const struct flight_entry *entries, uint32_t count, uint32_t most,
                        const struct generation *generation)
{
    bool whole = count <= most;
    for (uint32_t i = 0; whole && i < count; i++) {
        whole = is_entry(&entries[i], generation->header);
    }
    return whole;
}

static bool is_report(const struct crash_report *report, const struct generation *generation)
{
    enum process_role role = report->identity.role;
    return (unsigned)role < PROCESS_ROLE_COUNT && role != PROCESS_COMPILER &&
           (unsigned)report->activity.phase < FLIGHT_PHASE_COUNT &&
           report->activity.fault < FLIGHT_FAULT_COUNT && is_boolean(&report->running) &&
           are_entries(report->exchanges, report->told, CRASH_EXCHANGES_MAX, generation) &&
           are_entries(report->finished.entries, report->finished.count, CRASH_FINISHED_MAX,
                       generation) &&
           are_entries(report->failures.entries, report->failures.count, CRASH_FINISHED_MAX,
                       generation);
}

void crash_reports_inherit(struct crash_reports *reports, const void *memory,
                           const struct generation *generation)
{
    const struct crash_reports *former = memory;
    uint64_t made = 0;
    if (reports->count > 0 || __builtin_add_overflow(former->before, former->count, &made) ||
        made > UINT32_MAX) {
        return; /* so many cannot have been made */
    }
    uint32_t kept = former->count < CRASH_REPORTS_MAX ? (uint32_t)former->count : CRASH_REPORTS_MAX;
    uint32_t whole = 0; /* the newest, none of which is missing */
    while (whole < kept) {
        uint64_t place = (former->count - 1 - whole) % CRASH_REPORTS_MAX;
        const struct crash_report *report = &former->items[place];
        if (report->number != made - whole || !is_report(report, generation)) {
            break;
        }
        whole++;
    }
    for (uint32_t i = 0; i < whole; i++) {
        reports->items[i] = former->items[(former->count - whole + i) % CRASH_REPORTS_MAX];
    }
    reports->before = made - whole;
    reports->count = whole;
}

const struct flight_entry *crash_report_finished(const struct crash_report *report, uint32_t index)
{
    if (index < report->finished.count) {
        return &report->finished.entries[index];
    }
    index -= report->finished.count;
    return index < report->failures.count ? &report->failures.entries[index] : NULL;
}

const struct crash_report *crash_reports_get(const struct crash_reports *reports, uint32_t index)
{
    uint64_t kept = reports->count < CRASH_REPORTS_MAX ? reports->count : CRASH_REPORTS_MAX;
    return index < kept ? &reports->items[(reports->count - kept + index) % CRASH_REPORTS_MAX]
                        : NULL;
}

/* ---- Words ---- */

struct line {
    char *text;
    size_t size;
};

static void add(struct line *line, const char *format, ...) PRINTF_LIKE(2, 3);

static void add(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line->text, line->size, format, arguments);
    va_end(arguments);
    size_t used = wanted < 0 ? 0 : (size_t)wanted < line->size ? (size_t)wanted : line->size - 1;
    line->text += used;
    line->size -= used;
}

static void add_signal(struct line *line, int signal)
{
    const char *name = sigabbrev_np(signal);
    if (name != NULL) {
        add(line, "SIG%s", name);
    } else {
        add(line, "signal %d", signal);
    }
}

/* As one would say it: 0.123 s, 75 s, 3 min, 5 h. */
static void add_time(struct line *line, uint64_t microseconds)
{
    uint64_t seconds = microseconds / 1000000;
    if (seconds < 10) {
        add(line, "%llu.%03llu s", (unsigned long long)seconds,
            (unsigned long long)(microseconds / 1000 % 1000));
    } else if (seconds < 120) {
        add(line, "%llu s", (unsigned long long)seconds);
    } else if (seconds < 7200) {
        add(line, "%llu min", (unsigned long long)(seconds / 60));
    } else {
        add(line, "%llu h", (unsigned long long)(seconds / 3600));
    }
}

static const char *fault_text(unsigned fault)
{
    static const char *const TEXTS[FLIGHT_FAULT_COUNT] = {
        [FLIGHT_FAULT_NONE] = "sent to it",
        [FLIGHT_FAULT_NULL] = "at a null pointer",
        [FLIGHT_FAULT_STACK] = "near its stack",
        [FLIGHT_FAULT_ELSEWHERE] = "at an address of no account",
    };
    ASSERT(fault < FLIGHT_FAULT_COUNT);
    return TEXTS[fault];
}

void crash_report_end(const struct crash_report *report, char *text, size_t size)
{
    struct line line = {text, size};
    if (WIFSIGNALED(report->wait_status)) {
        int signal = WTERMSIG(report->wait_status);
        add(&line, "by ");
        add_signal(&line, signal);
        if (report->activity.signal == signal && report->activity.fault != FLIGHT_FAULT_NONE) {
            add(&line, " (%s)", fault_text(report->activity.fault));
        }
        return;
    }
    add(&line, "with code %d", WEXITSTATUS(report->wait_status));
}

static void tell_process(const struct crash_report *report, const struct generation *generation,
                         struct line *line)
{
    char text[SENTENCE_MAX];
    add(line, "crash report %llu: %s", (unsigned long long)report->number,
        recent_role(report->identity.role));
    if (report->identity.role == PROCESS_WORKER) {
        add(line, " %u", report->identity.index);
    }
    crash_report_end(report, text, sizeof(text));
    add(line, " (pid %d, incarnation %llu, up ", report->pid,
        (unsigned long long)report->identity.incarnation);
    add_time(line, recent_elapsed(report->seen, report->activity.started));
    add(line, ") ended %s while ", text);
    recent_activity(&report->activity, generation, text, sizeof(text));
    add(line, "%s; its turn began ", text);
    add_time(line, recent_elapsed(report->seen, report->activity.turned));
    add(line, " ago");
    if (report->identity.role == PROCESS_WORKER) {
        add(line, "; exchanges in flight: %llu", (unsigned long long)report->in_flight);
    }
}

static void tell_request(const struct flight_entry *entry, struct line *line)
{
    if (entry->torn) {
        add(line, "(its request was being written)");
        return;
    }
    if (entry->id_size == 0) {
        add(line, "(its head was being read)");
        return;
    }
    bool has_path = entry->path_size > 0;
    add(line, "%.*s %.*s%s%.*s%s%s", SPAN_ARGS(flight_method(entry)), SPAN_ARGS(flight_host(entry)),
        entry->host_cut ? "..." : "", SPAN_ARGS(has_path ? flight_path(entry) : SPAN("-")),
        entry->path_cut ? "..." : "", entry->has_query ? "?" : "");
}

static void tell_exchange(const struct crash_report *report, const struct generation *generation,
                          uint32_t index, struct line *line)
{
    const struct flight_entry *entry = &report->exchanges[index];
    char step[SENTENCE_MAX];
    char client[ADDRESS_TEXT_MAX] = "-";
    recent_step(entry, step, sizeof(step));
    add(line, "crash report %llu: %s ", (unsigned long long)report->number,
        report->running && index == 0 ? "running" : "in flight");
    tell_request(entry, line);
    if (entry->client.family != ADDRESS_NONE) {
        (void)address_print_host(&entry->client, client);
    }
    add(line, ", id %.*s, client %s, step %s for ",
        SPAN_ARGS(entry->id_size > 0 ? flight_id(entry) : SPAN("-")), client, step);
    add_time(line, recent_elapsed(report->seen, entry->since));
    if (entry->route != FLIGHT_NONE) {
        struct ref name = generation_route(generation, entry->route)->name;
        add(line, ", route %.*s", SPAN_ARGS(generation_text(generation, name)));
    }
    if (entry->endpoint != FLIGHT_NONE) {
        struct ref name = generation_endpoint(generation, entry->endpoint)->text;
        add(line, ", endpoint %.*s, attempt %u", SPAN_ARGS(generation_text(generation, name)),
            entry->attempts);
    }
}

bool crash_report_line(const struct crash_report *report, const struct generation *generation,
                       uint32_t index, char text[CRASH_LINE_MAX])
{
    struct line line = {text, CRASH_LINE_MAX};
    if (index == 0) {
        tell_process(report, generation, &line);
        return true;
    }
    if (index <= report->told) {
        tell_exchange(report, generation, index - 1, &line);
        return true;
    }
    if (index > report->told + 1 || report->in_flight == report->told) {
        return false;
    }
    add(&line, "crash report %llu: and %llu more in flight", (unsigned long long)report->number,
        (unsigned long long)(report->in_flight - report->told));
    return true;
}
