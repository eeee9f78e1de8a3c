#include "cli/recent_view.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/recent_line.h"

enum {
    CELL_MAX = 320,
    COLUMN_WIDTH_MAX = 48, /* beyond it a cell pushes the rest of its row */
    COLUMNS_MAX = 10,
    STUCK_MS = 3000, /* idle processes turn once a second */
};

bool recent_view_init(struct recent_view *view, const struct recent_filters *filters)
{
    *view = (struct recent_view){.filters = *filters};
    view->kept_max = filters->mode == RECENT_CRASHES ? RECENT_CRASH_LINES_MAX : filters->limit;
    view->kept = calloc(view->kept_max, sizeof(*view->kept));
    return view->kept != NULL;
}

void recent_view_deinit(struct recent_view *view)
{
    for (uint32_t i = 0; i < view->kept_count; i++) {
        free(view->kept[i].line);
    }
    free(view->kept);
    *view = (struct recent_view){0};
}

/* ---- What is kept ---- */

static bool is_failure(struct span line)
{
    char reason[64];
    return recent_line_get(line, "reason", reason, sizeof(reason)) ||
           recent_line_number(line, "status") >= 500;
}

static bool has_status(struct span line, const char *wanted)
{
    char status[16];
    if (!recent_line_get(line, "status", status, sizeof(status)) || strlen(status) != 3) {
        return false;
    }
    return wanted[1] == 'x' ? wanted[0] == status[0] : strcmp(wanted, status) == 0;
}

static bool is_from(struct span line, const struct address_block *wanted)
{
    char client[ADDRESS_TEXT_MAX];
    struct address_block found;
    if (!recent_line_get(line, "client", client, sizeof(client)) ||
        !address_block_parse(span_of_string(client), &found)) {
        return false;
    }
    struct address address = {.family = found.family};
    memcpy(address.ip, found.ip, sizeof(address.ip));
    return address_block_contains(wanted, &address);
}

static bool passes(const struct recent_filters *filters, struct span line)
{
    return (filters->route == NULL || recent_line_is(line, "route", filters->route)) &&
           (filters->client.family == ADDRESS_NONE || is_from(line, &filters->client)) &&
           (filters->worker == NULL || recent_line_is(line, "worker", filters->worker)) &&
           (filters->reason == NULL || recent_line_is(line, "reason", filters->reason)) &&
           (filters->status == NULL || has_status(line, filters->status)) &&
           (filters->mode != RECENT_FAILURES || is_failure(line));
}

/* Newest first; of those in flight the oldest, who are the ones to look at. */
static bool stands_before(const struct recent_view *view, const char *time,
                          const struct recent_kept *other)
{
    if (view->filters.mode == RECENT_CRASHES) {
        return false; /* they come in their order */
    }
    int order = strcmp(time, other->time);
    return view->filters.mode == RECENT_IN_FLIGHT ? order < 0 : order >= 0;
}

/* Where it belongs among the kept: a search by halves, since the list may be long. */
static uint32_t place_of(const struct recent_view *view, const char *time)
{
    uint32_t first = 0;
    uint32_t end = view->kept_count;
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        if (stands_before(view, time, &view->kept[middle])) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    return first;
}

static bool keep(struct recent_view *view, struct span line)
{
    struct recent_kept kept;
    (void)recent_line_get(line, "time", kept.time, sizeof(kept.time));
    uint32_t place = place_of(view, kept.time);
    if (place == view->kept_max) {
        return true;
    }
    kept.line = malloc(line.size + 1);
    if (kept.line == NULL) {
        return false;
    }
    memcpy(kept.line, line.data, line.size);
    kept.line[line.size] = '\0';
    if (view->kept_count == view->kept_max) {
        free(view->kept[--view->kept_count].line);
    }
    memmove(view->kept + place + 1, view->kept + place,
            (view->kept_count - place) * sizeof(*view->kept));
    view->kept[place] = kept;
    view->kept_count++;
    return true;
}

