#include "cli/cli.h"
#include "supervisor/shell.h"

int command_run(const struct cli_arguments *arguments)
{
    struct shell_options options = {.config = arguments->config,
                                    .pid_file = arguments->pid_file,
                                    .environment = arguments->environment};
    return shell_run(&options);
}
