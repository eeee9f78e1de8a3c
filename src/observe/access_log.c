#include "observe/access_log.h"

#include <time.h>

#include "base/hash.h"
#include "observe/access_format.h"

size_t access_log_size(const struct generation *generation)
{
    struct span where = generation_text(generation, generation->header->server.access_log);
    return span_equal(where, SPAN("off")) ? 0 : ring_size(RING_CAPACITY_DEFAULT);
}

bool access_log_tells_tls(const struct generation *generation)
{
    struct ref ref = generation->header->server.access.fields;
    const uint32_t *fields = generation_array(generation, ref);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (fields[i] >= ACCESS_FIELD_TLS_VERSION && fields[i] <= ACCESS_FIELD_CLIENT_VERIFIED) {
            return true;
        }
    }
    return false;
}

void access_log_init(struct access_log *log, void *memory, uint64_t incarnation,
                     struct metrics *metrics, const struct generation *generation)
{
    const struct generation_access *access = &generation->header->server.access;
    *log = (struct access_log){
        .metrics = metrics,
        .enabled = memory != NULL,
        .tells_tls = memory != NULL && access_log_tells_tls(generation),
        .generation = generation,
        .access = access,
        .fields = generation_array(generation, access->fields),
        .rates = access->rates.count == 0 ? NULL : generation_array(generation, access->rates),
        .second = UINT64_MAX,
    };
    if (log->enabled) {
        ring_writer_init(&log->ring, memory, RING_CAPACITY_DEFAULT, incarnation);
    }
}

void access_log_attach(struct access_log *log, const _Atomic uint64_t *cursor)
{
    ring_writer_attach(&log->ring, cursor);
}

uint32_t access_log_waiting(struct access_log *log)
{
    return log->enabled ? (uint32_t)(ring_waiting(&log->ring) / 1024) : 0;
}

struct tm access_calendar(uint64_t second)
{
    time_t moment = (time_t)second;
    struct tm day = {0};
    if (gmtime_r(&moment, &day) == NULL) {
        day = (struct tm){.tm_year = 70, .tm_mday = 1};
    }
    return day;
}

/* What fails after a good status was sent would hide among the good ones: it is always kept. */
static uint32_t rate_of(const struct access_log *log, const struct access_record *record)
{
    enum { FIRST_ERROR = 400 };
    uint16_t status = record->status;
    bool cut_short = record->reason != REASON_NONE && status != 0 && status < FIRST_ERROR;
    return cut_short || status >= GENERATION_STATUSES ? GENERATION_RATE_ONE : log->rates[status];
}

/* The same for one id everywhere, and a rate's requests are among those of each higher rate. */
static bool is_kept(const struct access_record *record, uint32_t rate)
{
    static const struct hash_key everywhere = {0};
    uint64_t share = hash_keyed(&everywhere, record->request_id) >> 32;
    return share * GENERATION_RATE_ONE >> 32 < rate;
}

void access_log_write(struct access_log *log, const struct access_record *record)
{
    uint32_t rate = GENERATION_RATE_ONE;
    if (!log->enabled) {
        return;
    }
    if (log->rates != NULL) {
        rate = rate_of(log, record);
        if (rate < GENERATION_RATE_ONE && !is_kept(record, rate)) {
            metrics_count(log->metrics, METRIC_ACCESS_LOG_SAMPLED);
            return;
        }
    }
    uint8_t *place = ring_reserve(&log->ring, ACCESS_LINE_MAX);
    if (place == NULL) {
        metrics_count(log->metrics, METRIC_ACCESS_LOG_DROPS);
        return;
    }
    struct output line = output_over(place, ACCESS_LINE_MAX);
    if (log->access->format == ACCESS_COMBINED) {
        access_combined(log, &line, record);
    } else {
        access_json(log, &line, record, rate);
    }
    ASSERT(!line.overflowed);
    ring_commit(&log->ring, line.size);
    metrics_count(log->metrics, METRIC_ACCESS_LOG_RECORDS);
}
