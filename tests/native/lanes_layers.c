/* Layers of the lanes schedules: layout and packing as archsim_native.h says. */
#include "lanes_layers.h"

/* A blocking in the making. */
typedef struct {
    layer *made;
    lanes_mode mode;
    axis rows, columns;
    int64_t grid_columns, tile_rows, tile_columns;
    int64_t reg_rows, reg_vectors;
    int64_t pitch; /* that a flat plane must have; 0: any */
} plan;

/* The least row pitch at which what a row reads behind it is the next row's left pad. */
int64_t lanes_flat_pitch(const as_shape *s)
{
    const axis all = columns_of(s), *columns = &all;
    const int64_t width = s->out_width + columns->reach;
    int64_t pitch = s->out_width;
    for (int64_t i = 0; i < columns->count; ++i) {
        const int64_t start = s->pad_w - columns->residue[i];
        const int64_t first = start > 0 ? div_up(start, s->stride_w) : 0;
        const int64_t last = smaller(div_up(larger(start + s->width, 0), s->stride_w), width);
        if (first < last)
            pitch = larger(pitch, larger(last, width - first));
    }
    return pitch;
}

static void choose_tiles(plan *p)
{
    as_direct_lanes *d = &p->made->of.lanes;
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, grid_rows = p->mode == TILES ? 2 : 1;
    p->grid_columns = p->mode == IMAGES ? 1 : lanes / grid_rows;
    p->tile_rows = div_up(s->out_height, grid_rows);
    p->tile_columns = div_up(s->out_width, p->grid_columns);
    d->plane_pitch = p->grid_columns * p->tile_columns + p->columns.reach + check_below(3);
    if (p->mode == FLAT) {
        d->plane_pitch = p->pitch ? p->pitch : lanes_flat_pitch(s) + check_below(3);
        p->tile_rows = 1;
        p->tile_columns = div_up((s->out_height - 1) * d->plane_pitch + s->out_width, lanes);
    }
    d->in_rows = p->mode == FLAT ? 1 : p->tile_rows + p->rows.reach;
    d->in_columns = p->tile_columns + p->columns.reach;
    if (p->mode == FLAT)
        d->in_columns += p->rows.reach * d->plane_pitch;
    d->slab_pitch = (d->in_rows * d->in_columns + check_below(2)) * lanes;
    d->fill_rows = s->out_height + p->rows.reach;
    d->fill_columns = smaller(d->plane_pitch, s->out_width + p->columns.reach);
    d->images = p->mode == IMAGES ? lanes : 1;
}

static void place_planes(plan *p)
{
    enum { OVER_READ = 3 };
    as_direct_lanes *d = &p->made->of.lanes;
    const int64_t lanes = d->isa->lanes;
    int64_t *start = check_zeros(lanes * (int64_t)sizeof(int64_t), 0), last = 0;
    place_residues(&p->rows, &p->columns, &d->plane_row, &d->plane_column);
    for (int64_t l = 0; l < lanes && p->mode != IMAGES; ++l) {
        start[l] = p->mode == FLAT ? l * p->tile_columns
                                   : l / p->grid_columns * p->tile_rows * d->plane_pitch +
                                         l % p->grid_columns * p->tile_columns;
        last = start[l];
    }
    d->plane_size = larger(last + (d->in_rows - 1) * d->plane_pitch + d->in_columns + OVER_READ,
                           d->fill_rows * d->plane_pitch);
    for (int64_t l = 0; l < lanes && p->mode == IMAGES; ++l)
        start[l] = l * d->plane_count * d->plane_size;
    d->lane_start = start;
}

/* Where a position of a lane's tile goes in the output, from its channel's begin; or -1. */
static int64_t place_of(const plan *p, int64_t lane, int64_t row, int64_t column)
{
    const as_shape *s = &p->made->spec.shape;
    int64_t y = row, x = column, image = 0;
    if (p->mode == FLAT) {
        const int64_t position = lane * p->tile_columns + column;
        y = position / p->made->of.lanes.plane_pitch, x = position % p->made->of.lanes.plane_pitch;
    } else if (p->mode == TILES) {
        y += lane / p->grid_columns * p->tile_rows, x += lane % p->grid_columns * p->tile_columns;
    } else {
        image = lane * layer_out_size(s);
    }
    return y < s->out_height && x < s->out_width ? image + y * s->out_width + x : -1;
}

/* The pieces of `count` positions from (row, first) on, all lanes; returns how many. */
static int64_t cut_pieces(const plan *p, int64_t row, int64_t first, int64_t count,
                          as_lanes_piece *piece)
{
    int64_t pieces = 0;
    for (int lane = 0; lane < p->made->spec.isa->lanes; ++lane) {
        const int64_t begin = pieces;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t place = place_of(p, lane, row, first + i);
            if (place < 0)
                continue;
            if (pieces == begin || piece[pieces - 1].place != place - i)
                piece[pieces++] = (as_lanes_piece){.place = place - i, .lane = lane};
            piece[pieces - 1].bits |= 1u << i;
        }
    }
    return pieces;
}

