/* Layers of the shifts schedules: layout and packing as archsim_native.h says. */
#include "residues.h"

/* A blocking in the making. */
typedef struct {
    as_direct_shifts *d;
    int64_t vectors, outputs; /* of a column tile: of each row, and output columns */
    int64_t reg_rows;
} plan;

static plan choose(as_direct_shifts *d, const axis *rows, const axis *columns)
{
    const int64_t most = d->isa->registers - 2, lanes = d->isa->lanes, spare = 2;
    plan p = {.d = d};
    p.vectors = check_from(columns->reach / lanes + 1, most); /* room for one output */
    p.vectors = smaller(p.vectors, div_up(d->walk.out_width + columns->reach, lanes));
    p.outputs = p.vectors * lanes - columns->reach;
    p.reg_rows = smaller(check_from(1, most / p.vectors), d->walk.out_height);
    d->plane_count = rows->count * columns->count;
    d->reach_rows = rows->reach, d->parts = columns->reach + 1;
    const int64_t slabs = group_in(&d->walk) * d->plane_count;
    d->slab_block = check_from(1, slabs);
    d->slab_blocks = div_up(slabs, d->slab_block);
    d->slab_pitch = ((p.reg_rows + rows->reach) * p.vectors + check_below(spare)) * lanes;
    d->most_vectors = p.reg_rows * p.vectors;
    return p;
}

/* Row `row`'s vectors of a column tile that ends before column `end`. */
static void cut_row(const plan *p, int64_t row, int64_t left, int64_t end, as_shifts_piece *piece)
{
    const int64_t lanes = p->d->isa->lanes;
    for (int64_t v = 0; v < p->vectors; ++v) {
        const int64_t column = left + v * lanes;
        const int64_t used = larger(smaller(lanes, end - column), 0);
        piece[v] = (as_shifts_piece){.place = row * p->d->walk.out_width + column,
                                     .bits = ((int64_t)1 << used) - 1};
    }
}

static void cut_blocks(const plan *p)
{
    as_direct_shifts *d = p->d;
    const as_shape *s = &d->walk;
    const int64_t tiles = div_up(s->out_width, p->outputs);
    as_shifts_block *block =
        check_zeros(div_up(s->out_height, p->reg_rows) * tiles * (int64_t)sizeof *block, 0);
    as_shifts_piece *piece =
        check_zeros(s->out_height * tiles * p->vectors * (int64_t)sizeof *piece, 0);
    int64_t pieces = 0;
    for (int64_t top = 0; top < s->out_height; top += p->reg_rows)
        for (int64_t left = 0; left < s->out_width; left += p->outputs) {
            const int64_t end = smaller(left + p->outputs, s->out_width);
            const int64_t rows = smaller(p->reg_rows, s->out_height - top);
            block[d->block_count++] = (as_shifts_block){
                .rows = rows, .vectors = p->vectors, .top = top, .left = left,
                .first_piece = pieces,
                .whole = rows == 1 && end - left == p->vectors * d->isa->lanes};
            for (int64_t i = 0; i < rows; ++i, pieces += p->vectors)
                cut_row(p, top + i, left, end, piece + pieces);
        }
    d->block = block, d->piece = piece;
}

static layer_place shifts_place(const layer *made, int64_t k, int64_t c, int64_t r, int64_t s)
{
    const as_direct_shifts *d = &made->of.shifts;
    const as_shape *shape = &d->walk;
    const axis rows = rows_of(shape), columns = columns_of(shape);
    const int64_t slab = c * d->plane_count + plane_of(&rows, &columns, r, s);
    const int64_t group = k / group_out(shape), down = r * shape->dilation_h / shape->stride_h;
    const int64_t right = s * shape->dilation_w / shape->stride_w;
    const int64_t channel = (group * d->slab_blocks + slab / d->slab_block) * group_out(shape) +
                            k % group_out(shape);
    const int64_t row = d->block[0].vectors * d->isa->lanes;
    return (layer_place){
        channel * d->parts + d->parts - 1 - right,
        (slab % d->slab_block * d->slab_pitch + down * row) * (int64_t)sizeof(float)};
}

static int run_shifts(layer *made, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    return as_direct_shifts_run(&made->of.shifts, x, out, images, seconds);
}

static void make_shifts(layer *made, as_shape walk)
{
    const layer_spec *spec = &made->spec;
    as_direct_shifts *d = &made->of.shifts;
    const axis rows = rows_of(&walk), columns = columns_of(&walk);
    *d = (as_direct_shifts){.shape = spec->shape, .walk = walk, .isa = spec->isa,
                            .relu = spec->relu, .past_caches = (int)check_below(2),
                            .bias = spec->bias, .team = layer_team(made, walk.out_channels, 1)};
    place_residues(&rows, &columns, &d->plane_row, &d->plane_column);
    const plan p = choose(d, &rows, &columns);
    cut_blocks(&p);
    layer_pack(made, walk.out_channels * d->slab_blocks * d->parts, AS_SHIFTS_AHEAD, shifts_place,
               &d->ptr, &d->off, &d->val);
    const int64_t channels = smaller(layer_most_units(made), group_out(&walk));
    d->window = layer_buffers(spec->threads, d->slab_block * d->slab_pitch, 1);
    d->sums = layer_buffers(spec->threads, channels * d->most_vectors * spec->isa->lanes, 1);
    made->run = run_shifts;
}

static void make_rows(layer *made)
{
    make_shifts(made, made->spec.shape);
}

static void make_one_row(layer *made)
{
    as_shape walk = made->spec.shape;
    walk.width *= walk.height, walk.out_width *= walk.out_height;
    walk.height = walk.out_height = 1;
    make_shifts(made, walk);
}

const layer_method shifts_methods[] = {{"shifts", NULL, make_rows},
                                       {"shifts, in one row", layer_is_pointwise, make_one_row},
                                       {NULL, NULL, NULL}};
