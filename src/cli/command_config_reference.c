#include "cli/cli.h"
#include "config/explain.h"

int command_config_reference(const struct cli_arguments *arguments)
{
    (void)arguments;
    explain_reference(stdout);
    return CLI_OK;
}
