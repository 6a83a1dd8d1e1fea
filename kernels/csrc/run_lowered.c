/* Lowered sparse convolution by panels: a block of pixels is lowered, and at once multiplied. */
#include <stdint.h>

#include "isa_list.h"
#include "pool.h"
#include "team.h"

/* A block of output pixels. */
typedef struct {
    int64_t first, count;
    int vectors;
} pixel_block;

static pixel_block begin_block(const as_lowered *d, int64_t first)
{
    const int64_t pixels = d->shape.out_height * d->shape.out_width;
    const int64_t count = as_min(d->pixel_vectors * d->isa->lanes, pixels - first);
    return (pixel_block){first, count, (int)as_div_up(count, d->isa->lanes)};
}

/* Rows of the channels [first, last), counted from the panel's first channel. */
static void lower(const as_lowered *d, const pixel_block *block, const float *image, int64_t first,
                  int64_t last, float *panel)
{
    const as_shape *s = &d->shape;
    const int64_t plane = s->height * s->width, taps = s->kernel_h * s->kernel_w;
    const int64_t lanes = d->isa->lanes, pitch = d->pixel_vectors * lanes;
    const as_lowered_fill fill = {
        .in = image + first * plane,
        .in_step = plane,
        .channels = last - first,
        .place = d->place + block->first,
        .tap = d->tap,
        .inside = d->inside + block->first / lanes,
        .inside_step = as_div_up(s->out_height * s->out_width, lanes),
        .taps = taps,
        .neighbours = s->stride_h == 1 && s->stride_w == 1 && s->out_width == s->width,
        .vectors = block->vectors,
        .to = panel + first * taps * pitch,
        .to_step = pitch,
    };
    d->isa->lowered->fill(&fill);
}

void as_lowered_places(const as_shape *s, int64_t lanes, int32_t *place, int32_t *tap,
                       uint16_t *inside)
{
    const int64_t pixels = s->out_height * s->out_width, vectors = as_div_up(pixels, lanes);
    for (int64_t i = 0; i < vectors * lanes; ++i) {
        const int64_t y = i / s->out_width * s->stride_h - s->pad_h;
        const int64_t x = i % s->out_width * s->stride_w - s->pad_w;
        place[i] = i < pixels ? (int32_t)(y * s->width + x) : 0;
    }
    for (int64_t t = 0; t < s->kernel_h * s->kernel_w; ++t, inside += vectors) {
        const int64_t down = t / s->kernel_w * s->dilation_h - s->pad_h;
        const int64_t right = t % s->kernel_w * s->dilation_w - s->pad_w;
        tap[t] = (int32_t)((down + s->pad_h) * s->width + right + s->pad_w);
        for (int64_t v = 0; v < vectors; ++v) inside[v] = 0;
        for (int64_t i = 0; i < pixels; ++i) {
            const int64_t y = i / s->out_width * s->stride_h + down;
            const int64_t x = i % s->out_width * s->stride_w + right;
            const int there = 0 <= y && y < s->height && 0 <= x && x < s->width;
            inside[i / lanes] |= (uint16_t)(there << i % lanes);
        }
    }
}

