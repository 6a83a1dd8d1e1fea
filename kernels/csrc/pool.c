#if defined(__linux__)
#define _GNU_SOURCE /* sched_getcpu, cpu_set_t */
#endif

#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "archsim_native.h"

/* A worker that finds no work spins this long, so that layer after layer starts without a wake-up
 * (a few microseconds each), and then sleeps, so that an idle process uses no CPU. */
static const double SPIN_SECONDS = 100e-6;
/* Pauses before a waiting thread first offers its CPU: on a machine with fewer CPUs than threads
 * whoever is waited for may need it. */
enum { PAUSES_BEFORE_YIELD = 256 };

/* Only the caller of a run writes a worker's job, and only while the worker is idle. */
typedef struct {
    _Alignas(AS_CACHE_LINE) atomic_uint posted; /* jobs given */
    atomic_int asleep;
    as_thread_fn fn;
    void *arg;
    int threads; /* of the run */
    int rank;
    pthread_mutex_t mutex; /* guards falling asleep and waking */
    pthread_cond_t wake;
    _Alignas(AS_CACHE_LINE) atomic_uint finished; /* jobs done */
} worker;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t run_mutex = PTHREAD_MUTEX_INITIALIZER;
static worker *workers[AS_MOST_THREADS]; /* [0] unused: rank 0 is the caller */
static atomic_int worker_count;

double as_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What two readings are apart with nothing between: some 20 ns, on virtual machines more. */
static double clock_seconds;

static void time_clock(void)
{
    enum { READINGS = 64 };
    double least = 1.0;
    for (int i = 0; i < READINGS; ++i) {
        const double start = as_now(), apart = as_now() - start;
        least = apart < least ? apart : least;
    }
    clock_seconds = least;
}

double as_since(double start)
{
    static pthread_once_t timed = PTHREAD_ONCE_INIT;
    const double apart = as_now() - start;
    pthread_once(&timed, time_clock);
    return apart > clock_seconds ? apart - clock_seconds : 0.0;
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* One step of waiting for another thread of the same run. */
static inline void wait_step(int *steps)
{
    if (*steps < PAUSES_BEFORE_YIELD) {
        ++*steps;
        pause_cpu();
    } else {
        sched_yield();
    }
}

void as_barrier_wait(as_barrier *barrier)
{
    const unsigned round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) ==
        barrier->size - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
        return;
    }
    for (int steps = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round;)
        wait_step(&steps);
}

static int has_job(worker *w, unsigned done)
{
    return atomic_load(&w->posted) != done;
}

static void wait_for_job(worker *w, unsigned done)
{
    const double end = as_now() + SPIN_SECONDS;
    int steps = 0;
    while (as_now() < end) { /* the clock costs about as much as a pause */
        if (has_job(w, done))
            return;
        wait_step(&steps);
    }
    pthread_mutex_lock(&w->mutex);
    /* Sequentially consistent, as in post_job: this thread sees the job or post_job the sleeper. */
    atomic_store(&w->asleep, 1);
    while (!has_job(w, done)) pthread_cond_wait(&w->wake, &w->mutex);
    atomic_store(&w->asleep, 0);
    pthread_mutex_unlock(&w->mutex);
}

/* Moves a worker that begins a run on the CPU of a lower rank to one that no rank has.
 *
 * Threads that wait yield, and two that yield to each other look content to the scheduler: on
 * Linux 6.18 they shared a CPU for seconds beside an idle one, at half the speed. A moment's
 * narrower affinity makes the move; then the worker's affinity is as it was, so nothing is pinned.
 * Without a free CPU nothing happens. */
