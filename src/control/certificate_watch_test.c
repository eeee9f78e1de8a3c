#include "control/certificate_watch.h"

#include "control/certificate_fixture_test.h"

#define DAY UINT64_C(86400)
#define BEGIN UINT64_C(1800000000) /* 2027-01-15 */

static const char CONFIG[] = "listener \"http\" { address \"127.0.0.1:8080\" }\n"
                             "route \"r\" { respond 200 }\n";

static const struct certificate_row ROWS[] = {
    {"a.test", "/etc/a.pem", BEGIN, BEGIN + 90 * DAY},
    {"b.test", "/etc/b.pem", BEGIN, BEGIN + 10 * DAY},
};

struct fixture {
    struct fixture_generation compiled;
    void *memory;
    struct generation generation;
    struct certificate_watch watch;
    char line[CERTIFICATE_LINE_MAX];
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_compile(&fixture->compiled, CONFIG);
    fixture->generation =
        fixture_add_certificates(&fixture->compiled.generation, ROWS, 2, &fixture->memory);
    assert_true(certificate_watch_init(&fixture->watch, &fixture->generation));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    certificate_watch_deinit(&fixture->watch);
    certificate_watch_deinit(&fixture->watch);
    free(fixture->memory);
    fixture_free(&fixture->compiled);
    free(fixture);
    return 0;
}

static void assert_silent(struct fixture *fixture, uint64_t now)
{
    assert_false(certificate_watch_tell(&fixture->watch, now, fixture->line));
}

/* This is told at that time, and it alone. */
static void assert_told(struct fixture *fixture, uint64_t now, const char *line)
{
    assert_true(certificate_watch_tell(&fixture->watch, now, fixture->line));
    assert_string_equal(fixture->line, line);
    assert_silent(fixture, now);
}

static void each_stage_is_told_once(void **state)
{
    struct fixture *fixture = *state;
    assert_silent(fixture, BEGIN);
    assert_silent(fixture, BEGIN + 6 * DAY);
    assert_told(fixture, BEGIN + 7 * DAY,
                "the certificate of b.test expires on 2027-01-25, in 3 days; less than a third of "
                "its lifetime is left (/etc/b.pem)");
    assert_silent(fixture, BEGIN + 9 * DAY - 1);
    assert_told(fixture, BEGIN + 9 * DAY,
                "the certificate of b.test expires on 2027-01-25, in 1 day; less than a tenth of "
                "its lifetime is left (/etc/b.pem)");
    assert_silent(fixture, BEGIN + 10 * DAY - 1);
    assert_told(fixture, BEGIN + 10 * DAY,
                "the certificate of b.test has expired on 2027-01-25 (/etc/b.pem): peers refuse "
                "it");
    assert_silent(fixture, BEGIN + 59 * DAY);
    assert_told(fixture, BEGIN + 60 * DAY,
                "the certificate of a.test expires on 2027-04-15, in 30 days; less than a third of "
                "its lifetime is left (/etc/a.pem)");
    assert_silent(fixture, BEGIN); /* the clock was set back */
    assert_silent(fixture, BEGIN + 60 * DAY);
}

static void a_start_tells_how_things_stand(void **state)
{
    struct fixture *fixture = *state;
    assert_true(certificate_watch_tell(&fixture->watch, BEGIN + 85 * DAY, fixture->line));
    assert_non_null(strstr(fixture->line, "a.test expires on 2027-04-15, in 5 days; less than a "
                                          "tenth"));
    assert_true(certificate_watch_tell(&fixture->watch, BEGIN + 85 * DAY, fixture->line));
    assert_non_null(strstr(fixture->line, "b.test has expired"));
    assert_silent(fixture, BEGIN + 85 * DAY);
}

static void without_certificates_nothing_is_told(void **state)
{
    struct fixture *fixture = *state;
    struct certificate_watch watch;
    assert_true(certificate_watch_init(&watch, &fixture->compiled.generation));
    assert_false(certificate_watch_tell(&watch, UINT64_MAX, fixture->line));
    certificate_watch_deinit(&watch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_stage_is_told_once),
        TEST(a_start_tells_how_things_stand),
        TEST(without_certificates_nothing_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
