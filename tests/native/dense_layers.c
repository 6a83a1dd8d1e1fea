/* Layers of the dense methods, packed as archsim_native.h and products.h say. */
#include "layers.h"

/* ---- BLAS ---- */

/* c = op(a) . b + beta c, column by column, as Fortran's sgemm with alpha 1 and b as it is. */
static void plain_sgemm(char *trans_a, char *trans_b, int *m, int *n, int *k, float *alpha,
                        float *a, int *lda, float *b, int *ldb, float *beta, float *c, int *ldc)
{
    (void)trans_b, (void)alpha;
    for (int64_t j = 0; j < *n; ++j)
        for (int64_t i = 0; i < *m; ++i) {
            float *to = &c[i + j * *ldc], sum = *beta == 0.0f ? 0.0f : *to;
            for (int64_t l = 0; l < *k; ++l)
                sum += (*trans_a == 'N' ? a[i + l * *lda] : a[l + i * *lda]) * b[l + j * *ldb];
            *to = sum;
        }
}

static int run_blas(layer *made, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    return as_dense_run(&made->of.dense, x, out, images, seconds);
}

static void make_blas(layer *made)
{
    const layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    const int64_t rows = s->channels * s->kernel_h * s->kernel_w;
    const int in_place = s->kernel_h * s->kernel_w == 1 && s->stride_h * s->stride_w == 1 &&
                         s->pad_h + s->pad_w == 0;
    as_dense *d = &made->of.dense;
    *d = (as_dense){.shape = *s, .sgemm = plain_sgemm, .fully_connected = layer_is_connected(s),
                    .pitch = div_up(s->out_height * s->out_width, 16) * 16, .relu = spec->relu,
                    .weights = spec->weights, .bias = spec->bias,
                    .team = layer_team(made, s->out_channels, 0)};
    if (!in_place)
        d->lowered = layer_buffers(buffers_of_input(&d->team), rows * d->pitch, 1);
    made->run = run_blas;
}

/* A fully connected layer needs one group of all threads. */
static int suits_blas(const layer_spec *spec)
{
    return !layer_is_connected(&spec->shape) || spec->threads == spec->per_image;
}

/* ---- structured ---- */

static int run_structured(layer *made, const float *x, float *out, int64_t images,
                          as_seconds *seconds)
{
    return as_structured_run(&made->of.structured, x, out, images, seconds);
}

/* Takes whole output channels and rows of the lowered matrix out of the weights; half of the time
 * no channel, no bias and no relu. */
static void leave_out(layer *made)
{
    layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    const int64_t rows = group_in(s) * s->kernel_h * s->kernel_w;
    const int plain = (int)check_below(2);
    float *weights = (float *)spec->weights, *bias = (float *)spec->bias;
    for (int64_t i = 0; i < s->out_channels * rows; ++i) /* else some would be 0 by chance */
        weights[i] = check_value();
    for (int64_t i = 0; i < s->groups * rows; ++i)
        for (int64_t k = 0, gone = check_below(3) == 0; gone && k < group_out(s); ++k)
            weights[(i / rows * group_out(s) + k) * rows + i % rows] = 0.0f;
    for (int64_t k = 0; k < s->out_channels; ++k) {
        if (plain)
            bias[k] = 0.0f;
        for (int64_t i = 0, gone = !plain && check_below(3) == 0; gone && i < rows; ++i)
            weights[k * rows + i] = 0.0f;
    }
    if (plain)
        spec->relu = 0;
    made->of.structured.relu = spec->relu;
    made->of.structured.bias = plain ? NULL : bias;
}

/* What has a weight that is not 0. */
static int has_weight(const float *weights, int64_t count, int64_t step)
{
    for (int64_t i = 0; i < count; ++i)
        if (weights[i * step] != 0.0f)
            return 1;
    return 0;
}

