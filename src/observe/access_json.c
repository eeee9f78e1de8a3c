#include <stddef.h>
#include <time.h>

#include "observe/access_format.h"
#include "observe/json_write.h"

enum {
    HINT_MAX = 384,
    KEYS_MAX = 512,    /* all names, quotes, colons and braces */
    NUMBERS_MAX = 320, /* all numbers and the time */
    TEXTS = 11,        /* members of ACCESS_TEXT_MAX */
    VERSION_MAX = 16,  /* of TLS */
    SHORT_TEXT = 64,   /* a reason, a cipher, a fingerprint */
    KEY_SLOT = 24,     /* every key is copied with as many bytes: a few stores */
    DATE_SIZE = 20,    /* "2026-01-31T12:00:00." */
    /* Of a recorded field: name, value, quotes, colon, comma. */
    CAPTURED_MAX = GENERATION_CAPTURED_NAME_MAX + ACCESS_HEADER_MAX + 8,
};

static_assert(ACCESS_PATH_MAX + ACCESS_HOST_MAX + TEXTS * ACCESS_TEXT_MAX + VERSION_MAX +
                      3 * SHORT_TEXT + HINT_MAX + TLS_DETAIL_TEXT_MAX + KEYS_MAX + NUMBERS_MAX +
                      GENERATION_CAPTURED_MAX * CAPTURED_MAX + KEY_SLOT <=
                  ACCESS_LINE_MAX,
              "a record of the longest texts fits into a line");
static_assert((int)DATE_SIZE <= (int)ACCESS_DATE_MAX, "room for the date");

enum member_kind {
    MEMBER_TIME,
    MEMBER_TEXT,
    MEMBER_TARGET,
    MEMBER_NUMBER,
    MEMBER_ATTEMPTS,
    MEMBER_STATUS,
    MEMBER_GRPC_STATUS,
    MEMBER_REASON,
    MEMBER_ANSWER,
    MEMBER_DURATION,
    MEMBER_PLACE,
    MEMBER_HINT,
    MEMBER_DETAIL,
    MEMBER_KIND_COUNT
};

/* How a member is written: its key with a comma in front, and what is behind it. */
struct member {
    char key[KEY_SLOT];
    uint8_t key_size;
    uint8_t kind;      /* enum member_kind */
    uint8_t redaction; /* bits that hide it */
    uint16_t offset;   /* of the value in the record */
    uint16_t size_max; /* of a text, escaped */
};

#define MEMBER(name, kind, member, redaction, size_max)                                            \
    {                                                                                              \
        ",\"" name "\":", sizeof(",\"" name "\":") - 1, kind, redaction,                           \
            offsetof(struct access_record, member), size_max                                       \
    }
#define TEXT(name, member) MEMBER(name, MEMBER_TEXT, member, 0, ACCESS_TEXT_MAX)
#define HIDDEN(name, member, what, size_max)                                                       \
    MEMBER(name, MEMBER_TEXT, member, 1u << (what), size_max)

