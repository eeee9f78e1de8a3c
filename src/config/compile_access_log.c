/*
 * The access log's block: from names to the tables that observe/access_log.c writes records by.
 */
#include "base/assert.h"
#include "config/compile_parts.h"
#include "http/message.h"

static_assert((int)GENERATION_CAPTURED_MAX <= (int)SCHEMA_LIST_MAX, "lists bound what is read");
static_assert((int)ACCESS_FIELD_COUNT <= (int)SCHEMA_LIST_MAX, "all members fit a list");

static const struct setting_value *values_of(const struct section *section, enum schema_key_id key)
{
    const struct setting *setting = section_setting(section, key);
    return setting == NULL ? NULL : setting->values;
}

static void refuse_twice(struct compilation *compilation, const struct setting_value *value,
                         const char *name)
{
    COMPILE_ERROR(compilation, value->position, NULL, "\"%.*s\" stands in `%s` a second time",
                  SPAN_ARGS(value->text), name);
}

/* The usual members, in their own order, where nothing else is said. */
static struct ref compile_fields(struct compilation *compilation, const struct section *section)
{
    uint32_t fields[ACCESS_FIELD_COUNT];
    uint32_t count = 0;
    uint32_t seen = 0;
    ASSERT(schema_choices(schema_key(KEY_ACCESS_LOG_FIELDS)) == ACCESS_FIELD_COUNT);
    const struct setting_value *value = values_of(section, KEY_ACCESS_LOG_FIELDS);
    while (value == NULL && count < ACCESS_FIELD_USUAL) {
        fields[count] = count;
        count++;
    }
    for (; value != NULL; value = value->next) {
        uint32_t bit = value->bad ? 0 : 1u << value->number;
        if ((seen & bit) != 0) {
            refuse_twice(compilation, value, "fields");
        } else if (bit != 0) {
            ASSERT(count < ACCESS_FIELD_COUNT);
            fields[count++] = (uint32_t)value->number;
        }
        seen |= bit;
    }
    return builder_array(&compilation->builder, fields, sizeof(fields[0]), count);
}

/* Sets the rates of the statuses that the selector (see TYPE_SAMPLE) takes. */
static void apply_sample(uint32_t *rates, uint32_t selector, uint32_t rate)
{
    bool is_class = selector >= 1 && selector <= 5;
    uint32_t first = is_class ? selector * 100 : selector;
    uint32_t last = is_class ? first + 99 : first;
    ASSERT(last < GENERATION_STATUSES);
    for (uint32_t status = first; status <= last; status++) {
        rates[status] = rate;
    }
}

static void check_selectors(struct compilation *compilation, const struct setting *setting)
{
    const struct setting *other = setting->next;
    for (; other != NULL; other = other->next) {
        const struct setting_value *value = other->values;
        if (other->key == setting->key && !value->bad && !setting->values->bad &&
            value->number == setting->values->number) {
            COMPILE_ERROR(compilation, value->position, NULL,
                          "`sample` has a second rate for this status");
        }
    }
}

/* The more specific ones go over the classes, wherever they stand. */
static struct ref compile_rates(struct compilation *compilation, const struct section *section)
{
    uint32_t rates[GENERATION_STATUSES];
    const struct setting *first = section_setting(section, KEY_ACCESS_LOG_SAMPLE);
    if (first == NULL) {
        return (struct ref){0};
    }
    for (size_t i = 0; i < GENERATION_STATUSES; i++) {
        rates[i] = GENERATION_RATE_ONE;
    }
    for (int classes = 1; classes >= 0; classes--) {
        for (const struct setting *at = first; at != NULL; at = at->next) {
            const struct setting_value *value = at->values;
            if (at->key != first->key || at->count != 2 || value->bad || value->next->bad) {
                continue;
            }
            bool is_class = value->number >= 1 && value->number <= 5;
            if (is_class == (classes != 0)) {
                apply_sample(rates, (uint32_t)value->number, (uint32_t)value->next->number);
            }
        }
    }
    for (const struct setting *at = first; at != NULL; at = at->next) {
        if (at->key == first->key) {
            check_selectors(compilation, at);
        }
    }
    return builder_array(&compilation->builder, rates, sizeof(rates[0]), GENERATION_STATUSES);
}

