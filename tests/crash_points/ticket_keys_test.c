/*
 * The keys of session tickets, with their writer (the supervisor) dying between any two
 * instructions of a rotation: what workers then read is the state before or the one after, whole.
 */
#include "net/ticket_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "single_step.h"

enum { RANDOM_SIZE = TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE };

#define START UINT64_C(1000000)

struct fixture {
    struct ticket_keys *keys; /* shared */
    struct ticket_key before;
    struct ticket_key current;
    struct ticket_key next;
};

static struct ticket_key make_key(uint8_t byte)
{
    uint8_t random[RANDOM_SIZE];
    struct ticket_key key;
    memset(random, byte, sizeof(random));
    assert_true(ticket_key_init(&key, random, START));
    return key;
}

static void rotate(void *context)
{
    struct fixture *fixture = context;
    ticket_keys_rotate(fixture->keys, &fixture->next);
}

static bool is(const struct ticket_key *a, const struct ticket_key *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* A worker can always seal, and opens what was sealed under the key of a moment ago. */
static void read_as_a_worker(void *context, void *remains)
{
    const struct fixture *fixture = context;
    struct ticket_key found;
    assert_true(ticket_keys_current(remains, START, &found));
    assert_true(is(&found, &fixture->current) || is(&found, &fixture->next));
    assert_true(ticket_keys_find(remains, fixture->current.id, START, &found));
    assert_true(is(&found, &fixture->current));
    if (ticket_keys_find(remains, fixture->next.id, START, &found)) {
        assert_true(is(&found, &fixture->next));
    }
    if (ticket_keys_find(remains, fixture->before.id, START, &found)) {
        assert_true(is(&found, &fixture->before));
    }
    /* And whoever comes after the dead one finds a memory that he can go on with. */
    struct ticket_key later = make_key(9);
    ticket_keys_rotate(remains, &later);
    assert_true(ticket_keys_current(remains, START, &found));
    assert_true(is(&found, &later));
}

static void a_rotation_can_end_at_every_instruction(void **state)
{
    (void)state;
    struct fixture fixture = {
        .keys = single_step_shared(ticket_keys_size()),
        .before = make_key(1),
        .current = make_key(2),
        .next = make_key(3),
    };
    assert_non_null(fixture.keys);
    ticket_keys_rotate(fixture.keys, &fixture.before);
    ticket_keys_rotate(fixture.keys, &fixture.current);
    struct crash_walk walk = {.run = rotate,
                              .check = read_as_a_worker,
                              .context = &fixture,
                              .memory = fixture.keys,
                              .size = ticket_keys_size()};
    assert_true(crash_walk(&walk));
    assert_true(walk.points > 20); /* each word that is stored is one */
    single_step_unshare(fixture.keys, ticket_keys_size());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotation_can_end_at_every_instruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
