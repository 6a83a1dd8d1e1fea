/* The microkernels of direct dense convolution; contracts in microkernels.h. */
#include <math.h>

#include "check.h"

enum { CHANNELS = 2, TAPS = 3, CHANNEL_STEP = 7 };

/* Rounds floats up to whole cache lines, which every vector is a part of. */
static int64_t whole(int64_t floats)
{
    const int64_t line = AS_CHECK_ALIGNMENT / (int64_t)sizeof(float);
    return (floats + line - 1) / line * line;
}

/* A tile over 2 channels, at most 3 taps, and what its sums were before it ran. */
typedef struct {
    as_dense_tile t;
    int lanes, rows, count, vectors;
    const float *before;
} tile_case;

static void prepare(tile_case *c, int64_t in_floats, int64_t weight_floats, int64_t to_floats,
                    int aligned)
{
    as_dense_tile *t = &c->t;
    int32_t *tap = check_zeros(TAPS * (int64_t)sizeof(int32_t), 0);
    for (int j = 0; j < TAPS; ++j) tap[j] = (int32_t)check_below(5);
    tap[TAPS - 1] = 4;
    t->tap = tap, t->taps = check_below(TAPS + 1), t->channels = CHANNELS;
    t->channel_step = CHANNEL_STEP;
    t->in = check_floats((CHANNELS - 1) * CHANNEL_STEP + 4 + in_floats, 0);
    t->weights = check_floats(weight_floats, aligned);
    t->start = check_floats(whole(c->vectors * c->lanes + c->count), aligned);
    t->to = check_floats(to_floats, aligned);
    t->from = check_below(2) ? t->to : NULL;
    t->relu = (int)check_below(2);
    t->ahead = check_below(2) ? (uintptr_t)t->in : 0;
    t->ahead_step = check_below(3) * 4096;
    float *before = check_floats(to_floats, 0);
    for (int64_t i = 0; i < to_floats; ++i) before[i] = t->to[i];
    c->before = before;
}

/* `at` and `weight`: where a sum's first input and first weight are; the others follow. */
static int is_right(const tile_case *c, float got, float first, int64_t at, int64_t weight,
                    int64_t tap_step)
{
    const as_dense_tile *t = &c->t;
    double sum = first, magnitude = fabs(first);
    for (int64_t ch = 0; ch < t->channels; ++ch)
        for (int64_t j = 0; j < t->taps; ++j) {
            const float w = t->weights[weight + ch * t->weight_channel + j * tap_step];
            const double x = w * (double)t->in[at + ch * t->channel_step + t->tap[j]];
            sum += x, magnitude += fabs(x);
        }
    return check_is_near(got, t->relu && sum < 0.0 ? 0.0 : sum, magnitude, CHANNELS * TAPS);
}

static void run_channels(const as_isa *isa, int vectors, int rows, int count)
{
    tile_case c = {.lanes = isa->lanes, .rows = rows, .count = count, .vectors = vectors};
    as_dense_tile *t = &c.t;
    const int64_t lanes = isa->lanes, row = count * vectors * lanes;
    t->in_row_step = count + check_below(3);
    t->to_row_step = row + check_below(2) * whole(1);
    t->weight_channel = TAPS * lanes;
    t->weight_step = CHANNELS * t->weight_channel;
    prepare(&c, (rows - 1) * t->in_row_step + count, vectors * t->weight_step,
            (rows - 1) * t->to_row_step + row, 1);
    check_case("%s dense tile %dx%dx%d", isa->name, rows, count, vectors);
    isa->dense_direct->channels[vectors][rows][count](t);
    int right = 1;
    for (int64_t h = 0; h < rows; ++h)
        for (int64_t i = 0; i < row; ++i) {
            const int64_t pixel = i / (vectors * lanes), k = i % (vectors * lanes);
            const int64_t place = h * t->to_row_step + i;
            right &= is_right(&c, t->to[place], t->from ? c.before[place] : t->start[k],
                              h * t->in_row_step + pixel,
                              k / lanes * t->weight_step + k % lanes, lanes);
        }
    check_that(right, "sums");
    check_release();
}

