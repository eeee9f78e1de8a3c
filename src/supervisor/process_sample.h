/*
 * What the system tells of a process of ours: two small files of /proc. Supervisor process only; it
 * is the one that no sandbox keeps from looking.
 */
#ifndef SENTINEL_SUPERVISOR_PROCESS_SAMPLE_H
#define SENTINEL_SUPERVISOR_PROCESS_SAMPLE_H

#include <sys/types.h>

#include "base/span.h"
#include "base/status.h"
#include "observe/process_table.h"

/*
 * Samples a process that has not been reaped. What the system does not tell is PROCESS_UNKNOWN.
 * Reads at most a few KiB and, on kernels that do not tell the number of descriptors by itself,
 * the list of them.
 */
struct process_sample process_sample_of(pid_t pid);

/*
 * Reads processor time (microseconds) and resident memory out of the text of /proc/PID/stat, given
 * the clock's ticks a second and the size of a page. ERROR, with *sample untouched, for anything
 * else.
 */
NODISCARD enum status process_sample_parse(struct span text, uint64_t ticks, uint64_t page,
                                           struct process_sample *sample);

#endif
