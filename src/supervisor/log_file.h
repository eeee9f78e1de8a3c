/*
 * The access log's file. The supervisor process opens it, as the user that started Sentinel, and
 * hands the descriptor to the logger, which may open nothing: so a log can stand in a folder that
 * only root may enter. It keeps a copy, for the next logger should this one die.
 *
 * The file is appended to. A new one has mode 0640 and belongs to whom the children become, if they
 * become somebody. A symbolic link in the last place of the path is refused (a folder may well be
 * one), and for root a file with more names than this one: whoever may write in the folder could
 * have made either of somebody else's file. A named pipe is opened only while it has a reader.
 */
#ifndef SENTINEL_SUPERVISOR_LOG_FILE_H
#define SENTINEL_SUPERVISOR_LOG_FILE_H

#include "base/status.h"
#include "config/generation.h"

/*
 * Opens what the generation's access-log says; for "stdout" and "off" that is a copy of standard
 * output. ERROR, logged with the place in the configuration: *log is untouched.
 */
NODISCARD enum status log_file_open(int *log, const struct generation *generation);

/*
 * Opens it by its name again, after a rotation. True: *log is the new one, the old one is closed.
 * False: *log is as before, because it is no file, or cannot be opened, which is logged.
 */
NODISCARD bool log_file_reopen(int *log, const struct generation *generation);

/* Closes what is open. Harmless on -1. */
void log_file_close(int *log);

/*
 * Opens the pipe or terminal of a descriptor anew, close-on-exec and so that writing never blocks,
 * however little a reader takes who stands still; who else has it is not concerned. -1 with errno:
 * it is something else, or somebody else's, and stays as it is.
 */
NODISCARD int log_file_separate(int fd);

#endif
