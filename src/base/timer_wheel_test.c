#include "base/timer_wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"

static const uint64_t TICK = UINT64_C(1) << WHEEL_TICK_SHIFT;
static const uint64_t SECOND = 1000 * 1000;
static const uint64_t DAY = UINT64_C(86400) * 1000 * 1000;
static const uint64_t START = UINT64_C(123456789012);

/* The first whole tick at or after the time: when the wheel fires at the latest. */
static uint64_t fires_by(uint64_t deadline)
{
    return (deadline + TICK - 1) / TICK * TICK;
}

static void an_empty_wheel_has_nothing_to_wait_for(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timer;
    timer_wheel_init(&wheel, START);
    timer_init(&timer, 7);
    assert_true(timer_wheel_next(&wheel) == UINT64_MAX);
    assert_null(timer_wheel_expire(&wheel, START + DAY));
    timer_cancel(&wheel, &timer); /* never set: harmless */
    timer_set(&wheel, &timer, UINT64_MAX);
    assert_int_equal(wheel.count, 0);
    assert_true(timer_wheel_next(&wheel) == UINT64_MAX);
    assert_int_equal(timer.kind, 7);
}

static void a_timer_fires_neither_early_nor_more_than_a_tick_late(void **state)
{
    (void)state;
    static const uint64_t delays[] = {0,         1,          1023,       1024,    1025,
                                      65535,     65536,      70000,      4194303, 4194304,
                                      268435456, 1000000007, 86400000000};
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        static struct timer_wheel wheel;
        struct timer timer;
        timer_wheel_init(&wheel, START);
        timer_init(&timer, 0);
        uint64_t deadline = START + delays[i];
        timer_set(&wheel, &timer, deadline);
        assert_int_equal(wheel.count, 1);
        assert_true(timer_wheel_next(&wheel) <= fires_by(deadline));
        if (delays[i] > 0) {
            assert_null(timer_wheel_expire(&wheel, deadline - 1));
        }
        assert_ptr_equal(timer_wheel_expire(&wheel, fires_by(deadline)), &timer);
        assert_true(timer.deadline == UINT64_MAX);
        assert_int_equal(wheel.count, 0);
        assert_null(timer_wheel_expire(&wheel, deadline + DAY));
    }
}

static void a_deadline_in_the_past_fires_at_once(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timer;
    timer_wheel_init(&wheel, START);
    timer_init(&timer, 0);
    timer_set(&wheel, &timer, 0);
    assert_true(timer_wheel_next(&wheel) <= START);
    assert_ptr_equal(timer_wheel_expire(&wheel, START), &timer);
    assert_null(timer_wheel_expire(&wheel, START + 100 * SECOND));
    timer_set(&wheel, &timer, START);
    assert_ptr_equal(timer_wheel_expire(&wheel, START + 100 * SECOND), &timer);
}

static void a_moved_timer_keeps_its_last_deadline(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timer;
    timer_wheel_init(&wheel, 0);
    timer_init(&timer, 0);
    timer_set(&wheel, &timer, 10 * SECOND);
    uint64_t slot_tick = timer.tick;
    timer_set(&wheel, &timer, 30 * SECOND); /* later */
    assert_true(timer.tick == slot_tick);   /* which costs one store: it stays in its slot */
    assert_int_equal(wheel.count, 1);
    assert_null(timer_wheel_expire(&wheel, 29 * SECOND));
    assert_true(timer_wheel_next(&wheel) <= fires_by(30 * SECOND));
    timer_set(&wheel, &timer, 29 * SECOND + 500); /* earlier */
    assert_ptr_equal(timer_wheel_expire(&wheel, 30 * SECOND - TICK), &timer);
    timer_set(&wheel, &timer, 60 * SECOND);
    timer_set(&wheel, &timer, 90 * SECOND);
    timer_set(&wheel, &timer, 70 * SECOND); /* later than its slot, earlier than its deadline */
    assert_null(timer_wheel_expire(&wheel, 69 * SECOND));
    assert_ptr_equal(timer_wheel_expire(&wheel, fires_by(70 * SECOND)), &timer);
    timer_set(&wheel, &timer, 100 * SECOND);
    timer_set(&wheel, &timer, UINT64_MAX);
    assert_int_equal(wheel.count, 0);
    assert_null(timer_wheel_expire(&wheel, DAY));
}

static void a_caller_that_stops_at_a_cap_finds_the_rest_due(void **state)
{
    (void)state;
    enum { TIMERS = 100, CAP = 7 };
    static struct timer_wheel wheel;
    static struct timer timers[TIMERS];
    timer_wheel_init(&wheel, START);
    for (uint64_t i = 0; i < TIMERS; i++) {
        timer_init(&timers[i], 0);
        timer_set(&wheel, &timers[i], START + i % 10 * 37 * SECOND);
    }
    uint64_t now = START + 400 * SECOND;
    int fired = 0;
    for (int round = 0; round < TIMERS && wheel.count > 0; round++) {
        for (int i = 0; i < CAP && timer_wheel_expire(&wheel, now) != NULL; i++) {
            fired++;
        }
        assert_true(wheel.count == 0 || timer_wheel_next(&wheel) <= now);
    }
    assert_int_equal(fired, TIMERS);
}

