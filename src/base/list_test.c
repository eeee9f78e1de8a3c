#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

struct item {
    int number;
    struct list link;
};

static void a_link_is_in_one_list_or_in_none(void **state)
{
    (void)state;
    struct list head;
    struct item item = {.number = 5};
    list_init(&head);
    list_init(&item.link);
    assert_true(list_is_empty(&head));
    assert_false(list_is_linked(&item.link));
    list_unlink(&item.link); /* harmless */
    assert_null(list_pop_front(&head));

    list_push_back(&head, &item.link);
    assert_false(list_is_empty(&head));
    assert_true(list_is_linked(&item.link));
    assert_int_equal(CONTAINER_OF(head.next, struct item, link)->number, 5);
    assert_ptr_equal(list_pop_front(&head), &item.link);
    assert_true(list_is_empty(&head));
    assert_false(list_is_linked(&item.link));

    list_push_front(&head, &item.link);
    list_unlink(&item.link);
    list_unlink(&item.link);
    assert_true(list_is_empty(&head));
}

static void taking_all_keeps_the_order(void **state)
{
    (void)state;
    struct list from;
    struct list to;
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    list_init(&from);
    list_take_all(&to, &from);
    assert_true(list_is_empty(&to) && list_is_empty(&from));
    for (int count = 1; count <= 3; count++) {
        for (int i = 0; i < count; i++) {
            list_push_back(&from, &items[i].link);
        }
        list_take_all(&to, &from);
        assert_true(list_is_empty(&from));
        for (int i = 0; i < count; i++) {
            assert_ptr_equal(list_pop_front(&to), &items[i].link);
        }
        assert_true(list_is_empty(&to));
    }
}

enum { ITEMS = 12, LISTS = 3, STEPS = 20000 };

struct model {
    int members[ITEMS];
    int count;
};

static void model_remove(struct model *models, int number)
{
    for (int i = 0; i < LISTS; i++) {
        for (int j = 0; j < models[i].count; j++) {
            if (models[i].members[j] == number) {
                models[i].count--;
                memmove(&models[i].members[j], &models[i].members[j + 1],
                        (size_t)(models[i].count - j) * sizeof(int));
                return;
            }
        }
    }
}

static void model_insert(struct model *model, int at, int number)
{
    memmove(&model->members[at + 1], &model->members[at],
            (size_t)(model->count - at) * sizeof(int));
    model->members[at] = number;
    model->count++;
}

static void compare(struct list *head, const struct model *model)
{
    struct list *link = head;
    for (int i = 0; i < model->count; i++) {
        assert_ptr_equal(link->next->previous, link);
        link = link->next;
        assert_int_equal(CONTAINER_OF(link, struct item, link)->number, model->members[i]);
    }
    assert_ptr_equal(link->next, head);
    assert_ptr_equal(head->previous, link);
}

static void random_lists_agree_with_arrays(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 13);
    struct item items[ITEMS];
    struct list heads[LISTS];
    struct model models[LISTS] = {0};
    for (int i = 0; i < ITEMS; i++) {
        items[i].number = i;
        list_init(&items[i].link);
    }
    for (int i = 0; i < LISTS; i++) {
        list_init(&heads[i]);
    }
    for (int step = 0; step < STEPS; step++) {
        uint32_t list = prng_below(&prng, LISTS);
        int number = (int)prng_below(&prng, ITEMS);
        uint32_t action = prng_below(&prng, 8);
        if (action < 6) {
            list_unlink(&items[number].link);
            model_remove(models, number);
        }
        if (action < 3) {
            list_push_back(&heads[list], &items[number].link);
            model_insert(&models[list], models[list].count, number);
        } else if (action < 5) {
            list_push_front(&heads[list], &items[number].link);
            model_insert(&models[list], 0, number);
        } else if (action == 6) {
            struct list *link = list_pop_front(&heads[list]);
            assert_true((link == NULL) == (models[list].count == 0));
            if (link != NULL) {
                model_remove(models, CONTAINER_OF(link, struct item, link)->number);
            }
        } else if (action == 7 && models[list].count == 0) {
            uint32_t from = (list + 1) % LISTS;
            list_take_all(&heads[list], &heads[from]);
            models[list] = models[from];
            models[from].count = 0;
        }
        for (int i = 0; i < LISTS; i++) {
            compare(&heads[i], &models[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_is_in_one_list_or_in_none),
        cmocka_unit_test(taking_all_keeps_the_order),
        cmocka_unit_test(random_lists_agree_with_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
