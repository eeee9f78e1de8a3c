/*
 * The command line: a table of commands, each with its help, its options and its function. Exit
 * codes are the same everywhere: 0 fine, 1 configuration or start refused, 2 wrong usage.
 */
#ifndef SENTINEL_CLI_CLI_H
#define SENTINEL_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

struct generation;

enum { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2 };

/* The options of all commands, --help aside. */
enum cli_option {
    CLI_CONFIG,
    CLI_CONTROL_SOCKET,
    CLI_PID_FILE,
    CLI_SANDBOX,
    CLI_JSON,
    CLI_FAILURES,
    CLI_IN_FLIGHT,
    CLI_CRASHES,
    CLI_ROUTE,
    CLI_STATUS,
    CLI_REASON,
    CLI_CLIENT,
    CLI_WORKER,
    CLI_LIMIT,
    CLI_OPTION_COUNT
};

#define CLI_TAKES(option) (1U << (option))

/* What was said behind a command. */
struct cli_arguments {
    const char *config;                   /* --config FILE; NULL: built-in */
    const char *values[CLI_OPTION_COUNT]; /* NULL: not given; "": given, and takes no value */
    char **environment;                   /* of the process, borrowed */
};

struct cli_command {
    const char *name;
    const char *summary; /* one line in `sentinel --help` */
    const char *help;    /* the whole text of `sentinel NAME --help` */
    unsigned takes;      /* CLI_TAKES of each option that it knows */
    int (*run)(const struct cli_arguments *arguments);
};

/* The commands, in the order of the help, closed by one without a name. */
extern const struct cli_command cli_commands[];

/* Runs the program; argv as main gets it, argc at least 1. The exit code. */
int cli_main(int argc, char **argv, char **environment);

/* The commands' functions, one file each. */
int command_run(const struct cli_arguments *arguments);
int command_recent(const struct cli_arguments *arguments);
int command_check(const struct cli_arguments *arguments);
int command_check_sandbox(const struct generation *generation); /* its --sandbox */
int command_config_example(const struct cli_arguments *arguments);
int command_config_schema(const struct cli_arguments *arguments);
int command_config_reference(const struct cli_arguments *arguments);
int command_error_reference(const struct cli_arguments *arguments);

#endif
