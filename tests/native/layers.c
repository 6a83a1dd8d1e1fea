/* Layers of every method over shapes at the edges, run by the drivers. */
#include "layers.h"

#include <math.h>

/* Channels, image, output channels, kernel, stride, pad, dilation, groups; the output follows. */
static const int64_t sizes[LAYER_SHAPES][14] = {
    /* C  H   W   K  R  S  sh sw ph pw dh dw  g */
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1},      /* one pixel */
    {1, 7, 9, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},      /* one channel */
    {2, 6, 17, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1},     /* one more than a vector */
    {2, 3, 67, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1},     /* many columns */
    {5, 11, 13, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1},    /* primes */
    {3, 9, 10, 37, 3, 3, 1, 1, 0, 0, 1, 1, 1},    /* more channels than any vector */
    {3, 5, 6, 4, 3, 3, 1, 1, 3, 3, 1, 1, 1},      /* pad beyond the kernel */
    {3, 9, 11, 4, 3, 3, 1, 1, 3, 1, 3, 2, 1},     /* dilation */
    {6, 7, 7, 10, 3, 3, 1, 1, 1, 1, 1, 1, 2},     /* groups */
    {3, 11, 10, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1},    /* stride */
    {4, 13, 11, 6, 3, 3, 3, 4, 2, 2, 2, 2, 2},    /* stride, dilation, groups */
    {4, 8, 8, 6, 1, 1, 1, 1, 0, 0, 1, 1, 2},      /* 1x1, whole vectors */
    {5, 7, 9, 7, 1, 1, 1, 1, 0, 0, 1, 1, 1},      /* 1x1, a rest */
    {40, 1, 1, 26, 1, 1, 1, 1, 0, 0, 1, 1, 1},    /* fully connected */
    {300, 1, 1, 67, 1, 1, 1, 1, 0, 0, 1, 1, 1},   /* fully connected, long sums */
    {3, 8, 9, 5, 5, 5, 1, 1, 2, 2, 1, 1, 1},      /* 5x5 */
};

as_shape layer_shape(int index)
{
    const int64_t *n = sizes[index];
    as_shape s = {.channels = n[0], .height = n[1], .width = n[2], .out_channels = n[3],
                  .kernel_h = n[4], .kernel_w = n[5], .stride_h = n[6], .stride_w = n[7],
                  .pad_h = n[8], .pad_w = n[9], .dilation_h = n[10], .dilation_w = n[11],
                  .groups = n[12]};
    s.out_height =
        (s.height + 2 * s.pad_h - s.dilation_h * (s.kernel_h - 1) - 1) / s.stride_h + 1;
    s.out_width = (s.width + 2 * s.pad_w - s.dilation_w * (s.kernel_w - 1) - 1) / s.stride_w + 1;
    return s;
}

int64_t layer_x_size(const as_shape *s)
{
    return s->channels * s->height * s->width;
}

int64_t layer_out_size(const as_shape *s)
{
    return s->out_channels * s->out_height * s->out_width;
}

static int64_t depth_of(const as_shape *s)
{
    return group_in(s) * s->kernel_h * s->kernel_w;
}

layer_spec layer_random(const as_isa *isa, as_shape shape, int threads, int per_image)
{
    const int64_t count = shape.out_channels * depth_of(&shape);
    float *weights = check_floats(count, 0);
    for (int64_t i = 0; i < count; ++i)
        if (check_below(2))
            weights[i] = 0.0f;
    return (layer_spec){.isa = isa, .shape = shape, .weights = weights,
                        .bias = check_floats(shape.out_channels, 0), .relu = (int)check_below(2),
                        .threads = threads, .per_image = per_image};
}

/* ---- packing ---- */

as_team layer_team(layer *made, int64_t units, int may_take)
{
    const layer_spec *spec = &made->spec;
    const int dynamic = may_take && check_below(2);
    const int parts = dynamic ? (int)check_from(1, units + 2) : spec->per_image;
    int64_t *part_ptr = check_zeros((parts + 1) * (int64_t)sizeof(int64_t), 0);
    for (int i = 0; i <= parts; ++i) part_ptr[i] = units * i / parts;
    const int status =
        as_team_init(&made->team, spec->threads, spec->per_image, parts, dynamic, 0, part_ptr);
    check_that(status == AS_OK, "team");
    return made->team;
}

int64_t layer_most_units(const layer *made)
{
    const as_team *team = &made->team;
    int64_t most = 0;
    for (int i = 0; i < team->parts; ++i)
        most = larger(most, team->part_ptr[i + 1] - team->part_ptr[i]);
    return most;
}

int layer_is_pointwise(const layer_spec *spec)
{
    const as_shape *s = &spec->shape;
    return s->kernel_h * s->kernel_w == 1 && s->stride_h * s->stride_w == 1 &&
           s->pad_h + s->pad_w == 0;
}

int layer_is_connected(const as_shape *s)
{
    return s->height == 1 && s->width == 1 && s->kernel_h == 1 && s->kernel_w == 1 &&
           s->pad_h == 0 && s->pad_w == 0;
}

float *const *layer_buffers(int64_t count, int64_t floats, int aligned)
{
    float **items = check_zeros(count * (int64_t)sizeof(float *), 0);
    for (int64_t i = 0; i < count; ++i)
        items[i] = check_zeros(floats * (int64_t)sizeof(float), aligned);
    return items;
}

