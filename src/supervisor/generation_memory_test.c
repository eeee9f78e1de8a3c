#include "supervisor/generation_memory.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/compilation.h"
#include "supervisor/listen.h"

/* The built-in configuration with a listener of our choice. */
static void compile(struct compilation *compilation, char *listen)
{
    char *environment[] = {listen, (char[]){"SENTINEL_WORKERS=3"}, NULL};
    assert_int_equal(compilation_open(compilation, NULL, environment, COMPILATION_TO_RUN), OK);
}

static int write_generation(char *listen)
{
    struct compilation compilation = {0};
    compile(&compilation, listen);
    int fd = sealed_memory_create("sentinel-generation");
    assert_true(fd >= 0);
    assert_int_equal(sealed_memory_write(fd, compilation.block), OK);
    compilation_close(&compilation);
    return fd;
}

static void a_generation_travels_unchanged_and_unchangeable(void **state)
{
    (void)state;
    int fd = write_generation((char[]){"SENTINEL_LISTEN=127.0.0.1:18500"});
    struct sealed_memory mapping = {0};
    struct generation generation;
    assert_int_equal(generation_memory_map(&mapping, &generation, fd), OK);
    assert_int_equal(generation.header->server.workers, 3);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    close(fd);
    sealed_memory_unmap(&mapping);
    sealed_memory_unmap(&mapping);
}

static void memory_without_seals_is_refused(void **state)
{
    (void)state;
    struct compilation compilation = {0};
    compile(&compilation, (char[]){"SENTINEL_LISTEN=127.0.0.1:18500"});
    int fd = sealed_memory_create("sentinel-generation");
    assert_int_equal(write(fd, compilation.block.data, compilation.block.size),
                     (ssize_t)compilation.block.size);
    struct sealed_memory mapping = {0};
    struct generation generation;
    assert_int_equal(generation_memory_map(&mapping, &generation, fd), ERROR);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    assert_int_equal(generation_memory_map(&mapping, &generation, fd), ERROR);
    assert_null(mapping.memory);
    close(fd);
    compilation_close(&compilation);
}

static void sealed_bytes_that_are_no_generation_are_refused(void **state)
{
    (void)state;
    struct sealed_memory mapping = {0};
    struct generation generation;
    int fd = sealed_memory_create("sentinel-generation");
    assert_int_equal(sealed_memory_write(fd, SPAN_EMPTY), OK); /* empty */
    assert_int_equal(generation_memory_map(&mapping, &generation, fd), ERROR);
    close(fd);
    fd = sealed_memory_create("sentinel-generation");
    assert_int_equal(sealed_memory_write(fd, SPAN("not what you think it is")), OK);
    assert_int_equal(generation_memory_map(&mapping, &generation, fd), ERROR);
    close(fd);
    assert_int_equal(generation_memory_map(&mapping, &generation, -1), ERROR);
}

static void secrets_travel_beside_their_generation_and_open_with_no_other(void **state)
{
    (void)state;
    struct compilation compilation = {0};
    struct generation generation;
    struct sealed_memory mapping = {0};
    struct secrets secrets;
    compile(&compilation, (char[]){"SENTINEL_LISTEN=127.0.0.1:18500"});
    assert_true(generation_open(&generation, compilation.block));
    int fd = sealed_memory_create("sentinel-secrets");
    assert_int_equal(sealed_memory_write(fd, compilation.secrets->block), OK);
    assert_int_equal(generation_memory_map_secrets(&mapping, &secrets, fd, &generation), OK);
    assert_int_equal(secrets.count, 0);
    sealed_memory_unmap(&mapping);
    struct generation_header header = *generation.header;
    header.number++;
    generation.header = &header;
    assert_int_equal(generation_memory_map_secrets(&mapping, &secrets, fd, &generation), ERROR);
    assert_null(mapping.memory);
    close(fd);
    fd = sealed_memory_create("sentinel-secrets");
    assert_int_equal(write(fd, compilation.secrets->block.data, compilation.secrets->block.size),
                     (ssize_t)compilation.secrets->block.size); /* not sealed */
    assert_int_equal(generation_memory_map_secrets(&mapping, &secrets, fd, &generation), ERROR);
    close(fd);
    compilation_close(&compilation);
}

