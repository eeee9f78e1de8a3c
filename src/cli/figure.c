#include "cli/figure.h"

#include <inttypes.h>

#include "config/certificate.h"
#include "config/schema.h"
#include "supervisor/budget.h"

enum { BYTES_TEXT_MAX = 24 };

/* 412 B, 8.2 KiB, 31 MiB: three digits and a unit. */
static const char *print_bytes(uint64_t bytes, char text[BYTES_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++) {
        value /= 1024;
    }
    (void)snprintf(text, BYTES_TEXT_MAX, unit > 0 && value < 100 ? "%.1f %s" : "%.0f %s", value,
                   units[unit]);
    return text;
}

/* An empty `one` or `all` leaves its column empty. */
static void print_row(FILE *stream, const struct budget_item *item)
{
    char one[BYTES_TEXT_MAX] = "";
    char all[BYTES_TEXT_MAX] = "";
    char count[BYTES_TEXT_MAX] = "";
    if (item->count > 1) {
        (void)snprintf(count, sizeof(count), "%" PRIu32, item->count);
    }
    if (item->one > 0) {
        (void)print_bytes(item->one, one);
    }
    bool has_key = item->key != WORKER_PLAN_NO_KEY;
    (void)fprintf(stream, "  %-36s %8s %11s %11s%s%s\n", item->name, count, one,
                  print_bytes(item->all, all), has_key ? "  " : "",
                  has_key ? schema_key(item->key)->name : "");
}

static void print_sum(FILE *stream, const char *name, uint64_t one, uint64_t all)
{
    struct budget_item sum = {.name = name, .key = WORKER_PLAN_NO_KEY, .one = one, .all = all};
    print_row(stream, &sum);
}

static void print_memory(FILE *stream, const struct budget *budget, uint64_t limit)
{
    char text[BYTES_TEXT_MAX];
    char name[BYTES_TEXT_MAX];
    (void)snprintf(name, sizeof(name), "%" PRIu32 " worker%s", budget->workers,
                   budget->workers == 1 ? "" : "s");
    (void)fprintf(stream, "memory, worst case %28s %11s %11s\n", "objects", "a worker", "in all");
    for (unsigned row = 0; row < BUDGET_WORKER_ROWS; row++) {
        print_row(stream, &budget->items[row]);
    }
    print_sum(stream, name, budget_one_worker(budget), budget_workers(budget));
    for (unsigned row = BUDGET_WORKER_ROWS; row < BUDGET_ROWS; row++) {
        struct budget_item item = budget->items[row];
        item.one = 0;
        print_row(stream, &item);
    }
    print_sum(stream, "total", 0, budget_bytes(budget));
    (void)fprintf(
        stream,
        "  memory-budget is %s; what is in sockets and pipes is the kernel's, not in the sum\n",
        print_bytes(limit, text));
}

static void print_count(FILE *stream, const char *name, uint64_t count)
{
    (void)fprintf(stream, "  %-36s %8" PRIu64 "\n", name, count);
}

static void print_descriptors(FILE *stream, const struct budget *budget, uint64_t limit)
{
    const struct worker_plan_descriptors *descriptors = &budget->descriptors;
    const struct worker_plan plan = {.descriptors = *descriptors};
    (void)fprintf(stream, "descriptors, worst case of one process\n");
    print_count(stream, "a worker's clients", descriptors->clients);
    print_count(stream, "its upstream connections", descriptors->upstreams);
    print_count(stream, "its listeners", descriptors->listeners);
    if (descriptors->pipes > 0) {
        print_count(stream, "its pipes", descriptors->pipes);
    }
    print_count(stream, "its files, channel and timers", descriptors->own);
    print_count(stream, "a worker", worker_plan_descriptors(&plan));
    print_count(stream, "the controller", budget->controller_descriptors);
    print_count(stream, "the supervisor", budget->supervisor_descriptors);
    if (limit > 0) {
        print_count(stream, "hard limit of a process", limit);
    } else {
        (void)fprintf(stream, "  %-36s %8s\n", "hard limit of a process", "none");
    }
}

