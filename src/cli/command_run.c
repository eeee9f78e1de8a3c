#include "cli/cli.h"
#include "supervisor/shell.h"

int command_run(const struct cli_arguments *arguments)
{
    struct shell_options options = {.config = arguments->config,
                                    .environment = arguments->environment};
    return shell_run(&options);
}
