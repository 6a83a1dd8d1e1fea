/* Chains of lanes layers. What links them is found anew here, pixel by pixel. */
#include <math.h>

#include "lanes_layers.h"

enum { MOST_LAYERS = 4 };

typedef struct {
    lanes_mode mode;
    int count, threads, per_image;
    layer *made[MOST_LAYERS];
    as_lanes_link link[MOST_LAYERS];
    as_direct_lanes layer[MOST_LAYERS]; /* with the chain's buffers */
} chain;

/* ---- links ---- */

/* What one layer's tiles hold: the pixel of each lane's positions, and the vector of its sums. */
typedef struct {
    int64_t rows, columns;
    int64_t *vector; /* of each position, counted through the register blocks */
    int64_t *first;  /* of each block */
} tiles;

static tiles tiles_of(const as_direct_lanes *d, lanes_mode mode)
{
    const axis rows = rows_of(&d->shape), columns = columns_of(&d->shape);
    tiles t = {.rows = mode == FLAT ? 1 : d->in_rows - rows.reach,
               .columns = d->in_columns - columns.reach -
                          (mode == FLAT ? rows.reach * d->plane_pitch : 0)};
    t.vector = check_zeros(t.rows * t.columns * (int64_t)sizeof(int64_t), 0);
    t.first = check_zeros(d->block_count * (int64_t)sizeof(int64_t), 0);
    int64_t vectors = 0;
    for (int64_t i = 0; i < d->block_count; ++i) {
        const as_lanes_block *b = &d->block[i];
        const int64_t top = b->in / d->isa->lanes / d->in_columns;
        const int64_t left = b->in / d->isa->lanes % d->in_columns;
        t.first[i] = vectors;
        for (int64_t j = 0; j < b->rows * b->vectors; ++j, ++vectors)
            t.vector[(top + j / b->vectors) * t.columns + left + j % b->vectors] = vectors;
    }
    return t;
}

/* Which lane has each pixel of the output (any one with images in lanes), at which position. */
static void find_pixels(const as_direct_lanes *d, const tiles *t, lanes_mode mode, int64_t *lane,
                        int64_t *position)
{
    for (int64_t l = 0; l < (mode == IMAGES ? 1 : d->isa->lanes); ++l)
        for (int64_t i = 0; i < t->rows * t->columns; ++i) {
            const int64_t start = mode == IMAGES ? 0 : d->lane_start[l];
            const int64_t place = start + i / t->columns * d->plane_pitch + i % t->columns;
            const int64_t y = place / d->plane_pitch, x = place % d->plane_pitch;
            if (y < d->shape.out_height && x < d->shape.out_width)
                lane[y * d->shape.out_width + x] = l, position[y * d->shape.out_width + x] = i;
        }
}

/* The vector of sums that position i of the next layer's slab is made of; -1: all is 0. */
static int64_t source_of(const as_direct_lanes *next, lanes_mode mode, const tiles *t,
                         const int64_t *lane, const int64_t *position, int64_t i, int32_t *order)
{
    const as_shape *s = &next->shape;
    int64_t source = -1;
    for (int64_t l = 0; l < next->isa->lanes; ++l) {
        const int64_t start = mode == IMAGES ? 0 : next->lane_start[l];
        const int64_t place =
            start + i / next->in_columns * next->plane_pitch + i % next->in_columns;
        const int64_t y = place / next->plane_pitch - s->pad_h;
        const int64_t x = place % next->plane_pitch - s->pad_w;
        order[l] = -1;
        if (y < 0 || y >= s->height || x < 0 || x >= s->width)
            continue;
        order[l] = (int32_t)(mode == IMAGES ? l : lane[y * s->width + x]);
        const int64_t vector = t->vector[position[y * s->width + x]];
        check_that(source < 0 || source == vector, "a vector that several are needed for");
        source = vector;
    }
    return source;
}

/* Whether register block b of a layer looks at position i of a slab. */
static int looks_at(const as_direct_lanes *d, const as_lanes_block *b, int64_t i)
{
    const as_shape *s = &d->shape;
    const int64_t corner = b->in / d->isa->lanes;
    const int64_t down = d->in_rows == 1 ? d->plane_pitch : d->in_columns;
    for (int64_t j = 0; j < b->rows * b->vectors; ++j)
        for (int64_t tap = 0; tap < s->kernel_h * s->kernel_w; ++tap)
            if (i == corner + j / b->vectors * d->in_columns + j % b->vectors +
                         tap / s->kernel_w * s->dilation_h * down +
                         tap % s->kernel_w * s->dilation_w)
                return 1;
    return 0;
}

