#include "fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/slab.h"
#include "http/http2_memory.h"

enum {
    RUN_SECONDS_MAX = 60,    /* of real time: more is a hang */
    SWEEP_SECONDS_MAX = 900, /* of a whole sweep */
    FAILURES_SHOWN = 5,      /* of one sweep */
    JOBS_MAX = 64,
    TEXT_MAX = 2048, /* of one arena_printf: in src/proxy they are short */
};

enum watch { WATCH_NOTHING, WATCH_COUNT, WATCH_SWEEP, WATCH_REPLAY };

struct job {
    pid_t child; /* 0: free */
    uint64_t point;
    const char *call;
};

/* Written by the children of a sweep, read by its parent. */
struct shared {
    uint64_t points;
    struct fault_tally tally;
};

/* One process, one run. */
static struct {
    enum watch watch;
    enum fault_stage stage;
    bool struck;
    const char *call; /* that was struck; NULL: none */
    uint64_t point;   /* reached so far */
    uint64_t target;
    uint64_t stride;
    const struct fault_sweep *sweep;
    struct shared *shared;
    uint32_t running;
    struct job jobs[JOBS_MAX];
} state;

void fault_begin(enum fault_stage stage)
{
    state.stage = stage;
}

void fault_end(void)
{
    state.stage = FAULTS_NONE;
}

bool fault_is_at_work(void)
{
    return state.stage == FAULTS_AT_WORK;
}

bool fault_is_watching(void)
{
    return state.watch != WATCH_NOTHING;
}

bool fault_has_struck(void)
{
    return state.struck;
}

const char *fault_call(void)
{
    return state.call;
}

bool fault_lasts(void)
{
    static const uint64_t SPREAD = UINT64_C(0x9e3779b97f4a7c15); /* any stride meets both kinds */
    return state.struck && (state.point * SPREAD) >> 63 != 0;
}

void fault_replay(uint64_t point)
{
    state.watch = WATCH_REPLAY;
    state.target = point;
}

_Noreturn void fault_refused_start(void)
{
    if (!state.struck) {
        run_failed("a process does not start");
    }
    exit(0); /* not _exit: the leak check runs there */
}

static void judge(const struct job *job, int result)
{
    struct fault_tally *tally = &state.shared->tally;
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) {
        tally->passed++;
        return;
    }
    tally->failed++;
    if (tally->failed > FAILURES_SHOWN) {
        return;
    }
    const struct fault_sweep *sweep = state.sweep;
    (void)printf("FAILED seed %llu of %s with fault %llu (%s): %s %d\n"
                 "  replay: %s --scenario %s --first %llu --seeds 1 --fault %llu --trace\n",
                 (unsigned long long)sweep->seed, scenario_name(sweep->scenario),
                 (unsigned long long)job->point, job->call,
                 WIFSIGNALED(result) ? "killed by signal" : "exit status",
                 WIFSIGNALED(result) ? WTERMSIG(result) : WEXITSTATUS(result), sweep->program,
                 scenario_name(sweep->scenario), (unsigned long long)sweep->seed,
                 (unsigned long long)job->point);
    (void)fflush(stdout);
}

static void reap(void)
{
    int result = 0;
    pid_t child = waitpid(-1, &result, 0);
    ASSERT(child > 0);
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        if (state.jobs[i].child == child) {
            judge(&state.jobs[i], result);
            state.jobs[i].child = 0;
            state.running--;
        }
    }
}

/* True in the child, which goes on with the fault. */
static bool branch(const char *call)
{
    while (state.running >= state.sweep->jobs) {
        reap();
    }
    uint32_t free_job = 0;
    while (state.jobs[free_job].child != 0) {
        free_job++;
    }
    pid_t child = fork();
    ASSERT(child >= 0);
    if (child == 0) {
        state.struck = true;
        state.call = call;
        (void)alarm(RUN_SECONDS_MAX);
        return true;
    }
    state.jobs[free_job] = (struct job){child, state.point, call};
    state.running++;
    return false;
}

/* The sanitizers' own; NULL in a build without them. */
void __sanitizer_print_stack_trace(void) __attribute__((weak));

bool fault_strikes(const char *call)
{
    if (state.stage == FAULTS_NONE || state.watch == WATCH_NOTHING || state.struck) {
        return false;
    }
    state.point++;
    switch (state.watch) {
    case WATCH_REPLAY:
        state.struck = state.point == state.target;
        state.call = state.struck ? call : NULL;
        if (state.struck && __sanitizer_print_stack_trace != NULL) {
            __sanitizer_print_stack_trace(); /* who meets the fault */
        }
        return state.struck;
    case WATCH_SWEEP:
        return state.point % state.stride == 0 && branch(call);
    case WATCH_NOTHING:
    case WATCH_COUNT:
        break;
    }
    return false;
}

/* The run without any fault; returns once all of its branches have ended. */
static void run_trunk(enum watch watch)
{
    state.watch = watch;
    scenario_run(state.sweep->scenario, state.sweep->seed, NULL);
    if (state.struck) {
        exit(0); /* a branch: judged by its parent */
    }
    while (state.running > 0) {
        reap();
    }
    state.shared->points = state.point;
}

