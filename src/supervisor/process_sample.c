#include "supervisor/process_sample.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PATH_MAX_BYTES = 64,
    STAT_MAX = 2048,
    FIELD_USER_TIME = 14, /* proc(5), counted from 1; the name in brackets is the second */
    FIELD_SYSTEM_TIME = 15,
    FIELD_RESIDENT = 24, /* pages */
    FIELD_AFTER_NAME = 3,
};

/* Takes the next word off the front; a number that is too large for 64 bits saturates. */
static uint64_t take_number(struct span *rest)
{
    uint64_t number = 0;
    size_t size = span_find(*rest, ' ');
    for (size_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t)rest->data[i] - '0';
        if (digit <= 9 && (__builtin_mul_overflow(number, 10, &number) ||
                           __builtin_add_overflow(number, digit, &number))) {
            number = UINT64_MAX;
        }
    }
    *rest = span_from(*rest, size < rest->size ? size + 1 : size);
    return number;
}

enum status process_sample_parse(struct span text, uint64_t ticks, uint64_t page,
                                 struct process_sample *sample)
{
    size_t name_end = text.size;
    while (name_end > 0 && text.data[name_end - 1] != ')') {
        name_end--; /* from behind: a name may hold brackets and spaces */
    }
    if (name_end == 0 || text.size - name_end < 2 || ticks == 0) {
        return ERROR;
    }
    struct span rest = span_from(text, name_end + 1);
    uint64_t user = 0;
    uint64_t system = 0;
    for (int field = FIELD_AFTER_NAME; rest.size > 0; field++) {
        uint64_t number = take_number(&rest);
        user = field == FIELD_USER_TIME ? number : user;
        system = field == FIELD_SYSTEM_TIME ? number : system;
        if (field == FIELD_RESIDENT) {
            sample->processor = (user + system) * 1000000 / ticks;
            sample->resident = number * page;
            return OK;
        }
    }
    return ERROR;
}

static uint64_t count_descriptors(const char *path)
{
    struct stat stat_of;
    if (stat(path, &stat_of) == 0 && stat_of.st_size > 0) {
        return (uint64_t)stat_of.st_size; /* Linux 6.2 and later */
    }
    DIR *list = opendir(path);
    if (list == NULL) {
        return PROCESS_UNKNOWN;
    }
    uint64_t count = 0;
    while (readdir(list) != NULL) {
        count++;
    }
    (void)closedir(list);
    return count >= 2 ? count - 2 : 0; /* without `.` and `..` */
}

struct process_sample process_sample_of(pid_t pid)
{
    struct process_sample sample = {PROCESS_UNKNOWN, PROCESS_UNKNOWN, PROCESS_UNKNOWN};
    char path[PATH_MAX_BYTES];
    char text[STAT_MAX];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, text, sizeof(text));
        (void)close(fd);
        enum status ignored = process_sample_parse(span_of(text, got > 0 ? (size_t)got : 0),
                                                   (uint64_t)sysconf(_SC_CLK_TCK),
                                                   (uint64_t)sysconf(_SC_PAGESIZE), &sample);
        (void)ignored; /* then they stay unknown */
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    sample.descriptors = count_descriptors(path);
    return sample;
}
