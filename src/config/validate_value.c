#include "config/validate_value.h"

#include <inttypes.h>

#include "base/assert.h"
#include "config/suggest.h"
#include "config/validate_text.h"
#include "http/target.h"

enum { SHOWN_MAX = 64, HELP_MAX = 512 };

/* printf arguments for a text that may be long. */
#define SHOWN(span)                                                                                \
    (int)((span).size < SHOWN_MAX ? (span).size : SHOWN_MAX), (const char *)(span).data

/* One value while it is read. */
struct reading {
    struct validator *validator;
    const struct schema_key *key;
    const struct value *value;
    size_t index;
    struct span text; /* a string's, expanded */
    struct setting_value *out;
    bool no_room;
};

/* What a type wants, for "`key` wants ..." */
static const char *const wants[SCHEMA_TYPES] = {
    [TYPE_BOOLEAN] = "true or false",
    [TYPE_INTEGER] = "a whole number",
    [TYPE_REDIRECT_STATUS] = "a whole number",
    [TYPE_DURATION] = "a duration such as 30s or 250ms",
    [TYPE_SIZE] = "a size such as 8KiB or 10MB",
    [TYPE_CHOICE] = "a word in quotes",
    [TYPE_TEXT] = "a text in quotes",
    [TYPE_NAME] = "a name of letters, digits, `-`, `_` and `.`",
    [TYPE_TOKEN] = "a name without spaces and separators (RFC 9110, 5.6.2)",
    [TYPE_VERSION] = "a version such as \"3.3.4\"",
    [TYPE_FIELD] = "the name of a field and its value",
    [TYPE_FIELD_VALUE] = "a field value: no control bytes, no space at its ends",
    [TYPE_CONDITION_HEADER] = "the name of a field, then values",
    [TYPE_CONDITION_QUERY] = "the name of a query parameter, then values",
    [TYPE_SUBJECT] = "a whole subject such as \"CN=alice,O=Acme\"",
    [TYPE_SAN] = ("a name such as \"DNS:a.example\", \"email:a@example.com\", "
                  "\"URI:spiffe://a/b\" or \"IP:192.0.2.1\""),
    [TYPE_FINGERPRINT] = "a SHA-256: 64 hexadecimal digits, maybe with colons between the bytes",
    [TYPE_PATH] = "a path such as \"/api\"",
    [TYPE_TARGET_PATH] = "a path such as \"/health\", of visible ASCII, escapes allowed",
    [TYPE_LOCATION] = "an http(s) URL or an absolute path",
    [TYPE_HOST] = "a host name or address without port",
    [TYPE_HOST_PATTERN] = "a host without port, such as \"example.com\" or \"*.example.com\"",
    [TYPE_AUTHORITY] = "a host, maybe with a port, such as \"example.com:8080\"",
    [TYPE_ADDRESS] = "an address such as \"0.0.0.0:8080\", \"[::1]:8080\" or \"unix:/run/x.sock\"",
    [TYPE_ADDRESS_OR_OFF] = "an address such as \"127.0.0.1:9090\", or \"off\"",
    [TYPE_TARGET] = ("a target such as \"10.0.1.10:8080\", \"backend.internal:8080\" or "
                     "\"unix:/run/app.sock\""),
    [TYPE_NETWORK] = ("a network such as \"10.0.0.0/8\" or \"::1\", no bits set behind the prefix, "
                      "or \"unix\""),
    [TYPE_LOG_TARGET] = "\"stdout\", \"off\" or an absolute path",
    [TYPE_FILE_OR_OFF] = "an absolute path or \"off\"",
    [TYPE_FILE] = "the path of a file",
    [TYPE_SAMPLE] = "a status and a rate, such as \"2xx\" 0.1",
};

#define COMPLAIN(reading, help, ...)                                                               \
    ((reading)->out->bad = true,                                                                   \
     diagnostics_add((reading)->validator->diagnostics, SEVERITY_ERROR,                            \
                     (reading)->value->position, help, __VA_ARGS__))

