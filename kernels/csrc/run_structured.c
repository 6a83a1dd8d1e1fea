/* Structured sparsity: what is left of both lowered matrices, multiplied by BLAS.
 *
 * BLAS is column-major, so every matrix is given as its transpose: out' = lowered' . W'.
 */
#include <string.h>

#include "products.h"
#include "team.h"

static void lower(void *layer, const as_turn *turn)
{
    const as_structured *d = layer;
    const as_shape *s = &d->shape;
    int64_t first, last;
    as_share(turn, d->row_ptr[s->groups], 1, &first, &last);
    as_im2col_some(s, turn->x + turn->image * s->channels * s->height * s->width, d->row,
                   d->lowered[turn->group], d->pitch, first, last);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* This rank's channels of group g, kept or not: [*first, *last), perhaps none. */
static void channels_in_group(const as_shape *s, const as_turn *turn, int64_t g, int64_t *first,
                              int64_t *last)
{
    const int64_t in_group = s->out_channels / s->groups;
    *first = larger(turn->first_unit, g * in_group);
    *last = larger(*first, as_min(turn->last_unit, (g + 1) * in_group));
}

/* Kept channels stand together, from the first place of the rank's channels in the group on. */
static void products(void *layer, const as_turn *turn)
{
    const as_structured *d = layer;
    const as_shape *s = &d->shape;
    const int64_t pixels = s->out_height * s->out_width;
    for (int64_t g = 0; g < s->groups; ++g) {
        int64_t first, last;
        channels_in_group(s, turn, g, &first, &last);
        const int64_t before = d->kept_ptr[g * (s->out_channels / s->groups)];
        const int64_t depth = d->row_ptr[g + 1] - d->row_ptr[g];
        /* the binding has made sure that all of these fit an int; with beta = 0 c is not read */
        int m = (int)pixels, n = (int)(d->kept_ptr[last] - d->kept_ptr[first]), k = (int)depth;
        int lda = (int)d->pitch;
        float one = 1.0f, beta = 0.0f;
        char plain = 'N';
        if (n > 0) /* Fortran's interface has no const: a and b are only read */
            d->sgemm(&plain, &plain, &m, &n, &k, &one,
                     d->lowered[turn->group] + d->row_ptr[g] * d->pitch, &lda,
                     (float *)d->weights + d->weight_ptr[g] +
                         (d->kept_ptr[first] - before) * depth,
                     &k, &beta, turn->out + (turn->image * s->out_channels + first) * pixels, &m);
    }
}

static void finish(float *to, int64_t count, float bias, int relu)
{
    for (int64_t i = 0; i < count; ++i) {
        const float sum = to[i] + bias;
        to[i] = relu && sum < 0.0f ? 0.0f : sum; /* NaN stays */
    }
}

/* Channels to their places, from the last one on: none moves to a place before its own. */
static void spread(void *layer, const as_turn *turn)
{
    const as_structured *d = layer;
    const as_shape *s = &d->shape;
    const int64_t pixels = s->out_height * s->out_width;
    float *out = turn->out + turn->image * s->out_channels * pixels;
    for (int64_t g = 0; g < s->groups; ++g) {
        int64_t first, last;
        channels_in_group(s, turn, g, &first, &last);
        for (int64_t k = last - 1; k >= first; --k) {
            float *to = out + k * pixels;
            const int64_t from = first + d->kept_ptr[k] - d->kept_ptr[first];
            if (d->kept_ptr[k + 1] == d->kept_ptr[k])
                memset(to, 0, (size_t)pixels * sizeof(float));
            else if (from != k)
                memcpy(to, out + from * pixels, (size_t)pixels * sizeof(float));
            if (d->bias || d->relu)
                finish(to, pixels, d->bias ? d->bias[k] : 0.0f, d->relu);
        }
    }
}

int as_structured_run(as_structured *layer, const float *x, float *out, int64_t images,
                      as_seconds *seconds)
{
    const int64_t channels = layer->shape.out_channels;
    const int plain = !layer->bias && !layer->relu && layer->kept_ptr[channels] == channels;
    const as_method method = {
        .input = lower, .products = products, .end = plain ? NULL : spread};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
