/* The listening sockets, and what becomes of them when a process that shares one turns on it. */
#include "supervisor/listen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/control_fixture.h"

/* Whether a client of the socket's port gets a connection. */
static bool is_served(const struct sockaddr_in *address)
{
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    bool connected = connect(client, (const struct sockaddr *)address, sizeof(*address)) == 0;
    (void)close(client);
    return connected;
}

/* A port that nobody has. */
static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

static void disconnect(int fd)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    int copy = dup(fd); /* as a worker has one */
    assert_int_equal(connect(copy, &nobody, sizeof(nobody)), 0);
    (void)close(copy);
}

static bool lingers(int fd)
{
    struct linger linger = {0};
    socklen_t size = sizeof(linger);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size), 0);
    return linger.l_onoff != 0;
}

static void a_listener_that_a_process_has_shut_listens_again_on_its_port(void **state)
{
    struct fixture_generation compiled;
    struct listeners listeners;
    char text[512];
    uint16_t ports[2] = {free_port(), free_port()};
    (void)state;
    (void)snprintf(text, sizeof(text),
                   "server { workers 1\n admin { address \"127.0.0.1:%u\" }\n }\n"
                   "listener \"l\" { address \"127.0.0.1:%u\" }\nroute \"r\" { respond 200 }\n",
                   ports[0], ports[1]);
    fixture_compile(&compiled, text);
    listeners_init(&listeners);
    assert_int_equal(listeners_open(&listeners, &compiled.generation, "off"), OK);
    for (size_t i = 0; i < 2; i++) {
        const struct sockaddr_in address = {.sin_family = AF_INET,
                                            .sin_port = htons(ports[i]),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        listeners_mend(&listeners, &compiled.generation);
        assert_true(is_served(&address));
        disconnect(i == 0 ? listeners.controller[LISTENERS_ADMIN] : listeners.fds[0]);
        assert_false(is_served(&address));
        listeners_mend(&listeners, &compiled.generation);
        assert_true(is_served(&address));
    }
    const struct linger hour = {1, 3600};
    assert_int_equal(setsockopt(listeners.fds[0], SOL_SOCKET, SO_LINGER, &hour, sizeof(hour)), 0);
    assert_true(lingers(listeners.fds[0]));
    listeners_mend(&listeners, &compiled.generation);
    assert_false(lingers(listeners.fds[0]));
    listeners_stop(&listeners);
    listeners_mend(&listeners, &compiled.generation); /* what is closed on purpose stays so */
    listeners_close(&listeners);
    fixture_free(&compiled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_that_a_process_has_shut_listens_again_on_its_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
