/*
 * Request heads from anyone: the scan gives the same result however the bytes are split, and what
 * was accepted and is written anew parses to the same message.
 */
#include "base/assert.h"
#include "http/bytes.h"
#include "http/http1_parse.h"
#include "http/http1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {
    .request_line_max = 512, .head_max = 2048, .fields_max = 24, .merge_slashes = true};

/* An escaped path is three times as long; the framing field is ours. */
static const struct http1_limits wide_limits = {
    .request_line_max = 2048, .head_max = 8192, .fields_max = 26, .merge_slashes = true};

struct outcome {
    enum status status;
    enum reason reason;
    struct http1_scan scan;
};

static struct outcome scan_in_steps(struct span bytes, const struct http1_limits *within,
                                    uint32_t step)
{
    struct outcome outcome = {.status = AGAIN};
    size_t given = 0;
    http1_scan_init(&outcome.scan, HTTP1_REQUEST);
    while (outcome.status == AGAIN && given < bytes.size) {
        step = step * 1664525 + 1013904223;
        given += 1 + (step >> 24) % 40;
        given = given < bytes.size ? given : bytes.size;
        outcome.status =
            http1_scan_head(&outcome.scan, span_first(bytes, given), within, &outcome.reason);
    }
    return outcome;
}

static struct outcome scan_whole(struct span bytes, const struct http1_limits *within)
{
    struct outcome outcome = {.status = AGAIN};
    http1_scan_init(&outcome.scan, HTTP1_REQUEST);
    outcome.status = http1_scan_head(&outcome.scan, bytes, within, &outcome.reason);
    return outcome;
}

static void check_same_fields(const struct fields *before, const struct fields *after)
{
    size_t j = 1; /* after Host, which is written first */
    for (size_t i = 0; i < before->count; i++) {
        const struct field *field = &before->entries[i];
        if (field->id == FIELD_HOST || field->id == FIELD_CONTENT_LENGTH ||
            field->id == FIELD_TRANSFER_ENCODING || field->id == FIELD_CONNECTION ||
            field->id == FIELD_KEEP_ALIVE) {
            continue;
        }
        ASSERT(j < after->count);
        ASSERT(after->entries[j].id == field->id);
        ASSERT(span_equal(after->entries[j].name, field->name));
        ASSERT(span_equal(after->entries[j].value, field->value));
        j++;
    }
}

static void check_round_trip(const struct request_head *head)
{
    static uint8_t rendered[16384];
    static _Alignas(max_align_t) uint8_t memory[16384];
    struct output output = output_over(rendered, sizeof(rendered));
    struct arena arena;
    struct request_head again;
    enum reason reason = REASON_NONE;
    bool has_host = head->authority.size > 0;
    const struct http1_request_line line = {
        .method = head->method_text,
        .path = head->path,
        .query = head->query,
        .host = has_host ? head->authority : SPAN("fallback.example"),
    };
    const struct http1_delivery delivery = {
        .framing = head->framing,
        .content_length = head->content_length,
        .connection = head->keep_alive ? HTTP1_CONNECTION_DEFAULT : HTTP1_CONNECTION_CLOSE,
    };
    ASSERT(http1_write_request(&output, &line, &head->fields, &delivery));
    struct outcome outcome = scan_whole(output_bytes(&output), &wide_limits);
    ASSERT(outcome.status == OK && outcome.scan.head_size == output.size);
    arena_init(&arena, memory, sizeof(memory));
    ASSERT(http1_parse_request(output_bytes(&output), &wide_limits, &arena, &again, &reason) == OK);
    ASSERT(again.version == HTTP_1_1 && again.method == head->method);
    ASSERT(span_equal(again.method_text, head->method_text));
    ASSERT(span_equal(again.path, head->path) && span_equal(again.query, head->query));
    ASSERT((again.query.data == NULL) == (head->query.data == NULL));
    ASSERT(!has_host || span_equal(again.authority, head->authority));
    ASSERT(!has_host || span_equal(again.host, head->host));
    ASSERT(again.framing == head->framing && again.content_length == head->content_length);
    ASSERT(again.keep_alive == head->keep_alive && again.max_forwards == head->max_forwards);
    ASSERT(again.encoded_slash == head->encoded_slash);
    ASSERT(again.encoded_backslash == head->encoded_backslash);
    ASSERT(again.te_trailers == head->te_trailers);
    check_same_fields(&head->fields, &again.fields);
}

/* Whatever came of a head can be told, and what is told is part of it. */
static void check_refused(struct span bytes)
{
    static _Alignas(max_align_t) uint8_t memory[16384];
    struct arena arena;
    struct request_head head;
    arena_init(&arena, memory, http1_arena_max(&limits));
    http1_parse_refused(bytes, &limits, &arena, &head);
    ASSERT(head.method_text.size <= HTTP1_METHOD_MAX && head.target.size <= bytes.size);
    ASSERT(head.fields.count <= limits.fields_max && !arena.overflowed);
    for (size_t i = 0; i < head.fields.count; i++) {
        const struct field *field = &head.fields.entries[i];
        ASSERT(field->name.data > bytes.data &&
               field->value.data + field->value.size < bytes.data + bytes.size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static _Alignas(max_align_t) uint8_t memory[16384];
    struct span bytes = span_of(data, size);
    struct request_head head;
    struct arena arena;
    enum reason reason = REASON_NONE;
    ASSERT(bytes_find_control(data, size) == bytes_find_control_portable(data, size));
    struct outcome whole = scan_whole(bytes, &limits);
    struct outcome stepped = scan_in_steps(bytes, &limits, size > 0 ? data[size - 1] : 0);
    ASSERT(size == 0 || whole.status == stepped.status);
    ASSERT(whole.reason == stepped.reason);
    ASSERT(whole.status != ERROR || whole.reason != REASON_NONE);
    check_refused(bytes);
    if (whole.status != OK) {
        return 0;
    }
    ASSERT(whole.scan.head_size == stepped.scan.head_size && whole.scan.head_size <= size);
    ASSERT(http1_arena_max(&limits) <= sizeof(memory));
    arena_init(&arena, memory, http1_arena_max(&limits));
    struct span head_bytes = http1_scan_head_bytes(&whole.scan, bytes);
    enum status status = http1_parse_request(head_bytes, &limits, &arena, &head, &reason);
    ASSERT(status == OK ? reason == REASON_NONE : status == ERROR && reason != REASON_NONE);
    ASSERT(reason != REASON_BUFFERS_FULL);
    if (status == OK) {
        check_round_trip(&head);
    }
    return 0;
}
