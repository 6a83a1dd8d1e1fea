#if defined(__linux__)
#define _GNU_SOURCE /* MADV_HUGEPAGE */
#endif

#include "probe.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "archsim_native.h"
#include "pool.h"

static const uint64_t SEED = 0x9e3779b97f4a7c15u;

/* ---- memory ---- */

int as_probe_init(as_probe *probe, int64_t size)
{
    memset(probe, 0, sizeof *probe);
    void *memory =
        mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return AS_ERR_MEMORY;
#if defined(MADV_HUGEPAGE)
    madvise(memory, (size_t)size, MADV_HUGEPAGE); /* else a probe of caches is one of TLBs */
#endif
    memset(memory, 1, (size_t)size); /* pages that were only read share one page of zeros */
    probe->memory = memory;
    probe->size = probe->bytes = size;
    probe->random = SEED;
    return AS_OK;
}

void as_probe_free(as_probe *probe)
{
    if (probe->memory != NULL)
        munmap(probe->memory, (size_t)probe->size);
    probe->memory = NULL;
}

/* A one-to-one map of 0 .. 2^bits - 1 onto itself without visible order: odd factors and shifts
 * are each one-to-one. Factors of Stafford's mix 13 and of Vigna's SplitMix64. */
static uint64_t shuffled(uint64_t i, int bits)
{
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    const int half = (bits + 1) / 2;
    static const uint64_t factors[] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u,
                                       0x94d049bb133111ebu};
    for (int round = 0; round < 6; ++round) {
        i = (i * factors[round % 3] + SEED) & mask;
        i ^= i >> (half > 1 ? half - (round & 1) : 1);
    }
    return i;
}

/* The line that comes `*i`-th, or of those behind it the first that exists. */
static uint64_t next_line(uint64_t *i, uint64_t lines, int bits)
{
    uint64_t line;
    do
        line = shuffled((*i)++ & ((UINT64_C(1) << bits) - 1), bits);
    while (line >= lines);
    return line;
}

void as_probe_link(as_probe *probe, int64_t lines, int chases)
{
    int bits = 1;
    while (INT64_C(1) << bits < lines) ++bits;
    uint64_t i = 0;
    const uint64_t first = next_line(&i, (uint64_t)lines, bits);
    uint64_t line = first;
    for (int64_t n = 0, chase = 0; n < lines; ++n) {
        char *here = probe->memory + (int64_t)line * AS_PROBE_LINE;
        if (chase < chases && n >= lines * chase / chases)
            probe->at[chase++] = here;
        line = n + 1 < lines ? next_line(&i, (uint64_t)lines, bits) : first;
        *(void **)here = probe->memory + (int64_t)line * AS_PROBE_LINE;
    }
}

/* ---- time ---- */

double as_probe_tick(void)
{
    double least = 1.0;
    for (int i = 0; i < 1000; ++i) {
        const double start = as_now(), passed = as_now() - start;
        least = passed < least ? passed : least;
    }
    return least;
}

double as_probe_cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void as_probe_time(const as_probe_loop *loop, as_probe *probe, int64_t steps, int64_t yardstick,
                   int samples, double *times)
{
    const as_probe_fn additions = as_probe_scalar.loop[0].run;
    const as_probe_fn multiplications = as_probe_scalar.loop[1].run;
    for (int i = -1; i < samples; ++i) {
        if (loop->prepare != NULL)
            loop->prepare(probe, steps);
        const double cpu = as_probe_cpu_now();
        double at[AS_PROBE_TIMES];
        at[0] = as_now();
        additions(probe, yardstick);
        at[1] = as_now();
        multiplications(probe, yardstick / 3);
        at[2] = as_now();
        loop->run(probe, steps);
        at[3] = as_now();
        additions(probe, yardstick);
        at[4] = as_now();
        multiplications(probe, yardstick / 3);
        at[5] = as_now();
        if (i < 0)
            continue;
        double *sample = times + i * AS_PROBE_TIMES;
        for (int j = 0; j < 5; ++j) sample[j] = at[j + 1] - at[j];
        sample[5] = as_probe_cpu_now() - cpu;
    }
}

typedef struct {
    const as_probe_loop *loop;
    as_probe *const *probes;
    int64_t steps;
    int threads, samples;
    double *times;
    as_barrier barrier;
} team_run;

static void time_member(void *arg, int rank)
{
    team_run *run = arg;
    as_probe *probe = run->probes[rank];
    for (int i = -1; i < run->samples; ++i) {
        if (run->loop->prepare != NULL)
            run->loop->prepare(probe, run->steps);
        as_barrier_wait(&run->barrier);
        const double cpu = as_probe_cpu_now();
        const double start = as_now();
        run->loop->run(probe, run->steps);
        const double end = as_now();
        if (i < 0)
            continue;
        double *sample = run->times + (i * run->threads + rank) * AS_PROBE_TEAM_TIMES;
        sample[0] = start, sample[1] = end, sample[2] = as_probe_cpu_now() - cpu;
    }
}

int as_probe_time_team(const as_probe_loop *loop, as_probe *const *probes, int threads,
                       int64_t steps, int samples, double *times)
{
    team_run run = {loop, probes, steps, threads, samples, times, {.size = threads}};
    return as_pool_run(threads, time_member, &run);
}

typedef struct {
    const as_probe_loop *write, *read;
    const as_probe *probe;
    int samples;
    double *times;
    as_barrier barrier;
} hand_run;

/* One walk of all of it by a copy of the probe, for two threads walk the same memory. */
static double walk_once(const as_probe_loop *loop, const as_probe *probe)
{
    as_probe mine = *probe;
    mine.position = 0;
    const double start = as_now();
    loop->run(&mine, mine.bytes / AS_PROBE_BLOCK);
    return as_now() - start;
}

static void time_hand(void *arg, int rank)
{
    hand_run *run = arg;
    for (int i = -1; i < run->samples; ++i) {
        double *sample = run->times + 2 * (i < 0 ? 0 : i);
        if (rank == 0)
            sample[0] = walk_once(run->write, run->probe);
        as_barrier_wait(&run->barrier);
        if (rank == 1)
            sample[1] = walk_once(run->read, run->probe);
        as_barrier_wait(&run->barrier);
    }
}

int as_probe_hand(const as_probe_loop *write, const as_probe_loop *read, const as_probe *probe,
                  int samples, double *times)
{
    hand_run run = {write, read, probe, samples, times, {.size = 2}};
    return as_pool_run(2, time_hand, &run);
}

/* ---- the pool itself ---- */

typedef struct {
    int64_t steps;
    int samples;
    double *seconds;
    as_barrier barrier;
} barrier_run;

static void time_barriers(void *arg, int rank)
{
    barrier_run *run = arg;
    for (int i = 0; i < run->samples; ++i) {
        as_barrier_wait(&run->barrier);
        const double start = as_now();
        for (int64_t j = 0; j < run->steps; ++j) as_barrier_wait(&run->barrier);
        if (rank == 0)
            run->seconds[i] = (as_now() - start) / (double)run->steps;
    }
}

int as_probe_barriers(int threads, int64_t steps, int samples, double *seconds)
{
    barrier_run run = {steps, samples, seconds, {.size = threads}};
    return as_pool_run(threads, time_barriers, &run);
}
