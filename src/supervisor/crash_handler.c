#include "supervisor/crash_handler.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum {
    STACK_SIZE = 64 * 1024,
    PAGE_ROOM = 64 * 1024, /* in front of the stack, its guard; at least a page of any machine */
    NULL_SIZE = 64 * 1024, /* addresses that a null pointer with an offset comes to */
    NEAR_STACK = 256 * 1024,
};

/* At the begin of the memory in front of the handler's stack, read-only. */
struct beside {
    struct flight_header *header;
};

static uintptr_t stack_pointer(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.sp;
#else
    (void)context;
    return 0;
#endif
}

static enum flight_fault kind_of(const siginfo_t *info, const ucontext_t *context)
{
    bool has_address = info->si_signo == SIGSEGV || info->si_signo == SIGBUS;
    if (info->si_code <= 0 || !has_address) {
        return FLIGHT_FAULT_NONE; /* sent by somebody, or not about memory */
    }
    uintptr_t address = (uintptr_t)info->si_addr;
    uintptr_t stack = stack_pointer(context);
    uintptr_t distance = address > stack ? address - stack : stack - address;
    if (address < NULL_SIZE) {
        return FLIGHT_FAULT_NULL;
    }
    return distance < NEAR_STACK ? FLIGHT_FAULT_STACK : FLIGHT_FAULT_ELSEWHERE;
}

static void on_signal(int signal, siginfo_t *info, void *opaque)
{
    const ucontext_t *context = opaque;
    const void *memory = (const char *)context->uc_stack.ss_sp - PAGE_ROOM;
    const struct beside *beside = memory;
    uint64_t word = (uint64_t)signal | (uint64_t)kind_of(info, context) << 8;
    atomic_store_explicit(&beside->header->signal, word, memory_order_relaxed);
    /*
     * The default action is back (SA_RESETHAND). What the processor complained about it will
     * complain about again; what was sent is sent again, and waits for our return.
     */
    bool repeats = info->si_code > 0 && signal != SIGSYS && signal != SIGABRT;
    if (!repeats) {
        (void)raise(signal);
    }
}

static enum status install_stack(struct flight_header *header)
{
    char *memory = mmap(NULL, PAGE_ROOM + STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return ERROR;
    }
    struct beside *beside = (struct beside *)(void *)memory;
    beside->header = header;
    const stack_t stack = {.ss_sp = memory + PAGE_ROOM, .ss_size = STACK_SIZE};
    if (mprotect(memory, PAGE_ROOM, PROT_READ) != 0 || sigaltstack(&stack, NULL) != 0) {
        int error = errno;
        (void)munmap(memory, PAGE_ROOM + STACK_SIZE);
        errno = error;
        return ERROR;
    }
    return OK;
}

enum status crash_handler_install(struct flight_header *header)
{
    static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS};
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    (void)sigfillset(&action.sa_mask);
    if (install_stack(header) != OK) {
        return ERROR;
    }
    for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); i++) {
        struct sigaction before;
        if (sigaction(SIGNALS[i], NULL, &before) != 0) {
            return ERROR;
        }
        bool is_free = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL;
        if (is_free && sigaction(SIGNALS[i], &action, NULL) != 0) {
            return ERROR;
        }
    }
    return OK;
}