void layer_pack(const layer *made, int64_t lists, int64_t ahead, layer_place_fn place,
                const int64_t **ptr, const int32_t **off, const float **val)
{
    const as_shape *s = &made->spec.shape;
    const int64_t taps = s->kernel_h * s->kernel_w, depth = depth_of(s);
    const int64_t count = s->out_channels * depth;
    int64_t *begin = check_zeros((lists + 1) * (int64_t)sizeof(int64_t), 0);
    for (int pass = 0; pass < 2; ++pass) { /* counts, then fills; begin runs ahead meanwhile */
        for (int64_t i = 0; i < count; ++i) {
            if (made->spec.weights[i] == 0.0f)
                continue;
            const layer_place p = place(made, i / depth, i % depth / taps,
                                        i % taps / s->kernel_w, i % s->kernel_w);
            if (pass == 0) {
                ++begin[p.list + 1];
            } else {
                ((int32_t *)*off)[begin[p.list]] = (int32_t)p.off;
                ((float *)*val)[begin[p.list]++] = made->spec.weights[i];
            }
        }
        for (int64_t l = 0; l < lists && pass == 0; ++l) begin[l + 1] += begin[l];
        for (int64_t l = lists; l > 0 && pass == 1; --l) begin[l] = begin[l - 1];
        if (pass == 0) {
            *off = check_zeros((begin[lists] + ahead) * (int64_t)sizeof(int32_t), 0);
            *val = check_zeros((begin[lists] + ahead) * (int64_t)sizeof(float), 0);
        }
    }
    begin[0] = 0;
    *ptr = begin;
}

/* ---- the reference ---- */

/* Adds one output channel's products of one input plane. */
static void add_plane(const as_shape *s, const float *x, const float *weights, double *sum,
                      double *magnitude)
{
    for (int64_t p = 0; p < s->out_height; ++p)
        for (int64_t q = 0; q < s->out_width; ++q)
            for (int64_t i = 0; i < s->kernel_h * s->kernel_w; ++i) {
                const int64_t y = p * s->stride_h + i / s->kernel_w * s->dilation_h - s->pad_h;
                const int64_t z = q * s->stride_w + i % s->kernel_w * s->dilation_w - s->pad_w;
                if (y < 0 || y >= s->height || z < 0 || z >= s->width)
                    continue;
                const double product = (double)weights[i] * x[y * s->width + z];
                sum[p * s->out_width + q] += product;
                magnitude[p * s->out_width + q] += fabs(product);
            }
}

int layer_is_right(const layer *made, const float *x, const float *out, int64_t images)
{
    if (made->is_right != NULL)
        return made->is_right(made, x, out, images);
    const layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    const int64_t plane = s->out_height * s->out_width, taps = s->kernel_h * s->kernel_w;
    const int64_t in_group = group_in(s), out_in_group = group_out(s);
    double *sum = check_zeros(plane * (int64_t)sizeof(double), 1);
    double *magnitude = check_zeros(plane * (int64_t)sizeof(double), 1);
    int right = 1;
    for (int64_t n = 0; n < images; ++n)
        for (int64_t k = 0; k < s->out_channels; ++k, out += plane) {
            for (int64_t i = 0; i < plane; ++i)
                sum[i] = spec->bias[k], magnitude[i] = fabs(sum[i]);
            for (int64_t c = 0; c < in_group; ++c) {
                const int64_t channel = k / out_in_group * in_group + c;
                add_plane(s, x + (n * s->channels + channel) * s->height * s->width,
                          spec->weights + (k * in_group + c) * taps, sum, magnitude);
            }
            for (int64_t i = 0; i < plane; ++i)
                right &= check_is_near(out[i], spec->relu && sum[i] < 0.0 ? 0.0 : sum[i],
                                       magnitude[i], depth_of(s));
        }
    return right;
}

/* ---- running ---- */

const layer_method *layer_methods(int list)
{
    const layer_method *lists[LAYER_METHOD_LISTS] = {
        sparse_methods, lanes_methods, shifts_methods, dense_methods, fc_methods, winograd_methods};
    return lists[list];
}

layer *layer_make(const layer_method *method, const layer_spec *spec)
{
    layer *made = check_zeros(sizeof *made, 1);
    made->spec = *spec;
    method->make(made);
    return made;
}

void layer_free(layer *made)
{
    as_team_free(&made->team);
}

static void check_one(const layer_method *method, const layer_spec *spec, int index)
{
    enum { MANY = 70 }; /* more images than four vectors hold */
    const int64_t batches[] = {2, 1, layer_is_connected(&spec->shape) ? MANY : 5};
    layer *made = layer_make(method, spec);
    for (int i = 0; i < 3; ++i) { /* nothing of an earlier batch stays */
        const int64_t images = batches[i];
        const float *x = check_floats(images * layer_x_size(&spec->shape), i != 1);
        float *out = check_floats(images * layer_out_size(&spec->shape), i != 1);
        as_seconds seconds;
        check_case("%s %s, shape %d, batch %d, %d threads, %d an image", spec->isa->name,
                   method->name, index, (int)images, spec->threads, spec->per_image);
        const int status = made->run(made, x, out, images, &seconds);
        check_that(status == AS_OK, "status");
        check_that(layer_is_right(made, x, out, images), "sums");
    }
    layer_free(made);
    check_release();
}

void check_layers(const as_isa *isa)
{
    static const int teams[][2] = {{1, 1}, {2, 1}, {3, 3}};
    for (int list = 0; list < LAYER_METHOD_LISTS; ++list)
        for (const layer_method *m = layer_methods(list); m->name != NULL; ++m)
            for (int shape = 0; shape < LAYER_SHAPES; ++shape)
                for (int team = 0; team < 3; ++team) {
                    const layer_spec spec =
                        layer_random(isa, layer_shape(shape), teams[team][0], teams[team][1]);
                    if (m->fits == NULL || m->fits(&spec))
                        check_one(m, &spec, shape);
                    else
                        check_release();
                }
}
