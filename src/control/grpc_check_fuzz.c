/*
 * A hostile endpoint's bytes to a gRPC health check, in pieces of any size: the verdict comes
 * within the bound, memory stays within the check's share and is back at the end.
 *
 * Input: a byte that steers the pieces, then what the endpoint sends.
 */
#include "base/assert.h"
#include "control/grpc_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct grpc_check check;
    struct grpc_check_context context;
    const struct grpc_question question = {
        .authority = SPAN("a.test"), .service = SPAN("a.B"), .timeout = 1000000};
    if (size == 0 || !grpc_check_init(&context, 1)) {
        return 0;
    }
    bool begun = grpc_check_begin(&check, &context, &question);
    ASSERT(begun);
    struct span rest = span_of(data + 1, size - 1);
    const size_t piece = 1 + (size_t)data[0] * data[0];
    enum status status = AGAIN;
    while (status == AGAIN && rest.size > 0) {
        for (int i = 0; i < 4; i++) { /* what the socket takes of its answers */
            struct span out = grpc_check_output(&check);
            if (out.size > 0) {
                grpc_check_sent(&check, out.size);
            }
        }
        size_t part = rest.size < piece ? rest.size : piece;
        status = grpc_check_input(&check, span_first(rest, part));
        rest = span_from(rest, part);
        ASSERT(check.account.used <= GRPC_CHECK_MEMORY && check.received <= GRPC_CHECK_BYTES_MAX);
    }
    ASSERT(status != OK || (check.status == 200 && check.typed && check.well && check.ended));
    grpc_check_end(&check);
    ASSERT(context.memory.pages_in_use == 0);
    grpc_check_deinit(&context);
    (void)grpc_health_is_serving(span_of(data, size));
    return 0;
}
