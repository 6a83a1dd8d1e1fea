/* Direct sparse convolution, shifts schedules: windows of input, loops around the register blocks. */
#include "pool.h"
#include "team.h"

/* One window in this many is timed on its way in, for the clock costs as much as a small one. */
enum { TIMED = 4 };

/* What one thread does of one group in one register block. */
typedef struct {
    const as_direct_shifts *d;
    const as_turn *turn;
    const as_shifts_block *block;
    const float *pixels; /* the group's first channel */
    int64_t group;
    int64_t first, last; /* output channels of the group */
    float *out;          /* the group's first output channel */
} block_part;

/* What the register block looks at of the slabs [first, last), and nothing else. */
static void fill_window(const block_part *p, int64_t first, int64_t last, float *window)
{
    const as_direct_shifts *d = p->d;
    const as_shape *s = &d->walk;
    const int64_t rows = p->block->rows + d->reach_rows, planes = d->plane_count;
    for (int64_t plane = 0; plane < planes; ++plane) {
        const int64_t row = p->block->top * s->stride_h + d->plane_row[plane] - s->pad_h;
        const int64_t begin = as_div_up(as_max(first - plane, 0), planes);
        const int64_t end = as_div_up(as_max(last - plane, 0), planes);
        int64_t y0, y1;
        as_inside(row, s->stride_h, s->height, rows, &y0, &y1);
        as_shifts_rows r = {.from = p->pixels, /* not looked at without rows */
                            .from_channel = s->height * s->width,
                            .from_row = s->stride_h * s->width,
                            .step = s->stride_w,
                            .width = s->width,
                            .first = p->block->left * s->stride_w + d->plane_column[plane] -
                                     s->pad_w,
                            .channels = end - begin,
                            .above = y0,
                            .rows = as_max(y1 - y0, 0),
                            .vectors = p->block->vectors,
                            .to_channel = planes * d->slab_pitch};
        r.below = rows - r.above - r.rows;
        if (r.rows > 0)
            r.from += begin * r.from_channel + (y0 * s->stride_h + row) * s->width;
        d->isa->direct_shifts->rows(&r, window + (begin * planes + plane - first) * d->slab_pitch);
    }
}

/* All output channels of the part over one slab block. */
static void slab_block(const block_part *p, int64_t b, const float *window)
{
    const as_direct_shifts *d = p->d;
    const int64_t in_group = d->walk.out_channels / d->walk.groups;
    const int64_t plane = d->walk.out_height * d->walk.out_width;
    const int64_t list = (p->group * d->slab_blocks + b) * in_group + p->first;
    float *sums = d->sums[p->turn->thread];
    as_shifts_tile tile = {.in = window,
                           .ptr = d->ptr + list * d->parts,
                           .lists = p->last - p->first,
                           .parts = d->parts,
                           .off = d->off,
                           .val = d->val,
                           .from = b == 0 ? NULL : sums,
                           .from_step = d->most_vectors * d->isa->lanes,
                           .start = d->bias + p->group * in_group + p->first,
                           .to = sums,
                           .to_step = d->most_vectors * d->isa->lanes};
    if (b == d->slab_blocks - 1) {
        tile.relu = d->relu;
        tile.to = p->out + p->first * plane;
        tile.to_step = plane;
        tile.piece = d->piece + p->block->first_piece;
        tile.past_caches = d->past_caches && p->block->whole;
    }
    d->isa->direct_shifts->tile[p->block->rows * p->block->vectors](&tile);
}

static void all_slabs(const block_part *p, int64_t round)
{
    const as_direct_shifts *d = p->d;
    const int64_t slabs = d->walk.channels / d->walk.groups * d->plane_count;
    const int64_t windows = d->block_count * d->slab_blocks;
    float *window = d->window[p->turn->thread];
    for (int64_t b = 0; b < d->slab_blocks; ++b) {
        const int timed = (round + b) % TIMED == 0;
        const double start = timed ? as_now() : 0.0;
        fill_window(p, b * d->slab_block, as_min(slabs, (b + 1) * d->slab_block), window);
        if (timed)
            *p->turn->input_seconds +=
                as_since(start) * (double)as_min(TIMED, windows - round - b);
        slab_block(p, b, window);
    }
}

/* Group -> register block -> slab block -> output channel. */
static void products(void *layer, const as_turn *turn)
{
    const as_direct_shifts *d = layer;
    const as_shape *s = &d->walk;
    const int64_t in_group = s->out_channels / s->groups, plane = s->out_height * s->out_width;
    const int64_t pixels = s->height * s->width;
    const float *image = turn->x + turn->image * s->channels * pixels;
    float *out = turn->out + turn->image * s->out_channels * plane;
    for (int64_t g = 0; g < s->groups; ++g) {
        block_part p = {.d = d,
                        .turn = turn,
                        .pixels = image + g * (s->channels / s->groups) * pixels,
                        .group = g,
                        .out = out + g * in_group * plane};
        p.first = as_max(turn->first_unit - g * in_group, 0);
        p.last = as_min(in_group, turn->last_unit - g * in_group);
        if (p.first >= p.last)
            continue;
        for (int64_t i = 0; i < d->block_count; ++i) {
            p.block = &d->block[i];
            all_slabs(&p, i * d->slab_blocks);
        }
    }
#if defined(__x86_64__)
    if (d->past_caches) /* such stores are not ordered with what tells others that we are done */
        __builtin_ia32_sfence();
#endif
}

int as_direct_shifts_run(as_direct_shifts *layer, const float *x, float *out, int64_t images,
                         as_seconds *seconds)
{
    const as_method method = {.products = products};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
