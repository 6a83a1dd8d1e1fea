/* Direct sparse convolution, row schedule: the loops around the register blocks. */
#include "team.h"

static int64_t channel_pitch(const as_direct_row *d)
{
    return (d->shape.height + d->shape.pad_h) * d->row_pitch;
}

static void copy_padded(void *layer, const as_turn *turn)
{
    const as_direct_row *d = layer;
    const as_shape *s = &d->shape;
    const int64_t plane = s->height * s->width;
    const float *image = turn->x + turn->image * s->channels * plane;
    float *interior = d->padded[turn->buffer] + s->pad_h * d->row_pitch + s->pad_w;
    int64_t first, last;
    as_share(turn, s->channels, s->groups, &first, &last);
    for (int64_t c = first; c < last; ++c)
        (*d->isa->copy)(image + c * plane, s->width, s->height, s->width,
                        interior + c * channel_pitch(d), d->row_pitch);
}

/* Neighbouring output channels in one column block: where their input, their partial sums and their
 * output are. */
typedef struct {
    const float *in;
    float *out, *spill; /* of the first channel */
    int64_t out_step, spill_pitch, spill_step;
    int64_t list, lists;
    const float *bias;
    int first, last; /* column block */
} channel_part;

/* Where the block of registers after this one begins to read: the next columns, the next rows, or
 * the next list. */
static const float *next_input(const as_direct_row *d, const channel_part *part, int64_t h,
                               int64_t w)
{
    const int64_t right = w + d->reg_vectors * d->isa->lanes, below = h + d->reg_rows;
    const int32_t *begin = d->off + d->ptr[part->list];
    if (right < d->shape.out_width)
        return part->in + begin[0] + h * d->row_pitch + right;
    if (below < d->shape.out_height)
        return part->in + begin[0] + below * d->row_pitch;
    return part->in + d->off[d->ptr[part->list + part->lists]];
}

static void run_channels(const as_direct_row *d, const channel_part *part)
{
    const int64_t rows = d->shape.out_height, columns = d->shape.out_width, lanes = d->isa->lanes;
    as_row_tile tile = {.in_pitch = d->row_pitch,
                        .ptr = d->ptr + part->list,
                        .lists = part->lists,
                        .off = d->off,
                        .val = d->val,
                        .from_pitch = part->spill_pitch,
                        .from_step = part->spill_step,
                        .start = part->bias,
                        .relu = part->last && d->relu,
                        .to_pitch = part->last ? columns : part->spill_pitch,
                        .to_step = part->last ? part->out_step : part->spill_step};

    for (int64_t h = 0; h < rows; h += d->reg_rows) {
        const int64_t tile_rows = as_min(d->reg_rows, rows - h);
        for (int64_t w = 0; w < columns; w += d->reg_vectors * lanes) {
            const int64_t tile_columns = as_min(d->reg_vectors * lanes, columns - w);
            const int64_t vectors = as_div_up(tile_columns, lanes);
            float *spill = part->spill + h * part->spill_pitch + w;
            tile.in = part->in + h * d->row_pitch + w;
            tile.from = part->first ? NULL : spill;
            tile.to = part->last ? part->out + h * columns + w : spill;
            tile.last_lanes = (int)(tile_columns - (vectors - 1) * lanes);
            tile.next = d->prefetch ? next_input(d, part, h, w) : NULL;
            d->isa->direct_row->tile[tile_rows][vectors](&tile);
        }
    }
}

/* Output channels of a block: its first, how many, and its group. */
static int64_t channels_of(const as_direct_row *d, int64_t block, int64_t *first, int64_t *group)
{
    const int64_t in_group = d->shape.out_channels / d->shape.groups;
    const int64_t blocks_in_group = as_div_up(in_group, d->oc_block);
    const int64_t begin = block % blocks_in_group * d->oc_block;
    *group = block / blocks_in_group;
    *first = *group * in_group + begin;
    return as_min(d->oc_block, in_group - begin);
}

static const float *group_input(const as_direct_row *d, const as_turn *turn, int64_t group)
{
    return d->padded[turn->buffer] +
           group * (d->shape.channels / d->shape.groups) * channel_pitch(d);
}

/* Output-channel block -> column block -> output channel -> register block. If a channel is one
 * register block, one call makes them all. */
static void products(void *layer, const as_turn *turn)
{
    const as_direct_row *d = layer;
    const int64_t rows = d->shape.out_height, columns = d->shape.out_width;
    const int64_t plane = rows * columns;
    const int one_tile = rows <= d->reg_rows && columns <= d->reg_vectors * d->isa->lanes;
    /* Scratch rows are whole vectors of every set, so that spilled vectors are aligned. */
    const int64_t pitch = d->spill_to_output ? columns : as_div_up(columns, 16) * 16;
    for (int64_t block = turn->first_unit; block < turn->last_unit; ++block) {
        int64_t first, group;
        const int64_t channels = channels_of(d, block, &first, &group);
        const int64_t together = one_tile ? channels : 1;
        for (int64_t b = 0; b < d->column_blocks; ++b) {
            for (int64_t i = 0; i < channels; i += together) {
                channel_part part = {
                    .in = group_input(d, turn, group),
                    .out = turn->out + (turn->image * d->shape.out_channels + first + i) * plane,
                    .out_step = plane,
                    .spill_pitch = pitch,
                    .spill_step = rows * pitch,
                    .list = (block * d->column_blocks + b) * d->oc_block + i,
                    .lists = together,
                    .bias = d->bias + first + i,
                    .first = b == 0,
                    .last = b == d->column_blocks - 1};
                part.spill = d->spill_to_output ? part.out
                                                : d->scratch[turn->thread] + i * part.spill_step;
                run_channels(d, &part);
            }
        }
    }
}

/* Pixel -> output channel -> nonzero. */
static void products_by_pixel(void *layer, const as_turn *turn)
{
    const as_direct_row *d = layer;
    const as_shape *s = &d->shape;
    const int64_t plane = s->out_height * s->out_width;
    float *out = turn->out + turn->image * s->out_channels * plane;
    as_row_pixel pixel = {.parts = d->column_blocks,
                          .part_step = d->oc_block,
                          .off = d->off,
                          .val = d->val,
                          .relu = d->relu,
                          .out_step = plane};
    for (int64_t i = 0; i < plane; ++i) {
        const int64_t p = i / s->out_width, q = i % s->out_width;
        const int64_t corner = p * s->stride_h * d->row_pitch + q * s->stride_w;
        for (int64_t block = turn->first_unit; block < turn->last_unit; ++block) {
            int64_t first, group;
            pixel.channels = channels_of(d, block, &first, &group);
            pixel.in = group_input(d, turn, group) + corner;
            pixel.ptr = d->ptr + block * d->column_blocks * d->oc_block;
            pixel.bias = d->bias + first;
            pixel.out = out + first * plane + i;
            d->isa->direct_row->pixel(&pixel);
        }
    }
}

int as_direct_row_run(as_direct_row *layer, const float *x, float *out, int64_t images,
                      as_seconds *seconds)
{
    const as_method method = {.input = copy_padded,
                              .products = layer->vectorised ? products : products_by_pixel};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