/* "`key` wants this, not that". */
static void refuse(struct reading *reading, const char *help)
{
    const struct value *value = reading->value;
    const char *name = reading->key->name;
    const char *want = wants[reading->key->type];
    switch (value->kind) {
    case VALUE_STRING:
        COMPLAIN(reading, help, "`%s` wants %s, not \"%.*s\"", name, want, SHOWN(reading->text));
        break;
    case VALUE_NUMBER:
        COMPLAIN(reading, help, "`%s` wants %s, not %.*s%.*s", name, want, SHOWN(value->text),
                 SHOWN(value->unit));
        break;
    case VALUE_BOOLEAN:
        COMPLAIN(reading, help, "`%s` wants %s, not %s", name, want,
                 value->boolean ? "true" : "false");
        break;
    case VALUE_NULL:
        COMPLAIN(reading, help, "`%s` wants %s, not null", name, want);
        break;
    default:
        UNREACHABLE("value kind");
    }
}

static void check_range(struct reading *reading, int64_t number)
{
    const struct schema_key *key = reading->key;
    char least[SCHEMA_NUMBER_MAX];
    char most[SCHEMA_NUMBER_MAX];
    char given[SCHEMA_NUMBER_MAX];
    if (number < key->minimum || number > key->maximum) {
        schema_print_number(key, key->minimum, least);
        schema_print_number(key, key->maximum, most);
        schema_print_number(key, number, given);
        COMPLAIN(reading, NULL, "`%s` must be %s to %s, not %s", key->name, least, most, given);
    } else if (key->type == TYPE_REDIRECT_STATUS && !schema_is_redirect(number)) {
        COMPLAIN(reading, "301 and 308 are permanent, 302 and 307 are not; 303 asks for a GET",
                 "`%s` must be 301, 302, 303, 307 or 308, not %" PRId64, key->name, number);
    } else {
        reading->out->number = number;
    }
}

static void refuse_unit(struct reading *reading, struct span unit)
{
    const char *name = reading->key->name;
    if (reading->key->type == TYPE_DURATION) {
        COMPLAIN(reading, "units of time: ms, s, m, h", "`%s` has an unknown unit `%.*s`", name,
                 SHOWN(unit));
    } else if (reading->key->type == TYPE_SIZE) {
        COMPLAIN(reading, "units of size: B, KB, MB, GB (thousands), KiB, MiB, GiB (1024)",
                 "`%s` has an unknown unit `%.*s`", name, SHOWN(unit));
    } else {
        COMPLAIN(reading, NULL, "`%s` is a number without a unit", name);
    }
}

/* A number, bare or in quotes: ${NAME} can only stand in quotes, so both mean the same. */
static void read_number(struct reading *reading)
{
    const struct value *value = reading->value;
    enum schema_type type = reading->key->type;
    enum quantity result = QUANTITY_NOT_A_NUMBER;
    int64_t number = 0;
    char help[HELP_MAX];
    struct span unit = value->unit;
    struct span digits = value->text;
    if (value->kind == VALUE_NUMBER) {
        result = schema_quantity(type, digits, unit, &number);
    } else if (value->kind == VALUE_STRING) {
        digits = reading->text;
        schema_split_quantity(reading->text, &digits, &unit);
        result = schema_quantity(type, digits, unit, &number);
    }
    switch (result) {
    case QUANTITY_OK:
        check_range(reading, number);
        break;
    case QUANTITY_NO_UNIT:
        (void)snprintf(help, sizeof(help), "write %.*s%s", SHOWN(digits),
                       type == TYPE_DURATION ? "s" : "B");
        COMPLAIN(reading, help, "`%s` needs a unit", reading->key->name);
        break;
    case QUANTITY_BAD_UNIT:
        refuse_unit(reading, unit);
        break;
    case QUANTITY_TOO_LARGE:
        COMPLAIN(reading, NULL, "`%s` is too large a number", reading->key->name);
        break;
    case QUANTITY_NOT_A_NUMBER:
        refuse(reading, NULL);
        break;
    default:
        UNREACHABLE("quantity");
    }
}

static void read_boolean(struct reading *reading)
{
    const struct value *value = reading->value;
    if (value->kind == VALUE_BOOLEAN) {
        reading->out->number = value->boolean;
    } else if (value->kind == VALUE_STRING && span_equal(reading->text, SPAN("true"))) {
        reading->out->number = 1;
    } else if (value->kind != VALUE_STRING || !span_equal(reading->text, SPAN("false"))) {
        refuse(reading, NULL);
    }
}

