#include "base/reason.h"

#include "base/assert.h"

static const struct reason_info REASONS[REASON_COUNT] = {
    [REASON_NONE] = {0, "", "none", "", "", ""},
#define REASON(id, status, proxy_status, label, keys, text, hint)                                  \
    [REASON_##id] = {status, proxy_status, label, keys, text, hint},
#include "base/error.def"
#undef REASON
};

const struct reason_info *reason_info(enum reason reason)
{
    ASSERT((unsigned)reason < REASON_COUNT);
    return &REASONS[reason];
}
