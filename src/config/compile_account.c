/*
 * Whom the processes become: `user` and `group` of `server`; and which group the control socket
 * belongs to. Looked up here, in the compiler, so that a name nobody has is reported with its place
 * like every other mistake, and so that no other process reads the system's tables of accounts.
 */
#include <stdio.h>

#include "base/assert.h"
#include "config/compile_parts.h"

enum { NOBODY = 65534 }; /* the system's own number for it (Linux, overflowuid) */

/* What is used where nothing is written, the first that exists. */
static const char *const standard_users[] = {"sentinel", "nobody"};

static bool find_user(const struct compilation *compilation, struct span name,
                      struct account *account)
{
    const struct environment *environment = compilation->validator.environment;
    return environment->find_user != NULL && environment->find_user(name, account);
}

static bool find_group(const struct compilation *compilation, struct span name, uint32_t *group)
{
    const struct environment *environment = compilation->validator.environment;
    return environment->find_group != NULL && environment->find_group(name, group);
}

/* Reports that a process without the privilege was told to become another one. */
static void refuse_switch(struct compilation *compilation, const struct setting_value *value,
                          const char *key, const char *kind, uint32_t current)
{
    char help[COMPILE_HELP_MAX];
    (void)snprintf(help, sizeof(help), "start Sentinel as root, or leave `%s` out", key);
    COMPILE_ERROR(compilation, value->position, help,
                  "`%s` is \"%.*s\", but Sentinel was started with %s id %u and cannot change that",
                  key, SPAN_ARGS(value->text), kind, current);
}

static void refuse_unknown(struct compilation *compilation, const struct setting_value *value,
                           const char *key)
{
    COMPILE_ERROR(compilation, value->position,
                  "make it: adduser --system --group --no-create-home NAME",
                  "there is no %s \"%.*s\" on this machine", key, SPAN_ARGS(value->text));
}

/* The written user; false when there is none, or it was refused. */
static bool take_user(struct compilation *compilation, const struct section *section,
                      struct account *account)
{
    const struct environment *environment = compilation->validator.environment;
    const struct setting_value *value = section_value(section, KEY_SERVER_USER);
    if (value == NULL) {
        return false;
    }
    if (!find_user(compilation, value->text, account)) {
        refuse_unknown(compilation, value, "user");
    } else if (!environment->switches_user && account->user != environment->user) {
        refuse_switch(compilation, value, "user", "user", environment->user);
    } else if (environment->switches_user && account->user == 0) {
        COMPILE_ERROR(compilation, value->position,
                      "name an account that owns nothing, such as \"sentinel\" or \"nobody\"",
                      "`user` cannot be \"%.*s\": it is root", SPAN_ARGS(value->text));
    } else if (account->group == ACCOUNT_NO_GROUP &&
               section_value(section, KEY_SERVER_GROUP) == NULL) {
        COMPILE_ERROR(compilation, value->position, "write `group` as well",
                      "user \"%.*s\" has no entry on this machine that names its group",
                      SPAN_ARGS(value->text));
    } else {
        return true;
    }
    return false;
}

/* The group that a key names; *group stays where there is none, or it was refused. */
static void take_group(struct compilation *compilation, const struct section *section,
                       enum schema_key_id key, uint32_t *group)
{
    const struct environment *environment = compilation->validator.environment;
    const struct setting_value *value = section_value(section, key);
    uint32_t found = 0;
    if (value == NULL) {
        return;
    }
    if (!find_group(compilation, value->text, &found)) {
        refuse_unknown(compilation, value, "group");
    } else if (!environment->switches_user && found != environment->group) {
        refuse_switch(compilation, value, schema_key(key)->name, "group", environment->group);
    } else {
        *group = found;
    }
}

void compile_account(struct compilation *compilation, const struct section *section)
{
    const struct environment *environment = compilation->validator.environment;
    struct account account = {environment->user, environment->group};
    if (environment->switches_user) {
        account = (struct account){NOBODY, NOBODY};
        struct account found = {0};
        for (size_t i = 0; i < sizeof(standard_users) / sizeof(standard_users[0]); i++) {
            if (find_user(compilation, span_of_string(standard_users[i]), &found) &&
                found.user != 0 && found.group != ACCOUNT_NO_GROUP) {
                account = found;
                break;
            }
        }
    }
    struct account written = {0};
    if (take_user(compilation, section, &written)) {
        account = written;
    }
    take_group(compilation, section, KEY_SERVER_GROUP, &account.group);
    compilation->header.server.account = (struct generation_account){
        .change = environment->switches_user,
        .user = account.user,
        .group = account.group,
    };
}

void compile_control_group(struct compilation *compilation, const struct section *section)
{
    struct generation_server *server = &compilation->header.server;
    server->control_group = ACCOUNT_NO_GROUP;
    if (span_equal(section_text(section, KEY_SERVER_CONTROL_SOCKET), SPAN("off"))) {
        compile_refuse_setting(compilation, section, KEY_SERVER_CONTROL_GROUP,
                               "there is no control socket");
        return;
    }
    take_group(compilation, section, KEY_SERVER_CONTROL_GROUP, &server->control_group);
}
