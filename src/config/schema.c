#include "config/schema.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/assert.h"

#define MS(n) ((int64_t)(n)*1000)
#define SECONDS(n) (MS(n) * 1000)
#define HOURS(n) (SECONDS(n) * 3600)
#define KIB(n) ((int64_t)(n)*1024)
#define MIB(n) (KIB(n) * 1024)
#define GIB(n) (MIB(n) * 1024)

#define REQUIRED SCHEMA_REQUIRED
#define REPEATED SCHEMA_REPEATED
#define LIST SCHEMA_LIST
#define PAIR SCHEMA_PAIR
#define ALTERNATIVE SCHEMA_ALTERNATIVE
#define REFUSED SCHEMA_REFUSED
#define MACHINE SCHEMA_MACHINE

static const struct schema_key keys[SCHEMA_KEYS] = {
#define BLOCK(id, parent, name, flags, maximum, doc)
#define KEY(block, id, name, form, type, flags, minimum, maximum, standard, detail, example, doc)  \
    {                                                                                              \
        KEY_##block##_##id, BLOCK_##block, name,    FORM_##form,                                   \
        TYPE_##type,        flags,         minimum, maximum,                                       \
        standard,           detail,        example, doc},
#include "config/schema.def"
#undef BLOCK
#undef KEY
};

