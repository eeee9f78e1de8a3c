#include "observe/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct segment_plan plan = {
    .sizes = {[SEGMENT_METRICS] = 1000, [SEGMENT_RING] = 4096, [SEGMENT_HEALTH] = 8}};
static const struct segment_identity identity = {PROCESS_WORKER, 3, 17};

static void the_owner_writes_and_readers_see_it(void **state)
{
    (void)state;
    int fd = segment_create(&plan, &identity);
    assert_true(fd >= 0);
    struct segment owner = {0};
    struct segment reader = {0};
    assert_int_equal(segment_map_reader(&reader, fd, &plan, &identity), OK);
    assert_int_equal(segment_pid(&reader), 0);
    assert_int_equal(segment_map_owner(&owner, fd, &plan, &identity), OK);
    close(fd);
    assert_int_equal(segment_pid(&reader), getpid());
    segment_count_turn(&owner);
    segment_count_turn(&owner);
    assert_int_equal(segment_turns(&reader), 2);

    unsigned char *ring = segment_region(&owner, SEGMENT_RING);
    memset(ring, 0xab, 4096);
    const unsigned char *seen = segment_region_read(&reader, SEGMENT_RING);
    assert_int_equal(seen[4095], 0xab);
    assert_null(segment_region(&owner, SEGMENT_CURSORS));
    segment_unmap(&owner);
    assert_int_equal(seen[4095], 0xab); /* a reader's view outlives the owner's */
    segment_unmap(&reader);
    segment_unmap(&reader);
}

static void regions_are_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    int fd = segment_create(&plan, &identity);
    struct segment owner = {0};
    assert_int_equal(segment_map_owner(&owner, fd, &plan, &identity), OK);
    close(fd);
    char *end = (char *)owner.header;
    for (int i = 0; i < SEGMENT_REGION_COUNT; i++) {
        char *region = segment_region(&owner, (enum segment_region)i);
        if (region == NULL) {
            continue;
        }
        assert_int_equal((uintptr_t)region % SEGMENT_ALIGNMENT, 0);
        assert_true(region >= end);
        end = region + plan.sizes[i];
        for (char *byte = region; byte < end; byte++) {
            assert_int_equal(*byte, 0);
        }
    }
    assert_true(end <= (char *)owner.header + owner.size);
    segment_unmap(&owner);
}

static void after_the_owner_nobody_can_map_it_for_writing(void **state)
{
    (void)state;
    int fd = segment_create(&plan, &identity);
    struct segment owner = {0};
    assert_int_equal(segment_map_owner(&owner, fd, &plan, &identity), OK);
    struct segment second = {0};
    assert_int_equal(segment_map_owner(&second, fd, &plan, &identity), ERROR);
    assert_false(segment_is_mapped(&second));
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    close(fd);
    segment_unmap(&owner);
}

static void a_reader_that_writes_dies(void **state)
{
    (void)state;
    int fd = segment_create(&plan, &identity);
    struct segment reader = {0};
    assert_int_equal(segment_map_reader(&reader, fd, &plan, &identity), OK);
    close(fd);
    /* Asked of the kernel: a view made for reading cannot even be turned writable by accident. */
    const char *region = segment_region_read(&reader, SEGMENT_RING);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int pipes[2];
        if (pipe(pipes) != 0 || write(pipes[1], "x", 1) != 1) {
            _exit(2);
        }
        ssize_t got = read(pipes[0], (char *)(uintptr_t)region, 1);
        _exit(got == -1 && errno == EFAULT ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    segment_unmap(&reader);
}

static void a_segment_of_another_process_is_refused(void **state)
{
    (void)state;
    int fd = segment_create(&plan, &identity);
    struct segment segment = {0};
    struct segment_identity other = identity;
    other.incarnation++;
    assert_int_equal(segment_map_reader(&segment, fd, &plan, &other), ERROR);
    assert_int_equal(errno, EINVAL);
    other = identity;
    other.index = 2;
    assert_int_equal(segment_map_reader(&segment, fd, &plan, &other), ERROR);
    other = identity;
    other.role = PROCESS_LOGGER;
    assert_int_equal(segment_map_owner(&segment, fd, &plan, &other), ERROR);
    struct segment_plan swapped = {
        .sizes = {[SEGMENT_METRICS] = 4096, [SEGMENT_RING] = 1000, [SEGMENT_HEALTH] = 8}};
    assert_int_equal(segment_map_reader(&segment, fd, &swapped, &identity), ERROR);
    struct segment_plan larger = plan;
    larger.sizes[SEGMENT_RING] += 4096;
    assert_int_equal(segment_map_reader(&segment, fd, &larger, &identity), ERROR);
    assert_false(segment_is_mapped(&segment));
    close(fd);
}

static void a_descriptor_that_can_shrink_is_refused(void **state)
{
    (void)state;
    int good = segment_create(&plan, &identity);
    off_t size = lseek(good, 0, SEEK_END);
    assert_true(size > 0);
    char *bytes = calloc(1, (size_t)size);
    assert_non_null(bytes);
    assert_int_equal(pread(good, bytes, (size_t)size, 0), size);
    int fd = memfd_create("impostor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(pwrite(fd, bytes, (size_t)size, 0), size);
    struct segment segment = {0};
    assert_int_equal(segment_map_reader(&segment, fd, &plan, &identity), ERROR);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(segment_map_reader(&segment, fd, &plan, &identity), OK);
    segment_unmap(&segment);
    free(bytes);
    close(fd);
    close(good);
}

static void no_descriptor_of_another_kind_is_mapped(void **state)
{
    (void)state;
    struct segment segment = {0};
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(segment_map_reader(&segment, pipes[0], &plan, &identity), ERROR);
    assert_int_equal(segment_map_reader(&segment, -1, &plan, &identity), ERROR);
    close(pipes[0]);
    close(pipes[1]);
}

static void a_plan_beyond_the_bound_is_refused(void **state)
{
    (void)state;
    struct segment_plan huge = {.sizes = {[SEGMENT_RING] = SIZE_MAX}};
    assert_int_equal(segment_create(&huge, &identity), -1);
    assert_int_equal(errno, EFBIG);
    huge.sizes[SEGMENT_RING] = SEGMENT_SIZE_MAX;
    assert_int_equal(segment_create(&huge, &identity), -1);
    struct segment_plan many = {0};
    for (int i = 0; i < SEGMENT_REGION_COUNT; i++) {
        many.sizes[i] = SEGMENT_SIZE_MAX / 2;
    }
    assert_int_equal(segment_create(&many, &identity), -1);
    assert_int_equal(errno, EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_owner_writes_and_readers_see_it),
        cmocka_unit_test(regions_are_zeroed_aligned_and_apart),
        cmocka_unit_test(after_the_owner_nobody_can_map_it_for_writing),
        cmocka_unit_test(a_reader_that_writes_dies),
        cmocka_unit_test(a_segment_of_another_process_is_refused),
        cmocka_unit_test(a_descriptor_that_can_shrink_is_refused),
        cmocka_unit_test(no_descriptor_of_another_kind_is_mapped),
        cmocka_unit_test(a_plan_beyond_the_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
