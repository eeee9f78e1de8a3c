#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/compile.h"

/* One run of the compiler with all it needs, in memory of its own. */
struct run {
    void *memory;
    void *notes;
    struct arena arena;
    struct arena diagnostics_arena;
    struct diagnostics diagnostics;
    struct environment environment;
    enum status status;
    struct generation generation;
    char *report;
    size_t report_size;
};

enum { TEST_ARENA_SIZE = 24 * 1024 * 1024 };

static size_t resolve_for_test(struct span host, uint16_t port,
                               struct address addresses[ENVIRONMENT_ADDRESSES_MAX])
{
    bool one = span_equal(host, SPAN("one.test"));
    bool two = span_equal(host, SPAN("two.test"));
    assert_true(address_parse(SPAN("192.0.2.1:1"), &addresses[0]));
    assert_true(address_parse(SPAN("[2001:db8::1]:1"), &addresses[1]));
    addresses[0].port = port;
    addresses[1].port = port;
    return one ? 1 : two ? 2 : 0;
}

static struct run *run_begin(const char *const *variables)
{
    struct run *run = calloc(1, sizeof(*run));
    assert_non_null(run);
    run->memory = malloc(TEST_ARENA_SIZE);
    run->notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    arena_init(&run->arena, run->memory, TEST_ARENA_SIZE);
    arena_init(&run->diagnostics_arena, run->notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(&run->diagnostics, &run->diagnostics_arena);
    run->environment = (struct environment){
        .variables = variables,
        .cores = 3,
        .resolve = resolve_for_test,
    };
    return run;
}

static void run_conclude(struct run *run, struct span block)
{
    FILE *stream = open_memstream(&run->report, &run->report_size);
    assert_non_null(stream);
    diagnostics_print(&run->diagnostics, stream);
    (void)fclose(stream);
    if (run->status == OK) {
        assert_int_equal(run->diagnostics.errors, 0);
        assert_true(generation_open(&run->generation, block));
    } else {
        assert_true(run->diagnostics.errors > 0);
    }
}

static struct run *run_text(const char *text, const char *const *variables)
{
    struct span block = SPAN_EMPTY;
    struct run *run = run_begin(variables);
    struct compile_input input = {
        .name = SPAN("t.kdl"),
        .text = span_of_string(text),
        .environment = &run->environment,
    };
    run->status = compile_text(&input, &run->diagnostics, &run->arena, &block);
    run_conclude(run, block);
    return run;
}

static void run_end(struct run *run)
{
    free(run->report);
    free(run->notes);
    free(run->memory);
    free(run);
}

/* The text must load without any complaint. */
static struct run *run_good(const char *text)
{
    struct run *run = run_text(text, NULL);
    assert_string_equal(run->report, "");
    assert_int_equal(run->status, OK);
    return run;
}

static void assert_text(const struct run *run, struct ref ref, const char *text)
{
    struct span got = generation_text(&run->generation, ref);
    assert_int_equal(got.size, strlen(text));
    assert_memory_equal(got.data, text, got.size);
}

/*
 * ---- What is refused, in which words ----
 *
 * Each tests/config_reports/NAME.txt is the whole report on tests/corpus/compile/NAME.kdl, as a
 * user reads it. The texts also seed the compiler's fuzzer.
 */

enum { REPORTS_MAX = 256, REPORTS_MIN = 100, PATH_SIZE = 512 };

#define REPORTS SENTINEL_SOURCE_DIR "/tests/config_reports/"
#define TEXTS SENTINEL_SOURCE_DIR "/tests/corpus/compile/"

/* The contents of a file, NUL-terminated; the caller frees it. */
static char *read_whole(const char *folder, const char *name, const char *extension)
{
    char path[PATH_SIZE];
    char *text = NULL;
    size_t size = 0;
    int length = snprintf(path, sizeof(path), "%s%s%s", folder, name, extension);
    assert_true(length > 0 && length < PATH_SIZE);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fail_msg("cannot read %s", path);
    }
    if (getdelim(&text, &size, '\0', file) < 0) {
        fail_msg("%s is empty", path);
    }
    (void)fclose(file);
    return text;
}

static void is_reported_in_these_words(void **state)
{
    const char *name = *state;
    char *text = read_whole(TEXTS, name, ".kdl");
    char *report = read_whole(REPORTS, name, ".txt");
    struct run *run = run_text(text, NULL);
    assert_string_equal(run->report, report);
    assert_true((run->status == OK) == (run->diagnostics.errors == 0));
    run_end(run);
    free(report);
    free(text);
}

static int is_report(const struct dirent *entry)
{
    struct span name = span_of_string(entry->d_name);
    return span_ends_with(name, SPAN(".txt"));
}

