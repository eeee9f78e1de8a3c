#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void assert_failed(const char *expression, const char *file, int line)
{
    char text[512];
    int size = snprintf(text, sizeof(text), "sentinel: assertion failed: %s at %s:%d\n", expression,
                        file, line);
    if (size > 0) {
        size_t length = (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1;
        ssize_t ignored = write(STDERR_FILENO, text, length);
        (void)ignored;
    }
    abort();
}