static void pack_structured(layer *made)
{
    as_structured *d = &made->of.structured;
    const as_shape *s = &d->shape;
    const float *weights = made->spec.weights;
    const int64_t rows = group_in(s) * s->kernel_h * s->kernel_w;
    int64_t *row = check_zeros(s->groups * rows * (int64_t)sizeof *row, 0);
    int64_t *row_ptr = check_zeros((s->groups + 1) * (int64_t)sizeof *row_ptr, 0);
    int64_t *kept_ptr = check_zeros((s->out_channels + 1) * (int64_t)sizeof *kept_ptr, 0);
    int64_t *weight_ptr = check_zeros((s->groups + 1) * (int64_t)sizeof *weight_ptr, 0);
    float *packed = check_zeros(s->out_channels * rows * (int64_t)sizeof(float), 0);
    int64_t n = 0;
    for (int64_t g = 0; g < s->groups; ++g) {
        const float *of_group = weights + g * group_out(s) * rows;
        row_ptr[g + 1] = row_ptr[g], weight_ptr[g] = n;
        for (int64_t i = 0; i < rows; ++i)
            if (has_weight(of_group + i, group_out(s), rows))
                row[row_ptr[g + 1]++] = g * rows + i;
        for (int64_t k = g * group_out(s); k < (g + 1) * group_out(s); ++k) {
            const int kept = has_weight(weights + k * rows, rows, 1);
            kept_ptr[k + 1] = kept_ptr[k] + kept;
            for (int64_t i = row_ptr[g]; kept && i < row_ptr[g + 1]; ++i)
                packed[n++] = weights[k * rows + row[i] % rows];
        }
    }
    d->row = row, d->row_ptr = row_ptr, d->kept_ptr = kept_ptr;
    d->weight_ptr = weight_ptr, d->weights = packed;
}

static void make_structured(layer *made)
{
    const as_shape *s = &made->spec.shape;
    as_structured *d = &made->of.structured;
    *d = (as_structured){.shape = *s, .sgemm = plain_sgemm,
                         .pitch = div_up(s->out_height * s->out_width, 16) * 16,
                         .team = layer_team(made, s->out_channels, 0)};
    leave_out(made);
    pack_structured(made);
    d->lowered = layer_buffers(groups_of_threads(&made->spec), d->row_ptr[s->groups] * d->pitch,
                               1);
    made->run = run_structured;
}

/* ---- direct ---- */

static int run_direct(layer *made, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    return as_dense_direct_run(&made->of.direct, x, out, images, seconds);
}

/* [unit][channel of the group][tap][output channel of the unit]; a unit of lanes is filled up. */
static void pack_direct(layer *made, int64_t unit, int fill)
{
    const as_shape *s = &made->spec.shape;
    const int64_t taps = s->kernel_h * s->kernel_w, in_group = group_in(s), out = group_out(s);
    const int64_t filled = fill ? div_up(out, unit) * unit : out;
    float *weights = check_zeros(
        s->groups * filled * in_group * taps * (int64_t)sizeof(float), fill);
    float *bias = check_zeros(s->groups * filled * (int64_t)sizeof(float), fill);
    made->of.direct.weights = weights, made->of.direct.bias = bias;
    for (int64_t g = 0; g < s->groups; ++g) {
        for (int64_t k = 0; k < out; ++k) bias[g * filled + k] = made->spec.bias[g * out + k];
        for (int64_t first = 0; first < out; first += unit) {
            const int64_t in_unit = fill ? unit : smaller(unit, out - first);
            for (int64_t i = 0; i < in_group * taps; ++i)
                for (int64_t k = 0; k < in_unit; ++k, ++weights)
                    if (first + k < out)
                        *weights = made->spec.weights[(g * out + first + k) * in_group * taps + i];
        }
    }
}

static void choose_band(as_dense_direct *d)
{
    d->band_rows = check_from(1, d->rows);
    d->band_columns = d->band_rows > 1 ? d->columns : check_from(1, d->columns);
}

/* A panel has room for whole register blocks; an array of NULL is none. */
static void choose_panel(layer *made)
{
    as_dense_direct *d = &made->of.direct;
    const as_shape *s = &d->shape;
    if (!d->pixel_lanes || d->rows > 1 || s->kernel_h * s->kernel_w > 1 || check_below(4) == 0)
        return;
    const int64_t tile = d->reg_vectors * d->isa->lanes;
    const int64_t columns = smaller(d->band_columns, d->columns);
    d->panel = layer_buffers(made->spec.threads, div_up(columns, tile) * tile * group_in(s), 1);
}

