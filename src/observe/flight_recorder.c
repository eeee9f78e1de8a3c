#include "observe/flight_recorder.h"

#include <stdlib.h>

#include "base/assert.h"

enum { FLAG_QUERY = 1, FLAG_HOST_CUT = 2, FLAG_PATH_CUT = 4 };

/* The words of a record, in order. */
enum {
    WORD_BEGAN,
    WORD_SHAPE, /* sizes of the four texts, flags, the client's family and port */
    WORD_IP_HIGH,
    WORD_IP_LOW,
    WORD_LISTENER, /* and the route */
    WORD_OUTCOME,  /* endpoint, attempts, status */
    WORD_REASON,   /* and the detail of a handshake */
    WORD_TOTAL,
    WORD_FIRST_BYTE,
    WORD_TEXT,
};

static_assert((int)WORD_TEXT == (int)FLIGHT_FIXED_WORDS, "texts follow the fixed words");
static_assert(FLIGHT_TEXT_MAX % 8 == 0 && FLIGHT_PATH_MAX < 256, "sizes fit a byte, texts words");

/* ---- Layout: both sides compute it ---- */

struct layout {
    uint32_t slots;
    uint32_t recent;
    uint32_t failures;
};

static struct layout layout_of(enum process_role role, const struct generation *generation)
{
    const struct generation_server *server = &generation->header->server;
    uint32_t recent = server->flight_recorder;
    if (role != PROCESS_WORKER || recent == 0) {
        return (struct layout){0};
    }
    /* A worker may go an eighth above its share of max-requests (proxy/worker_plan.h). */
    uint32_t share = server->limits.requests / server->workers + 1;
    uint32_t slots = share + share / 8 + 1 + FLIGHT_RESERVE;
    return (struct layout){
        .slots = slots < FLIGHT_SLOTS_MAX ? slots : FLIGHT_SLOTS_MAX,
        .recent = recent,
        .failures = recent / 4 + 1,
    };
}

size_t flight_size(enum process_role role, const struct generation *generation)
{
    struct layout layout = layout_of(role, generation);
    size_t cells = (size_t)layout.slots + layout.recent + layout.failures;
    return sizeof(struct flight_header) + cells * sizeof(struct flight_cell);
}

size_t flight_own_bytes(enum process_role role, const struct generation *generation)
{
    return layout_of(role, generation).slots * sizeof(uint32_t);
}

/* ---- The writing end ---- */

bool flight_recorder_init(struct flight_recorder *recorder, void *memory, enum process_role role,
                          const struct generation *generation, uint64_t now)
{
    struct layout layout = layout_of(role, generation);
    struct flight_header *header = memory;
    *recorder = (struct flight_recorder){
        .header = header,
        .cells = (struct flight_cell *)(void *)(header + 1),
        .slots = layout.slots,
        .recent = layout.recent,
        .failures = layout.failures,
    };
    if (layout.slots > 0) {
        recorder->free_slots = malloc(flight_own_bytes(role, generation));
        if (recorder->free_slots == NULL) {
            *recorder = (struct flight_recorder){0};
            return false;
        }
    }
    atomic_store_explicit(&header->started, now, memory_order_relaxed);
    atomic_store_explicit(&header->turned, now, memory_order_relaxed);
    flight_doing(recorder, FLIGHT_START, 0);
    return true;
}

void flight_recorder_deinit(struct flight_recorder *recorder)
{
    free(recorder->free_slots);
    *recorder = (struct flight_recorder){0};
}

/* One thread writes: a load and a store, published as one word. */
static void add_to(_Atomic uint64_t *word, uint64_t delta)
{
    uint64_t value = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, value + delta, memory_order_relaxed);
}

/* The last freed first: what is touched follows what is in flight. */
static uint32_t take_slot(struct flight_recorder *recorder)
{
    if (recorder->free_count > 0) {
        return recorder->free_slots[--recorder->free_count];
    }
    if (recorder->fresh < recorder->slots) {
        uint32_t slot = recorder->fresh++;
        atomic_store_explicit(&recorder->header->slots, recorder->fresh, memory_order_relaxed);
        return slot;
    }
    return FLIGHT_NONE;
}