/* One test for each report in the folder. */
static int run_reports(void)
{
    static struct CMUnitTest tests[REPORTS_MAX];
    struct dirent **entries = NULL;
    int count = scandir(REPORTS, &entries, is_report, alphasort);
    if (count < REPORTS_MIN || count > REPORTS_MAX) {
        (void)fprintf(stderr, "%d reports in %s\n", count, REPORTS);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        char *name = entries[i]->d_name;
        name[strlen(name) - strlen(".txt")] = '\0';
        tests[i] = (struct CMUnitTest){
            .name = name,
            .test_func = is_reported_in_these_words,
            .initial_state = name,
        };
    }
    int failed = _cmocka_run_group_tests("reports", tests, (size_t)count, NULL, NULL);
    for (int i = 0; i < count; i++) {
        free(entries[i]);
    }
    free(entries);
    return failed;
}

/* ---- What is accepted, and what it becomes ---- */

static const char promised_sample[] = "// sentinel.kdl\n"
                                      "server {\n"
                                      "    workers 4\n"
                                      "    max-connections 10000\n"
                                      "    graceful-shutdown-timeout 30s\n"
                                      "}\n"
                                      "\n"
                                      "listener \"http\" {\n"
                                      "    address \"0.0.0.0:8080\"\n"
                                      "    protocol \"http\"\n"
                                      "}\n"
                                      "\n"
                                      "upstream \"backend\" {\n"
                                      "    target \"10.0.1.10:8080\" weight=1\n"
                                      "    target \"10.0.1.11:8080\" weight=1\n"
                                      "\n"
                                      "    health-check {\n"
                                      "        type \"http\" path=\"/health\"\n"
                                      "        interval 10s\n"
                                      "        timeout 5s\n"
                                      "    }\n"
                                      "\n"
                                      "    load-balancing \"round_robin\"\n"
                                      "}\n"
                                      "\n"
                                      "route \"api\" {\n"
                                      "    match path-prefix=\"/api\"\n"
                                      "    upstream \"backend\"\n"
                                      "\n"
                                      "    policies {\n"
                                      "        timeout 30s\n"
                                      "        retry-policy {\n"
                                      "            max-attempts 3\n"
                                      "            timeout 10s\n"
                                      "        }\n"
                                      "        failure-mode \"closed\"  // Security-first\n"
                                      "    }\n"
                                      "}\n";

static void the_promised_sample_loads_as_written(void **state)
{
    (void)state;
    struct run *run = run_good(promised_sample);
    const struct generation_header *header = run->generation.header;
    const struct generation_upstream *upstream = generation_upstream(&run->generation, 0);
    const struct generation_route *route = generation_route(&run->generation, 0);
    assert_int_equal(header->server.workers, 4);
    assert_int_equal(header->server.connections, 10000);
    assert_int_equal(header->server.shutdown_timeout, 30000000);
    assert_int_equal(header->listeners.count, 1);
    assert_int_equal(generation_listener(&run->generation, 0)->address.port, 8080);
    assert_int_equal(generation_listener(&run->generation, 0)->place.line, 8);
    assert_text(run, generation_listener(&run->generation, 0)->place.file, "t.kdl");
    assert_int_equal(header->endpoints.count, 2);
    assert_int_equal(upstream->health, HEALTH_HTTP);
    assert_int_equal(upstream->health_interval, 10000000);
    assert_int_equal(upstream->health_timeout, 5000000);
    assert_text(run, upstream->health_path, "/health");
    assert_text(run, generation_endpoint(&run->generation, 1)->text, "10.0.1.11:8080");
    assert_int_equal(route->attempts, 3);
    assert_int_equal(route->try_timeout, 10000000);
    assert_int_equal(route->timeout, 30000000);
    assert_int_equal(route->place.line, 26);
    run_end(run);
}

static void an_empty_file_means_the_built_in_parts(void **state)
{
    (void)state;
    static const char *const variables[] = {"SENTINEL_LISTEN=127.0.0.1:1", NULL};
    struct run *run = run_text("server { workers 2 }", variables);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->generation.header->server.workers, 2);
    assert_int_equal(generation_listener(&run->generation, 0)->address.port, 8080);
    assert_int_equal(generation_listener(&run->generation, 0)->place.file.count, 0);
    assert_text(run, generation_endpoint(&run->generation, 0)->text, "127.0.0.1:8081");
    assert_int_equal(generation_endpoint(&run->generation, 0)->host.count, 0);
    run_end(run);
}

