/*
 * The controller process's core: health checks of the endpoints, and the admin HTTP listener with
 * /metrics, /health and /ready. One thread on io.h, all state in one context, so the simulator can
 * run it. Traffic does not depend on it: without a controller all endpoints count as up.
 *
 * It adds the cells of those that live to the totals of those that have ended (observe/ledger.h),
 * and holds nothing itself that would be lost with it. Everything is allocated at creation: one
 * check per endpoint, ADMIN_CONNECTIONS_MAX connections.
 */
#ifndef SENTINEL_CONTROL_CONTROLLER_H
#define SENTINEL_CONTROL_CONTROLLER_H

#include "config/generation.h"
#include "control/crash_report.h"
#include "io/io.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "observe/segment.h"

struct controller;

/* io_socket.kind of sockets that are the process shell's own: its control channel, its tick. */
enum { CONTROLLER_FOREIGN = 255 };

/* What the controller could not do, for want of a descriptor or memory. */
enum controller_trouble { TROUBLE_CHECK, TROUBLE_ADMIN, TROUBLE_CONTROL, TROUBLE_COUNT };

struct controller_options {
    struct io *io;
    const struct generation *generation; /* borrowed for the controller's life */
    const struct secrets *secrets;  /* what checks show of certificates; read at creation only */
    int admin;                      /* the listening descriptor of the admin address; -1: none */
    int control;                    /* that of the control socket; -1: none */
    struct flight_recorder *flight; /* borrowed: says what the controller does */
    void *health;                   /* borrowed: health_size bytes of the own segment */
    void *metrics; /* borrowed: metrics_size bytes of the own segment, what itself counts */
    const void
        *ledger; /* borrowed: the totals of processes that have ended; NULL: there are none */
    struct crash_reports
        *crashes; /* borrowed: where they are kept, all zero; NULL: its own place */
    /* Told, within a turn, of each ready socket of kind CONTROLLER_FOREIGN; NULL: there are none.
     */
    void (*on_foreign)(void *context, struct io_socket *socket);
    void *foreign_context;
    health_listener
        *on_health; /* told when an endpoint changes its state, for the operator's log */
    void *health_context;
    /* Told each time, with the errno: it is tried again in any case. NULL: nobody is. */
    void (*on_trouble)(void *context, enum controller_trouble trouble, int error);
    void *trouble_context;
};

/* Bytes that a controller of this generation allocates, and descriptors that it may hold. */
uint64_t controller_bytes(const struct generation *generation);
uint64_t controller_descriptors(const struct generation *generation);

/* NULL with errno when memory or the listener cannot be had. The first checks start at once. */
NODISCARD struct controller *controller_create(const struct controller_options *options);

/* Closes all connections. Accepts NULL. */
void controller_destroy(struct controller *controller);

/*
 * Shows the cells of this process, a worker or the logger, from now on: metrics_size bytes that
 * stay mapped until the next call for the same one. NULL: it has ended. What the ledger contains by
 * now is shown from there, in the same instant and never twice, so those cells may be unmapped
 * after.
 */
void controller_set_process(struct controller *controller, const struct segment_identity *identity,
                            const void *metrics);

/*
 * Shows what this process is doing from now on: the SEGMENT_FLIGHT of its segment, which stays
 * mapped until the next call for the same role and index. NULL: the process is gone.
 */
void controller_set_flight(struct controller *controller, const struct segment_identity *identity,
                           int32_t pid, const void *flight);

/*
 * A process has crashed: what it was doing is taken from its memory, once, and kept. The report
 * stays valid until the next.
 */
const struct crash_report *controller_report_crash(struct controller *controller,
                                                   const struct segment_identity *identity,
                                                   int32_t pid, const void *flight,
                                                   int wait_status);

/* What the controller before this one had reported, out of the segment that it left, comes first.
 */
void controller_inherit_crashes(struct controller *controller, const void *crashes);

/* From now on /ready says no: the process was told to stop. */
void controller_drain(struct controller *controller);

/* How much all workers have shed of this kind, those that ended included. */
uint64_t controller_shed(const struct controller *controller, enum shed_kind kind);

/* One turn: waits at most until the next deadline, serves what is ready, fires due timers. */
void controller_turn(struct controller *controller);

#endif