static const struct schema_block blocks[SCHEMA_BLOCKS] = {
#define BLOCK(id, parent, name, flags, maximum, doc)                                               \
    {BLOCK_##id, BLOCK_##parent, name, flags, maximum, doc},
#define KEY(block, id, name, form, type, flags, minimum, maximum, standard, detail, example, doc)
#include "config/schema.def"
#undef BLOCK
#undef KEY
};

static const char *const type_names[SCHEMA_TYPES] = {
    [TYPE_BOOLEAN] = "boolean",
    [TYPE_INTEGER] = "integer",
    [TYPE_REDIRECT_STATUS] = "integer",
    [TYPE_DURATION] = "duration",
    [TYPE_SIZE] = "size",
    [TYPE_CHOICE] = "choice",
    [TYPE_TEXT] = "text",
    [TYPE_NAME] = "name",
    [TYPE_TOKEN] = "token",
    [TYPE_VERSION] = "version",
    [TYPE_FIELD] = "field",
    [TYPE_FIELD_VALUE] = "field value",
    [TYPE_CONDITION_HEADER] = "field condition",
    [TYPE_CONDITION_QUERY] = "query condition",
    [TYPE_SUBJECT] = "subject",
    [TYPE_SAN] = "alternative name",
    [TYPE_FINGERPRINT] = "fingerprint",
    [TYPE_PATH] = "path",
    [TYPE_TARGET_PATH] = "request target",
    [TYPE_LOCATION] = "location",
    [TYPE_HOST] = "host",
    [TYPE_HOST_PATTERN] = "host pattern",
    [TYPE_AUTHORITY] = "host and port",
    [TYPE_ADDRESS] = "address",
    [TYPE_ADDRESS_OR_OFF] = "address",
    [TYPE_TARGET] = "address or name",
    [TYPE_NETWORK] = "network",
    [TYPE_LOG_TARGET] = "log target",
    [TYPE_FILE_OR_OFF] = "file",
    [TYPE_FILE] = "file",
    [TYPE_SAMPLE] = "status and rate",
};

/* Units, the largest first, so that printing finds the one that divides. */
struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit duration_units[] = {
    {"h", HOURS(1)}, {"m", SECONDS(60)}, {"s", SECONDS(1)}, {"ms", MS(1)}};
static const struct unit size_units[] = {{"GiB", GIB(1)}, {"GB", 1000000000}, {"MiB", MIB(1)},
                                         {"MB", 1000000}, {"KiB", KIB(1)},    {"KB", 1000},
                                         {"B", 1}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const struct schema_block *schema_block(enum schema_block_id id)
{
    ASSERT(id < SCHEMA_BLOCKS);
    return &blocks[id];
}

const struct schema_key *schema_key(enum schema_key_id id)
{
    ASSERT(id < SCHEMA_KEYS);
    return &keys[id];
}

const struct schema_key *schema_find_key(enum schema_block_id block, struct span name)
{
    for (size_t i = 0; i < SCHEMA_KEYS; i++) {
        if (keys[i].block == block && keys[i].form != FORM_ARGUMENT &&
            span_equal(span_of_string(keys[i].name), name)) {
            return &keys[i];
        }
    }
    return NULL;
}

const struct schema_block *schema_find_block(enum schema_block_id parent, struct span name)
{
    for (size_t i = BLOCK_TOP + 1; i < SCHEMA_BLOCKS; i++) {
        if (blocks[i].parent == parent && span_equal(span_of_string(blocks[i].name), name)) {
            return &blocks[i];
        }
    }
    return NULL;
}

const struct schema_key *schema_argument(enum schema_block_id block, size_t index)
{
    for (size_t i = 0; i < SCHEMA_KEYS; i++) {
        if (keys[i].block == block && keys[i].form == FORM_ARGUMENT && index-- == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

void schema_block_path(enum schema_block_id id, char separator, char path[SCHEMA_PATH_MAX])
{
    const struct schema_block *chain[SCHEMA_BLOCKS];
    size_t depth = 0;
    for (enum schema_block_id at = id; at != BLOCK_TOP; at = blocks[at].parent) {
        chain[depth++] = &blocks[at];
    }
    path[0] = '\0';
    size_t used = 0;
    while (depth-- > 0) {
        const char *name = chain[depth]->name;
        int size = used == 0
                       ? snprintf(path, SCHEMA_PATH_MAX, "%s", name)
                       : snprintf(path + used, SCHEMA_PATH_MAX - used, "%c%s", separator, name);
        ASSERT(size > 0 && (size_t)size < SCHEMA_PATH_MAX - used);
        used += (size_t)size;
    }
}

/* Takes the next choice off the front of *rest; false at the end. */
static bool next_choice(struct span *rest, struct span *choice)
{
    if (rest->size == 0) {
        return false;
    }
    size_t size = span_find(*rest, '|');
    *choice = span_first(*rest, size);
    *rest = span_from(*rest, size < rest->size ? size + 1 : size);
    return true;
}

bool schema_choice(const struct schema_key *key, struct span text, int64_t *index)
{
    ASSERT(key->type == TYPE_CHOICE);
    struct span rest = span_of_string(key->detail);
    struct span choice;
    for (int64_t i = 0; next_choice(&rest, &choice); i++) {
        if (span_equal(choice, text)) {
            *index = i;
            return true;
        }
    }
    return false;
}

int64_t schema_choices(const struct schema_key *key)
{
    struct span rest = span_of_string(key->detail);
    struct span choice;
    int64_t count = 0;
    while (next_choice(&rest, &choice)) {
        count++;
    }
    return count;
}

struct span schema_choice_text(const struct schema_key *key, int64_t index)
{
    ASSERT(key->type == TYPE_CHOICE && index >= 0);
    struct span rest = span_of_string(key->detail);
    struct span choice = SPAN_EMPTY;
    while (index-- >= 0) {
        bool found = next_choice(&rest, &choice);
        ASSERT(found);
    }
    return choice;
}

int64_t schema_default(const struct schema_key *key)
{
    ASSERT(key->standard != NULL);
    struct span text = span_of_string(key->standard);
    int64_t number = 0;
    if (key->type == TYPE_BOOLEAN) {
        return span_equal(text, SPAN("true"));
    }
    if (key->type == TYPE_CHOICE) {
        bool known = schema_choice(key, text, &number);
        ASSERT(known);
        return number;
    }
    struct span digits;
    struct span unit;
    schema_split_quantity(text, &digits, &unit);
    enum quantity result = schema_quantity(key->type, digits, unit, &number);
    ASSERT(result == QUANTITY_OK);
    return number;
}

bool schema_in_range(enum schema_key_id id, uint64_t value)
{
    const struct schema_key *key = schema_key(id);
    ASSERT(schema_type_is_number(key->type) && key->minimum >= 0);
    return value >= (uint64_t)key->minimum && value <= (uint64_t)key->maximum;
}

bool schema_is_redirect(int64_t status)
{
    return (status >= 301 && status <= 303) || status == 307 || status == 308;
}

const char *schema_type_name(enum schema_type type)
{
    ASSERT(type < SCHEMA_TYPES);
    return type_names[type];
}

bool schema_type_is_number(enum schema_type type)
{
    return type == TYPE_INTEGER || type == TYPE_REDIRECT_STATUS || type == TYPE_DURATION ||
           type == TYPE_SIZE;
}

static size_t units_of(enum schema_type type, const struct unit **units)
{
    if (type == TYPE_DURATION) {
        *units = duration_units;
        return COUNT(duration_units);
    }
    if (type == TYPE_SIZE) {
        *units = size_units;
        return COUNT(size_units);
    }
    *units = NULL;
    return 0;
}

void schema_print_number(const struct schema_key *key, int64_t number, char text[SCHEMA_NUMBER_MAX])
{
    const struct unit *units = NULL;
    size_t count = units_of(key->type, &units);
    for (size_t i = 0; i < count && number != 0; i++) {
        if (number % units[i].factor == 0) {
            (void)snprintf(text, SCHEMA_NUMBER_MAX, "%" PRId64 "%s", number / units[i].factor,
                           units[i].name);
            return;
        }
    }
    if (key->type == TYPE_BOOLEAN) {
        (void)snprintf(text, SCHEMA_NUMBER_MAX, "%s", number != 0 ? "true" : "false");
    } else {
        (void)snprintf(text, SCHEMA_NUMBER_MAX, "%" PRId64, number);
    }
}

/* The base that a prefix names, which is taken off *digits. */
static int64_t take_base(struct span *digits)
{
    int64_t base = 10;
    if (digits->size > 2 && digits->data[0] == '0') {
        uint8_t letter = digits->data[1];
        base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
        if (base != 10) {
            *digits = span_from(*digits, 2);
        }
    }
    return base;
}

static enum quantity read_whole(struct span digits, int64_t *number)
{
    bool negative = digits.size > 0 && digits.data[0] == '-';
    if (digits.size > 0 && (digits.data[0] == '-' || digits.data[0] == '+')) {
        digits = span_from(digits, 1);
    }
    int64_t base = take_base(&digits);
    int64_t sum = 0;
    bool too_large = false;
    if (digits.size == 0 || digits.data[0] == '_') {
        return QUANTITY_NOT_A_NUMBER;
    }
    for (size_t i = 0; i < digits.size; i++) {
        int digit = ascii_hex_value(digits.data[i]);
        if (digits.data[i] == '_') {
            continue;
        }
        if (digit < 0 || digit >= base) {
            return QUANTITY_NOT_A_NUMBER;
        }
        too_large = too_large || __builtin_mul_overflow(sum, base, &sum) ||
                    __builtin_add_overflow(sum, (int64_t)digit, &sum);
    }
    if (too_large) {
        return QUANTITY_TOO_LARGE;
    }
    *number = negative ? -sum : sum;
    return QUANTITY_OK;
}

enum quantity schema_quantity(enum schema_type type, struct span digits, struct span unit,
                              int64_t *number)
{
    const struct unit *units = NULL;
    size_t count = units_of(type, &units);
    int64_t whole = 0;
    enum quantity result = read_whole(digits, &whole);
    if (result != QUANTITY_OK) {
        return result;
    }
    if (unit.size == 0) {
        if (count > 0 && whole != 0) {
            return QUANTITY_NO_UNIT;
        }
        *number = whole;
        return QUANTITY_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (span_equal(span_of_string(units[i].name), unit)) {
            if (__builtin_mul_overflow(whole, units[i].factor, &whole)) {
                return QUANTITY_TOO_LARGE;
            }
            *number = whole;
            return QUANTITY_OK;
        }
    }
    return QUANTITY_BAD_UNIT;
}

void schema_split_quantity(struct span text, struct span *digits, struct span *unit)
{
    size_t end = text.size;
    bool has_base = text.size > 1 && text.data[0] == '0' &&
                    (text.data[1] == 'x' || text.data[1] == 'o' || text.data[1] == 'b');
    while (!has_base && end > 0 && ascii_lower(text.data[end - 1]) >= 'a' &&
           ascii_lower(text.data[end - 1]) <= 'z') {
        end--;
    }
    *digits = span_first(text, end);
    *unit = span_from(text, end);
}
