#include "supervisor/ticket_memory.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/sealed_memory.h"

#define START UINT64_C(1000000)

static void a_worker_reads_the_keys_that_the_supervisor_draws(void **state)
{
    (void)state;
    struct ticket_memory memory = {.fd = -1};
    struct ticket_key first;
    struct ticket_key second;
    struct ticket_key found;
    assert_int_equal(ticket_memory_create(&memory), OK);
    const struct ticket_keys *keys = ticket_memory_map(memory.fd);
    assert_non_null(keys);
    assert_false(ticket_keys_current(keys, START, &first));
    assert_int_equal(ticket_memory_rotate(&memory, START), OK);
    assert_true(ticket_keys_current(keys, START, &first));
    assert_int_equal(ticket_memory_rotate(&memory, START + TICKET_KEYS_PERIOD), OK);
    assert_true(ticket_keys_current(keys, START + TICKET_KEYS_PERIOD, &second));
    assert_memory_not_equal(first.id, second.id, sizeof(first.id));
    assert_memory_not_equal(first.secret, second.secret, sizeof(first.secret));
    assert_true(ticket_keys_find(keys, first.id, START + TICKET_KEYS_PERIOD, &found));
    assert_memory_equal(&found, &first, sizeof(found));
    ticket_memory_unmap(keys);
    ticket_memory_destroy(&memory);
    ticket_memory_destroy(&memory);
}

static void nobody_else_can_write_the_keys(void **state)
{
    (void)state;
    struct ticket_memory memory = {.fd = -1};
    assert_int_equal(ticket_memory_create(&memory), OK);
    size_t size = ticket_keys_size();
    assert_ptr_equal(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0),
                     MAP_FAILED);
    void *mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, memory.fd, 0);
    assert_ptr_not_equal(mapped, MAP_FAILED);
    assert_int_equal(mprotect(mapped, size, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(munmap(mapped, size), 0);
    assert_int_equal(write(memory.fd, "x", 1), -1);
    assert_int_equal(ftruncate(memory.fd, 0), -1);
    assert_int_equal(ticket_memory_rotate(&memory, START), OK); /* but its owner can */
    ticket_memory_destroy(&memory);
}

static void memory_that_somebody_could_change_or_of_another_size_is_refused(void **state)
{
    (void)state;
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)ticket_keys_size()), 0);
    assert_null(ticket_memory_map(fd));
    assert_int_equal(close(fd), 0);
    fd = sealed_memory_create("test");
    assert_int_equal(sealed_memory_write(fd, SPAN("too short")), OK);
    assert_null(ticket_memory_map(fd));
    assert_int_equal(close(fd), 0);
    assert_null(ticket_memory_map(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_reads_the_keys_that_the_supervisor_draws),
        cmocka_unit_test(nobody_else_can_write_the_keys),
        cmocka_unit_test(memory_that_somebody_could_change_or_of_another_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
