/* Layers of the row schedule and of lowering, packed as archsim_native.h says. */
#include "layers.h"

/* ---- row ---- */

static layer_place row_place(const layer *made, int64_t k, int64_t c, int64_t r, int64_t s)
{
    const as_direct_row *d = &made->of.row;
    const as_shape *shape = &d->shape;
    const int64_t blocks = div_up(group_out(shape), d->oc_block), in_group = k % group_out(shape);
    const int64_t block = k / group_out(shape) * blocks + in_group / d->oc_block;
    const int64_t column_block = c / div_up(group_in(shape), d->column_blocks);
    const int64_t row = c * (shape->height + shape->pad_h) + r * shape->dilation_h;
    return (layer_place){(block * d->column_blocks + column_block) * d->oc_block +
                             in_group % d->oc_block,
                         row * d->row_pitch + s * shape->dilation_w};
}

static int run_row(layer *made, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    return as_direct_row_run(&made->of.row, x, out, images, seconds);
}

static void make_row(layer *made, int vectorised, int to_output)
{
    const layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    const int64_t lanes = spec->isa->lanes, most = spec->isa->registers - 2;
    as_direct_row *d = &made->of.row;
    *d = (as_direct_row){.shape = *s, .isa = spec->isa, .vectorised = vectorised,
                         .spill_to_output = to_output, .prefetch = (int)check_below(2),
                         .relu = spec->relu, .bias = spec->bias,
                         .oc_block = check_from(1, group_out(s)),
                         .column_blocks = check_from(1, group_in(s)),
                         .row_pitch = s->width + s->pad_w + check_below(3),
                         .reg_vectors = check_from(1, smaller(3, div_up(s->out_width, lanes)))};
    d->reg_rows = check_from(1, most / d->reg_vectors);
    const int64_t blocks = s->groups * div_up(group_out(s), d->oc_block);
    d->team = layer_team(made, blocks, 1);
    layer_pack(made, blocks * d->column_blocks * d->oc_block, AS_ROW_AHEAD, row_place, &d->ptr,
               &d->off, &d->val);
    const int64_t rows = s->channels * (s->height + s->pad_h) + s->pad_h;
    d->padded = layer_buffers(buffers_of_input(&d->team),
                              rows * d->row_pitch + s->pad_w + lanes - 1, 0);
    d->scratch = layer_buffers(spec->threads,
                               d->oc_block * s->out_height * div_up(s->out_width, 16) * 16, 1);
    made->run = run_row;
}

static void make_row_scratch(layer *made)
{
    make_row(made, 1, 0);
}

static void make_row_output(layer *made)
{
    make_row(made, 1, 1);
}

static void make_row_pixels(layer *made)
{
    make_row(made, 0, 0);
}

static int has_no_stride(const layer_spec *spec)
{
    return spec->shape.stride_h == 1 && spec->shape.stride_w == 1;
}

/* ---- lowered ---- */

static int64_t panel_pitch(const as_lowered *d)
{
    return d->pixel_vectors * d->isa->lanes;
}

static layer_place lowered_place(const layer *made, int64_t k, int64_t c, int64_t r, int64_t s)
{
    const as_shape *shape = &made->spec.shape;
    const int64_t row = (c * shape->kernel_h + r) * shape->kernel_w + s;
    return (layer_place){k, row * panel_pitch(&made->of.lowered)};
}

