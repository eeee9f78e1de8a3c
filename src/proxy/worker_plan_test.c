#include "proxy/worker_plan.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io_epoll.h"
#include "proxy/proxy.h"
#include "proxy/worker_fixture.h"

#if defined(__SANITIZE_ADDRESS__)
size_t __sanitizer_get_current_allocated_bytes(void); /* gcc brings no header for it */
#else
#include <malloc.h>
#endif

#define BUFFERING                                                                                  \
    "server { limits { hold-pool 1MiB } }\nlistener \"l\" { address \"127.0.0.1:1\" }\n"           \
    "upstream \"u\" { target \"127.0.0.1:2\" }\n"                                                  \
    "route \"r\" { upstream \"u\"; policies { buffering { response 64KiB } } }\n"

static uint64_t mapped; /* bytes that this program's own code has mapped, the allocator's not */

/* In place of the library's, so that every mapping of the worker is counted. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    long result = syscall(SYS_mmap, address, length, protection, flags, fd, offset);
    mapped += result != -1 ? length : 0;
    return (void *)result; // NOLINT(performance-no-int-to-ptr): that is what the call returns
}

/* Bytes that malloc has handed out. */
static uint64_t heap(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

static int listen_somewhere(void)
{
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&loopback, sizeof(loopback)), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static void a_worker_takes_exactly_what_its_plan_says(const char *text, uint32_t index)
{
    struct worker_plan plan;
    struct worker_fixture *fixture = malloc(sizeof(*fixture));
    assert_non_null(fixture);
    worker_fixture_init(fixture, text);
    struct io *io = io_epoll_create();
    assert_non_null(io);
    int listener = listen_somewhere();
    worker_plan_init(&plan, &fixture->compiled.generation, index);
    uint64_t mapped_before = mapped;
    uint64_t heap_before = heap();
    struct worker *worker = worker_fixture_create(fixture, io, &listener, index);
    uint64_t on_heap = heap() - heap_before;
    uint64_t in_maps = mapped - mapped_before;
    uint64_t planned_heap = 0;
    for (unsigned row = 0; row < WORKER_PLAN_ROWS; row++) {
        bool slab =
            plan.items[row].bytes == slab_bytes(plan.items[row].size, plan.items[row].count);
        planned_heap += slab ? 0 : plan.items[row].bytes;
    }
    assert_int_equal(in_maps, worker_plan_bytes(&plan) - planned_heap);
    assert_true(on_heap >= planned_heap);
    /* The allocator rounds up, to pages where pieces are large. */
    assert_true(on_heap <= planned_heap + 4 * 4096);
    worker_destroy(worker);
    io_epoll_destroy(io);
    close(listener);
    worker_fixture_deinit(fixture);
    free(fixture);
}

static void what_is_allocated_is_what_was_planned(void **state)
{
    (void)state;
    a_worker_takes_exactly_what_its_plan_says("", 0);
    a_worker_takes_exactly_what_its_plan_says(
        "server { workers 3; max-connections 1000\n limits { max-requests 100; buffer-pool 1MiB\n"
        " max-upstream-connections 7; head-size 32KiB; header-fields 500 } }\n",
        2);
    a_worker_takes_exactly_what_its_plan_says(
        "server { workers 5; max-connections 3\n limits { max-requests 5\n"
        " max-upstream-connections 5; head-size 1KiB; request-line 64B } }\n",
        4);
    a_worker_takes_exactly_what_its_plan_says(BUFFERING, 0);
}

/* Memory for bodies that are held is in the figure where a route buffers, and nowhere else. */
static void who_buffers_nothing_pays_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t blocks;
    } cases[] = {{"server { limits { hold-pool 1MiB } }", 0}, {BUFFERING, 64}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture_generation compiled;
        struct worker_plan plan;
        fixture_compile(&compiled, cases[i].text);
        worker_plan_init(&plan, &compiled.generation, 0);
        assert_int_equal(plan.items[WORKER_PLAN_HOLDS].count, cases[i].blocks);
        assert_true((plan.items[WORKER_PLAN_HOLDS].bytes > 1024 * 1024) == (cases[i].blocks > 0));
        fixture_free(&compiled);
    }
}

static void shares_add_up(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers < 20; workers++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < workers; i++) {
            sum += worker_plan_share(97, workers, i);
        }
        assert_int_equal(sum, 97);
    }
}

/* Whatever one of several workers could hold, the others together can hold, too. */
static void one_worker_may_be_missing(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "server { workers 1; max-connections 10000 }", "server { workers 2; max-connections 9999 }",
        "server { workers 4; max-connections 10000 }", "server { workers 7; max-connections 300 }"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fixture_generation compiled;
        struct worker_plan plan;
        fixture_compile(&compiled, texts[i]);
        const struct generation_server *server = &compiled.generation.header->server;
        worker_plan_init(&plan, &compiled.generation, 0);
        uint32_t others = server->workers > 1 ? server->workers - 1 : 1;
        assert_true((uint64_t)plan.connections * others >= server->connections);
        assert_true(plan.items[WORKER_PLAN_CONNECTIONS].count > plan.connections);
        assert_true(worker_plan_descriptors(&plan) > plan.connections);
        fixture_free(&compiled);
    }
}

static void rows_have_names(void **state)
{
    (void)state;
    for (unsigned row = 0; row < WORKER_PLAN_ROWS; row++) {
        assert_true(strlen(worker_plan_name((enum worker_plan_row)row)) > 3);
        assert_true(worker_plan_key((enum worker_plan_row)row) <= WORKER_PLAN_NO_KEY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_allocated_is_what_was_planned),
        cmocka_unit_test(who_buffers_nothing_pays_nothing),
        cmocka_unit_test(shares_add_up),
        cmocka_unit_test(one_worker_may_be_missing),
        cmocka_unit_test(rows_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