static void read_choice(struct reading *reading)
{
    char help[HELP_MAX];
    size_t used = 0;
    if (schema_choice(reading->key, reading->text, &reading->out->number)) {
        return;
    }
    struct suggestion suggestion;
    suggest_init(&suggestion, reading->text);
    for (int64_t i = 0; i < schema_choices(reading->key); i++) {
        struct span choice = schema_choice_text(reading->key, i);
        suggest_offer(&suggestion, choice);
        int size = snprintf(help + used, sizeof(help) - used, "%s\"%.*s\"",
                            i == 0 ? "it is one of " : ", ", SPAN_ARGS(choice));
        ASSERT(size > 0 && (size_t)size < sizeof(help) - used);
        used += (size_t)size;
    }
    if (suggestion.best.size > 0) {
        (void)snprintf(help, sizeof(help), "did you mean \"%.*s\"?", SPAN_ARGS(suggestion.best));
    }
    COMPLAIN(reading, help, "`%s` cannot be \"%.*s\"", reading->key->name, SHOWN(reading->text));
}

/* A copy in lower case. */
static struct span lower_case(struct reading *reading, struct span text)
{
    uint8_t *copy = arena_alloc(reading->validator->arena, text.size);
    if (copy == NULL) {
        reading->no_room = true;
        return SPAN_EMPTY;
    }
    for (size_t i = 0; i < text.size; i++) {
        copy[i] = ascii_lower(text.data[i]);
    }
    return span_of(copy, text.size);
}

/* Whether the text is a host, with a port only where allowed. */
static bool read_authority(struct reading *reading, struct span text, bool port_allowed)
{
    struct authority authority;
    bool had_overflowed = reading->validator->arena->overflowed;
    if (!target_parse_authority(text, reading->validator->arena, &authority)) {
        reading->no_room = !had_overflowed && reading->validator->arena->overflowed;
        return false;
    }
    if (!port_allowed && (authority.has_port || authority.host.size == 0)) {
        return false;
    }
    reading->out->text = port_allowed ? text : authority.host;
    return true;
}

static void read_host(struct reading *reading)
{
    struct span text = reading->text;
    bool is_pattern = reading->key->type == TYPE_HOST_PATTERN && span_starts_with(text, SPAN("*."));
    struct span host = is_pattern ? span_from(text, 2) : text;
    if (!read_authority(reading, host, reading->key->type == TYPE_AUTHORITY)) {
        refuse(reading, NULL);
    } else if (is_pattern) {
        struct span pattern =
            arena_printf(reading->validator->arena, "*.%.*s", SPAN_ARGS(reading->out->text));
        reading->no_room = pattern.data == NULL;
        reading->out->text = pattern;
    }
}

static void read_path(struct reading *reading)
{
    struct target_path path;
    enum reason reason = REASON_NONE;
    if (target_canonical_path(reading->text, false, reading->validator->arena, &path, &reason) ==
        OK) {
        reading->out->text = path.path;
    } else if (reason == REASON_BUFFERS_FULL) {
        reading->no_room = true;
    } else if (reason == REASON_AMBIGUOUS_PATH) {
        refuse(reading, "it can be read in more than one way; no request can have it");
    } else {
        refuse(reading, "it begins with `/`, has neither query nor fragment, and bytes outside "
                        "ASCII stand percent-encoded");
    }
}

/* `unix:/path`. Abstract names have no file whose mode says who may connect. */
static void read_unix_socket(struct reading *reading)
{
    struct span path = span_from(reading->text, SPAN("unix:").size);
    if (reading->key->type == TYPE_ADDRESS_OR_OFF) {
        refuse(reading, "it listens on TCP; on a Unix socket there is server control-socket");
    } else if (text_is_unix_socket(reading->text)) {
        reading->out->address = (struct address){.family = ADDRESS_UNIX};
    } else if (span_starts_with(path, SPAN("@"))) {
        refuse(reading, "abstract names are not supported: nothing says who may connect to one");
    } else if (path.size > ADDRESS_PATH_MAX) {
        refuse(reading, "the path of a Unix socket has at most 107 bytes");
    } else {
        refuse(reading, "the path of a Unix socket is absolute and names a file");
    }
}

