/* Threads: one lazily made pool of workers in a process, and a barrier for groups of them. */
#ifndef ARCHSIM_POOL_H
#define ARCHSIM_POOL_H

#include <stdatomic.h>
#include <stdint.h>

enum { AS_CACHE_LINE = 64, AS_MOST_THREADS = 1024 };

typedef void (*as_thread_fn)(void *arg, int rank);

/* Calls fn(arg, rank) for rank 0 .. threads - 1, each on its own thread, rank 0 on the caller's.
 *
 * Returns when all have returned. Runs of several callers follow one another; fn must not call this
 * again. Workers are made at first need, stay, and after a while without work sleep. A forked child
 * begins with no workers and makes its own.
 * Returns AS_OK, or AS_ERR_THREADS when the system refuses a thread: then fn was not called at all.
 */
int as_pool_run(int threads, as_thread_fn fn, void *arg);

/* Workers that this process has now. */
int as_pool_workers(void);

/* Spin barrier of `size` threads; re-usable at once. Set `size`, the rest to zero. */
typedef struct {
    _Alignas(AS_CACHE_LINE) atomic_int arrived;
    _Alignas(AS_CACHE_LINE) atomic_uint round;
    int size;
} as_barrier;

void as_barrier_wait(as_barrier *barrier);

/* Seconds of a clock that never goes back. */
double as_now(void);

/* Seconds since as_now said `start`, without what reading the clock took. */
double as_since(double start);

#endif