static void note_process(struct recent_view *view, struct span line)
{
    char role[24];
    char doing[128];
    uint64_t stuck = recent_line_number(line, "turn_ms");
    view->processes++;
    if (stuck < STUCK_MS || view->stuck_count == RECENT_STUCK_MAX) {
        return;
    }
    (void)recent_line_get(line, "role", role, sizeof(role));
    (void)recent_line_get(line, "doing", doing, sizeof(doing));
    (void)snprintf(view->stuck[view->stuck_count++], sizeof(view->stuck[0]),
                   "%s %llu (pid %llu) has not turned for %llu s: %s", role,
                   (unsigned long long)recent_line_number(line, "index"),
                   (unsigned long long)recent_line_number(line, "pid"),
                   (unsigned long long)(stuck / 1000), doing);
}

bool recent_view_take(struct recent_view *view, struct span line)
{
    char kind[24];
    enum recent_mode mode = view->filters.mode;
    bool wanted = false;
    if (!recent_line_is_sound(line) || !recent_line_get(line, "kind", kind, sizeof(kind))) {
        return false;
    }
    if (strcmp(kind, "end") == 0) {
        view->ended = true;
    } else if (strcmp(kind, "process") == 0) {
        note_process(view, line);
    } else if (strcmp(kind, "in-flight") == 0) {
        uint64_t age = recent_line_number(line, "age_ms");
        view->in_flight++;
        view->oldest_ms = age > view->oldest_ms ? age : view->oldest_ms;
        wanted = mode == RECENT_IN_FLIGHT && passes(&view->filters, line);
    } else if (strcmp(kind, "finished") == 0) {
        view->finished++;
        view->failures += is_failure(line) ? 1 : 0;
        wanted =
            (mode == RECENT_FINISHED || mode == RECENT_FAILURES) && passes(&view->filters, line);
    } else if (strcmp(kind, "crash") == 0) {
        view->crashes++;
        wanted = mode == RECENT_CRASHES;
    } else {
        wanted = mode == RECENT_CRASHES && strcmp(kind, "crash-exchange") == 0;
    }
    return !wanted || keep(view, line);
}

/* ---- The table ---- */

struct column {
    const char *title;
    const char *key;
    bool right;
    void (*render)(struct span line, const char *key, char *cell);
};

static void render_text(struct span line, const char *key, char *cell)
{
    if (!recent_line_get(line, key, cell, CELL_MAX) || cell[0] == '\0') {
        (void)snprintf(cell, CELL_MAX, "-");
    }
}

static void print_duration(char *text, size_t size, uint64_t milliseconds, const char *exact)
{
    if (milliseconds < 1000) {
        (void)snprintf(text, size, "%s ms", exact);
    } else if (milliseconds < 120000) {
        (void)snprintf(text, size, "%llu.%03llu s", (unsigned long long)milliseconds / 1000,
                       (unsigned long long)milliseconds % 1000);
    } else {
        (void)snprintf(text, size, "%llu min", (unsigned long long)milliseconds / 60000);
    }
}

static void render_duration(struct span line, const char *key, char *cell)
{
    char exact[32];
    if (!recent_line_get(line, key, exact, sizeof(exact))) {
        (void)snprintf(cell, CELL_MAX, "-");
        return;
    }
    print_duration(cell, CELL_MAX, recent_line_number(line, key), exact);
}

/* The reason, and what more is known of a handshake. */
static void render_reason(struct span line, const char *key, char *cell)
{
    char detail[CELL_MAX / 2];
    render_text(line, key, cell);
    if (recent_line_get(line, "detail", detail, sizeof(detail))) {
        size_t size = strlen(cell);
        (void)snprintf(cell + size, CELL_MAX - size, ": %s", detail);
    }
}

/* The time of day, as the logs write it; the day as well where it is not today. */
static void render_time(struct span line, const char *key, char *cell)
{
    char text[32];
    char today[16] = "";
    time_t now = time(NULL);
    struct tm day = {0};
    if (!recent_line_get(line, key, text, sizeof(text)) || strlen(text) != 27) {
        (void)snprintf(cell, CELL_MAX, "-");
        return;
    }
    if (gmtime_r(&now, &day) != NULL) {
        (void)strftime(today, sizeof(today), "%Y-%m-%d", &day);
    }
    bool is_today = strncmp(text, today, 10) == 0;
    (void)snprintf(cell, CELL_MAX, "%.*s%s%.12s", is_today ? 0 : 10, text, is_today ? "" : " ",
                   text + 11);
}

