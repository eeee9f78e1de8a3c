/* The pool over real sockets: HTTP/1 connections, and a stub that carries three streams. */
#include "upstream/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io_epoll.h"

enum { SLOTS = 2, STREAMS = 2, TURNS_MAX = 1000, KIND = 1 };

/* A multiplexed session: no bytes, only streams that are lent and come back. */
struct stub {
    struct session session;
    struct stream streams[STREAMS];
    bool leaving; /* as after GOAWAY */
};

static_assert(sizeof(struct stub) <= offsetof(struct pool_connection, endpoint), "its memory");

struct fixture {
    struct io *io;
    struct timer_wheel wheel;
    struct slab inboxes;
    struct buffer_pool buffers;
    struct session_context context;
    struct generation_header header;
    struct generation generation;
    struct metrics metrics;
    void *cells;
    struct generation_upstream upstream;
    struct generation_endpoint config;
    struct endpoint endpoint;
    struct pool pool;
    int listener; /* -1: nobody listens */
};

static struct stub *stub_of(struct session *session)
{
    return CONTAINER_OF(session, struct stub, session);
}

static struct stream *stub_open_stream(struct session *session)
{
    struct stub *stub = stub_of(session);
    for (int i = 0; i < STREAMS && !stub->leaving; i++) {
        if (stub->streams[i].session == NULL) {
            stub->streams[i].session = session;
            session->step = SESSION_BUSY;
            return &stub->streams[i];
        }
    }
    return NULL;
}

static void stub_kill(struct session *session)
{
    session->transport.ops->close(&session->transport);
    session->step = SESSION_CLOSED;
}

static void stub_release(struct stream *stream, bool keep)
{
    struct session *session = stream->session;
    stream->session = NULL;
    for (int i = 0; i < STREAMS; i++) {
        if (stub_of(session)->streams[i].session != NULL) {
            return;
        }
    }
    session->step = SESSION_IDLE;
    if (!keep || stub_of(session)->leaving) {
        stub_kill(session);
    }
}

static void stub_run(struct session *session)
{
    (void)session;
}

static enum session_event stub_next_event(struct session *session, struct stream **stream)
{
    (void)session, (void)stream;
    return SESSION_EVENT_NONE;
}

static const struct stream_ops STUB_STREAM = {.release = stub_release};

static const struct session_ops STUB = {
    .run = stub_run,
    .next_event = stub_next_event,
    .open_stream = stub_open_stream,
    .multiplexed = true,
    .kill = stub_kill,
};

static struct stream *start_stub(struct pool_connection *connection)
{
    struct stub *stub = stub_of(&connection->session);
    session_clear_rest(&stub->session, sizeof(*stub));
    stub->session.ops = &STUB;
    for (int i = 0; i < STREAMS; i++) {
        stub->streams[i].ops = &STUB_STREAM;
    }
    return stub_open_stream(&stub->session);
}

static void listen_somewhere(struct fixture *fixture)
{
    struct sockaddr_storage storage;
    socklen_t size = address_to_system(&fixture->config.address, &storage);
    fixture->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fixture->listener, (struct sockaddr *)&storage, size), 0);
    assert_int_equal(listen(fixture->listener, 16), 0);
    size = sizeof(storage);
    assert_int_equal(getsockname(fixture->listener, (struct sockaddr *)&storage, &size), 0);
    address_from_system(&storage, &fixture->config.address);
}

