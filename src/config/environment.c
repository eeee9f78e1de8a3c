#include "config/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

enum { HOST_NAME_MAX_BYTES = 255, ACCOUNT_NAME_MAX_BYTES = 64 };

static size_t resolve_by_system(struct span host, uint16_t port,
                                struct address addresses[ENVIRONMENT_ADDRESSES_MAX])
{
    char name[HOST_NAME_MAX_BYTES + 1];
    if (host.size == 0 || host.size > HOST_NAME_MAX_BYTES) {
        return 0;
    }
    (void)snprintf(name, sizeof(name), "%.*s", SPAN_ARGS(host));
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    if (getaddrinfo(name, NULL, &hints, &list) != 0) {
        return 0;
    }
    size_t count = 0;
    for (struct addrinfo *at = list; at != NULL && count < ENVIRONMENT_ADDRESSES_MAX;
         at = at->ai_next) {
        struct sockaddr_storage storage = {0};
        if (at->ai_addrlen > sizeof(storage)) {
            continue;
        }
        memcpy(&storage, at->ai_addr, at->ai_addrlen);
        address_from_system(&storage, &addresses[count]);
        if (addresses[count].family != ADDRESS_NONE) {
            addresses[count++].port = port;
        }
    }
    freeaddrinfo(list);
    return count;
}

/* A number of accounts; false for anything else. UINT32_MAX stands for none in system calls. */
static bool read_id(struct span text, uint32_t *id)
{
    uint64_t number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (!ascii_is_digit(text.data[i]) || number > UINT32_MAX) {
            return false;
        }
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    *id = (uint32_t)number;
    return text.size > 0 && number < UINT32_MAX;
}

/* The system's functions are not reentrant; a compilation has one thread. */
static bool find_user_by_system(struct span name, struct account *account)
{
    char text[ACCOUNT_NAME_MAX_BYTES + 1];
    uint32_t id = 0;
    if (name.size > ACCOUNT_NAME_MAX_BYTES) {
        return false;
    }
    (void)snprintf(text, sizeof(text), "%.*s", SPAN_ARGS(name));
    const struct passwd *entry = getpwnam(text);
    if (entry == NULL && !read_id(name, &id)) {
        return false;
    }
    if (entry == NULL) {
        entry = getpwuid(id);
    }
    *account = (struct account){entry != NULL ? entry->pw_uid : id,
                                entry != NULL ? entry->pw_gid : ACCOUNT_NO_GROUP};
    return true;
}

static bool find_group_by_system(struct span name, uint32_t *group)
{
    char text[ACCOUNT_NAME_MAX_BYTES + 1];
    if (name.size > ACCOUNT_NAME_MAX_BYTES) {
        return false;
    }
    (void)snprintf(text, sizeof(text), "%.*s", SPAN_ARGS(name));
    const struct group *entry = getgrnam(text);
    if (entry == NULL) {
        return read_id(name, group);
    }
    *group = entry->gr_gid;
    return true;
}

