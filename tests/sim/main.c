/*
 * sim: runs seeds of scenarios, each in a child process, so that a crash, a hang or a broken
 * invariant is known by its seed; prints for each failure the command that replays it with a trace.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "fault.h"
#include "world.h"

enum {
    JOBS_MAX = 64,
    SEED_SECONDS_MAX = 60, /* of real time: more is a hang */
    FAILURES_SHOWN = 20,
};

/* Seeds that have found something, each with what it was. */
static const struct known {
    const char *scenario;
    uint64_t seed;
    uint64_t fault; /* 0: none */
} known[] = {
    /* A client that was told to calm down and does not read had its worker spin. */
    {"multi-hostile", 9, 0},
    /* GOAWAY came before our SETTINGS. */
    {"multi-hostile", 57, 0},
    /* The first request of a connection was refused, or a body had to be sent again: 502. */
    {"multi-strict", 40, 0},
    {"multi-strict", 81, 0},
    /* Turned away for want of memory, the timer of the session before stayed behind. */
    {"multi-rough", 6, 24},
    {"multi-rough", 6, 288},
    /* No inbox for a PROXY header. */
    {"proxied", 1, 36},
    /* A connection to an upstream ended while a stream was given back: the others never knew. */
    {"multi-strict", 4, 300},
    /* A response of announced length lost its trailers. */
    {"multi-strict", 2, 0},
    /* A deadline passed when all was said. */
    {"multi-hostile", 36, 0},
    /* Where no trailers had come, their absence was read from a stream that was given back. */
    {"multi-stalls", 10005278, 0},
    {"multi-rough", 10013987, 0},
    /* The codec frees twice what it cannot queue. */
    {"multi-strict", 1, 144},
    {"multi-rough", 4, 252},
    /* What waited for SETTINGS behind a GOAWAY was not asked elsewhere. */
    {"multi-strict", 60107444, 0},
    /* A goodbye that came in two pieces was taken for a request that its client gave up. */
    {"secure", 16, 0},
    {"secure", 1045, 0},
};

struct settings {
    uint64_t seeds;
    uint64_t first;
    const struct scenario *scenario; /* NULL: by turns */
    uint32_t jobs;
    bool trace;
    bool known; /* the list above, nothing else */
    bool sweeps;
    uint64_t points; /* of a sweep */
    uint64_t fault;  /* the one to replay; 0: none */
    const char *program;
};

struct job {
    pid_t child; /* 0: free */
    uint64_t seed;
};

struct batch {
    struct settings settings;
    struct job jobs[JOBS_MAX];
    uint32_t running;
    uint64_t passed;
    uint64_t failed;
};

static uint32_t scenario_count(void)
{
    uint32_t count = 0;
    while (scenarios[count].name != NULL) {
        count++;
    }
    ASSERT(count > 0);
    return count;
}

static const struct scenario *find_scenario(const char *name)
{
    for (uint32_t i = 0; scenarios[i].name != NULL; i++) {
        if (strcmp(scenarios[i].name, name) == 0) {
            return &scenarios[i];
        }
    }
    return NULL;
}

static const struct scenario *scenario_of(const struct settings *settings, uint64_t seed)
{
    return settings->scenario != NULL ? settings->scenario : &scenarios[seed % scenario_count()];
}

static void usage(void)
{
    (void)fprintf(stderr, "usage: sim [--seeds N] [--first S] [--scenario NAME] [--jobs N] "
                          "[--trace] [--sweep POINTS] [--fault POINT] [--known]\nscenarios:");
    for (uint32_t i = 0; scenarios[i].name != NULL; i++) {
        (void)fprintf(stderr, " %s", scenarios[i].name);
    }
    (void)fputc('\n', stderr);
}

static bool parse_setting(struct settings *settings, const char *name, const char *value)
{
    uint64_t number = 0;
    if (strcmp(name, "--scenario") == 0) {
        settings->scenario = find_scenario(value);
        return settings->scenario != NULL;
    }
    if (!span_to_u64(span_of_string(value), UINT32_MAX, &number)) {
        return false;
    }
    if (strcmp(name, "--seeds") == 0) {
        settings->seeds = number;
    } else if (strcmp(name, "--first") == 0) {
        settings->first = number;
    } else if (strcmp(name, "--sweep") == 0) {
        settings->sweeps = true;
        settings->points = number;
    } else if (strcmp(name, "--fault") == 0) {
        settings->fault = number;
    } else if (strcmp(name, "--jobs") == 0 && number >= 1 && number <= JOBS_MAX) {
        settings->jobs = (uint32_t)number;
    } else {
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct settings *settings)
{
    *settings = (struct settings){.seeds = 100, .first = 1, .jobs = 2, .program = argv[0]};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            settings->trace = true;
        } else if (strcmp(argv[i], "--known") == 0) {
            settings->known = true;
        } else if (i + 1 < argc && parse_setting(settings, argv[i], argv[i + 1])) {
            i++;
        } else {
            return false;
        }
    }
    return true;
}