/* Kernels (k, c) that have a nonzero, all of their weights, by block of input channels. */
static void pack_kernels(const layer *made, as_lowered *d)
{
    const as_shape *s = &made->spec.shape;
    const int64_t taps = s->kernel_h * s->kernel_w, inputs = group_in(s);
    const int64_t most = s->out_channels * inputs + AS_LOWERED_AHEAD;
    const int64_t lists = div_up(inputs, d->channel_block) * s->out_channels;
    int64_t *ptr = check_zeros((lists + 1) * (int64_t)sizeof(int64_t), 0), n = 0;
    int32_t *all_off = check_zeros(most * (int64_t)sizeof(int32_t), 0);
    float *all_val = check_floats(most * taps, 0);
    for (int64_t l = 0; l < lists; ++l) {
        const int64_t first = l / s->out_channels * d->channel_block, k = l % s->out_channels;
        for (int64_t c = first; c < smaller(inputs, first + d->channel_block); ++c) {
            const float *from = made->spec.weights + (k * inputs + c) * taps;
            int any = 0;
            for (int64_t i = 0; i < taps; ++i) {
                all_val[n * taps + i] = from[i];
                any |= from[i] != 0.0f;
            }
            all_off[n] = (int32_t)((c - first) * taps * panel_pitch(d));
            n += any;
        }
        ptr[l + 1] = n;
    }
    /* exactly as large as they may be read */
    int32_t *off = check_zeros((n + AS_LOWERED_AHEAD) * (int64_t)sizeof(int32_t), 0);
    float *val = check_floats(n * taps, 0);
    for (int64_t j = 0; j < n; ++j) off[j] = all_off[j];
    for (int64_t j = 0; j < n * taps; ++j) val[j] = all_val[j];
    d->taps = taps, d->ptr = ptr, d->off = off, d->val = val;
}

static int run_lowered(layer *made, const float *x, float *out, int64_t images,
                       as_seconds *seconds)
{
    return as_lowered_run(&made->of.lowered, x, out, images, seconds);
}

static void find_places(as_lowered *d)
{
    const as_shape *s = &d->shape;
    const int64_t vectors = div_up(s->out_height * s->out_width, d->isa->lanes);
    const int64_t taps = s->kernel_h * s->kernel_w;
    int32_t *place = check_zeros(vectors * d->isa->lanes * (int64_t)sizeof(int32_t), 0);
    int32_t *tap = check_zeros(taps * (int64_t)sizeof(int32_t), 0);
    uint16_t *inside = check_zeros(taps * vectors * (int64_t)sizeof(uint16_t), 0);
    as_lowered_places(s, d->isa->lanes, place, tap, inside);
    d->place = place, d->tap = tap, d->inside = inside;
}

static void make_entries(layer *made, int kernels)
{
    const layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    as_lowered *d = &made->of.lowered;
    *d = (as_lowered){.shape = *s, .isa = spec->isa, .relu = spec->relu, .bias = spec->bias,
                      .team = layer_team(made, s->out_channels, 1),
                      .pixel_vectors = check_from(1, spec->isa->registers - 2), .taps = 1};
    made->run = run_lowered;
    find_places(d);
    if (kernels) {
        d->channel_block = check_from(1, group_in(s));
        pack_kernels(made, d);
        d->lowered = layer_buffers(spec->threads, d->channel_block * d->taps * panel_pitch(d), 1);
        d->sums = layer_buffers(spec->threads, s->out_channels * panel_pitch(d), 1);
        return;
    }
    layer_pack(made, s->out_channels, AS_LOWERED_AHEAD, lowered_place, &d->ptr, &d->off, &d->val);
    /* one panel, or two sets of those of all groups */
    const int64_t channels = spec->per_image > 1 ? 2 * s->channels : group_in(s);
    d->lowered = layer_buffers(buffers_of_input(&d->team),
                               channels * s->kernel_h * s->kernel_w * panel_pitch(d), 1);
}

static void make_lowered(layer *made)
{
    make_entries(made, 0);
}

static void make_lowered_kernels(layer *made)
{
    make_entries(made, 1);
}

const layer_method sparse_methods[] = {{"row, spilled to scratch", has_no_stride, make_row_scratch},
                                       {"row, spilled to the output", has_no_stride,
                                        make_row_output},
                                       {"row, pixel by pixel", NULL, make_row_pixels},
                                       {"lowered", NULL, make_lowered},
                                       {"lowered kernels", NULL, make_lowered_kernels},
                                       {NULL, NULL, NULL}};
