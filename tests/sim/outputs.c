#include "outputs.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "fault.h"

enum {
    HANDLE_FIRST = 5000, /* no descriptor of this process is so high */
    CLOCK_COST = 5,      /* microseconds that pass from one look at the clock to the next */
    SAID_MAX = 64 * 1024,
};

struct output {
    struct output_options options;
    uint8_t *bytes;
    size_t size;
    size_t room;
    size_t filled;       /* of a pipe: not yet read */
    uint64_t drained_at; /* up to when its reader has read */
};

static struct {
    bool attending;
    uint64_t now;
    uint64_t trouble_until;
    uint32_t count;
    uint32_t failures;
    struct output outputs[OUTPUTS_MAX];
    uint32_t handles[OUTPUT_HANDLES_MAX]; /* the output of each; OUTPUTS_MAX: closed */
    uint32_t handle_count;
    size_t said_size;
    char said[SAID_MAX];
} state;

void outputs_reset(void)
{
    for (uint32_t i = 0; i < state.count; i++) {
        free(state.outputs[i].bytes);
    }
    memset(&state, 0, sizeof(state));
    state.now = 1000 * (uint64_t)SECOND;
}

uint32_t outputs_add(const struct output_options *options)
{
    ASSERT(state.count < OUTPUTS_MAX);
    state.outputs[state.count] = (struct output){.options = *options, .drained_at = state.now};
    return state.count++;
}

int outputs_open(uint32_t output)
{
    ASSERT(state.handle_count < OUTPUT_HANDLES_MAX && output < state.count);
    state.handles[state.handle_count] = output;
    return HANDLE_FIRST + (int)state.handle_count++;
}

void outputs_attend(bool on)
{
    state.attending = on;
}

uint64_t outputs_now(void)
{
    return state.now;
}

void outputs_wait(uint64_t microseconds)
{
    state.now += microseconds;
}

struct span outputs_content(uint32_t output)
{
    return span_of(state.outputs[output].bytes, state.outputs[output].size);
}

uint32_t outputs_count(void)
{
    return state.count;
}

uint32_t outputs_open_handles(void)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < state.handle_count; i++) {
        open += state.handles[i] < OUTPUTS_MAX ? 1 : 0;
    }
    return open;
}

