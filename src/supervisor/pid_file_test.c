#include "supervisor/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char folder[32];
    char path[64];
    struct pid_file file;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    memcpy(fixture->folder, "/tmp/pid_file_test_XXXXXX", 26);
    assert_non_null(mkdtemp(fixture->folder));
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/pid", fixture->folder);
    fixture->file.fd = -1;
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    pid_file_close(&fixture->file);
    (void)unlink(fixture->path);
    assert_int_equal(rmdir(fixture->folder), 0);
    free(fixture);
    return 0;
}

static void put(const struct fixture *fixture, const char *text)
{
    FILE *file = fopen(fixture->path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void expect(const struct fixture *fixture, const char *text)
{
    char found[64] = "";
    FILE *file = fopen(fixture->path, "r");
    assert_non_null(file);
    size_t size = fread(found, 1, sizeof(found) - 1, file);
    found[size] = '\0';
    (void)fclose(file);
    assert_string_equal(found, text);
}

static void expect_own(const struct fixture *fixture)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%d\n", (int)getpid());
    expect(fixture, text);
}

static enum pid_file_outcome take(struct fixture *fixture, pid_t *holder)
{
    return pid_file_take(&fixture->file, fixture->path, holder);
}

static void the_file_names_the_process_and_goes_with_it(void **state)
{
    struct fixture *fixture = *state;
    pid_t holder = -1;
    assert_int_equal(take(fixture, &holder), PID_FILE_TAKEN);
    expect_own(fixture);
    pid_file_close(&fixture->file);
    assert_int_equal(access(fixture->path, F_OK), -1);
    pid_file_close(&fixture->file); /* harmless */
}

static void a_second_taker_is_told_who_holds_it(void **state)
{
    struct fixture *fixture = *state;
    pid_t holder = -1;
    struct pid_file second = {.fd = -1};
    assert_int_equal(take(fixture, &holder), PID_FILE_TAKEN);
    assert_int_equal(pid_file_take(&second, fixture->path, &holder), PID_FILE_HELD);
    assert_int_equal(holder, getpid());
    assert_int_equal(second.fd, -1);
    expect_own(fixture);
}

/* Locks the file as one can who may only read it; -1 where that is refused. */
static int lock_as_reader(const struct fixture *fixture)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(fixture->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void a_reader_can_keep_nobody_from_starting(void **state)
{
    struct fixture *fixture = *state;
    pid_t holder = -1;
    put(fixture, "1\n");
    int reader = lock_as_reader(fixture);
    assert_true(reader >= 0);
    assert_int_equal(take(fixture, &holder), PID_FILE_TAKEN);
    expect_own(fixture);
    struct stat status;
    assert_int_equal(stat(fixture->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
    assert_int_equal(lock_as_reader(fixture), -1);
    (void)close(reader);
    struct pid_file second = {.fd = -1};
    assert_int_equal(pid_file_take(&second, fixture->path, &holder), PID_FILE_HELD);
}

static void what_is_no_pid_file_stays_where_a_reader_locks_it(void **state)
{
    struct fixture *fixture = *state;
    pid_t holder = -1;
    put(fixture, "precious\n");
    int reader = lock_as_reader(fixture);
    assert_int_equal(take(fixture, &holder), PID_FILE_FOREIGN);
    expect(fixture, "precious\n");
    (void)close(reader);
}

static void what_a_dead_instance_left_is_taken_over(void **state)
{
    struct fixture *fixture = *state;
    static const char *const left[] = {"", "1\n", "99999999\n", "7"};
    pid_t holder = -1;
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        put(fixture, left[i]);
        assert_int_equal(take(fixture, &holder), PID_FILE_TAKEN);
        expect_own(fixture);
        pid_file_close(&fixture->file);
    }
}

static void what_is_no_pid_file_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    static const char *const foreign[] = {"root:x:0:0\n", "12 34\n", "-5\n",
                                          "\n",           "0\n",     "12345678901234567890\n"};
    pid_t holder = -1;
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        put(fixture, foreign[i]);
        assert_int_equal(take(fixture, &holder), PID_FILE_FOREIGN);
        expect(fixture, foreign[i]);
    }
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    assert_int_equal(take(fixture, &holder), PID_FILE_FOREIGN);
}

static void a_symbolic_link_is_not_followed(void **state)
{
    struct fixture *fixture = *state;
    pid_t holder = -1;
    assert_int_equal(symlink("elsewhere", fixture->path), 0);
    assert_int_equal(take(fixture, &holder), PID_FILE_FAILED);
    assert_int_equal(errno, ELOOP);
}

static void a_file_that_is_not_ours_any_more_stays(void **state)
{
    struct fixture *fixture = *state;
    pid_t holder = -1;
    assert_int_equal(take(fixture, &holder), PID_FILE_TAKEN);
    assert_int_equal(unlink(fixture->path), 0);
    put(fixture, "1\n"); /* an operator, or an instance that was told to */
    pid_file_close(&fixture->file);
    expect(fixture, "1\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_file_names_the_process_and_goes_with_it),
        TEST(a_second_taker_is_told_who_holds_it),
        TEST(a_reader_can_keep_nobody_from_starting),
        TEST(what_is_no_pid_file_stays_where_a_reader_locks_it),
        TEST(what_a_dead_instance_left_is_taken_over),
        TEST(what_is_no_pid_file_is_left_alone),
        TEST(a_symbolic_link_is_not_followed),
        TEST(a_file_that_is_not_ours_any_more_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
