/*
 * Processes that enter the sandbox of each role by the function that the roles use, and then try
 * what they may not, and what they must be able to do.
 */
#include "supervisor/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/control_fixture.h"
#include "supervisor/privileges.h"
#include "supervisor/sandbox_parts.h"
#include "supervisor/spawn.h"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { DONE = 0, REFUSED = 10, NOT_ENTERED = 11 };

/* What was open before the sandbox closed. */
struct world {
    struct fixture_generation compiled;
    int listener; /* on a free port of the loopback, which is `port` */
    int foreign;  /* another one, which no upstream names */
    uint16_t port;
    uint16_t foreign_port;
    int pipe[2];
    int epoll;
    int file;     /* a log */
    pid_t parent; /* of whoever tries: to ask for it is one more call, which nobody may make */
};

/* Tries something; true when the system did it. */
typedef bool attempt(const struct world *world);

/* ---- What nobody may do ---- */

static bool open_for_reading(const struct world *world)
{
    (void)world;
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
}

static bool open_for_writing(const struct world *world)
{
    (void)world;
    return open("/tmp/sandbox_test.made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool open_by_another_way(const struct world *world)
{
    (void)world;
    return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0) >= 0;
}

static bool open_anew_by_number(const struct world *world)
{
    (void)world;
    return open("/proc/self/mem", O_RDWR | O_CLOEXEC) >= 0;
}

static bool remove_file(const struct world *world)
{
    (void)world;
    return unlink("/tmp/sandbox_test.none") == 0 || errno == ENOENT;
}

static bool execute(const struct world *world)
{
    (void)world;
    char *const arguments[] = {(char[]){"true"}, NULL};
    char *const environment[] = {NULL};
    return execve("/bin/true", arguments, environment) == 0;
}

static bool execute_descriptor(const struct world *world)
{
    char *const arguments[] = {(char[]){"true"}, NULL};
    return syscall(SYS_execveat, world->file, "", arguments, NULL, AT_EMPTY_PATH) == 0;
}

static bool fork_off(const struct world *world)
{
    (void)world;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return pid > 0;
}

static bool start_thread(const struct world *world)
{
    (void)world;
    return syscall(SYS_clone3, NULL, 0) >= 0 || errno == EINVAL;
}

static bool trace_parent(const struct world *world)
{
    return ptrace(PTRACE_SEIZE, world->parent, NULL, NULL) == 0;
}

static bool read_parent(const struct world *world)
{
    char byte = 0;
    struct iovec here = {&byte, 1};
    struct iovec there = {&byte, 1};
    return process_vm_readv(world->parent, &here, 1, &there, 1, 0) == 1;
}

static bool signal_parent(const struct world *world)
{
    return kill(world->parent, 0) == 0;
}

static bool signal_parent_s_thread(const struct world *world)
{
    return syscall(SYS_tgkill, world->parent, world->parent, 0) == 0;
}

static bool mount_something(const struct world *world)
{
    (void)world;
    return mount("none", "/tmp", "tmpfs", 0, NULL) == 0;
}

static bool leave_namespace(const struct world *world)
{
    (void)world;
    return unshare(CLONE_NEWUSER) == 0;
}

static bool load_program(const struct world *world)
{
    (void)world;
    return syscall(SYS_bpf, 0, NULL, 0) >= 0;
}

static bool own_ring(const struct world *world)
{
    (void)world;
    return syscall(SYS_io_uring_setup, 1, NULL) >= 0 || errno == EFAULT;
}

static bool become_root(const struct world *world)
{
    (void)world;
    return setresuid(0, 0, 0) == 0;
}

static bool become_dumpable(const struct world *world)
{
    (void)world;
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

static bool raise_limit(const struct world *world)
{
    (void)world;
    const struct rlimit limit = {1, 1};
    return setrlimit(RLIMIT_CORE, &limit) == 0;
}

static bool memory_that_is_program(const struct world *world)
{
    (void)world;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static bool memory_that_becomes_program(const struct world *world)
{
    (void)world;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(memory, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool a_file_of_memory(const struct world *world)
{
    (void)world;
    return memfd_create("x", 0) >= 0;
}

static bool local_socket(const struct world *world)
{
    (void)world;
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0;
}

static bool datagrams(const struct world *world)
{
    (void)world;
    return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0;
}

static bool packets(const struct world *world)
{
    (void)world;
    return socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) >= 0;
}

static bool streams_of_another_protocol(const struct world *world)
{
    (void)world;
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP) >= 0 ||
           errno == EPROTONOSUPPORT || errno == ENOPROTOOPT;
}

static bool listen_to(const struct world *world)
{
    return listen(world->pipe[0], 1) == 0 || errno == ENOTSOCK;
}

static bool bind_port(const struct world *world)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    return bind(world->pipe[0], (const struct sockaddr *)&any, sizeof(any)) == 0 ||
           errno == ENOTSOCK;
}

static bool be_signalled_for_others(const struct world *world)
{
    return fcntl(world->pipe[0], F_SETOWN, world->parent) == 0;
}

#if defined(__x86_64__)
static bool a_call_of_another_system(const struct world *world)
{
    (void)world;
    return syscall(0x40000000 + 39) >= 0 || errno == ENOSYS; /* x32's getpid */
}
#endif

/* ---- What some may do ---- */

static bool tcp_socket(const struct world *world)
{
    (void)world;
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) >= 0 &&
           socket(AF_INET6, SOCK_STREAM, 0) >= 0;
}

static bool connect_to(uint16_t port)
{
    struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    return fd >= 0 && setsockopt(fd, IPPROTO_TCP, 1, &on, sizeof(on)) == 0 &&
           connect(fd, (const struct sockaddr *)&there, sizeof(there)) == 0;
}

static bool connect_to_upstream(const struct world *world)
{
    return connect_to(world->port);
}

static bool connect_to_another_port(const struct world *world)
{
    return connect_to(world->foreign_port);
}

static bool accept_and_talk(const struct world *world)
{
    while (accept4(world->listener, NULL, NULL, SOCK_CLOEXEC) >= 0) {
        /* what other trials left */
    }
    if (!connect_to(world->port)) {
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN};
    int fd = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    char byte = 'x';
    struct iovec piece = {&byte, 1};
    socklen_t size = sizeof(int);
    int error = 0;
    return fd >= 0 && epoll_ctl(world->epoll, EPOLL_CTL_ADD, fd, &event) == 0 &&
           epoll_wait(world->epoll, &event, 1, 0) >= 0 && write(fd, &byte, 1) == 1 &&
           writev(fd, &piece, 1) == 1 && recv(fd, &byte, 1, 0) <= 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && shutdown(fd, SHUT_WR) == 0 &&
           close(fd) == 0;
}

static bool splice_pipes(const struct world *world)
{
    int made[2];
    (void)world;
    return pipe2(made, O_CLOEXEC | O_NONBLOCK) == 0 && fcntl(made[1], F_SETPIPE_SZ, 65536) > 0 &&
           fcntl(made[1], F_GETPIPE_SZ) > 0 && write(world->pipe[1], "abc", 3) == 3 &&
           splice(world->pipe[0], NULL, made[1], NULL, 3, SPLICE_F_MOVE) == 3;
}

static bool read_and_write(const struct world *world)
{
    char bytes[4];
    struct iovec pieces[2] = {{bytes, 2}, {bytes, 2}};
    struct stat status;
    return write(world->pipe[1], "ab", 2) == 2 && read(world->pipe[0], bytes, 2) == 2 &&
           writev(world->file, pieces, 2) == 4 && fstat(world->file, &status) == 0;
}

static bool memory(const struct world *world)
{
    (void)world;
    char *large = malloc(8 * 1024 * 1024);
    char *small = malloc(100);
    memset(large, 1, 8 * 1024 * 1024);
    char *larger = realloc(large, 16 * 1024 * 1024);
    bool there = larger != NULL && small != NULL && larger[100] == 1;
    free(larger);
    free(small);
    return there;
}

static bool shared_memory(const struct world *world)
{
    struct stat status;
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, world->file, 0);
    return mapped != MAP_FAILED && munmap(mapped, 4096) == 0 && fstat(world->file, &status) == 0 &&
           fcntl(world->pipe[0], F_DUPFD_CLOEXEC, 0) >= 0 && fcntl(world->file, F_GETFD) >= 0;
}

