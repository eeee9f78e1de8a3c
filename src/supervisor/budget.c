#include "supervisor/budget.h"

#include "base/assert.h"
#include "control/controller.h"
#include "observe/commons.h"
#include "observe/ledger.h"
#include "supervisor/children.h"
#include "supervisor/process.h"
#include "supervisor/supervisor.h"

/*
 * Measured on a release build with glibc, and rounded up: a process of ours that idles has 130 to
 * 270 KiB of its own (stack, heap, relocated data), and the pages of code and libraries, which all
 * share, come to 2.1 MiB. tests/soak holds the whole figure against what the system says.
 */
enum {
    PROCESS_BYTES = 512 * 1024,
    CODE_BYTES = 3 * 1024 * 1024,
};

enum {
    OWN_DESCRIPTORS = 16,     /* standard streams, channel, loop, timer, signals, executable */
    CHILD_DESCRIPTORS = 2,    /* a child's channel and segment */
    LISTENER_DESCRIPTORS = 1, /* each */
    SPAWN_DESCRIPTORS = 2,    /* while a child is made: its spec, and its end of the channel */
};

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum = 0;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* A region that is not a row of its own would be memory that nobody counts. */
static_assert((int)SEGMENT_REGION_COUNT == 7, "the regions of a worker's segment are rows here");

static void add_worker(struct budget *budget, const struct worker_plan *plan,
                       const struct segment_plan *segment, uint64_t flight_own)
{
    uint64_t bytes[BUDGET_WORKER_ROWS];
    for (unsigned row = 0; row < WORKER_PLAN_ROWS; row++) {
        uint32_t count = plan->items[row].count;
        bytes[row] = plan->items[row].bytes;
        budget->items[row].count =
            count > budget->items[row].count ? count : budget->items[row].count;
    }
    bytes[BUDGET_WORKER_METRICS] = segment->sizes[SEGMENT_METRICS];
    bytes[BUDGET_WORKER_RING] = segment->sizes[SEGMENT_RING];
    bytes[BUDGET_WORKER_CLIENTS] = segment->sizes[SEGMENT_CLIENTS];
    bytes[BUDGET_WORKER_FLIGHT] = segment->sizes[SEGMENT_FLIGHT] + flight_own;
    bytes[BUDGET_WORKER_PROCESS] = PROCESS_BYTES;
    for (unsigned row = 0; row < BUDGET_WORKER_ROWS; row++) {
        struct budget_item *item = &budget->items[row];
        item->one = bytes[row] > item->one ? bytes[row] : item->one;
        item->all = add(item->all, bytes[row]);
    }
}

static uint64_t segment_bytes(enum process_role role, const struct generation *generation)
{
    struct segment_plan plan = process_segment_plan(role, generation);
    uint64_t sum = 0;
    for (unsigned i = 0; i < SEGMENT_REGION_COUNT; i++) {
        sum = add(sum, plan.sizes[i]);
    }
    return sum;
}

static void set_single(struct budget *budget, enum budget_row row, uint64_t bytes)
{
    budget->items[row].one = bytes;
    budget->items[row].all = bytes;
}

static void name_rows(struct budget *budget)
{
    static const char *const names[BUDGET_ROWS] = {
        [BUDGET_WORKER_METRICS] = "metrics",
        [BUDGET_WORKER_RING] = "access log ring",
        [BUDGET_WORKER_CLIENTS] = "counts by client",
        [BUDGET_WORKER_FLIGHT] = "flight recorder",
        [BUDGET_WORKER_PROCESS] = "stack and heap",
        [BUDGET_CONTROLLER] = "controller",
        [BUDGET_LOGGER] = "logger",
        [BUDGET_SUPERVISOR] = "supervisor",
        [BUDGET_COMMONS] = "commons of all workers",
        [BUDGET_GENERATION] = "configuration, compiled",
        [BUDGET_SECRETS] = "private keys",
        [BUDGET_CODE] = "code, shared by all",
    };
    for (unsigned row = 0; row < BUDGET_ROWS; row++) {
        bool planned = row < WORKER_PLAN_ROWS;
        budget->items[row].name =
            planned ? worker_plan_name((enum worker_plan_row)row) : names[row];
        budget->items[row].key =
            planned ? worker_plan_key((enum worker_plan_row)row) : WORKER_PLAN_NO_KEY;
    }
    budget->items[BUDGET_WORKER_CLIENTS].key = KEY_SERVER_MAX_CONNECTIONS;
}

