/* Direct sparse convolution, lanes schedules: conversions, loops around the register blocks. */
#include "lanes_phases.h"
#include "pool.h"

/* ---- input ---- */

/* The part of a residue plane that the image fills; rows and columns as the layout has room for. */
static void fill_plane(const as_direct_lanes *d, int64_t plane, const float *pixels, float *to)
{
    const as_shape *s = &d->shape;
    const int64_t row = d->plane_row[plane] - s->pad_h;
    const int64_t column = d->plane_column[plane] - s->pad_w;
    int64_t y0, y1, x0, x1;
    as_inside(row, s->stride_h, s->height, d->fill_rows, &y0, &y1);
    as_inside(column, s->stride_w, s->width, d->fill_columns, &x0, &x1);
    if (y0 >= y1 || x0 >= x1)
        return;
    const float *from = pixels + (y0 * s->stride_h + row) * s->width + x0 * s->stride_w + column;
    float *at = to + y0 * d->plane_pitch + x0;
    const int64_t step = s->stride_h * s->width;
    if (s->stride_w == 1) {
        (*d->isa->copy)(from, step, y1 - y0, x1 - x0, at, d->plane_pitch);
        return;
    }
    for (int64_t y = y0; y < y1; ++y)
        d->isa->direct_lanes->pick(from + (y - y0) * step, s->stride_w, x1 - x0,
                                   at + (y - y0) * d->plane_pitch);
}

void as_lanes_input(void *layer, const as_turn *turn)
{
    const as_direct_lanes *d = layer;
    const as_shape *s = &d->shape;
    const int64_t pixels = s->height * s->width, first_image = turn->image * d->images;
    const int64_t images = as_min(d->images, turn->images - first_image);
    float *planes = d->planes[turn->thread];
    int64_t first, last;
    as_share(turn, s->channels, s->groups, &first, &last);
    for (int64_t c = first; c < last; ++c) {
        for (int64_t i = 0; i < images; ++i)
            for (int64_t p = 0; p < d->plane_count; ++p)
                fill_plane(d, p, turn->x + ((first_image + i) * s->channels + c) * pixels,
                           planes + (i * d->plane_count + p) * d->plane_size);
        for (int64_t p = 0; p < d->plane_count; ++p) {
            float *slab = d->x[turn->group] + (c * d->plane_count + p) * d->slab_pitch;
            const float *from = planes + p * d->plane_size;
            for (int64_t y = 0; y < d->in_rows; ++y)
                d->isa->direct_lanes->in(from + y * d->plane_pitch, d->lane_start, d->in_columns,
                                         slab + y * d->in_columns * d->isa->lanes);
        }
    }
}

static const float *image_of(const as_direct_lanes *d, const as_turn *turn)
{
    return turn->x + turn->image * d->shape.channels * d->shape.height * d->shape.width;
}

/* Whether the pixels can be read where they are. */
static int in_place(const as_direct_lanes *d, const as_turn *turn)
{
    const size_t vector_bytes = (size_t)d->isa->lanes * sizeof(float);
    return d->slab_pitch == d->shape.height * d->shape.width &&
           (uintptr_t)image_of(d, turn) % vector_bytes == 0;
}

static void copy_pixels(void *layer, const as_turn *turn)
{
    const as_direct_lanes *d = layer;
    const int64_t pixels = d->shape.height * d->shape.width;
    int64_t first, last;
    if (in_place(d, turn))
        return;
    as_share(turn, d->shape.channels, d->shape.groups, &first, &last);
    (*d->isa->copy)(image_of(d, turn) + first * pixels, pixels, last - first, pixels,
                    d->x[turn->group] + first * d->slab_pitch, d->slab_pitch);
}

/* ---- products and output ---- */

/* One round of output channels in this many is timed on its way out, for the clock costs as much
 * as a small channel. */
enum { TIMED = 4 };