static void read_address(struct reading *reading)
{
    struct span text = reading->text;
    if (reading->key->type == TYPE_ADDRESS_OR_OFF && span_equal(text, SPAN("off"))) {
        return;
    }
    if (address_parse(text, &reading->out->address)) {
        return;
    }
    if (span_starts_with(text, SPAN("unix:"))) {
        read_unix_socket(reading);
        return;
    }
    const char *help = span_find(text, ':') == text.size ? "the port is missing" : NULL;
    if (reading->key->type == TYPE_TARGET && help == NULL) {
        struct authority authority;
        bool valid = target_parse_authority(text, reading->validator->arena, &authority);
        if (valid && authority.has_port && authority.port > 0 && authority.host.data[0] != '[') {
            return; /* a name: the compiler resolves it */
        }
    }
    refuse(reading, help);
}

/* Fields that frame the message or belong to one connection are never set by configuration. */
static void read_field_name(struct reading *reading)
{
    enum field_id id = field_identify(reading->text);
    if (!text_is_token(reading->text)) {
        COMPLAIN(reading, NULL, "\"%.*s\" is not the name of a field", SHOWN(reading->text));
    } else if (reading->key->type == TYPE_FIELD &&
               (id == FIELD_CONTENT_LENGTH || (field_flags(id) & FIELD_IS_HOP) != 0)) {
        COMPLAIN(reading, "it frames the message or manages the connection",
                 "the field `%.*s` is not for configuration", SHOWN(reading->text));
    } else if (reading->key->type == TYPE_CONDITION_HEADER) {
        reading->out->text = lower_case(reading, reading->text);
    }
}

static void refuse_unless(struct reading *reading, bool valid)
{
    if (!valid) {
        refuse(reading, NULL);
    }
}

/* Peers on Unix sockets have no address: whoever may open the file is one of them. */
static void read_network(struct reading *reading)
{
    if (span_equal(reading->text, SPAN("unix"))) {
        reading->out->network = (struct address_block){.family = ADDRESS_UNIX};
        return;
    }
    refuse_unless(reading, address_block_parse(reading->text, &reading->out->network));
}

/* As the names of a certificate are shown: nothing else could ever be equal to one of them. */
static void read_san(struct reading *reading)
{
    const struct span kinds[] = {SPAN("DNS:"), SPAN("email:"), SPAN("URI:"), SPAN("IP:")};
    struct address address;
    char text[ADDRESS_TEXT_MAX];
    struct span rest = SPAN_EMPTY;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (span_starts_with(reading->text, kinds[i])) {
            rest = span_from(reading->text, kinds[i].size);
        }
    }
    bool is_address = span_starts_with(reading->text, SPAN("IP:"));
    bool readable = rest.size > 0 && text_is_printable(rest);
    if (readable && (span_find(rest, ' ') < rest.size || span_find(rest, ',') < rest.size)) {
        refuse(reading, "spaces and commas in a name are written %20 and %2C, see client-auth");
    } else if (!readable || (is_address && !address_parse_host(rest, &address))) {
        refuse(reading, NULL);
    } else if (is_address) {
        struct span printed = span_of(text, address_print_host(&address, text));
        reading->out->text = arena_printf(reading->validator->arena, "IP:%.*s", SPAN_ARGS(printed));
        reading->no_room = reading->out->text.data == NULL;
    }
}

/* openssl prints it in upper case with colons, others without. */
static void read_fingerprint(struct reading *reading)
{
    struct span text = lower_case(reading, reading->text);
    uint8_t *digits = arena_alloc(reading->validator->arena, text.size);
    size_t count = 0;
    if (text.size != reading->text.size || digits == NULL) {
        reading->no_room = true;
        return;
    }
    for (size_t i = 0; i < text.size; i++) {
        bool is_between = count > 0 && count % 2 == 0 && text.data[i - 1] != ':';
        if (text.data[i] != ':' || !is_between) {
            digits[count++] = text.data[i];
        }
    }
    reading->out->text = span_of(digits, count);
    refuse_unless(reading, text_is_fingerprint(reading->out->text));
}

