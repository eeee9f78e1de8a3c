#include "cli/cli.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORDS_MAX = 6, OUTPUT_MAX = 32 * 1024 };

/* What one run of the program has said. */
struct outcome {
    int exit_code;
    char said[OUTPUT_MAX]; /* on the stream that was caught */
};

/* Runs the program with these words (closed by NULL), catching what goes to the given descriptor.
 */
static void run(struct outcome *outcome, int caught, const char *const *words)
{
    char copies[WORDS_MAX][32] = {{0}};
    char *argv[WORDS_MAX + 1] = {NULL};
    int argc = 0;
    for (; words[argc] != NULL; argc++) {
        assert_true(argc < WORDS_MAX);
        (void)snprintf(copies[argc], sizeof(copies[argc]), "%s", words[argc]);
        argv[argc] = copies[argc];
    }
    FILE *file = tmpfile();
    assert_non_null(file);
    (void)fflush(NULL);
    int kept = dup(caught);
    assert_true(kept >= 0 && dup2(fileno(file), caught) == caught);
    char *environment[] = {NULL};
    outcome->exit_code = cli_main(argc, argv, environment);
    (void)fflush(NULL);
    assert_true(dup2(kept, caught) == caught);
    close(kept);
    rewind(file);
    size_t size = fread(outcome->said, 1, sizeof(outcome->said) - 1, file);
    outcome->said[size] = '\0';
    (void)fclose(file);
}

#define RUN(caught, ...) run(&outcome, caught, (const char *const[]){"sentinel", __VA_ARGS__, NULL})

#define ASSERT_SAID(part) assert_non_null(strstr(outcome.said, part))

static void help_and_version_go_to_standard_output(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    RUN(STDOUT_FILENO, "--help");
    assert_int_equal(outcome.exit_code, 0);
    ASSERT_SAID("Usage: sentinel COMMAND");
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++) {
        ASSERT_SAID(command->name);
    }
    RUN(STDOUT_FILENO, "-V");
    assert_int_equal(outcome.exit_code, 0);
    assert_string_equal(outcome.said, "sentinel " SENTINEL_VERSION "\n");
}

static void every_command_has_help_that_names_it(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++) {
        RUN(STDOUT_FILENO, command->name, "--help");
        assert_int_equal(outcome.exit_code, 0);
        ASSERT_SAID("Usage: sentinel ");
        ASSERT_SAID(command->name);
        bool takes_config = (command->takes & CLI_TAKES(CLI_CONFIG)) != 0;
        assert_true(takes_config == (strstr(outcome.said, "--config") != NULL &&
                                     strstr(outcome.said, "OPTIONS") != NULL));
        bool takes_pid_file = (command->takes & CLI_TAKES(CLI_PID_FILE)) != 0;
        assert_true(takes_pid_file == (strstr(outcome.said, "--pid-file PATH") != NULL));
    }
}

static void wrong_usage_exits_with_2_and_a_suggestion(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    RUN(STDERR_FILENO, "chekc");
    assert_int_equal(outcome.exit_code, 2);
    ASSERT_SAID("unknown command 'chekc'; did you mean 'check'?");
    RUN(STDERR_FILENO, "--versoin");
    assert_int_equal(outcome.exit_code, 2);
    ASSERT_SAID("did you mean '--version'?");
    RUN(STDERR_FILENO, "check", "--confg", "x");
    assert_int_equal(outcome.exit_code, 2);
    ASSERT_SAID("unknown option '--confg'; did you mean '--config'?");
    RUN(STDERR_FILENO, "check", "x.kdl");
    assert_int_equal(outcome.exit_code, 2);
    ASSERT_SAID("unexpected argument 'x.kdl'");
    RUN(STDERR_FILENO, "check", "--config");
    assert_int_equal(outcome.exit_code, 2);
    RUN(STDERR_FILENO, "check", "--config=");
    assert_int_equal(outcome.exit_code, 2);
    RUN(STDERR_FILENO, "check", "-c", "a", "-c", "b");
    assert_int_equal(outcome.exit_code, 2);
}

