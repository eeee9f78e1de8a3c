/*
 * Accept lines from anyone (one of the field per line of the input). Something that is offered is
 * always chosen; case does not matter; a line for something else changes nothing; and who names one
 * offer first, with the highest quality, gets it whatever follows.
 */
#include "base/assert.h"
#include "http/accept.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OFFERS = 3, LINES_MAX = 16, INPUT_MAX = 4096 };

static const struct media_type offers[OFFERS] = {
    {"application", "json"},
    {"text", "plain"},
    {"text", "html"},
};

static const char *const names[OFFERS] = {"application/json", "text/plain", "text/html"};

static void add(struct fields *fields, struct span value)
{
    bool added = fields_add(fields, FIELD_ACCEPT, field_name(FIELD_ACCEPT), value);
    ASSERT(added);
}

static void add_lines(struct fields *fields, struct span rest)
{
    for (int lines = 0; rest.size > 0 && lines < LINES_MAX; lines++) {
        size_t size = span_find(rest, '\n');
        add(fields, span_first(rest, size));
        rest = span_from(rest, size < rest.size ? size + 1 : size);
    }
}

/* What is chosen when `first` comes before the lines and `last` behind them; NULL data: no line. */
static size_t choice_of(struct span first, struct span lines, struct span last)
{
    struct field entries[LINES_MAX + 2];
    struct fields fields = {.entries = entries, .capacity = LINES_MAX + 2};
    if (first.data != NULL) {
        add(&fields, first);
    }
    add_lines(&fields, lines);
    if (last.data != NULL) {
        add(&fields, last);
    }
    size_t choice = accept_choose(&fields, offers, OFFERS);
    ASSERT(choice < OFFERS);
    return choice;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t upper[INPUT_MAX];
    if (size > INPUT_MAX) {
        return 0;
    }
    struct span lines = span_of(data, size);
    size_t choice = choice_of(SPAN_EMPTY, lines, SPAN_EMPTY);
    for (size_t i = 0; i < size; i++) {
        bool letter = data[i] >= 'a' && data[i] <= 'z';
        upper[i] = letter ? (uint8_t)(data[i] - 0x20) : data[i];
    }
    ASSERT(choice_of(SPAN_EMPTY, span_of(upper, size), SPAN_EMPTY) == choice);
    ASSERT(choice_of(SPAN("x/y;z=\"a\""), lines, SPAN("nothing")) == choice);
    for (size_t i = 0; i < OFFERS; i++) {
        ASSERT(choice_of(span_of_string(names[i]), lines, SPAN_EMPTY) == i);
    }
    return 0;
}
