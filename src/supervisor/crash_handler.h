/*
 * What a child does when a signal says that it is broken (SEGV, BUS, ABRT, ILL, FPE, SYS): it notes
 * the signal, and of which kind the address was, in its segment, where its phase and step stand
 * already; then it dies of the same signal, with the same wait status and core dump as without a
 * handler. On a stack of its own, so that an overflow is noted, too; it calls nothing that is not
 * async-signal-safe, and needs no global: what it needs lies beside that stack.
 *
 * Signals that somebody handles already, as the sanitizers do, are left to them.
 */
#ifndef SENTINEL_SUPERVISOR_CRASH_HANDLER_H
#define SENTINEL_SUPERVISOR_CRASH_HANDLER_H

#include "base/status.h"
#include "observe/flight_recorder.h"

/*
 * Installs it for the calling thread, for the rest of the process's life. The header, which is
 * written in the handler, stays mapped as long. ERROR with errno: there is no handler then.
 */
NODISCARD enum status crash_handler_install(struct flight_header *header);

#endif
