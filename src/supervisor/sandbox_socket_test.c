/* Which sockets a process may make depends on the endpoints of its generation. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_local_socket_is_for_those_with_a_local_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
