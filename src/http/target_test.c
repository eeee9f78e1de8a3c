#include "http/target.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/prng.h"

struct workspace {
    _Alignas(max_align_t) uint8_t memory[1024];
    struct arena arena;
};

static enum reason canonicalise(struct workspace *work, struct span raw, bool merge_slashes,
                                struct target_path *out)
{
    enum reason reason = REASON_NONE;
    arena_init(&work->arena, work->memory, sizeof(work->memory));
    enum status status = target_canonical_path(raw, merge_slashes, &work->arena, out, &reason);
    assert_int_equal(status, reason == REASON_NONE ? OK : ERROR);
    return reason;
}

/* A path and its canonical form; NULL: the reason for its refusal. */
struct path_case {
    const char *raw;
    const char *canonical;
    enum reason reason;
};

static void check_paths(const struct path_case *cases, size_t count, bool merge_slashes)
{
    struct workspace work;
    struct target_path path;
    for (size_t i = 0; i < count; i++) {
        struct span raw = span_of_string(cases[i].raw);
        enum reason reason = canonicalise(&work, raw, merge_slashes, &path);
        if (reason != cases[i].reason) {
            fail_msg("\"%s\" gives %s", cases[i].raw, reason_info(reason)->label);
        }
        if (reason == REASON_NONE && !span_equal(path.path, span_of_string(cases[i].canonical))) {
            fail_msg("\"%s\" becomes \"%.*s\"", cases[i].raw, SPAN_ARGS(path.path));
        }
    }
}

#define CHECK_PATHS(cases, merge) check_paths(cases, sizeof(cases) / sizeof((cases)[0]), merge)

static void a_canonical_path_is_borrowed_and_not_copied(void **state)
{
    (void)state;
    struct workspace work;
    struct target_path path;
    struct span raw = SPAN("/api/v1/users;x=1/~me/a.b/@:!$&'()*+,=-_/");
    assert_int_equal(canonicalise(&work, raw, true, &path), REASON_NONE);
    assert_ptr_equal(path.path.data, raw.data);
    assert_int_equal(path.path.size, raw.size);
    assert_int_equal(work.arena.used, 0);
}

static void a_rewritten_path_takes_no_more_of_the_arena_than_it_needs(void **state)
{
    (void)state;
    struct workspace work;
    struct target_path path;
    assert_int_equal(canonicalise(&work, SPAN("/a/./b"), true, &path), REASON_NONE);
    assert_int_equal(work.arena.used, 4);
    assert_int_equal(canonicalise(&work, SPAN("/a/.."), true, &path), REASON_NONE);
    assert_int_equal(work.arena.used, 1);
    assert_int_equal(canonicalise(&work, SPAN("/a/../.."), true, &path), REASON_AMBIGUOUS_PATH);
    assert_int_equal(work.arena.used, 0);
}

static void escapes_have_one_form(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"/%41%7a%30%2D%2e%5f%7E", "/Az0-._~", 0},
        {"/%c3%a9", "/%C3%A9", 0},
        {"/%3b%3D%20", "/%3B%3D%20", 0},
        {"/%0d%0a", "/%0D%0A", 0},
        {"/%25", "/%25", 0},
        {"/%252e%252e/%2541", "/%252e%252e/%2541", 0},
        {"/a|b[c]{d}^e`\"<>", "/a%7Cb%5Bc%5D%7Bd%7D%5Ee%60%22%3C%3E", 0},
        {"/%", NULL, REASON_BAD_TARGET},
        {"/%4", NULL, REASON_BAD_TARGET},
        {"/%4g", NULL, REASON_BAD_TARGET},
        {"/%g4", NULL, REASON_BAD_TARGET},
        {"/%%41", NULL, REASON_BAD_TARGET},
        {"/%u0041", NULL, REASON_BAD_TARGET},
    };
    CHECK_PATHS(cases, true);
}