static void leave_shared_cpu(int rank, int threads)
{
#if defined(__linux__)
    /* Where each rank last began a run, plus 1; 0: unknown. */
    static atomic_int cpu_of[AS_MOST_THREADS];
    const int cpu = sched_getcpu() + 1;
    int shared = 0;
    atomic_store_explicit(&cpu_of[rank], cpu, memory_order_relaxed);
    for (int i = 0; i < rank; ++i)
        shared |= atomic_load_explicit(&cpu_of[i], memory_order_relaxed) == cpu;
    if (!shared || cpu == 0)
        return;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    cpu_set_t unused = allowed;
    for (int i = 0; i < threads; ++i) {
        const int taken = atomic_load_explicit(&cpu_of[i], memory_order_relaxed);
        if (taken > 0)
            CPU_CLR(taken - 1, &unused);
    }
    if (CPU_COUNT(&unused) == 0 || sched_setaffinity(0, sizeof unused, &unused) != 0)
        return;
    sched_setaffinity(0, sizeof allowed, &allowed);
    atomic_store_explicit(&cpu_of[rank], sched_getcpu() + 1, memory_order_relaxed);
#else
    (void)rank, (void)threads;
#endif
}

static void *worker_main(void *self)
{
    worker *w = self;
    for (unsigned done = 0;; ++done) {
        wait_for_job(w, done);
        leave_shared_cpu(w->rank, w->threads);
        w->fn(w->arg, w->rank);
        atomic_store_explicit(&w->finished, done + 1, memory_order_release);
    }
    return NULL;
}

static void post_job(worker *w, int threads, as_thread_fn fn, void *arg)
{
    w->threads = threads;
    w->fn = fn;
    w->arg = arg;
    atomic_fetch_add(&w->posted, 1);
    if (atomic_load(&w->asleep)) {
        pthread_mutex_lock(&w->mutex);
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
    }
}

static void wait_until_finished(worker *w)
{
    const unsigned posted = atomic_load_explicit(&w->posted, memory_order_relaxed);
    for (int steps = 0; atomic_load_explicit(&w->finished, memory_order_acquire) != posted;)
        wait_step(&steps);
}

/* fork keeps only the calling thread: hold the pool still around it, and begin anew in the child.
 * What the parent's workers owned is lost to the child, about 300 bytes for each. */
static void before_fork(void)
{
    pthread_mutex_lock(&run_mutex);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&run_mutex);
}

static void after_fork_in_child(void)
{
    atomic_store(&worker_count, 0);
    pthread_mutex_unlock(&run_mutex); /* this thread is the one that locked it */
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static int start_thread(worker *w)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0)
        return AS_ERR_THREADS;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Signals are the host program's: none may interrupt a worker. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread, &attributes, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0 ? AS_OK : AS_ERR_THREADS;
}

static int add_worker(int rank)
{
    void *memory = NULL;
    if (posix_memalign(&memory, AS_CACHE_LINE, sizeof(worker)) != 0)
        return AS_ERR_THREADS;
    worker *w = memset(memory, 0, sizeof(worker));
    w->rank = rank;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    if (start_thread(w) != AS_OK) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->mutex);
        free(w);
        return AS_ERR_THREADS;
    }
    workers[rank] = w;
    atomic_store(&worker_count, rank);
    return AS_OK;
}

int as_pool_run(int threads, as_thread_fn fn, void *arg)
{
    if (threads > AS_MOST_THREADS)
        return AS_ERR_THREADS;
    if (threads <= 1) {
        fn(arg, 0);
        return AS_OK;
    }
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&run_mutex);
    int status = AS_OK;
    for (int rank = atomic_load(&worker_count) + 1; rank < threads && status == AS_OK; ++rank)
        status = add_worker(rank);
    if (status == AS_OK) {
        leave_shared_cpu(0, threads); /* rank 0 never moves; this notes where it is */
        for (int rank = 1; rank < threads; ++rank) post_job(workers[rank], threads, fn, arg);
        fn(arg, 0);
        for (int rank = 1; rank < threads; ++rank) wait_until_finished(workers[rank]);
    }
    pthread_mutex_unlock(&run_mutex);
    return status;
}

int as_pool_workers(void)
{
    return atomic_load(&worker_count);
}
