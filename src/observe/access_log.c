#include "observe/access_log.h"

#include <time.h>

#include "base/output.h"
#include "observe/json_write.h"

enum {
    HINT_MAX = 512,
    KEYS_MAX = 512,    /* all names, quotes, colons and braces */
    NUMBERS_MAX = 512, /* all numbers and the time */
};

static_assert(ACCESS_PATH_MAX + ACCESS_HOST_MAX + 9 * ACCESS_TEXT_MAX + HINT_MAX + KEYS_MAX +
                      NUMBERS_MAX <=
                  ACCESS_LINE_MAX,
              "a record of the longest texts fits into a line");

size_t access_log_size(const struct generation *generation)
{
    struct span where = generation_text(generation, generation->header->server.access_log);
    return span_equal(where, SPAN("off")) ? 0 : ring_size(RING_CAPACITY_DEFAULT);
}

void access_log_init(struct access_log *log, void *memory, uint64_t incarnation,
                     struct metrics *metrics)
{
    *log = (struct access_log){.metrics = metrics, .enabled = memory != NULL, .second = UINT64_MAX};
    if (log->enabled) {
        ring_writer_init(&log->ring, memory, RING_CAPACITY_DEFAULT, incarnation);
    }
}

void access_log_attach(struct access_log *log, const _Atomic uint64_t *cursor)
{
    ring_writer_attach(&log->ring, cursor);
}

static void put_digits(uint8_t *place, unsigned count, uint32_t value)
{
    while (count > 0) {
        place[--count] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

/* Renders the date up to the second's dot; the calendar is asked once a second. */
static void refresh_date(struct access_log *log, uint64_t second)
{
    time_t moment = (time_t)second;
    struct tm day = {0};
    if (gmtime_r(&moment, &day) == NULL) {
        day = (struct tm){.tm_year = 70, .tm_mday = 1};
    }
    static_assert(sizeof(log->date) == sizeof("2026-01-31T12:00:00.") - 1, "room for the date");
    memcpy(log->date, "0000-00-00T00:00:00.", sizeof(log->date));
    put_digits(log->date, 4, (uint32_t)(day.tm_year + 1900));
    put_digits(log->date + 5, 2, (uint32_t)(day.tm_mon + 1));
    put_digits(log->date + 8, 2, (uint32_t)day.tm_mday);
    put_digits(log->date + 11, 2, (uint32_t)day.tm_hour);
    put_digits(log->date + 14, 2, (uint32_t)day.tm_min);
    put_digits(log->date + 17, 2, (uint32_t)day.tm_sec);
    log->second = second;
}

static void put_time(struct access_log *log, struct output *line, uint64_t time)
{
    uint64_t second = time / 1000000;
    if (second != log->second) {
        refresh_date(log, second);
    }
    OUTPUT_LITERAL(line, "{\"time\":\"");
    output_span(line, span_of(log->date, sizeof(log->date)));
    uint8_t rest[5] = {0, 0, 0, 'Z', '"'};
    put_digits(rest, 3, (uint32_t)(time / 1000 % 1000));
    output_span(line, span_of(rest, sizeof(rest)));
}

static void put_text(struct output *line, struct span key, struct span text, size_t max)
{
    output_span(line, key);
    if (text.data == NULL) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    json_string(line, text, max);
}

static void put_number(struct output *line, struct span key, uint64_t number)
{
    output_span(line, key);
    output_u64(line, number);
}

/* Milliseconds with three decimals. */
static void put_duration(struct output *line, struct span key, uint64_t duration)
{
    output_span(line, key);
    if (duration == ACCESS_NO_TIME) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    output_u64(line, duration / 1000);
    uint8_t fraction[4] = {'.'};
    put_digits(fraction + 1, 3, (uint32_t)(duration % 1000));
    output_span(line, span_of(fraction, sizeof(fraction)));
}

static void put_request(struct output *line, const struct access_record *record)
{
    put_text(line, SPAN(",\"request_id\":"), record->request_id, ACCESS_TEXT_MAX);
    put_text(line, SPAN(",\"client\":"), record->client, ACCESS_TEXT_MAX);
    put_text(line, SPAN(",\"listener\":"), record->listener, ACCESS_TEXT_MAX);
    put_text(line, SPAN(",\"route\":"), record->route, ACCESS_TEXT_MAX);
    put_text(line, SPAN(",\"method\":"), record->method, ACCESS_TEXT_MAX);
    put_text(line, SPAN(",\"host\":"), record->host, ACCESS_HOST_MAX);
    put_text(line, SPAN(",\"path\":"), record->path, ACCESS_PATH_MAX);
    put_text(line, SPAN(",\"protocol\":"), record->protocol, ACCESS_TEXT_MAX);
}

static void put_outcome(struct output *line, const struct access_record *record)
{
    if (record->status == 0) {
        OUTPUT_LITERAL(line, ",\"status\":null");
    } else {
        put_number(line, SPAN(",\"status\":"), record->status);
    }
    if (record->reason == REASON_NONE) {
        OUTPUT_LITERAL(line, ",\"reason\":null");
    } else {
        const char *label = reason_info(record->reason)->label;
        put_text(line, SPAN(",\"reason\":"), span_of_string(label), ACCESS_TEXT_MAX);
    }
    put_number(line, SPAN(",\"bytes_in\":"), record->bytes_in);
    put_number(line, SPAN(",\"bytes_out\":"), record->bytes_out);
    put_text(line, SPAN(",\"upstream\":"), record->upstream, ACCESS_TEXT_MAX);
    put_text(line, SPAN(",\"endpoint\":"), record->endpoint, ACCESS_TEXT_MAX);
    put_number(line, SPAN(",\"attempts\":"), record->attempts);
    put_duration(line, SPAN(",\"queue_ms\":"), record->queue);
    put_duration(line, SPAN(",\"connect_ms\":"), record->connect);
    put_duration(line, SPAN(",\"first_byte_ms\":"), record->first_byte);
    put_duration(line, SPAN(",\"total_ms\":"), record->total);
}

/* For the operator, who alone reads the log: where to look and what to do. */
static void put_advice(struct output *line, const struct access_record *record)
{
    if (record->place_line == 0) {
        OUTPUT_LITERAL(line, ",\"place\":null");
    } else {
        OUTPUT_LITERAL(line, ",\"place\":\"");
        json_escape(line, record->place_file, ACCESS_TEXT_MAX);
        OUTPUT_LITERAL(line, ":");
        output_u64(line, record->place_line);
        OUTPUT_LITERAL(line, "\"");
    }
    const char *hint = reason_info(record->reason)->hint;
    put_text(line, SPAN(",\"hint\":"), span_of_string(hint), HINT_MAX);
}

void access_log_write(struct access_log *log, const struct access_record *record)
{
    if (!log->enabled) {
        return;
    }
    uint8_t *place = ring_reserve(&log->ring, ACCESS_LINE_MAX);
    if (place == NULL) {
        metrics_count(log->metrics, METRIC_ACCESS_LOG_DROPS);
        return;
    }
    struct output line = output_over(place, ACCESS_LINE_MAX);
    put_time(log, &line, record->time);
    put_request(&line, record);
    put_outcome(&line, record);
    if (record->reason != REASON_NONE) {
        put_advice(&line, record);
    }
    OUTPUT_LITERAL(&line, "}\n");
    ASSERT(!line.overflowed);
    ring_commit(&log->ring, line.size);
}
