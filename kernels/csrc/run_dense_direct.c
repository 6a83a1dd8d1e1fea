/* Direct dense convolution: the loops around the register blocks. Layouts: archsim_native.h. */
#include "team.h"

static void sort_row(const as_dense_direct *d, const float *from, float *row)
{
    const as_shape *s = &d->shape;
    const int64_t step = s->stride_w;
    /* The columns before the first one that is a multiple of the stride, one by one. */
    const int64_t single = as_min((step - s->pad_w % step) % step, s->width);
    for (int64_t x = 0; x < single; ++x)
        row[(s->pad_w + x) % step * d->phase_pitch + (s->pad_w + x) / step] = from[x];
    d->isa->dense_direct->sort(from + single, s->width - single, step,
                               row + (s->pad_w + single) / step, d->phase_pitch);
}

static void copy_padded(void *layer, const as_turn *turn)
{
    const as_dense_direct *d = layer;
    const as_shape *s = &d->shape;
    const int64_t plane = s->height * s->width;
    const float *image = turn->x + turn->image * s->channels * plane;
    float *inside = d->padded[turn->buffer] + s->pad_h * d->row_pitch;
    int64_t first, last;
    as_share(turn, s->channels, s->groups, &first, &last);
    for (int64_t c = first; c < last; ++c) {
        const float *from = image + c * plane;
        float *to = inside + c * d->channel_pitch;
        if (s->stride_w == 1) {
            (*d->isa->copy)(from, s->width, s->height, s->width, to + s->pad_w, d->row_pitch);
            continue;
        }
        for (int64_t y = 0; y < s->height; ++y)
            sort_row(d, from + y * s->width, to + y * d->row_pitch);
    }
}

/* Floats of a line that is asked for ahead. */
enum { LINE = 64 / sizeof(float) };

/* What a thread works on: a band of pixels, some neighbouring output channels of one group. */
typedef struct {
    int64_t first_row, last_row, first_column, last_column;
    int64_t next_columns; /* of the next band, if its panel can be asked for */
    int64_t runs;         /* earlier blocks of this band and group */
    float *panel;         /* NULL: none */
    const float *in;      /* the group's first channel */
    float *out;           /* the block's first output channel */
    const float *weights;
    const float *bias;
    int64_t channels; /* output channels that exist */
    int64_t width;    /* of the register block: vectors, or with pixels in lanes channels */
} block;

/* Limits a tile that begins in output row p to the kernel rows that meet the image at all; not where
 * one row has the pixels of all output rows. */
static void skip_padding(const as_dense_direct *d, as_dense_tile *t, int64_t p, int64_t rows,
                         const float *weights, int64_t lanes)
{
    const as_shape *s = &d->shape;
    if (s->pad_h == 0 || d->rows != s->out_height)
        return;
    const int64_t top = p * s->stride_h - s->pad_h, bottom = top + (rows - 1) * s->stride_h;
    int64_t first = 0, last = s->kernel_h;
    while (first < last && bottom + first * s->dilation_h < 0) ++first;
    while (last > first && top + (last - 1) * s->dilation_h >= s->height) --last;
    t->tap = d->tap + first * s->kernel_w;
    t->taps = (last - first) * s->kernel_w;
    t->weights = weights + first * s->kernel_w * lanes;
}

/* Where the next register block of pixels has what this one has not, in input channel c: a line of
 * each channel, which no hardware asks for early enough, for channels lie a plane apart. */
static uintptr_t next_pixels(const as_dense_direct *d, const block *b, int64_t c, int64_t q,
                             int64_t count)
{
    const float *in = b->in + c * d->channel_pitch;
    if (q + count < b->last_column)
        return (uintptr_t)(in + as_min(q + 2 * count, b->last_column) - 1);
    return (uintptr_t)(in + d->channel_block * d->channel_pitch + b->first_column);
}

