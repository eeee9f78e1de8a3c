#include "net/tls_detail.h"

#include "base/assert.h"

static const char *const TEXTS[TLS_DETAIL_COUNT] = {
    [TLS_DETAIL_NONE] = "",
#define VERIFY(id, text) [TLS_DETAIL_VERIFY_##id] = text,
#define ALERT(id, number, name) [TLS_DETAIL_ALERT_##id] = "alert " name " (" #number ")",
#define REASON(id, text) [TLS_DETAIL_REASON_##id] = text,
#include "net/tls_detail.def"
#undef VERIFY
#undef ALERT
#undef REASON
};

const char *tls_detail_text(enum tls_detail detail)
{
    ASSERT((unsigned)detail < TLS_DETAIL_COUNT);
    return TEXTS[detail];
}