static void render_request(struct span line, const char *key, char *cell)
{
    char method[24];
    char host[96];
    char path[160];
    (void)key;
    if (!recent_line_get(line, "method", method, sizeof(method))) {
        (void)snprintf(cell, CELL_MAX, "-");
        return;
    }
    (void)recent_line_get(line, "host", host, sizeof(host));
    (void)recent_line_get(line, "path", path, sizeof(path));
    (void)snprintf(cell, CELL_MAX, "%s %s%s%s%s%s", method, host,
                   recent_line_is(line, "host_cut", "true") ? "..." : "",
                   path[0] != '\0' ? path : "-",
                   recent_line_is(line, "path_cut", "true") ? "..." : "",
                   recent_line_is(line, "query", "true") ? "?" : "");
}

static const struct column FINISHED[] = {
    {"TIME (UTC)", "time", false, render_time},   {"STATUS", "status", false, render_text},
    {"TOTAL", "total_ms", true, render_duration}, {"REASON", "reason", false, render_reason},
    {"CLIENT", "client", false, render_text},     {"ROUTE", "route", false, render_text},
    {"ENDPOINT", "endpoint", false, render_text}, {"TRIES", "attempts", true, render_text},
    {"WORKER", "worker", true, render_text},      {"REQUEST", NULL, false, render_request},
};

static const struct column IN_FLIGHT[] = {
    {"AGE", "age_ms", true, render_duration},  {"STEP", "step", false, render_text},
    {"FOR", "step_ms", true, render_duration}, {"CLIENT", "client", false, render_text},
    {"ROUTE", "route", false, render_text},    {"ENDPOINT", "endpoint", false, render_text},
    {"TRIES", "attempts", true, render_text},  {"WORKER", "worker", true, render_text},
    {"ID", "request_id", false, render_text},  {"REQUEST", NULL, false, render_request},
};

static_assert(sizeof(FINISHED) / sizeof(FINISHED[0]) == COLUMNS_MAX, "as many titles as widths");
static_assert(sizeof(IN_FLIGHT) / sizeof(IN_FLIGHT[0]) == COLUMNS_MAX, "as many titles as widths");

static void print_cell(FILE *file, const struct column *column, const char *cell, size_t width,
                       bool last)
{
    if (last) {
        (void)fprintf(file, "%s\n", cell);
    } else {
        (void)fprintf(file, column->right ? "%*s  " : "%-*s  ", (int)width, cell);
    }
}

