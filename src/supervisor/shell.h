/*
 * The supervisor process: the thin shell of system calls around the machine of supervisor.h. It
 * waits for signals, messages of children and the clock, tells the machine, and does what the
 * machine says. It parses nothing from outside but the fixed messages of its children.
 */
#ifndef SENTINEL_SUPERVISOR_SHELL_H
#define SENTINEL_SUPERVISOR_SHELL_H

struct shell_options {
    const char *config;   /* the configuration file; NULL: built-in */
    const char *pid_file; /* in place of the configured one; "off": none; NULL: as configured */
    const char *control_socket; /* the same of the control socket */
    char **environment;         /* of this process; for the compiler alone */
};

/* Runs Sentinel until it is stopped. The exit code: 0 stopped, 1 configuration or start refused. */
int shell_run(const struct shell_options *options);

#endif