/* What a client's certificate has to say. */
static void read_of_certificate(struct reading *reading)
{
    if (reading->key->type == TYPE_SAN) {
        read_san(reading);
    } else if (reading->key->type == TYPE_FINGERPRINT) {
        read_fingerprint(reading);
    } else if (!text_is_subject(reading->text)) {
        refuse(reading, "as `openssl x509 -noout -subject -nameopt RFC2253` prints it: no spaces "
                        "around `=` and behind `,`");
    }
}

/* Texts whose first value is a name and whose others are values. */
static void read_named(struct reading *reading)
{
    bool is_name = reading->index == 0;
    if (reading->key->type == TYPE_CONDITION_QUERY) {
        refuse_unless(reading, !is_name || reading->text.size > 0);
    } else if (is_name) {
        read_field_name(reading);
    } else if (!text_is_field_value(reading->text)) {
        COMPLAIN(reading, "no control bytes, no space at its ends", "\"%.*s\" is not a field value",
                 SHOWN(reading->text));
    }
}

static bool is_file_or_off(struct span text)
{
    return span_equal(text, SPAN("off")) ||
           (span_starts_with(text, SPAN("/")) && text_has_no_nul(text));
}

static void read_file(struct reading *reading)
{
    struct span text = reading->text;
    bool to_stdout = reading->key->type == TYPE_LOG_TARGET && span_equal(text, SPAN("stdout"));
    refuse_unless(reading, reading->key->type == TYPE_FILE ? text_has_no_nul(text)
                                                           : to_stdout || is_file_or_off(text));
}

/* "2xx" is 2, "404" is 404, "none" is 0. False for anything else. */
static bool parse_selector(struct span text, int64_t *selector)
{
    uint64_t status = 0;
    if (span_equal(text, SPAN("none"))) {
        *selector = 0;
        return true;
    }
    if (text.size != 3 || text.data[0] < '1' || text.data[0] > '5') {
        return false;
    }
    if (span_equal_nocase(span_from(text, 1), SPAN("xx"))) {
        *selector = text.data[0] - '0';
        return true;
    }
    if (!span_to_u64(text, 599, &status)) {
        return false;
    }
    *selector = (int64_t)status;
    return true;
}

/* A decimal number from 0 to 1, in millionths. */
static bool parse_rate(struct span text, int64_t *rate)
{
    enum { DECIMALS_MAX = 6 };
    size_t dot = span_find(text, '.');
    uint64_t whole = 0;
    uint64_t fraction = 0;
    if (!span_to_u64(span_first(text, dot), 1, &whole)) {
        return false;
    }
    if (dot < text.size) {
        struct span decimals = span_from(text, dot + 1);
        if (decimals.size > DECIMALS_MAX || !span_to_u64(decimals, 999999, &fraction)) {
            return false;
        }
        for (size_t i = decimals.size; i < DECIMALS_MAX; i++) {
            fraction *= 10;
        }
    }
    *rate = (int64_t)(whole * 1000000 + fraction);
    return *rate <= 1000000;
}

/* Both values may stand bare or in quotes. */
static void read_sample(struct reading *reading)
{
    const struct value *value = reading->value;
    bool is_text = value->kind == VALUE_STRING;
    struct span text = is_text ? reading->text : value->text;
    bool readable = is_text || (value->kind == VALUE_NUMBER && value->unit.size == 0);
    int64_t number = 0;
    if (reading->index == 0) {
        if (!readable || !parse_selector(text, &number)) {
            refuse(reading, "the status is \"1xx\" to \"5xx\", \"100\" to \"599\", or \"none\" for "
                            "requests without an answer");
        }
    } else if (!readable || !parse_rate(text, &number)) {
        refuse(reading, "the rate is a number from 0 to 1 with at most six decimals");
    }
    reading->out->number = number;
}

