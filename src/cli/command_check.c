#include <stdio.h>
#include <time.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/figure.h"
#include "config/compile.h"
#include "supervisor/compilation.h"

int command_check(const struct cli_arguments *arguments)
{
    struct compilation compilation = {0};
    if (arguments->values[CLI_SANDBOX] != NULL && arguments->values[CLI_JSON] != NULL) {
        (void)fputs("sentinel: --json is for the figures, not for '--sandbox'\n", stderr);
        return CLI_USAGE;
    }
    if (compilation_open(&compilation, arguments->config, arguments->environment,
                         COMPILATION_TO_CHECK) != OK) {
        return CLI_REFUSED;
    }
    struct generation generation;
    bool opened = generation_open(&generation, compilation.block);
    ASSERT(opened); /* the compiler's word */
    uint64_t limit = environment_of_system(arguments->environment).descriptors;
    int exit_code = CLI_OK;
    if (arguments->values[CLI_SANDBOX] != NULL) {
        exit_code = command_check_sandbox(&generation);
    } else if (arguments->values[CLI_JSON] != NULL) {
        figure_print_json(stdout, &generation, limit);
    } else {
        compile_print_summary(stdout, &generation, (uint64_t)time(NULL));
        figure_print(stdout, &generation, limit);
        (void)puts("ok");
    }
    compilation_close(&compilation);
    return exit_code;
}