static int read_by_system(const char *path, uint8_t *memory, size_t size,
                          struct file_content *content)
{
    struct stat stat;
    /* Opening a pipe must not wait for who would write to it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return errno;
    }
    int error = fstat(fd, &stat) != 0 ? errno : S_ISREG(stat.st_mode) ? 0 : EINVAL;
    size_t used = 0;
    bool ended = false;
    while (error == 0 && !ended && used < size) {
        ssize_t got = read(fd, memory + used, size - used);
        error = got < 0 && errno != EINTR ? errno : 0;
        ended = got == 0;
        used += got > 0 ? (size_t)got : 0;
    }
    uint8_t more = 0;
    if (error == 0 && !ended && read(fd, &more, 1) != 0) {
        error = EFBIG;
    }
    (void)close(fd);
    if (error == 0) {
        *content = (struct file_content){.size = used, .mode = stat.st_mode};
    }
    return error;
}

struct environment environment_of_system(char **variables)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    struct rlimit limit = {0};
    bool bounded = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max != RLIM_INFINITY;
    int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return (struct environment){
        .variables = (const char *const *)variables,
        .cores = cores > 0 ? (uint32_t)cores : 1,
        .descriptors = bounded ? limit.rlim_max : 0,
        .resolve = resolve_by_system,
        .switches_user = geteuid() == 0,
        .user = geteuid(),
        .group = getegid(),
        .find_user = find_user_by_system,
        .find_group = find_group_by_system,
        .read_file = read_by_system,
        .now = (uint64_t)time(NULL),
    };
}

bool environment_find(const struct environment *environment, struct span name, struct span *value)
{
    for (const char *const *at = environment->variables; at != NULL && *at != NULL; at++) {
        struct span variable = span_of_string(*at);
        if (variable.size > name.size && variable.data[name.size] == '=' &&
            span_starts_with(variable, name)) {
            *value = span_from(variable, name.size + 1);
            return true;
        }
    }
    return false;
}

/* One piece of a text: bytes as they are, or what a `${...}` stands for. */
struct piece {
    struct span text;
    size_t consumed;
};

static bool is_name_byte(uint8_t byte, bool first)
{
    uint8_t lower = ascii_lower(byte);
    return (lower >= 'a' && lower <= 'z') || byte == '_' || (!first && ascii_is_digit(byte));
}

/* Reads `${NAME}` or `${NAME:-default}` at the start of text. */
static enum expansion read_variable(const struct environment *environment, struct span text,
                                    struct piece *piece, struct span *wrong)
{
    size_t size = span_find(text, '}');
    size_t name_end = 2;
    *wrong = span_first(text, size < text.size ? size + 1 : size);
    if (size == text.size) {
        return EXPANSION_MALFORMED;
    }
    while (name_end < size && is_name_byte(text.data[name_end], name_end == 2)) {
        name_end++;
    }
    struct span name = span_of(text.data + 2, name_end - 2);
    struct span rest = span_of(text.data + name_end, size - name_end);
    bool has_default = span_starts_with(rest, SPAN(":-"));
    if (name.size == 0 || (rest.size > 0 && !has_default)) {
        return EXPANSION_MALFORMED;
    }
    struct span value = SPAN_EMPTY;
    bool found = environment_find(environment, name, &value);
    if (!found && !has_default) {
        *wrong = name;
        return EXPANSION_UNSET;
    }
    piece->text = has_default && value.size == 0 ? span_from(rest, 2) : value;
    piece->consumed = size + 1;
    return EXPANSION_DONE;
}

/* Reads the next piece off the front of a text that is not empty. */
static enum expansion next_piece(const struct environment *environment, struct span text,
                                 struct piece *piece, struct span *wrong)
{
    if (span_starts_with(text, SPAN("${"))) {
        return read_variable(environment, text, piece, wrong);
    }
    if (span_starts_with(text, SPAN("$${"))) {
        *piece = (struct piece){.text = SPAN("${"), .consumed = 3};
        return EXPANSION_DONE;
    }
    size_t size = 1 + span_find(span_from(text, 1), '$');
    *piece = (struct piece){.text = span_first(text, size), .consumed = size};
    return EXPANSION_DONE;
}

enum expansion environment_expand(const struct environment *environment, struct arena *arena,
                                  struct span text, struct span *expanded, struct span *wrong)
{
    if (span_find(text, '$') == text.size) {
        *expanded = text;
        return EXPANSION_DONE;
    }
    /* Twice over the pieces: the first time for their size, so that one allocation holds them. */
    uint8_t *memory = NULL;
    for (unsigned pass = 0; pass < 2; pass++) {
        size_t used = 0;
        struct piece piece = {0};
        for (size_t at = 0; at < text.size; at += piece.consumed) {
            enum expansion result = next_piece(environment, span_from(text, at), &piece, wrong);
            if (result != EXPANSION_DONE) {
                return result;
            }
            if (memory != NULL && piece.text.size > 0) {
                memcpy(memory + used, piece.text.data, piece.text.size);
            }
            used += piece.text.size;
        }
        if (pass == 0 && (memory = arena_alloc(arena, used)) == NULL) {
            return EXPANSION_NO_ROOM;
        }
        *expanded = span_of(memory, used);
    }
    return EXPANSION_DONE;
}
