#include <stdio.h>

#include "base/assert.h"
#include "config/compile_parts.h"

enum {
    PRELOAD_AGE_MIN = 31536000, /* what the lists of browsers ask for */
    VALUE_MAX = 64,
};

struct ref compile_hsts(struct compilation *compilation, const struct section *section,
                        const struct hsts_keys *keys)
{
    char value[VALUE_MAX];
    if (section == NULL) {
        return (struct ref){0};
    }
    uint32_t age = section_number32(section, keys->max_age);
    bool subdomains = section_number32(section, keys->include_subdomains) != 0;
    bool preload = section_number32(section, keys->preload) != 0;
    if (preload && (!subdomains || age < PRELOAD_AGE_MIN)) {
        COMPILE_ERROR(compilation, section_setting(section, keys->preload)->position,
                      "write include-subdomains=true max-age=31536000 or more",
                      "`preload` needs `include-subdomains` and a `max-age` of a year");
    }
    int size = snprintf(value, sizeof(value), "max-age=%u%s%s", age,
                        subdomains ? "; includeSubDomains" : "", preload ? "; preload" : "");
    ASSERT(size > 0 && size < VALUE_MAX);
    return builder_text(&compilation->builder, span_of(value, (size_t)size));
}