/* What one thread does of one group in one register block. */
typedef struct {
    const as_direct_lanes *d;
    const as_turn *turn;
    const as_lanes_block *block;
    const float *in; /* the slab block, at the block */
    int64_t group;
    int64_t first, last; /* output channels of the group */
    float *out;          /* the group's first output channel, or what is ready of it in a chain */
    int64_t out_pitch;   /* floats to the next one */
    int used;            /* lanes that leave lane layout */
} block_part;

/* Whether a block's sums are brought elsewhere; else the products write them where they belong. */
static int leaves_blocks(const as_direct_lanes *d)
{
    return d->next != NULL ? d->next->whole : !d->pointwise;
}

static void bring_out(const block_part *p, const float *ready, float *out)
{
    const as_direct_lanes *d = p->d;
    const int64_t lanes = d->isa->lanes;
    const as_lanes_link *link = d->next;
    if (link != NULL) {
        const int64_t *ptr = link->ptr + (p->block - d->block);
        d->isa->direct_lanes->spread(ready, link->move + ptr[0], ptr[1] - ptr[0], link->order, out);
        return;
    }
    for (int64_t j = p->block->first_chunk; j < p->block->last_chunk; ++j) {
        const as_lanes_chunk *chunk = &d->chunk[j];
        d->isa->direct_lanes->out(ready + chunk->vector * lanes, chunk->positions,
                                  d->piece + chunk->first_piece,
                                  chunk->last_piece - chunk->first_piece, p->used, out);
    }
}

/* The last slab block: as many output channels at a time as `ready` has room for. */
static void finish(const block_part *p, as_lanes_tile *tile, as_lanes_tile_fn tile_fn)
{
    const as_direct_lanes *d = p->d;
    const int64_t most = as_div_up(AS_LANES_READY, d->most_vectors);
    tile->to = d->ready[p->turn->thread];
    tile->to_step = tile->from_step;
    for (int64_t k = p->first, round = 0; k < p->last; k += tile->lists, ++round) {
        tile->lists = as_min(most, p->last - k);
        tile_fn(tile);
        const int timed = round % TIMED == 0;
        const double start = timed ? as_now() : 0.0;
        for (int64_t i = 0; i < tile->lists; ++i)
            bring_out(p, tile->to + i * tile->to_step, p->out + (k + i) * p->out_pitch);
        if (timed) {
            const double rounds =
                (double)as_min(TIMED * most, p->last - k) / (double)tile->lists;
            *p->turn->output_seconds += as_since(start) * rounds;
        }
        tile->ptr += tile->lists;
        tile->start += tile->lists;
        if (tile->from != NULL)
            tile->from += tile->lists * tile->from_step;
    }
}

/* Where the input is: slabs, or what the layer before in a chain has left. */
static const float *input_of(const as_direct_lanes *d, const as_turn *turn)
{
    if (d->before != NULL)
        return d->before->ready[turn->group];
    return d->pointwise && in_place(d, turn) ? image_of(d, turn) : d->x[turn->group];
}

/* A block of slabs: in the input, or, within a chain, spread over a window. */
static const float *slabs(const block_part *p, const float *input, int64_t b)
{
    const as_direct_lanes *d = p->d;
    const as_lanes_link *link = d->before;
    const int64_t in_group = d->shape.channels / d->shape.groups * d->plane_count;
    const int64_t first = p->group * in_group + b * d->slab_block;
    if (link == NULL || link->whole)
        return input + first * d->slab_pitch;
    const int64_t *ptr = link->ptr + (p->block - d->block);
    const int64_t count = as_min(d->slab_block, in_group - b * d->slab_block);
    const double start = as_now();
    for (int64_t i = 0; i < count; ++i)
        d->isa->direct_lanes->spread(input + (first + i) * link->pitch, link->move + ptr[0],
                                     ptr[1] - ptr[0], link->order,
                                     d->window[p->turn->thread] + i * d->slab_pitch);
    *p->turn->input_seconds += as_since(start);
    return d->window[p->turn->thread];
}