/* Output channels [first, last) of one group. */
static void multiply(const as_lowered *d, const pixel_block *block, const float *panel,
                     int64_t first, int64_t last, float *out)
{
    const as_shape *s = &d->shape;
    const int64_t pixels = s->out_height * s->out_width;
    const as_lowered_tile_fn run = d->isa->lowered->tile[block->vectors];
    const int last_lanes = (int)(block->count - (block->vectors - 1) * d->isa->lanes);
    for (int64_t k = first; k < last; ++k) {
        const as_lowered_tile tile = {.in = panel,
                                      .off = d->off + d->ptr[k],
                                      .val = d->val + d->ptr[k],
                                      .n = d->ptr[k + 1] - d->ptr[k],
                                      .taps = 1,
                                      .start = d->bias[k],
                                      .relu = d->relu,
                                      .to = out + k * pixels + block->first,
                                      .last_lanes = last_lanes};
        run(&tile);
    }
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The thread has the image for itself: group by group, so that one panel stays near. */
static void alone(const as_lowered *d, const as_turn *turn, const float *image, float *out)
{
    const as_shape *s = &d->shape;
    const int64_t channels = s->channels / s->groups, out_channels = s->out_channels / s->groups;
    const int64_t pixels = s->out_height * s->out_width;
    float *panel = d->lowered[turn->group];
    for (int64_t group = 0; group < s->groups; ++group) {
        const float *in = image + group * channels * s->height * s->width;
        for (int64_t first = 0; first < pixels; first += d->pixel_vectors * d->isa->lanes) {
            const double start = as_now();
            const pixel_block block = begin_block(d, first);
            lower(d, &block, in, 0, channels, panel);
            *turn->input_seconds += as_since(start);
            multiply(d, &block, panel, group * out_channels, (group + 1) * out_channels, out);
        }
    }
}

/* Output channels [first, last) of all groups. */
static void multiply_part(const as_lowered *d, const pixel_block *block, const float *panels,
                          int64_t first, int64_t last, float *out)
{
    const as_shape *s = &d->shape;
    const int64_t rows = s->channels / s->groups * s->kernel_h * s->kernel_w;
    const int64_t group_size = rows * d->pixel_vectors * d->isa->lanes;
    const int64_t out_channels = s->out_channels / s->groups;
    for (int64_t group = 0; group < s->groups; ++group)
        multiply(d, block, panels + group * group_size, larger(first, group * out_channels),
                 as_min(last, (group + 1) * out_channels), out);
}

/* Ranks lower their shares of the channels, meet, and multiply their output channels, or the parts
 * that they take. Meanwhile the next block's panels go into the other set: whoever is ahead
 * overwrites nothing that a colleague reads, for all have left the block before last when they meet
 * in the last one. So with the two counters: while one counts, nobody looks at the other. */
static void together(const as_lowered *d, const as_turn *turn, const float *image, float *out)
{
    const as_shape *s = &d->shape;
    const as_team *team = turn->team;
    const int64_t pitch = d->pixel_vectors * d->isa->lanes;
    const int64_t size = s->channels * s->kernel_h * s->kernel_w * pitch;
    const int64_t pixels = s->out_height * s->out_width;
    const int meet = !team->own_input || team->dynamic;
    int64_t first_channel, last_channel;
    as_share(turn, s->channels, s->groups, &first_channel, &last_channel);
    int set = 0;
    for (int64_t first = 0; first < pixels; first += pitch, set ^= 1) {
        float *panels = d->lowered[turn->buffer] + set * size;
        const double start = as_now();
        const pixel_block block = begin_block(d, first);
        lower(d, &block, image, first_channel, last_channel, panels);
        const double lowered = as_now();
        *turn->input_seconds += lowered - start;
        if (meet) {
            as_barrier_wait(turn->barrier);
            *turn->waiting_seconds += as_now() - lowered;
        }
        if (!team->dynamic) {
            multiply_part(d, &block, panels, turn->first_unit, turn->last_unit, out);
            continue;
        }
        if (turn->rank == 0)
            as_deal_anew(&turn->next[set ^ 1]);
        int part;
        while ((part = as_take(&turn->next[set])) < team->parts)
            multiply_part(d, &block, panels, team->part_ptr[part], team->part_ptr[part + 1], out);
    }
    if (set == 1 && meet) { /* the next image begins with the set that a colleague may still read */
        const double start = as_now();
        as_barrier_wait(turn->barrier);
        *turn->waiting_seconds += as_now() - start;
        if (turn->rank == 0)
            as_deal_anew(&turn->next[0]);
    }
}

static void products(void *layer, const as_turn *turn)
{
    const as_lowered *d = layer;
    const as_shape *s = &d->shape;
    const float *image = turn->x + turn->image * s->channels * s->height * s->width;
    float *out = turn->out + turn->image * s->out_channels * s->out_height * s->out_width;
    (turn->ranks == 1 ? alone : together)(d, turn, image, out);
}

/* Output channels [first, last) of a group, with one of its blocks of input channels. */
typedef struct {
    int64_t first, last, block, blocks;
    const float *panel;
    float *sums;
} block_part;

static void multiply_block(const as_lowered *d, const pixel_block *block, const block_part *part,
                           float *out)
{
    const as_shape *s = &d->shape;
    const int64_t pixels = s->out_height * s->out_width;
    const int64_t pitch = d->pixel_vectors * d->isa->lanes;
    const as_lowered_tile_fn run = d->isa->lowered->tile[block->vectors];
    const int is_first = part->block == 0, is_last = part->block == part->blocks - 1;
    const int64_t rest = block->count - (block->vectors - 1) * d->isa->lanes;
    for (int64_t k = part->first; k < part->last; ++k) {
        const int64_t *list = d->ptr + part->block * s->out_channels + k;
        float *sums = part->sums + k * pitch;
        if (list[0] == list[1] && !is_first && !is_last)
            continue;
        const as_lowered_tile tile = {.in = part->panel,
                                      .off = d->off + list[0],
                                      .val = d->val + list[0] * d->taps,
                                      .n = list[1] - list[0],
                                      .taps = d->taps,
                                      .pitch = pitch,
                                      .from = is_first ? NULL : sums,
                                      .start = d->bias[k],
                                      .relu = d->relu && is_last,
                                      .to = is_last ? out + k * pixels + block->first : sums,
                                      .last_lanes = (int)(is_last ? rest : d->isa->lanes)};
        run(&tile);
    }
}

/* Each thread for itself: its output channels, block of pixels by block of pixels, and in these
 * block by block of input channels, which is lowered into the first level right before its use. */
static void column_blocks(void *layer, const as_turn *turn)
{
    const as_lowered *d = layer;
    const as_shape *s = &d->shape;
    const int64_t channels = s->channels / s->groups, out_channels = s->out_channels / s->groups;
    const int64_t plane = s->height * s->width, pixels = s->out_height * s->out_width;
    const float *image = turn->x + turn->image * s->channels * plane;
    float *out = turn->out + turn->image * s->out_channels * pixels;
    float *panel = d->lowered[turn->thread];
    block_part part = {.blocks = as_div_up(channels, d->channel_block),
                       .panel = panel,
                       .sums = d->sums[turn->thread]};
    for (int64_t g = 0; g < s->groups; ++g) {
        part.first = larger(turn->first_unit, g * out_channels);
        part.last = as_min(turn->last_unit, (g + 1) * out_channels);
        if (part.first >= part.last)
            continue;
        for (int64_t first = 0; first < pixels; first += d->pixel_vectors * d->isa->lanes) {
            const pixel_block block = begin_block(d, first);
            for (part.block = 0; part.block < part.blocks; ++part.block) {
                const int64_t from = part.block * d->channel_block;
                const double start = as_now();
                lower(d, &block, image + (g * channels + from) * plane, 0,
                      as_min(d->channel_block, channels - from), panel);
                *turn->input_seconds += as_since(start);
                multiply_block(d, &block, &part, out);
            }
        }
    }
}

int as_lowered_run(as_lowered *layer, const float *x, float *out, int64_t images,
                   as_seconds *seconds)
{
    const as_method blocks = {.products = column_blocks};
    if (layer->sums)
        return as_team_run(&layer->team, &blocks, layer, x, out, images, seconds);
    const as_method method = {.products = products, .takes_parts = 1};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