/* Whoever sleeps until timer_wheel_next wakes a bounded number of times for one timer. */
static int wakeups_of(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline)
{
    int wakeups = 0;
    uint64_t now = wheel->tick << WHEEL_TICK_SHIFT;
    for (;;) {
        uint64_t next = timer_wheel_next(wheel);
        assert_true(next <= fires_by(deadline));
        assert_true(next > now || wakeups == 0); /* each sleep gets on */
        now = next > now ? next : now;
        wakeups++;
        struct timer *fired = timer_wheel_expire(wheel, now);
        if (fired != NULL) {
            assert_ptr_equal(fired, timer);
            assert_true(now >= deadline);
            return wakeups;
        }
    }
}

static void one_timer_costs_few_wakeups(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 3);
    static struct timer_wheel wheel;
    struct timer timer;
    timer_wheel_init(&wheel, START);
    timer_init(&timer, 0);
    for (int i = 0; i < 2000; i++) {
        uint64_t now = wheel.tick << WHEEL_TICK_SHIFT;
        uint64_t deadline = now + 1 + (prng_next(&prng) >> (24 + prng_below(&prng, 40)));
        timer_set(&wheel, &timer, deadline);
        /* One for each level, and one more for each turn of the whole wheel on the way. */
        uint64_t turns = (deadline - now) >> (WHEEL_TICK_SHIFT + 6 * (WHEEL_LEVELS - 1));
        assert_in_range(wakeups_of(&wheel, &timer, deadline), 1, WHEEL_LEVELS + turns / 62);
    }
}

static void deadlines_beyond_the_horizon_are_kept(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timers[3];
    timer_wheel_init(&wheel, START);
    for (int i = 0; i < 3; i++) {
        timer_init(&timers[i], 0);
    }
    timer_set(&wheel, &timers[0], START + 40 * DAY);
    timer_set(&wheel, &timers[1], UINT64_MAX - 1);
    timer_set(&wheel, &timers[2], START + 365 * DAY);
    assert_true(timer_wheel_next(&wheel) > START);
    for (uint64_t day = 1; day < 40; day++) {
        assert_null(timer_wheel_expire(&wheel, START + day * DAY));
    }
    assert_ptr_equal(timer_wheel_expire(&wheel, START + 41 * DAY), &timers[0]);
    assert_null(timer_wheel_expire(&wheel, START + 41 * DAY));
    assert_ptr_equal(timer_wheel_expire(&wheel, START + 3650 * DAY), &timers[2]);
    assert_null(timer_wheel_expire(&wheel, START + 3650 * DAY));
    assert_int_equal(wheel.count, 1);
    timer_cancel(&wheel, &timers[1]);
    assert_null(timer_wheel_expire(&wheel, START + 7300 * DAY));
}

/* The machine slept for months: a timer that was moved later stands in a slot long past. */
static void a_jump_beyond_the_horizon_finds_moved_timers(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timer;
    timer_wheel_init(&wheel, START);
    timer_init(&timer, 0);
    timer_set(&wheel, &timer, START + TICK); /* in the lowest level, where no cascade sees it */
    timer_set(&wheel, &timer, START + 100 * DAY);
    assert_null(timer_wheel_expire(&wheel, START + 60 * DAY));
    assert_true(timer_wheel_next(&wheel) > START + 60 * DAY);
    assert_null(timer_wheel_expire(&wheel, START + 100 * DAY - 1));
    assert_ptr_equal(timer_wheel_expire(&wheel, START + 100 * DAY + TICK), &timer);
}

enum { MODEL_TIMERS = 3000, MODEL_ROUNDS = 4000 };

struct model {
    struct timer_wheel wheel;
    struct timer timers[MODEL_TIMERS];
    uint64_t deadlines[MODEL_TIMERS]; /* what the wheel should know; UINT64_MAX: not set */
    struct prng prng;
    uint64_t now;
    uint64_t fired;
};

/* Mostly the times of a proxy, at times of another scale. */
static uint64_t random_delay(struct prng *prng)
{
    switch (prng_below(prng, 8)) {
    case 0:
        return prng_below(prng, 2000);
    case 1:
        return prng_next(prng) % (40 * DAY);
    case 2:
        return prng_next(prng) >> prng_below(prng, 40); /* up to the end of time */
    default:
        return prng_next(prng) % (60 * SECOND);
    }
}

static uint64_t random_jump(struct prng *prng)
{
    uint32_t kind = prng_below(prng, 64);
    if (kind == 0) {
        return prng_next(prng) % (100 * DAY);
    }
    if (kind == 1) {
        return prng_next(prng) % DAY;
    }
    if (kind <= 10) {
        return prng_next(prng) % (100 * SECOND);
    }
    return kind <= 30 ? 0 : prng_next(prng) % 50000;
}