static const struct member MEMBERS[ACCESS_FIELD_COUNT] = {
    [ACCESS_FIELD_TIME] = MEMBER("time", MEMBER_TIME, time, 0, 0),
    [ACCESS_FIELD_REQUEST_ID] =
        HIDDEN("request_id", request_id, ACCESS_REDACT_REQUEST_ID, ACCESS_TEXT_MAX),
    [ACCESS_FIELD_CLIENT] = HIDDEN("client", client, ACCESS_REDACT_CLIENT, ACCESS_TEXT_MAX),
    [ACCESS_FIELD_LISTENER] = TEXT("listener", listener),
    [ACCESS_FIELD_ROUTE] = TEXT("route", route),
    [ACCESS_FIELD_METHOD] = HIDDEN("method", method, ACCESS_REDACT_METHOD, ACCESS_TEXT_MAX),
    [ACCESS_FIELD_HOST] = HIDDEN("host", host, ACCESS_REDACT_HOST, ACCESS_HOST_MAX),
    [ACCESS_FIELD_PATH] = MEMBER("path", MEMBER_TARGET, path, 0, ACCESS_PATH_MAX),
    [ACCESS_FIELD_PROTOCOL] = TEXT("protocol", protocol),
    [ACCESS_FIELD_STATUS] = MEMBER("status", MEMBER_STATUS, status, 0, 0),
    [ACCESS_FIELD_REASON] = MEMBER("reason", MEMBER_REASON, reason, 0, SHORT_TEXT),
    [ACCESS_FIELD_BYTES_IN] = MEMBER("bytes_in", MEMBER_NUMBER, bytes_in, 0, 0),
    [ACCESS_FIELD_BYTES_OUT] = MEMBER("bytes_out", MEMBER_NUMBER, bytes_out, 0, 0),
    [ACCESS_FIELD_UPSTREAM] = TEXT("upstream", upstream),
    [ACCESS_FIELD_ENDPOINT] = TEXT("endpoint", endpoint),
    [ACCESS_FIELD_ATTEMPTS] = MEMBER("attempts", MEMBER_ATTEMPTS, attempts, 0, 0),
    [ACCESS_FIELD_QUEUE] = MEMBER("queue_ms", MEMBER_DURATION, queue, 0, 0),
    [ACCESS_FIELD_CONNECT] = MEMBER("connect_ms", MEMBER_DURATION, connect, 0, 0),
    [ACCESS_FIELD_FIRST_BYTE] = MEMBER("first_byte_ms", MEMBER_DURATION, first_byte, 0, 0),
    [ACCESS_FIELD_TOTAL] = MEMBER("total_ms", MEMBER_DURATION, total, 0, 0),
    [ACCESS_FIELD_PLACE] = MEMBER("place", MEMBER_PLACE, place_file, 0, ACCESS_TEXT_MAX),
    [ACCESS_FIELD_HINT] = MEMBER("hint", MEMBER_HINT, reason, 0, HINT_MAX),
    [ACCESS_FIELD_DETAIL] = MEMBER("detail", MEMBER_DETAIL, detail, 0, TLS_DETAIL_TEXT_MAX),
    [ACCESS_FIELD_TLS_VERSION] = MEMBER("tls_version", MEMBER_TEXT, tls_version, 0, VERSION_MAX),
    [ACCESS_FIELD_TLS_CIPHER] = MEMBER("tls_cipher", MEMBER_TEXT, tls_cipher, 0, SHORT_TEXT),
    [ACCESS_FIELD_TLS_RESUMED] = MEMBER("tls_resumed", MEMBER_ANSWER, tls_resumed, 0, 0),
    [ACCESS_FIELD_SNI] = HIDDEN("sni", sni, ACCESS_REDACT_HOST, ACCESS_TEXT_MAX),
    [ACCESS_FIELD_CLIENT_SUBJECT] =
        HIDDEN("client_subject", client_subject, ACCESS_REDACT_CLIENT, ACCESS_TEXT_MAX),
    [ACCESS_FIELD_CLIENT_FINGERPRINT] =
        HIDDEN("client_fingerprint", client_fingerprint, ACCESS_REDACT_CLIENT, SHORT_TEXT),
    [ACCESS_FIELD_CLIENT_VERIFIED] =
        MEMBER("client_verified", MEMBER_ANSWER, client_verified, 0, 0),
    [ACCESS_FIELD_GRPC_STATUS] = MEMBER("grpc_status", MEMBER_GRPC_STATUS, grpc_status, 0, 0),
};

static void put_key(struct output *line, const struct member *member)
{
    uint8_t *place = output_take(line, KEY_SLOT);
    if (place != NULL) {
        memcpy(place, member->key, KEY_SLOT);
        line->size -= KEY_SLOT - (size_t)member->key_size;
    }
}

/* Renders the date up to the second's dot; the calendar is asked once a second. */
static void refresh_date(struct access_log *log, uint64_t second)
{
    struct tm day = access_calendar(second);
    memcpy(log->date, "0000-00-00T00:00:00.", DATE_SIZE);
    access_digits(log->date, 4, (uint32_t)(day.tm_year + 1900));
    access_digits(log->date + 5, 2, (uint32_t)(day.tm_mon + 1));
    access_digits(log->date + 8, 2, (uint32_t)day.tm_mday);
    access_digits(log->date + 11, 2, (uint32_t)day.tm_hour);
    access_digits(log->date + 14, 2, (uint32_t)day.tm_min);
    access_digits(log->date + 17, 2, (uint32_t)day.tm_sec);
    log->second = second;
}

static void put_time(struct access_log *log, struct output *line, uint64_t time)
{
    uint64_t second = time / 1000000;
    if (second != log->second) {
        refresh_date(log, second);
    }
    uint8_t *place = output_take(line, DATE_SIZE + 6);
    if (place != NULL) {
        place[0] = '"';
        memcpy(place + 1, log->date, DATE_SIZE);
        memcpy(place + 1 + DATE_SIZE, "000Z\"", 5);
        access_digits(place + 1 + DATE_SIZE, 3, (uint32_t)(time / 1000 % 1000));
    }
}

static void put_text(struct output *line, struct span text, size_t max)
{
    if (text.data == NULL) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    json_string(line, text, max);
}

/* Milliseconds with three decimals. */
static void put_duration(struct output *line, uint64_t duration)
{
    if (duration == ACCESS_NO_TIME) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    output_u64(line, duration / 1000);
    uint8_t *fraction = output_take(line, 4);
    if (fraction != NULL) {
        fraction[0] = '.';
        access_digits(fraction + 1, 3, (uint32_t)(duration % 1000));
    }
}

static void put_status(struct output *line, uint16_t status)
{
    if (status == 0) {
        OUTPUT_LITERAL(line, "null");
    } else {
        output_u64(line, status);
    }
}

static void put_answer(struct output *line, enum access_answer answer)
{
    output_span(line, answer == ACCESS_NO_ANSWER ? SPAN("null")
                      : answer == ACCESS_YES     ? SPAN("true")
                                                 : SPAN("false"));
}

static struct span label_of(enum reason reason)
{
    return reason == REASON_NONE ? SPAN_EMPTY : span_of_string(reason_info(reason)->label);
}