/* The sums of a band, channels in lanes: input-channel block -> register block. */
static void sum_channels(const as_dense_direct *d, const block *b, float *sums)
{
    const int64_t lanes = d->isa->lanes, in_group = d->shape.channels / d->shape.groups;
    const int64_t row = (b->last_column - b->first_column) * b->width * lanes;
    as_dense_tile t = {.in_row_step = d->row_step,
                       .channel_step = d->channel_pitch,
                       .tap = d->tap,
                       .taps = d->shape.kernel_h * d->shape.kernel_w,
                       .start = b->bias,
                       .to_row_step = row};
    /* A picture as it came may be far, at the first output channels; a copy of it is near. */
    const int far = d->padded == NULL && t.taps == 1 && b->runs == 0;
    t.weight_channel = t.taps * lanes;
    t.weight_step = in_group * t.weight_channel;
    t.ahead_step = d->channel_pitch * (int64_t)sizeof(float);
    for (int64_t c = 0; c < in_group; c += d->channel_block) {
        const float *weights = t.weights = b->weights + c * t.weight_channel;
        t.channels = as_min(d->channel_block, in_group - c);
        t.relu = d->relu && c + t.channels == in_group;
        for (int64_t p = b->first_row; p < b->last_row; p += d->reg_rows) {
            const int64_t rows = as_min(d->reg_rows, b->last_row - p);
            skip_padding(d, &t, p, rows, weights, lanes);
            for (int64_t q = b->first_column; q < b->last_column; q += d->reg_count) {
                const int64_t count = as_min(d->reg_count, b->last_column - q);
                t.in = b->in + c * d->channel_pitch + p * d->row_step + q;
                t.to = sums + (p - b->first_row) * row + (q - b->first_column) * b->width * lanes;
                t.from = c ? t.to : NULL;
                t.ahead = far ? next_pixels(d, b, c, p * d->row_step + q, count) : 0;
                d->isa->dense_direct->channels[b->width][rows][count](&t);
            }
        }
    }
}

static void band_channels(const as_dense_direct *d, const block *b, float *sums)
{
    const int64_t lanes = d->isa->lanes, plane = d->rows * d->columns;
    const int64_t first = b->first_row * d->columns + b->first_column;
    const int64_t pixels =
        (b->last_row - b->first_row) * (b->last_column - b->first_column); /* neighbours */
    sum_channels(d, b, sums);
    for (int64_t v = 0; v < b->width; ++v)
        d->isa->dense_direct->planes(sums + v * lanes, b->width * lanes, pixels,
                                     as_min(lanes, b->channels - v * lanes),
                                     b->out + v * lanes * plane + first, plane);
}

/* Register block number `tile` of `tiles`: input in the panel, which the first output channels of
 * the group fill; the others ask for a line of each channel of the next one, until they have all. */
static void use_panel(const as_dense_direct *d, const block *b, as_dense_tile *t, int64_t c,
                      int64_t tile, int64_t tiles, int64_t vectors)
{
    const int64_t in_group = d->shape.channels / d->shape.groups, lanes = d->isa->lanes;
    float *panel = b->panel + (tile * d->reg_vectors * in_group + c * vectors) * lanes;
    if (b->runs == 0) {
        t->keep = panel;
        return;
    }
    const int64_t line = ((b->runs - 1) * tiles + tile) * LINE;
    if (line < b->next_columns)
        t->ahead = (uintptr_t)(b->in + c * d->channel_pitch + b->last_column + line);
    t->ahead_step = d->channel_pitch * (int64_t)sizeof(float);
    t->in = panel;
    t->channel_step = vectors * lanes;
}

