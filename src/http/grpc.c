#include "http/grpc.h"

#include "base/assert.h"
#include "http/bytes.h"

enum { TIMEOUT_DIGITS_MAX = 8, TIMEOUT_VALUE_MAX = 99999999, HTTP_STATUS_MAX = 600 };

static const struct {
    const char *name;
    struct span digits;
} STATUSES[GRPC_STATUS_COUNT] = {
#define GRPC_STATUS(id, code) [GRPC_##id] = {#id, {(const uint8_t *)#code, sizeof(#code) - 1}},
#include "http/grpc.def"
};

/* Status + 1 each, so that 0 stands for what is not in the table. */
static const uint8_t BY_HTTP[HTTP_STATUS_MAX] = {
#define GRPC_HTTP(status, id) [status] = GRPC_##id + 1,
#include "http/grpc.def"
};

static const uint8_t BY_REASON[REASON_COUNT] = {
#define GRPC_REASON(reason, id) [REASON_##reason] = GRPC_##id + 1,
#include "http/grpc.def"
};

/* ---- Which requests are calls ---- */

bool grpc_is_content_type(struct span value)
{
    const struct span type = SPAN("application/grpc");
    if (value.size < type.size || !span_equal_nocase(span_first(value, type.size), type)) {
        return false;
    }
    struct span rest = span_from(value, type.size);
    if (rest.size > 0 && rest.data[0] == '+') {
        size_t size = 1;
        while (size < rest.size && byte_is_token(rest.data[size])) {
            size++;
        }
        if (size == 1) {
            return false;
        }
        rest = span_from(rest, size);
    }
    rest = span_trim(rest);
    return rest.size == 0 || rest.data[0] == ';';
}

bool grpc_has_content_type(const struct fields *fields)
{
    const struct field *type = NULL;
    size_t count = fields_have(fields, FIELD_CONTENT_TYPE) ? fields->count : 0;
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields->entries[i];
        if (field->id == FIELD_CONTENT_TYPE) {
            if (type != NULL) {
                return false; /* others might go by another one than we */
            }
            type = field;
        }
    }
    return type != NULL && grpc_is_content_type(type->value);
}

bool grpc_is_call(enum method method, const struct fields *fields)
{
    return method == METHOD_POST && grpc_has_content_type(fields);
}

/* ---- Outcomes ---- */

const char *grpc_status_name(enum grpc_status status)
{
    ASSERT((unsigned)status < GRPC_STATUS_COUNT);
    return STATUSES[status].name;
}

struct span grpc_status_digits(enum grpc_status status)
{
    ASSERT((unsigned)status < GRPC_STATUS_COUNT);
    return STATUSES[status].digits;
}

enum grpc_status grpc_status_read(struct span value)
{
    uint64_t code = 0;
    bool padded = value.size > 1 && value.data[0] == '0';
    bool known = !padded && span_to_u64(value, GRPC_STATUS_COUNT - 1, &code);
    return known ? (enum grpc_status)code : GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_http(uint16_t status)
{
    bool known = status < HTTP_STATUS_MAX && BY_HTTP[status] != 0;
    return known ? (enum grpc_status)(BY_HTTP[status] - 1) : GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_reason(enum reason reason)
{
    ASSERT((unsigned)reason < REASON_COUNT && reason != REASON_NONE);
    return BY_REASON[reason] != 0 ? (enum grpc_status)(BY_REASON[reason] - 1)
                                  : grpc_status_of_http(reason_info(reason)->status);
}

/* ---- Time ---- */

static const struct unit {
    uint8_t letter;
    uint64_t microseconds; /* of one */
} UNITS[] = {{'u', 1},
             {'m', 1000},
             {'S', 1000000},
             {'M', 60000000},
             {'H', 3600000000}}; /* finest first; n is less than one of these */

enum { UNITS_COUNT = sizeof(UNITS) / sizeof(UNITS[0]) };

enum status grpc_timeout_read(struct span value, uint64_t *microseconds)
{
    uint64_t count = 0;
    if (value.size < 2 || value.size > TIMEOUT_DIGITS_MAX + 1 ||
        !span_to_u64(span_first(value, value.size - 1), TIMEOUT_VALUE_MAX, &count)) {
        return ERROR;
    }
    uint8_t letter = value.data[value.size - 1];
    if (letter == 'n') {
        *microseconds = (count + 999) / 1000;
        return OK;
    }
    for (size_t i = 0; i < UNITS_COUNT; i++) {
        if (UNITS[i].letter == letter) {
            *microseconds = count * UNITS[i].microseconds; /* at most 2^59 */
            return OK;
        }
    }
    return ERROR;
}

struct span grpc_timeout_write(uint64_t microseconds, uint8_t bytes[GRPC_TIMEOUT_MAX])
{
    size_t unit = 0;
    while (unit + 1 < UNITS_COUNT && microseconds / UNITS[unit].microseconds > TIMEOUT_VALUE_MAX) {
        unit++;
    }
    uint64_t count = microseconds / UNITS[unit].microseconds;
    struct output output = output_over(bytes, GRPC_TIMEOUT_MAX);
    output_u64(&output, count == 0 ? 1 : count > TIMEOUT_VALUE_MAX ? TIMEOUT_VALUE_MAX : count);
    output_byte(&output, UNITS[unit].letter);
    ASSERT(!output.overflowed);
    return output_bytes(&output);
}

/* ---- Messages ---- */

bool grpc_messages_read(struct grpc_messages *messages, struct span bytes, uint64_t max)
{
    while (bytes.size > 0) {
        size_t part = bytes.size < messages->left ? bytes.size : messages->left;
        messages->left -= (uint32_t)part;
        bytes = span_from(bytes, part);
        if (bytes.size == 0) {
            break;
        }
        messages->length = messages->prefix == 0 ? 0 : messages->length << 8 | bytes.data[0];
        bytes = span_from(bytes, 1);
        if (++messages->prefix == GRPC_PREFIX_SIZE) {
            messages->prefix = 0;
            messages->left = messages->length;
            if (messages->length > max) {
                return false;
            }
        }
    }
    return true;
}

void grpc_message_write(struct output *output, struct span text)
{
    static const char DIGITS[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte >= ' ' && byte <= '~' && byte != '%') {
            output_byte(output, byte);
            continue;
        }
        output_byte(output, '%');
        output_byte(output, (uint8_t)DIGITS[byte >> 4]);
        output_byte(output, (uint8_t)DIGITS[byte & 15]);
    }
}