static bool time_and_date(const struct world *world)
{
    struct timespec now;
    struct tm day;
    (void)world;
    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 && gmtime_r(&now.tv_sec, &day) != NULL &&
           syscall(SYS_clock_gettime, CLOCK_REALTIME, &now) == 0;
}

static bool poll_for_a_moment(const struct world *world)
{
    struct pollfd polled = {.fd = world->pipe[0], .events = POLLIN};
    return poll(&polled, 1, 1) >= 0;
}

static bool message_elsewhere_than_the_channel(const struct world *world)
{
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    return recvmsg(world->pipe[0], &message, MSG_DONTWAIT) >= 0 || errno == ENOTSOCK;
}

/* TCP Fast Open connects where no rule for connect looks. */
static bool send_that_may_connect(const struct world *world)
{
    struct sockaddr_in upstream = {.sin_family = AF_INET,
                                   .sin_port = htons(world->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return sendto(fd, "x", 1, MSG_FASTOPEN, (const struct sockaddr *)&upstream, sizeof(upstream)) ==
               1 ||
           errno == EOPNOTSUPP;
}

/* It can bring a descriptor, and who closes that may be made to wait for it. */
static bool message_that_may_bring_something(const struct world *world)
{
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    (void)world;
    return sendmsg(SPAWN_FD_CHANNEL, &message, MSG_NOSIGNAL) == 1;
}

static bool message_on_the_channel(const struct world *world)
{
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    (void)world;
    return recvmsg(SPAWN_FD_CHANNEL, &message, MSG_DONTWAIT) < 0 && errno == EAGAIN &&
           write(SPAWN_FD_CHANNEL, &byte, 1) == 1;
}

static bool status_of_a_path(const struct world *world)
{
    struct stat status;
    (void)world;
    return syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &status, 0) == 0;
}

/* ---- Trying ---- */

struct trial {
    const char *name;
    attempt *attempt;
    unsigned allowed; /* enum processes */
    bool by_path;     /* AddressSanitizer tries the like, so that its builds only refuse it */
    bool own_death;   /* the attempt ends the process by SIGABRT where it is allowed */
};

static bool abort_oneself(const struct world *world)
{
    (void)world;
    abort();
}

#define TRIAL(attempt, allowed)                                                                    \
    {                                                                                              \
#attempt, attempt, allowed, false, false                                                   \
    }
#define TRIAL_BY_PATH(attempt, allowed)                                                            \
    {                                                                                              \
#attempt, attempt, allowed, true, false                                                    \
    }

static const struct trial trials[] = {
    TRIAL_BY_PATH(open_for_reading, COMPILER),
    TRIAL_BY_PATH(open_for_writing, 0),
    TRIAL(open_by_another_way, 0),
    TRIAL_BY_PATH(open_anew_by_number, 0),
    TRIAL(remove_file, 0),
    TRIAL(execute, 0),
    TRIAL(execute_descriptor, 0),
    TRIAL(fork_off, 0),
    TRIAL(start_thread, 0),
    TRIAL(trace_parent, 0),
    TRIAL(read_parent, 0),
    TRIAL(signal_parent, 0),
    TRIAL(signal_parent_s_thread, 0),
    TRIAL(mount_something, 0),
    TRIAL(leave_namespace, 0),
    TRIAL(load_program, 0),
    TRIAL(own_ring, 0),
    TRIAL(become_root, 0),
    TRIAL(become_dumpable, 0),
    TRIAL(raise_limit, 0),
    TRIAL(memory_that_is_program, COMPILER),
    TRIAL(memory_that_becomes_program, COMPILER),
    TRIAL(a_file_of_memory, 0),
    TRIAL(local_socket, COMPILER),
    TRIAL(datagrams, COMPILER),
    TRIAL(packets, 0),
    TRIAL(streams_of_another_protocol, COMPILER),
    TRIAL(listen_to, 0),
    TRIAL(bind_port, COMPILER),
    TRIAL(be_signalled_for_others, 0),
#if defined(__x86_64__)
    TRIAL(a_call_of_another_system, 0),
#endif
    TRIAL(tcp_socket, COMPILER | CONTROLLER | WORKER),
    TRIAL(connect_to_upstream, COMPILER | CONTROLLER | WORKER),
    TRIAL(accept_and_talk, CONTROLLER | WORKER),
    TRIAL(splice_pipes, WORKER),
    TRIAL(read_and_write, EVERY),
    TRIAL(memory, EVERY),
    TRIAL(shared_memory, EVERY),
    TRIAL(time_and_date, EVERY),
    TRIAL(poll_for_a_moment, EVERY),
    TRIAL(send_that_may_connect, COMPILER),
    TRIAL(message_that_may_bring_something, COMPILER),
    TRIAL(message_elsewhere_than_the_channel, CONTROLLER | WORKER | COMPILER),
    TRIAL(message_on_the_channel, EVERY),
    TRIAL(status_of_a_path, COMPILER),
    {"abort_oneself", abort_oneself, EVERY, false, true},
};

static int listen_on_loopback(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    int channel[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    if (channel[1] == SPAWN_FD_CHANNEL) {
        channel[1] = channel[0];
    } else if (channel[0] != SPAWN_FD_CHANNEL) {
        assert_int_equal(dup2(channel[0], SPAWN_FD_CHANNEL), SPAWN_FD_CHANNEL);
    }
    world->listener = listen_on_loopback(&world->port);
    world->foreign = listen_on_loopback(&world->foreign_port);
    assert_int_equal(pipe2(world->pipe, O_CLOEXEC), 0);
    world->epoll = epoll_create1(EPOLL_CLOEXEC);
    world->parent = getpid();
    world->file = memfd_create("log", MFD_CLOEXEC);
    assert_true(world->epoll >= 0 && world->file >= 0);
    assert_int_equal(ftruncate(world->file, 4096), 0);
    char text[128];
    (void)snprintf(text, sizeof(text),
                   "upstream \"u\" { target \"127.0.0.1:%u\" }\n"
                   "listener \"l\" { address \"127.0.0.1:1\" }\n"
                   "route \"r\" { upstream \"u\" }",
                   world->port);
    fixture_compile(&world->compiled, text);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    fixture_free(&world->compiled);
    close(world->listener);
    close(world->foreign);
    close(world->pipe[0]);
    close(world->pipe[1]);
    close(world->epoll);
    close(world->file);
    free(world);
    return 0;
}

/* As the children do, in their order. */
static bool enter(enum process_role role, const struct world *world)
{
    struct generation_account account = {
        .change = geteuid() == 0,
        .user = geteuid() == 0 ? 65534 : geteuid(),
        .group = geteuid() == 0 ? 65534 : getegid(),
    };
    enum status dropped =
        role == PROCESS_COMPILER ? privileges_keep_reading() : privileges_drop(&account);
    return dropped == OK && sandbox_enter(role, &world->compiled.generation) == OK;
}

/* The wait status of a process that enters and tries. */
static int try(enum process_role role, const struct world *world, attempt *what)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!enter(role, world)) {
            _exit(NOT_ENTERED);
        }
        _exit(what(world) ? DONE : REFUSED);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* The compiler may be told that it may not; everyone else does not live to hear it. */
static bool was_kept_from(enum process_role role, const struct trial *trial, int status)
{
    bool may_be_told = role == PROCESS_COMPILER || (SANITIZED && trial->by_path);
    return (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) ||
           (may_be_told && WIFEXITED(status) && WEXITSTATUS(status) == REFUSED);
}

static bool was_done(const struct trial *trial, int status)
{
    return trial->own_death ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT
                            : WIFEXITED(status) && WEXITSTATUS(status) == DONE;
}

static void each_role_does_what_it_must_and_nothing_else(void **state)
{
    const struct world *world = *state;
    struct sandbox_support support;
    sandbox_probe(&support);
    if (!sandbox_is_full(&support)) {
        print_message("this machine has no seccomp or no Landlock\n");
        skip();
    }
    unsigned wrong = 0;
    for (enum process_role role = 0; (unsigned)role < PROCESS_ROLE_COUNT; role++) {
        for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
            bool allowed = (trials[i].allowed & (1U << role)) != 0;
            int status = try(role, world, trials[i].attempt);
            if (allowed ? !was_done(&trials[i], status)
                        : !was_kept_from(role, &trials[i], status)) {
                print_message("role %d, %s: wait status %#x, %s\n", (int)role, trials[i].name,
                              (unsigned)status, allowed ? "should be allowed" : "should not be");
                wrong++;
            }
        }
    }
    assert_int_equal(wrong, 0);
}

