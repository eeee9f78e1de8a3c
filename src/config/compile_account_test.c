#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/compile.h"

enum { ARENA_SIZE = 8 * 1024 * 1024 };

/* One compilation of a text. */
struct run {
    enum status status;
    struct generation_account account; /* when OK */
    uint32_t control_group;            /* likewise */
    char report[1024];
};

static bool find_user(struct span name, struct account *account)
{
    static const struct {
        const char *name;
        struct account account;
    } users[] = {
        {"nobody", {65533, 65532}},
        {"www", {33, 34}},
        {"toor", {0, 0}},
        {"4711", {4711, ACCOUNT_NO_GROUP}},
    };
    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
        if (span_equal(name, span_of_string(users[i].name))) {
            *account = users[i].account;
            return true;
        }
    }
    return false;
}

static bool find_sentinel(struct span name, struct account *account)
{
    *account = (struct account){990, 991};
    return span_equal(name, SPAN("sentinel")) || find_user(name, account);
}

static bool find_group(struct span name, uint32_t *group)
{
    *group = 34;
    return span_equal(name, SPAN("www"));
}

static const struct environment as_root = {
    .cores = 1,
    .switches_user = true,
    .find_user = find_user,
    .find_group = find_group,
};

static const struct environment as_www = {
    .cores = 1,
    .user = 33,
    .group = 34,
    .find_user = find_user,
    .find_group = find_group,
};

static struct run compile(const char *text, const struct environment *environment)
{
    struct run run = {0};
    void *memory = malloc(ARENA_SIZE);
    void *notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    struct diagnostics *diagnostics = calloc(1, sizeof(*diagnostics));
    struct arena arena;
    struct arena texts;
    arena_init(&arena, memory, ARENA_SIZE);
    arena_init(&texts, notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(diagnostics, &texts);
    struct compile_input input = {SPAN("t.kdl"), span_of_string(text), environment};
    struct span block = SPAN_EMPTY;
    run.status = compile_text(&input, diagnostics, &arena, &block);
    FILE *stream = fmemopen(run.report, sizeof(run.report), "w");
    assert_non_null(stream);
    diagnostics_print(diagnostics, stream);
    (void)fclose(stream);
    struct generation generation;
    if (run.status == OK) {
        assert_true(generation_open(&generation, block));
        run.account = generation.header->server.account;
        run.control_group = generation.header->server.control_group;
    }
    free(diagnostics);
    free(notes);
    free(memory);
    return run;
}

static void expect_account(const char *text, const struct environment *environment, bool change,
                           struct account account)
{
    struct run run = compile(text, environment);
    assert_string_equal(run.report, "");
    assert_int_equal(run.status, OK);
    assert_int_equal(run.account.change, change);
    assert_int_equal(run.account.user, account.user);
    assert_int_equal(run.account.group, account.group);
}

static void expect_error(const char *text, const struct environment *environment,
                         const char *message)
{
    struct run run = compile(text, environment);
    assert_int_equal(run.status, ERROR);
    if (strstr(run.report, message) == NULL) {
        fail_msg("not \"%s\" but:\n%s", message, run.report);
    }
}

static void root_becomes_sentinel_else_nobody_else_the_number_of_nobody(void **state)
{
    (void)state;
    struct environment world = as_root;
    world.find_user = find_sentinel;
    expect_account("", &world, true, (struct account){990, 991});
    expect_account("", &as_root, true, (struct account){65533, 65532});
    world.find_user = NULL;
    expect_account("", &world, true, (struct account){65534, 65534});
}

static void root_becomes_who_is_written(void **state)
{
    (void)state;
    expect_account("server { user \"www\" }", &as_root, true, (struct account){33, 34});
    expect_account("server { group \"www\" }", &as_root, true, (struct account){65533, 34});
    expect_account("server { user \"4711\"; group \"www\" }", &as_root, true,
                   (struct account){4711, 34});
}

static void accounts_that_are_not_there_are_refused_with_their_place(void **state)
{
    (void)state;
    expect_error("server {\n  user \"wwww\"\n}", &as_root,
                 "t.kdl:2:8: error: there is no user \"wwww\" on this machine");
    expect_error("server { group \"wwww\" }", &as_root, "there is no group \"wwww\"");
    expect_error("server { user \"4711\" }", &as_root, "write `group` as well");
}

static void nobody_serves_as_root(void **state)
{
    (void)state;
    expect_error("server { user \"toor\" }", &as_root, "`user` cannot be \"toor\": it is root");
}

static void whoever_is_not_root_stays_who_he_is(void **state)
{
    (void)state;
    expect_account("", &as_www, false, (struct account){33, 34});
    expect_account("server { user \"www\"; group \"www\" }", &as_www, false,
                   (struct account){33, 34});
    expect_error("server { user \"nobody\" }", &as_www,
                 "t.kdl:1:15: error: `user` is \"nobody\", but Sentinel was started with user id "
                 "33 and cannot change that");
    struct environment other = as_www;
    other.group = 7;
    expect_error("server { group \"www\" }", &other,
                 "`group` is \"www\", but Sentinel was started with group id 7");
}

static void the_control_socket_is_given_to_another_group_by_root_only(void **state)
{
    (void)state;
    struct run run = compile("", &as_root);
    assert_int_equal(run.control_group, ACCOUNT_NO_GROUP);
    run = compile("server { control-group \"www\" }", &as_root);
    assert_int_equal(run.status, OK);
    assert_int_equal(run.control_group, 34);
    assert_int_equal(run.account.group, 65532);
    run = compile("server { control-group \"www\" }", &as_www);
    assert_int_equal(run.control_group, 34);
    struct environment other = as_www;
    other.group = 7;
    expect_error(
        "server { control-group \"www\" }", &other,
        "t.kdl:1:24: error: `control-group` is \"www\", but Sentinel was started with group "
        "id 7");
    expect_error("server { control-group \"wwww\" }", &as_root, "there is no group \"wwww\"");
    expect_error("server { control-socket \"off\"; control-group \"www\" }", &as_root,
                 "there is no control socket");
}

static void the_system_s_accounts_are_found_by_name_and_number(void **state)
{
    (void)state;
    struct environment world = environment_of_system(NULL);
    struct account account;
    uint32_t group = 0;
    assert_true(world.find_user(SPAN("root"), &account) && account.user == 0);
    assert_true(world.find_user(SPAN("0"), &account) && account.group == 0);
    assert_true(world.find_user(SPAN("3999999999"), &account));
    assert_int_equal(account.user, 3999999999u);
    assert_int_equal(account.group, ACCOUNT_NO_GROUP);
    assert_true(world.find_group(SPAN("root"), &group) && group == 0);
    assert_true(world.find_group(SPAN("3999999999"), &group) && group == 3999999999u);
    static const char *const wrong[] = {"no-such-account",      "4294967295", "4294967296",
                                        "99999999999999999999", "-1",         ""};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(world.find_user(span_of_string(wrong[i]), &account));
        assert_false(world.find_group(span_of_string(wrong[i]), &group));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(root_becomes_sentinel_else_nobody_else_the_number_of_nobody),
        cmocka_unit_test(root_becomes_who_is_written),
        cmocka_unit_test(accounts_that_are_not_there_are_refused_with_their_place),
        cmocka_unit_test(nobody_serves_as_root),
        cmocka_unit_test(whoever_is_not_root_stays_who_he_is),
        cmocka_unit_test(the_control_socket_is_given_to_another_group_by_root_only),
        cmocka_unit_test(the_system_s_accounts_are_found_by_name_and_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