uint32_t outputs_said(const char *text)
{
    uint32_t count = 0;
    for (const char *at = state.said; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

uint64_t outputs_said_last(const char *text)
{
    uint64_t number = 0;
    for (const char *at = state.said; (at = strstr(at, text)) != NULL; at++) {
        number = strtoull(at + strlen(text), NULL, 10);
    }
    return number;
}

uint32_t outputs_failures(void)
{
    return state.failures;
}

/* ---- The calls ---- */

/* This very call, or what has been failing since a moment ago. */
static bool fails(const char *call)
{
    if (fault_strikes(call)) {
        state.trouble_until = state.now + (fault_lasts() ? (uint64_t)OUTPUT_TROUBLE : 0);
        return true;
    }
    return fault_call() != NULL && state.now < state.trouble_until &&
           strcmp(call, fault_call()) == 0;
}

static struct output *output_of(int fd)
{
    ASSERT(fd >= HANDLE_FIRST && fd < HANDLE_FIRST + (int)state.handle_count);
    uint32_t output = state.handles[fd - HANDLE_FIRST];
    if (output >= OUTPUTS_MAX) {
        run_failed("a descriptor is used that was closed");
    }
    return &state.outputs[output];
}

static bool is_ours(int fd)
{
    return state.attending && fd >= HANDLE_FIRST;
}

static bool is_out(const struct output *output)
{
    return state.now >= output->options.outage_from && state.now < output->options.outage_until;
}

/* How much it takes now; a pipe's reader has read meanwhile. */
static size_t room_of(struct output *output)
{
    if (!output->options.pipe) {
        return is_out(output) ? 0 : SIZE_MAX;
    }
    uint64_t read =
        is_out(output) ? 0 : (state.now - output->drained_at) * output->options.rate / SECOND;
    if (read > 0 || is_out(output)) {
        output->drained_at = state.now;
        output->filled -= read < output->filled ? (size_t)read : output->filled;
    }
    return OUTPUT_PIPE_BYTES - output->filled;
}

static bool takes_a_line(struct output *output)
{
    return !output->options.pipe || room_of(output) >= PIPE_BUF;
}

static int poll_output(struct pollfd *polled, int timeout_ms)
{
    struct output *output = output_of(polled->fd);
    if (fails("poll: interrupted")) {
        errno = EINTR;
        return -1;
    }
    if (fails("poll: no memory")) {
        errno = ENOMEM;
        return -1;
    }
    uint64_t until = state.now + (uint64_t)timeout_ms * MILLISECOND;
    while (!takes_a_line(output) && state.now < until) {
        state.now += MILLISECOND;
    }
    polled->revents = takes_a_line(output) ? POLLOUT : 0;
    return polled->revents != 0 ? 1 : 0;
}

static void keep(struct output *output, const void *bytes, size_t size)
{
    if (output->size + size > output->room) {
        output->room = (output->size + size) * 2;
        output->bytes = realloc(output->bytes, output->room);
        ASSERT(output->bytes != NULL);
    }
    memcpy(output->bytes + output->size, bytes, size);
    output->size += size;
    output->filled += output->options.pipe ? size : 0;
}

static ssize_t refuse_write(int why)
{
    state.failures += why != EAGAIN && why != EINTR ? 1 : 0;
    errno = why;
    return -1;
}

/* How much of `size` bytes is taken; -1 with errno. */
static ssize_t grant(struct output *output, size_t size)
{
    if (fails("write: interrupted")) {
        return refuse_write(EINTR);
    }
    if (fails("write: would block")) {
        return refuse_write(EAGAIN);
    }
    if (fails("write: broken")) {
        return refuse_write(EIO);
    }
    if (fails("write: nothing")) {
        return 0;
    }
    if (fails("write: a part")) {
        size = size > 1 ? size / 2 : size;
    }
    size_t room = room_of(output);
    if (room >= size) {
        return (ssize_t)size;
    }
    if (!output->options.pipe) {
        return refuse_write(ENOSPC);
    }
    if (output->options.blocking) {
        run_failed("a write of %zu bytes blocks: there is room for %zu", size, room);
    }
    bool whole_or_nothing = size <= PIPE_BUF || room < PIPE_BUF;
    return whole_or_nothing ? refuse_write(EAGAIN) : (ssize_t)room;
}

static ssize_t write_pieces(int fd, const struct iovec *pieces, int count)
{
    struct output *output = output_of(fd);
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size += pieces[i].iov_len;
    }
    ssize_t granted = grant(output, size);
    size_t left = granted > 0 ? (size_t)granted : 0;
    for (int i = 0; left > 0; i++) {
        size_t part = pieces[i].iov_len < left ? pieces[i].iov_len : left;
        keep(output, pieces[i].iov_base, part);
        left -= part;
    }
    return granted;
}

static ssize_t say(const void *bytes, size_t size)
{
    if (fails("write: standard error")) {
        errno = EPIPE;
        return -1;
    }
    if (state.said_size + size < SAID_MAX) {
        memcpy(state.said + state.said_size, bytes, size);
        state.said_size += size;
    }
    return (ssize_t)size;
}

int __real_poll(struct pollfd *polled, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *polled, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *polled, nfds_t count, int timeout_ms)
{
    if (state.attending && count == 1 && polled->fd == STDERR_FILENO) {
        polled->revents = POLLOUT;
        return 1;
    }
    if (count == 1 && is_ours(polled->fd)) {
        return poll_output(polled, timeout_ms);
    }
    return __real_poll(polled, count, timeout_ms);
}

ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    if (state.attending && fd == STDERR_FILENO) {
        return say(bytes, size);
    }
    if (!is_ours(fd)) {
        return __real_write(fd, bytes, size);
    }
    union {
        const void *bytes;
        void *base;
    } piece = {.bytes = bytes};
    struct iovec whole = {piece.base, size};
    return write_pieces(fd, &whole, 1);
}

ssize_t __real_writev(int fd, const struct iovec *pieces, int count);
ssize_t __wrap_writev(int fd, const struct iovec *pieces, int count);
ssize_t __wrap_writev(int fd, const struct iovec *pieces, int count)
{
    return is_ours(fd) ? write_pieces(fd, pieces, count) : __real_writev(fd, pieces, count);
}

int __real_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status)
{
    if (!is_ours(fd)) {
        return __real_fstat(fd, status);
    }
    const struct output *output = output_of(fd);
    if (fails("fstat")) {
        errno = EIO;
        return -1;
    }
    *status = (struct stat){.st_mode = output->options.pipe ? S_IFIFO : S_IFREG,
                            .st_ino = (ino_t)(output - state.outputs) + 1};
    return 0;
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (!is_ours(fd)) {
        return __real_close(fd);
    }
    (void)output_of(fd);
    state.handles[fd - HANDLE_FIRST] = OUTPUTS_MAX;
    if (fails("close")) {
        errno = EIO; /* the descriptor is gone all the same */
        return -1;
    }
    return 0;
}

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!state.attending) {
        return __real_clock_gettime(clock, time);
    }
    state.now += CLOCK_COST;
    time->tv_sec = (time_t)(state.now / SECOND);
    time->tv_nsec = (long)(state.now % SECOND * 1000);
    return 0;
}
