#include "cli/cli.h"
#include "config/explain.h"

int command_config_example(const struct cli_arguments *arguments)
{
    (void)arguments;
    explain_example(stdout);
    return CLI_OK;
}