static void a_log_without_listeners_still_has_its_place(void **state)
{
    (void)state;
    struct run *run = run_good("server { workers 2 }\n\nobservability { access-log \"/x\" }\n");
    const struct generation_server *server = &run->generation.header->server;
    assert_text(run, server->access_log, "/x");
    assert_text(run, server->access_log_place.file, "t.kdl");
    assert_int_equal(server->access_log_place.line, 3);
    run_end(run);
}

static void workers_by_cores_are_no_more_than_what_they_share(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "server { limits { max-requests 2 } }",
        "server { max-connections 1; limits { max-upstream-connections 2; max-requests 3 } }",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct run *run = run_good(texts[i]); /* on 3 cores */
        assert_int_equal(run->generation.header->server.workers, 2);
        run_end(run);
    }
}

static void defaults_are_those_of_the_design(void **state)
{
    (void)state;
    struct run *run = run_good("");
    const struct generation_server *server = &run->generation.header->server;
    const struct generation_timeouts *timeouts = &server->timeouts;
    const struct generation_route *route = generation_route(&run->generation, 0);
    assert_int_equal(server->workers, 3); /* one per core of the test's world */
    assert_int_equal(server->connections, 10000);
    assert_int_equal(server->admin.port, 9090);
    assert_int_equal(server->merge_slashes, 1);
    assert_text(run, server->access_log, "stdout");
    assert_int_equal(server->limits.header_fields, 100);
    assert_int_equal(server->limits.head_size, 8192);
    assert_int_equal(server->limits.buffer_pool, 32 * 1024 * 1024);
    assert_int_equal(timeouts->request_head, 10000000);
    assert_int_equal(timeouts->request_body_min_rate, 240);
    assert_int_equal(timeouts->upstream_keep_alive, 4000000);
    assert_int_equal(route->body_size, 10 * 1024 * 1024);
    assert_int_equal(route->timeout, 30000000);
    assert_int_equal(route->try_timeout, 0);
    assert_int_equal(route->hold_request, 0);
    assert_int_equal(route->hold_response, 0);
    assert_false(generation_buffers(&run->generation));
    assert_int_equal(route->security.count, 4);
    assert_int_equal(run->generation.header->default_security.count, 4);
    run_end(run);
}

static struct run *run_builtin(const char *const *variables)
{
    struct span block = SPAN_EMPTY;
    struct run *run = run_begin(variables);
    run->status = compile_builtin(&run->environment, &run->diagnostics, &run->arena, &block);
    run_conclude(run, block);
    return run;
}

static void the_built_in_configuration_heeds_its_variables(void **state)
{
    (void)state;
    static const char *const variables[] = {"SENTINEL_LISTEN=127.0.0.1:1234",
                                            "SENTINEL_UPSTREAM=one.test:99", "SENTINEL_WORKERS=7",
                                            NULL};
    struct run *run = run_builtin(variables);
    assert_string_equal(run->report, "");
    assert_int_equal(run->generation.header->server.workers, 7);
    assert_int_equal(generation_listener(&run->generation, 0)->address.port, 1234);
    assert_int_equal(generation_endpoint(&run->generation, 0)->address.port, 99);
    assert_int_equal(generation_route(&run->generation, 0)->place.file.count, 0);
    run_end(run);
}

static void a_wrong_variable_is_refused(void **state)
{
    (void)state;
    static const char *const variables[] = {"SENTINEL_LISTEN=8080", NULL};
    struct run *run = run_builtin(variables);
    assert_int_equal(run->status, ERROR);
    assert_non_null(strstr(run->report, "not \"8080\""));
    run_end(run);
}

static struct run *run_file(const char *path, const char *const *variables)
{
    struct span block = SPAN_EMPTY;
    struct run *run = run_begin(variables);
    run->status = compile_file(path, &run->environment, &run->diagnostics, &run->arena, &block);
    run_conclude(run, block);
    return run;
}

static void files_are_read_and_own_variables_warned_of(void **state)
{
    (void)state;
    static const char *const variables[] = {"SENTINEL_WORKERS=9", NULL};
    char path[] = "/tmp/sentinel-compile-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, "server { workers 2 }", 20), 20);
    (void)close(descriptor);
    struct run *run = run_file(path, variables);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->generation.header->server.workers, 2);
    assert_string_equal(run->report,
                        "warning: the environment variable SENTINEL_WORKERS is ignored\n"
                        "  help: it counts only where there is no configuration file\n"
                        "1 warning\n");
    run_end(run);
    (void)unlink(path);
}

