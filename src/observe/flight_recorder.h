/*
 * The flight recorder: what a process is doing, told in its own segment so that others can read it
 * at any time, without locks, and after its death. Every process has one word for the phase of its
 * turn. A worker has, besides, a cell for each exchange in flight (step, since when, the request,
 * the attempt), a ring of the exchanges that finished last, and a ring of those that failed, which
 * are so kept longer.
 *
 * The owner alone writes, in its thread. A cell bears its number before and after its contents; a
 * reader that finds two numbers has met a write (or a writer that was killed in one) and skips the
 * cell. The phase, and an exchange's step and attempt, are single words and never torn. Nothing
 * that is read is used as an index or a length unchecked, and texts come out printable.
 *
 * What is kept of a request: id, method, host and path, cut to the sizes below. Neither fields nor
 * queries are ever written: secrets travel in them.
 *
 * Bounds: FLIGHT_SLOTS_MAX exchanges in flight at a time (more are counted, not described), as many
 * finished ones as `observability flight-recorder` says, a quarter of that of failures.
 */
#ifndef SENTINEL_OBSERVE_FLIGHT_RECORDER_H
#define SENTINEL_OBSERVE_FLIGHT_RECORDER_H

#include <assert.h>
#include <stdatomic.h>

#include "base/address.h"
#include "base/reason.h"
#include "config/generation.h"
#include "net/tls_detail.h"
#include "observe/segment.h"

enum flight_phase {
#define PHASE(id, label, text) FLIGHT_##id,
#include "observe/flight_phase.def"
#undef PHASE
    FLIGHT_PHASE_COUNT
};

enum {
    FLIGHT_ID_MAX = 64,
    FLIGHT_METHOD_MAX = 16,
    FLIGHT_HOST_MAX = 64,
    FLIGHT_PATH_MAX = 128,
    FLIGHT_TEXT_MAX = FLIGHT_ID_MAX + FLIGHT_METHOD_MAX + FLIGHT_HOST_MAX + FLIGHT_PATH_MAX,
    FLIGHT_FIXED_WORDS = 9,
    FLIGHT_RECORD_WORDS = FLIGHT_FIXED_WORDS + FLIGHT_TEXT_MAX / 8,
    FLIGHT_SLOTS_MAX = 16384, /* exchanges in flight that a worker describes */
    FLIGHT_RESERVE = 64,      /* of exchanges beyond max-requests, for answers that refuse */
};

#define FLIGHT_NONE UINT32_MAX    /* no slot; no route, no endpoint */
#define FLIGHT_NO_TIME UINT64_MAX /* "this never happened", for durations */

/* One exchange. The numbers before and after are equal unless a write is (or was) under way. */
struct flight_cell {
    _Atomic uint64_t before;
    _Atomic uint64_t after;
    _Atomic uint64_t step;    /* in flight only; 0: the cell is free */
    _Atomic uint64_t attempt; /* in flight only */
    _Atomic uint64_t route;   /* in flight only */
    _Atomic uint64_t record[FLIGHT_RECORD_WORDS];
};

/* What every process tells. */
struct flight_header {
    _Atomic uint64_t doing;    /* phase and detail */
    _Atomic uint64_t turned;   /* when its turn began; microseconds of the monotonic clock */
    _Atomic uint64_t started;  /* the same, of the process */
    _Atomic uint64_t slots;    /* cells of exchanges that were ever used: those below it */
    _Atomic uint64_t untold;   /* exchanges in flight that found no cell */
    _Atomic uint64_t finished; /* exchanges that finished so far */
    _Atomic uint64_t signal;   /* the fault that the crash handler saw; 0: none */
    _Atomic uint64_t reserved;
};

static_assert(sizeof(struct flight_cell) == 384, "whole cache lines");
static_assert(sizeof(struct flight_header) == 64, "one cache line");