static bool run_apart(enum watch watch)
{
    (void)fflush(stdout);
    pid_t child = fork();
    ASSERT(child >= 0);
    if (child == 0) {
        (void)alarm(watch == WATCH_SWEEP ? SWEEP_SECONDS_MAX : RUN_SECONDS_MAX);
        run_trunk(watch);
        exit(0);
    }
    int result = 0;
    ASSERT(waitpid(child, &result, 0) == child);
    return WIFEXITED(result) && WEXITSTATUS(result) == 0;
}

void fault_sweep(const struct fault_sweep *sweep, struct fault_tally *tally)
{
    ASSERT(sweep->jobs > 0 && sweep->jobs <= JOBS_MAX);
    void *memory = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(memory != MAP_FAILED);
    state.shared = memory;
    *state.shared = (struct shared){0};
    state.sweep = sweep;
    bool sound = run_apart(WATCH_COUNT);
    if (sound) {
        uint64_t points = state.shared->points;
        state.stride = sweep->points == 0 || points <= sweep->points ? 1 : points / sweep->points;
        sound = run_apart(WATCH_SWEEP);
    }
    if (!sound) {
        (void)printf("FAILED seed %llu of %s: without any fault\n", (unsigned long long)sweep->seed,
                     scenario_name(sweep->scenario));
        state.shared->tally.failed++;
    }
    tally->passed += state.shared->tally.passed;
    tally->failed += state.shared->tally.failed;
    (void)munmap(memory, sizeof(struct shared));
}

/*
 * The wrapped functions. The linker turns every call of `name` from another file into
 * `__wrap_name`.
 */
#define WRAPPED(result, name, ...)                                                                 \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

static bool fails_at(enum fault_stage stage, const char *call)
{
    return state.stage == stage && fault_strikes(call);
}

static bool no_memory(const char *call)
{
    bool fails = fails_at(FAULTS_AT_START, call);
    errno = fails ? ENOMEM : errno;
    return fails;
}

WRAPPED(void *, malloc, size_t size)
{
    return no_memory("malloc") ? NULL : __real_malloc(size);
}

WRAPPED(void *, calloc, size_t count, size_t size)
{
    return no_memory("calloc") ? NULL : __real_calloc(count, size);
}

WRAPPED(void *, mmap, void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (no_memory("mmap")) {
        return MAP_FAILED;
    }
    return __real_mmap(address, size, protection, flags, fd, offset);
}

WRAPPED(void *, slab_acquire, struct slab *slab)
{
    return fails_at(FAULTS_AT_WORK, "slab_acquire") ? NULL : __real_slab_acquire(slab);
}

static bool arena_fails(struct arena *arena, const char *call)
{
    if (!fails_at(FAULTS_AT_WORK, call)) {
        return false;
    }
    arena->overflowed = true;
    return true;
}

WRAPPED(void *, arena_alloc, struct arena *arena, size_t size)
{
    return arena_fails(arena, "arena_alloc") ? NULL : __real_arena_alloc(arena, size);
}

WRAPPED(void *, arena_calloc, struct arena *arena, size_t count, size_t size)
{
    return arena_fails(arena, "arena_calloc") ? NULL : __real_arena_calloc(arena, count, size);
}

WRAPPED(struct span, arena_copy, struct arena *arena, struct span bytes)
{
    return arena_fails(arena, "arena_copy") ? SPAN_EMPTY : __real_arena_copy(arena, bytes);
}

struct span __wrap_arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

WRAPPED(struct span, arena_printf, struct arena *arena, const char *format, ...)
{
    if (arena_fails(arena, "arena_printf")) {
        return SPAN_EMPTY;
    }
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ASSERT(size >= 0 && size < TEXT_MAX);
    return __real_arena_printf(arena, "%s", text);
}

/* ---- HTTP/2's memory, and what its codec takes of it ---- */

WRAPPED(void *, http2_allocate, struct http2_account *account, size_t size)
{
    return fails_at(FAULTS_AT_WORK, "http2_allocate") ? NULL : __real_http2_allocate(account, size);
}

WRAPPED(void *, http2_resize, struct http2_account *account, void *object, size_t size)
{
    return fails_at(FAULTS_AT_WORK, "http2_resize") ? NULL
                                                    : __real_http2_resize(account, object, size);
}

nghttp2_mem __real_http2_codec_memory(struct http2_account *account);
nghttp2_mem __wrap_http2_codec_memory(struct http2_account *account);

static bool codec_fails(struct http2_account *account, const char *call)
{
    bool fails = fails_at(FAULTS_AT_WORK, call);
    account->refused = account->refused || fails; /* as the account itself would note it */
    return fails;
}

static void *codec_malloc(size_t size, void *account)
{
    return codec_fails(account, "codec malloc")
               ? NULL
               : __real_http2_codec_memory(account).malloc(size, account);
}

static void *codec_calloc(size_t count, size_t size, void *account)
{
    return codec_fails(account, "codec calloc")
               ? NULL
               : __real_http2_codec_memory(account).calloc(count, size, account);
}

static void *codec_realloc(void *object, size_t size, void *account)
{
    return codec_fails(account, "codec realloc")
               ? NULL
               : __real_http2_codec_memory(account).realloc(object, size, account);
}

nghttp2_mem __wrap_http2_codec_memory(struct http2_account *account)
{
    nghttp2_mem memory = __real_http2_codec_memory(account);
    memory.malloc = codec_malloc;
    memory.calloc = codec_calloc;
    memory.realloc = codec_realloc;
    return memory;
}
