/*
 * Crimes of children, and what they leave: the note in the segment and the wait status that they
 * would have without a handler.
 */
#include "supervisor/crash_handler.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct flight_header *map_header(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

/* The sanitizers' handlers would be left in place: a child of this test does without them. */
static void forget_handlers(void)
{
    static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS};
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); i++) {
        (void)sigaction(SIGNALS[i], &plain, NULL);
    }
}

/* Runs the crime in a child, and checks the signal that it died of and what it noted. */
static void expect(void (*crime)(void), int signal, enum flight_fault fault)
{
    struct flight_header *header = map_header();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)prctl(PR_SET_DUMPABLE, 0); /* no core file for a death on purpose */
        (void)close(STDERR_FILENO);
        forget_handlers();
        if (crash_handler_install(header) == OK) {
            crime();
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal);
    uint64_t word = atomic_load(&header->signal);
    assert_int_equal(word & 0xff, signal);
    assert_int_equal(word >> 8, fault);
    assert_int_equal(munmap(header, 4096), 0);
}

__attribute__((no_sanitize("address", "undefined"))) static void touch(uintptr_t address)
{
    *(volatile char *)address = 1; // NOLINT: the point of it
}

static void touch_null(void)
{
    volatile uintptr_t address = 24; /* not known to the compiler, who would refuse */
    touch(address);
}

static void touch_forbidden(void)
{
    void *memory = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touch((uintptr_t)memory);
}

__attribute__((noinline, no_sanitize("address", "undefined"))) static unsigned
dig(volatile unsigned depth)
{
    volatile char frame[4000];
    frame[0] = (char)depth;
    return depth == UINT32_MAX ? 0 : dig(depth + 1) + (unsigned)frame[0];
}

static void overflow_the_stack(void)
{
    const struct rlimit little = {1024 * 1024, 1024 * 1024};
    (void)setrlimit(RLIMIT_STACK, &little);
    (void)dig(1);
}

static void abort_itself(void)
{
    abort();
}

static void trap(void)
{
    __builtin_trap();
}

static void be_sent_a_fault(void)
{
    (void)kill(getpid(), SIGSEGV);
    for (;;) {
        (void)pause();
    }
}

static void be_sent_a_bad_call(void)
{
    (void)raise(SIGSYS);
}

static void a_null_pointer_is_noted(void **state)
{
    (void)state;
    expect(touch_null, SIGSEGV, FLIGHT_FAULT_NULL);
}

static void a_wild_pointer_is_noted(void **state)
{
    (void)state;
    expect(touch_forbidden, SIGSEGV, FLIGHT_FAULT_ELSEWHERE);
}

static void a_stack_that_overflows_is_noted(void **state)
{
    (void)state;
    expect(overflow_the_stack, SIGSEGV, FLIGHT_FAULT_STACK);
}

static void an_abort_and_a_trap_are_noted(void **state)
{
    (void)state;
    expect(abort_itself, SIGABRT, FLIGHT_FAULT_NONE);
    expect(trap, SIGILL, FLIGHT_FAULT_NONE);
}

static void a_signal_that_was_sent_is_noted_and_kills_all_the_same(void **state)
{
    (void)state;
    expect(be_sent_a_fault, SIGSEGV, FLIGHT_FAULT_NONE);
    expect(be_sent_a_bad_call, SIGSYS, FLIGHT_FAULT_NONE);
}

static void exit_with_7(int signal)
{
    (void)signal;
    _exit(7);
}

static void a_handler_that_is_there_already_stays(void **state)
{
    (void)state;
    struct flight_header *header = map_header();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct sigaction own = {.sa_handler = exit_with_7};
        (void)sigaction(SIGSEGV, &own, NULL);
        if (crash_handler_install(header) == OK) {
            (void)raise(SIGSEGV);
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_int_equal(atomic_load(&header->signal), 0);
    assert_int_equal(munmap(header, 4096), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_null_pointer_is_noted),
        cmocka_unit_test(a_wild_pointer_is_noted),
        cmocka_unit_test(a_stack_that_overflows_is_noted),
        cmocka_unit_test(an_abort_and_a_trap_are_noted),
        cmocka_unit_test(a_signal_that_was_sent_is_noted_and_kills_all_the_same),
        cmocka_unit_test(a_handler_that_is_there_already_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