static void files_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *report;
    } files[] = {
        {"/nonexistent.kdl", "error: cannot read /nonexistent.kdl: No such file or directory\n"},
        {"/", "error: cannot read /: Is a directory\n"},
        {"a.json", "error: cannot read a.json: JSON and TOML are not in this build; write KDL\n"},
        {"a.toml", "error: cannot read a.toml: JSON and TOML are not in this build; write KDL\n"},
        {"/dev/zero", "error: cannot read /dev/zero: it is larger than 4 MiB\n"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct run *run = run_file(files[i].path, NULL);
        assert_int_equal(run->status, ERROR);
        assert_memory_equal(run->report, files[i].report, strlen(files[i].report));
        run_end(run);
    }
}

static void variables_are_expanded_in_any_text(void **state)
{
    (void)state;
    static const char *const variables[] = {"PORT=8085", "EMPTY=", NULL};
    struct run *run = run_text("server { workers \"${W:-5}\"; merge-slashes \"${M:-false}\" }\n"
                               "listener \"l\" { address \"127.0.0.1:${PORT}\" }\n"
                               "route \"r\" { respond 200 body=\"${EMPTY:-a}${EMPTY}$${b}$c\" }\n",
                               variables);
    assert_string_equal(run->report, "");
    assert_int_equal(run->generation.header->server.workers, 5);
    assert_int_equal(run->generation.header->server.merge_slashes, 0);
    assert_int_equal(generation_listener(&run->generation, 0)->address.port, 8085);
    assert_text(run, generation_route(&run->generation, 0)->body, "a${b}$c");
    run_end(run);
}

static void a_name_becomes_an_endpoint_for_each_address(void **state)
{
    (void)state;
    struct run *run = run_good("listener \"l\" { address \"[::1]:80\" }\n"
                               "upstream \"u\" { target \"two.test:80\" weight=3\n"
                               "                 target \"one.test:81\" }\n"
                               "route \"r\" { upstream \"u\" }\n");
    assert_int_equal(run->generation.header->endpoints.count, 3);
    assert_text(run, generation_endpoint(&run->generation, 0)->text, "192.0.2.1:80");
    assert_text(run, generation_endpoint(&run->generation, 1)->text, "[2001:db8::1]:80");
    assert_int_equal(generation_endpoint(&run->generation, 1)->weight, 3);
    assert_text(run, generation_endpoint(&run->generation, 2)->text, "one.test:81");
    assert_text(run, generation_endpoint(&run->generation, 2)->host, "one.test");
    assert_text(run, generation_endpoint(&run->generation, 0)->host, "two.test");
    assert_int_equal(generation_endpoint(&run->generation, 2)->address.port, 81);
    run_end(run);
}

static void security_headers_are_changed_dropped_and_added(void **state)
{
    (void)state;
    struct run *run = run_good("listener \"l\" { address \"[::1]:80\" }\n"
                               "route \"r\" { respond 200; security-headers {\n"
                               "    set \"x-frame-options\" \"SAMEORIGIN\"\n"
                               "    set \"X-New\" \"1\"\n"
                               "    remove \"referrer-policy\" \"X-XSS-Protection\"\n"
                               "    upstream-wins true } }\n");
    const struct generation_route *route = generation_route(&run->generation, 0);
    const struct generation_field *fields = generation_array(&run->generation, route->security);
    assert_int_equal(route->security.count, 3);
    assert_int_equal(route->upstream_wins, 1);
    assert_text(run, fields[0].name, "X-Content-Type-Options");
    assert_text(run, fields[1].name, "x-frame-options");
    assert_text(run, fields[1].value, "SAMEORIGIN");
    assert_text(run, fields[2].name, "X-New");
    run_end(run);
}

static void limits_follow_down_what_bounds_them(void **state)
{
    (void)state;
    struct run *run = run_good("server { limits { head-size 2KiB } }\n"
                               "listener \"l\" { address \"[::1]:80\" }\n"
                               "upstream \"u\" { target \"[::1]:81\"; health-check {\n"
                               "    type \"tcp\"; interval 1s } }\n"
                               "route \"r\" { upstream \"u\" }\n");
    assert_int_equal(run->generation.header->server.limits.request_line, 2048);
    assert_int_equal(generation_upstream(&run->generation, 0)->health, HEALTH_TCP);
    assert_int_equal(generation_upstream(&run->generation, 0)->health_timeout, 1000000);
    run_end(run);
}

