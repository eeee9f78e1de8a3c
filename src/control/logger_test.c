#include "control/logger.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/control_fixture.h"
#include "observe/access_log.h"
#include "observe/ring.h"

enum { WORKERS = 2, LOOKS_MAX = 1000 };

struct fixture {
    char folder[32];
    char path[64];
    char rotated[64];
    struct fixture_generation compiled;
    void *cursors;
    void *rings[WORKERS];
    struct ring_writer writers[WORKERS];
    struct logger *logger;
};

static void open_ring(struct fixture *fixture, uint32_t worker, uint64_t incarnation)
{
    fixture->rings[worker] = fixture_region(ring_size(RING_CAPACITY_DEFAULT));
    ring_writer_init(&fixture->writers[worker], fixture->rings[worker], RING_CAPACITY_DEFAULT,
                     incarnation);
    ring_writer_attach(&fixture->writers[worker], logger_cursor(fixture->cursors, worker));
}

/* As the supervisor does: see supervisor/log_file.h. */
static int open_output(const char *output)
{
    int fd = strcmp(output, "stdout") == 0
                 ? dup(STDOUT_FILENO)
                 : open(output, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0640);
    assert_true(fd >= 0);
    return fd;
}

static void begin(struct fixture *fixture, const char *output)
{
    char text[256];
    int size =
        snprintf(text, sizeof(text),
                 "server {\n  workers 2\n}\nobservability {\n  access-log \"%s\"\n}\n", output);
    assert_true(size > 0 && (size_t)size < sizeof(text));
    fixture_compile(&fixture->compiled, text);
    fixture->cursors = fixture_region(logger_cursors_size(&fixture->compiled.generation));
    for (uint32_t i = 0; i < WORKERS; i++) {
        open_ring(fixture, i, i + 1);
    }
    fixture->logger =
        logger_create(&fixture->compiled.generation, fixture->cursors, open_output(output));
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    struct sigaction ignore = {.sa_handler = SIG_IGN}; /* as the processes do */
    assert_int_equal(sigaction(SIGPIPE, &ignore, NULL), 0);
    assert_int_equal(sigaction(SIGXFSZ, &ignore, NULL), 0);
    memcpy(fixture->folder, "/tmp/logger_test_XXXXXX", 24);
    assert_non_null(mkdtemp(fixture->folder));
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/access.log", fixture->folder);
    (void)snprintf(fixture->rotated, sizeof(fixture->rotated), "%s/access.log.1", fixture->folder);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    logger_destroy(fixture->logger);
    for (uint32_t i = 0; i < WORKERS; i++) {
        free(fixture->rings[i]);
    }
    free(fixture->cursors);
    fixture_free(&fixture->compiled);
    (void)unlink(fixture->path);
    (void)unlink(fixture->rotated);
    assert_int_equal(rmdir(fixture->folder), 0);
    free(fixture);
    return 0;
}

static void adopt_rings(struct fixture *fixture)
{
    assert_non_null(fixture->logger);
    for (uint32_t i = 0; i < WORKERS; i++) {
        logger_set_ring(fixture->logger, i, fixture->rings[i]);
    }
}

static void look(struct fixture *fixture)
{
    int sleep_ms = logger_turn(fixture->logger);
    assert_true(sleep_ms >= 0 && sleep_ms <= LOGGER_SLEEP_MAX_MS);
}

static void expect_file(const char *path, const char *expected)
{
    static char text[8192];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = '\0';
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, expected);
}

static void put(struct fixture *fixture, uint32_t worker, const char *line)
{
    assert_true(ring_write(&fixture->writers[worker], span_of_string(line)));
}

static void records_of_all_workers_reach_the_file(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    put(fixture, 0, "a\n");
    put(fixture, 0, "b\n");
    assert_int_equal(logger_turn(fixture->logger), LOGGER_SLEEP_MIN_MS);
    put(fixture, 1, "c\n");
    assert_int_equal(logger_turn(fixture->logger), LOGGER_SLEEP_MIN_MS);
    expect_file(fixture->path, "a\nb\nc\n");
}

