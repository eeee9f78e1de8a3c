/*
 * Response heads from an untrusted upstream: every failure is one of the two reasons that a
 * response has, splits do not matter, and what was accepted and is written anew parses to the same
 * message.
 */
#include "base/assert.h"
#include "http/http1_parse.h"
#include "http/http1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {
    .request_line_max = 512, .head_max = 2048, .fields_max = 24};
static const struct http1_limits wide_limits = {
    .request_line_max = 512, .head_max = 4096, .fields_max = 26};

static enum status scan_in_steps(struct span bytes, struct http1_scan *scan, enum reason *reason)
{
    enum status status = AGAIN;
    http1_scan_init(scan, HTTP1_RESPONSE);
    for (size_t given = 1; given <= bytes.size && status == AGAIN; given++) {
        status = http1_scan_head(scan, span_first(bytes, given), &limits, reason);
    }
    return status;
}

static void check_round_trip(const struct response_head *head, enum method method)
{
    static uint8_t rendered[8192];
    static _Alignas(max_align_t) uint8_t memory[8192];
    struct output output = output_over(rendered, sizeof(rendered));
    struct arena arena;
    struct response_head again;
    enum reason reason = REASON_NONE;
    const struct http1_delivery delivery = {
        .framing = head->has_content_length ? FRAMING_LENGTH : head->framing,
        .content_length = head->content_length,
        .connection = head->keep_alive ? HTTP1_CONNECTION_DEFAULT : HTTP1_CONNECTION_CLOSE,
    };
    ASSERT(http1_write_response(&output, head->status, &head->fields, &delivery));
    arena_init(&arena, memory, sizeof(memory));
    ASSERT(http1_parse_response(output_bytes(&output), method, &wide_limits, &arena, &again,
                                &reason) == OK);
    ASSERT(again.status == head->status && again.framing == head->framing);
    ASSERT(again.content_length == head->content_length);
    ASSERT(again.has_content_length == head->has_content_length);
    ASSERT(head->status < 200 || again.keep_alive == head->keep_alive);
    size_t j = 0;
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct field *field = &head->fields.entries[i];
        if (field->id == FIELD_CONTENT_LENGTH || field->id == FIELD_TRANSFER_ENCODING ||
            field->id == FIELD_CONNECTION || field->id == FIELD_KEEP_ALIVE) {
            continue;
        }
        ASSERT(j < again.fields.count);
        ASSERT(span_equal(again.fields.entries[j].name, field->name));
        ASSERT(span_equal(again.fields.entries[j].value, field->value));
        j++;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static _Alignas(max_align_t) uint8_t memory[8192];
    struct span bytes = span_of(data, size);
    struct http1_scan whole;
    struct http1_scan stepped;
    struct response_head head;
    struct arena arena;
    enum reason reason = REASON_NONE;
    enum reason stepped_reason = REASON_NONE;
    http1_scan_init(&whole, HTTP1_RESPONSE);
    enum status status = http1_scan_head(&whole, bytes, &limits, &reason);
    ASSERT(scan_in_steps(bytes, &stepped, &stepped_reason) == status);
    ASSERT(reason == stepped_reason);
    ASSERT(status != ERROR || reason == REASON_BAD_RESPONSE ||
           reason == REASON_RESPONSE_HEAD_TOO_LARGE);
    if (status != OK) {
        return 0;
    }
    ASSERT(whole.head_size == stepped.head_size && whole.head_size <= size);
    enum method method = (size & 1) != 0 ? METHOD_GET : METHOD_HEAD;
    arena_init(&arena, memory, http1_arena_max(&limits));
    status = http1_parse_response(http1_scan_head_bytes(&whole, bytes), method, &limits, &arena,
                                  &head, &reason);
    ASSERT(status == OK || reason == REASON_BAD_RESPONSE ||
           reason == REASON_RESPONSE_HEAD_TOO_LARGE);
    if (status == OK) {
        ASSERT(head.status >= 100 && head.status <= 599);
        ASSERT(head.framing != FRAMING_CLOSE || !head.keep_alive);
        check_round_trip(&head, method);
    }
    return 0;
}
