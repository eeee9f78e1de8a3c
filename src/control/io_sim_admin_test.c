/*
 * The admin listener in the simulator: what takes long, on a clock that costs nothing.
 */
#include "control/admin.h"

#include <stdio.h>

#include "control/control_fixture.h"
#include "control/controller.h"
#include "io/sim.h"

static const struct address ADMIN = {.family = ADDRESS_IPV4, .port = 9090, .ip = {10, 1, 0, 1}};

enum { SECOND = 1000000, STEPS_MAX = 1000000, ROUTES = 120, TEXT_MAX = 32 * 1024, SIP = 700 };

/* Reads a little, often enough to count as progress, and not enough to come to an end. */
struct sipper {
    struct io *io;
    struct io_socket socket;
    bool asked;
    bool ended;
    uint64_t next;
    size_t received;
};

struct world {
    struct sim *sim;
    struct fixture_generation compiled;
    void *words;
    void *totals;
    struct io *io;
    struct controller *controller;
    struct sipper sipper;
};

/* Many routes make many lines of /metrics. */
static void compile(struct fixture_generation *compiled)
{
    char *text = malloc(TEXT_MAX);
    assert_non_null(text);
    int size = snprintf(text, TEXT_MAX,
                        "server {\n  workers 1\n  admin { address \"127.0.0.1:9090\"; }\n}\n"
                        "listener \"http\" { address \"127.0.0.1:8080\"; }\n"
                        "upstream \"u\" { target \"10.1.0.9:80\"; }\n");
    for (int i = 0; i < ROUTES; i++) {
        size += snprintf(text + size, (size_t)(TEXT_MAX - size),
                         "route \"r%d\" { match path-prefix=\"/%d\"; upstream \"u\"; }\n", i, i);
        assert_true(size < TEXT_MAX);
    }
    fixture_compile(compiled, text);
    free(text);
}

static void sip(struct sipper *sipper)
{
    static char REQUEST[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    uint8_t bytes[SIP];
    size_t count = 0;
    if (!sipper->asked) {
        struct iovec piece = {REQUEST, sizeof(REQUEST) - 1};
        sipper->asked = io_write(sipper->io, &sipper->socket, &piece, 1, &count) == OK;
    }
    if (io_now(sipper->io) < sipper->next) {
        return;
    }
    sipper->next = io_now(sipper->io) + SECOND / 2;
    enum status status = io_read(sipper->io, &sipper->socket, bytes, sizeof(bytes), &count);
    sipper->received += status == OK ? count : 0;
    if (status == END || status == ERROR) {
        sipper->ended = true;
        io_close(sipper->io, &sipper->socket);
    }
}

static void sipper_turn(void *context)
{
    struct sipper *sipper = context;
    io_wait(sipper->io, sipper->ended ? UINT64_MAX : io_now(sipper->io) + SECOND / 4);
    while (io_next_ready(sipper->io) != NULL) {
    }
    if (!sipper->ended) {
        sip(sipper);
    }
}

static void controller_turns(void *context)
{
    controller_turn(((struct world *)context)->controller);
}

static void an_answer_has_an_end_however_slowly_it_is_taken(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    compile(&world->compiled);
    const struct generation *generation = &world->compiled.generation;
    world->words = fixture_region(health_size(generation));
    world->totals = fixture_region(metrics_size(generation));
    struct sim_options options = sim_options_quiet();
    options.buffer_min = options.buffer_max = 4096;
    world->sim = sim_create(7, &options);
    world->io = sim_node_create(world->sim, "controller");
    struct controller_options settings = {
        .io = world->io,
        .generation = generation,
        .admin = sim_listen(world->sim, &ADMIN),
        .control = -1,
        .health = world->words,
        .metrics = world->totals,
    };
    world->controller = controller_create(&settings);
    assert_non_null(world->controller);
    sim_node_run(world->io, controller_turns, world);
    struct sipper *sipper = &world->sipper;
    sipper->io = sim_node_create(world->sim, "sipper");
    io_socket_init(&sipper->socket);
    uint64_t began = sim_now(world->sim);
    assert_int_equal(io_connect(sipper->io, &sipper->socket, &ADMIN, 0), AGAIN);
    sim_node_run(sipper->io, sipper_turn, sipper);
    assert_true(sim_run(world->sim, began + ADMIN_ANSWER_DEADLINE - SECOND, STEPS_MAX));
    assert_int_equal(sim_node_sockets(world->io), 1); /* it takes bytes, so it is let go on */
    assert_true(sim_run(world->sim, began + ADMIN_ANSWER_DEADLINE + SECOND, STEPS_MAX));
    assert_int_equal(sim_node_sockets(world->io), 0);
    assert_true(sipper->received > (size_t)SIP * 20);
    io_close(sipper->io, &sipper->socket);
    controller_destroy(world->controller);
    sim_destroy(world->sim);
    free(world->words);
    free(world->totals);
    fixture_free(&world->compiled);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_has_an_end_however_slowly_it_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