static void change_some(struct model *model)
{
    for (uint32_t i = prng_below(&model->prng, 40); i > 0; i--) {
        uint32_t chosen = prng_below(&model->prng, MODEL_TIMERS);
        uint64_t delay = random_delay(&model->prng);
        uint64_t deadline = model->now + delay < delay ? UINT64_MAX : model->now + delay;
        if (prng_below(&model->prng, 10) == 0) {
            deadline = model->now - prng_below(&model->prng, 100000); /* already past */
        }
        if (prng_below(&model->prng, 5) == 0) {
            timer_cancel(&model->wheel, &model->timers[chosen]);
            deadline = UINT64_MAX;
        } else if (prng_below(&model->prng, 5) == 0) {
            timer_pause(&model->timers[chosen]);
            deadline = UINT64_MAX;
        } else {
            timer_set(&model->wheel, &model->timers[chosen], deadline);
        }
        model->deadlines[chosen] = deadline;
        assert_true(model->timers[chosen].deadline == deadline);
    }
}

static void check_wheel(const struct model *model, bool all_fired)
{
    uint64_t earliest = UINT64_MAX;
    uint32_t count = 0;
    for (int i = 0; i < MODEL_TIMERS; i++) {
        count += model->deadlines[i] != UINT64_MAX;
        earliest = model->deadlines[i] < earliest ? model->deadlines[i] : earliest;
    }
    assert_true(model->wheel.count >= count); /* paused ones are counted until their slot comes */
    uint64_t next = timer_wheel_next(&model->wheel);
    assert_true(model->wheel.count > 0 || next == UINT64_MAX);
    assert_true(count == 0 || next <= model->now || next <= (earliest | (TICK - 1)) + 1);
    if (all_fired) {
        assert_true(earliest > model->now / TICK * TICK);
        assert_true(next > model->now); /* no sleep of length zero */
    }
}

static bool expire_some(struct model *model)
{
    uint32_t cap = prng_below(&model->prng, 4) == 0 ? prng_below(&model->prng, 20) : UINT32_MAX;
    for (uint32_t i = 0; i < cap; i++) {
        struct timer *timer = timer_wheel_expire(&model->wheel, model->now);
        if (timer == NULL) {
            return true;
        }
        ptrdiff_t index = timer - model->timers;
        assert_in_range(index, 0, MODEL_TIMERS - 1);
        assert_true(model->deadlines[index] <= model->now);
        assert_true(timer->deadline == UINT64_MAX);
        model->deadlines[index] = UINT64_MAX;
        model->fired++;
    }
    return false;
}

static void a_paused_timer_stays_silent_until_it_is_set_again(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timers[3];
    uint64_t now = 1000 * TICK;
    timer_wheel_init(&wheel, now);
    for (int i = 0; i < 3; i++) {
        timer_init(&timers[i], 0);
        timer_set(&wheel, &timers[i], now + (uint64_t)(i + 1) * 100 * TICK);
        timer_pause(&timers[i]);
    }
    timer_set(&wheel, &timers[1], now + 50 * TICK); /* earlier than where it stands */
    timer_set(&wheel, &timers[2], now + 5000 * TICK);
    assert_ptr_equal(timer_wheel_expire(&wheel, now + 60 * TICK), &timers[1]);
    assert_null(timer_wheel_expire(&wheel, now + 4000 * TICK));
    assert_int_equal(wheel.count, 1); /* the other has left */
    timer_set(&wheel, &timers[0], now + 4500 * TICK);
    assert_ptr_equal(timer_wheel_expire(&wheel, now + 6000 * TICK), &timers[0]);
    assert_ptr_equal(timer_wheel_expire(&wheel, now + 6000 * TICK), &timers[2]);
    timer_pause(&timers[0]); /* harmless when it is not set */
    assert_int_equal(wheel.count, 0);
}

static void random_timers_agree_with_a_plain_list(void **state)
{
    (void)state;
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        prng_init(&model->prng, seed);
        model->now = prng_next(&model->prng) >> 16;
        timer_wheel_init(&model->wheel, model->now);
        for (int i = 0; i < MODEL_TIMERS; i++) {
            timer_init(&model->timers[i], 0);
            model->deadlines[i] = UINT64_MAX;
        }
        for (int round = 0; round < MODEL_ROUNDS; round++) {
            change_some(model);
            model->now += random_jump(&model->prng);
            check_wheel(model, expire_some(model));
        }
    }
    assert_true(model->fired > 100000);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_wheel_has_nothing_to_wait_for),
        cmocka_unit_test(a_timer_fires_neither_early_nor_more_than_a_tick_late),
        cmocka_unit_test(a_deadline_in_the_past_fires_at_once),
        cmocka_unit_test(a_moved_timer_keeps_its_last_deadline),
        cmocka_unit_test(a_caller_that_stops_at_a_cap_finds_the_rest_due),
        cmocka_unit_test(one_timer_costs_few_wakeups),
        cmocka_unit_test(deadlines_beyond_the_horizon_are_kept),
        cmocka_unit_test(a_jump_beyond_the_horizon_finds_moved_timers),
        cmocka_unit_test(a_paused_timer_stays_silent_until_it_is_set_again),
        cmocka_unit_test(random_timers_agree_with_a_plain_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