static void a_refused_configuration_leaves_nothing_open(void **state)
{
    (void)state;
    struct compilation compilation = {0};
    char *environment[] = {(char[]){"SENTINEL_LISTEN=nonsense"}, NULL};
    assert_int_equal(compilation_open(&compilation, NULL, environment, COMPILATION_TO_RUN), ERROR);
    assert_null(compilation.memory);
}

/* Ports that nobody listens on now, held open together so that they differ. */
static void find_ports(unsigned ports[2])
{
    int fds[2];
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fds[i] >= 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *)&address, size), 0);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&address, &size), 0);
        ports[i] = ntohs(address.sin_port);
    }
    close(fds[0]);
    close(fds[1]);
}

/* A generation with a listener and an admin listener on free ports. */
static int write_free_generation(void)
{
    unsigned ports[2];
    find_ports(ports);
    char path[] = "/tmp/sentinel-test-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_true(dprintf(file,
                        "server { admin { address \"127.0.0.1:%u\"; }; }\n"
                        "listener \"web\" { address \"127.0.0.1:%u\"; protocol \"http\"; }\n"
                        "upstream \"b\" { target \"127.0.0.1:1\"; }\n"
                        "route \"r\" { match path-prefix=\"/\"; upstream \"b\"; }\n",
                        ports[0], ports[1]) > 0);
    close(file);
    struct compilation compilation = {0};
    char *environment[] = {NULL};
    enum status status = compilation_open(&compilation, path, environment, COMPILATION_TO_RUN);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(status, OK);
    int fd = sealed_memory_create("sentinel-generation");
    assert_int_equal(sealed_memory_write(fd, compilation.block), OK);
    compilation_close(&compilation);
    return fd;
}

static void listeners_are_bound_once_and_reopened_after_a_stop(void **state)
{
    (void)state;
    int fd = write_free_generation();
    struct sealed_memory mapping = {0};
    struct generation generation;
    assert_int_equal(generation_memory_map(&mapping, &generation, fd), OK);
    close(fd);

    struct listeners first;
    struct listeners second;
    listeners_init(&first);
    listeners_init(&second);
    assert_int_equal(listeners_open(&first, &generation, "off"), OK);
    assert_int_equal(first.count, 1);
    int listening = 0;
    socklen_t size = sizeof(listening);
    assert_int_equal(getsockopt(first.fds[0], SOL_SOCKET, SO_ACCEPTCONN, &listening, &size), 0);
    assert_int_equal(listening, 1);
    assert_true((fcntl(first.fds[0], F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(first.fds[0], F_GETFD) & FD_CLOEXEC) != 0);

    assert_int_equal(listeners_open(&second, &generation, "off"), ERROR); /* in use */
    assert_null(second.fds);
    assert_int_equal(second.controller[LISTENERS_ADMIN], -1);

    int admin = first.controller[LISTENERS_ADMIN];
    listeners_stop(&first);
    assert_int_equal(first.count, 0);
    assert_int_equal(first.controller[LISTENERS_ADMIN],
                     admin); /* stays to show how the drain goes */
    listeners_close(&first);
    listeners_close(&first);
    assert_int_equal(listeners_open(&second, &generation, "off"), OK);
    listeners_close(&second);
    sealed_memory_unmap(&mapping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_generation_travels_unchanged_and_unchangeable),
        cmocka_unit_test(memory_without_seals_is_refused),
        cmocka_unit_test(sealed_bytes_that_are_no_generation_are_refused),
        cmocka_unit_test(secrets_travel_beside_their_generation_and_open_with_no_other),
        cmocka_unit_test(a_refused_configuration_leaves_nothing_open),
        cmocka_unit_test(listeners_are_bound_once_and_reopened_after_a_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
