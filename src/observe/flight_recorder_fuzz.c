/*
 * A hostile owner: the input fills a worker's whole region, and everything is read from it as the
 * controller would. The sanitizer sees what lies outside; what comes out must be sane.
 */
#include "observe/flight_recorder.h"

#include <stdlib.h>

#include "base/assert.h"

enum { RECENT = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct span text, size_t max)
{
    ASSERT(text.size <= max);
    for (size_t i = 0; i < text.size; i++) {
        ASSERT(text.data[i] >= 0x20 && text.data[i] < 0x7f);
    }
}

static void check_entry(const struct generation_header *header, const struct flight_entry *entry)
{
    check_text(flight_id(entry), FLIGHT_ID_MAX);
    check_text(flight_method(entry), FLIGHT_METHOD_MAX);
    check_text(flight_host(entry), FLIGHT_HOST_MAX);
    check_text(flight_path(entry), FLIGHT_PATH_MAX);
    ASSERT(entry->route == FLIGHT_NONE || entry->route < header->routes.count);
    ASSERT(entry->listener == FLIGHT_NONE || entry->listener < header->listeners.count);
    ASSERT(entry->endpoint == FLIGHT_NONE || entry->endpoint < header->endpoints.count);
    ASSERT((unsigned)entry->reason < REASON_COUNT && entry->status < 1000);
    ASSERT(entry->client.family <= ADDRESS_UNIX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct generation_header header = {.server = {.workers = 1, .flight_recorder = RECENT}};
    header.server.limits.requests = 2;
    header.routes.count = 4;
    header.listeners.count = 2;
    header.endpoints.count = 3;
    const struct generation generation = {.header = &header};
    size_t room = flight_size(PROCESS_WORKER, &generation);
    uint8_t *memory = aligned_alloc(64, (room + 63) / 64 * 64);
    ASSERT(memory != NULL);
    for (size_t i = 0; i < room; i++) {
        memory[i] = size == 0 ? 0 : data[i % size]; /* a short input, again and again */
    }
    struct flight_view view;
    struct flight_activity activity;
    flight_view_init(&view, memory, PROCESS_WORKER, &generation);
    flight_read_activity(&view, &activity);
    ASSERT((unsigned)activity.phase < FLIGHT_PHASE_COUNT && activity.fault < FLIGHT_FAULT_COUNT);
    for (int list = 0; list < FLIGHT_LIST_COUNT; list++) {
        uint32_t count = flight_count(&view, (enum flight_list)list);
        for (uint32_t i = 0; i <= count; i++) {
            struct flight_entry entry;
            if (flight_read(&view, (enum flight_list)list, i, &entry)) {
                check_entry(&header, &entry);
            }
        }
    }
    free(memory);
    return 0;
}