/* Every vector of a slab has an order of its own. */
static void make_moves(chain *c, int i, const tiles *t, const int64_t *source)
{
    const as_direct_lanes *before = &c->layer[i], *next = &c->layer[i + 1];
    as_lanes_link *link = &c->link[i];
    const int64_t lanes = before->isa->lanes, size = next->in_rows * next->in_columns;
    const as_direct_lanes *mover = link->whole ? before : next;
    int64_t *ptr = check_zeros((mover->block_count + 1) * (int64_t)sizeof *ptr, 0);
    as_lanes_move *move = check_zeros(mover->block_count * size * (int64_t)sizeof *move, 0);
    int64_t moves = 0;
    for (int64_t b = 0; b < mover->block_count; ++b, ptr[b] = moves)
        for (int64_t v = 0; v < size; ++v) {
            const as_lanes_block *block = &mover->block[b];
            const int64_t from = link->whole ? source[v] - t->first[b] : source[v];
            const int its = link->whole ? from >= 0 && from < block->rows * block->vectors
                                        : looks_at(next, block, v);
            if (source[v] >= 0 && its)
                move[moves++] = (as_lanes_move){.from = (int32_t)(from * lanes),
                                                .to = (int32_t)(v * lanes),
                                                .order = (int32_t)(v * lanes)};
        }
    link->ptr = ptr, link->move = move;
}

static void make_link(chain *c, int i)
{
    as_direct_lanes *before = &c->layer[i], *next = &c->layer[i + 1];
    as_lanes_link *link = &c->link[i];
    const int64_t lanes = before->isa->lanes, size = next->in_rows * next->in_columns;
    const int64_t pixels = before->shape.out_height * before->shape.out_width;
    const tiles t = tiles_of(before, c->mode);
    int64_t *lane = check_zeros(pixels * (int64_t)sizeof(int64_t), 0);
    int64_t *position = check_zeros(pixels * (int64_t)sizeof(int64_t), 0);
    int64_t *source = check_zeros(size * (int64_t)sizeof(int64_t), 0);
    int32_t *order = check_zeros(size * lanes * (int64_t)sizeof(int32_t), 0);
    find_pixels(before, &t, c->mode, lane, position);
    for (int64_t v = 0; v < size; ++v)
        source[v] = source_of(next, c->mode, &t, lane, position, v, order + v * lanes);
    *link = (as_lanes_link){.whole = (int)check_below(2), .order = order};
    make_moves(c, i, &t, source);
    int64_t *first = check_zeros(before->block_count * (int64_t)sizeof(int64_t), 0);
    for (int64_t b = 0; b < before->block_count; ++b) first[b] = t.first[b] * lanes;
    link->first = first;
    link->pitch = link->whole ? next->slab_pitch
                              : (t.rows * t.columns + check_below(3)) * lanes;
    link->ready = layer_buffers(c->threads / c->per_image,
                                before->shape.out_channels * link->pitch, 1);
    before->next = next->before = link;
    next->x = NULL;
    if (!link->whole)
        next->window = layer_buffers(c->threads, next->slab_block * next->slab_pitch, 1);
}

/* ---- layers ---- */

/* A shape that keeps the picture's size. */
static as_shape draw_shape(int64_t channels, int64_t height, int64_t width)
{
    as_shape s = {.channels = channels, .height = height, .width = width, .out_height = height,
                  .out_width = width, .stride_h = 1, .stride_w = 1,
                  .kernel_h = 1 + 2 * check_below(3), .kernel_w = 1 + 2 * check_below(3),
                  .dilation_h = check_from(1, 2), .dilation_w = check_from(1, 2),
                  .groups = channels % 2 ? 1 : check_from(1, 2)};
    s.out_channels = s.groups * check_from(1, 4);
    s.pad_h = s.dilation_h * (s.kernel_h - 1) / 2, s.pad_w = s.dilation_w * (s.kernel_w - 1) / 2;
    return s;
}

/* Rows of a flat plane are as far apart in all layers as in the one that needs most. */
static void make_chain(chain *c, const as_isa *isa)
{
    const int64_t height = check_from(1, 9), width = check_from(1, 20);
    layer_spec spec[MOST_LAYERS];
    int64_t channels = check_from(1, 5), pitch = 0;
    for (int i = 0; i < c->count; ++i) {
        const as_shape shape = draw_shape(channels, height, width);
        spec[i] = layer_random(isa, shape, c->threads, c->per_image);
        pitch = larger(pitch, lanes_flat_pitch(&shape));
        channels = shape.out_channels;
    }
    for (int i = 0; i < c->count; ++i) {
        c->made[i] = check_zeros(sizeof(layer), 1);
        c->made[i]->spec = spec[i];
        lanes_make(c->made[i], c->mode, pitch, 0);
        c->layer[i] = c->made[i]->of.lanes;
    }
    for (int i = 0; i + 1 < c->count; ++i) make_link(c, i);
}

