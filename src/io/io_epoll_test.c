/* When a socket is said to be ready, over real TCP. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io_epoll.h"

enum { TURNS_MAX = 100000 };

/* One connection between a tester's plain descriptor and our socket. */
struct link {
    struct io *io;
    struct io_socket listener;
    struct io_socket ours;
    int listening;
    int theirs;
};

static int begin(void **state)
{
    static struct link link;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    struct address peer;
    link = (struct link){.io = io_epoll_create()};
    link.listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(link.listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(link.listening, 8), 0);
    assert_int_equal(getsockname(link.listening, (struct sockaddr *)&address, &size), 0);
    io_socket_init(&link.listener);
    io_socket_init(&link.ours);
    assert_int_equal(io_listen(link.io, &link.listener, link.listening, 1), OK);
    link.theirs = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(link.theirs, (struct sockaddr *)&address, size), 0);
    enum status status = AGAIN;
    for (int i = 0; i < TURNS_MAX && status == AGAIN; i++) {
        status = io_accept(link.io, &link.listener, &link.ours, 2, &peer);
    }
    assert_int_equal(status, OK);
    *state = &link;
    return 0;
}

static int end(void **state)
{
    struct link *link = *state;
    io_close(link->io, &link->ours);
    io_close(link->io, &link->listener);
    close(link->theirs);
    close(link->listening);
    io_epoll_destroy(link->io);
    return 0;
}

/* Reads until nothing is left, after which the kernel has told of everything so far. */
static void read_all(struct link *link)
{
    char bytes[64];
    size_t got = 0;
    enum status status = OK;
    for (int i = 0; i < TURNS_MAX && status == OK; i++) {
        status = io_read(link->io, &link->ours, bytes, sizeof(bytes), &got);
    }
    assert_int_equal(status, AGAIN);
}

/* The next ready socket, for which it waits if there is none. */
static struct io_socket *next_ready(struct link *link)
{
    struct io_socket *socket = io_next_ready(link->io);
    for (int i = 0; i < TURNS_MAX && socket == NULL; i++) {
        io_wait(link->io, io_now(link->io) + 1000);
        socket = io_next_ready(link->io);
    }
    return socket;
}

static void an_accepted_connection_is_ready_once(void **state)
{
    struct link *link = *state;
    assert_ptr_equal(next_ready(link), &link->ours);
    read_all(link);
    /* The kernel's first event says only that it can be written to, which is known. */
    io_wait(link->io, io_now(link->io));
    assert_null(io_next_ready(link->io));
    assert_int_equal(link->ours.ready, IO_WRITABLE);
}

static void what_arrives_after_all_was_read_is_told(void **state)
{
    struct link *link = *state;
    assert_ptr_equal(next_ready(link), &link->ours);
    read_all(link);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send(link->theirs, "bytes", 5, 0), 5);
        assert_ptr_equal(next_ready(link), &link->ours);
        assert_true((link->ours.ready & IO_READABLE) != 0);
        read_all(link);
    }
}

static void what_arrives_unasked_is_told_once(void **state)
{
    struct link *link = *state;
    assert_ptr_equal(next_ready(link), &link->ours);
    read_all(link);
    assert_int_equal(send(link->theirs, "some", 4, 0), 4);
    assert_ptr_equal(next_ready(link), &link->ours);
    assert_int_equal(send(link->theirs, "more", 4, 0), 4);
    io_wait(link->io, io_now(link->io));
    assert_null(io_next_ready(link->io)); /* the bit stands: whoever reads finds both */
    read_all(link);
}

static void what_was_looked_at_comes_again(void **state)
{
    struct link *link = *state;
    char bytes[8];
    size_t got = 0;
    assert_ptr_equal(next_ready(link), &link->ours);
    read_all(link);
    assert_int_equal(io_peek(link->io, &link->ours, bytes, sizeof(bytes), &got), AGAIN);
    assert_int_equal(send(link->theirs, "bytes", 5, 0), 5);
    assert_ptr_equal(next_ready(link), &link->ours);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(io_peek(link->io, &link->ours, bytes, sizeof(bytes), &got), OK);
        assert_int_equal(got, 5);
        assert_memory_equal(bytes, "bytes", 5);
    }
    assert_int_equal(io_read(link->io, &link->ours, bytes, 5, &got), OK);
    assert_int_equal(io_peek(link->io, &link->ours, bytes, sizeof(bytes), &got), AGAIN);
    assert_int_equal(shutdown(link->theirs, SHUT_WR), 0);
    assert_ptr_equal(next_ready(link), &link->ours);
    assert_int_equal(io_peek(link->io, &link->ours, bytes, sizeof(bytes), &got), END);
}

static void what_the_peers_kernel_takes_is_acknowledged(void **state)
{
    struct link *link = *state;
    static uint8_t bytes[4096];
    const struct iovec piece = {bytes, sizeof(bytes)};
    size_t put = 0;
    uint64_t before = io_acknowledged(link->io, &link->ours);
    assert_int_equal(io_write(link->io, &link->ours, &piece, 1, &put), OK);
    assert_int_equal(put, sizeof(bytes));
    assert_int_equal(recv(link->theirs, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
    assert_int_equal(send(link->theirs, "taken", 5, 0), 5); /* which carries the acknowledgement */
    while ((link->ours.ready & IO_READABLE) == 0) {
        assert_ptr_equal(next_ready(link), &link->ours);
    }
    assert_int_equal(io_acknowledged(link->io, &link->ours) - before, sizeof(bytes));
}

static void the_peer_came_to_the_listeners_address(void **state)
{
    struct link *link = *state;
    struct sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    struct address listening;
    struct address local;
    assert_int_equal(getsockname(link->listening, (struct sockaddr *)&storage, &size), 0);
    address_from_system(&storage, &listening);
    io_local(link->io, &link->ours, &local);
    assert_true(address_equal(&local, &listening));
}

static void the_peers_end_is_news_whatever_else_is_known(void **state)
{
    struct link *link = *state;
    assert_ptr_equal(next_ready(link), &link->ours);
    assert_true((link->ours.ready & IO_READABLE) != 0); /* never read */
    assert_int_equal(shutdown(link->theirs, SHUT_WR), 0);
    assert_ptr_equal(next_ready(link), &link->ours);
    assert_true((link->ours.ready & IO_PEER_CLOSED) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_accepted_connection_is_ready_once, begin, end),
        cmocka_unit_test_setup_teardown(what_arrives_after_all_was_read_is_told, begin, end),
        cmocka_unit_test_setup_teardown(what_arrives_unasked_is_told_once, begin, end),
        cmocka_unit_test_setup_teardown(what_was_looked_at_comes_again, begin, end),
        cmocka_unit_test_setup_teardown(what_the_peers_kernel_takes_is_acknowledged, begin, end),
        cmocka_unit_test_setup_teardown(the_peer_came_to_the_listeners_address, begin, end),
        cmocka_unit_test_setup_teardown(the_peers_end_is_news_whatever_else_is_known, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
