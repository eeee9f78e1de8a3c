#include <time.h>

#include "observe/access_format.h"
#include "observe/json_write.h"

enum {
    DATE_SIZE = 28,  /* "[31/Jan/2026:12:00:00 +0000]" */
    FIELD_MAX = 1024 /* of Referer and User-Agent, escaped */
};

static_assert(2 * FIELD_MAX + ACCESS_PATH_MAX + 3 * ACCESS_TEXT_MAX + DATE_SIZE + 64 <=
                  ACCESS_LINE_MAX,
              "a record of the longest texts fits into a line");
static_assert((int)DATE_SIZE <= (int)ACCESS_DATE_MAX, "room for the date");

/* Writes the escaped form of a byte as Apache does; returns its size. */
static size_t escape_byte(uint8_t byte, uint8_t escaped[4])
{
    static const char CONTROLS[] = "btnv\0r"; /* from 0x08 on */
    static const char DIGITS[] = "0123456789abcdef";
    if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
        escaped[0] = byte;
        return 1;
    }
    escaped[0] = '\\';
    if (byte == '"' || byte == '\\') {
        escaped[1] = byte;
        return 2;
    }
    if (byte >= 0x08 && byte <= 0x0d && byte != 0x0c) {
        escaped[1] = (uint8_t)CONTROLS[byte - 0x08];
        return 2;
    }
    escaped[1] = 'x';
    escaped[2] = (uint8_t)DIGITS[byte >> 4];
    escaped[3] = (uint8_t)DIGITS[byte & 15];
    return 4;
}

/* At most max bytes, the mark of a cut included; no escape is torn. */
static void put_escaped(struct output *line, struct span text, size_t max)
{
    struct span mark = SPAN(JSON_CUT_MARK);
    size_t start = line->size;
    size_t cut = start; /* where the mark would go */
    if (text.size <= max && json_plain(line, text)) {
        return;
    }
    for (size_t i = 0; i < text.size; i++) {
        uint8_t escaped[4];
        size_t size = escape_byte(text.data[i], escaped);
        size_t used = line->size - start;
        if (used <= max - mark.size) {
            cut = line->size;
        }
        if (size > max - used) {
            line->size = cut;
            output_span(line, mark);
            return;
        }
        output_span(line, span_of(escaped, size));
    }
}

static void put_quoted(struct output *line, struct span text)
{
    output_byte(line, '"');
    if (text.size == 0) {
        output_byte(line, '-');
    } else {
        put_escaped(line, text, FIELD_MAX);
    }
    output_byte(line, '"');
}

static void refresh_date(struct access_log *log, uint64_t second)
{
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm day = access_calendar(second);
    memcpy(log->date, "[00/xxx/0000:00:00:00 +0000]", DATE_SIZE);
    access_digits(log->date + 1, 2, (uint32_t)day.tm_mday);
    memcpy(log->date + 4, MONTHS + (ptrdiff_t)3 * day.tm_mon, 3);
    access_digits(log->date + 8, 4, (uint32_t)(day.tm_year + 1900));
    access_digits(log->date + 13, 2, (uint32_t)day.tm_hour);
    access_digits(log->date + 16, 2, (uint32_t)day.tm_min);
    access_digits(log->date + 19, 2, (uint32_t)day.tm_sec);
    log->second = second;
}

/* Readers of the format want an address, so an unspecified one stands for a hidden one. */
static void put_client(struct access_log *log, struct output *line,
                       const struct access_record *record)
{
    if (access_redacts(log, ACCESS_REDACT_CLIENT)) {
        OUTPUT_LITERAL(line, "0.0.0.0");
    } else {
        put_escaped(line, record->client, ACCESS_TEXT_MAX);
    }
    OUTPUT_LITERAL(line, " - - ");
}

static void put_request(struct access_log *log, struct output *line,
                        const struct access_record *record)
{
    bool hidden = access_redacts(log, ACCESS_REDACT_METHOD);
    if (record->method.size == 0) {
        OUTPUT_LITERAL(line, " \"-\" ");
        return;
    }
    OUTPUT_LITERAL(line, " \"");
    put_escaped(line, hidden ? SPAN(ACCESS_REDACTED) : record->method, ACCESS_TEXT_MAX);
    output_byte(line, ' ');
    struct span target = access_redact_target(log, record->path);
    put_escaped(line, target.size == 0 ? SPAN("-") : target, ACCESS_PATH_MAX);
    output_byte(line, ' ');
    put_escaped(line, record->protocol, ACCESS_TEXT_MAX);
    OUTPUT_LITERAL(line, "\" ");
}

static unsigned status_of(const struct access_record *record)
{
    enum { CLIENT_LEFT = 499, NO_RESPONSE = 444 };
    bool left = record->reason == REASON_CLIENT_CLOSED;
    return record->status != 0 ? record->status : left ? CLIENT_LEFT : NO_RESPONSE;
}

void access_combined(struct access_log *log, struct output *line,
                     const struct access_record *record)
{
    uint64_t second = record->time / 1000000;
    const struct generation_captured *captured =
        generation_array(log->generation, log->access->request_captured);
    if (second != log->second) {
        refresh_date(log, second);
    }
    put_client(log, line, record);
    output_span(line, span_of(log->date, DATE_SIZE));
    put_request(log, line, record);
    output_u64(line, status_of(record));
    output_byte(line, ' ');
    if (record->bytes_out == 0) {
        output_byte(line, '-');
    } else {
        output_u64(line, record->bytes_out);
    }
    for (uint32_t i = 0; i < log->access->request_captured.count; i++) {
        output_byte(line, ' ');
        put_quoted(line, access_captured_value(log, &captured[i], record->request_fields));
    }
    output_byte(line, '\n');
}