static void dot_segments_are_removed(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"/.", "/", 0},
        {"/./", "/", 0},
        {"/a/.", "/a/", 0},
        {"/a/./b", "/a/b", 0},
        {"/a/..", "/", 0},
        {"/a/../", "/", 0},
        {"/a/b/..", "/a/", 0},
        {"/a/b/../c", "/a/c", 0},
        {"/a/b/../../c", "/c", 0},
        {"/a/%2e%2E/c", "/c", 0},
        {"/a/.%2e/c", "/c", 0},
        {"/a/%2e/c", "/a/c", 0},
        {"/...", "/...", 0},
        {"/a/.../b", "/a/.../b", 0},
        {"/a../b", "/a../b", 0},
        {"/.a/..b", "/.a/..b", 0},
        {"/.well-known/x", "/.well-known/x", 0},
    };
    CHECK_PATHS(cases, true);
    CHECK_PATHS(cases, false);
}

static void climbing_above_the_root_is_refused(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"/..", NULL, REASON_AMBIGUOUS_PATH},         {"/../", NULL, REASON_AMBIGUOUS_PATH},
        {"/a/../..", NULL, REASON_AMBIGUOUS_PATH},    {"/a/../../b", NULL, REASON_AMBIGUOUS_PATH},
        {"/%2e%2e/etc", NULL, REASON_AMBIGUOUS_PATH}, {"/./../x", NULL, REASON_AMBIGUOUS_PATH},
        {"//../x", NULL, REASON_AMBIGUOUS_PATH},
    };
    CHECK_PATHS(cases, true);
}

static void slashes_are_merged_only_if_asked(void **state)
{
    (void)state;
    static const struct path_case merged[] = {
        {"//", "/", 0},        {"//a", "/a", 0},    {"/a//b", "/a/b", 0}, {"/a///", "/a/", 0},
        {"/a//../b", "/b", 0}, {"/a/./", "/a/", 0}, {"/a/.//", "/a/", 0}, {"/a/..//b", "/b", 0},
    };
    static const struct path_case kept[] = {
        {"//", "//", 0},         {"//a", "//a", 0},     {"/a//b", "/a//b", 0},
        {"/a//../b", "/a/b", 0}, {"/a/.//", "/a//", 0}, {"//..", "/", 0},
    };
    CHECK_PATHS(merged, true);
    CHECK_PATHS(kept, false);
}

static void dots_with_parameters_are_ambiguous(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"/a/..;/b", NULL, REASON_AMBIGUOUS_PATH},
        {"/a/..;x=1", NULL, REASON_AMBIGUOUS_PATH},
        {"/a/%2e%2e;/b", NULL, REASON_AMBIGUOUS_PATH},
        {"/a/..%3b/b", NULL, REASON_AMBIGUOUS_PATH},
        {"/a/.;/b", NULL, REASON_AMBIGUOUS_PATH},
        {"/a/...;/b", "/a/...;/b", 0},
        {"/a/b;../c", "/a/b;../c", 0},
    };
    CHECK_PATHS(cases, true);
}

static void encoded_separators_stay_and_are_told(void **state)
{
    (void)state;
    struct workspace work;
    struct target_path path;
    assert_int_equal(canonicalise(&work, SPAN("/a%2fb"), true, &path), REASON_NONE);
    assert_true(span_equal(path.path, SPAN("/a%2Fb")));
    assert_true(path.encoded_slash && !path.encoded_backslash);
    assert_int_equal(canonicalise(&work, SPAN("/a%5cb"), true, &path), REASON_NONE);
    assert_true(span_equal(path.path, SPAN("/a%5Cb")));
    assert_true(path.encoded_backslash && !path.encoded_slash);
    assert_int_equal(canonicalise(&work, SPAN("/a%252fb"), true, &path), REASON_NONE);
    assert_false(path.encoded_slash);
}

static void dots_beside_encoded_separators_are_ambiguous(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"/a/..%2fb", NULL, REASON_AMBIGUOUS_PATH},
        {"/a%2f..", NULL, REASON_AMBIGUOUS_PATH},
        {"/a%5c..%5cb", NULL, REASON_AMBIGUOUS_PATH},
        {"/.%2Fb", NULL, REASON_AMBIGUOUS_PATH},
        {"/a%2f%2e%2e/b", NULL, REASON_AMBIGUOUS_PATH},
        {"/a%2fb/../c", NULL, REASON_AMBIGUOUS_PATH},
        {"/a%2f..;x/c", NULL, REASON_AMBIGUOUS_PATH},
        {"/a..%2Fb", "/a..%2Fb", 0},
    };
    CHECK_PATHS(cases, true);
}