static void only_ports_of_upstreams_can_be_connected_to(void **state)
{
    const struct world *world = *state;
    struct sandbox_support support;
    sandbox_probe(&support);
    if (support.landlock < SANDBOX_LANDLOCK_PORTS) {
        print_message("this kernel's Landlock has no rules for ports\n");
        skip();
    }
    assert_int_equal(try(PROCESS_WORKER, world, connect_to_another_port), REFUSED << 8);
    assert_int_equal(try(PROCESS_CONTROLLER, world, connect_to_another_port), REFUSED << 8);
}

/* A process that somebody who is not root has just started: only for him is there more to close. */
static bool begin_unprivileged(void)
{
    return geteuid() != 0 ||
           (setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
            setresuid(65534, 65534, 65534) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}

/* Whom the system gives what is in /proc/PID, when the process says that its sandbox is closed. */
static uid_t owner_in_proc(pid_t pid, const struct world *world)
{
    char byte = 0;
    char path[32];
    struct stat status;
    struct pollfd polled = {.fd = world->pipe[0], .events = POLLIN};
    assert_int_equal(poll(&polled, 1, 20000), 1);
    assert_int_equal(read(world->pipe[0], &byte, 1), 1);
    (void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    int failed = stat(path, &status);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(failed, 0);
    return status.st_uid;
}

/* Of a process that must not be looked into, that is root. */
static void no_other_process_of_the_user_sees_into_one(void **state)
{
    const struct world *world = *state;
    for (enum process_role role = 0; (unsigned)role < PROCESS_ROLE_COUNT; role++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            bool told =
                begin_unprivileged() && enter(role, world) && write(world->pipe[1], "x", 1) == 1;
            while (told) {
                (void)poll(NULL, 0, -1);
            }
            _exit(NOT_ENTERED);
        }
        assert_int_equal(owner_in_proc(pid, world), 0);
    }
}

/* Has calls fail as on a kernel, or in a container, that does not have them. */
static bool take_away(const int *calls, size_t count)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool taken = filter != NULL && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    for (size_t i = 0; i < count && taken; i++) {
        /* Filters are set, and asked for, by prctl as well. */
        taken = calls[i] == SCMP_SYS(seccomp)
                    ? seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1,
                                       SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP)) == 0
                    : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), calls[i], 0) == 0;
    }
    taken = taken && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return taken;
}