static void an_idle_logger_sleeps_longer_and_wakes_up_when_busy(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    int expected[] = {20, 40, 80, 100, 100};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(logger_turn(fixture->logger), expected[i]);
    }
    put(fixture, 0, "x\n");
    assert_int_equal(logger_turn(fixture->logger), LOGGER_SLEEP_MIN_MS);
}

static void what_a_dead_worker_left_is_written_before_its_heir_is_read(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    put(fixture, 0, "last words\n");
    void *dead = fixture->rings[0];
    open_ring(fixture, 0, 9);
    put(fixture, 0, "first words\n");
    logger_set_ring(fixture->logger, 0, fixture->rings[0]);
    free(dead);
    assert_true(logger_flush(fixture->logger, 1000));
    expect_file(fixture->path, "last words\nfirst words\n");
    assert_int_equal(logger_lost(fixture->logger), 0);
}

static void a_rotated_file_is_let_go_for_the_new_output(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    put(fixture, 0, "old\n");
    look(fixture);
    assert_int_equal(rename(fixture->path, fixture->rotated), 0);
    put(fixture, 0, "still old\n");
    look(fixture);
    logger_set_output(fixture->logger, open_output(fixture->path));
    put(fixture, 0, "new\n");
    look(fixture);
    expect_file(fixture->rotated, "old\nstill old\n");
    expect_file(fixture->path, "new\n");
}

/* Lines of 100 bytes, numbered from `first` on, until the ring is full or so many are in. */
static unsigned put_lines(struct fixture *fixture, uint32_t worker, unsigned first, unsigned count)
{
    char line[128];
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(line, sizeof(line), "%-98u.", first + i);
        line[99] = '\n';
        if (!ring_write(&fixture->writers[worker], span_of(line, 100))) {
            return i;
        }
    }
    return count;
}

/* Looks until the file has so many bytes: a broken output is tried again after a while only. */
static void look_until(struct fixture *fixture, const char *path, off_t size)
{
    struct stat status = {0};
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        look(fixture);
        assert_int_equal(stat(path, &status), 0);
        if (status.st_size >= size) {
            break;
        }
        (void)poll(NULL, 0, 10);
    }
    assert_int_equal(status.st_size, size);
}

/* The file has these lines of put_lines, each whole and once, in their order. */
static void expect_lines(const char *path, unsigned first, unsigned count)
{
    char line[256];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (unsigned i = 0; i < count; i++) {
        assert_non_null(fgets(line, sizeof(line), file));
        assert_int_equal(strlen(line), 100);
        assert_int_equal(line[99], '\n');
        assert_int_equal(strtoul(line, NULL, 10), first + i);
    }
    assert_null(fgets(line, sizeof(line), file));
    assert_int_equal(fclose(file), 0);
}

/* Files end at this size from now on, as if the disk were full; the default is put back by 0. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Standard error goes to the file until restore_stderr. */
static int replace_stderr(const char *path)
{
    int saved = dup(STDERR_FILENO);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    assert_true(saved >= 0 && fd >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    (void)close(fd);
    return saved;
}

static void restore_stderr(int saved)
{
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
}

static unsigned count_in(const char *path, const char *what)
{
    static char text[8192];
    unsigned count = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    assert_int_equal(fclose(file), 0);
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        count++;
    }
    return count;
}