static void begin_write(struct flight_cell *cell, uint64_t number)
{
    atomic_store_explicit(&cell->before, number, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* whoever sees a word below sees this number */
}

static void end_write(struct flight_cell *cell, uint64_t number)
{
    atomic_store_explicit(&cell->after, number, memory_order_release);
}

static void put(struct flight_cell *cell, unsigned word, uint64_t value)
{
    atomic_store_explicit(&cell->record[word], value, memory_order_relaxed);
}

static size_t text_words(uint64_t shape)
{
    size_t bytes =
        (shape & 0xff) + (shape >> 8 & 0xff) + (shape >> 16 & 0xff) + (shape >> 24 & 0xff);
    return (bytes + 7) / 8;
}

static size_t append(uint8_t *text, size_t used, struct span part, size_t max, size_t *size)
{
    *size = part.size < max ? part.size : max;
    if (*size > 0) {
        memcpy(text + used, part.data, *size);
    }
    return used + *size;
}

static void write_request(struct flight_cell *cell, const struct flight_request *request)
{
    uint8_t text[FLIGHT_TEXT_MAX];
    size_t id = 0;
    size_t method = 0;
    size_t host = 0;
    size_t path = 0;
    size_t used = append(text, 0, request->id, FLIGHT_ID_MAX, &id);
    used = append(text, used, request->method, FLIGHT_METHOD_MAX, &method);
    used = append(text, used, request->host, FLIGHT_HOST_MAX, &host);
    used = append(text, used, request->path, FLIGHT_PATH_MAX, &path);
    uint64_t flags = (request->has_query ? FLAG_QUERY : 0U) |
                     (host < request->host.size ? FLAG_HOST_CUT : 0U) |
                     (path < request->path.size ? FLAG_PATH_CUT : 0U);
    uint64_t shape = id | method << 8 | host << 16 | path << 24 | flags << 32 |
                     (uint64_t)request->client.family << 40 | (uint64_t)request->client.port << 48;
    uint64_t ip[2];
    memcpy(ip, request->client.ip, sizeof(ip));
    put(cell, WORD_BEGAN, request->began);
    put(cell, WORD_SHAPE, shape);
    put(cell, WORD_IP_HIGH, ip[0]);
    put(cell, WORD_IP_LOW, ip[1]);
    put(cell, WORD_LISTENER, (uint64_t)request->listener << 32);
    memset(text + used, 0, (8 - used % 8) % 8);
    for (size_t i = 0; i < (used + 7) / 8; i++) {
        uint64_t word;
        memcpy(&word, text + i * 8, sizeof(word));
        put(cell, (unsigned)(WORD_TEXT + i), word);
    }
}

uint32_t flight_begin(struct flight_recorder *recorder, const struct flight_request *request)
{
    if (recorder->slots == 0) {
        return FLIGHT_NONE;
    }
    uint32_t slot = take_slot(recorder);
    if (slot == FLIGHT_NONE) {
        add_to(&recorder->header->untold, 1);
        return FLIGHT_NONE;
    }
    atomic_store_explicit(&recorder->cells[slot].attempt, FLIGHT_NONE, memory_order_relaxed);
    flight_route(recorder, slot, FLIGHT_NONE);
    flight_describe(recorder, slot, request);
    return slot;
}

void flight_describe(struct flight_recorder *recorder, uint32_t slot,
                     const struct flight_request *request)
{
    if (slot == FLIGHT_NONE) {
        return;
    }
    ASSERT(slot < recorder->slots);
    struct flight_cell *cell = &recorder->cells[slot];
    uint64_t number = ++recorder->writes;
    begin_write(cell, number);
    write_request(cell, request);
    end_write(cell, number);
}

/* Copies what the cell in flight says of the request, and adds how it ended. */
static void keep(struct flight_cell *kept, const struct flight_cell *cell, uint64_t number,
                 const struct flight_outcome *outcome)
{
    begin_write(kept, number);
    uint64_t shape = atomic_load_explicit(&cell->record[WORD_SHAPE], memory_order_relaxed);
    for (unsigned i = 0; i <= WORD_IP_LOW; i++) {
        put(kept, i, atomic_load_explicit(&cell->record[i], memory_order_relaxed));
    }
    uint64_t listener = atomic_load_explicit(&cell->record[WORD_LISTENER], memory_order_relaxed);
    put(kept, WORD_LISTENER, listener | outcome->route);
    uint64_t attempts = outcome->attempts < UINT16_MAX ? outcome->attempts : UINT16_MAX;
    put(kept, WORD_OUTCOME, (uint64_t)outcome->status << 48 | attempts << 32 | outcome->endpoint);
    put(kept, WORD_REASON, (uint64_t)outcome->detail << 32 | (uint64_t)outcome->reason);
    put(kept, WORD_TOTAL, outcome->total);
    put(kept, WORD_FIRST_BYTE, outcome->first_byte);
    for (unsigned i = 0; i < text_words(shape); i++) {
        put(kept, WORD_TEXT + i,
            atomic_load_explicit(&cell->record[WORD_TEXT + i], memory_order_relaxed));
    }
    end_write(kept, number);
}

void flight_end(struct flight_recorder *recorder, uint32_t slot,
                const struct flight_outcome *outcome)
{
    if (recorder->slots == 0) {
        return;
    }
    if (slot == FLIGHT_NONE) {
        add_to(&recorder->header->untold, UINT64_MAX);
        return;
    }
    ASSERT(slot < recorder->slots && recorder->free_count < recorder->slots);
    struct flight_cell *cell = &recorder->cells[slot];
    struct flight_cell *finished = recorder->cells + recorder->slots;
    uint64_t number = ++recorder->finished;
    keep(&finished[(number - 1) % recorder->recent], cell, number, outcome);
    if (outcome->reason != REASON_NONE || outcome->status >= 500) {
        struct flight_cell *failed = finished + recorder->recent;
        keep(&failed[recorder->failed++ % recorder->failures], cell, number, outcome);
    }
    atomic_store_explicit(&recorder->header->finished, number, memory_order_relaxed);
    atomic_store_explicit(&cell->step, 0, memory_order_relaxed);
    recorder->free_slots[recorder->free_count++] = slot;
}

void flight_recorder_check_idle(const struct flight_recorder *recorder)
{
    ASSERT(recorder->free_count == recorder->fresh);
    for (uint32_t i = 0; i < recorder->fresh; i++) {
        ASSERT(atomic_load_explicit(&recorder->cells[i].step, memory_order_relaxed) == 0);
    }
}

/* ---- The reading end ---- */

void flight_view_init(struct flight_view *view, const void *memory, enum process_role role,
                      const struct generation *generation)
{
    *view = (struct flight_view){.generation = generation};
    if (memory == NULL) {
        return;
    }
    struct layout layout = layout_of(role, generation);
    view->header = memory;
    view->cells = (const struct flight_cell *)(const void *)(view->header + 1);
    view->slots = layout.slots;
    view->recent = layout.recent;
    view->failures = layout.failures;
}

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

void flight_read_activity(const struct flight_view *view, struct flight_activity *activity)
{
    *activity = (struct flight_activity){0};
    if (view->header == NULL) {
        return;
    }
    uint64_t doing = load(&view->header->doing);
    uint64_t signal = load(&view->header->signal);
    uint32_t phase = (uint32_t)doing;
    activity->phase = phase < FLIGHT_PHASE_COUNT ? (enum flight_phase)phase : FLIGHT_START;
    activity->detail = (uint32_t)(doing >> 32);
    activity->turned = load(&view->header->turned);
    activity->started = load(&view->header->started);
    activity->untold = load(&view->header->untold);
    activity->signal = (int)(signal & 0x7f);
    unsigned fault = (unsigned)(signal >> 8 & 0xff);
    activity->fault = fault < FLIGHT_FAULT_COUNT ? fault : FLIGHT_FAULT_NONE;
}

uint32_t flight_count(const struct flight_view *view, enum flight_list list)
{
    switch (list) {
    case FLIGHT_IN_FLIGHT: {
        /* Only what was used: to read the rest would make the system give it memory. */
        uint64_t used = view->header == NULL ? 0 : load(&view->header->slots);
        return used < view->slots ? (uint32_t)used : view->slots;
    }
    case FLIGHT_FINISHED:
        return view->recent;
    case FLIGHT_FAILED:
        return view->failures;
    case FLIGHT_LIST_COUNT:
        break;
    }
    UNREACHABLE("a list of exchanges");
}

static uint32_t index_below(uint64_t value, uint32_t count)
{
    uint32_t index = (uint32_t)value;
    return index < count ? index : FLIGHT_NONE;
}

/* Cuts the four sizes to their bounds, so that their sum fits the text whatever the word says. */
static void decode_shape(struct flight_entry *entry, uint64_t shape)
{
    static const uint8_t BOUNDS[] = {FLIGHT_ID_MAX, FLIGHT_METHOD_MAX, FLIGHT_HOST_MAX,
                                     FLIGHT_PATH_MAX};
    uint8_t *const sizes[] = {&entry->id_size, &entry->method_size, &entry->host_size,
                              &entry->path_size};
    for (size_t i = 0; i < 4; i++) {
        uint8_t size = (uint8_t)(shape >> 8 * i);
        *sizes[i] = size < BOUNDS[i] ? size : BOUNDS[i];
    }
    unsigned flags = (unsigned)(shape >> 32 & 0xff);
    entry->has_query = (flags & FLAG_QUERY) != 0;
    entry->host_cut = (flags & FLAG_HOST_CUT) != 0;
    entry->path_cut = (flags & FLAG_PATH_CUT) != 0;
    uint8_t family = (uint8_t)(shape >> 40);
    entry->client.family = family <= ADDRESS_UNIX ? family : ADDRESS_NONE;
    entry->client.port = (uint16_t)(shape >> 48);
}

static void decode(const struct flight_view *view, const uint64_t words[FLIGHT_RECORD_WORDS],
                   struct flight_entry *entry)
{
    const struct generation_header *header = view->generation->header;
    decode_shape(entry, words[WORD_SHAPE]);
    entry->began = words[WORD_BEGAN];
    if (entry->client.family != ADDRESS_NONE) {
        memcpy(entry->client.ip, words + WORD_IP_HIGH, sizeof(entry->client.ip));
    }
    entry->listener = index_below(words[WORD_LISTENER] >> 32, header->listeners.count);
    memcpy(entry->text, words + WORD_TEXT, sizeof(entry->text));
    for (size_t i = 0; i < sizeof(entry->text); i++) {
        /* What stands in logs and on terminals is printable ASCII, nothing that steers either. */
        if (entry->text[i] < 0x20 || entry->text[i] >= 0x7f) {
            entry->text[i] = '?';
        }
    }
}

static void decode_outcome(const struct flight_view *view,
                           const uint64_t words[FLIGHT_RECORD_WORDS], struct flight_entry *entry)
{
    uint64_t outcome = words[WORD_OUTCOME];
    uint32_t reason = (uint32_t)words[WORD_REASON];
    uint32_t detail = (uint32_t)(words[WORD_REASON] >> 32);
    entry->route = index_below(words[WORD_LISTENER], view->generation->header->routes.count);
    entry->endpoint = index_below(outcome, view->generation->header->endpoints.count);
    entry->attempts = (uint32_t)(outcome >> 32 & UINT16_MAX);
    uint16_t status = (uint16_t)(outcome >> 48);
    entry->status = status < 1000 ? status : 0;
    entry->reason = reason < REASON_COUNT ? (enum reason)reason : REASON_NONE;
    entry->detail = detail < TLS_DETAIL_COUNT ? (enum tls_detail)detail : TLS_DETAIL_NONE;
    entry->total = words[WORD_TOTAL];
    entry->first_byte = words[WORD_FIRST_BYTE];
}

/* False when the cell was never written; *torn when it was being written. */
static bool copy(const struct flight_cell *cell, uint64_t words[FLIGHT_RECORD_WORDS],
                 struct flight_entry *entry, bool *torn)
{
    uint64_t after = atomic_load_explicit(&cell->after, memory_order_acquire);
    for (size_t i = 0; i < FLIGHT_RECORD_WORDS; i++) {
        words[i] = load(&cell->record[i]);
    }
    uint64_t attempt = load(&cell->attempt);
    entry->route = (uint32_t)load(&cell->route);
    uint64_t step = load(&cell->step);
    atomic_thread_fence(memory_order_acquire);
    uint64_t before = load(&cell->before);
    *torn = before != after;
    entry->number = after;
    entry->step = (unsigned)(step & 0xff) - 1;
    entry->attempt_step = (unsigned)(step >> 8 & 0xff);
    entry->since = step >> 16;
    entry->endpoint = (uint32_t)attempt;
    entry->attempts = (uint32_t)(attempt >> 32);
    return before != 0 && (step & 0xff) != 0;
}

static bool read_in_flight(const struct flight_view *view, const struct flight_cell *cell,
                           struct flight_entry *entry)
{
    uint64_t words[FLIGHT_RECORD_WORDS];
    if (!copy(cell, words, entry, &entry->torn)) {
        return false;
    }
    entry->endpoint = index_below(entry->endpoint, view->generation->header->endpoints.count);
    entry->route = index_below(entry->route, view->generation->header->routes.count);
    if (entry->torn) {
        entry->listener = FLIGHT_NONE;
        return true;
    }
    decode(view, words, entry);
    return true;
}

bool flight_read(const struct flight_view *view, enum flight_list list, uint32_t index,
                 struct flight_entry *entry)
{
    static const struct flight_entry BLANK;
    *entry = BLANK;
    if (view->header == NULL || index >= flight_count(view, list)) {
        return false;
    }
    if (list == FLIGHT_IN_FLIGHT) {
        return read_in_flight(view, &view->cells[index], entry);
    }
    uint32_t first = view->slots + (list == FLIGHT_FAILED ? view->recent : 0);
    uint64_t words[FLIGHT_RECORD_WORDS];
    bool torn = false;
    (void)copy(&view->cells[first + index], words, entry, &torn);
    if (torn || entry->number == 0) {
        return false;
    }
    uint64_t age = load(&view->header->finished) - entry->number;
    if (list == FLIGHT_FAILED && age < view->recent) {
        return false;
    }
    decode(view, words, entry);
    decode_outcome(view, words, entry);
    entry->step = 0;
    return true;
}

struct span flight_id(const struct flight_entry *entry)
{
    return span_of(entry->text, entry->id_size);
}

struct span flight_method(const struct flight_entry *entry)
{
    return span_of(entry->text + entry->id_size, entry->method_size);
}

struct span flight_host(const struct flight_entry *entry)
{
    return span_of(entry->text + entry->id_size + entry->method_size, entry->host_size);
}

struct span flight_path(const struct flight_entry *entry)
{
    size_t offset = (size_t)entry->id_size + entry->method_size + entry->host_size;
    return span_of(entry->text + offset, entry->path_size);
}

struct phase_info {
    const char *label;
    const char *text;
};

static const struct phase_info PHASES[FLIGHT_PHASE_COUNT] = {
#define PHASE(id, label, text) [FLIGHT_##id] = {label, text},
#include "observe/flight_phase.def"
#undef PHASE
};

const char *flight_phase_label(enum flight_phase phase)
{
    ASSERT((unsigned)phase < FLIGHT_PHASE_COUNT);
    return PHASES[phase].label;
}

const char *flight_phase_text(enum flight_phase phase)
{
    ASSERT((unsigned)phase < FLIGHT_PHASE_COUNT);
    return PHASES[phase].text;
}