static void bytes_that_peers_read_differently_are_refused(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"/a\\b", NULL, REASON_BAD_TARGET},     {"/a#b", NULL, REASON_BAD_TARGET},
        {"/\xC3\xA9", NULL, REASON_BAD_TARGET}, {"/\x80", NULL, REASON_BAD_TARGET},
        {"/a\tb", NULL, REASON_BAD_TARGET},     {"/a b", NULL, REASON_BAD_TARGET},
        {"/a\x7F", NULL, REASON_BAD_TARGET},    {"/a?b", NULL, REASON_BAD_TARGET},
        {"/%00", NULL, REASON_BAD_TARGET},      {"/a%00.jpg", NULL, REASON_BAD_TARGET},
        {"", NULL, REASON_BAD_TARGET},          {"a/b", NULL, REASON_BAD_TARGET},
    };
    CHECK_PATHS(cases, true);
}

static void a_full_arena_is_told(void **state)
{
    (void)state;
    struct workspace work;
    struct target_path path;
    enum reason reason = REASON_NONE;
    arena_init(&work.arena, work.memory, 17);
    assert_int_equal(target_canonical_path(SPAN("/a/./b"), true, &work.arena, &path, &reason),
                     ERROR);
    assert_int_equal(reason, REASON_BUFFERS_FULL);
}

/* The property behind all of it, over random strings of the bytes that matter. */
static void canonicalising_twice_changes_nothing(void **state)
{
    (void)state;
    static const char *const pieces[] = {"/",   "/", ".", "..", "%2e", "%2F", "%5c", "%25",
                                         "%41", ";", "a", "|",  "%3B", "%c3", "~",   "2e"};
    enum { ROUNDS = 20000, PIECES_MAX = 12 };
    struct prng prng;
    unsigned accepted = 0;
    prng_init(&prng, 7);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct workspace first_work;
        struct workspace second_work;
        struct target_path first;
        struct target_path second;
        char raw[64] = "/";
        size_t size = 1;
        uint32_t count = prng_below(&prng, PIECES_MAX);
        for (uint32_t i = 0; i < count; i++) {
            const char *piece = pieces[prng_below(&prng, sizeof(pieces) / sizeof(pieces[0]))];
            memcpy(raw + size, piece, strlen(piece));
            size += strlen(piece);
        }
        bool merge = prng_below(&prng, 2) == 0;
        if (canonicalise(&first_work, span_of(raw, size), merge, &first) != REASON_NONE) {
            continue;
        }
        accepted++;
        assert_int_equal(canonicalise(&second_work, first.path, merge, &second), REASON_NONE);
        assert_true(span_equal(first.path, second.path));
        assert_int_equal(first.encoded_slash, second.encoded_slash);
        assert_int_equal(first.encoded_backslash, second.encoded_backslash);
    }
    assert_in_range(accepted, ROUNDS / 10, ROUNDS);
}

static void well_formed_authorities_are_split(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host;
        bool has_port;
        uint16_t port;
    } cases[] = {
        {"a", "a", false, 0},
        {"Example.COM", "example.com", false, 0},
        {"example.com.", "example.com", false, 0},
        {"a_b-c~d.e:0", "a_b-c~d.e", true, 0},
        {"a:65535", "a", true, 65535},
        {"a:00080", "a", true, 80},
        {"a:", "a", false, 0},
        {"127.0.0.1:8080", "127.0.0.1", true, 8080},
        {"[::1]", "[::1]", false, 0},
        {"[2001:DB8::A]:443", "[2001:db8::a]", true, 443},
        {"[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", false, 0},
    };
    struct workspace work;
    struct authority authority;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        arena_init(&work.arena, work.memory, sizeof(work.memory));
        assert_true(target_parse_authority(span_of_string(cases[i].text), &work.arena, &authority));
        assert_true(span_equal(authority.host, span_of_string(cases[i].host)));
        assert_int_equal(authority.has_port, cases[i].has_port);
        assert_int_equal(authority.port, cases[i].port);
    }
}