/* All output channels of the part over one slab block. */
static void slab_block(const block_part *p, int64_t b)
{
    const as_direct_lanes *d = p->d;
    const int64_t in_group = d->shape.out_channels / d->shape.groups;
    const int64_t lanes = d->isa->lanes;
    const int last = b == d->slab_blocks - 1;
    const as_lanes_tile_fn tile_fn = d->isa->direct_lanes->tile[p->block->rows][p->block->vectors];
    float *sums = d->sums[p->turn->thread];
    as_lanes_tile tile = {.in = p->in,
                          .in_pitch = d->in_columns * lanes,
                          .ptr = d->ptr + (p->group * d->slab_blocks + b) * in_group + p->first,
                          .lists = p->last - p->first,
                          .off = d->off,
                          .val = d->val,
                          .from = b == 0 ? NULL : sums,
                          .from_step = d->most_vectors * lanes,
                          .start = d->bias + p->group * in_group + p->first,
                          .relu = last && d->relu,
                          .to = sums,
                          .to_step = d->most_vectors * lanes,
                          .last_lanes = last ? (int)p->block->last_lanes : 0,
                          .past_caches = d->past_caches};
    if (last && leaves_blocks(d)) {
        finish(p, &tile, tile_fn);
        return;
    }
    if (last) {
        tile.to = p->out + p->first * p->out_pitch;
        tile.to += d->next ? d->next->first[p->block - d->block] : p->block->in;
        tile.to_step = p->out_pitch;
    }
    tile_fn(&tile);
}

/* Group -> register block -> slab block -> output channel. */
void as_lanes_products(void *layer, const as_turn *turn)
{
    const as_direct_lanes *d = layer;
    const as_shape *s = &d->shape;
    const int64_t in_group = s->out_channels / s->groups, plane = s->out_height * s->out_width;
    const float *input = input_of(d, turn);
    const int64_t pitch = d->next ? d->next->pitch : plane;
    float *out = d->next ? d->next->ready[turn->group]
                         : turn->out + turn->image * d->images * s->out_channels * plane;
    for (int64_t g = 0; g < s->groups; ++g) {
        block_part p = {.d = d, .turn = turn, .group = g, .out_pitch = pitch};
        p.out = out + g * in_group * pitch;
        p.used = d->isa->lanes;
        if (d->images > 1)
            p.used = (int)as_min(turn->images - turn->image * d->images, d->images);
        p.first = turn->first_unit > g * in_group ? turn->first_unit - g * in_group : 0;
        p.last = as_min(in_group, turn->last_unit - g * in_group);
        if (p.first >= p.last)
            continue;
        for (int64_t i = 0; i < d->block_count; ++i) {
            p.block = &d->block[i];
            for (int64_t b = 0; b < d->slab_blocks; ++b) {
                p.in = slabs(&p, input, b) + p.block->in;
                slab_block(&p, b);
            }
        }
    }
#if defined(__x86_64__)
    if (d->past_caches) /* such stores are not ordered with what tells others that we are done */
        __builtin_ia32_sfence();
#endif
}

int as_direct_lanes_run(as_direct_lanes *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds)
{
    const as_method method = {.input = layer->pointwise ? copy_pixels : as_lanes_input,
                              .products = as_lanes_products,
                              .per_turn = layer->images};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}

double as_load_roof(const as_isa *isa, int64_t count, int64_t repeats, int64_t shift)
{
    float sum, *from = as_alloc((size_t)((count + 1) * isa->lanes) * sizeof(float));
    if (from == NULL)
        return -1.0;
    isa->direct_lanes->roof(from + shift, count, 1, &sum);
    const double start = as_now();
    isa->direct_lanes->roof(from + shift, count, repeats, &sum);
    const double seconds = as_now() - start;
    as_free(from);
    return seconds;
}