static void a_broken_output_keeps_what_the_rings_hold_and_is_told_once(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, "/dev/full");
    adopt_rings(fixture);
    int saved = replace_stderr(fixture->rotated);
    unsigned held = put_lines(fixture, 0, 0, UINT_MAX);
    assert_true(held > RING_CAPACITY_DEFAULT / 128);
    for (unsigned i = 0; i < 60; i++) { /* over several retries */
        look(fixture);
        assert_int_equal(put_lines(fixture, 0, 0, 1), 0);
        (void)poll(NULL, 0, 10);
    }
    assert_false(logger_flush(fixture->logger, 0));
    assert_int_equal(put_lines(fixture, 1, 0, 10), 10); /* another worker's are not in its way */
    assert_int_equal(count_in(fixture->rotated, "cannot write: No space left on device"), 1);
    assert_int_equal(count_in(fixture->rotated, "records lost, "), 1);
    logger_set_output(fixture->logger, open_output(fixture->path));
    look_until(fixture, fixture->path, 100 * (off_t)(held + 10));
    restore_stderr(saved);
    assert_int_equal(count_in(fixture->rotated, "records lost so far: 61"), 1);
    assert_int_equal(logger_lost(fixture->logger), 0);
}

/* Of twenty lines the disk has taken ten and a half, and is full. */
static void begin_within_a_line(struct fixture *fixture)
{
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    limit_files(1050);
    put_lines(fixture, 0, 0, 20);
    look_until(fixture, fixture->path, 1050);
}

static void a_full_disk_tears_no_line(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin_within_a_line(fixture);
    look(fixture);
    limit_files(0);
    look_until(fixture, fixture->path, 2000);
    expect_lines(fixture->path, 0, 20);
    assert_int_equal(logger_lost(fixture->logger), 0);
}

static void a_line_begun_in_a_file_that_was_moved_away_is_whole_in_the_next(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin_within_a_line(fixture);
    assert_int_equal(rename(fixture->path, fixture->rotated), 0);
    logger_set_output(fixture->logger, open_output(fixture->path));
    limit_files(0);
    look_until(fixture, fixture->path, 1000);
    expect_lines(fixture->path, 10, 10);
    assert_int_equal(logger_lost(fixture->logger), 0);
}

static void a_line_begun_goes_on_when_the_same_file_is_opened_again(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin_within_a_line(fixture);
    logger_set_output(fixture->logger, open_output(fixture->path));
    limit_files(0);
    look_until(fixture, fixture->path, 2000);
    expect_lines(fixture->path, 0, 20);
}

static void the_line_that_a_dead_worker_had_begun_is_ended(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin_within_a_line(fixture);
    logger_set_ring(fixture->logger, 0, NULL); /* ten lines were begun or lost with it */
    assert_int_equal(logger_lost(fixture->logger), 9);
    put_lines(fixture, 1, 11, 5);
    limit_files(0);
    look_until(fixture, fixture->path, 1600);
    expect_lines(fixture->path, 0, 16);
}

