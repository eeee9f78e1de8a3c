/*
 * Chunked bodies: fed whole, byte by byte and in uneven pieces, the decoder gives the same bytes,
 * the same end, the same trailers or the same refusal; and what it decoded, chunked anew, decodes
 * to itself.
 */
#include "base/assert.h"
#include "http/http1_chunked.h"
#include "http/http1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 16384 };

struct outcome {
    _Alignas(max_align_t) uint8_t memory[HTTP1_TRAILERS_ARENA_MAX];
    uint8_t body[INPUT_MAX];
    size_t body_size;
    size_t consumed;
    enum status status;
    enum reason reason;
    struct http1_chunked chunked;
    struct arena arena;
};

static void decode(struct outcome *outcome, struct span input, uint32_t step)
{
    static uint8_t piece[INPUT_MAX];
    outcome->body_size = 0;
    outcome->consumed = 0;
    outcome->status = OK;
    outcome->reason = REASON_NONE;
    arena_init(&outcome->arena, outcome->memory, sizeof(outcome->memory));
    http1_chunked_init(&outcome->chunked, HTTP1_REQUEST, &outcome->arena);
    for (size_t at = 0; at < input.size && outcome->status == OK;) {
        struct http1_chunked_result result;
        step = step > 2 ? step * 1664525 + 1013904223 : step;
        size_t wanted = step == 0 ? input.size : step == 1 ? 1 : 1 + (step >> 24) % 50;
        size_t size = wanted < input.size - at ? wanted : input.size - at;
        memcpy(piece, input.data + at, size);
        outcome->status =
            http1_chunked_decode(&outcome->chunked, piece, size, &result, &outcome->reason);
        if (outcome->status == ERROR) {
            break;
        }
        ASSERT(result.consumed <= size && (outcome->status == END || result.consumed == size));
        ASSERT(result.body.size == 0 ||
               (result.body.data >= piece && result.body.data + result.body.size <= piece + size));
        memcpy(outcome->body + outcome->body_size, result.body.data, result.body.size);
        outcome->body_size += result.body.size;
        outcome->consumed += result.consumed;
        at += result.consumed;
    }
}

static void check_same(const struct outcome *a, const struct outcome *b)
{
    ASSERT(a->status == b->status && a->reason == b->reason);
    if (a->status == ERROR) {
        return;
    }
    ASSERT(a->consumed == b->consumed && a->body_size == b->body_size);
    ASSERT(memcmp(a->body, b->body, a->body_size) == 0);
    ASSERT(a->chunked.trailers.count == b->chunked.trailers.count);
    for (size_t i = 0; a->status == END && i < a->chunked.trailers.count; i++) {
        const struct field *left = &a->chunked.trailers.entries[i];
        const struct field *right = &b->chunked.trailers.entries[i];
        ASSERT(span_equal(left->name, right->name) && span_equal(left->value, right->value));
    }
}

/* One chunk per body, with the trailers that the decoder kept. */
static void check_round_trip(const struct outcome *first, struct outcome *again)
{
    static uint8_t rendered[2 * INPUT_MAX];
    struct output output = output_over(rendered, sizeof(rendered));
    if (first->body_size > 0) {
        ASSERT(http1_write_chunk_header(&output, first->body_size));
        output_span(&output, span_of(first->body, first->body_size));
        ASSERT(http1_write_chunk_end(&output));
    }
    ASSERT(http1_write_last_chunk(&output, &first->chunked.trailers));
    if (output.size > INPUT_MAX) {
        return;
    }
    decode(again, output_bytes(&output), 0);
    /* The writer's `name: value` may be longer than what came, and so exceed the trailers' bound.
     */
    if (again->status == ERROR) {
        ASSERT(again->reason == REASON_BAD_TRAILER && first->chunked.trailer_size > 3000);
        return;
    }
    ASSERT(again->status == END && again->consumed == output.size);
    ASSERT(again->body_size == first->body_size);
    ASSERT(memcmp(again->body, first->body, first->body_size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole;
    static struct outcome other;
    struct span input = span_of(data, size < INPUT_MAX ? size : INPUT_MAX);
    decode(&whole, input, 0);
    ASSERT(whole.status != ERROR || whole.reason == REASON_BAD_CHUNK ||
           whole.reason == REASON_BAD_TRAILER);
    decode(&other, input, 1);
    check_same(&whole, &other);
    decode(&other, input, 3 + (size > 0 ? data[0] : 0U));
    check_same(&whole, &other);
    if (whole.status == END) {
        check_round_trip(&whole, &other);
    }
    return 0;
}
