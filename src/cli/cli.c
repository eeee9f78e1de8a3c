#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "config/suggest.h"
#include "supervisor/process.h"

static int fail_usage(const char *command, const char *what, const char *word,
                      const struct suggestion *suggestion)
{
    (void)fprintf(stderr, "sentinel: %s '%s'", what, word);
    if (suggestion != NULL && suggestion->best.size > 0) {
        (void)fprintf(stderr, "; did you mean '%.*s'?", SPAN_ARGS(suggestion->best));
    }
    (void)fprintf(stderr, "\nTry 'sentinel %s%s--help'.\n", command, command[0] != '\0' ? " " : "");
    return CLI_USAGE;
}

static void print_help(FILE *stream)
{
    (void)fputs("Sentinel is a security-first HTTP reverse proxy.\n"
                "\n"
                "Usage: sentinel COMMAND [OPTIONS]\n"
                "\n"
                "COMMANDS\n",
                stream);
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++) {
        (void)fprintf(stream, "  %-18s%s\n", command->name, command->summary);
    }
    (void)fputs("\n"
                "OPTIONS\n"
                "  -h, --help        this text; behind a command: what it does and takes\n"
                "  -V, --version     the version\n"
                "\n"
                "FIRST STEPS\n"
                "  SENTINEL_UPSTREAM=127.0.0.1:3000 sentinel run\n"
                "  sentinel config-example > sentinel.kdl\n"
                "  sentinel run --config sentinel.kdl\n",
                stream);
}

/* Output that did not arrive, on a full disk say, must not pass for success. */
static int finish_output(int exit_code)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        perror("sentinel: cannot write to standard output");
        return CLI_REFUSED;
    }
    return exit_code;
}

static bool is_one_of(const char *word, const char *brief, const char *full)
{
    return strcmp(word, brief) == 0 || strcmp(word, full) == 0;
}

/* An option as it is written. */
struct option {
    const char *name;
    const char *brief; /* NULL: it has no short form */
    const char *value; /* what stands behind it; NULL: nothing */
};

static const struct option OPTIONS[CLI_OPTION_COUNT] = {
    [CLI_CONFIG] = {"--config", "-c", "file"},
    [CLI_CONTROL_SOCKET] = {"--control-socket", NULL, "path"},
    [CLI_PID_FILE] = {"--pid-file", NULL, "path"},
    [CLI_SANDBOX] = {"--sandbox", NULL, NULL},
    [CLI_JSON] = {"--json", NULL, NULL},
    [CLI_FAILURES] = {"--failures", NULL, NULL},
    [CLI_IN_FLIGHT] = {"--in-flight", NULL, NULL},
    [CLI_CRASHES] = {"--crashes", NULL, NULL},
    [CLI_ROUTE] = {"--route", NULL, "name"},
    [CLI_STATUS] = {"--status", NULL, "status"},
    [CLI_REASON] = {"--reason", NULL, "reason"},
    [CLI_CLIENT] = {"--client", NULL, "address"},
    [CLI_WORKER] = {"--worker", NULL, "number"},
    [CLI_LIMIT] = {"--limit", NULL, "number"},
};

static bool takes(const struct cli_command *command, unsigned option)
{
    return (command->takes & CLI_TAKES(option)) != 0;
}

static int unknown_option(const struct cli_command *command, const char *word)
{
    struct suggestion suggestion;
    suggest_init(&suggestion, span_of_string(word));
    suggest_offer(&suggestion, SPAN("--help"));
    for (unsigned i = 0; i < CLI_OPTION_COUNT; i++) {
        if (takes(command, i)) {
            suggest_offer(&suggestion, span_of_string(OPTIONS[i].name));
        }
    }
    const char *what = word[0] == '-' ? "unknown option" : "unexpected argument";
    return fail_usage(command->name, what, word, &suggestion);
}

/* Whether the word is this option; *value is what stands behind its `=`, or NULL. */
static bool is_option(const struct option *option, const char *word, const char **value)
{
    size_t size = strlen(option->name);
    *value = NULL;
    if (option->value != NULL && strncmp(word, option->name, size) == 0 && word[size] == '=') {
        *value = word + size + 1;
        return true;
    }
    return strcmp(word, option->name) == 0 ||
           (option->brief != NULL && strcmp(word, option->brief) == 0);
}

/* Takes an option and its value off the words, which end at the last one taken. 0, or why not. */
static int read_option(const struct cli_command *command, char ***words,
                       struct cli_arguments *arguments)
{
    const char *value = NULL;
    unsigned index = 0;
    while (index < CLI_OPTION_COUNT &&
           !(takes(command, index) && is_option(&OPTIONS[index], **words, &value))) {
        index++;
    }
    if (index == CLI_OPTION_COUNT) {
        return unknown_option(command, **words);
    }
    const struct option *option = &OPTIONS[index];
    if (option->value != NULL && value == NULL) {
        value = *++*words;
    }
    if (option->value != NULL && (value == NULL || value[0] == '\0')) {
        char what[48];
        (void)snprintf(what, sizeof(what), "no %s behind", option->value);
        *words -= value == NULL ? 1 : 0;
        return fail_usage(command->name, what, option->name, NULL);
    }
    if (arguments->values[index] != NULL) {
        return fail_usage(command->name, "a second", option->name, NULL);
    }
    arguments->values[index] = option->value == NULL ? "" : value;
    return CLI_OK;
}

/* Reads the words behind a command. -1: run it; otherwise the exit code. */
static int read_arguments(const struct cli_command *command, char **words,
                          struct cli_arguments *arguments)
{
    for (; *words != NULL; words++) {
        if (is_one_of(*words, "-h", "--help")) {
            (void)fputs(command->help, stdout);
            return finish_output(CLI_OK);
        }
        int wrong = read_option(command, &words, arguments);
        if (wrong != CLI_OK) {
            return wrong;
        }
    }
    arguments->config = arguments->values[CLI_CONFIG];
    return -1;
}

static int run_command(const struct cli_command *command, char **words, char **environment)
{
    struct cli_arguments arguments = {.environment = environment};
    int exit_code = read_arguments(command, words, &arguments);
    return exit_code >= 0 ? exit_code : finish_output(command->run(&arguments));
}

static int unknown_command(const char *word)
{
    struct suggestion suggestion;
    suggest_init(&suggestion, span_of_string(word));
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++) {
        suggest_offer(&suggestion, span_of_string(command->name));
    }
    suggest_offer(&suggestion, SPAN("--help"));
    suggest_offer(&suggestion, SPAN("--version"));
    return fail_usage("", word[0] == '-' ? "unknown option" : "unknown command", word, &suggestion);
}

int cli_main(int argc, char **argv, char **environment)
{
    /* A child of the supervisor has a title in place of a name, and no arguments. */
    if (argc == 1 && strncmp(argv[0], SPAWN_TITLE_PREFIX, strlen(SPAWN_TITLE_PREFIX)) == 0) {
        return process_main();
    }
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (is_one_of(word, "-h", "--help")) {
        print_help(stdout);
        return finish_output(CLI_OK);
    }
    if (is_one_of(word, "-V", "--version")) {
        (void)puts("sentinel " SENTINEL_VERSION);
        return finish_output(CLI_OK);
    }
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++) {
        if (strcmp(word, command->name) == 0) {
            return run_command(command, argv + 2, environment);
        }
    }
    return unknown_command(word);
}
