#include "cli/cli.h"
#include "config/explain.h"

int command_config_schema(const struct cli_arguments *arguments)
{
    (void)arguments;
    explain_schema(stdout);
    return CLI_OK;
}