/* As try, where those calls do not exist. */
static int try_without(const int *calls, size_t count, enum process_role role,
                       const struct world *world, attempt *what)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!take_away(calls, count) || !enter(role, world)) {
            _exit(NOT_ENTERED);
        }
        _exit(what(world) ? DONE : REFUSED);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void one_wall_stands_without_the_other(void **state)
{
    const struct world *world = *state;
    static const int landlock[] = {SYS_landlock_create_ruleset, SYS_landlock_add_rule,
                                   SYS_landlock_restrict_self};
    static const int seccomp[] = {SYS_seccomp};
    struct sandbox_support support;
    sandbox_probe(&support);
    if (!sandbox_is_full(&support)) {
        print_message("this machine has no seccomp or no Landlock\n");
        skip();
    }
    int status = try_without(landlock, 3, PROCESS_WORKER, world, execute_descriptor);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    assert_int_equal(try_without(landlock, 3, PROCESS_COMPILER, world, open_for_writing),
                     REFUSED << 8);
    static const enum process_role serving[] = {PROCESS_LOGGER, PROCESS_CONTROLLER, PROCESS_WORKER};
    for (size_t i = 0; i < sizeof(serving) / sizeof(serving[0]); i++) {
        assert_int_equal(try_without(seccomp, 1, serving[i], world, open_for_reading),
                         REFUSED << 8);
    }
    assert_int_equal(try_without(seccomp, 1, PROCESS_COMPILER, world, open_for_reading), DONE);
    assert_int_equal(try_without(seccomp, 1, PROCESS_COMPILER, world, open_for_writing),
                     REFUSED << 8);
}