static void the_summary_lists_routes_in_matching_order(void **state)
{
    (void)state;
    char *summary = NULL;
    size_t size = 0;
    struct run *run =
        run_good("listener \"l\" { address \"[::1]:80\"; trusted-proxies \"10.0.0.0/8\" }\n"
                 "upstream \"u\" { target \"[::1]:81\" weight=2 }\n"
                 "route \"rest\" { upstream \"u\" }\n"
                 "route \"moved\" { match { path-prefix \"/old/\" \"//older\" }\n"
                 "                  redirect \"https://h/\" keep-path=true }\n"
                 "route \"api\" { upstream \"u\"; upstream-host \"h\"; match {\n"
                 "    path \"/a/./b\"; host \"*.Example.com\" \"h.\"; method \"GET\" \"PURGE\"\n"
                 "    header \"X-A\" \"1\" \"2\"; query \"q\"; header \"x-a\" \"3\" } }\n");
    FILE *stream = open_memstream(&summary, &size);
    assert_non_null(stream);
    compile_print_summary(stream, &run->generation, 0);
    (void)fclose(stream);
    assert_string_equal(
        summary,
        "3 workers, 10000 connections, admin 127.0.0.1:9090\n"
        "pid file /var/run/sentinel.pid\n"
        "control socket /var/run/sentinel.sock\n"
        "listener \"l\" on [::1]:80\n"
        "upstream \"u\", unchecked: [::1]:81 (weight 2)\n"
        "routes, in the order in which they are tried:\n"
        "    1  \"api\" GET|PURGE h/a/b, header x-a=1 or header x-a=2 or header x-a=3, query q "
        "-> upstream \"u\"\n"
        "    2  \"api\" GET|PURGE *.example.com/a/b, header x-a=1 or header x-a=2 or header "
        "x-a=3, query q -> upstream \"u\"\n"
        "    3  \"moved\" /older[/...] -> redirect 308 to https://h\n"
        "    4  \"moved\" /old[/...] -> redirect 308 to https://h\n"
        "    5  \"rest\" everything -> upstream \"u\"\n");
    free(summary);
    run_end(run);
}

/* ---- Bounds ---- */

static void too_many_routes_are_counted_once(void **state)
{
    (void)state;
    static const char head[] = "listener \"l\" { address \"[::1]:80\" }\n";
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    (void)fputs(head, stream);
    for (unsigned i = 0; i < 4100; i++) {
        (void)fprintf(stream, "route \"r%u\" { match path=\"/%u\"; respond 200 }\n", i, i);
    }
    (void)fclose(stream);
    struct run *run = run_text(text, NULL);
    assert_int_equal(run->diagnostics.errors, 1);
    assert_non_null(strstr(run->report, "there are more than 4096 `route`"));
    run_end(run);
    free(text);
}

static void a_full_arena_is_said_so_at_every_size(void **state)
{
    (void)state;
    struct run *run = run_begin(NULL);
    struct compile_input input = {
        .name = SPAN("t.kdl"),
        .text = span_of_string(promised_sample),
        .environment = &run->environment,
    };
    struct span block = SPAN_EMPTY;
    size_t size = 0;
    run->status = ERROR;
    for (; run->status != OK; size = size * 9 / 8 + 64) {
        assert_true(size < TEST_ARENA_SIZE);
        arena_init(&run->arena, run->memory, size);
        arena_reset(&run->diagnostics_arena);
        diagnostics_init(&run->diagnostics, &run->diagnostics_arena);
        run->status = compile_text(&input, &run->diagnostics, &run->arena, &block);
        assert_true((run->status == OK) == (run->diagnostics.errors == 0));
    }
    assert_true(size > sizeof(struct generation_header));
    run_end(run);
}

int main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(the_promised_sample_loads_as_written),
        cmocka_unit_test(an_empty_file_means_the_built_in_parts),
        cmocka_unit_test(a_log_without_listeners_still_has_its_place),
        cmocka_unit_test(workers_by_cores_are_no_more_than_what_they_share),
        cmocka_unit_test(defaults_are_those_of_the_design),
        cmocka_unit_test(the_built_in_configuration_heeds_its_variables),
        cmocka_unit_test(a_wrong_variable_is_refused),
        cmocka_unit_test(files_are_read_and_own_variables_warned_of),
        cmocka_unit_test(files_that_cannot_be_read_are_refused),
        cmocka_unit_test(variables_are_expanded_in_any_text),
        cmocka_unit_test(a_name_becomes_an_endpoint_for_each_address),
        cmocka_unit_test(security_headers_are_changed_dropped_and_added),
        cmocka_unit_test(limits_follow_down_what_bounds_them),
        cmocka_unit_test(the_summary_lists_routes_in_matching_order),
        cmocka_unit_test(too_many_routes_are_counted_once),
        cmocka_unit_test(a_full_arena_is_said_so_at_every_size),
    };
    int failed = run_reports();
    return failed + cmocka_run_group_tests_name("compiler", others, NULL, NULL);
}
