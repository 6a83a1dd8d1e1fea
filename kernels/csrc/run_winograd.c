/* Winograd convolution, dense and sparse: the loops around transformations and register blocks.
 * Layouts: products.h. */
#include "pool.h"
#include "products.h"
#include "team.h"

/* The clock is read for one group in this many, for it costs as much as a small one. */
enum { TIMED = 16 };

/* What a thread works on: some vectors of tiles, of one group. */
typedef struct {
    const as_winograd *d;
    const as_turn *turn;
    int64_t first_vector, vectors;
    int64_t group;
    int64_t first, channels; /* output channels of the group: a block */
    float *planes, *transformed, *sums, *scratch;
} part;

static int64_t positions(const as_winograd *d)
{
    return d->tile * d->tile;
}

/* ---- input ---- */

/* The rows that tiles [first, last) look at, into the padded planes of their images. */
static void fill_planes(const part *p, const float *channel, int64_t first, int64_t last)
{
    const as_winograd *d = p->d;
    const as_shape *s = &d->shape;
    const int64_t in_image = d->tile_rows * d->tile_columns;
    for (int64_t i = first / in_image; i * in_image < last; ++i) {
        const int64_t begin = first > i * in_image ? first - i * in_image : 0;
        const int64_t end = as_min(last - i * in_image, in_image);
        int64_t top = begin / d->tile_columns * d->tile_outputs - s->pad_h;
        int64_t bottom =
            (end - 1) / d->tile_columns * d->tile_outputs + d->tile - s->pad_h; /* one more */
        top = top > 0 ? top : 0;
        bottom = as_min(bottom, s->height);
        if (top < bottom)
            (*d->isa->copy)(
                channel + i * s->channels * s->height * s->width + top * s->width, s->width,
                bottom - top, s->width,
                p->planes + i * d->plane_size + (top + s->pad_h) * d->plane_pitch + s->pad_w,
                d->plane_pitch);
    }
}

/* Where channel c of the group begins in a step, in vectors of one channel. */
static int64_t slot(const as_winograd *d, int64_t c)
{
    return d->in_block ? c + c / d->in_block : c;
}

static void transform_in(const part *p, int64_t tiles)
{
    const as_winograd *d = p->d;
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, in_group = s->channels / s->groups;
    const int64_t plane = s->height * s->width;
    const float *x = p->turn->x + (p->turn->image * d->images * s->channels) * plane;
    const int64_t first = p->first_vector * lanes;
    const int64_t last = as_min(first + p->vectors * lanes, tiles);
    /* windows look at all pictures of a turn */
    const int there = p->turn->images - p->turn->image * d->images >= d->images;
    const int by_windows = d->in_window != NULL && there;
    as_winograd_in in = {.from = p->planes,
                         .pitch = by_windows ? s->width : d->plane_pitch,
                         .next_step = plane,
                         .position_step = d->transformed_pitch,
                         .scratch = p->scratch};
    for (int64_t c = 0; c < in_group; ++c) {
        const float *channel = x + (p->group * in_group + c) * plane;
        if (by_windows)
            in.from = channel;
        else
            fill_planes(p, channel, first, last);
        in.to = p->transformed + slot(d, c) * d->reg_vectors * lanes;
        for (int64_t v = 0; v < p->vectors; v += d->reg_vectors, in.to += d->step_size) {
            in.start = d->start + (p->first_vector + v) * lanes;
            if (by_windows) {
                in.window = d->in_window + (p->first_vector + v) * d->tile_outputs;
                in.kind = d->in_kind + p->first_vector + v;
            }
            in.vectors = as_min(d->reg_vectors, p->vectors - v);
            d->isa->winograd->in[d->variant](&in);
        }
    }
}

/* ---- products ---- */

static void sparse_products(const part *p)
{
    const as_winograd *d = p->d;
    const int64_t lanes = d->isa->lanes, in_group = d->shape.channels / d->shape.groups;
    const int64_t out_group = d->shape.out_channels / d->shape.groups;
    const int64_t in_blocks = as_div_up(in_group, d->in_block), of_position = in_blocks * positions(d);
    const int64_t whole = p->first / d->out_block * as_div_up(d->out_block, d->reg_lists);
    const int64_t of_group = out_group / d->out_block * as_div_up(d->out_block, d->reg_lists) +
                             as_div_up(out_group % d->out_block, d->reg_lists);
    const int64_t groups = as_div_up(p->channels, d->reg_lists);
    int64_t list = (p->group * of_group + whole) * of_position;
    as_winograd_lists lists = {.groups = groups,
                               .off = d->off,
                               .val = d->val,
                               .to_step = d->chunk_vectors * lanes};
    for (int64_t q = 0; q < positions(d); ++q)
        for (int64_t b = 0; b < in_blocks; ++b, list += groups) {
            const float *in = p->transformed + q * d->transformed_pitch +
                              b * (d->in_block + 1) * d->reg_vectors * lanes;
            lists.ptr = d->ptr + list;
            lists.row = d->row + list * d->reg_lists;
            lists.add = b > 0;
            for (int64_t v = 0; v < p->vectors; v += d->reg_vectors, in += d->step_size) {
                lists.in = in;
                lists.to = p->sums + q * d->sums_pitch + v * lanes;
                d->isa->winograd_products
                    ->lists[d->reg_lists][as_min(d->reg_vectors, p->vectors - v)](&lists);
            }
        }
}