static int begin(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->io = io_epoll_create();
    assert_non_null(fixture->io);
    timer_wheel_init(&fixture->wheel, io_now(fixture->io));
    assert_true(slab_init(&fixture->inboxes, 4096, SLOTS));
    assert_true(buffer_pool_init(&fixture->buffers, 1024 * 1024));
    fixture->context = (struct session_context){.io = fixture->io,
                                                .wheel = &fixture->wheel,
                                                .buffers = &fixture->buffers,
                                                .upstream_inboxes = &fixture->inboxes};
    fixture->header.upstreams.count = 1;
    fixture->header.endpoints.count = 1;
    fixture->generation = (struct generation){(const uint8_t *)&fixture->header, &fixture->header};
    fixture->cells = malloc(metrics_size(&fixture->generation));
    assert_non_null(fixture->cells);
    metrics_init(&fixture->metrics, fixture->cells, &fixture->generation);
    fixture->config.address = (struct address){.family = ADDRESS_IPV4, .ip = {127, 0, 0, 1}};
    fixture->endpoint =
        (struct endpoint){.config = &fixture->config, .target.address = &fixture->config.address};
    list_init(&fixture->endpoint.idle);
    list_init(&fixture->endpoint.shared);
    assert_true(pool_init(&fixture->pool, &fixture->context, &fixture->metrics, SLOTS));
    fixture->pool.socket_kind = KIND;
    listen_somewhere(fixture);
    *state = fixture;
    return 0;
}

static int end(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(fixture->endpoint.in_use, 0);
    pool_deinit(&fixture->pool);
    assert_int_equal(fixture->endpoint.idle_count, 0);
    assert_true(list_is_empty(&fixture->endpoint.shared));
    slab_deinit(&fixture->inboxes);
    buffer_pool_deinit(&fixture->buffers);
    io_epoll_destroy(fixture->io);
    free(fixture->cells);
    if (fixture->listener >= 0) {
        close(fixture->listener);
    }
    free(fixture);
    return 0;
}

/* Turns until nothing is being opened any more. */
static void open_all(struct fixture *fixture, const struct pool_lease *lease)
{
    for (int i = 0; i < TURNS_MAX && dialing_is_under_way(&lease->connection->session); i++) {
        io_wait(fixture->io, io_now(fixture->io) + 1000 * 1000);
        struct io_socket *socket = io_next_ready(fixture->io);
        for (; socket != NULL; socket = io_next_ready(fixture->io)) {
            struct transport *transport = CONTAINER_OF(socket, struct transport, socket);
            struct session *session = CONTAINER_OF(transport, struct session, transport);
            struct stream *stream = NULL;
            session->ops->run(session);
            if (session->ops->next_event(session, &stream) == SESSION_EVENT_OPEN) {
                pool_open(&fixture->pool, pool_connection_of(session));
            }
        }
    }
    assert_false(dialing_is_under_way(&lease->connection->session));
}

static enum status connected(struct pool_lease *lease)
{
    enum reason reason = REASON_NONE;
    enum status status = pool_connected(lease, &reason);
    assert_int_equal(status == ERROR ? REASON_CONNECT_FAILED : REASON_NONE, reason);
    return status;
}

static enum status take(struct fixture *fixture, struct pool_lease *lease)
{
    return pool_lease(&fixture->pool, &fixture->endpoint, false, SPAN_EMPTY, lease);
}

static uint64_t count(const struct fixture *fixture, enum metric metric)
{
    return metrics_cell_read(fixture->cells, fixture->metrics.layout.offsets[metric]);
}

static void each_lease_of_http1_has_a_connection_of_its_own(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease one = {0};
    struct pool_lease two = {0};
    struct pool_lease three = {0};
    assert_int_equal(take(fixture, &one), OK);
    assert_int_equal(take(fixture, &two), OK);
    assert_int_equal(take(fixture, &three), AGAIN);
    assert_null(three.connection);
    assert_ptr_not_equal(one.connection, two.connection);
    open_all(fixture, &one);
    open_all(fixture, &two);
    assert_int_equal(connected(&one), OK);
    assert_int_equal(connected(&two), OK);
    assert_non_null(one.stream);
    assert_false(one.reused);
    assert_int_equal(fixture->endpoint.in_use, 2);
    pool_return(&fixture->pool, &one, true); /* no response was read: it cannot be kept */
    assert_null(one.connection);
    assert_int_equal(fixture->pool.connections.in_use, 1);
    assert_int_equal(pool_places(&fixture->pool), 1);
    assert_int_equal(take(fixture, &three), OK);
    pool_return(&fixture->pool, &two, false);
    pool_return(&fixture->pool, &three, false); /* it was still being opened */
    assert_int_equal(fixture->pool.connections.in_use, 0);
}

