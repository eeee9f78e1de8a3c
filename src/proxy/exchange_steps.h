/*
 * What the files of the exchange's machine share: exchange.c, which tells the story and has the
 * dispatcher, and exchange_end.c, which ends it. Nobody else includes it.
 */
#ifndef SENTINEL_PROXY_EXCHANGE_STEPS_H
#define SENTINEL_PROXY_EXCHANGE_STEPS_H

#include "proxy/exchange.h"

/* What a step function tells the dispatcher. */
enum progress {
    PROGRESS_NEXT,  /* the step has changed: go on */
    PROGRESS_WAIT,  /* somebody will wake the exchange */
    PROGRESS_YIELD, /* it could go on, but it is the others' turn */
    PROGRESS_GONE,  /* the exchange is no more */
};

static inline enum progress exchange_enter(struct exchange *exchange, enum exchange_step step)
{
    exchange->step = step;
    return PROGRESS_NEXT;
}

/* The request's body moves no more: what of it has not gone out does not go. */
void exchange_close_upload(struct exchange *exchange);

/* The last steps, see exchange.def. */
enum progress step_abort(struct exchange *exchange);
enum progress step_settle(struct exchange *exchange);
enum progress step_finish(struct exchange *exchange);

#endif
