/*
 * What clients and services write into gRPC's fields: no timeout is read that cannot be written
 * again, never as a longer one, and no message leaves unprintable bytes.
 */
#include "base/assert.h"
#include "http/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_timeout(struct span value)
{
    uint64_t timeout = 0;
    uint64_t again = 0;
    uint8_t bytes[GRPC_TIMEOUT_MAX];
    if (grpc_timeout_read(value, &timeout) != OK) {
        return;
    }
    enum status status = grpc_timeout_read(grpc_timeout_write(timeout, bytes), &again);
    ASSERT(status == OK && again > 0 && (again <= timeout || timeout == 0));
    ASSERT(timeout - again <= timeout / 1000000 || timeout == 0); /* rounded, not changed */
}

static void fuzz_message(struct span text)
{
    static uint8_t memory[4096 * GRPC_MESSAGE_GROWTH];
    struct output output = output_over(memory, sizeof(memory));
    if (text.size > sizeof(memory) / GRPC_MESSAGE_GROWTH) {
        return;
    }
    grpc_message_write(&output, text);
    ASSERT(!output.overflowed && output.size >= text.size);
    for (size_t i = 0; i < output.size; i++) {
        ASSERT(output.data[i] >= ' ' && output.data[i] <= '~');
    }
}

/* The first byte says where the body is divided, which makes no difference. */
static void fuzz_messages(struct span body)
{
    const uint64_t max = 300;
    struct grpc_messages whole = {0};
    struct grpc_messages parts = {0};
    if (body.size == 0) {
        return;
    }
    size_t piece = 1 + body.data[0] % 7U;
    bool takes = true;
    body = span_from(body, 1);
    bool expected = grpc_messages_read(&whole, body, max);
    while (body.size > 0 && takes) {
        size_t size = body.size < piece ? body.size : piece;
        takes = grpc_messages_read(&parts, span_first(body, size), max);
        body = span_from(body, size);
    }
    ASSERT(takes == expected && parts.left == whole.left && parts.prefix == whole.prefix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = span_of(data, size);
    fuzz_timeout(input);
    fuzz_message(input);
    fuzz_messages(input);
    bool is_type = grpc_is_content_type(input);
    ASSERT(!is_type || size >= sizeof("application/grpc") - 1);
    ASSERT((unsigned)grpc_status_read(input) < GRPC_STATUS_COUNT);
    return 0;
}