static void dense_products(const part *p)
{
    const as_winograd *d = p->d;
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, in_group = s->channels / s->groups;
    const int64_t first = p->group * (s->out_channels / s->groups) + p->first;
    const float *weights = d->weights + first * positions(d) * in_group;
    as_winograd_block block = {.in_step = d->reg_vectors * lanes,
                               .channels = in_group,
                               .to_step = d->chunk_vectors * lanes};
    for (int64_t q = 0; q < positions(d); ++q) {
        /* Weights come from far away once, and stay for all vectors of the chunk. */
        for (int64_t k = 0, count; k < p->channels; k += count, weights += count * in_group) {
            count = as_min(d->reg_count, p->channels - k);
            block.weights = weights;
            block.ahead = (uintptr_t)(weights + count * in_group);
            block.in = p->transformed + q * d->transformed_pitch;
            for (int64_t v = 0; v < p->vectors; v += d->reg_vectors, block.in += d->step_size) {
                block.to = p->sums + q * d->sums_pitch + (k * d->chunk_vectors + v) * lanes;
                d->isa->winograd_products
                    ->block[as_min(d->reg_vectors, p->vectors - v)][count](&block);
            }
        }
    }
}

/* ---- output ---- */

static void transform_out(const part *p, int64_t tiles)
{
    const as_winograd *d = p->d;
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, plane = s->out_height * s->out_width;
    const int64_t first = p->group * (s->out_channels / s->groups) + p->first;
    as_winograd_out out = {
        .from = p->sums,
        .position_step = d->sums_pitch,
        .vectors = p->vectors,
        .tiles = p->turn->images - p->turn->image * d->images < d->images
                     ? tiles - p->first_vector * lanes
                     : p->vectors * lanes, /* places know which are there */
        .relu = d->relu,
        .scratch = p->scratch,
        .place = d->place + p->first_vector * lanes,
        .whole = d->whole + p->first_vector,
        .piece = d->out_piece + p->first_vector * d->tile_outputs,
        .kind = d->out_kind + p->first_vector,
        .out = p->turn->out + (p->turn->image * d->images * s->out_channels + first) * plane,
        .row_step = s->out_width,
        .next_step = plane};
    for (int64_t k = 0; k < p->channels; ++k) {
        out.bias = d->bias[first + k];
        d->isa->winograd->out[d->variant](&out);
        out.from += d->chunk_vectors * lanes;
        out.out += plane;
    }
}

/* ---- loops ---- */

/* A group: all of its input, then output channels block by block. */
static void run_group(part *p, int64_t tiles)
{
    const as_winograd *d = p->d;
    const int64_t in_group = d->shape.out_channels / d->shape.groups;
    const int timed = p->group % TIMED == 0;
    const double times = (double)as_min(TIMED, d->shape.groups - p->group);
    double input = 0.0, output = 0.0, start = timed ? as_now() : 0.0;
    transform_in(p, tiles);
    if (timed)
        input = as_since(start);
    for (p->first = 0; p->first < in_group; p->first += d->out_block) {
        p->channels = as_min(d->out_block, in_group - p->first);
        if (d->weights)
            dense_products(p);
        else
            sparse_products(p);
        if (timed)
            start = as_now();
        transform_out(p, tiles);
        if (timed)
            output += as_since(start);
    }
    *p->turn->input_seconds += input * times;
    *p->turn->output_seconds += output * times;
}

/* The images of the last turn may be fewer: tiles that are not there go nowhere. */
static void run_turn(void *layer, const as_turn *turn)
{
    const as_winograd *d = layer;
    const int64_t lanes = d->isa->lanes;
    const int64_t images = as_min(d->images, turn->images - turn->image * d->images);
    const int64_t tiles = images * d->tile_rows * d->tile_columns;
    part p = {.d = d,
              .turn = turn,
              .planes = d->planes[turn->thread],
              .transformed = d->transformed[turn->thread],
              .sums = d->sums[turn->thread],
              .scratch = d->scratch[turn->thread]};
    for (int64_t u = turn->first_unit; u < turn->last_unit; ++u) {
        p.first_vector = u * d->chunk_vectors;
        p.vectors = as_min(d->chunk_vectors, as_div_up(tiles, lanes) - p.first_vector);
        if (p.vectors <= 0)
            return;
        for (p.group = 0; p.group < d->shape.groups; ++p.group) run_group(&p, tiles);
    }
}

int as_winograd_run(as_winograd *layer, const float *x, float *out, int64_t images,
                    as_seconds *seconds)
{
    const as_method method = {.products = run_turn, .per_turn = layer->images};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
