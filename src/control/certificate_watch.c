#include "control/certificate_watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DAY = 86400, DATE_MAX = 16 };

/* How far a certificate's life has come, of what is worth telling. */
enum stage { STAGE_FRESH, STAGE_THIRD, STAGE_TENTH, STAGE_EXPIRED };

bool certificate_watch_init(struct certificate_watch *watch, const struct generation *generation)
{
    uint32_t count = generation->header->certificates.count;
    *watch = (struct certificate_watch){
        .generation = generation,
        .told = calloc(count > 0 ? count : 1, sizeof(*watch->told)),
    };
    return watch->told != NULL;
}

void certificate_watch_deinit(struct certificate_watch *watch)
{
    free(watch->told);
    *watch = (struct certificate_watch){0};
}

static enum stage stage_of(const struct generation_certificate *certificate, uint64_t now)
{
    uint64_t lifetime = certificate->not_after - certificate->not_before;
    if (now >= certificate->not_after) {
        return STAGE_EXPIRED;
    }
    uint64_t left = certificate->not_after - now;
    return left <= lifetime / 10 ? STAGE_TENTH : left <= lifetime / 3 ? STAGE_THIRD : STAGE_FRESH;
}

static void print_line(const struct certificate_watch *watch,
                       const struct generation_certificate *certificate, enum stage stage,
                       uint64_t now, char line[CERTIFICATE_LINE_MAX])
{
    struct tm date;
    char text[DATE_MAX] = "unknown";
    time_t end = (time_t)certificate->not_after;
    if (gmtime_r(&end, &date) != NULL) {
        (void)strftime(text, sizeof(text), "%Y-%m-%d", &date);
    }
    struct span name = generation_text(watch->generation, certificate->name);
    struct span file = generation_text(watch->generation, certificate->file);
    if (stage == STAGE_EXPIRED) {
        (void)snprintf(line, CERTIFICATE_LINE_MAX,
                       "the certificate of %.*s has expired on %s (%.*s): peers refuse it",
                       SPAN_ARGS(name), text, SPAN_ARGS(file));
        return;
    }
    uint64_t days = (certificate->not_after - now) / DAY;
    (void)snprintf(line, CERTIFICATE_LINE_MAX,
                   "the certificate of %.*s expires on %s, in %" PRIu64 " day%s; less than a %s of "
                   "its lifetime is left (%.*s)",
                   SPAN_ARGS(name), text, days, days == 1 ? "" : "s",
                   stage == STAGE_TENTH ? "tenth" : "third", SPAN_ARGS(file));
}

bool certificate_watch_tell(struct certificate_watch *watch, uint64_t now,
                            char line[CERTIFICATE_LINE_MAX])
{
    uint32_t count = watch->generation->header->certificates.count;
    while (watch->next < count) {
        uint32_t index = watch->next++;
        const struct generation_certificate *certificate =
            generation_certificate(watch->generation, index);
        enum stage stage = stage_of(certificate, now);
        if (stage > watch->told[index]) { /* a clock that is set back tells nothing twice */
            watch->told[index] = (uint8_t)stage;
            print_line(watch, certificate, stage, now, line);
            return true;
        }
    }
    watch->next = 0;
    return false;
}
