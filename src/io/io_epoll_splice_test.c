/* Moving bytes from socket to socket through a pipe, over real TCP. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/death_test.h"
#include "io/io_epoll.h"

enum { LARGE = 4 * 1024 * 1024, TURNS_MAX = 100000 };

/* Two connections between a tester (plain descriptors) and us (io's sockets). */
struct relay {
    struct io *io;
    struct io_socket listener;
    struct io_socket from;
    struct io_socket to;
    struct io_pipe pipe;
    int source;
    int target;
    int listening;
};

static int connect_to(const struct sockaddr_in *address, int window)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (window > 0) {
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof(window)), 0);
    }
    assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
    return fd;
}

static void accept_into(struct relay *relay, struct io_socket *socket, uint8_t kind)
{
    struct address peer;
    enum status status = AGAIN;
    for (int i = 0; i < TURNS_MAX && status == AGAIN; i++) {
        status = io_accept(relay->io, &relay->listener, socket, kind, &peer);
    }
    assert_int_equal(status, OK);
}

static int begin(void **state)
{
    static struct relay relay;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    assert_int_equal(sigaction(SIGPIPE, &ignore, NULL), 0); /* as in every process of ours */
    relay = (struct relay){.io = io_epoll_create(), .pipe = {.in = -1, .out = -1}};
    relay.listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(relay.listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(relay.listening, 8), 0);
    assert_int_equal(getsockname(relay.listening, (struct sockaddr *)&address, &size), 0);
    io_socket_init(&relay.listener);
    io_socket_init(&relay.from);
    io_socket_init(&relay.to);
    assert_int_equal(io_listen(relay.io, &relay.listener, relay.listening, 1), OK);
    relay.source = connect_to(&address, 0);
    accept_into(&relay, &relay.from, 2);
    relay.target = connect_to(&address, 4096); /* a small window: it makes us wait */
    accept_into(&relay, &relay.to, 3);
    assert_int_equal(io_pipe_open(relay.io, &relay.pipe), OK);
    *state = &relay;
    return 0;
}

static int end(void **state)
{
    struct relay *relay = *state;
    io_close(relay->io, &relay->from);
    io_close(relay->io, &relay->to);
    io_close(relay->io, &relay->listener);
    io_pipe_close(relay->io, &relay->pipe);
    io_pipe_close(relay->io, &relay->pipe); /* harmless twice */
    io_epoll_destroy(relay->io);
    close(relay->source);
    close(relay->target);
    close(relay->listening);
    return 0;
}

/* One turn that waits for something to happen. */
static void wait_turn(struct relay *relay)
{
    io_wait(relay->io, io_now(relay->io) + 1000000);
    while (io_next_ready(relay->io) != NULL) {
    }
}

static enum status splice_in(struct relay *relay, size_t max, size_t *got)
{
    return io_splice_in(relay->io, &relay->from, &relay->pipe, max, got);
}

static enum status splice_out(struct relay *relay, size_t *put)
{
    return io_splice_out(relay->io, &relay->to, &relay->pipe, put);
}

static void no_more_than_asked_for_is_moved_and_then_it_waits(void **state)
{
    struct relay *relay = *state;
    char bytes[16] = {0};
    size_t got = 0;
    size_t put = 0;
    assert_int_equal(send(relay->source, "0123456789", 10, 0), 10);
    wait_turn(relay);
    assert_int_equal(splice_in(relay, 4, &got), OK);
    assert_int_equal(got, 4);
    assert_int_equal(relay->pipe.size, 4);
    assert_int_equal(splice_out(relay, &put), OK);
    assert_int_equal(put, 4);
    assert_int_equal(relay->pipe.size, 0);
    assert_int_equal(recv(relay->target, bytes, sizeof(bytes), 0), 4);
    assert_memory_equal(bytes, "0123", 4);
    /* The rest was never touched: it can be read like any other. */
    assert_int_equal(io_read(relay->io, &relay->from, bytes, sizeof(bytes), &got), OK);
    assert_int_equal(got, 6);
    assert_memory_equal(bytes, "456789", 6);
    relay->from.ready |= IO_READABLE; /* a wake-up without cause */
    assert_int_equal(splice_in(relay, 100, &got), AGAIN);
    assert_int_equal(relay->from.ready & IO_READABLE, 0);
    assert_int_equal(splice_in(relay, 100, &got), AGAIN);
}

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at * 2654435761U >> 13);
}

