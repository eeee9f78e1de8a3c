/* Which sockets a process may make depends on the endpoints of its generation. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/control_fixture.h"
#include "supervisor/sandbox_parts.h"

enum { MADE = 0, NOT_MADE = 10, NOT_ENTERED = 11 };

/* The wait status of a process of this role, with this target, that makes such a socket. */
static int make_socket(enum process_role role, const char *target, int family, int kind)
{
    struct fixture_generation compiled;
    char text[256];
    (void)snprintf(text, sizeof(text),
                   "upstream \"u\" { target \"%s\" }\nlistener \"l\" { address \"127.0.0.1:1\" }\n"
                   "route \"r\" { upstream \"u\" }",
                   target);
    fixture_compile(&compiled, text);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (sandbox_enter(role, &compiled.generation) != OK) {
            _exit(NOT_ENTERED);
        }
        _exit(socket(family, kind | SOCK_CLOEXEC, 0) >= 0 ? MADE : NOT_MADE);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    fixture_free(&compiled);
    return status;
}

static bool was_ended(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void a_local_socket_is_for_those_with_a_local_endpoint(void **state)
{
    static const enum process_role roles[] = {PROCESS_WORKER, PROCESS_CONTROLLER};
    struct sandbox_support support;
    (void)state;
    sandbox_probe(&support);
    if (!support.seccomp) {
        print_message("this machine has no seccomp\n");
        skip();
    }
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        const char *local = "unix:/run/none";
        assert_int_equal(make_socket(roles[i], local, AF_UNIX, SOCK_STREAM), MADE);
        assert_int_equal(make_socket(roles[i], local, AF_INET6, SOCK_STREAM), MADE);
        assert_true(was_ended(make_socket(roles[i], local, AF_UNIX, SOCK_DGRAM)));
        assert_true(was_ended(make_socket(roles[i], "127.0.0.1:1", AF_UNIX, SOCK_STREAM)));
    }
    assert_true(was_ended(make_socket(PROCESS_LOGGER, "unix:/run/none", AF_UNIX, SOCK_STREAM)));
}

enum attack { CLEAR_FLAGS, SHRINK_BUFFER, SHUT_BOTH, SHUT_READING, SHUT_WRITING };

/* The wait status of a process of this role that does so to a listening socket which we share. */
static int attack_listener(enum process_role role, int listener, enum attack attack)
{
    struct fixture_generation compiled;
    fixture_compile(&compiled, "server { workers 1 }");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (sandbox_enter(role, &compiled.generation) != OK) {
            _exit(NOT_ENTERED);
        }
        const int size = 1;
        const socklen_t room = sizeof(size);
        int done = attack == CLEAR_FLAGS ? fcntl(listener, F_SETFL, 0)
                   : attack == SHRINK_BUFFER
                       ? setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, room)
                   : attack == SHUT_BOTH    ? shutdown(listener, SHUT_RDWR)
                   : attack == SHUT_READING ? shutdown(listener, SHUT_RD)
                                            : shutdown(listener, SHUT_WR);
        _exit(done == 0 ? MADE : NOT_MADE);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    fixture_free(&compiled);
    return status;
}

static bool is_served(int listener)
{
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    bool connected = connect(client, (struct sockaddr *)&address, size) == 0;
    (void)close(client);
    return connected;
}

/* All workers and their successors have the same: what one does to it is done to all. */
static void a_shared_listener_is_neither_shut_nor_changed(void **state)
{
    static const enum process_role roles[] = {PROCESS_WORKER, PROCESS_CONTROLLER};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sandbox_support support;
    (void)state;
    sandbox_probe(&support);
    if (!support.seccomp) {
        print_message("this machine has no seccomp\n");
        skip();
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 16), 0);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        assert_true(was_ended(attack_listener(roles[i], listener, CLEAR_FLAGS)));
        assert_true(was_ended(attack_listener(roles[i], listener, SHRINK_BUFFER)));
        assert_true(was_ended(attack_listener(roles[i], listener, SHUT_BOTH)));
        assert_true(was_ended(attack_listener(roles[i], listener, SHUT_READING)));
        (void)attack_listener(roles[i], listener, SHUT_WRITING); /* refused or without effect */
        assert_true(is_served(listener));
        assert_true((fcntl(listener, F_GETFL) & O_NONBLOCK) != 0);
    }
    (void)close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shared_listener_is_neither_shut_nor_changed),
        cmocka_unit_test(a_local_socket_is_for_those_with_a_local_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
