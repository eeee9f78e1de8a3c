#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cli/cli.h"

/*
 * Descriptors 0 to 2 must be taken before anything is opened: otherwise a socket could become
 * standard error, and messages would go to a client.
 */
static int hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && (errno != EBADF || open("/dev/null", O_RDWR) != fd)) {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 1 || hold_standard_descriptors() != 0) {
        return CLI_REFUSED;
    }
    return cli_main(argc, argv, environ);
}
