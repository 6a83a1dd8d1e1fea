#include "team.h"

#include <stdlib.h>
#include <string.h>

#include "pool.h"

typedef struct {
    _Alignas(AS_CACHE_LINE) as_seconds of_last_run;
} as_clock;

/* The next part that nobody has taken; a method that deals them out itself has two in turn. */
typedef struct {
    _Alignas(AS_CACHE_LINE) atomic_int next[2];
} as_counter;

struct as_team_state {
    as_barrier *barriers; /* one of each group */
    as_counter *counters; /* one of each group */
    as_clock *clocks;     /* one of each thread */
};

void *as_alloc(size_t size_bytes)
{
    void *memory = NULL;
    /* of size 0 some systems give NULL, which would look like no memory */
    if (posix_memalign(&memory, AS_CACHE_LINE, size_bytes ? size_bytes : 1) != 0)
        return NULL;
    return memset(memory, 0, size_bytes);
}

void as_free(void *memory)
{
    free(memory);
}

int as_team_init(as_team *team, int threads, int per_image, int parts, int dynamic, int own_input,
                 const int64_t *part_ptr)
{
    *team = (as_team){threads, per_image, parts, dynamic, own_input, part_ptr, NULL};
    struct as_team_state *state = team->state = as_alloc(sizeof *state);
    if (state == NULL)
        return AS_ERR_MEMORY;
    const int groups = threads / per_image;
    state->barriers = as_alloc((size_t)groups * sizeof *state->barriers);
    state->counters = as_alloc((size_t)groups * sizeof *state->counters);
    state->clocks = as_alloc((size_t)threads * sizeof *state->clocks);
    if (state->barriers == NULL || state->counters == NULL || state->clocks == NULL) {
        as_team_free(team);
        return AS_ERR_MEMORY;
    }
    for (int g = 0; g < groups; ++g) state->barriers[g].size = per_image;
    return AS_OK;
}

void as_team_free(as_team *team)
{
    if (team->state == NULL)
        return;
    as_free(team->state->barriers);
    as_free(team->state->counters);
    as_free(team->state->clocks);
    as_free(team->state);
    team->state = NULL;
}

typedef struct {
    const as_team *team;
    const as_method *method;
    void *layer;
    const float *x;
    float *out;
    int64_t images, turns;
    int groups; /* that have a turn */
} as_run;

static void timed(as_phase phase, void *layer, const as_turn *turn, double *seconds)
{
    if (phase == NULL)
        return;
    const double start = as_now();
    phase(layer, turn);
    *seconds += as_since(start);
}

static void set_part(const as_team *team, as_turn *turn, int part)
{
    turn->first_unit = team->part_ptr[part];
    turn->last_unit = team->part_ptr[part + 1];
}

/* The products of the parts that this thread takes. */
static void take_parts(const as_run *run, as_turn *turn, double *seconds)
{
    const as_team *team = run->team;
    int part;
    while ((part = as_take(&turn->next[0])) < team->parts) {
        set_part(team, turn, part);
        timed(run->method->products, run->layer, turn, seconds);
    }
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static void run_thread(void *arg, int thread)
{
    const as_run *run = arg;
    const as_team *team = run->team;
    const as_method *method = run->method;
    as_turn turn = {.x = run->x,
                    .out = run->out,
                    .images = run->images,
                    .thread = thread,
                    .group = thread / team->per_image,
                    .rank = thread % team->per_image,
                    .ranks = team->per_image};
    turn.buffer = team->own_input ? thread : turn.group;
    const int dealt = team->dynamic && !method->takes_parts;
    if (!team->dynamic)
        set_part(team, &turn, turn.rank);
    as_barrier *barrier = &team->state->barriers[turn.group];
    /* the input buffer is, or the counter */
    const int shared = turn.ranks > 1 && ((method->input != NULL && !team->own_input) || dealt);
    as_seconds seconds = {0.0, 0.0, 0.0};
    double input = 0.0, output = 0.0, waiting = 0.0; /* inside products */
    turn.input_seconds = &input, turn.output_seconds = &output, turn.waiting_seconds = &waiting;
    turn.barrier = barrier;
    turn.team = team, turn.next = team->state->counters[turn.group].next;

    for (turn.image = turn.group; turn.image < run->turns; turn.image += run->groups) {
        /* Nobody may overwrite the input buffer while a colleague still reads the last image, or
         * count anew while one still takes parts of it. */
        if (shared && turn.image != turn.group)
            as_barrier_wait(barrier);
        if (turn.rank == 0 && dealt)
            as_deal_anew(&turn.next[0]);
        timed(method->input, run->layer, &turn, &seconds.input);
        if (shared)
            as_barrier_wait(barrier);
        timed(method->begin, run->layer, &turn, &seconds.output);
        if (dealt)
            take_parts(run, &turn, &seconds.products);
        else
            timed(method->products, run->layer, &turn, &seconds.products);
        timed(method->end, run->layer, &turn, &seconds.output);
    }
    seconds.products -= waiting;
    input = smaller(input, seconds.products); /* they may be estimates */
    seconds.products -= input;
    output = smaller(output, seconds.products);
    seconds.products -= output;
    seconds.input += input;
    seconds.output += output;
    team->state->clocks[thread].of_last_run = seconds;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

int as_team_run(const as_team *team, const as_method *method, void *layer, const float *x,
                float *out, int64_t images, as_seconds *seconds)
{
    const int64_t per_turn = method->per_turn ? method->per_turn : 1;
    const int64_t turns = method->whole_batch ? 1 : as_div_up(images, per_turn);
    const int groups = (int)as_min(team->threads / team->per_image, turns);
    const int threads = groups * team->per_image;
    as_run run = {team, method, layer, x, out, images, turns, groups};
    const int status = as_pool_run(threads, run_thread, &run);
    *seconds = (as_seconds){0.0, 0.0, 0.0};
    for (int i = 0; i < threads && status == AS_OK; ++i) {
        const as_seconds s = team->state->clocks[i].of_last_run;
        seconds->input = larger(seconds->input, s.input);
        seconds->products = larger(seconds->products, s.products);
        seconds->output = larger(seconds->output, s.output);
    }
    return status;
}
