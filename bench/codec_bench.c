/*
 * What the HTTP/1 codec costs: finds, parses and writes anew a browser's request head and an
 * origin's response head, and decodes a chunked body. Prints nanoseconds of CPU time for each,
 * the median of several rounds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "http/http1_chunked.h"
#include "http/http1_parse.h"
#include "http/http1_write.h"

enum { ROUNDS = 11, REPEATS = 200000, BODY_SIZE = 65536 };

static const struct http1_limits limits = {
    .request_line_max = 8192, .head_max = 8192, .fields_max = 100, .merge_slashes = true};

static const char request_text[] =
    "GET /shop/category/shoes/view?page=2&sort=price HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/118.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://www.example.com/shop/category\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef\r\n"
    "\r\n";

static const char response_text[] = "HTTP/1.1 200 OK\r\n"
                                    "Server: nginx\r\n"
                                    "Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n"
                                    "Content-Type: text/html; charset=utf-8\r\n"
                                    "Content-Length: 1024\r\n"
                                    "Last-Modified: Mon, 31 Dec 2029 00:00:00 GMT\r\n"
                                    "ETag: \"5f0c1d2a-400\"\r\n"
                                    "Cache-Control: max-age=60\r\n"
                                    "Accept-Ranges: bytes\r\n"
                                    "\r\n";

static const struct span request_bytes = {(const uint8_t *)request_text, sizeof(request_text) - 1};
static const struct span response_bytes = {(const uint8_t *)response_text,
                                           sizeof(response_text) - 1};

/* Everything a measured step needs. */
struct workload {
    _Alignas(max_align_t) uint8_t arena_memory[32768];
    uint8_t rendered[16384];
    uint8_t raw[2 * BODY_SIZE];
    uint8_t scratch[2 * BODY_SIZE];
    size_t raw_size;
    struct arena arena;
    struct request_head request;
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    ASSERT(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void scan_request(struct workload *load)
{
    struct http1_scan scan;
    enum reason reason = REASON_NONE;
    (void)load;
    http1_scan_init(&scan, HTTP1_REQUEST);
    ASSERT(http1_scan_head(&scan, request_bytes, &limits, &reason) == OK);
}

static void parse_request(struct workload *load)
{
    enum reason reason = REASON_NONE;
    arena_init(&load->arena, load->arena_memory, sizeof(load->arena_memory));
    ASSERT(http1_parse_request(request_bytes, &limits, &load->arena, &load->request, &reason) ==
           OK);
}

static void write_request(struct workload *load)
{
    struct output output = output_over(load->rendered, sizeof(load->rendered));
    const struct request_head *head = &load->request;
    const struct http1_request_line line = {
        .method = head->method_text,
        .path = head->path,
        .query = head->query,
        .host = head->authority,
    };
    const struct http1_delivery delivery = {.framing = head->framing};
    ASSERT(http1_write_request(&output, &line, &head->fields, &delivery));
}

static void whole_request(struct workload *load)
{
    scan_request(load);
    parse_request(load);
    write_request(load);
}

static void whole_response(struct workload *load)
{
    struct http1_scan scan;
    struct response_head head;
    struct output output = output_over(load->rendered, sizeof(load->rendered));
    enum reason reason = REASON_NONE;
    http1_scan_init(&scan, HTTP1_RESPONSE);
    arena_init(&load->arena, load->arena_memory, sizeof(load->arena_memory));
    ASSERT(http1_scan_head(&scan, response_bytes, &limits, &reason) == OK);
    ASSERT(http1_parse_response(response_bytes, METHOD_GET, &limits, &load->arena, &head,
                                &reason) == OK);
    const struct http1_delivery delivery = {.framing = FRAMING_LENGTH,
                                            .content_length = head.content_length};
    ASSERT(http1_write_response(&output, head.status, &head.fields, &delivery));
}

/* The copy stands for the read that fills the buffer: decoding destroys it. */
static void copy_body(struct workload *load)
{
    memcpy(load->scratch, load->raw, load->raw_size);
    __asm__ volatile("" : : "r"(load->scratch) : "memory");
}

static void decode_body(struct workload *load)
{
    struct http1_chunked chunked;
    struct http1_chunked_result result;
    enum reason reason = REASON_NONE;
    copy_body(load);
    http1_chunked_init(&chunked, HTTP1_RESPONSE, &load->arena);
    ASSERT(http1_chunked_decode(&chunked, load->scratch, load->raw_size, &result, &reason) == END);
    ASSERT(result.body.size == BODY_SIZE);
}

static void render_body(struct workload *load, size_t chunk_size)
{
    struct output output = output_over(load->raw, sizeof(load->raw));
    for (size_t done = 0; done < BODY_SIZE; done += chunk_size) {
        uint8_t *data = NULL;
        ASSERT(http1_write_chunk_header(&output, chunk_size));
        data = output_take(&output, chunk_size);
        ASSERT(data != NULL);
        memset(data, 'x', chunk_size);
        ASSERT(http1_write_chunk_end(&output));
    }
    ASSERT(http1_write_last_chunk(&output, NULL));
    load->raw_size = output.size;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void measure(const char *name, void (*step)(struct workload *), struct workload *load,
                    unsigned repeats)
{
    double rounds[ROUNDS];
    for (size_t round = 0; round < ROUNDS; round++) {
        uint64_t start = cpu_ns();
        for (unsigned i = 0; i < repeats; i++) {
            step(load);
            __asm__ volatile("" : : "r"(load) : "memory");
        }
        rounds[round] = (double)(cpu_ns() - start) / repeats;
    }
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
    printf("%-42s %9.1f ns  (%.1f to %.1f)\n", name, rounds[ROUNDS / 2], rounds[0],
           rounds[ROUNDS - 1]);
}

int main(void)
{
    struct workload *load = calloc(1, sizeof(*load));
    ASSERT(load != NULL);
    printf("request head %zu bytes, response head %zu bytes\n", request_bytes.size,
           response_bytes.size);
    measure("request: find the end", scan_request, load, REPEATS);
    measure("request: parse", parse_request, load, REPEATS);
    measure("request: write", write_request, load, REPEATS);
    measure("request: all three", whole_request, load, REPEATS);
    measure("response: all three", whole_response, load, REPEATS);
    render_body(load, 8192);
    measure("64 KiB: copy alone", copy_body, load, REPEATS / 100);
    measure("64 KiB in chunks of 8 KiB: copy, decode", decode_body, load, REPEATS / 100);
    render_body(load, 64);
    measure("64 KiB in chunks of 64 B: copy, decode", decode_body, load, REPEATS / 100);
    free(load);
    return 0;
}