static void who_does_not_wait_to_the_end_takes_the_connection_along(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease lease = {0};
    assert_int_equal(take(fixture, &lease), OK);
    open_all(fixture, &lease); /* open, with a stream that nobody came for */
    assert_null(lease.stream);
    pool_return(&fixture->pool, &lease, true);
    assert_int_equal(fixture->pool.connections.in_use, 0);
}

static void a_refused_connection_is_refused_to_all_who_wait_for_it(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease one = {0};
    struct pool_lease two = {0};
    close(fixture->listener);
    fixture->listener = -1;
    fixture->endpoint.multiplexed = true;
    enum status status = take(fixture, &one);
    if (status == ERROR) { /* the kernel may say so at once */
        assert_int_equal(fixture->pool.connections.in_use, 0);
        return;
    }
    assert_int_equal(take(fixture, &two), OK);
    assert_ptr_equal(one.connection, two.connection);
    open_all(fixture, &one);
    assert_int_equal(connected(&one), ERROR);
    assert_int_equal(connected(&two), ERROR);
    assert_true(list_is_empty(&fixture->endpoint.shared));
    pool_return(&fixture->pool, &one, false);
    assert_int_equal(fixture->pool.connections.in_use, 1);
    pool_return(&fixture->pool, &two, false);
    assert_int_equal(fixture->pool.connections.in_use, 0);
}

/* Opens a stub connection; the lease has its first stream. */
static void lease_stub(struct fixture *fixture, struct pool_lease *lease)
{
    fixture->pool.start = start_stub;
    assert_int_equal(take(fixture, lease), OK);
    open_all(fixture, lease);
    assert_int_equal(connected(lease), OK);
}

static void a_multiplexed_connection_is_shared_until_it_is_full(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease leases[STREAMS + 1] = {0};
    lease_stub(fixture, &leases[0]);
    for (int i = 1; i < STREAMS; i++) {
        assert_int_equal(take(fixture, &leases[i]), OK);
        assert_ptr_equal(leases[i].connection, leases[0].connection);
        assert_non_null(leases[i].stream);
        assert_true(leases[i].reused);
    }
    assert_int_equal(take(fixture, &leases[STREAMS]), OK);
    assert_ptr_not_equal(leases[STREAMS].connection, leases[0].connection);
    assert_int_equal(fixture->endpoint.in_use, STREAMS + 1);
    assert_int_equal(count(fixture, METRIC_UPSTREAM_CONNECTIONS_OPENED), 2);
    assert_int_equal(count(fixture, METRIC_UPSTREAM_CONNECTIONS_REUSED), STREAMS - 1);
    pool_return(&fixture->pool, &leases[STREAMS], false);
    for (int i = 0; i < STREAMS; i++) {
        pool_return(&fixture->pool, &leases[i], true);
    }
    assert_int_equal(fixture->endpoint.idle_count, 1); /* idle once, not once a stream */
    assert_int_equal(fixture->pool.connections.in_use, 1);
    assert_int_equal(take(fixture, &leases[0]), OK);
    assert_true(leases[0].reused);
    assert_int_equal(take(fixture, &leases[1]), OK); /* shared again after it was idle */
    assert_ptr_equal(leases[0].connection, leases[1].connection);
    pool_return(&fixture->pool, &leases[0], true);
    pool_return(&fixture->pool, &leases[1], true);
}