/* The tester's part: sends what it can, checks what has come. */
static void pump(struct relay *relay, const uint8_t *bytes, size_t *sent, size_t *received)
{
    static uint8_t read[32768];
    if (*sent < LARGE) {
        ssize_t more = send(relay->source, bytes + *sent, LARGE - *sent, MSG_DONTWAIT);
        *sent += more > 0 ? (size_t)more : 0;
    }
    ssize_t more = recv(relay->target, read, sizeof(read), MSG_DONTWAIT);
    for (ssize_t i = 0; i < more; i++) {
        if (read[i] != byte_at(*received + (size_t)i)) {
            fail_msg("a wrong byte at %zu", *received + (size_t)i);
        }
    }
    *received += more > 0 ? (size_t)more : 0;
}

static void a_large_body_passes_byte_for_byte_past_a_slow_reader(void **state)
{
    struct relay *relay = *state;
    uint8_t *bytes = malloc(LARGE);
    size_t sent = 0;
    size_t received = 0;
    bool waited = false;
    assert_non_null(bytes);
    for (size_t i = 0; i < LARGE; i++) {
        bytes[i] = byte_at(i);
    }
    for (int turn = 0; turn < TURNS_MAX && received < LARGE; turn++) {
        size_t moved = 0;
        pump(relay, bytes, &sent, &received);
        io_wait(relay->io, io_now(relay->io));
        while (io_next_ready(relay->io) != NULL) {
        }
        enum status status = relay->pipe.size > 0 ? OK : splice_in(relay, LARGE, &moved);
        assert_int_not_equal(status, ERROR);
        while (relay->pipe.size > 0 && status == OK) {
            status = splice_out(relay, &moved);
            assert_int_not_equal(status, ERROR);
            waited |= status == AGAIN;
        }
    }
    assert_int_equal(received, LARGE);
    assert_true(waited);
    assert_int_equal(relay->pipe.size, 0);
    free(bytes);
}

static void the_peers_end_is_told_behind_its_bytes(void **state)
{
    struct relay *relay = *state;
    size_t got = 0;
    size_t put = 0;
    assert_int_equal(send(relay->source, "last", 4, 0), 4);
    assert_int_equal(shutdown(relay->source, SHUT_WR), 0);
    wait_turn(relay);
    assert_int_equal(splice_in(relay, 100, &got), OK);
    assert_int_equal(got, 4);
    assert_int_equal(splice_out(relay, &put), OK);
    for (int i = 0; i < TURNS_MAX && (relay->from.ready & IO_PEER_CLOSED) == 0; i++) {
        wait_turn(relay);
    }
    assert_int_equal(splice_in(relay, 100, &got), END);
}

static void a_reset_is_an_error_on_either_side(void **state)
{
    struct relay *relay = *state;
    const struct linger abrupt = {.l_onoff = 1, .l_linger = 0};
    size_t moved = 0;
    assert_int_equal(send(relay->source, "bytes", 5, 0), 5);
    wait_turn(relay);
    assert_int_equal(splice_in(relay, 100, &moved), OK);
    setsockopt(relay->target, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt));
    setsockopt(relay->source, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt));
    close(relay->target);
    close(relay->source);
    for (int i = 0; i < TURNS_MAX && (relay->to.ready & relay->from.ready & IO_FAILED) == 0; i++) {
        wait_turn(relay);
    }
    assert_int_equal(splice_out(relay, &moved), ERROR); /* and no SIGPIPE */
    assert_int_equal(relay->to.error, ECONNRESET);
    assert_int_equal(splice_out(relay, &moved), ERROR);
    assert_int_equal(relay->to.error, EPIPE);
    io_pipe_close(relay->io, &relay->pipe);
    assert_int_equal(io_pipe_open(relay->io, &relay->pipe), OK);
    assert_int_equal(splice_in(relay, 100, &moved), ERROR);
    assert_int_equal(relay->from.error, ECONNRESET);
    relay->source = relay->target = -1;
}

static void splice_into_a_full_pipe(void *context)
{
    struct relay *relay = context;
    size_t got = 0;
    (void)splice_in(relay, 100, &got);
}

static void a_pipe_must_be_empty_to_be_filled(void **state)
{
    struct relay *relay = *state;
    size_t got = 0;
    assert_int_equal(send(relay->source, "bytes", 5, 0), 5);
    wait_turn(relay);
    assert_int_equal(splice_in(relay, 3, &got), OK);
    assert_true(aborts(splice_into_a_full_pipe, relay));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_more_than_asked_for_is_moved_and_then_it_waits, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_large_body_passes_byte_for_byte_past_a_slow_reader, begin,
                                        end),
        cmocka_unit_test_setup_teardown(the_peers_end_is_told_behind_its_bytes, begin, end),
        cmocka_unit_test_setup_teardown(a_reset_is_an_error_on_either_side, begin, end),
        cmocka_unit_test_setup_teardown(a_pipe_must_be_empty_to_be_filled, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