/* ---- the reference ---- */

/* One image through a layer, with the magnitudes of all that is added up on the way. */
static void convolve(const layer_spec *spec, const double *x, const double *x_magnitude,
                     double *out, double *out_magnitude)
{
    const as_shape *s = &spec->shape;
    const int64_t taps = s->kernel_h * s->kernel_w, plane = s->height * s->width;
    for (int64_t i = 0; i < s->out_channels * plane; ++i) {
        const int64_t k = i / plane, p = i % plane / s->width, q = i % s->width;
        double sum = spec->bias[k], magnitude = fabs(sum);
        for (int64_t j = 0; j < group_in(s) * taps; ++j) {
            const int64_t y = p + j % taps / s->kernel_w * s->dilation_h - s->pad_h;
            const int64_t z = q + j % s->kernel_w * s->dilation_w - s->pad_w;
            const int64_t c = k / group_out(s) * group_in(s) + j / taps;
            const double weight = spec->weights[k * group_in(s) * taps + j];
            if (y < 0 || y >= s->height || z < 0 || z >= s->width)
                continue;
            sum += weight * x[c * plane + y * s->width + z];
            magnitude += fabs(weight) * x_magnitude[c * plane + y * s->width + z];
        }
        out[i] = spec->relu && sum < 0.0 ? 0.0 : sum, out_magnitude[i] = magnitude;
    }
}

static double *doubles(int64_t count)
{
    return check_zeros(count * (int64_t)sizeof(double), 1);
}

static int image_is_right(const chain *c, const float *x, const float *out)
{
    const int64_t size = layer_x_size(&c->layer[0].shape);
    double *value = doubles(size), *magnitude = doubles(size);
    int64_t terms = 0;
    for (int64_t i = 0; i < size; ++i) value[i] = x[i], magnitude[i] = fabs(value[i]);
    for (int i = 0; i < c->count; ++i) {
        const as_shape *s = &c->layer[i].shape;
        double *sum = doubles(layer_out_size(s)), *its_magnitude = doubles(layer_out_size(s));
        convolve(&c->made[i]->spec, value, magnitude, sum, its_magnitude);
        value = sum, magnitude = its_magnitude;
        terms += group_in(s) * s->kernel_h * s->kernel_w + 1;
    }
    int right = 1;
    for (int64_t i = 0; i < layer_out_size(&c->layer[c->count - 1].shape); ++i)
        right &= check_is_near(out[i], value[i], magnitude[i], terms);
    return right;
}

/* ---- running ---- */

static void run_chain(const chain *c, int64_t images)
{
    const int64_t x_size = layer_x_size(&c->layer[0].shape);
    const int64_t out_size = layer_out_size(&c->layer[c->count - 1].shape);
    const float *x = check_floats(images * x_size, 0);
    float *out = check_floats(images * out_size, 0);
    as_seconds seconds[MOST_LAYERS];
    as_seconds **of_threads = check_zeros(c->threads * (int64_t)sizeof *of_threads, 0);
    for (int i = 0; i < c->threads; ++i)
        of_threads[i] = check_zeros(c->count * (int64_t)sizeof(as_seconds), 0);
    as_lanes_chain native = {.team = c->made[0]->team, .layer_count = c->count,
                             .layer = c->layer, .seconds = of_threads};
    const int status = as_lanes_chain_run(&native, x, out, images, seconds);
    check_that(status == AS_OK, "status");
    int right = 1;
    for (int64_t n = 0; n < images; ++n)
        right &= image_is_right(c, x + n * x_size, out + n * out_size);
    check_that(right, "sums");
}

void check_chains(const as_isa *isa)
{
    static const int teams[][2] = {{1, 1}, {2, 1}, {2, 2}, {4, 2}, {3, 3}};
    enum { ROUNDS = 30 };
    for (int mode = FLAT; mode <= IMAGES; ++mode)
        for (int i = 0; i < ROUNDS; ++i) {
            chain c = {.mode = (lanes_mode)mode, .count = 1 + i % MOST_LAYERS,
                       .threads = teams[i % 5][0], .per_image = teams[i % 5][1]};
            check_case("%s chain of %d layers, mode %d, round %d", isa->name, c.count, mode, i);
            make_chain(&c, isa);
            run_chain(&c, check_from(1, 3));
            run_chain(&c, mode == IMAGES ? isa->lanes + 1 : 5); /* nothing of before stays */
            for (int j = 0; j < c.count; ++j) layer_free(c.made[j]);
            check_release();
        }
}