static void options_of_another_command_are_refused(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    RUN(STDERR_FILENO, "config-schema", "--config=x");
    assert_int_equal(outcome.exit_code, 2);
    RUN(STDERR_FILENO, "check", "--pid-file=x");
    assert_int_equal(outcome.exit_code, 2);
    RUN(STDERR_FILENO, "run", "--sandbox");
    assert_int_equal(outcome.exit_code, 2);
    RUN(STDERR_FILENO, "check", "--sandbx");
    assert_int_equal(outcome.exit_code, 2);
    ASSERT_SAID("did you mean '--sandbox'?");
    RUN(STDERR_FILENO, "run", "--pid-file");
    assert_int_equal(outcome.exit_code, 2);
    RUN(STDERR_FILENO, "run", "");
    assert_int_equal(outcome.exit_code, 2);
}

static void no_command_shows_the_help_and_exits_with_2(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    run(&outcome, STDERR_FILENO, (const char *const[]){"sentinel", NULL});
    assert_int_equal(outcome.exit_code, 2);
    ASSERT_SAID("COMMANDS");
}

static void check_says_ok_or_what_is_wrong(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    RUN(STDOUT_FILENO, "check");
    assert_int_equal(outcome.exit_code, 0);
    ASSERT_SAID("0.0.0.0:8080");
    ASSERT_SAID("\nok\n");
    RUN(STDERR_FILENO, "check", "--config=/nonexistent.kdl");
    assert_int_equal(outcome.exit_code, 1);
    ASSERT_SAID("/nonexistent.kdl");
}

static void the_tables_are_printed(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    RUN(STDOUT_FILENO, "config-example");
    assert_int_equal(outcome.exit_code, 0);
    ASSERT_SAID("server");
    RUN(STDOUT_FILENO, "config-schema");
    assert_int_equal(outcome.exit_code, 0);
    assert_true(outcome.said[0] == '{' || outcome.said[0] == '[');
    RUN(STDOUT_FILENO, "config-reference");
    assert_int_equal(outcome.exit_code, 0);
    assert_true(outcome.said[0] == '#');
    RUN(STDOUT_FILENO, "error-reference");
    assert_int_equal(outcome.exit_code, 0);
    assert_true(outcome.said[0] == '#');
}

static void output_that_cannot_be_written_is_a_failure(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int kept = dup(STDOUT_FILENO);
    (void)fflush(NULL);
    assert_true(full >= 0 && kept >= 0 && dup2(full, STDOUT_FILENO) == STDOUT_FILENO);
    char *argv[] = {(char[]){"sentinel"}, (char[]){"config-schema"}, NULL};
    char *environment[] = {NULL};
    int exit_code = cli_main(2, argv, environment);
    clearerr(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) == STDOUT_FILENO);
    close(kept);
    close(full);
    assert_int_equal(exit_code, 1);
}

static void a_child_s_title_without_its_descriptors_is_refused(void **state)
{
    (void)state;
    static struct outcome outcome; /* too large for a frame */
    run(&outcome, STDERR_FILENO, (const char *const[]){"sentinel: worker 0", NULL});
    assert_int_equal(outcome.exit_code, 1);
    ASSERT_SAID("started by `sentinel run` only");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version_go_to_standard_output),
        cmocka_unit_test(every_command_has_help_that_names_it),
        cmocka_unit_test(wrong_usage_exits_with_2_and_a_suggestion),
        cmocka_unit_test(options_of_another_command_are_refused),
        cmocka_unit_test(no_command_shows_the_help_and_exits_with_2),
        cmocka_unit_test(check_says_ok_or_what_is_wrong),
        cmocka_unit_test(the_tables_are_printed),
        cmocka_unit_test(output_that_cannot_be_written_is_a_failure),
        cmocka_unit_test(a_child_s_title_without_its_descriptors_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