static void malformed_authorities_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",         ".",         "..",       "a..b",    ".a",           "a..",      ":80",
        "a:b",      "a:65536",   "a:000080", "a:-1",    "a:+1",         "a: 1",     "a:1:2",
        "u@a",      "u:p@a",     "a b",      "a/b",     "a?b",          "a#b",      "a\\b",
        "a,b",      "a;b",       "%61",      "a\tb",    "a\x7F",        "\xC3\xA9", "[]",
        "[::1",     "::1",       "[::1]x",   "[::1]:x", "[::1%25eth0]", "[v1.a]",   "[1.2.3.4]",
        "[::1::2]", "[12345::]", "*",        "a[",
    };
    struct workspace work;
    struct authority authority;
    char name[TARGET_HOST_MAX + 1];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        arena_init(&work.arena, work.memory, sizeof(work.memory));
        if (target_parse_authority(span_of_string(cases[i]), &work.arena, &authority)) {
            fail_msg("\"%s\" is accepted", cases[i]);
        }
    }
    assert_false(target_parse_authority(SPAN("a\0b"), &work.arena, &authority));
    assert_false(target_parse_authority(SPAN("[::1\0]"), &work.arena, &authority));
    memset(name, 'a', sizeof(name));
    assert_true(target_parse_authority(span_of(name, TARGET_HOST_MAX), &work.arena, &authority));
    assert_false(target_parse_authority(span_of(name, sizeof(name)), &work.arena, &authority));
}

static void targets_have_four_forms(void **state)
{
    (void)state;
    struct target target;
    enum reason reason = REASON_NONE;
    assert_int_equal(target_split(SPAN("/a?b?c"), METHOD_GET, &target, &reason), OK);
    assert_int_equal(target.form, TARGET_ORIGIN);
    assert_true(span_equal(target.path, SPAN("/a")) && span_equal(target.query, SPAN("b?c")));
    assert_null(target.authority.data);
    assert_int_equal(target_split(SPAN("hTTp://a:1/b?c"), METHOD_GET, &target, &reason), OK);
    assert_int_equal(target.form, TARGET_ABSOLUTE);
    assert_true(span_equal(target.authority, SPAN("a:1")));
    assert_true(span_equal(target.path, SPAN("/b")) && span_equal(target.query, SPAN("c")));
    assert_int_equal(target_split(SPAN("a:1"), METHOD_CONNECT, &target, &reason), OK);
    assert_int_equal(target.form, TARGET_AUTHORITY);
    assert_int_equal(target_split(SPAN("*"), METHOD_OPTIONS, &target, &reason), OK);
    assert_int_equal(target.form, TARGET_ASTERISK);
    assert_int_equal(target_split(SPAN("*"), METHOD_GET, &target, &reason), ERROR);
    assert_int_equal(target_split(SPAN("a:1"), METHOD_GET, &target, &reason), ERROR);
    assert_int_equal(target_split(SPAN("/?a#b"), METHOD_GET, &target, &reason), ERROR);
    assert_int_equal(target_split(SPAN("/?a\x80"), METHOD_GET, &target, &reason), ERROR);
    assert_int_equal(target_split(SPAN(""), METHOD_GET, &target, &reason), ERROR);
    assert_int_equal(reason, REASON_BAD_TARGET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_canonical_path_is_borrowed_and_not_copied),
        cmocka_unit_test(a_rewritten_path_takes_no_more_of_the_arena_than_it_needs),
        cmocka_unit_test(escapes_have_one_form),
        cmocka_unit_test(dot_segments_are_removed),
        cmocka_unit_test(climbing_above_the_root_is_refused),
        cmocka_unit_test(slashes_are_merged_only_if_asked),
        cmocka_unit_test(dots_with_parameters_are_ambiguous),
        cmocka_unit_test(encoded_separators_stay_and_are_told),
        cmocka_unit_test(dots_beside_encoded_separators_are_ambiguous),
        cmocka_unit_test(bytes_that_peers_read_differently_are_refused),
        cmocka_unit_test(a_full_arena_is_told),
        cmocka_unit_test(canonicalising_twice_changes_nothing),
        cmocka_unit_test(well_formed_authorities_are_split),
        cmocka_unit_test(malformed_authorities_are_refused),
        cmocka_unit_test(targets_have_four_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
