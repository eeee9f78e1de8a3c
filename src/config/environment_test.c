#include "config/environment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH_SIZE = 64 };

struct fixture {
    struct environment environment;
    char folder[PATH_SIZE];
    char path[PATH_SIZE + 8];
    uint8_t memory[16];
    struct file_content content;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/sentinel-test-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/file", fixture->folder);
    char *variables[] = {NULL};
    fixture->environment = environment_of_system(variables);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    (void)unlink(fixture->path);
    (void)rmdir(fixture->folder);
    free(fixture);
    return 0;
}

static void write_file(const struct fixture *fixture, const char *text, mode_t mode)
{
    FILE *file = fopen(fixture->path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(fixture->path, mode), 0);
}

static int read_at(struct fixture *fixture, const char *path)
{
    return fixture->environment.read_file(path, fixture->memory, sizeof(fixture->memory),
                                          &fixture->content);
}

static void a_file_is_read_as_a_whole_with_its_permissions(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture, "exactly 16 bytes", 0640);
    assert_int_equal(read_at(fixture, fixture->path), 0);
    assert_int_equal(fixture->content.size, 16);
    assert_memory_equal(fixture->memory, "exactly 16 bytes", 16);
    assert_int_equal(fixture->content.mode & 0777, 0640);
    write_file(fixture, "", 0600);
    assert_int_equal(read_at(fixture, fixture->path), 0);
    assert_int_equal(fixture->content.size, 0);
}

static void a_file_too_large_is_refused(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture, "one more than 16.", 0600);
    assert_int_equal(read_at(fixture, fixture->path), EFBIG);
}

static void what_is_missing_or_no_file_is_told_apart(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(read_at(fixture, fixture->path), ENOENT);
    assert_int_equal(read_at(fixture, fixture->folder), EINVAL);
    assert_int_equal(read_at(fixture, "/dev/zero"), EINVAL);
}

static void a_pipe_that_nobody_writes_to_is_not_waited_for(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    (void)alarm(30); /* ends the test where it waits */
    assert_int_equal(read_at(fixture, fixture->path), EINVAL);
    (void)alarm(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_read_as_a_whole_with_its_permissions),
        TEST(a_file_too_large_is_refused),
        TEST(what_is_missing_or_no_file_is_told_apart),
        TEST(a_pipe_that_nobody_writes_to_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
