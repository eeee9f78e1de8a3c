/*
 * Landlock. The C library has no functions for it, and its header is younger than some kernels, so
 * that the calls, the struct and the bits stand here as the kernel documents them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor/sandbox_parts.h"

/* struct landlock_ruleset_attr of version 6; older kernels take it where what is newer is 0. */
struct ruleset {
    uint64_t files;
    uint64_t ports;
    uint64_t scopes;
};

struct port_rule {
    uint64_t allowed;
    uint64_t port;
};

enum {
    RULE_PORT = 2,
    PORT_BIND = 1,
    PORT_CONNECT = 2,
    SCOPE_ABSTRACT_SOCKETS = 1,
    SCOPE_SIGNALS = 2,
    FILES_FIRST = (1 << 13) - 1, /* the rights of version 1 */
    FILES_REFER = 1 << 13,       /* 2 */
    FILES_TRUNCATE = 1 << 14,    /* 3 */
    FILES_DEVICES = 1 << 15,     /* 5 */
};

static struct ruleset everything(int version)
{
    uint64_t files = FILES_FIRST;
    files |= version >= 2 ? FILES_REFER : 0;
    files |= version >= 3 ? FILES_TRUNCATE : 0;
    files |= version >= 5 ? FILES_DEVICES : 0;
    return (struct ruleset){
        .files = files,
        .ports = version >= SANDBOX_LANDLOCK_PORTS ? PORT_BIND | PORT_CONNECT : 0,
        .scopes = version >= SANDBOX_LANDLOCK_SCOPES ? SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS : 0,
    };
}

int sandbox_landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? (int)version : 0;
}

/* A worker connects to endpoints, the controller checks them: to no other port. */
static enum status allow_endpoints(int rules, const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->endpoints.count; i++) {
        const struct generation_endpoint *endpoint = generation_endpoint(generation, i);
        if (endpoint->address.family == ADDRESS_UNIX) {
            continue; /* not restricted up to version 8: their modes say who may connect */
        }
        struct port_rule rule = {.allowed = PORT_CONNECT, .port = endpoint->address.port};
        if (syscall(SYS_landlock_add_rule, rules, RULE_PORT, &rule, 0) != 0) {
            return ERROR;
        }
    }
    return OK;
}

/* The compiler reads: which files, and which libraries of name services, only the machine knows. */
static enum status allow_reading(int rules)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        return ERROR;
    }
    struct landlock_path_beneath_attr rule = {
        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
        .parent_fd = root,
    };
    long added = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    int error = errno;
    (void)close(root);
    errno = error;
    return added == 0 ? OK : ERROR;
}

static enum status allow(int rules, const struct ruleset *ruleset, enum process_role role,
                         const struct generation *generation)
{
    switch (role) {
    case PROCESS_COMPILER:
        return allow_reading(rules);
    case PROCESS_LOGGER:
        return OK;
    case PROCESS_CONTROLLER:
    case PROCESS_WORKER:
        return ruleset->ports != 0 ? allow_endpoints(rules, generation) : OK;
    }
    return ERROR;
}

enum status sandbox_deny_files(int version, enum process_role role,
                               const struct generation *generation)
{
    struct ruleset ruleset = everything(version);
    if (role == PROCESS_COMPILER) {
        ruleset.ports &= ~(uint64_t)PORT_CONNECT; /* name servers and directories have any port */
        ruleset.scopes &= ~(uint64_t)SCOPE_ABSTRACT_SOCKETS;
    }
    int rules = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
    if (rules < 0) {
        return ERROR;
    }
    enum status status = allow(rules, &ruleset, role, generation);
    if (status == OK && syscall(SYS_landlock_restrict_self, rules, 0) != 0) {
        status = ERROR;
    }
    int error = errno;
    (void)close(rules);
    errno = error;
    return status;
}
