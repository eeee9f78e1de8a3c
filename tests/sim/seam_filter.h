/*
 * A filter as an agent needs it: a sink before the sink that holds what comes, up to its maximum,
 * until the agent has given its verdict or its deadline has passed. The agent is a node of its own
 * at the other end of a socket; it is asked with two bytes (the message's number and `?`) once
 * nothing more can be held or the end has come, and answers with two (the number and the verdict).
 */
#ifndef SENTINEL_TESTS_SIM_SEAM_FILTER_H
#define SENTINEL_TESTS_SIM_SEAM_FILTER_H

#include "proxy/lane.h"
#include "seam.h"

enum verdict { VERDICT_PENDING, VERDICT_PASS, VERDICT_DROP, VERDICT_FAIL };

struct seam_filter {
    struct seam_task task; /* the agent's side: its socket, its deadline */
    struct seam_wire agent;
    struct seam_task *owner; /* woken when the verdict is there */
    struct sink next;
    enum verdict verdict;
    bool asked;
    uint8_t number;
    uint8_t answer[2];
    size_t answer_size;
    uint8_t *held; /* hold_max bytes, owned; NULL: the filter is not in use */
    uint32_t hold_max;
    uint32_t size;
    uint32_t given; /* of it, what the next sink has taken */
};

void seam_filter_open(struct seam_filter *filter, struct seam_task *owner, const struct sink *next,
                      uint8_t number);
void seam_filter_close(struct seam_filter *filter);
struct sink seam_filter_sink(struct seam_filter *filter);

static inline bool seam_filter_is_used(const struct seam_filter *filter)
{
    return filter->held != NULL;
}

/* The agent's node, listening from now on. */
struct seam_agent;
struct seam_agent *seam_agent_create(struct seam *seam);
void seam_agent_destroy(struct seam_agent *agent);

#endif
