#include "http/http2_names.h"

#include "base/assert.h"

const char *http2_glitch_label(enum http2_glitch kind)
{
    static const char *const LABELS[] = {
#define GLITCH(id, label, cost) label,
#include "http/http2.def"
#undef GLITCH
    };
    ASSERT((unsigned)kind < HTTP2_GLITCH_COUNT);
    return LABELS[kind];
}

const char *http2_code_name(unsigned index)
{
    static const char *const NAMES[HTTP2_CODES] = {"no_error",
                                                   "protocol_error",
                                                   "internal_error",
                                                   "flow_control_error",
                                                   "settings_timeout",
                                                   "stream_closed",
                                                   "frame_size_error",
                                                   "refused_stream",
                                                   "cancel",
                                                   "compression_error",
                                                   "connect_error",
                                                   "enhance_your_calm",
                                                   "inadequate_security",
                                                   "http_1_1_required",
                                                   "other"};
    ASSERT(index < HTTP2_CODES);
    return NAMES[index];
}
