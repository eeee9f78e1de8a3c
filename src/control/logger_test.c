#include "control/logger.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "control/control_fixture.h"
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

static void a_broken_output_costs_records_and_stalls_nobody(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    begin(fixture, "/dev/full");
    adopt_rings(fixture);
    unsigned written = 0;
    for (unsigned i = 0; i < 200000; i++) {
        if (!ring_write(&fixture->writers[0], SPAN("a line that finds no room on the disk\n"))) {
            look(fixture);
            continue;
        }
        written++;
    }
    assert_true(logger_flush(fixture->logger, 1000));
    assert_true(written > 199000);
    assert_int_equal(logger_lost(fixture->logger), written);
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
    assert_int_equal(logger_lost(fixture->logger), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_of_all_workers_reach_the_file),
        TEST(an_idle_logger_sleeps_longer_and_wakes_up_when_busy),
        TEST(what_a_dead_worker_left_is_written_before_its_heir_is_read),
        TEST(a_rotated_file_is_let_go_for_the_new_output),
        TEST(a_broken_output_costs_records_and_stalls_nobody),
        TEST(a_corrupt_ring_is_skipped_and_the_next_record_is_read),
        TEST(a_reader_of_stdout_that_pauses_loses_nothing_that_the_ring_can_hold),
        TEST(a_reader_of_stdout_that_is_gone_is_an_error_not_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