/* Pixels in lanes: input-channel block -> row -> register block; sums wait in the output. */
static void band_pixels(const as_dense_direct *d, const block *b)
{
    const int64_t lanes = d->isa->lanes, in_group = d->shape.channels / d->shape.groups;
    const int64_t tiles = as_div_up(b->last_column - b->first_column, d->reg_vectors * lanes);
    as_dense_tile t = {.tap = d->tap,
                       .taps = d->shape.kernel_h * d->shape.kernel_w,
                       .start = b->bias,
                       .to_row_step = d->rows * d->columns};
    t.weight_channel = t.taps * b->width;
    for (int64_t c = 0; c < in_group; c += d->channel_block) {
        const float *weights = t.weights = b->weights + c * t.weight_channel;
        t.channels = as_min(d->channel_block, in_group - c);
        t.relu = d->relu && c + t.channels == in_group;
        int64_t tile = 0;
        for (int64_t p = b->first_row; p < b->last_row; ++p) {
            skip_padding(d, &t, p, 1, weights, b->width);
            for (int64_t q = b->first_column, count; q < b->last_column; q += count) {
                t.in = b->in + c * d->channel_pitch + p * d->row_step + q;
                t.channel_step = d->channel_pitch;
                t.to = b->out + p * d->columns + q;
                /* One long row: end the first block where vectors of the output are aligned. */
                const int64_t behind = d->rows == 1 && b->panel == NULL
                                           ? (int64_t)((uintptr_t)t.to / sizeof(float)) % lanes
                                           : 0;
                count = as_min(d->reg_vectors * lanes - behind, b->last_column - q);
                const int64_t vectors = as_div_up(count, lanes);
                t.ahead = 0, t.keep = NULL;
                if (b->panel != NULL)
                    use_panel(d, b, &t, c, tile++, tiles, vectors);
                t.from = c ? t.to : NULL;
                t.last_lanes = (int)(count - (vectors - 1) * lanes);
                d->isa->dense_direct->pixels[vectors][b->width](&t);
            }
        }
    }
}

/* This thread's units of output in one band, as many at once as a register block takes. */
static void run_band(const as_dense_direct *d, const as_turn *turn, block b)
{
    const as_shape *s = &d->shape;
    const int64_t in_group = s->channels / s->groups, out_in_group = s->out_channels / s->groups;
    const int64_t unit = d->pixel_lanes ? d->reg_count : d->isa->lanes;
    const int64_t units_in_group = as_div_up(out_in_group, unit);
    const int64_t depth = in_group * s->kernel_h * s->kernel_w;
    const float *image = d->padded ? d->padded[turn->buffer]
                                   : turn->x + turn->image * s->channels * d->channel_pitch;
    float *out = turn->out + turn->image * s->out_channels * d->rows * d->columns;

    b.panel = d->panel ? d->panel[turn->thread] : NULL;
    for (int64_t u = turn->first_unit; u < turn->last_unit;) {
        const int64_t group = u / units_in_group, begin = u % units_in_group * unit;
        const int64_t first = group * out_in_group + begin;
        const int64_t last = as_min(turn->last_unit, (group + 1) * units_in_group);
        const int64_t units = d->pixel_lanes ? 1 : as_min(d->reg_vectors, last - u);
        b.in = image + group * in_group * d->channel_pitch;
        b.out = out + first * d->rows * d->columns;
        b.channels = as_min(units * unit, out_in_group - begin);
        if (d->pixel_lanes) {
            b.width = b.channels;
            b.weights = d->weights + first * depth;
            b.bias = d->bias + first;
            band_pixels(d, &b);
        } else {
            b.width = units;
            b.weights = d->weights + u * unit * depth;
            b.bias = d->bias + u * unit;
            band_channels(d, &b, d->sums[turn->thread]);
        }
        u += units;
        b.runs = u < last ? b.runs + 1 : 0; /* another group has a panel of its own */
    }
}

/* Band of pixels -> output channels -> ... : a band's input stays near while all weights pass. */
static void products(void *layer, const as_turn *turn)
{
    const as_dense_direct *d = layer;
    for (int64_t p = 0; p < d->rows; p += d->band_rows)
        for (int64_t q = 0; q < d->columns; q += d->band_columns) {
            const int64_t end = as_min(q + d->band_columns, d->columns);
            const int64_t next = d->panel ? as_min(d->band_columns, d->columns - end) : 0;
            run_band(d, turn,
                     (block){.first_row = p,
                             .last_row = as_min(p + d->band_rows, d->rows),
                             .first_column = q,
                             .last_column = end,
                             .next_columns = next});
        }
}

int64_t as_roof_run(const as_isa *isa, int64_t steps, float *seen)
{
    return isa->dense_direct->roof(steps, seen);
}

int as_dense_direct_run(as_dense_direct *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds)
{
    const as_method method = {.input = layer->padded ? copy_padded : NULL, .products = products};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
