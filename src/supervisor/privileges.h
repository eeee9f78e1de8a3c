/*
 * Giving up what a process may do because of who it is. Every child does so before it meets a byte
 * from outside, for good: started as root it becomes the generation's account, and whoever it was
 * started as, it keeps no capability. The supervisor alone keeps what it was given, to bind, spawn
 * and open logs.
 */
#ifndef SENTINEL_SUPERVISOR_PRIVILEGES_H
#define SENTINEL_SUPERVISOR_PRIVILEGES_H

#include "base/status.h"
#include "config/generation.h"

/*
 * Becomes the account, without further groups and capabilities, not dumpable, and makes sure that
 * there is no way back. ERROR, logged, when any of that fails, and for root that is told to stay
 * root: the process must end then.
 */
NODISCARD enum status privileges_drop(const struct generation_account *account);

/*
 * For the compiler, which must read what the user who started Sentinel may read, root included:
 * keeps of all capabilities the one to read, if it was there. ERROR as above.
 */
NODISCARD enum status privileges_keep_reading(void);

#endif