static void run_pixels(const as_isa *isa, int vectors, int count, int last_lanes)
{
    tile_case c = {.lanes = isa->lanes, .rows = 1, .count = count, .vectors = vectors};
    as_dense_tile *t = &c.t;
    const int64_t columns = (vectors - 1) * isa->lanes + last_lanes;
    t->to_row_step = columns + check_below(3);
    t->weight_channel = TAPS * count;
    t->last_lanes = last_lanes;
    prepare(&c, columns, CHANNELS * t->weight_channel, (count - 1) * t->to_row_step + columns, 0);
    const int64_t kept_floats = CHANNELS * t->taps * vectors * isa->lanes;
    if (check_below(2))
        t->keep = check_floats(whole(kept_floats), 1);
    check_case("%s dense tile of %d channels, %d vectors, %d lanes", isa->name, count, vectors,
               last_lanes);
    isa->dense_direct->pixels[vectors][count](t);
    int right = 1, kept = 1;
    for (int64_t i = 0; i < (count - 1) * t->to_row_step + columns; ++i) {
        const int64_t k = i / t->to_row_step, column = i % t->to_row_step;
        if (column >= columns)
            kept &= t->to[i] == c.before[i];
        else
            right &= is_right(&c, t->to[i], t->from ? c.before[i] : t->start[k], column, k, count);
    }
    check_that(right, "sums");
    check_that(kept, "wrote between rows");
    for (int64_t i = 0; t->keep != NULL && i < kept_floats; ++i) {
        const int64_t step = i / (vectors * isa->lanes), column = i % (vectors * isa->lanes);
        const float *in = t->in + step / t->taps * t->channel_step + t->tap[step % t->taps];
        right &= t->keep[i] == (column < columns ? in[column] : 0.0f);
    }
    check_that(right, "input that was kept");
    check_release();
}

static void run_planes(const as_isa *isa, int64_t pixels, int64_t channels)
{
    const int64_t from_step = isa->lanes * check_from(1, 2), to_step = pixels + check_below(3);
    const float *from = check_floats(whole(pixels * from_step), 1);
    const int64_t size = (channels - 1) * to_step + pixels;
    float *to = check_floats(size, 0), *before = check_floats(size, 0);
    for (int64_t i = 0; i < size; ++i) before[i] = to[i];
    check_case("%s planes of %d channels, %d pixels", isa->name, (int)channels, (int)pixels);
    isa->dense_direct->planes(from, from_step, pixels, channels, to, to_step);
    int right = 1;
    for (int64_t i = 0; i < size; ++i) {
        const int64_t k = i / to_step, pixel = i % to_step;
        right &= to[i] == (pixel < pixels ? from[pixel * from_step + k] : before[i]);
    }
    check_that(right, "values");
    check_release();
}

static void run_sort(const as_isa *isa, int64_t count, int64_t step)
{
    const int64_t to_step = (count + step - 1) / step + check_below(2);
    const float *from = check_floats(count, 0);
    float *to = check_floats(step * to_step, 0);
    check_case("%s sorts %d columns, step %d", isa->name, (int)count, (int)step);
    isa->dense_direct->sort(from, count, step, to, to_step);
    int right = 1;
    for (int64_t i = 0; i < count; ++i) right &= to[i % step * to_step + i / step] == from[i];
    check_that(right, "values");
    check_release();
}

void check_dense_tiles(const as_isa *isa)
{
    const int most = AS_DENSE_MOST(isa->registers);
    int missing = 0;
    for (int vectors = 1; vectors <= AS_DENSE_VECTORS; ++vectors)
        for (int count = 1; count <= most; ++count) {
            for (int rows = 1; rows <= most / count; ++rows) {
                missing += isa->dense_direct->channels[vectors][rows][count] == NULL;
                for (int i = 0; i < 4 && !missing; ++i) run_channels(isa, vectors, rows, count);
            }
        }
    for (int vectors = 1; vectors <= AS_DENSE_PIXEL_VECTORS; ++vectors)
        for (int count = 1;
             count <= (vectors > 2 ? AS_DENSE_MOST_OF(isa->registers, vectors) : most); ++count) {
            missing += isa->dense_direct->pixels[vectors][count] == NULL;
            for (int last = 1; last <= isa->lanes && !missing; ++last)
                run_pixels(isa, vectors, count, last);
        }
    check_case("%s dense tiles", isa->name);
    check_that(!missing, "not each that fits the registers exists");
    for (int64_t pixels = 1; pixels <= 2 * isa->lanes + 1; ++pixels)
        for (int64_t channels = 1; channels <= isa->lanes; ++channels)
            run_planes(isa, pixels, channels);
    for (int64_t step = 1; step < 6; ++step)
        for (int64_t count = 0; count < 70; count += 3) run_sort(isa, count, step);
    float seen = 0.5f;
    check_that(as_roof_run(isa, 10, &seen) == 10 * 4 * (int64_t)most * isa->lanes, "roof");
    check_that(isfinite(seen), "sum of the roof");
}
