/* Processes that begin with more than they may keep: groups, and capabilities of each kind. */
#include "supervisor/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { NOBODY = 65534, WORDS = _LINUX_CAPABILITY_U32S_3 };

typedef bool scenario(void);

/* Runs it in a process of its own, since there is no way back. */
static void expect(scenario *told)
{
    if (geteuid() != 0) {
        print_message("only root has something to drop\n");
        skip();
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(told() ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static bool get(struct __user_cap_data_struct words[WORDS])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, words) == 0;
}

/* Makes what is permitted inheritable, and so what a program that is executed could get. */
static bool make_inheritable(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct words[WORDS];
    if (!get(words)) {
        return false;
    }
    for (int i = 0; i < WORDS; i++) {
        words[i].inheritable = words[i].permitted;
    }
    return syscall(SYS_capset, &header, words) == 0;
}

/* Whether these are permitted and effective, and no others of any kind. */
static bool has_only(uint32_t capabilities)
{
    struct __user_cap_data_struct words[WORDS];
    bool only = get(words) && words[0].permitted == capabilities &&
                words[0].effective == capabilities && words[1].permitted == 0 &&
                words[1].effective == 0 && words[0].inheritable == 0 && words[1].inheritable == 0;
    return only && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 0;
}

static const struct generation_account nobody = {.change = 1, .user = NOBODY, .group = NOBODY};
static const struct generation_account unchanged = {.user = NOBODY, .group = NOBODY};

static bool root_with_groups(void)
{
    const gid_t groups[] = {1, 4, 27};
    return setgroups(3, groups) == 0 && make_inheritable() && privileges_drop(&nobody) == OK &&
           getgroups(0, NULL) == 0 && getegid() == NOBODY && has_only(0) && setuid(0) != 0 &&
           prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/* As a service manager starts who may bind low ports: AmbientCapabilities=CAP_NET_BIND_SERVICE. */
static bool become_user_with_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct words[WORDS] = {{0}};
    words[0].permitted = UINT32_C(1) << CAP_NET_BIND_SERVICE;
    words[0].effective = words[0].permitted;
    words[0].inheritable = words[0].permitted;
    return setgroups(0, NULL) == 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 &&
           setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
           syscall(SYS_capset, &header, words) == 0 &&
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0;
}

static bool user_with_capability(void)
{
    return become_user_with_capability() && !has_only(0) && privileges_drop(&unchanged) == OK &&
           has_only(0) && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
}

static bool user_who_compiles(void)
{
    return become_user_with_capability() && privileges_keep_reading() == OK && has_only(0);
}

static bool root_who_compiles(void)
{
    return make_inheritable() && privileges_keep_reading() == OK &&
           has_only(UINT32_C(1) << CAP_DAC_READ_SEARCH) && geteuid() == 0;
}

static bool root_that_would_stay_root(void)
{
    const struct generation_account root = {0};
    return privileges_drop(&root) == ERROR && privileges_drop(&unchanged) == ERROR;
}

static bool user_who_would_become_another(void)
{
    const struct generation_account another = {.change = 1, .user = 1, .group = 1};
    const struct generation_account other_user = {.user = 1, .group = NOBODY};
    const struct generation_account other_group = {.user = NOBODY, .group = 1};
    return become_user_with_capability() && privileges_drop(&another) == ERROR &&
           privileges_drop(&other_user) == ERROR && privileges_drop(&other_group) == ERROR;
}

static void a_child_of_root_keeps_no_group_and_no_capability(void **state)
{
    (void)state;
    expect(root_with_groups);
}

static void a_user_s_capabilities_stay_with_the_supervisor(void **state)
{
    (void)state;
    expect(user_with_capability);
    expect(user_who_compiles);
}

static void root_s_compiler_may_read_and_nothing_more(void **state)
{
    (void)state;
    expect(root_who_compiles);
}

static void nobody_serves_as_root_or_as_another_than_was_configured(void **state)
{
    (void)state;
    expect(root_that_would_stay_root);
    expect(user_who_would_become_another);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_of_root_keeps_no_group_and_no_capability),
        cmocka_unit_test(a_user_s_capabilities_stay_with_the_supervisor),
        cmocka_unit_test(root_s_compiler_may_read_and_nothing_more),
        cmocka_unit_test(nobody_serves_as_root_or_as_another_than_was_configured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