static void cut_blocks(plan *p)
{
    as_direct_lanes *d = &p->made->of.lanes;
    const int64_t lanes = d->isa->lanes, most = p->tile_rows * p->tile_columns;
    as_lanes_block *block = check_zeros(most * (int64_t)sizeof *block, 1);
    as_lanes_chunk *chunk = check_zeros(most * (int64_t)sizeof *chunk, 1);
    as_lanes_piece *piece = check_zeros(most * lanes * (int64_t)sizeof *piece, 1);
    int64_t blocks = 0, chunks = 0, pieces = 0;
    for (int64_t y = 0; y < p->tile_rows; y += p->reg_rows)
        for (int64_t x = 0; x < p->tile_columns; x += p->reg_vectors) {
            as_lanes_block *b = &block[blocks++];
            b->in = (y * d->in_columns + x) * lanes;
            b->rows = smaller(p->reg_rows, p->tile_rows - y);
            b->vectors = smaller(p->reg_vectors, p->tile_columns - x);
            b->first_chunk = chunks;
            for (int64_t i = 0; i < b->rows; ++i)
                for (int64_t v = 0; v < b->vectors; v += lanes) {
                    as_lanes_chunk *c = &chunk[chunks++];
                    c->vector = i * b->vectors + v;
                    c->positions = smaller(lanes, b->vectors - v);
                    c->first_piece = pieces;
                    pieces += cut_pieces(p, y + i, x + v, c->positions, piece + pieces);
                    c->last_piece = pieces;
                }
            b->last_chunk = chunks;
            d->most_vectors = larger(d->most_vectors, b->rows * b->vectors);
        }
    d->block = block, d->chunk = chunk, d->piece = piece, d->block_count = blocks;
}

static void choose_pixels(plan *p)
{
    as_direct_lanes *d = &p->made->of.lanes;
    const int64_t lanes = d->isa->lanes, pixels = d->shape.height * d->shape.width;
    const int64_t vectors = div_up(pixels, lanes);
    as_lanes_block *block = check_zeros(vectors * (int64_t)sizeof *block, 1);
    d->pointwise = 1, d->past_caches = (int)check_below(2), d->images = d->in_rows = 1;
    d->in_columns = vectors + check_below(2);
    d->slab_pitch = d->in_columns * lanes;
    for (int64_t first = 0; first < vectors; first += p->reg_vectors) {
        const int64_t count = smaller(p->reg_vectors, vectors - first);
        const int64_t last = first + count - 1;
        block[d->block_count++] =
            (as_lanes_block){.in = first * lanes, .rows = 1, .vectors = count,
                             .last_lanes = smaller(lanes, pixels - last * lanes)};
        d->most_vectors = larger(d->most_vectors, count);
    }
    d->block = block;
}

static layer_place lanes_place(const layer *made, int64_t k, int64_t c, int64_t r, int64_t s)
{
    const as_direct_lanes *d = &made->of.lanes;
    const as_shape *shape = &d->shape;
    const axis rows = rows_of(shape), columns = columns_of(shape);
    const int64_t slab = c * d->plane_count + plane_of(&rows, &columns, r, s);
    const int64_t block = slab / d->slab_block;
    /* flat: its one row is as long as all rows of the plane that a lane meets */
    const int64_t down = d->in_rows == 1 ? d->plane_pitch : d->in_columns;
    const int64_t position = r * shape->dilation_h / shape->stride_h * down +
                             s * shape->dilation_w / shape->stride_w;
    return (layer_place){
        (k / group_out(shape) * d->slab_blocks + block) * group_out(shape) + k % group_out(shape),
        (slab % d->slab_block * d->slab_pitch + position * d->isa->lanes) * (int64_t)sizeof(float)};
}

static int run_lanes(layer *made, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    return as_direct_lanes_run(&made->of.lanes, x, out, images, seconds);
}

void lanes_make(layer *made, lanes_mode mode, int64_t pitch, int may_take)
{
    const layer_spec *spec = &made->spec;
    const as_shape *s = &spec->shape;
    as_direct_lanes *d = &made->of.lanes;
    *d = (as_direct_lanes){.shape = *s, .isa = spec->isa, .relu = spec->relu, .bias = spec->bias,
                           .team = layer_team(made, s->out_channels, may_take)};
    plan p = {.made = made, .mode = mode, .pitch = pitch,
              .rows = rows_of(s), .columns = columns_of(s)};
    const int64_t most = spec->isa->registers - 2, lanes = spec->isa->lanes;
    p.reg_vectors = check_from(1, most);
    p.reg_rows = check_from(1, most / p.reg_vectors);
    d->plane_count = p.rows.count * p.columns.count;
    d->slab_block = check_from(1, group_in(s) * d->plane_count);
    d->slab_blocks = div_up(group_in(s) * d->plane_count, d->slab_block);
    if (mode == POINTWISE) {
        choose_pixels(&p);
    } else {
        choose_tiles(&p);
        place_planes(&p);
        cut_blocks(&p);
    }
    layer_pack(made, s->groups * d->slab_blocks * group_out(s), AS_LANES_AHEAD, lanes_place,
               &d->ptr, &d->off, &d->val);
    const int64_t vector = lanes * d->most_vectors;
    d->x = layer_buffers(groups_of_threads(spec), s->channels * d->plane_count * d->slab_pitch, 1);
    d->planes = layer_buffers(spec->threads, d->images * d->plane_count * d->plane_size, 0);
    d->sums = layer_buffers(spec->threads, smaller(layer_most_units(made), group_out(s)) * vector,
                            1);
    d->ready = layer_buffers(spec->threads, (AS_LANES_READY + d->most_vectors + 3) * lanes, 1);
    made->run = run_lanes;
}

static void make_flat(layer *made)
{
    lanes_make(made, FLAT, 0, 1);
}

static void make_tiles(layer *made)
{
    lanes_make(made, TILES, 0, 1);
}

static void make_images(layer *made)
{
    lanes_make(made, IMAGES, 0, 1);
}

static void make_pointwise(layer *made)
{
    lanes_make(made, POINTWISE, 0, 1);
}

const layer_method lanes_methods[] = {{"lanes, flat", NULL, make_flat},
                                      {"lanes, tiles", NULL, make_tiles},
                                      {"lanes, images", NULL, make_images},
                                      {"lanes, pointwise", layer_is_pointwise, make_pointwise},
                                      {NULL, NULL, NULL}};
