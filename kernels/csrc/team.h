/* How the methods walk images; see as_team in archsim_native.h. */
#ifndef ARCHSIM_TEAM_H
#define ARCHSIM_TEAM_H

#include <stdint.h>

#include "archsim_native.h"
#include "pool.h"

/* What one thread does now. */
typedef struct {
    const float *x; /* all images */
    float *out;
    int64_t image, images; /* which one, of how many */
    int group, rank, ranks, thread;
    int buffer; /* of input: the group's, or this thread's own */
    int64_t first_unit, last_unit; /* of the output */
    /* A products phase that also makes its input, ends sums or waits adds those times here. */
    double *input_seconds, *output_seconds, *waiting_seconds;
    /* Of the ranks that share this image: where they meet, and two counters of parts, 0 at first. */
    as_barrier *barrier;
    atomic_int *next;
    const as_team *team;
} as_turn;

typedef void (*as_phase)(void *layer, const as_turn *turn);

/* The phases of an image, in this order; NULL: nothing to do. `begin` and `end` count as output, see
 * the rank's part, and do not go with parts that are taken: a dynamic team calls `products` alone
 * with units, once for each part. */
typedef struct {
    as_phase input, begin, products, end;
    int whole_batch;  /* all images are one turn */
    int64_t per_turn; /* images of a turn, else; 0 is 1 */
    int takes_parts;  /* products deals out a dynamic team's parts itself: called once an image */
} as_method;

int as_team_run(const as_team *team, const as_method *method, void *layer, const float *x,
                float *out, int64_t images, as_seconds *seconds);

/* The part that a counter gives out next. */
static inline int as_take(atomic_int *next)
{
    return atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
}

static inline void as_deal_anew(atomic_int *next)
{
    atomic_store_explicit(next, 0, memory_order_relaxed);
}

/* This rank's share of n pieces of input, those of `groups` one after the other: [first, last). An
 * even one or, where each has a copy of its own, the groups that its units are in. */
static inline void as_share(const as_turn *turn, int64_t n, int64_t groups, int64_t *first,
                            int64_t *last)
{
    const as_team *team = turn->team;
    *first = team->own_input ? 0 : n * turn->rank / turn->ranks;
    *last = team->own_input ? n : n * (turn->rank + 1) / turn->ranks;
    if (!team->own_input || team->dynamic)
        return;
    const int64_t begin = team->part_ptr[turn->rank], end = team->part_ptr[turn->rank + 1];
    const int64_t in_group = team->part_ptr[team->parts] / groups;
    if (begin == end) {
        *last = 0;
        return;
    }
    *first = begin / in_group * (n / groups);
    *last = ((end - 1) / in_group + 1) * (n / groups);
}

static inline int64_t as_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t as_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t as_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Pixels i of an axis for which i * stride + start lies inside the image: [first, last). */
static inline void as_inside(int64_t start, int64_t stride, int64_t size, int64_t count,
                             int64_t *first, int64_t *last)
{
    *first = as_min(start >= 0 ? 0 : as_div_up(-start, stride), count);
    *last = as_min(start >= size ? 0 : as_div_up(size - start, stride), count);
}

#endif
