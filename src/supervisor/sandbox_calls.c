/*
 * seccomp, by libseccomp: the rows of sandbox.def become one filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/sandbox_parts.h"
#include "supervisor/spawn.h"

enum argument {
    ANY,
    CHANNEL,
    OWN_PROCESS,
    STREAM,
    NOT_EXECUTABLE,
    DESCRIPTOR,
    READ_ONLY,
    GET_STATE,
    OWN_STATE,
    FLAGS,
    ONE_WAY,
    OPTION,
};

struct row {
    int call;
    unsigned processes;
    enum argument argument;
    bool refuse;
};

#if defined(__SANITIZE_ADDRESS__)
#define SENTINEL_SANITIZED
#endif

static const struct row rows[] = {
#define CALL(name, processes, argument) {SCMP_SYS(name), processes, argument, false},
#define REFUSE(name, processes) {SCMP_SYS(name), processes, ANY, true},
#include "supervisor/sandbox.def"
#undef CALL
#undef REFUSE
};

enum { COMPARISONS_MAX = 3 };

/* What the filter compares arguments with; several ways to be allowed are several rules. */
struct rule {
    unsigned count;
    struct scmp_arg_cmp comparisons[COMPARISONS_MAX];
};

static int add(scmp_filter_ctx filter, int call, const struct rule *rule)
{
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, rule->count, rule->comparisons);
}

/* libseccomp's own macros are not C17. Arguments count from 0; only their low 32 bits matter. */
static struct scmp_arg_cmp masked(unsigned argument, uint32_t mask, uint32_t value)
{
    return (struct scmp_arg_cmp){argument, SCMP_CMP_MASKED_EQ, mask, value};
}

static struct scmp_arg_cmp equal(unsigned argument, uint32_t value)
{
    return masked(argument, UINT32_MAX, value);
}

/* A pointer, all of it. */
static struct scmp_arg_cmp null(unsigned argument)
{
    return (struct scmp_arg_cmp){argument, SCMP_CMP_EQ, 0, 0};
}

static struct rule one(struct scmp_arg_cmp comparison)
{
    return (struct rule){.count = 1, .comparisons = {comparison}};
}

static bool has_unix_endpoint(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->endpoints.count; i++) {
        if (generation_endpoint(generation, i)->address.family == ADDRESS_UNIX) {
            return true;
        }
    }
    return false;
}

/*
 * AF_INET and AF_INET6, AF_UNIX only where an endpoint is one, with or without the flags that a
 * socket can be born with. Their streams can also be of MPTCP or SCTP, whose connections Landlock's
 * rules for ports do not know.
 */
static int add_sockets(scmp_filter_ctx filter, int call, const struct generation *generation)
{
    static const unsigned families[] = {AF_INET, AF_INET6, AF_UNIX};
    const size_t count = has_unix_endpoint(generation) ? 3 : 2;
    const uint32_t kind = ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (size_t i = 0; i < count; i++) {
        struct rule rule = {
            .count = 3,
            .comparisons = {equal(0, families[i]), masked(1, kind, SOCK_STREAM), equal(2, 0)}};
        int result = add(filter, call, &rule);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* Of the commands, those that neither lock, nor lease, nor have signals sent to somebody. */
static int add_descriptor_commands(scmp_filter_ctx filter, int call)
{
    static const unsigned commands[] = {F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,      F_GETFL,
                                        F_GET_SEALS,     F_ADD_SEALS, F_GETPIPE_SZ, F_SETPIPE_SZ};
    int result = 0;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]) && result == 0; i++) {
        struct rule rule = one(equal(1, commands[i]));
        result = add(filter, call, &rule);
    }
    return result;
}

static int add_options(scmp_filter_ctx filter, int call)
{
    const struct rule no_delay = {2, {equal(1, IPPROTO_TCP), equal(2, TCP_NODELAY)}};
    const struct rule linger = {2, {equal(1, SOL_SOCKET), equal(2, SO_LINGER)}};
    int result = add(filter, call, &no_delay);
    return result != 0 ? result : add(filter, call, &linger);
}

/* Where the flags of opening stand: open has them one place before openat. */
static struct rule reading(int call)
{
    const uint32_t writing = O_ACCMODE | O_CREAT | O_TRUNC;
    return call == SCMP_SYS(open) ? one(masked(1, writing, O_RDONLY))
                                  : one(masked(2, writing, O_RDONLY));
}

/* prlimit64 without new limits, prctl with the question whether there is a filter. */
static struct rule asking(int call)
{
    return call == SCMP_SYS(prlimit64) ? one(null(2)) : one(equal(0, PR_GET_SECCOMP));
}

static int add_row(scmp_filter_ctx filter, const struct row *row,
                   const struct generation *generation)
{
    struct rule rule = {0};
    switch (row->argument) {
    case ANY:
        break;
    case CHANNEL:
        rule = one(equal(0, SPAWN_FD_CHANNEL));
        break;
    case OWN_PROCESS:
        rule = one(equal(0, (uint32_t)getpid()));
        break;
    case STREAM:
        return add_sockets(filter, row->call, generation);
    case NOT_EXECUTABLE:
        rule = one(masked(2, PROT_EXEC, 0));
        break;
    case DESCRIPTOR:
        rule = one(equal(3, AT_EMPTY_PATH));
        break;
    case READ_ONLY:
        rule = reading(row->call);
        break;
    case GET_STATE:
        rule = asking(row->call);
        break;
    case FLAGS:
        rule = one(equal(1, F_SETFL));
        break;
    case ONE_WAY:
        rule = one(equal(1, SHUT_WR));
        break;
    case OPTION:
        return add_options(filter, row->call);
    case OWN_STATE:
        return add_descriptor_commands(filter, row->call);
    }
    return add(filter, row->call, &rule);
}

static int set_up(scmp_filter_ctx filter, enum process_role role,
                  const struct generation *generation)
{
    /*
     * No process of ours runs code that a peer could choose, so that the mitigations against
     * speculation, which older kernels tie to a filter and which cost every call, are not asked
     * for. A tree finds the rows that need a look at arguments quickly.
     */
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    if (result == -EOPNOTSUPP) {
        result = 0; /* a kernel that cannot be asked */
    }
    if (result == 0) {
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && result == 0; i++) {
        if ((rows[i].processes & (1U << role)) == 0) {
            continue;
        }
        result = rows[i].refuse
                     ? seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EACCES), rows[i].call, 0, NULL)
                     : add_row(filter, &rows[i], generation);
    }
    return result == 0 ? seccomp_load(filter) : result;
}

enum status sandbox_deny_calls(enum process_role role, const struct generation *generation)
{
    ASSERT((unsigned)role < PROCESS_ROLE_COUNT);
    /*
     * Nobody can list what the modules of a machine's name services call, and a configuration must
     * not become unreadable by one that looks around: in the compiler what is not allowed fails.
     */
    uint32_t otherwise = role == PROCESS_COMPILER ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS;
    scmp_filter_ctx filter = seccomp_init(otherwise);
    if (filter == NULL) {
        errno = ENOMEM;
        return ERROR;
    }
    int result = set_up(filter, role, generation);
    seccomp_release(filter);
    errno = -result;
    return result == 0 ? OK : ERROR;
}
