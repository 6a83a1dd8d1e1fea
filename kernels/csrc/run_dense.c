/* Dense convolution by BLAS: im2col where needed, one sgemm a group and thread.
 *
 * BLAS is column-major, so every matrix here is given as its transpose: out' = lowered' . W'.
 */
#include "products.h"
#include "team.h"

static void lower(void *layer, const as_turn *turn)
{
    const as_dense *d = layer;
    const as_shape *s = &d->shape;
    int64_t first, last;
    as_share(turn, s->channels * s->kernel_h * s->kernel_w, s->groups, &first, &last);
    as_im2col(s, turn->x + turn->image * s->channels * s->height * s->width,
              d->lowered[turn->buffer], d->pitch, first, last);
}

static void call_sgemm(const as_dense *d, char trans_a, int64_t m, int64_t n, int64_t k,
                       const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
                       int64_t ldc)
{
    /* The binding has made sure that all of these fit an int. With beta = 0 c is not read. */
    int m_ = (int)m, n_ = (int)n, k_ = (int)k, lda_ = (int)lda, ldb_ = (int)ldb, ldc_ = (int)ldc;
    float one = 1.0f, beta = d->bias ? 1.0f : 0.0f;
    char trans_b = 'N';
    if (m > 0 && n > 0) /* Fortran's interface has no const: a and b are only read */
        d->sgemm(&trans_a, &trans_b, &m_, &n_, &k_, &one, (float *)a, &lda_, (float *)b, &ldb_,
                 &beta, c, &ldc_);
}

/* This thread's output channels in group g: [*first, *last), perhaps none. */
static void channels_in_group(const as_dense *d, const as_turn *turn, int64_t g, int64_t *first,
                              int64_t *last)
{
    const int64_t in_group = d->shape.out_channels / d->shape.groups;
    *first = turn->first_unit > g * in_group ? turn->first_unit : g * in_group;
    *last = as_min(turn->last_unit, (g + 1) * in_group);
    if (*last < *first)
        *last = *first;
}

static void image_products(void *layer, const as_turn *turn)
{
    const as_dense *d = layer;
    const as_shape *s = &d->shape;
    const int64_t pixels = s->out_height * s->out_width;
    const int64_t depth = s->channels / s->groups * s->kernel_h * s->kernel_w;
    const int64_t pitch = d->lowered ? d->pitch : pixels;
    const float *in =
        d->lowered ? d->lowered[turn->buffer] : turn->x + turn->image * s->channels * pixels;
    float *out = turn->out + turn->image * s->out_channels * pixels;
    for (int64_t g = 0; g < s->groups; ++g) {
        int64_t first, last;
        channels_in_group(d, turn, g, &first, &last);
        call_sgemm(d, 'N', pixels, last - first, depth, in + g * depth * pitch, pitch,
                   d->weights + first * depth, depth, out + first * pixels, pixels);
    }
}

static void batch_products(void *layer, const as_turn *turn)
{
    const as_dense *d = layer;
    const as_shape *s = &d->shape;
    const int64_t depth = s->channels / s->groups;
    for (int64_t g = 0; g < s->groups; ++g) {
        int64_t first, last;
        channels_in_group(d, turn, g, &first, &last);
        call_sgemm(d, 'T', last - first, turn->images, depth, d->weights + first * depth, depth,
                   turn->x + g * depth, s->channels, turn->out + first, s->out_channels);
    }
}

/* This thread's outputs: `count` runs of `length` floats, `step` apart. */
typedef struct {
    float *first;
    int64_t count, length, step;
} region;

static region outputs(const as_dense *d, const as_turn *turn)
{
    const as_shape *s = &d->shape;
    const int64_t pixels = s->out_height * s->out_width, units = turn->last_unit - turn->first_unit;
    if (d->fully_connected)
        return (region){turn->out + turn->first_unit, turn->images, units, s->out_channels};
    float *image = turn->out + turn->image * s->out_channels * pixels;
    return (region){image + turn->first_unit * pixels, units, pixels, pixels};
}

static void fill_bias(void *layer, const as_turn *turn)
{
    const as_dense *d = layer;
    const region out = outputs(d, turn);
    const float *bias = d->bias + turn->first_unit;
    for (int64_t i = 0; i < out.count; ++i)
        for (int64_t j = 0; j < out.length; ++j)
            out.first[i * out.step + j] = bias[d->fully_connected ? j : i];
}

static void relu(void *layer, const as_turn *turn)
{
    const region out = outputs(layer, turn);
    for (int64_t i = 0; i < out.count; ++i)
        for (int64_t j = 0; j < out.length; ++j)
            if (out.first[i * out.step + j] < 0.0f) /* NaN stays */
                out.first[i * out.step + j] = 0.0f;
}

int as_dense_run(as_dense *layer, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    const as_method method = {.input = layer->lowered ? lower : NULL,
                              .begin = layer->bias ? fill_bias : NULL,
                              .products = layer->fully_connected ? batch_products : image_products,
                              .end = layer->relu ? relu : NULL,
                              .whole_batch = layer->fully_connected};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
