/*
 * What the admin listener answers, apart from connections: from a parsed request to a status,
 * fields and a body, or the decision to stream one. Pure but for the source it asks.
 */
#ifndef SENTINEL_CONTROL_ADMIN_ANSWER_H
#define SENTINEL_CONTROL_ADMIN_ANSWER_H

#include "base/output.h"
#include "control/admin.h"
#include "http/message.h"

enum { ADMIN_BODY_MAX = 1024 };

/* Where a body comes from. */
enum admin_body { ADMIN_BODY_HERE, ADMIN_BODY_METRICS, ADMIN_BODY_RECENT };

struct admin_answer {
    uint16_t status;
    enum admin_body source; /* the two others are streamed */
    size_t body_size;
    uint8_t body[ADMIN_BODY_MAX];
};

/*
 * Whether a request with this Host, the port aside, may be answered: the admin address's own ip,
 * localhost, or one of allowed-hosts. Empty (HTTP/1.0 without Host) is allowed, since no browser
 * sends that.
 */
bool admin_host_is_allowed(const struct generation *generation, struct span host);

/* Answers a well-formed request. */
void admin_answer_request(struct admin_answer *answer, const struct generation *generation,
                          const struct admin_source *source, const struct request_head *head);

/* Answers a request that could not be parsed, or asks for more than there is. */
void admin_answer_refusal(struct admin_answer *answer, enum reason reason);

/*
 * Renders the head. `chunked` and `close` say how the connection will carry a streamed body and
 * what comes after it. False when it does not fit.
 */
NODISCARD bool admin_write_head(const struct admin_answer *answer, struct output *output,
                                bool chunked, bool close);

#endif