/* What is said of a machine that offers so much. */
static void log_missing(const struct sandbox_support *support, char *said, size_t size)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    int kept = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    sandbox_log_missing(support);
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    ssize_t got = read(ends[0], said, size - 1);
    said[got > 0 ? got : 0] = '\0';
    close(kept);
    close(ends[0]);
    close(ends[1]);
}

static void what_is_missing_is_said_in_a_line_each(void **state)
{
    (void)state;
    char said[2048];
    struct sandbox_support support = {.no_new_privs = true, .seccomp = true, .landlock = 7};
    log_missing(&support, said, sizeof(said));
    assert_string_equal(said, "");
    support.landlock = 2;
    log_missing(&support, said, sizeof(said));
    assert_non_null(strstr(said, "Landlock (version 2) knows files; ports and signals are left"));
    support.landlock = 4;
    log_missing(&support, said, sizeof(said));
    assert_non_null(strstr(said, "(version 4) knows files and ports; signals are left to seccomp"));
    support = (struct sandbox_support){.landlock_error = EOPNOTSUPP};
    log_missing(&support, said, sizeof(said));
    assert_non_null(strstr(said, "no no_new_privs"));
    assert_non_null(strstr(said, "children can make any system call"));
    assert_non_null(strstr(said, "no Landlock (it is not among the kernel's lsm= modules)"));
}

static void the_machine_says_what_it_offers(void **state)
{
    (void)state;
    struct sandbox_support support;
    sandbox_probe(&support);
    char text[1024] = "";
    FILE *stream = fmemopen(text, sizeof(text), "w");
    assert_non_null(stream);
    sandbox_print(stream, &support);
    (void)fclose(stream);
    assert_non_null(strstr(text, support.seccomp ? "seccomp         yes" : "seccomp         no"));
    assert_non_null(strstr(text, support.landlock > 0 ? "Landlock        yes, version "
                                                      : "Landlock        no"));
    support = (struct sandbox_support){.no_new_privs = true, .seccomp = true};
    assert_false(sandbox_is_full(&support));
    support.landlock = 1;
    assert_true(sandbox_is_full(&support));
    support.seccomp = false;
    assert_false(sandbox_is_full(&support));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_role_does_what_it_must_and_nothing_else),
        cmocka_unit_test(no_other_process_of_the_user_sees_into_one),
        cmocka_unit_test(only_ports_of_upstreams_can_be_connected_to),
        cmocka_unit_test(one_wall_stands_without_the_other),
        cmocka_unit_test(what_is_missing_is_said_in_a_line_each),
        cmocka_unit_test(the_machine_says_what_it_offers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
