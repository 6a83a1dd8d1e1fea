/* Winograd layers, packed as products.h says, with weights of the Winograd domain. */
#include <math.h>

#include "winograd_numbers.h"

/* ---- layout ---- */

enum { MOST_LANES = 16 };

/* Pieces of neighbours where all lanes of a vector are such; else the vector is apart. */
static void place_pieces(as_winograd *d, int64_t vectors)
{
    const int64_t lanes = d->isa->lanes, m = d->tile_outputs;
    as_winograd_piece *out = check_zeros(vectors * m * (int64_t)sizeof *out, 0);
    int64_t *kind = check_zeros(vectors * (int64_t)sizeof *kind, 0);
    d->out_piece = out, d->out_kind = kind;
    for (int64_t v = 0; v < vectors; ++v)
        kind[v] = winograd_pieces(d->place + v * lanes, lanes, m, out + v * m);
}

/* Pictures are read where they are if rows of tiles are long enough that two meet in a piece at most. */
static void place_windows(as_winograd *d, int64_t vectors)
{
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, m = d->tile_outputs;
    const int64_t in_image = d->tile_rows * d->tile_columns;
    if (lanes != MOST_LANES || d->tile_columns < lanes / m - 1)
        return;
    const winograd_picture picture = {
        .variant = d->variant, .lanes = lanes, .across = d->tile_columns, .in_image = in_image,
        .tiles = d->images * in_image, .pad_h = s->pad_h, .pad_w = s->pad_w, .height = s->height,
        .width = s->width, .image_step = s->channels * s->height * s->width};
    as_winograd_window *window = check_zeros(vectors * m * (int64_t)sizeof *window, 0);
    int64_t *kind = check_zeros(vectors * (int64_t)sizeof *kind, 0);
    for (int64_t v = 0; v < vectors; ++v)
        kind[v] = winograd_windows(&picture, v * lanes, window + v * m);
    d->in_window = window, d->in_kind = kind;
}

static void place_tiles(as_winograd *d)
{
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, m = d->tile_outputs;
    const int64_t in_image = d->tile_rows * d->tile_columns, tiles = d->images * in_image;
    const int64_t vectors = div_up(tiles, lanes);
    int64_t *start = check_zeros(vectors * lanes * (int64_t)sizeof *start, 0);
    as_winograd_place *place = check_zeros(vectors * lanes * (int64_t)sizeof *place, 1);
    int64_t *whole = check_zeros(vectors * (int64_t)sizeof *whole, 0);
    for (int64_t v = 0; v < vectors; ++v) whole[v] = 1;
    for (int64_t i = 0; i < vectors * lanes; ++i) {
        const int64_t tile = smaller(i, tiles - 1); /* the lanes behind look at the last one */
        const int64_t image = tile / in_image, row = tile % in_image / d->tile_columns * m;
        const int64_t column = tile % d->tile_columns * m;
        start[i] = image * d->plane_size + row * d->plane_pitch + column;
        place[i].place = image * layer_out_size(s) + row * s->out_width + column;
        place[i].rows = i < tiles ? (int32_t)smaller(m, s->out_height - row) : 0;
        place[i].columns = i < tiles ? (int32_t)smaller(m, s->out_width - column) : 0;
        whole[i / lanes] &= place[i].rows == m && place[i].columns == m;
    }
    d->start = start, d->place = place, d->whole = whole;
    place_pieces(d, vectors);
    place_windows(d, vectors);
}

static void choose(as_winograd *d, int sparse)
{
    enum { OVER_READ = 3 };
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, m = d->tile_outputs;
    d->tile_rows = div_up(s->out_height, m), d->tile_columns = div_up(s->out_width, m);
    d->images = check_from(1, 3);
    d->chunk_vectors = check_from(1, div_up(d->images * d->tile_rows * d->tile_columns, lanes));
    d->reg_vectors = check_from(1, AS_WINOGRAD_BLOCK_VECTORS);
    if (sparse) {
        do
            d->reg_lists = check_from(1, AS_WINOGRAD_LISTS),
            d->reg_vectors = check_from(1, AS_WINOGRAD_VECTORS);
        while (d->isa->winograd_products->lists[d->reg_lists][d->reg_vectors] == NULL);
        d->in_block = check_from(1, group_in(s));
    }
    d->reg_count = check_from(1, AS_DENSE_MOST(d->isa->registers));
    d->out_block = check_from(1, group_out(s));
    d->plane_pitch = m * d->tile_columns + d->tile - m + OVER_READ + check_below(3);
    d->plane_size = (m * d->tile_rows + d->tile - m) * d->plane_pitch;
    const int64_t slots = group_in(s) + (sparse ? div_up(group_in(s), d->in_block) : 0);
    d->step_size = slots * d->reg_vectors * lanes;
    d->transformed_pitch =
        div_up(d->chunk_vectors, d->reg_vectors) * d->step_size + check_below(3) * lanes;
    d->sums_pitch = ((d->out_block + sparse) * d->chunk_vectors + check_below(3)) * lanes;
}

