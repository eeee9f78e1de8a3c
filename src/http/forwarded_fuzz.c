/*
 * A line of Forwarded from anyone. Each element that is read takes something off the line and
 * stands for the same when it is read alone, or when another comes before it; what a proxy makes of
 * it is an element that is understood as it was meant.
 */
#include "base/assert.h"
#include "http/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_MAX_BYTES = 2048 };

static bool same(const struct forwarded_element *a, const struct forwarded_element *b)
{
    return address_equal(&a->node, &b->node) && span_equal(a->proto, b->proto) &&
           span_equal(a->host, b->host);
}

static void check_alone(struct span text, const struct forwarded_element *element)
{
    uint8_t bytes[LINE_MAX_BYTES + 8];
    struct forwarded_element read;
    struct output output = output_over(bytes, sizeof(bytes));
    OUTPUT_LITERAL(&output, "for=x,");
    output_span(&output, text);
    ASSERT(!output.overflowed);
    struct span line = output_bytes(&output);
    enum status status = forwarded_next(&text, &read);
    ASSERT(status == OK && text.size == 0 && same(&read, element));
    status = forwarded_next(&line, &read);
    ASSERT(status == OK && read.node.family == ADDRESS_NONE);
    status = forwarded_next(&line, &read);
    ASSERT(status == OK && line.size == 0 && same(&read, element));
}

static void check_again(const struct forwarded_element *element)
{
    uint8_t bytes[4 * LINE_MAX_BYTES];
    struct forwarded_element read;
    struct forwarded_hop hop = {element->node, element->host, element->proto, SPAN("me")};
    struct output output = output_over(bytes, sizeof(bytes));
    forwarded_write(&output, &hop);
    ASSERT(!output.overflowed);
    struct span rest = output_bytes(&output);
    enum status status = forwarded_next(&rest, &read);
    ASSERT(status == OK && rest.size == 0);
    read.node.port = element->node.port; /* not told */
    ASSERT(same(&read, element));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LINE_MAX_BYTES) {
        return 0;
    }
    struct span rest = span_of(data, size);
    struct forwarded_element element;
    for (;;) {
        struct span before = rest;
        enum status status = forwarded_next(&rest, &element);
        if (status != OK) {
            ASSERT(status == ERROR || rest.size == 0);
            return 0;
        }
        ASSERT(rest.size < before.size);
        check_alone(span_first(before, before.size - rest.size), &element);
        check_again(&element);
    }
}
