#include "observe/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 8192 };

static void what_one_writes_another_reads(void **state)
{
    (void)state;
    int fd = shared_memory_create("test", SIZE, 0);
    assert_true(fd >= 0);
    uint8_t *writer = shared_memory_map(fd, SIZE, PROT_READ | PROT_WRITE);
    const uint8_t *reader = shared_memory_map(fd, SIZE, PROT_READ);
    assert_non_null(writer);
    assert_non_null(reader);
    assert_int_equal(reader[SIZE - 1], 0);
    writer[SIZE - 1] = 7;
    assert_int_equal(reader[SIZE - 1], 7);
    assert_int_equal(munmap(writer, SIZE), 0);
    assert_int_equal(munmap((void *)(uintptr_t)reader, SIZE), 0);
    assert_int_equal(close(fd), 0);
}

static void its_size_never_changes(void **state)
{
    (void)state;
    int fd = shared_memory_create("test", SIZE, 0);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 2 * SIZE), -1);
    assert_int_equal(close(fd), 0);
}

static void what_has_another_size_or_could_get_one_is_not_mapped(void **state)
{
    (void)state;
    int fd = shared_memory_create("test", SIZE, 0);
    assert_true(fd >= 0);
    static const size_t sizes[] = {0, 1, SIZE - 1, SIZE + 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        errno = 0;
        assert_null(shared_memory_map(fd, sizes[i], PROT_READ));
        assert_int_equal(errno, EINVAL);
    }
    int loose = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(loose >= 0);
    assert_int_equal(ftruncate(loose, SIZE), 0);
    assert_null(shared_memory_map(loose, SIZE, PROT_READ));
    assert_int_equal(fcntl(loose, F_ADD_SEALS, F_SEAL_GROW), 0);
    assert_null(shared_memory_map(loose, SIZE, PROT_READ));
    assert_int_equal(close(loose), 0);
    assert_int_equal(close(fd), 0);
}

static void once_it_is_closed_to_writers_only_those_before_write(void **state)
{
    (void)state;
    int fd = shared_memory_create("test", SIZE, 0);
    assert_true(fd >= 0);
    uint8_t *writer = shared_memory_map(fd, SIZE, PROT_READ | PROT_WRITE);
    assert_non_null(writer);
    assert_int_equal(shared_memory_close_to_writers(fd), OK);
    assert_null(shared_memory_map(fd, SIZE, PROT_READ | PROT_WRITE));
    const uint8_t *reader = shared_memory_map(fd, SIZE, PROT_READ);
    assert_non_null(reader);
    writer[0] = 1;
    assert_int_equal(reader[0], 1);
    assert_int_equal(munmap(writer, SIZE), 0);
    assert_int_equal(munmap((void *)(uintptr_t)reader, SIZE), 0);
    assert_int_equal(close(fd), 0);
}

static void seals_can_be_final_from_the_begin(void **state)
{
    (void)state;
    int fd = shared_memory_create("test", SIZE, F_SEAL_SEAL);
    assert_true(fd >= 0);
    assert_int_equal(shared_memory_close_to_writers(fd), ERROR);
    void *writer = shared_memory_map(fd, SIZE, PROT_READ | PROT_WRITE);
    assert_non_null(writer);
    assert_int_equal(munmap(writer, SIZE), 0);
    assert_int_equal(close(fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_writes_another_reads),
        cmocka_unit_test(its_size_never_changes),
        cmocka_unit_test(what_has_another_size_or_could_get_one_is_not_mapped),
        cmocka_unit_test(once_it_is_closed_to_writers_only_those_before_write),
        cmocka_unit_test(seals_can_be_final_from_the_begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