/* For the operator, who alone reads the log: where to look. */
static void put_place(struct output *line, const struct access_record *record)
{
    if (record->place_line == 0) {
        OUTPUT_LITERAL(line, "null");
        return;
    }
    output_byte(line, '"');
    json_escape(line, record->place_file, ACCESS_TEXT_MAX);
    output_byte(line, ':');
    output_u64(line, record->place_line);
    output_byte(line, '"');
}

/* The value of a member in the record; its type goes by the member's kind. */
static const void *value_of(const struct access_record *record, const struct member *member)
{
    return (const uint8_t *)record + member->offset;
}

static void put_member(struct access_log *log, struct output *line, const struct member *member,
                       const struct access_record *record)
{
    const void *value = value_of(record, member);
    switch ((enum member_kind)member->kind) {
    case MEMBER_TIME:
        put_time(log, line, record->time);
        return;
    case MEMBER_TEXT:
        if ((log->access->redacted & member->redaction) != 0) {
            OUTPUT_LITERAL(line, "\"" ACCESS_REDACTED "\"");
            return;
        }
        put_text(line, *(const struct span *)value, member->size_max);
        return;
    case MEMBER_TARGET:
        put_text(line, access_redact_target(log, record->path), ACCESS_PATH_MAX);
        return;
    case MEMBER_NUMBER:
        output_u64(line, *(const uint64_t *)value);
        return;
    case MEMBER_ATTEMPTS:
        output_u64(line, record->attempts);
        return;
    case MEMBER_STATUS:
        put_status(line, record->status);
        return;
    case MEMBER_GRPC_STATUS:
        output_span(line, record->grpc_status == GRPC_STATUS_NONE
                              ? SPAN("null")
                              : grpc_status_digits(record->grpc_status));
        return;
    case MEMBER_REASON:
        put_text(line, label_of(record->reason), SHORT_TEXT);
        return;
    case MEMBER_ANSWER:
        put_answer(line, *(const enum access_answer *)value);
        return;
    case MEMBER_DURATION:
        put_duration(line, *(const uint64_t *)value);
        return;
    case MEMBER_PLACE:
        put_place(line, record);
        return;
    case MEMBER_HINT:
        put_text(line, span_of_string(reason_info(record->reason)->hint), HINT_MAX);
        return;
    case MEMBER_DETAIL:
        put_text(line, span_of_string(tls_detail_text(record->detail)), TLS_DETAIL_TEXT_MAX);
        return;
    case MEMBER_KIND_COUNT:
        break;
    }
    UNREACHABLE("a kind of member");
}

/* Millionths as a decimal number: 0.05. */
static void put_rate(struct output *line, uint32_t rate)
{
    enum { DECIMALS = 6 };
    uint8_t digits[DECIMALS];
    size_t size = DECIMALS;
    ASSERT(rate > 0 && rate < GENERATION_RATE_ONE);
    access_digits(digits, DECIMALS, rate);
    while (digits[size - 1] == '0') {
        size--;
    }
    OUTPUT_LITERAL(line, ",\"sample_rate\":0.");
    output_span(line, span_of(digits, size));
}

static void put_captured(struct access_log *log, struct output *line, struct ref ref,
                         const struct fields *fields)
{
    const struct generation_captured *captured = generation_array(log->generation, ref);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (i > 0) {
            output_byte(line, ',');
        }
        json_string(line, generation_text(log->generation, captured[i].name),
                    GENERATION_CAPTURED_NAME_MAX);
        output_byte(line, ':');
        put_text(line, access_captured_value(log, &captured[i], fields), ACCESS_HEADER_MAX);
    }
    output_byte(line, '}');
}

/* Kinds from here on a record does not have. */
static enum member_kind first_absent(const struct access_record *record)
{
    return record->reason == REASON_NONE       ? MEMBER_PLACE
           : record->detail == TLS_DETAIL_NONE ? MEMBER_DETAIL
                                               : MEMBER_KIND_COUNT;
}

void access_json(struct access_log *log, struct output *line, const struct access_record *record,
                 uint32_t rate)
{
    const struct generation_access *access = log->access;
    enum member_kind absent = first_absent(record);
    for (uint32_t i = 0; i < access->fields.count; i++) {
        const struct member *member = &MEMBERS[log->fields[i]];
        if (member->kind < absent) {
            put_key(line, member);
            put_member(log, line, member, record);
        }
    }
    if (rate < GENERATION_RATE_ONE) {
        put_rate(line, rate);
    }
    if (access->request_captured.count > 0) {
        OUTPUT_LITERAL(line, ",\"request_headers\":{");
        put_captured(log, line, access->request_captured, record->request_fields);
    }
    if (access->response_captured.count > 0) {
        OUTPUT_LITERAL(line, ",\"response_headers\":{");
        put_captured(log, line, access->response_captured, record->response_fields);
    }
    if (line->size == 0) {
        output_byte(line, '{'); /* place, hint and detail of a request that did not fail */
    }
    line->data[0] = '{'; /* in place of the first comma */
    OUTPUT_LITERAL(line, "}\n");
}