static void choose_source(layer *made, int from_image)
{
    const as_shape *s = &made->spec.shape;
    as_dense_direct *d = &made->of.direct;
    const int64_t rows = s->height + 2 * s->pad_h;
    d->phase_pitch = div_up(s->width + 2 * s->pad_w, s->stride_w);
    d->row_pitch = from_image ? s->width : d->phase_pitch * s->stride_w + check_below(3);
    d->channel_pitch = rows * d->row_pitch + (from_image ? 0 : check_below(3));
    if (!from_image)
        d->padded =
            layer_buffers(buffers_of_input(&d->team), s->channels * d->channel_pitch, 0);
    d->row_step = s->stride_h * d->row_pitch;
    int32_t *tap = check_zeros(s->kernel_h * s->kernel_w * (int64_t)sizeof(int32_t), 0);
    for (int64_t i = 0; i < s->kernel_h * s->kernel_w; ++i) {
        const int64_t x = i % s->kernel_w * s->dilation_w;
        tap[i] = (int32_t)(i / s->kernel_w * s->dilation_h * d->row_pitch +
                           x % s->stride_w * d->phase_pitch + x / s->stride_w);
    }
    d->tap = tap;
}

static void make_direct(layer *made, int pixel_lanes, int from_image)
{
    const layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    const int64_t vectors =
        check_from(1, pixel_lanes ? AS_DENSE_PIXEL_VECTORS : AS_DENSE_VECTORS);
    const int64_t most = AS_DENSE_MOST_OF(spec->isa->registers, vectors < 2 ? 2 : vectors);
    as_dense_direct *d = &made->of.direct;
    *d = (as_dense_direct){.shape = *s, .isa = spec->isa, .pixel_lanes = pixel_lanes,
                           .relu = spec->relu, .reg_vectors = vectors,
                           .reg_rows = pixel_lanes ? 1 : check_from(1, most),
                           .channel_block = check_from(1, group_in(s)),
                           .rows = s->out_height, .columns = s->out_width};
    d->reg_count = check_from(1, most / d->reg_rows);
    const int64_t unit = pixel_lanes ? d->reg_count : spec->isa->lanes;
    d->team = layer_team(made, s->groups * div_up(group_out(s), unit), 0);
    choose_source(made, from_image);
    if (d->row_step == d->columns && s->kernel_w == 1 && check_below(2)) {
        d->columns *= d->rows; /* all pixels as one row */
        d->rows = 1;
    }
    choose_band(d);
    if (from_image)
        choose_panel(made);
    pack_direct(made, unit, !pixel_lanes);
    const int64_t band = d->band_rows * d->band_columns * d->reg_vectors * spec->isa->lanes;
    d->sums = layer_buffers(spec->threads, pixel_lanes ? 1 : band, 1);
    made->run = run_direct;
}

static void make_channels(layer *made)
{
    make_direct(made, 0, 0);
}

static void make_pixels(layer *made)
{
    make_direct(made, 1, 0);
}

static void make_channels_of_image(layer *made)
{
    make_direct(made, 0, 1);
}

static void make_pixels_of_image(layer *made)
{
    make_direct(made, 1, 1);
}

static int needs_no_copy(const layer_spec *spec)
{
    return spec->shape.pad_h + spec->shape.pad_w == 0 && spec->shape.stride_w == 1;
}

const layer_method dense_methods[] = {
    {"BLAS", suits_blas, make_blas},
    {"structured", NULL, make_structured},
    {"dense, channels in lanes", NULL, make_channels},
    {"dense, pixels in lanes", NULL, make_pixels},
    {"dense, channels in lanes, no copy", needs_no_copy, make_channels_of_image},
    {"dense, pixels in lanes, no copy", needs_no_copy, make_pixels_of_image},
    {NULL, NULL, NULL}};
