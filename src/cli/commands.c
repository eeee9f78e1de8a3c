#include "cli/cli.h"

#define CONFIG_OPTION                                                                              \
    "  -c, --config FILE  the configuration, in KDL. Without it the built-in one is used:\n"       \
    "                     listen on 0.0.0.0:8080, forward to 127.0.0.1:8081, admin on\n"           \
    "                     127.0.0.1:9090; see ENVIRONMENT\n"                                       \
    "  -h, --help         this text\n"

#define ENVIRONMENT                                                                                \
    "ENVIRONMENT (for the built-in configuration only)\n"                                          \
    "  SENTINEL_LISTEN    address to listen on, such as 0.0.0.0:8080\n"                            \
    "  SENTINEL_UPSTREAM  address or name:port to forward to\n"                                    \
    "  SENTINEL_WORKERS   worker processes; 0: one per core\n"

const struct cli_command cli_commands[] = {
    {
        .name = "run",
        .summary = "start the proxy and stay in the foreground",
        .help =
            "Usage: sentinel run [--config FILE] [--pid-file PATH] [--control-socket PATH]\n"
            "\n"
            "Starts the proxy in the foreground. Messages go to standard error; the access log\n"
            "goes to standard output unless the configuration says otherwise.\n"
            "\n"
            "OPTIONS\n" CONFIG_OPTION
            "  --pid-file PATH    in place of the configured pid-file; off: none\n"
            "  --control-socket PATH\n"
            "                     in place of the configured control-socket; off: none\n"
            "\n"
            "SIGNALS\n"
            "  TERM, INT, QUIT\n"
            "             finish the requests in flight, then end; a second one ends at once\n"
            "  USR1       reopen the log files\n"
            "  HUP, USR2  nothing changes: reload is not in this build, as a message says\n"
            "\n" ENVIRONMENT "\n"
            "EXIT CODES\n"
            "  0  stopped as asked\n"
            "  1  the configuration or the start was refused\n"
            "  2  wrong usage\n",
        .takes = CLI_TAKES(CLI_CONFIG) | CLI_TAKES(CLI_PID_FILE) | CLI_TAKES(CLI_CONTROL_SOCKET),
        .run = command_run,
    },
    {
        .name = "check",
        .summary = "validate a configuration without starting anything",
        .help = "Usage: sentinel check [--config FILE] [--json | --sandbox]\n"
                "\n"
                "Validates the configuration exactly as `sentinel run` would, and shows what it\n"
                "comes to, with the worst case of memory and descriptors. All that is wrong is\n"
                "reported in one run, each with its place.\n"
                "\n"
                "OPTIONS\n" CONFIG_OPTION
                "      --json         the worst case of memory and descriptors, as JSON\n"
                "      --sandbox      say instead what this machine has to keep the processes in\n"
                "                     (seccomp, Landlock, no_new_privs), who they would be, and\n"
                "                     whether a worker would be fully sandboxed\n"
                "\n" ENVIRONMENT "\n"
                "EXIT CODES\n"
                "  0  the configuration is fine; warnings are possible\n"
                "  1  it is not, or with --sandbox, something is missing\n"
                "  2  wrong usage\n",
        .takes = CLI_TAKES(CLI_CONFIG) | CLI_TAKES(CLI_JSON) | CLI_TAKES(CLI_SANDBOX),
        .run = command_check,
    },
    {
        .name = "recent",
        .summary = "show what a running instance did last, does now, and crashed over",
        .help =
            "Usage: sentinel recent [OPTIONS]\n"
            "\n"
            "Asks a running instance, over its control socket, for the requests that its workers\n"
            "finished last, newest first. Failed ones are kept longer than the others.\n"
            "\n"
            "OPTIONS\n"
            "      --failures       only failed ones: with a reason, or a status of 500 and above\n"
            "      --in-flight      requests under way instead, the oldest first, with their step\n"
            "      --crashes        reports of crashed processes instead, newest first\n"
            "      --route NAME     only those of this route\n"
            "      --status CODE    only those with this status: 503, or 5xx\n"
            "      --reason REASON  only those with this reason, as the access log names it\n"
            "      --client ADDR    only those of this client, or of a block such as 10.0.0.0/8\n"
            "      --worker N       only those of this worker, counted from 0\n"
            "      --limit N        at most so many lines, up to 10000; 50 without it\n"
            "      --json           JSON, one object a line, instead of a table\n"
            "      --control-socket PATH\n"
            "                       where to ask; otherwise the control-socket of --config, or\n"
            "                       /var/run/sentinel.sock\n"
            "  -c, --config FILE    the configuration that the instance runs on\n"
            "  -h, --help           this text\n"
            "\n"
            "EXIT CODES\n"
            "  0  here it is\n"
            "  1  no instance answers, or not in time\n"
            "  2  wrong usage\n",
        .takes = CLI_TAKES(CLI_CONFIG) | CLI_TAKES(CLI_CONTROL_SOCKET) | CLI_TAKES(CLI_JSON) |
                 CLI_TAKES(CLI_FAILURES) | CLI_TAKES(CLI_IN_FLIGHT) | CLI_TAKES(CLI_CRASHES) |
                 CLI_TAKES(CLI_ROUTE) | CLI_TAKES(CLI_STATUS) | CLI_TAKES(CLI_REASON) |
                 CLI_TAKES(CLI_CLIENT) | CLI_TAKES(CLI_WORKER) | CLI_TAKES(CLI_LIMIT),
        .run = command_recent,
    },
    {
        .name = "config-example",
        .summary = "print a commented configuration of every key",
        .help = "Usage: sentinel config-example\n"
                "\n"
                "Prints a commented configuration file that names every key. It loads as it is:\n"
                "\n"
                "  sentinel config-example > sentinel.kdl\n"
                "  sentinel check --config sentinel.kdl\n",
        .run = command_config_example,
    },
    {
        .name = "config-schema",
        .summary = "print the table of all keys as JSON",
        .help = "Usage: sentinel config-schema\n"
                "\n"
                "Prints every key of the configuration as JSON: its place, type, unit, range,\n"
                "default and meaning. For editors and programs.\n",
        .run = command_config_schema,
    },
    {
        .name = "config-reference",
        .summary = "print the reference page of all keys as Markdown",
        .help = "Usage: sentinel config-reference\n"
                "\n"
                "Prints the reference of the configuration as Markdown, made from the same table\n"
                "that validates it.\n",
        .run = command_config_reference,
    },
    {
        .name = "error-reference",
        .summary = "print the reference page of all errors as Markdown",
        .help = "Usage: sentinel error-reference\n"
                "\n"
                "Prints every reason for which a request can fail: its label in logs and metrics,\n"
                "its status, what it means and what to do about it. To look one up:\n"
                "\n"
                "  sentinel error-reference | grep no_endpoint\n",
        .run = command_error_reference,
    },
    {.name = NULL},
};