static void read_text(struct reading *reading)
{
    const struct schema_key *key = reading->key;
    struct span text = reading->text;
    switch (key->type) {
    case TYPE_CHOICE:
        read_choice(reading);
        break;
    case TYPE_TEXT:
        break;
    case TYPE_NAME:
        refuse_unless(reading, text_is_name(text));
        break;
    case TYPE_TOKEN:
        refuse_unless(reading, text_is_token(text));
        break;
    case TYPE_VERSION:
        refuse_unless(reading, text_is_version(text));
        break;
    case TYPE_FIELD:
    case TYPE_CONDITION_HEADER:
    case TYPE_CONDITION_QUERY:
        read_named(reading);
        break;
    case TYPE_FIELD_VALUE:
        refuse_unless(reading, text_is_field_value(text));
        break;
    case TYPE_SUBJECT:
    case TYPE_SAN:
    case TYPE_FINGERPRINT:
        read_of_certificate(reading);
        break;
    case TYPE_PATH:
        read_path(reading);
        break;
    case TYPE_TARGET_PATH:
        refuse_unless(reading, text_is_target(text));
        break;
    case TYPE_LOCATION:
        refuse_unless(reading, text_is_location(text));
        break;
    case TYPE_HOST:
    case TYPE_HOST_PATTERN:
    case TYPE_AUTHORITY:
        read_host(reading);
        break;
    case TYPE_ADDRESS:
    case TYPE_ADDRESS_OR_OFF:
    case TYPE_TARGET:
        read_address(reading);
        break;
    case TYPE_NETWORK:
        read_network(reading);
        break;
    case TYPE_LOG_TARGET:
    case TYPE_FILE:
    case TYPE_FILE_OR_OFF:
        read_file(reading);
        break;
    case TYPE_BOOLEAN:
    case TYPE_INTEGER:
    case TYPE_REDIRECT_STATUS:
    case TYPE_DURATION:
    case TYPE_SIZE:
    case TYPE_SAMPLE:
    case SCHEMA_TYPES:
    default:
        UNREACHABLE("not a text");
    }
}

/* Expands the variables of a string. False when that was not possible; it was reported then. */
static bool expand(struct reading *reading)
{
    struct span wrong = SPAN_EMPTY;
    switch (environment_expand(reading->validator->environment, reading->validator->arena,
                               reading->value->text, &reading->text, &wrong)) {
    case EXPANSION_DONE:
        return true;
    case EXPANSION_UNSET:
        COMPLAIN(reading, "set it, or give a default: ${NAME:-default}",
                 "the environment variable `%.*s` is not set", SHOWN(wrong));
        return false;
    case EXPANSION_MALFORMED:
        COMPLAIN(reading, "write ${NAME} or ${NAME:-default}; a literal ${ is written $${",
                 "`%.*s` is not a variable", SHOWN(wrong));
        return false;
    case EXPANSION_NO_ROOM:
        reading->no_room = true;
        return false;
    default:
        UNREACHABLE("expansion");
    }
}

static void read_value(struct reading *reading)
{
    const struct schema_key *key = reading->key;
    if (reading->value->type.data != NULL) {
        COMPLAIN(reading, NULL, "the type annotation (%.*s) has no meaning here",
                 SHOWN(reading->value->type));
        return;
    }
    if (reading->value->kind == VALUE_STRING && !expand(reading)) {
        return;
    }
    if (schema_type_is_number(key->type)) {
        read_number(reading);
        return;
    }
    if (key->type == TYPE_BOOLEAN) {
        read_boolean(reading);
        return;
    }
    if (key->type == TYPE_SAMPLE) {
        read_sample(reading);
        return;
    }
    if (reading->value->kind != VALUE_STRING) {
        refuse(reading, reading->value->kind == VALUE_NUMBER ? "put it in quotes" : NULL);
        return;
    }
    reading->out->text = reading->text;
    int64_t size = (int64_t)reading->text.size;
    if (key->type != TYPE_CHOICE && size > key->maximum) {
        COMPLAIN(reading, NULL, "`%s` has %" PRId64 " bytes, more than %" PRId64, key->name, size,
                 key->maximum);
    } else if (key->type != TYPE_CHOICE && size < key->minimum) {
        COMPLAIN(reading, NULL, "`%s` must not be empty", key->name);
    } else {
        read_text(reading);
    }
}

bool validate_value(struct validator *validator, const struct schema_key *key, size_t index,
                    const struct value *value, struct setting_value *out)
{
    struct reading reading = {
        .validator = validator,
        .key = key,
        .value = value,
        .index = index,
        .out = out,
    };
    *out = (struct setting_value){.position = value->position};
    read_value(&reading);
    return !reading.no_room;
}
