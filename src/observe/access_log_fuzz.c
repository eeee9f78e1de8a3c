/*
 * Records of any bytes, in both formats, with everything that may be configured: whatever the texts
 * hold, a record is one line; in JSON it is an object that a reader takes, in the combined format
 * it has its nine parts, and a secret that stands behind a query of any bytes is not in it. The
 * first byte picks the configuration, the second the reason; the rest is divided by zero bytes into
 * the texts of the record.
 */
#include "observe/access_log.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/output.h"
#include "config/compile.h"
#include "config/utf8.h"

enum { FUZZ_ARENA_SIZE = 512 * 1024, TEXTS = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All but the first and the fifth hide what `token` is. */
static const char *const configurations[] = {
    "",
    "redact-query \"token\" \"caf\\u{e9}\"; sample \"2xx\" 1",
    "redact \"query\" \"client\"; request-header \"Referer\" \"A\" \"Cookie\"",
    "redact \"path\"; fields \"path\" \"hint\" \"place\"; response-header \"Location\" \"B\"",
    "format \"combined\"",
    "format \"combined\"; redact-query \"token\"; redact-header \"User-Agent\"",
};

enum { CONFIGURATIONS = sizeof(configurations) / sizeof(configurations[0]), FIRST_COMBINED = 4 };

#define SECRET "s3cr3t-v4lu3"

/* ---- A reader of JSON, as strict as RFC 8259 where these records can be wrong ---- */

static void expect(struct span *rest, uint8_t byte)
{
    ASSERT(rest->size > 0 && rest->data[0] == byte);
    *rest = span_from(*rest, 1);
}

static void read_escape(struct span *rest)
{
    ASSERT(rest->size > 1);
    uint8_t kind = rest->data[1];
    if (kind != 'u') {
        ASSERT(kind == '"' || kind == '\\');
        *rest = span_from(*rest, 2);
        return;
    }
    ASSERT(rest->size > 5);
    for (size_t i = 2; i < 6; i++) {
        ASSERT(ascii_hex_value(rest->data[i]) >= 0);
    }
    *rest = span_from(*rest, 6);
}

static void read_string(struct span *rest)
{
    expect(rest, '"');
    while (rest->size > 0 && rest->data[0] != '"') {
        uint32_t code_point = rest->data[0];
        if (rest->data[0] == '\\') {
            read_escape(rest);
            continue;
        }
        size_t size = utf8_decode(*rest, &code_point);
        ASSERT(size > 0 && code_point >= 0x20 && (code_point < 0x7f || code_point >= 0xa0));
        *rest = span_from(*rest, size);
    }
    expect(rest, '"');
}

static void read_number(struct span *rest)
{
    size_t digits = 0;
    size_t dots = 0;
    while (rest->size > 0 && (ascii_is_digit(rest->data[0]) || rest->data[0] == '.')) {
        digits += rest->data[0] == '.' ? 0 : 1;
        dots += rest->data[0] == '.' ? 1 : 0;
        *rest = span_from(*rest, 1);
    }
    ASSERT(digits > 0 && dots <= 1);
}

/* Objects hold texts, numbers, null and one more level of objects. */
static void read_object(struct span *rest, unsigned depth)
{
    ASSERT(depth < 2);
    expect(rest, '{');
    while (rest->size > 0 && rest->data[0] != '}') {
        read_string(rest);
        expect(rest, ':');
        ASSERT(rest->size > 0);
        if (rest->data[0] == '{') {
            read_object(rest, depth + 1);
        } else if (rest->data[0] == '"') {
            read_string(rest);
        } else if (span_starts_with(*rest, SPAN("null"))) {
            *rest = span_from(*rest, 4);
        } else {
            read_number(rest);
        }
        if (rest->size > 0 && rest->data[0] == ',') {
            *rest = span_from(*rest, 1);
            ASSERT(rest->size > 0 && rest->data[0] == '"');
        }
    }
    expect(rest, '}');
}

/* ---- A reader of the combined format ---- */

static void read_word(struct span *rest)
{
    size_t end = span_find(*rest, ' ');
    ASSERT(end > 0);
    *rest = span_from(*rest, end);
}

static void read_quoted(struct span *rest)
{
    expect(rest, '"');
    ASSERT(rest->size > 0 && rest->data[0] != '"'); /* what is empty is a dash */
    while (rest->size > 0 && rest->data[0] != '"') {
        ASSERT(rest->data[0] >= 0x20 && rest->data[0] < 0x7f);
        size_t size = rest->data[0] == '\\' ? 2 : 1;
        ASSERT(rest->size > size);
        *rest = span_from(*rest, size);
    }
    expect(rest, '"');
}

static void read_combined(struct span *rest)
{
    struct span dashes = SPAN(" - - [");
    read_word(rest);
    ASSERT(span_starts_with(*rest, dashes));
    *rest = span_from(*rest, span_find(*rest, ']'));
    expect(rest, ']');
    expect(rest, ' ');
    read_quoted(rest);
    expect(rest, ' ');
    read_number(rest);
    expect(rest, ' ');
    read_word(rest);
    expect(rest, ' ');
    read_quoted(rest);
    expect(rest, ' ');
    read_quoted(rest);
}

/* ---- The record ---- */

static struct span next_text(struct span *rest)
{
    size_t end = span_find(*rest, 0);
    struct span text = span_first(*rest, end);
    *rest = span_from(*rest, end < rest->size ? end + 1 : end);
    return text;
}

static void check_line(struct span line, bool combined)
{
    ASSERT(line.size > 1 && line.size <= ACCESS_LINE_MAX);
    ASSERT(span_find(line, '\n') == line.size - 1);
    struct span rest = span_first(line, line.size - 1);
    if (combined) {
        read_combined(&rest);
    } else {
        read_object(&rest, 0);
    }
    ASSERT(rest.size == 0);
}

static bool has_secret(struct span text)
{
    return memmem(text.data, text.size, SECRET, sizeof(SECRET) - 1) != NULL;
}

static void write_and_check(struct access_log *log, struct ring_reader *reader, struct span input,
                            size_t choice)
{
    struct span texts[TEXTS];
    static const char tail[] = "&token=" SECRET;
    uint8_t reason = input.size > 0 ? input.data[0] : 0;
    struct span rest = span_from(input, input.size > 0 ? 1 : 0);
    for (size_t i = 0; i < TEXTS; i++) {
        texts[i] = next_text(&rest);
    }
    struct output path = output_over(malloc(input.size + 64), input.size + 64);
    ASSERT(path.data != NULL);
    OUTPUT_LITERAL(&path, "/?");
    output_span(&path, texts[10]);
    output_span(&path, span_of(tail, sizeof(tail) - 1));
    struct field fields[] = {
        {.name = SPAN("Referer"), .value = texts[0], .id = FIELD_REFERER},
        {.name = SPAN("User-Agent"), .value = texts[1], .id = FIELD_USER_AGENT},
        {.name = SPAN("Location"), .value = texts[2], .id = FIELD_LOCATION},
        {.name = SPAN("A"), .value = texts[3]},
        {.name = SPAN("a"), .value = texts[4]},
        {.name = SPAN("b"), .value = texts[5]},
        {.name = SPAN("Cookie"), .value = texts[6], .id = FIELD_COOKIE},
    };
    const struct fields all = {.entries = fields, .count = sizeof(fields) / sizeof(fields[0])};
    struct access_record record = {
        .time = UINT64_C(1769860800123456),
        .request_id = texts[6],
        .client = SPAN("192.0.2.7"),
        .route = texts[7],
        .method = texts[8],
        .host = texts[9],
        .path = reason % 2 == 0 ? texts[10] : output_bytes(&path),
        .protocol = SPAN("HTTP/1.1"),
        .place_file = texts[11],
        .place_line = 1,
        .status = reason,
        .reason = (enum reason)(reason % REASON_COUNT),
        .request_fields = &all,
        .response_fields = &all,
    };
    struct span line = SPAN_EMPTY;
    access_log_write(log, &record);
    enum status status = ring_read(reader, &line);
    ASSERT(status == OK);
    check_line(line, choice >= FIRST_COMBINED);
    ASSERT(choice == 0 || choice == FIRST_COMBINED || has_secret(input) || !has_secret(line));
    free(path.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t choice = size > 0 ? data[0] % CONFIGURATIONS : 0;
    void *memory = malloc(FUZZ_ARENA_SIZE);
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    struct arena arena;
    struct span block = SPAN_EMPTY;
    struct generation generation;
    struct environment environment = {.cores = 1};
    ASSERT(memory != NULL && diagnostics != NULL);
    arena_init(&arena, memory, FUZZ_ARENA_SIZE);
    diagnostics_init(diagnostics, &arena);
    struct compile_input input = {
        .name = SPAN("fuzz"),
        .text = arena_printf(&arena, "observability { access-log { %s } }", configurations[choice]),
        .environment = &environment,
    };
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    ASSERT(status == OK);
    ASSERT(generation_open(&generation, block));
    void *ring = aligned_alloc(64, ring_size(RING_CAPACITY_DEFAULT));
    void *cells = calloc(1, metrics_size(&generation));
    struct access_log *log = malloc(sizeof(*log));
    ASSERT(ring != NULL && cells != NULL && log != NULL);
    struct metrics metrics;
    struct ring_reader reader;
    _Atomic uint64_t cursor = 0;
    metrics_init(&metrics, cells, &generation);
    access_log_init(log, ring, 1, &metrics, &generation);
    access_log_attach(log, &cursor);
    ring_reader_init(&reader, ring, RING_CAPACITY_DEFAULT, &cursor);
    write_and_check(log, &reader, span_from(span_of(data, size), size > 0 ? 1 : 0), choice);
    free(log);
    free(cells);
    free(ring);
    free(diagnostics);
    free(memory);
    return 0;
}