static void a_stream_that_comes_back_is_a_place_for_who_waits(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease leases[SLOTS * STREAMS] = {0};
    struct pool_lease late = {0};
    lease_stub(fixture, &leases[0]);
    for (int i = 1; i < SLOTS * STREAMS; i++) {
        assert_int_equal(take(fixture, &leases[i]), OK);
        open_all(fixture, &leases[i]);
        assert_int_equal(connected(&leases[i]), OK);
    }
    assert_int_equal(take(fixture, &late), AGAIN);
    assert_int_equal(pool_places(&fixture->pool), 0);
    pool_return(&fixture->pool, &leases[1], true);
    assert_int_equal(pool_places(&fixture->pool), 1);
    assert_int_equal(pool_places(&fixture->pool), 0); /* told once */
    assert_int_equal(take(fixture, &late), OK);
    assert_ptr_equal(late.connection, leases[0].connection);
    pool_return(&fixture->pool, &late, true);
    for (int i = 0; i < SLOTS * STREAMS; i++) {
        if (leases[i].connection != NULL) {
            pool_return(&fixture->pool, &leases[i], true);
        }
    }
}

static void one_that_takes_no_more_serves_what_it_has_and_closes(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease one = {0};
    struct pool_lease two = {0};
    struct pool_lease three = {0};
    lease_stub(fixture, &one);
    assert_int_equal(take(fixture, &two), OK);
    stub_of(&one.connection->session)->leaving = true;
    assert_int_equal(take(fixture, &three), OK);
    assert_ptr_not_equal(three.connection, one.connection);
    pool_return(&fixture->pool, &one, true);
    assert_non_null(two.stream->session);
    pool_return(&fixture->pool, &two, true);
    assert_int_equal(fixture->pool.connections.in_use, 1);
    pool_return(&fixture->pool, &three, false);
}

static void those_who_come_while_it_is_opened_wait_for_the_one_connection(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease leases[STREAMS + 1] = {0};
    fixture->pool.start = start_stub;
    fixture->endpoint.multiplexed = true;
    for (int i = 0; i < STREAMS + 1; i++) {
        assert_int_equal(take(fixture, &leases[i]), OK);
        assert_ptr_equal(leases[i].connection, leases[0].connection);
        assert_null(leases[i].stream);
        assert_false(leases[i].reused);
    }
    open_all(fixture, &leases[0]);
    for (int i = 0; i < STREAMS; i++) {
        assert_int_equal(connected(&leases[i]), OK);
    }
    /* More waited than it carries: this one looks for another. */
    assert_int_equal(connected(&leases[STREAMS]), END);
    for (int i = 0; i < STREAMS + 1; i++) {
        pool_return(&fixture->pool, &leases[i], true);
    }
    assert_int_equal(fixture->endpoint.idle_count, 1);
}

static void so_many_wait_for_one_connection_and_no_more(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease leases[SHARED_WAITERS_MAX + 1] = {0};
    fixture->endpoint.multiplexed = true;
    for (int i = 0; i < SHARED_WAITERS_MAX + 1; i++) {
        assert_int_equal(take(fixture, &leases[i]), OK);
    }
    assert_ptr_equal(leases[SHARED_WAITERS_MAX - 1].connection, leases[0].connection);
    assert_ptr_not_equal(leases[SHARED_WAITERS_MAX].connection, leases[0].connection);
    for (int i = 0; i < SHARED_WAITERS_MAX + 1; i++) {
        pool_return(&fixture->pool, &leases[i], false);
    }
}

static void an_endpoint_that_turns_out_to_speak_http1_is_shared_no_more(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease one = {0};
    struct pool_lease two = {0};
    fixture->endpoint.multiplexed = true; /* it did, before it was replaced */
    assert_int_equal(take(fixture, &one), OK);
    assert_int_equal(take(fixture, &two), OK);
    open_all(fixture, &one);
    assert_int_equal(connected(&one), OK);
    assert_int_equal(connected(&two), END);
    pool_return(&fixture->pool, &two, true);
    assert_false(fixture->endpoint.multiplexed);
    assert_int_equal(take(fixture, &two), OK);
    assert_ptr_not_equal(one.connection, two.connection);
    pool_return(&fixture->pool, &one, false);
    pool_return(&fixture->pool, &two, false);
}

