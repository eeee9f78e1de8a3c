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

/* The options that take a value, and where that goes. */
static const struct {
    enum cli_option option;
    const char *brief; /* "": it has none */
    const char *full;
    size_t offset; /* of the value in struct cli_arguments */
} valued_options[] = {
    {CLI_OPTION_CONFIG, "-c", "--config", offsetof(struct cli_arguments, config)},
    {CLI_OPTION_PID_FILE, "", "--pid-file", offsetof(struct cli_arguments, pid_file)},
};

enum { VALUED_OPTIONS = sizeof(valued_options) / sizeof(valued_options[0]) };

static int unknown_option(const struct cli_command *command, const char *word)
{
    struct suggestion suggestion;
    suggest_init(&suggestion, span_of_string(word));
    suggest_offer(&suggestion, SPAN("--help"));
    for (size_t i = 0; i < VALUED_OPTIONS; i++) {
        if ((command->options & valued_options[i].option) != 0) {
            suggest_offer(&suggestion, span_of_string(valued_options[i].full));
        }
    }
    const char *what = word[0] == '-' ? "unknown option" : "unexpected argument";
    return fail_usage(command->name, what, word, &suggestion);
}

/* The option with a value that this word is, or VALUED_OPTIONS. `--name=value`: *value is set. */
static size_t find_valued(const struct cli_command *command, const char *word, const char **value)
{
    for (size_t i = 0; i < VALUED_OPTIONS; i++) {
        const char *full = valued_options[i].full;
        size_t size = strlen(full);
        if ((command->options & valued_options[i].option) == 0) {
            continue;
        }
        if (strncmp(word, full, size) == 0 && word[size] == '=') {
            *value = word + size + 1;
            return i;
        }
        if (is_one_of(word, valued_options[i].brief, full)) {
            return i;
        }
    }
    return VALUED_OPTIONS;
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
        const char *value = NULL;
        size_t option = find_valued(command, *words, &value);
        if (option == VALUED_OPTIONS || (*words)[0] == '\0') {
            return unknown_option(command, *words);
        }
        const char *full = valued_options[option].full;
        if (value == NULL) {
            value = words[1];
            words += value != NULL ? 1 : 0;
        }
        if (value == NULL || value[0] == '\0') {
            return fail_usage(command->name, "no file behind", full, NULL);
        }
        const char **place =
            (const char **)(void *)((char *)arguments + valued_options[option].offset);
        if (*place != NULL) {
            return fail_usage(command->name, "given twice:", full, NULL);
        }
        *place = value;
    }
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