/* The writing end, in the owner's memory. All zero: records nothing. */
struct flight_recorder {
    struct flight_header *header; /* NULL: nothing is recorded */
    struct flight_cell *cells;    /* in flight, then finished, then failures */
    uint32_t *free_slots;         /* a stack; owned */
    uint32_t free_count;
    uint32_t slots;
    uint32_t fresh; /* slots from here on were never used */
    uint32_t recent;
    uint32_t failures;
    uint64_t writes;   /* numbers given to cells in flight */
    uint64_t finished; /* numbers given to finished ones */
    uint64_t failed;
};

/* Bytes of the region for a process of this role. */
size_t flight_size(enum process_role role, const struct generation *generation);

/* Bytes that the owner allocates for its bookkeeping beside that. */
size_t flight_own_bytes(enum process_role role, const struct generation *generation);

/*
 * Starts recording into zeroed memory of flight_size bytes, aligned to 64; `now` is microseconds of
 * the monotonic clock. False without memory for the bookkeeping.
 */
NODISCARD bool flight_recorder_init(struct flight_recorder *recorder, void *memory,
                                    enum process_role role, const struct generation *generation,
                                    uint64_t now);

void flight_recorder_deinit(struct flight_recorder *recorder);

/* What the process does from now on. A store. */
static inline void flight_doing(const struct flight_recorder *recorder, enum flight_phase phase,
                                uint32_t detail)
{
    if (recorder->header != NULL) {
        atomic_store_explicit(&recorder->header->doing, (uint64_t)detail << 32 | (uint64_t)phase,
                              memory_order_relaxed);
    }
}

/* A turn begins. A store. */
static inline void flight_turn(const struct flight_recorder *recorder, uint64_t now)
{
    if (recorder->header != NULL) {
        atomic_store_explicit(&recorder->header->turned, now, memory_order_relaxed);
    }
}

/* What is told of a request. Spans are borrowed for the call. */
struct flight_request {
    uint64_t began; /* microseconds since the Unix epoch */
    struct address client;
    uint32_t listener;
    struct span id;
    struct span method;
    struct span host;
    struct span path; /* without query */
    bool has_query;
};

/* How an exchange ended. */
struct flight_outcome {
    uint32_t route;    /* FLIGHT_NONE: none */
    uint32_t endpoint; /* FLIGHT_NONE: none */
    uint32_t attempts;
    uint16_t status; /* 0: no answer was sent */
    enum reason reason;
    enum tls_detail detail; /* of a handshake, where one failed */
    uint64_t total;         /* microseconds */
    uint64_t first_byte;    /* microseconds; FLIGHT_NO_TIME: none came */
};

/*
 * An exchange begins, of which only `began`, client and listener need be known. Returns its slot,
 * or FLIGHT_NONE when nothing is recorded or no cell is free; the calls below take that, too.
 */
NODISCARD uint32_t flight_begin(struct flight_recorder *recorder,
                                const struct flight_request *request);

/* All that is to be known of the request is known. */
void flight_describe(struct flight_recorder *recorder, uint32_t slot,
                     const struct flight_request *request);

/*
 * The exchange enters a step, with its attempt in a step of its own: both below 255, named by the
 * reader. `now` is microseconds of the monotonic clock.
 */
static inline void flight_step(const struct flight_recorder *recorder, uint32_t slot, unsigned step,
                               unsigned attempt_step, uint64_t now)
{
    if (slot < recorder->slots) {
        uint64_t word = now << 16 | (uint64_t)attempt_step << 8 | (step + 1);
        atomic_store_explicit(&recorder->cells[slot].step, word, memory_order_relaxed);
    }
}

/* Its attempt number `count` is made at this endpoint. */
static inline void flight_attempt(const struct flight_recorder *recorder, uint32_t slot,
                                  uint32_t endpoint, uint32_t count)
{
    if (slot < recorder->slots) {
        atomic_store_explicit(&recorder->cells[slot].attempt, (uint64_t)count << 32 | endpoint,
                              memory_order_relaxed);
    }
}