static uint32_t compile_redactions(const struct section *section)
{
    uint32_t redacted = 0;
    ASSERT(schema_choices(schema_key(KEY_ACCESS_LOG_REDACT)) == ACCESS_REDACT_COUNT);
    for (const struct setting_value *value = values_of(section, KEY_ACCESS_LOG_REDACT);
         value != NULL; value = value->next) {
        redacted |= value->bad ? 0 : 1u << value->number;
    }
    return redacted;
}

static struct ref compile_query_names(struct compilation *compilation,
                                      const struct section *section)
{
    struct ref refs[SCHEMA_LIST_MAX];
    uint8_t name[GENERATION_CAPTURED_NAME_MAX];
    size_t count = 0;
    for (const struct setting_value *value = values_of(section, KEY_ACCESS_LOG_REDACT_QUERY);
         value != NULL; value = value->next) {
        if (value->bad) {
            continue;
        }
        ASSERT(value->text.size <= sizeof(name) && count < SCHEMA_LIST_MAX);
        for (size_t i = 0; i < value->text.size; i++) {
            name[i] = ascii_lower(value->text.data[i]);
        }
        refs[count++] = builder_text(&compilation->builder, span_of(name, value->text.size));
    }
    return builder_array(&compilation->builder, refs, sizeof(refs[0]), count);
}

/* Credentials are never written to a log, whatever the configuration says. */
static bool is_secret(enum field_id field)
{
    return field == FIELD_AUTHORIZATION || field == FIELD_PROXY_AUTHORIZATION ||
           field == FIELD_COOKIE || field == FIELD_SET_COOKIE;
}

static bool is_listed(const struct section *section, enum schema_key_id key, struct span name)
{
    for (const struct setting_value *value = values_of(section, key); value != NULL;
         value = value->next) {
        if (!value->bad && span_equal_nocase(value->text, name)) {
            return true;
        }
    }
    return false;
}

static struct generation_captured capture(struct compilation *compilation,
                                          const struct section *section, struct span name)
{
    enum field_id field = field_identify(name);
    return (struct generation_captured){
        .name = builder_text(&compilation->builder, name),
        .field = (uint32_t)field,
        .redacted = is_secret(field) || is_listed(section, KEY_ACCESS_LOG_REDACT_HEADER, name),
    };
}

static struct ref compile_captured(struct compilation *compilation, const struct section *section,
                                   enum schema_key_id key, uint32_t *total)
{
    struct generation_captured captured[GENERATION_CAPTURED_MAX];
    uint32_t count = 0;
    const struct setting_value *first = values_of(section, key);
    for (const struct setting_value *value = first; value != NULL; value = value->next) {
        if (value->bad) {
            continue;
        }
        for (const struct setting_value *other = first; other != value; other = other->next) {
            if (!other->bad && span_equal_nocase(other->text, value->text)) {
                refuse_twice(compilation, value, schema_key(key)->name);
                break;
            }
        }
        if (*total == GENERATION_CAPTURED_MAX) {
            COMPILE_ERROR(compilation, value->position, NULL,
                          "more than %d fields of requests and responses are to be recorded",
                          GENERATION_CAPTURED_MAX);
            break;
        }
        captured[count++] = capture(compilation, section, value->text);
        (*total)++;
    }
    return builder_array(&compilation->builder, captured, sizeof(captured[0]), count);
}

/* What the combined format records by itself. */
static struct ref compile_combined(struct compilation *compilation, const struct section *section)
{
    const struct generation_captured captured[] = {
        capture(compilation, section, SPAN("Referer")),
        capture(compilation, section, SPAN("User-Agent")),
    };
    return builder_array(&compilation->builder, captured, sizeof(captured[0]), 2);
}