/* ---- weights ---- */

/* Weight of position q, output channel k and the group's input channel c. */
static float weight_at(const layer *made, int64_t q, int64_t k, int64_t c)
{
    const as_shape *s = &made->spec.shape;
    return made->transformed[(q * s->out_channels + k) * group_in(s) + c];
}

static void draw_weights(layer *made, int sparse)
{
    const as_winograd *d = &made->of.winograd;
    const int64_t count = d->tile * d->tile * d->shape.out_channels * group_in(&d->shape);
    float *weights = check_floats(count, 0);
    for (int64_t i = 0; i < count; ++i)
        if (sparse && check_below(2))
            weights[i] = 0.0f;
    made->transformed = weights;
}

/* Where the streams of a sparse layer are written. */
typedef struct {
    int64_t *ptr;
    int32_t *off, *row;
    float *val;
    int64_t groups, entries;
} streams;

/* One group of lists: output channels k .. of position q, input channels c .. before c_end. */
static void pack_group(const layer *made, streams *to, int64_t q, int64_t first, int64_t k,
                       int64_t size, int64_t c, int64_t c_end)
{
    const as_winograd *d = &made->of.winograd;
    const int64_t beside = d->reg_lists, step = d->reg_vectors * d->isa->lanes * 4;
    int64_t rounds = 0;
    for (int64_t l = 0; l < beside; ++l) {
        int64_t n = 0;
        for (int64_t i = c; k + l < size && i < c_end; ++i)
            n += weight_at(made, q, first + k + l, i) != 0.0f;
        rounds = larger(rounds, n);
    }
    for (int64_t l = 0; l < beside; ++l) {
        int64_t e = to->entries + l;
        for (int64_t i = c; k + l < size && i < c_end; ++i) {
            const float weight = weight_at(made, q, first + k + l, i);
            if (weight != 0.0f)
                to->off[e] = (int32_t)((i - c) * step), to->val[e] = weight, e += beside;
        }
        for (; e < to->entries + rounds * beside; e += beside)
            to->off[e] = (int32_t)((c_end - c) * step), to->val[e] = 0.0f;
        to->row[to->groups * beside + l] = (int32_t)smaller(k + l, size);
    }
    to->entries += rounds * beside;
    to->ptr[++to->groups] = to->entries;
}

static void pack_sparse(layer *made)
{
    as_winograd *d = &made->of.winograd;
    const as_shape *s = &d->shape;
    const int64_t positions = d->tile * d->tile, depth = group_in(s);
    const int64_t most = positions * s->out_channels * depth; /* groups of one list */
    streams to = {.ptr = check_zeros((most + 1) * (int64_t)sizeof(int64_t), 0),
                  .off = check_zeros(most * d->reg_lists * (int64_t)sizeof(int32_t), 0),
                  .row = check_zeros(most * d->reg_lists * (int64_t)sizeof(int32_t), 0),
                  .val = check_zeros(most * d->reg_lists * (int64_t)sizeof(float), 0)};
    for (int64_t g = 0; g < s->out_channels; g += group_out(s))
        for (int64_t first = g; first < g + group_out(s); first += d->out_block) {
            const int64_t size = smaller(d->out_block, g + group_out(s) - first);
            for (int64_t q = 0; q < positions; ++q)
                for (int64_t c = 0; c < depth; c += d->in_block)
                    for (int64_t k = 0; k < size; k += d->reg_lists)
                        pack_group(made, &to, q, first, k, size, c,
                                   smaller(c + d->in_block, depth));
        }
    d->ptr = to.ptr, d->off = to.off, d->val = to.val, d->row = to.row;
}

static void pack_dense(layer *made)
{
    as_winograd *d = &made->of.winograd;
    const as_shape *s = &d->shape;
    const int64_t positions = d->tile * d->tile, depth = group_in(s);
    float *to = check_zeros(positions * s->out_channels * depth * (int64_t)sizeof(float), 0);
    d->weights = to;
    for (int64_t g = 0; g < s->out_channels; g += group_out(s))
        for (int64_t first = g; first < g + group_out(s); first += d->out_block) {
            const int64_t last = smaller(first + d->out_block, g + group_out(s));
            for (int64_t q = 0; q < positions; ++q)
                for (int64_t k = first; k < last; k += d->reg_count)
                    for (int64_t i = 0; i < depth; ++i)
                        for (int64_t j = k; j < smaller(k + d->reg_count, last); ++j)
                            *to++ = weight_at(made, q, j, i);
        }
}

/* ---- the reference ---- */