/*
 * With those of a child between fork and exec, which has all that the supervisor has, and copies of
 * what it keeps above the numbers that it puts them on.
 */
static uint64_t supervisor_descriptors(const struct generation_header *header)
{
    uint64_t listeners = header->listeners.count;
    uint64_t children =
        SUPERVISOR_SLOTS_MAX - SUPERVISOR_WORKERS_MAX + (uint64_t)header->server.workers;
    uint64_t copies = 1 /* the executable */ + SPAWN_FD_LISTENERS + listeners;
    return OWN_DESCRIPTORS + LISTENER_DESCRIPTORS * (listeners + 2) + REMAINS_MAX +
           UNREAD_LOGS_MAX + CHILD_DESCRIPTORS * children + SPAWN_DESCRIPTORS + copies;
}

void budget_init(struct budget *budget, const struct generation *generation)
{
    const struct generation_header *header = generation->header;
    struct segment_plan segment = process_segment_plan(PROCESS_WORKER, generation);
    *budget = (struct budget){.workers = header->server.workers};
    name_rows(budget);
    for (uint32_t i = 0; i < budget->workers; i++) {
        struct worker_plan plan;
        worker_plan_init(&plan, generation, i);
        add_worker(budget, &plan, &segment, flight_own_bytes(PROCESS_WORKER, generation));
        if (i == 0) {
            budget->descriptors = plan.descriptors; /* the first has the largest shares */
        }
    }
    set_single(budget, BUDGET_CONTROLLER,
               PROCESS_BYTES + controller_bytes(generation) +
                   segment_bytes(PROCESS_CONTROLLER, generation));
    set_single(budget, BUDGET_LOGGER, PROCESS_BYTES + segment_bytes(PROCESS_LOGGER, generation));
    set_single(budget, BUDGET_SUPERVISOR, PROCESS_BYTES + ledger_size(generation));
    set_single(budget, BUDGET_COMMONS, commons_size(generation));
    set_single(budget, BUDGET_GENERATION, header->size);
    set_single(budget, BUDGET_SECRETS, secrets_bound(generation) + ticket_keys_size());
    set_single(budget, BUDGET_CODE, CODE_BYTES);
    budget->supervisor_descriptors = supervisor_descriptors(header);
    budget->controller_descriptors = OWN_DESCRIPTORS + controller_descriptors(generation);
}

uint64_t budget_one_worker(const struct budget *budget)
{
    uint64_t sum = 0;
    for (unsigned row = 0; row < BUDGET_WORKER_ROWS; row++) {
        sum = add(sum, budget->items[row].one);
    }
    return sum;
}

uint64_t budget_workers(const struct budget *budget)
{
    uint64_t sum = 0;
    for (unsigned row = 0; row < BUDGET_WORKER_ROWS; row++) {
        sum = add(sum, budget->items[row].all);
    }
    return sum;
}

uint64_t budget_bytes(const struct budget *budget)
{
    uint64_t sum = budget_workers(budget);
    for (unsigned row = BUDGET_WORKER_ROWS; row < BUDGET_ROWS; row++) {
        sum = add(sum, budget->items[row].all);
    }
    return sum;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t other_descriptors(const struct budget *budget)
{
    return larger(budget->supervisor_descriptors, budget->controller_descriptors);
}

uint64_t budget_descriptors(const struct budget *budget)
{
    struct worker_plan plan = {.descriptors = budget->descriptors};
    return larger(worker_plan_descriptors(&plan), other_descriptors(budget));
}

void budget_measure(const struct generation *generation, struct figure *figure)
{
    struct budget budget;
    budget_init(&budget, generation);
    *figure = (struct figure){.memory = budget_bytes(&budget),
                              .descriptors = budget_descriptors(&budget),
                              .other_descriptors = other_descriptors(&budget),
                              .count = BUDGET_ROWS};
    for (unsigned row = 0; row < BUDGET_ROWS; row++) {
        figure->items[row] = (struct figure_item){
            .name = budget.items[row].name,
            .key = budget.items[row].key,
            .bytes = budget.items[row].all,
        };
    }
}
