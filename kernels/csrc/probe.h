/* Micro-benchmarks of the host: loops that each do one thing, and how they are timed. */
#ifndef ARCHSIM_PROBE_H
#define ARCHSIM_PROBE_H

#include <stdint.h>

enum {
    AS_PROBE_CHASES = 32,  /* pointer chases side by side, at most */
    AS_PROBE_LINE = 64,    /* bytes between the loads of a loop, and between links of a chain */
    AS_PROBE_BLOCK = 1024, /* bytes of one step of a walk */
    AS_PROBE_PAGE = 4096,  /* the smallest page of the architectures that we know */
    AS_PROBE_LEAST = 32768 /* bytes of memory that every loop may touch, whatever `bytes` says */
};

/* What a loop works on. Walks read or write [memory, memory + bytes) again and again, block by block
 * from `position` on; `bytes` is a multiple of AS_PROBE_BLOCK. */
typedef struct {
    char *memory; /* aligned to a page, `size` >= AS_PROBE_LEAST bytes */
    int64_t size, bytes, position;
    int64_t offset; /* of the loads of load and load_pages: a multiple of 4 below a page */
    uint64_t random;
    void *at[AS_PROBE_CHASES]; /* where each chase is */
    _Alignas(64) char hot[1024]; /* stays in the first level */
} as_probe;

typedef void (*as_probe_fn)(as_probe *probe, int64_t steps);

typedef struct {
    const char *name;
    as_probe_fn run;
    int operations;                  /* of one step */
    void (*prepare)(as_probe *probe, int64_t steps); /* before each timing; NULL: nothing */
} as_probe_loop;

typedef struct {
    const as_probe_loop *loop;
    int count;
} as_probe_loops;

/* Those that need no vectors (probe_scalar.c). The first two are yardsticks: chains of additions,
 * each of one cycle, and of multiplications, each of a few. Other load on the same core holds the
 * two up differently. */
extern const as_probe_loops as_probe_scalar;

/* Memory of this size, in large pages where the system has them, all written; AS_ERR_MEMORY. */
int as_probe_init(as_probe *probe, int64_t size);
void as_probe_free(as_probe *probe);

/* Links the first `lines` lines into one cycle without order, and sets `chases` of them evenly
 * apart on it: no line comes back before all others were touched. */
void as_probe_link(as_probe *probe, int64_t lines, int chases);

/* Seconds between two readings of the clock that follow each other. */
double as_probe_tick(void);

/* Seconds of CPU time that this thread has used. */
double as_probe_cpu_now(void);

enum { AS_PROBE_TIMES = 6, AS_PROBE_TEAM_TIMES = 3 }; /* doubles of a sample */

/* Times `samples` runs of `steps` steps on the calling thread, after one that is not timed. Of each
 * sample: seconds of `yardstick` steps of additions and of a third as many of multiplications,
 * seconds of the loop, the two yardsticks again, and CPU seconds of all five. */
void as_probe_time(const as_probe_loop *loop, as_probe *probe, int64_t steps, int64_t yardstick,
                   int samples, double *times);

/* The same on several threads at once, each with its own probe, who meet before each sample. Of each
 * sample and thread: the clock at the begin and at the end, CPU seconds. AS_ERR_THREADS. */
int as_probe_time_team(const as_probe_loop *loop, as_probe *const *probes, int threads,
                       int64_t steps, int samples, double *times);

/* Seconds in which one thread writes all that a probe walks, and then those in which another one
 * reads it, both `samples` times in turns. */
int as_probe_hand(const as_probe_loop *write, const as_probe_loop *read, const as_probe *probe,
                  int samples, double *times);

/* Seconds of each of `samples` times `steps` barriers of so many threads. */
int as_probe_barriers(int threads, int64_t steps, int samples, double *seconds);

#endif