void figure_print(FILE *stream, const struct generation *generation, uint64_t descriptor_limit)
{
    struct budget budget;
    budget_init(&budget, generation);
    print_memory(stream, &budget, generation->header->server.memory_budget);
    print_descriptors(stream, &budget, descriptor_limit);
}

static void print_json_items(FILE *stream, const struct budget *budget)
{
    for (unsigned row = 0; row < BUDGET_ROWS; row++) {
        const struct budget_item *item = &budget->items[row];
        (void)fprintf(stream, "%s{\"name\":\"%s\",\"key\":", row > 0 ? "," : "", item->name);
        if (item->key != WORKER_PLAN_NO_KEY) {
            (void)fprintf(stream, "\"%s\"", schema_key(item->key)->name);
        } else {
            (void)fputs("null", stream);
        }
        (void)fprintf(
            stream,
            ",\"objects\":%" PRIu32 ",\"per_worker\":%s,\"one\":%" PRIu64 ",\"all\":%" PRIu64 "}",
            item->count, row < BUDGET_WORKER_ROWS ? "true" : "false", item->one, item->all);
    }
}

/* A text of the configuration or of a certificate as a JSON string. */
static void print_json_text(FILE *stream, struct span text)
{
    (void)fputc('"', stream);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte < 0x20 || byte == '"' || byte == '\\' || byte >= 0x7F) {
            (void)fprintf(stream, "\\u%04x", byte);
        } else {
            (void)fputc(byte, stream);
        }
    }
    (void)fputc('"', stream);
}

static void print_json_certificates(FILE *stream, const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->certificates.count; i++) {
        const struct generation_certificate *certificate = generation_certificate(generation, i);
        const struct ref *names = generation_array(generation, certificate->names);
        (void)fprintf(stream, "%s{\"name\":", i > 0 ? "," : "");
        print_json_text(stream, generation_text(generation, certificate->name));
        (void)fputs(",\"file\":", stream);
        print_json_text(stream, generation_text(generation, certificate->file));
        (void)fputs(",\"names\":[", stream);
        for (uint32_t j = 0; j < certificate->names.count; j++) {
            (void)fputs(j > 0 ? "," : "", stream);
            print_json_text(stream, generation_text(generation, names[j]));
        }
        (void)fprintf(stream,
                      "],\"key\":\"%s\",\"bits\":%" PRIu32 ",\"not_before\":%" PRIu64
                      ",\"not_after\":%" PRIu64 ",\"ocsp\":%s}",
                      certificate_key_name((enum generation_key_type)certificate->key_type),
                      certificate->key_bits, certificate->not_before, certificate->not_after,
                      certificate->ocsp.count > 0 ? "true" : "false");
    }
}

void figure_print_json(FILE *stream, const struct generation *generation, uint64_t descriptor_limit)
{
    struct budget budget;
    budget_init(&budget, generation);
    const struct worker_plan_descriptors *descriptors = &budget.descriptors;
    const struct worker_plan plan = {.descriptors = *descriptors};
    (void)fprintf(stream,
                  "{\"ok\":true,\"workers\":%" PRIu32 ",\"memory\":{\"total\":%" PRIu64
                  ",\"budget\":%" PRIu64 ",\"workers\":%" PRIu64 ",\"items\":[",
                  budget.workers, budget_bytes(&budget), generation->header->server.memory_budget,
                  budget_workers(&budget));
    print_json_items(stream, &budget);
    (void)fprintf(stream,
                  "]},\"descriptors\":{\"worker\":%" PRIu64 ",\"clients\":%" PRIu32
                  ",\"upstreams\":%" PRIu32 ",\"listeners\":%" PRIu32 ",\"pipes\":%" PRIu32
                  ",\"own\":%" PRIu32 ",\"controller\":%" PRIu64 ",\"supervisor\":%" PRIu64
                  ",\"limit\":%" PRIu64 "},\"certificates\":[",
                  worker_plan_descriptors(&plan), descriptors->clients, descriptors->upstreams,
                  descriptors->listeners, descriptors->pipes, descriptors->own,
                  budget.controller_descriptors, budget.supervisor_descriptors, descriptor_limit);
    print_json_certificates(stream, generation);
    (void)fputs("]}\n", stream);
}
