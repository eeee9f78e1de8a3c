#include "cli/cli.h"
#include "supervisor/shell.h"

int command_run(const struct cli_arguments *arguments)
{
    struct shell_options options = {.config = arguments->config,
                                    .pid_file = arguments->values[CLI_PID_FILE],
                                    .control_socket = arguments->values[CLI_CONTROL_SOCKET],
                                    .environment = arguments->environment};
    return shell_run(&options);
}