/* Products of one tile, summed over the input channels; `corner`: its first input. */
static void multiply_tile(const layer *made, const float *image, int64_t k, int64_t corner_y,
                          int64_t corner_x, winograd_tile *sums)
{
    const as_winograd *d = &made->of.winograd;
    const as_shape *s = &d->shape;
    *sums = (winograd_tile){0};
    for (int64_t c = 0; c < group_in(s); ++c) {
        const float *plane = image + (k / group_out(s) * group_in(s) + c) * s->height * s->width;
        winograd_tile v = {0};
        for (int64_t i = 0; i < d->tile * d->tile; ++i) {
            const int64_t y = corner_y + i / d->tile, x = corner_x + i % d->tile;
            if (0 <= y && y < s->height && 0 <= x && x < s->width)
                v.value[i] = plane[y * s->width + x];
            v.magnitude[i] = fabs(v.value[i]);
        }
        winograd_into(d->variant, &v);
        for (int64_t q = 0; q < d->tile * d->tile; ++q) {
            const double weight = weight_at(made, q, k, c);
            sums->value[q] += weight * v.value[q];
            sums->magnitude[q] += fabs(weight) * v.magnitude[q];
        }
    }
}

static int tile_is_right(const layer *made, const float *image, int64_t k, int64_t row,
                         int64_t column, const float *out)
{
    const layer_spec *spec = &made->spec;
    const as_winograd *d = &made->of.winograd;
    const as_shape *s = &d->shape;
    const int64_t m = d->tile_outputs;
    winograd_tile y;
    multiply_tile(made, image, k, row - s->pad_h, column - s->pad_w, &y);
    winograd_out_of(d->variant, &y);
    int right = 1;
    for (int64_t i = 0; i < m * m; ++i) {
        if (row + i / m >= s->out_height || column + i % m >= s->out_width)
            continue;
        const double sum = y.value[i] + spec->bias[k];
        right &= check_is_near(out[(row + i / m) * s->out_width + column + i % m],
                               spec->relu && sum < 0.0 ? 0.0 : sum,
                               y.magnitude[i] + fabs(spec->bias[k]),
                               winograd_roundings(d->variant) + group_in(s) + 1);
    }
    return right;
}

static int is_right(const layer *made, const float *x, const float *out, int64_t images)
{
    const as_winograd *d = &made->of.winograd;
    const as_shape *s = &d->shape;
    int right = 1;
    for (int64_t n = 0; n < images; ++n, x += layer_x_size(s))
        for (int64_t k = 0; k < s->out_channels; ++k, out += s->out_height * s->out_width)
            for (int64_t row = 0; row < s->out_height; row += d->tile_outputs)
                for (int64_t column = 0; column < s->out_width; column += d->tile_outputs)
                    right &= tile_is_right(made, x, k, row, column, out);
    return right;
}

/* ---- layers ---- */

static int run_winograd(layer *made, const float *x, float *out, int64_t images,
                        as_seconds *seconds)
{
    return as_winograd_run(&made->of.winograd, x, out, images, seconds);
}

static int kernel_of(int variant)
{
    return winograd_side(variant) - winograd_outputs(variant) + 1;
}

static int fits(const layer_spec *spec)
{
    const as_shape *s = &spec->shape;
    const int kernel = s->kernel_h == kernel_of(AS_WINOGRAD_f2x2_3x3) ||
                       s->kernel_h == kernel_of(AS_WINOGRAD_f4x4_5x5);
    return kernel && s->kernel_w == s->kernel_h && s->stride_h * s->stride_w == 1 &&
           s->dilation_h * s->dilation_w == 1;
}

static void make_winograd(layer *made, int sparse)
{
    const layer_spec *spec = &made->spec;
    as_winograd *d = &made->of.winograd;
    int variant;
    do
        variant = (int)check_below(AS_WINOGRAD_COUNT);
    while (kernel_of(variant) != spec->shape.kernel_h);
    *d = (as_winograd){.shape = spec->shape, .isa = spec->isa, .relu = spec->relu,
                       .bias = spec->bias, .variant = variant, .tile = winograd_side(variant),
                       .tile_outputs = winograd_outputs(variant)};
    choose(d, sparse);
    place_tiles(d);
    draw_weights(made, sparse);
    (sparse ? pack_sparse : pack_dense)(made);
    const int64_t vectors = div_up(d->images * d->tile_rows * d->tile_columns, spec->isa->lanes);
    const int64_t positions = d->tile * d->tile;
    d->team = layer_team(made, div_up(vectors, d->chunk_vectors), 1);
    d->planes = layer_buffers(spec->threads, d->images * d->plane_size, 0);
    d->transformed = layer_buffers(spec->threads, positions * d->transformed_pitch, 1);
    d->sums = layer_buffers(spec->threads, positions * d->sums_pitch, 1);
    d->scratch = layer_buffers(spec->threads, positions * spec->isa->lanes, 1);
    made->run = run_winograd;
    made->is_right = is_right;
}

static void make_sparse(layer *made)
{
    make_winograd(made, 1);
}

static void make_dense(layer *made)
{
    make_winograd(made, 0);
}

const layer_method winograd_methods[] = {{"Winograd, sparse", fits, make_sparse},
                                         {"Winograd, dense", fits, make_dense},
                                         {NULL, NULL, NULL}};
