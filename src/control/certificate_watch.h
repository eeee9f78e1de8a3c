/*
 * Tells, once each, when a third and when a tenth of a certificate's lifetime is left, and when it
 * has expired: lines for the operator's log. Controller process; one small cell for each
 * certificate of the generation.
 */
#ifndef SENTINEL_CONTROL_CERTIFICATE_WATCH_H
#define SENTINEL_CONTROL_CERTIFICATE_WATCH_H

#include "config/generation.h"

enum { CERTIFICATE_LINE_MAX = 480 };

struct certificate_watch {
    const struct generation *generation; /* borrowed */
    uint8_t *told;                       /* by certificate: the last stage that was told */
    uint32_t next;                       /* the certificate that is looked at next */
};

/* False when memory ran out. */
NODISCARD bool certificate_watch_init(struct certificate_watch *watch,
                                      const struct generation *generation);
void certificate_watch_deinit(struct certificate_watch *watch); /* harmless on zeros */

/*
 * Whether there is something to tell at that time, in seconds since 1970; the line is cut where it
 * is too long. Call until it says no. At the first call the stage that a certificate has come to
 * meanwhile is told, and none before it.
 */
NODISCARD bool certificate_watch_tell(struct certificate_watch *watch, uint64_t now,
                                      char line[CERTIFICATE_LINE_MAX]);

#endif