static void a_fifo_whose_reader_goes_and_comes_back_gets_whole_lines(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    int reader = open(fixture->path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    (void)close(reader);
    put_lines(fixture, 0, 0, 3);
    look(fixture);
    reader = open(fixture->path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    char text[512];
    ssize_t size = -1;
    for (unsigned i = 0; i < LOOKS_MAX && size <= 0; i++) {
        look(fixture);
        (void)poll(NULL, 0, 10);
        size = read(reader, text, sizeof(text));
    }
    (void)close(reader);
    assert_int_equal(size, 300);
    assert_int_equal(text[299], '\n');
    assert_int_equal(logger_lost(fixture->logger), 0);
}

static void a_corrupt_ring_is_skipped_and_the_next_record_is_read(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    put(fixture, 0, "garbled\n");
    memset((uint8_t *)fixture->rings[0] + 128, 0xff, 8); /* the header of the first record */
    put(fixture, 1, "fine\n");
    look(fixture);
    put(fixture, 0, "fine again\n");
    look(fixture);
    expect_file(fixture->path, "fine\nfine again\n");
    assert_int_equal(logger_lost(fixture->logger), 1);
}

/* As many as the ring holds, which is about as many as a batch. */
static void lines_that_no_worker_writes_are_left_out_and_counted(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static char large[ACCESS_LINE_MAX + 2];
    unsigned count = RING_CAPACITY_DEFAULT / (ACCESS_LINE_MAX + 64) - 1;
    memset(large, 'x', sizeof(large) - 1);
    begin(fixture, fixture->path);
    adopt_rings(fixture);
    for (unsigned i = 0; i < count; i++) {
        put(fixture, 0, large);
    }
    put(fixture, 0, "fine\n");
    look(fixture);
    look(fixture);
    expect_file(fixture->path, "fine\n");
    assert_int_equal(logger_lost(fixture->logger), count);
}

/* Runs the test with standard output as the given end of a pipe; returns the reading end. */
static int replace_stdout(int *saved)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)fflush(stdout);
    *saved = dup(STDOUT_FILENO);
    assert_true(*saved >= 0);
    assert_int_equal(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    (void)close(ends[1]);
    return ends[0];
}

static void restore_stdout(int saved)
{
    (void)dup2(saved, STDOUT_FILENO);
    (void)close(saved);
}

static void a_reader_of_stdout_that_pauses_loses_nothing_that_the_ring_can_hold(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    int saved = -1;
    int reader = replace_stdout(&saved);
    begin(fixture, "stdout");
    adopt_rings(fixture);
    size_t expected = 0;
    for (unsigned i = 0; i < 9000; i++) { /* several times what a pipe holds */
        put(fixture, i % WORKERS, "0123456789 0123456789\n");
        expected += 22;
    }
    assert_int_equal(logger_turn(fixture->logger), 0); /* returns although nobody reads */
    size_t got = 0;
    size_t lines = 0;
    for (unsigned round = 0; round < LOOKS_MAX && got < expected; round++) {
        static char bytes[65536];
        struct pollfd polled = {.fd = reader, .events = POLLIN};
        while (poll(&polled, 1, 0) == 1) {
            ssize_t size = read(reader, bytes, sizeof(bytes));
            assert_true(size > 0);
            for (ssize_t i = 0; i < size; i++) {
                lines += bytes[i] == '\n';
                assert_true((got + (size_t)i) % 22 != 21 || bytes[i] == '\n');
            }
            got += (size_t)size;
        }
        look(fixture);
    }
    restore_stdout(saved);
    (void)close(reader);
    assert_int_equal(got, expected);
    assert_int_equal(lines, 9000);
    assert_int_equal(logger_lost(fixture->logger), 0);
}

static void a_reader_of_stdout_that_is_gone_is_an_error_not_an_end(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    int saved = -1;
    int reader = replace_stdout(&saved);
    begin(fixture, "stdout");
    adopt_rings(fixture);
    (void)close(reader);
    put(fixture, 0, "x\n");
    look(fixture);
    restore_stdout(saved);
    assert_false(logger_flush(fixture->logger, 0)); /* it waits in its ring, for nobody */
    assert_int_equal(logger_lost(fixture->logger), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_of_all_workers_reach_the_file),
        TEST(an_idle_logger_sleeps_longer_and_wakes_up_when_busy),
        TEST(what_a_dead_worker_left_is_written_before_its_heir_is_read),
        TEST(a_rotated_file_is_let_go_for_the_new_output),
        TEST(a_broken_output_keeps_what_the_rings_hold_and_is_told_once),
        TEST(a_full_disk_tears_no_line),
        TEST(a_line_begun_in_a_file_that_was_moved_away_is_whole_in_the_next),
        TEST(a_line_begun_goes_on_when_the_same_file_is_opened_again),
        TEST(the_line_that_a_dead_worker_had_begun_is_ended),
        TEST(a_fifo_whose_reader_goes_and_comes_back_gets_whole_lines),
        TEST(a_corrupt_ring_is_skipped_and_the_next_record_is_read),
        TEST(lines_that_no_worker_writes_are_left_out_and_counted),
        TEST(a_reader_of_stdout_that_pauses_loses_nothing_that_the_ring_can_hold),
        TEST(a_reader_of_stdout_that_is_gone_is_an_error_not_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
