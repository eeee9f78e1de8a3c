/*
 * The certificates of a world that speaks TLS, made when they are needed: none is in the tree, so
 * none expires there. The toy that is spoken looks at nothing in them but whether two are the same;
 * the compiler looks at everything.
 */
#ifndef SENTINEL_TESTS_SIM_CERTIFICATES_H
#define SENTINEL_TESTS_SIM_CERTIFICATES_H

#include "config/environment.h"

/* The time at which configurations are compiled, seconds since 1970. */
#define CERTIFICATES_NOW UINT64_C(1800000000)

/* A file named `NAME.pem` holds a key and a certificate for NAME.test and all below it. */
environment_read_file certificates_read_file;

#endif
