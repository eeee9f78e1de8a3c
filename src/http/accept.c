#include "http/accept.h"

#include "base/assert.h"
#include "http/bytes.h"

enum { QUALITY_MAX = 1000 }; /* thousandths */

/* How closely a range covers an offer. */
enum match {
    MATCH_NONE,
    MATCH_PARAMETERS, /* strictly, not at all: it asks for more than the type */
    MATCH_ANY,
    MATCH_TYPE,
    MATCH_EXACT,
};

/* One element of the field: type "/" subtype, parameters, weight. */
struct media_range {
    struct span type;
    struct span subtype;
    uint32_t quality;
    bool parameters; /* others than charset=utf-8 */
};

/* What the field has said of an offer so far. */
struct opinion {
    enum match match;
    uint32_t quality;
    uint32_t position; /* of the range that said it */
};

static void skip_space(struct span *rest)
{
    while (rest->size > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t')) {
        *rest = span_from(*rest, 1);
    }
}

static bool take_byte(struct span *rest, uint8_t byte)
{
    if (rest->size == 0 || rest->data[0] != byte) {
        return false;
    }
    *rest = span_from(*rest, 1);
    return true;
}

static bool take_token(struct span *rest, struct span *token)
{
    size_t size = 0;
    while (size < rest->size && byte_is_token(rest->data[size])) {
        size++;
    }
    *token = span_first(*rest, size);
    *rest = span_from(*rest, size);
    return size > 0;
}

/* Takes a quoted string (RFC 9110, 5.6.4); *inside is what stands between the quotes, raw. */
static bool take_quoted(struct span *rest, struct span *inside)
{
    size_t size = 1;
    while (size < rest->size && rest->data[size] != '"') {
        size += rest->data[size] == '\\' ? 2 : 1;
    }
    if (size >= rest->size) {
        return false;
    }
    *inside = span_of(rest->data + 1, size - 1);
    *rest = span_from(*rest, size + 1);
    return true;
}

/*
 * What is left of an element, and its comma. A quoted string without an end takes the rest of the
 * line with it: to look for strings within it would look at each byte again and again.
 */
static void skip_element(struct span *rest)
{
    struct span ignored;
    while (rest->size > 0 && rest->data[0] != ',') {
        if (rest->data[0] != '"') {
            *rest = span_from(*rest, 1);
        } else if (!take_quoted(rest, &ignored)) {
            *rest = span_from(*rest, rest->size);
        }
    }
    (void)take_byte(rest, ',');
}

/* "0" or "1" and up to three decimals (RFC 9110, 12.4.2); more of them are cut off. */
static bool read_quality(struct span text, uint32_t *quality)
{
    uint32_t value = 0;
    uint32_t unit = QUALITY_MAX;
    for (size_t i = 0; i < text.size; i++) {
        if (i == 1 && text.data[i] == '.') {
            continue;
        }
        if (i == 1 || !ascii_is_digit(text.data[i])) {
            return false;
        }
        value += unit * (uint32_t)(text.data[i] - '0');
        unit /= 10;
    }
    *quality = value;
    return text.size > 0 && value <= QUALITY_MAX;
}

/* One `;` parameter of a range. False when it is malformed. */
static bool take_parameter(struct span *rest, struct media_range *range, bool *weighed)
{
    struct span name;
    struct span value = SPAN_EMPTY;
    skip_space(rest);
    if (rest->size == 0 || rest->data[0] == ';' || rest->data[0] == ',') {
        return true; /* an empty parameter (RFC 9110, 5.6.6) */
    }
    if (!take_token(rest, &name)) {
        return false;
    }
    if (!take_byte(rest, '=')) {
        return *weighed; /* an extension behind the weight needs no value */
    }
    bool quoted = rest->size > 0 && rest->data[0] == '"';
    if (!(quoted ? take_quoted(rest, &value) : take_token(rest, &value))) {
        return false;
    }
    if (*weighed) {
        return true;
    }
    if (span_equal_nocase(name, SPAN("q"))) {
        *weighed = true;
        return !quoted && read_quality(value, &range->quality);
    }
    range->parameters = range->parameters || !span_equal_nocase(name, SPAN("charset")) ||
                        !span_equal_nocase(value, SPAN("utf-8"));
    return true;
}

/* Takes one element, up to its comma. False when it is malformed; *rest is then somewhere in it. */
static bool take_range(struct span *rest, struct media_range *range)
{
    bool weighed = false;
    *range = (struct media_range){.quality = QUALITY_MAX};
    if (!take_token(rest, &range->type) || !take_byte(rest, '/') ||
        !take_token(rest, &range->subtype)) {
        return false;
    }
    if (span_equal(range->type, SPAN("*")) && !span_equal(range->subtype, SPAN("*"))) {
        return false;
    }
    for (;;) {
        skip_space(rest);
        if (rest->size == 0 || rest->data[0] == ',') {
            return true;
        }
        if (!take_byte(rest, ';') || !take_parameter(rest, range, &weighed)) {
            return false;
        }
    }
}

static enum match match_of(const struct media_range *range, const struct media_type *offer)
{
    if (span_equal(range->type, SPAN("*"))) {
        return MATCH_ANY;
    }
    if (!span_equal_nocase(range->type, span_of_string(offer->type))) {
        return MATCH_NONE;
    }
    if (span_equal(range->subtype, SPAN("*"))) {
        return MATCH_TYPE;
    }
    if (!span_equal_nocase(range->subtype, span_of_string(offer->subtype))) {
        return MATCH_NONE;
    }
    return range->parameters ? MATCH_PARAMETERS : MATCH_EXACT;
}

/* Of ranges that are equally close the kinder one counts. */
static void hear(struct opinion *opinion, enum match match, uint32_t quality, uint32_t position)
{
    bool closer = match > opinion->match;
    bool kinder = match == opinion->match && quality > opinion->quality;
    if (match != MATCH_NONE && (closer || kinder)) {
        *opinion = (struct opinion){match, quality, position};
    }
}

static bool is_better(const struct opinion *a, const struct opinion *b)
{
    if (a->quality != b->quality) {
        return a->quality > b->quality;
    }
    if (a->match != b->match) {
        return a->match > b->match;
    }
    return a->position < b->position;
}

size_t accept_choose(const struct fields *fields, const struct media_type *offers, size_t count)
{
    struct opinion opinions[ACCEPT_OFFERS_MAX] = {0};
    uint32_t position = 0;
    ASSERT(count > 0 && count <= ACCEPT_OFFERS_MAX);
    for (size_t i = 0; i < fields->count; i++) {
        struct span rest = fields->entries[i].value;
        while (fields->entries[i].id == FIELD_ACCEPT && rest.size > 0) {
            struct media_range range;
            skip_space(&rest);
            bool whole = take_range(&rest, &range);
            skip_element(&rest);
            position++;
            for (size_t j = 0; whole && j < count; j++) {
                hear(&opinions[j], match_of(&range, &offers[j]), range.quality, position);
            }
        }
    }
    size_t best = 0;
    for (size_t j = 1; j < count; j++) {
        best = opinions[j].quality > 0 && is_better(&opinions[j], &opinions[best]) ? j : best;
    }
    return best;
}
