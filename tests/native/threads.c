/* Several callers of the pool at once, teams of 1 to 4 threads; and forks in between. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layers.h"

enum { CALLERS = 4, ROUNDS = 12, IMAGES = 3, MOST_SECONDS = 120 };

/* What one caller does; nobody else touches it until it is done. */
typedef struct {
    layer *made;
    const float *x;
    float *out;
    int status;
} job;

static void run_once(job *j)
{
    as_seconds seconds;
    j->status |= j->made->run(j->made, j->x, j->out, IMAGES, &seconds);
}

static void *call(void *argument)
{
    for (int i = 0; i < ROUNDS; ++i) run_once(argument);
    return NULL;
}

/* Team sizes in turn: 1 to 4 threads, every number of threads to an image. */
static layer_spec next_spec(const as_isa *isa, const layer_method *method, int count)
{
    static const int teams[][2] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 2},
                                   {3, 3}, {4, 1}, {4, 2}, {4, 3}, {4, 4}};
    static const int shapes[] = {8, 12, 14, 15}; /* groups, 1x1, fully connected, 5x5 */
    int team = count % 10, shape = 0;
    layer_spec spec = layer_random(isa, layer_shape(shapes[0]), teams[team][0], teams[team][1]);
    while (method->fits != NULL && !method->fits(&spec)) {
        if (++shape == 4)
            shape = 0, team = (team + 1) % 10;
        spec = layer_random(isa, layer_shape(shapes[shape]), teams[team][0], teams[team][1]);
    }
    return spec;
}

static job make_job(const as_isa *isa, const layer_method *method, int count)
{
    const layer_spec spec = next_spec(isa, method, count);
    return (job){.made = layer_make(method, &spec),
                 .x = check_floats(IMAGES * layer_x_size(&spec.shape), 1),
                 .out = check_floats(IMAGES * layer_out_size(&spec.shape), 1)};
}

static int is_right(const job *j)
{
    return j->status == AS_OK && layer_is_right(j->made, j->x, j->out, IMAGES);
}

/* In a child: the pool begins anew. Returns whether it computed what it should. */
static int runs_in_a_child(job *j)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(MOST_SECONDS);
        const int fresh = as_pool_workers() == 0;
        run_once(j);
        _exit(fresh && is_right(j) && as_pool_workers() < j->made->spec.threads ? 0 : 1);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* All callers at once; meanwhile this thread calls the pool too and, with a job for it, forks. */
static void run_jobs(job *jobs, job *own, job *of_child)
{
    pthread_t callers[CALLERS];
    int started = 0;
    while (started < CALLERS &&
           pthread_create(&callers[started], NULL, call, &jobs[started]) == 0)
        ++started;
    check_that(started == CALLERS, "callers");
    for (int i = 0; i < 2; ++i) {
        if (of_child != NULL)
            check_that(runs_in_a_child(of_child), "child");
        run_once(own);
    }
    for (int i = 0; i < started; ++i) pthread_join(callers[i], NULL);
    check_that(is_right(own), "sums of the first caller");
    for (int i = 0; i < CALLERS; ++i) check_that(is_right(&jobs[i]), "sums");
}

/* The methods of all lists, one after the other, again and again. */
static const layer_method *method_at(int index)
{
    for (;;)
        for (int list = 0; list < LAYER_METHOD_LISTS; ++list)
            for (const layer_method *m = layer_methods(list); m->name != NULL; ++m)
                if (index-- == 0)
                    return m;
}

static void check_callers(const as_isa *isa, int forks)
{
    enum { TURNS = 12, JOBS = CALLERS + 2 };
    int count = 0;
    for (int turn = 0; turn < TURNS; ++turn) {
        job jobs[JOBS];
        for (int i = 0; i < JOBS; ++i, ++count)
            jobs[i] = make_job(isa, method_at(count), count + turn);
        check_case("%s %s, turn %d", isa->name, forks ? "forks" : "threads", turn);
        run_jobs(jobs, &jobs[CALLERS], forks ? &jobs[CALLERS + 1] : NULL);
        for (int i = 0; i < JOBS; ++i) layer_free(jobs[i].made);
        check_release();
    }
    check_that(as_pool_workers() >= 3, "the pool did not grow");
}

void check_threads(const as_isa *isa)
{
    check_callers(isa, 0);
}

void check_forks(const as_isa *isa)
{
    check_callers(isa, 1);
}