static void a_fresh_connection_is_not_a_shared_one(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease one = {0};
    struct pool_lease two = {0};
    lease_stub(fixture, &one);
    assert_int_equal(pool_lease(&fixture->pool, &fixture->endpoint, true, SPAN_EMPTY, &two), OK);
    assert_ptr_not_equal(one.connection, two.connection);
    assert_false(two.reused);
    pool_return(&fixture->pool, &one, false);
    pool_return(&fixture->pool, &two, false);
}

static void what_begins_for_one_client_is_neither_shared_nor_kept(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease one = {0};
    struct pool_lease two = {0};
    struct pool *pool = &fixture->pool;
    lease_stub(fixture, &one);
    pool_return(pool, &one, true);
    assert_int_equal(fixture->endpoint.idle_count, 1);
    for (int i = 0; i < 2; i++) { /* once opened, once of a kind that could be shared */
        assert_int_equal(pool_lease(pool, &fixture->endpoint, false, SPAN("for me"), &one), OK);
        assert_false(one.reused);
        assert_int_equal(take(fixture, &two), OK);
        assert_ptr_not_equal(one.connection, two.connection);
        pool_return(pool, &two, true);
        pool_return(pool, &one, true);
        assert_int_equal(fixture->endpoint.idle_count, 1);
    }
}

static void an_idle_connection_gives_its_slot_to_another_endpoint(void **state)
{
    struct fixture *fixture = *state;
    struct pool_lease leases[SLOTS] = {0};
    struct endpoint other = {.config = &fixture->config,
                             .target.address = &fixture->config.address};
    list_init(&other.idle);
    list_init(&other.shared);
    for (int i = 0; i < SLOTS; i++) {
        fixture->pool.start = start_stub;
        assert_int_equal(
            pool_lease(&fixture->pool, &fixture->endpoint, true, SPAN_EMPTY, &leases[i]), OK);
        open_all(fixture, &leases[i]);
        assert_int_equal(connected(&leases[i]), OK);
    }
    assert_int_equal(pool_lease(&fixture->pool, &other, false, SPAN_EMPTY, &leases[0]), AGAIN);
    const struct pool_connection *younger = leases[1].connection;
    pool_return(&fixture->pool, &leases[0], true);
    pool_return(&fixture->pool, &leases[1], true);
    assert_int_equal(fixture->endpoint.idle_count, SLOTS);
    assert_int_equal(pool_places(&fixture->pool), 1);
    assert_int_equal(pool_lease(&fixture->pool, &other, false, SPAN_EMPTY, &leases[0]), OK);
    assert_int_equal(fixture->endpoint.idle_count, SLOTS - 1);
    assert_ptr_not_equal(leases[0].connection, younger); /* the slot of who idled longest */
    pool_return(&fixture->pool, &leases[0], false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_lease_of_http1_has_a_connection_of_its_own),
        TEST(who_does_not_wait_to_the_end_takes_the_connection_along),
        TEST(a_refused_connection_is_refused_to_all_who_wait_for_it),
        TEST(a_multiplexed_connection_is_shared_until_it_is_full),
        TEST(a_stream_that_comes_back_is_a_place_for_who_waits),
        TEST(one_that_takes_no_more_serves_what_it_has_and_closes),
        TEST(those_who_come_while_it_is_opened_wait_for_the_one_connection),
        TEST(so_many_wait_for_one_connection_and_no_more),
        TEST(an_endpoint_that_turns_out_to_speak_http1_is_shared_no_more),
        TEST(a_fresh_connection_is_not_a_shared_one),
        TEST(what_begins_for_one_client_is_neither_shared_nor_kept),
        TEST(an_idle_connection_gives_its_slot_to_another_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