/* A name under redact-header that is not recorded at all is a mistake in one of the two. */
static void check_redacted(struct compilation *compilation, const struct section *section,
                           bool combined)
{
    for (const struct setting_value *value = values_of(section, KEY_ACCESS_LOG_REDACT_HEADER);
         value != NULL; value = value->next) {
        bool recorded = combined
                            ? span_equal_nocase(value->text, SPAN("Referer")) ||
                                  span_equal_nocase(value->text, SPAN("User-Agent"))
                            : is_listed(section, KEY_ACCESS_LOG_REQUEST_HEADER, value->text) ||
                                  is_listed(section, KEY_ACCESS_LOG_RESPONSE_HEADER, value->text);
        if (!value->bad && !recorded) {
            COMPILE_ERROR(compilation, value->position,
                          combined ? "the combined format records Referer and User-Agent only"
                                   : "name it under request-header or response-header, too",
                          "\"%.*s\" is not recorded", SPAN_ARGS(value->text));
        }
    }
}

/* The combined format has neither host nor request id. */
static void check_combined_redactions(struct compilation *compilation,
                                      const struct section *section)
{
    for (const struct setting_value *value = values_of(section, KEY_ACCESS_LOG_REDACT);
         value != NULL; value = value->next) {
        if (!value->bad &&
            (value->number == ACCESS_REDACT_HOST || value->number == ACCESS_REDACT_REQUEST_ID)) {
            COMPILE_ERROR(compilation, value->position, "the combined format has no place for it",
                          "\"%.*s\" is not recorded", SPAN_ARGS(value->text));
        }
    }
}

/* What has no effect on a log that is off, or of the combined format. */
static void refuse_idle_settings(struct compilation *compilation, const struct section *section,
                                 bool off, bool combined)
{
    static const enum schema_key_id of_json[] = {
        KEY_ACCESS_LOG_FIELDS,
        KEY_ACCESS_LOG_SAMPLE,
        KEY_ACCESS_LOG_REQUEST_HEADER,
        KEY_ACCESS_LOG_RESPONSE_HEADER,
    };
    static const enum schema_key_id of_all[] = {
        KEY_ACCESS_LOG_FORMAT,
        KEY_ACCESS_LOG_REDACT,
        KEY_ACCESS_LOG_REDACT_QUERY,
        KEY_ACCESS_LOG_REDACT_HEADER,
    };
    const char *why = off ? "the access log is off" : "the combined format has no place for it";
    for (size_t i = 0; (off || combined) && i < sizeof(of_json) / sizeof(of_json[0]); i++) {
        compile_refuse_setting(compilation, section, of_json[i], why);
    }
    for (size_t i = 0; off && i < sizeof(of_all) / sizeof(of_all[0]); i++) {
        compile_refuse_setting(compilation, section, of_all[i], why);
    }
}

void compile_access_log(struct compilation *compilation, const struct section *section)
{
    struct generation_server *server = &compilation->header.server;
    struct span target = section_text(section, KEY_ACCESS_LOG_TARGET);
    bool off = span_equal(target, SPAN("off"));
    bool combined = section_integer(section, KEY_ACCESS_LOG_FORMAT) == ACCESS_COMBINED;
    uint32_t captured = 0;
    refuse_idle_settings(compilation, section, off, combined);
    if (!off) {
        check_redacted(compilation, section, combined);
    }
    server->access_log = builder_text(&compilation->builder, target);
    server->access = (struct generation_access){
        .format = combined ? ACCESS_COMBINED : ACCESS_JSON,
        .redacted = compile_redactions(section),
        .rates = compile_rates(compilation, section),
        .query_names = compile_query_names(compilation, section),
    };
    if (combined) {
        check_combined_redactions(compilation, section);
        server->access.request_captured = compile_combined(compilation, section);
    } else {
        server->access.fields = compile_fields(compilation, section);
        server->access.request_captured =
            compile_captured(compilation, section, KEY_ACCESS_LOG_REQUEST_HEADER, &captured);
        server->access.response_captured =
            compile_captured(compilation, section, KEY_ACCESS_LOG_RESPONSE_HEADER, &captured);
    }
    if (section != NULL) {
        server->access_log_place = compile_file_place(compilation, section->position);
    }
}
