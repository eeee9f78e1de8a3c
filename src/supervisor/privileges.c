#include "supervisor/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "observe/log.h"

enum { CAPABILITY_WORDS = _LINUX_CAPABILITY_U32S_3 };

/* The C library has no functions for these. */
static enum status get_capabilities(struct __user_cap_data_struct words[CAPABILITY_WORDS])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, words) == 0 ? OK : ERROR;
}

/*
 * Keeps, of the capabilities that are there, those of the mask (of the first word). None stays
 * inheritable, and so, by the kernel's rule, none ambient.
 */
static enum status keep_capabilities(uint32_t mask)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct words[CAPABILITY_WORDS] = {{0}};
    if (get_capabilities(words) != OK) {
        return ERROR;
    }
    uint32_t kept = words[0].permitted & mask;
    for (int i = 0; i < CAPABILITY_WORDS; i++) {
        words[i] = (struct __user_cap_data_struct){0};
    }
    words[0].permitted = kept;
    words[0].effective = kept;
    return syscall(SYS_capset, &header, words) == 0 ? OK : ERROR;
}

static enum status become(const struct generation_account *account)
{
    if (setgroups(0, NULL) != 0 || setresgid(account->group, account->group, account->group) != 0) {
        return ERROR;
    }
    return setresuid(account->user, account->user, account->user) == 0 ? OK : ERROR;
}

/* Looks at what has been done, and tries to undo it. */
static bool is_final(const struct generation_account *account)
{
    uid_t users[3];
    gid_t groups[3];
    if (getresuid(&users[0], &users[1], &users[2]) != 0 ||
        getresgid(&groups[0], &groups[1], &groups[2]) != 0) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (users[i] != account->user || groups[i] != account->group) {
            return false;
        }
    }
    struct __user_cap_data_struct words[CAPABILITY_WORDS] = {{0}};
    if (get_capabilities(words) != OK) {
        return false;
    }
    for (int i = 0; i < CAPABILITY_WORDS; i++) {
        if (words[i].permitted != 0 || words[i].effective != 0 || words[i].inheritable != 0) {
            return false;
        }
    }
    bool no_groups = account->change == 0 || getgroups(0, NULL) == 0;
    return no_groups && setresuid(0, 0, 0) != 0 && (account->group == 0 || setgid(0) != 0);
}

enum status privileges_drop(const struct generation_account *account)
{
    if (account->change == 0 && geteuid() == 0) {
        log_message(LOG_ERROR, "the configuration was compiled for another user than root");
        return ERROR;
    }
    if (account->change != 0 && become(account) != OK) {
        log_message(LOG_ERROR, "cannot become user %u and group %u: %s%s", account->user,
                    account->group, strerror(errno),
                    errno == EPERM ? "; root needs CAP_SETUID and CAP_SETGID for that, or start "
                                     "Sentinel as that user"
                                   : "");
        return ERROR;
    }
    if (keep_capabilities(0) != OK) {
        log_message(LOG_ERROR, "cannot drop capabilities: %s", strerror(errno));
        return ERROR;
    }
    if (!is_final(account)) {
        log_message(LOG_ERROR, "privileges were dropped, but not for good");
        return ERROR;
    }
    /* Before any private key is read, and not before: a new user makes a process dumpable again. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        log_message(LOG_ERROR, "cannot become undumpable: %s", strerror(errno));
        return ERROR;
    }
    return OK;
}

enum status privileges_keep_reading(void)
{
    if (keep_capabilities(UINT32_C(1) << CAP_DAC_READ_SEARCH) != OK) {
        log_message(LOG_ERROR, "cannot drop capabilities: %s", strerror(errno));
        return ERROR;
    }
    return OK;
}