static void print_table(const struct recent_view *view, const struct column *columns, FILE *file)
{
    size_t widths[COLUMNS_MAX];
    char cell[CELL_MAX];
    for (size_t i = 0; i < COLUMNS_MAX; i++) {
        widths[i] = strlen(columns[i].title);
        for (uint32_t row = 0; row < view->kept_count; row++) {
            columns[i].render(span_of_string(view->kept[row].line), columns[i].key, cell);
            size_t width = strlen(cell);
            width = width < COLUMN_WIDTH_MAX ? width : COLUMN_WIDTH_MAX;
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    for (size_t i = 0; i < COLUMNS_MAX; i++) {
        print_cell(file, &columns[i], columns[i].title, widths[i], i + 1 == COLUMNS_MAX);
    }
    for (uint32_t row = 0; row < view->kept_count; row++) {
        for (size_t i = 0; i < COLUMNS_MAX; i++) {
            columns[i].render(span_of_string(view->kept[row].line), columns[i].key, cell);
            print_cell(file, &columns[i], cell, widths[i], i + 1 == COLUMNS_MAX);
        }
    }
}

static void print_crash(struct span line, FILE *file)
{
    char time[32];
    char role[24];
    char ended[96];
    char doing[128];
    char uptime[CELL_MAX];
    (void)recent_line_get(line, "time", time, sizeof(time));
    (void)recent_line_get(line, "role", role, sizeof(role));
    (void)recent_line_get(line, "ended", ended, sizeof(ended));
    (void)recent_line_get(line, "doing", doing, sizeof(doing));
    render_duration(line, "uptime_ms", uptime);
    (void)fprintf(file, "%s  %s", time, role);
    if (strcmp(role, "worker") == 0) {
        (void)fprintf(file, " %llu", (unsigned long long)recent_line_number(line, "index"));
    }
    (void)fprintf(file, " (pid %llu, incarnation %llu, up %s) ended %s\n    while %s\n",
                  (unsigned long long)recent_line_number(line, "pid"),
                  (unsigned long long)recent_line_number(line, "incarnation"), uptime, ended,
                  doing);
    uint64_t in_flight = recent_line_number(line, "in_flight");
    if (in_flight > 0) {
        (void)fprintf(file, "    exchanges in flight: %llu; the oldest:\n",
                      (unsigned long long)in_flight);
    }
}

static void print_crash_exchange(struct span line, FILE *file)
{
    static const struct column *const FACTS = IN_FLIGHT;
    char cell[CELL_MAX];
    render_request(line, NULL, cell);
    (void)fprintf(file, "      %s%s\n        ", cell,
                  recent_line_is(line, "running", "true") ? "  <- was running" : "");
    for (size_t i = 0; i < COLUMNS_MAX - 1; i++) {
        if (FACTS[i].key != NULL && strcmp(FACTS[i].key, "worker") != 0) {
            FACTS[i].render(line, FACTS[i].key, cell);
            (void)fprintf(file, "%s%s %s", i == 0 ? "" : ", ", FACTS[i].title, cell);
        }
    }
    (void)fputc('\n', file);
}

/* The reports came oldest first, each with its exchanges; the newest is shown first. */
static void print_crashes(const struct recent_view *view, bool json, FILE *file)
{
    uint32_t end = view->kept_count;
    uint32_t shown = 0;
    while (end > 0 && shown < view->filters.limit) {
        uint32_t first = end - 1;
        while (first > 0 &&
               !recent_line_is(span_of_string(view->kept[first].line), "kind", "crash")) {
            first--;
        }
        for (uint32_t i = first; i < end; i++) {
            struct span line = span_of_string(view->kept[i].line);
            if (json) {
                (void)fprintf(file, "%s\n", view->kept[i].line);
            } else if (i == first) {
                print_crash(line, file);
            } else {
                print_crash_exchange(line, file);
            }
        }
        end = first;
        shown++;
    }
}

static void print_summary(const struct recent_view *view, FILE *file)
{
    char age[32];
    print_duration(age, sizeof(age), view->oldest_ms, "under 1000");
    (void)fprintf(file, "%u processes; %u in flight", view->processes, view->in_flight);
    if (view->in_flight > 0) {
        (void)fprintf(file, ", the oldest for %s", age);
    }
    (void)fprintf(file, "; kept: %u finished, %u of them failed; crashes: %u%s\n", view->finished,
                  view->failures, view->crashes,
                  view->crashes > 0 && view->filters.mode != RECENT_CRASHES ? " (see --crashes)"
                                                                            : "");
    for (uint32_t i = 0; i < view->stuck_count; i++) {
        (void)fprintf(file, "%s\n", view->stuck[i]);
    }
    (void)fputc('\n', file);
}

void recent_view_print(const struct recent_view *view, bool json, FILE *file)
{
    if (!json) {
        print_summary(view, file);
    }
    if (view->filters.mode == RECENT_CRASHES) {
        print_crashes(view, json, file);
    } else if (!json) {
        print_table(view, view->filters.mode == RECENT_IN_FLIGHT ? IN_FLIGHT : FINISHED, file);
    } else {
        for (uint32_t i = 0; i < view->kept_count; i++) {
            (void)fprintf(file, "%s\n", view->kept[i].line);
        }
    }
}
