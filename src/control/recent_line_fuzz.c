/* Lines of an instance gone mad: reading them stays inside, ends, and yields printable text. */
#include "control/recent_line.h"

#include <string.h>

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const KEYS[] = {"kind", "time", "path", "a", ""};
    struct span line = span_of(data, size);
    (void)recent_line_is_sound(line);
    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++) {
        char text[24];
        bool found = recent_line_get(line, KEYS[i], text, sizeof(text));
        size_t length = strnlen(text, sizeof(text));
        ASSERT(length < sizeof(text) && (found || length == 0));
        for (size_t j = 0; j < length; j++) {
            ASSERT(text[j] >= 0x20 && text[j] < 0x7f);
        }
        (void)recent_line_is(line, KEYS[i], "finished");
        (void)recent_line_number(line, KEYS[i]);
    }
    return 0;
}