/* It goes by this route. */
static inline void flight_route(const struct flight_recorder *recorder, uint32_t slot,
                                uint32_t route)
{
    if (slot < recorder->slots) {
        atomic_store_explicit(&recorder->cells[slot].route, route, memory_order_relaxed);
    }
}

/* The exchange has ended: it moves to the finished ones, and its slot is free. */
void flight_end(struct flight_recorder *recorder, uint32_t slot,
                const struct flight_outcome *outcome);

/* Another process's recorder, or what it left. Borrowed, as memory and generation. */
struct flight_view {
    const struct flight_header *header; /* NULL: none */
    const struct flight_cell *cells;
    const struct generation *generation;
    uint32_t slots;
    uint32_t recent;
    uint32_t failures;
};

/* Looks at memory of flight_size bytes; NULL: there is nothing to see. */
void flight_view_init(struct flight_view *view, const void *memory, enum process_role role,
                      const struct generation *generation);

/* What a process was doing. Everything in it is sane, whatever its owner wrote. */
struct flight_activity {
    enum flight_phase phase;
    uint32_t detail;
    uint64_t turned;  /* microseconds of the monotonic clock; 0: never */
    uint64_t started; /* the same */
    uint64_t untold;
    int signal;     /* the fault that its crash handler saw; 0: none */
    unsigned fault; /* enum flight_fault, of that signal */
};

/* Where an address that faulted lies: what can be told without giving the layout away. */
enum flight_fault {
    FLIGHT_FAULT_NONE,  /* the signal was sent, not caused */
    FLIGHT_FAULT_NULL,  /* in the first 64 KiB */
    FLIGHT_FAULT_STACK, /* near the stack pointer */
    FLIGHT_FAULT_ELSEWHERE,
    FLIGHT_FAULT_COUNT
};

void flight_read_activity(const struct flight_view *view, struct flight_activity *activity);

/* An exchange as it was read: numbers in range, texts printable. */
struct flight_entry {
    uint64_t number; /* of a finished one: counts them, from 1 */
    bool torn;       /* the request was being written: only step, attempt and endpoint are known */
    uint64_t began;
    struct address client; /* ADDRESS_NONE: not known */
    uint32_t listener;     /* FLIGHT_NONE: not known; so are route and endpoint */
    uint32_t route;
    uint32_t endpoint;
    uint32_t attempts;
    unsigned step; /* of one in flight */
    unsigned attempt_step;
    uint64_t since;  /* of the step; microseconds of the monotonic clock */
    uint16_t status; /* of a finished one, as what follows */
    enum reason reason;
    enum tls_detail detail;
    uint64_t total;
    uint64_t first_byte;
    bool has_query;
    bool host_cut;
    bool path_cut;
    uint8_t id_size;
    uint8_t method_size;
    uint8_t host_size;
    uint8_t path_size;
    uint8_t text[FLIGHT_TEXT_MAX]; /* the four, one behind the other */
};

enum flight_list { FLIGHT_IN_FLIGHT, FLIGHT_FINISHED, FLIGHT_FAILED, FLIGHT_LIST_COUNT };

/* How many cells of a list there are to look at. */
uint32_t flight_count(const struct flight_view *view, enum flight_list list);

/*
 * Reads a cell. False: it is free, or (of finished ones) was being written. A failure that is among
 * the finished ones as well is left to those.
 */
bool flight_read(const struct flight_view *view, enum flight_list list, uint32_t index,
                 struct flight_entry *entry);

struct span flight_id(const struct flight_entry *entry);
struct span flight_method(const struct flight_entry *entry);
struct span flight_host(const struct flight_entry *entry);
struct span flight_path(const struct flight_entry *entry);

/* A phase's label and text; static. The phase is below FLIGHT_PHASE_COUNT. */
const char *flight_phase_label(enum flight_phase phase);
const char *flight_phase_text(enum flight_phase phase);

/* Asserts, for tests, that no exchange is in flight. */
void flight_recorder_check_idle(const struct flight_recorder *recorder);

#endif
