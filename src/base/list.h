/*
 * An intrusive doubly linked list with a head. A link is embedded in its object and is in at most
 * one list; an unlinked link points to itself, so unlinking twice is harmless.
 */
#ifndef SENTINEL_BASE_LIST_H
#define SENTINEL_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *previous;
};

/* The object that embeds this link as the named member. */
#define CONTAINER_OF(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void list_init(struct list *link)
{
    link->next = link;
    link->previous = link;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

/* True while the link is in some list. */
static inline bool list_is_linked(const struct list *link)
{
    return link->next != link;
}

static inline void list_unlink(struct list *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}

static inline void list_push_back(struct list *head, struct list *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

static inline void list_push_front(struct list *head, struct list *link)
{
    link->previous = head;
    link->next = head->next;
    head->next->previous = link;
    head->next = link;
}

/* Unlinks and returns the first link, or NULL. */
static inline struct list *list_pop_front(struct list *head)
{
    if (list_is_empty(head)) {
        return NULL;
    }
    struct list *link = head->next;
    list_unlink(link);
    return link;
}

/* Moves all links of `from`, in order, to the empty list `to`. */
static inline void list_take_all(struct list *to, struct list *from)
{
    list_init(to);
    if (!list_is_empty(from)) {
        *to = *from;
        to->next->previous = to;
        to->previous->next = to;
        list_init(from);
    }
}

#endif