static void start(struct batch *batch, struct job *job, uint64_t seed)
{
    (void)fflush(stdout);
    pid_t child = fork();
    ASSERT(child >= 0);
    if (child == 0) {
        (void)alarm(SEED_SECONDS_MAX);
        if (batch->settings.fault > 0) {
            fault_replay(batch->settings.fault);
        }
        scenario_run(scenario_of(&batch->settings, seed), seed,
                     batch->settings.trace ? stdout : NULL);
        exit(0); /* not _exit: the leak check runs there */
    }
    *job = (struct job){.child = child, .seed = seed};
    batch->running++;
}

static void report(struct batch *batch, const struct job *job, int result)
{
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) {
        batch->passed++;
        return;
    }
    batch->failed++;
    if (batch->failed > FAILURES_SHOWN) {
        return;
    }
    char how[64];
    if (WIFSIGNALED(result)) {
        (void)snprintf(how, sizeof(how), "killed by signal %d%s", WTERMSIG(result),
                       WTERMSIG(result) == SIGALRM ? " (it hung)" : "");
    } else {
        (void)snprintf(how, sizeof(how), "exit status %d", WEXITSTATUS(result));
    }
    const char *name = scenario_of(&batch->settings, job->seed)->name;
    (void)printf("FAILED seed %llu of %s: %s\n  replay: %s --scenario %s --first %llu --seeds 1 "
                 "--trace\n",
                 (unsigned long long)job->seed, name, how, batch->settings.program, name,
                 (unsigned long long)job->seed);
}

static void reap(struct batch *batch)
{
    int result = 0;
    pid_t child = waitpid(-1, &result, 0);
    ASSERT(child > 0);
    for (uint32_t i = 0; i < batch->settings.jobs; i++) {
        if (batch->jobs[i].child == child) {
            report(batch, &batch->jobs[i], result);
            batch->jobs[i].child = 0;
            batch->running--;
            return;
        }
    }
}

static struct job *free_job(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->settings.jobs; i++) {
        if (batch->jobs[i].child == 0) {
            return &batch->jobs[i];
        }
    }
    return NULL;
}

/* Each allocation and each call of each seed fails once: see fault.h. */
static int sweep(const struct settings *settings)
{
    struct fault_tally tally = {0};
    for (uint64_t i = 0; i < settings->seeds; i++) {
        struct fault_sweep one = {
            .scenario = scenario_of(settings, settings->first + i),
            .seed = settings->first + i,
            .points = settings->points,
            .jobs = settings->jobs,
            .program = settings->program,
        };
        fault_sweep(&one, &tally);
    }
    (void)printf("sim sweep: %llu passed, %llu failed\n", (unsigned long long)tally.passed,
                 (unsigned long long)tally.failed);
    return tally.failed == 0 && tally.passed > 0 ? 0 : 1;
}

static void run_seeds(struct batch *batch)
{
    for (uint64_t i = 0; i < batch->settings.seeds; i++) {
        struct job *job = free_job(batch);
        if (job == NULL) {
            reap(batch);
            job = free_job(batch);
        }
        start(batch, job, batch->settings.first + i);
    }
    while (batch->running > 0) {
        reap(batch);
    }
}

static void run_known(struct batch *batch)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        batch->settings.scenario = find_scenario(known[i].scenario);
        batch->settings.first = known[i].seed;
        batch->settings.fault = known[i].fault;
        batch->settings.seeds = 1;
        run_seeds(batch);
    }
}

int main(int argc, char **argv)
{
    static struct batch batch;
    if (!parse(argc, argv, &batch.settings)) {
        usage();
        return 2;
    }
    if (batch.settings.sweeps) {
        return sweep(&batch.settings);
    }
    if (batch.settings.known) {
        run_known(&batch);
    } else {
        run_seeds(&batch);
    }
    (void)printf("sim: %llu passed, %llu failed\n", (unsigned long long)batch.passed,
                 (unsigned long long)batch.failed);
    return batch.failed == 0 ? 0 : 1;
}
