#include "supervisor/channel.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/assert.h"
#include "supervisor/supervisor.h"

static_assert(CHANNEL_BACKLOG >= SUPERVISOR_SLOTS_MAX + 8,
              "the news of a whole start fits, with orders behind it");

static size_t open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    size_t count = 0;
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static void close_both(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void messages_arrive_whole_and_in_order(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    struct channel_message message = {.kind = CHANNEL_DRAIN};
    assert_int_equal(channel_send(ends[0], &message, -1), OK);
    message.kind = CHANNEL_QUIT;
    assert_int_equal(channel_send(ends[0], &message, -1), OK);
    struct channel_message received;
    int descriptor = -2;
    assert_int_equal(channel_receive(ends[1], &received, &descriptor), OK);
    assert_int_equal(received.kind, CHANNEL_DRAIN);
    assert_int_equal(descriptor, -1);
    assert_int_equal(channel_receive(ends[1], &received, &descriptor), OK);
    assert_int_equal(received.kind, CHANNEL_QUIT);
    assert_int_equal(channel_receive(ends[1], &received, &descriptor), AGAIN);
    close_both(ends);
}

static void a_message_can_be_written_as_a_child_has_to(void **state)
{
    (void)state;
    int ends[2];
    struct channel_message message = {.kind = CHANNEL_READY};
    struct channel_message got = {0};
    int descriptor = -1;
    assert_int_equal(channel_create(ends), OK);
    assert_int_equal(channel_tell(ends[0], &message), OK);
    assert_int_equal(channel_tell(ends[0], &message), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(channel_receive(ends[1], &got, &descriptor), OK);
        assert_int_equal(got.kind, CHANNEL_READY);
        assert_int_equal(descriptor, -1);
    }
    assert_int_equal(channel_receive(ends[1], &got, &descriptor), AGAIN);
    enum status status = OK;
    for (int i = 0; status == OK && i < 1000000; i++) {
        status = channel_tell(ends[0], &message);
    }
    assert_int_equal(status, AGAIN); /* it blocks nobody */
    close_both(ends);
}

static void a_segment_travels_with_its_identity(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    struct segment_plan plan = {.sizes = {[SEGMENT_RING] = 100}};
    struct segment_identity identity = {PROCESS_WORKER, 5, 9};
    int fd = segment_create(&plan, &identity);
    struct channel_message message = {
        .kind = CHANNEL_SEGMENT, .role = PROCESS_WORKER, .index = 5, .incarnation = 9};
    assert_int_equal(channel_send(ends[0], &message, fd), OK);
    close(fd);
    struct channel_message received;
    int descriptor = -1;
    assert_int_equal(channel_receive(ends[1], &received, &descriptor), OK);
    assert_true(descriptor >= 0);
    assert_true((fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
    identity = channel_identity(&received);
    struct segment segment = {0};
    assert_int_equal(segment_map_reader(&segment, descriptor, &plan, &identity), OK);
    segment_unmap(&segment);
    close(descriptor);
    close_both(ends);
}

static void the_end_of_the_peer_is_seen_after_its_messages(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    struct channel_message message = {.kind = CHANNEL_READY};
    assert_int_equal(channel_send(ends[0], &message, -1), OK);
    close(ends[0]);
    int descriptor;
    assert_int_equal(channel_receive(ends[1], &message, &descriptor), OK);
    assert_int_equal(channel_receive(ends[1], &message, &descriptor), END);
    assert_int_equal(channel_send(ends[1], &message, -1), ERROR);
    close(ends[1]);
}

/* Sends raw bytes with copies of a descriptor, as a compromised child could. */
static void send_raw(int channel, const void *bytes, size_t size, int descriptors)
{
    char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(16))) = {0};
    char copy[64];
    assert_true(size <= sizeof(copy) && descriptors <= 16);
    memcpy(copy, bytes, size);
    struct iovec piece = {.iov_base = copy, .iov_len = size};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptors > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE((size_t)descriptors * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN((size_t)descriptors * sizeof(int));
        for (int i = 0; i < descriptors; i++) {
            int descriptor = STDIN_FILENO;
            memcpy(CMSG_DATA(rights) + (size_t)i * sizeof(int), &descriptor, sizeof(int));
        }
    }
    assert_int_equal(sendmsg(channel, &header, 0), (ssize_t)size);
}

static void what_is_no_message_is_dropped_with_its_descriptors(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    size_t before = open_descriptors();
    struct channel_message ready = {.kind = CHANNEL_READY};
    struct channel_message segment = {.kind = CHANNEL_SEGMENT, .role = PROCESS_WORKER};
    struct channel_message log = {.kind = CHANNEL_LOG};
    struct channel_message gone = {.kind = CHANNEL_GONE, .role = PROCESS_WORKER};
    struct channel_message unknown = {.kind = 77};
    struct channel_message roleless = {.kind = CHANNEL_SEGMENT, .role = PROCESS_ROLE_COUNT};
    char large[64] = {CHANNEL_READY};
    const struct {
        const void *bytes;
        size_t size;
        int descriptors;
    } cases[] = {
        {&ready, sizeof(ready) - 1, 0},   {&ready, 1, 3},
        {&ready, sizeof(ready), 1},       {&ready, sizeof(ready), 16},
        {&segment, sizeof(segment), 0},   {&segment, sizeof(segment), 2},
        {&log, sizeof(log), 0},           {&log, sizeof(log), 2},
        {&unknown, sizeof(unknown), 0},   {&unknown, sizeof(unknown), 1},
        {&gone, sizeof(gone), 1},         {large, sizeof(large), 0},
        {&roleless, sizeof(roleless), 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        send_raw(ends[0], cases[i].bytes, cases[i].size, cases[i].descriptors);
        struct channel_message message;
        int descriptor = -2;
        assert_int_equal(channel_receive(ends[1], &message, &descriptor), ERROR);
        assert_int_equal(descriptor, -2);
        assert_int_equal(open_descriptors(), before);
    }
    assert_int_equal(channel_send(ends[0], &ready, -1), OK); /* the channel still works */
    struct channel_message message;
    int descriptor;
    assert_int_equal(channel_receive(ends[1], &message, &descriptor), OK);
    close_both(ends);
}

static void a_peer_that_never_reads_can_be_told_of_everyone_and_blocks_nobody(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(channel_create(ends), OK);
    struct channel_message message = {.kind = CHANNEL_SEGMENT, .role = PROCESS_WORKER};
    for (uint32_t i = 0; i < CHANNEL_BACKLOG; i++) {
        message.index = i;
        assert_int_equal(channel_send(ends[0], &message, STDIN_FILENO), OK);
    }
    enum status status = OK;
    for (int i = 0; i < 1000000 && status == OK; i++) {
        message.kind = CHANNEL_DRAIN;
        status = channel_send(ends[0], &message, -1);
    }
    assert_int_equal(status, AGAIN);
    close_both(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_whole_and_in_order),
        cmocka_unit_test(a_message_can_be_written_as_a_child_has_to),
        cmocka_unit_test(a_segment_travels_with_its_identity),
        cmocka_unit_test(the_end_of_the_peer_is_seen_after_its_messages),
        cmocka_unit_test(what_is_no_message_is_dropped_with_its_descriptors),
        cmocka_unit_test(a_peer_that_never_reads_can_be_told_of_everyone_and_blocks_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
