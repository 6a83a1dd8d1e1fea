/* Direct dense convolution: the register blocks. Contract: microkernels.h. */
#include <assert.h>
#include <stddef.h>

#include "microkernels.h"
#include "shuffle.h"
#include "simd.h"
#include "tiles.h"

/* ---- channels in lanes ---- */

/* `rows`, `count` and `vectors` are constants after inlining, so sum[] lives in registers. */
AS_INLINE void channels_tile(const as_dense_tile *t, int rows, int count, int vectors)
{
    as_vec sum[AS_MAX_ACCUMULATORS];
    const int sums = rows * count * vectors, row = count * vectors;
    const int64_t taps = t->taps, row_step = t->in_row_step, weight_step = t->weight_step;
    const uintptr_t ahead_step = (uintptr_t)t->ahead_step;
    const float *in = t->in;

    AS_UNROLL for (int i = 0; i < sums; ++i)
        sum[i] = t->from ? as_load_aligned(t->from + i / row * t->to_row_step + i % row * AS_LANES)
                         : as_load_aligned(t->start + i % vectors * AS_LANES);
    uintptr_t ahead = t->ahead;
    for (int64_t c = 0; c < t->channels; ++c, in += t->channel_step) {
        const float *weights = t->weights + c * t->weight_channel;
        if (ahead != 0) {
            __builtin_prefetch((const void *)ahead, 0, 2);
            ahead += ahead_step;
        }
        for (int64_t j = 0; j < taps; ++j, weights += AS_LANES) {
            const float *at = in + t->tap[j];
            as_vec weight[AS_DENSE_VECTORS];
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                weight[v] = as_load_aligned(weights + v * weight_step);
            AS_UNROLL for (int h = 0; h < rows; ++h) {
                AS_UNROLL for (int i = 0; i < count; ++i) {
                    const as_vec x = as_splat(at[i]);
                    AS_UNROLL for (int v = 0; v < vectors; ++v)
                        sum[(h * count + i) * vectors + v] += x * weight[v];
                }
                if (h < rows - 1) {
                    at += row_step;
                    AS_OPAQUE(at);
                }
            }
        }
    }
    if (t->relu) {
        AS_UNROLL for (int i = 0; i < sums; ++i)
            sum[i] = as_relu(sum[i]);
    }
    AS_UNROLL for (int i = 0; i < sums; ++i)
        as_store_aligned(t->to + i / row * t->to_row_step + i % row * AS_LANES, sum[i]);
}

static void planes(const float *from, int64_t from_step, int64_t pixels, int64_t channels,
                   float *to, int64_t to_step)
{
    for (int64_t i = 0; i < pixels; i += AS_LANES) {
        const int count = pixels - i < AS_LANES ? (int)(pixels - i) : AS_LANES;
        as_vec v[AS_LANES];
        if (count == AS_LANES) {
            AS_UNROLL for (int j = 0; j < AS_LANES; ++j)
                v[j] = as_load_aligned(from + (i + j) * from_step);
        } else {
            AS_UNROLL for (int j = 0; j < AS_LANES; ++j)
                v[j] = j < count ? as_load_aligned(from + (i + j) * from_step) : (as_vec){0};
        }
        as_transpose(v);
        if (count == AS_LANES && channels == AS_LANES) {
            AS_UNROLL for (int k = 0; k < AS_LANES; ++k)
                as_store(to + k * to_step + i, v[k]);
        } else {
            AS_UNROLL for (int k = 0; k < AS_LANES; ++k)
                if (k < channels)
                    as_store_first(to + k * to_step + i, v[k], count);
        }
    }
}

/* ---- pixels in lanes ---- */

/* `last` is AS_LANES, as a constant, or t->last_lanes. */
AS_INLINE as_vec load_pixels(const float *p, int v, int vectors, int last)
{
    return v < vectors - 1 || last == AS_LANES ? as_load(p + v * AS_LANES)
                                               : as_load_first(p + v * AS_LANES, last);
}

AS_INLINE void pixels_tile(const as_dense_tile *t, int count, int vectors, int last)
{
    as_vec sum[AS_MAX_ACCUMULATORS];
    const int64_t taps = t->taps;
    const uintptr_t ahead_step = (uintptr_t)t->ahead_step;
    const float *in = t->in;
    float *keep = t->keep;

    AS_UNROLL for (int i = 0; i < count; ++i) {
        AS_UNROLL for (int v = 0; v < vectors; ++v)
            sum[i * vectors + v] =
                t->from ? load_pixels(t->from + i * t->to_row_step, v, vectors, last)
                        : as_splat(t->start[i]);
    }
    uintptr_t ahead = t->ahead;
    for (int64_t c = 0; c < t->channels; ++c, in += t->channel_step) {
        const float *weights = t->weights + c * t->weight_channel;
        for (int64_t j = 0; j < taps; ++j, weights += count) {
            const float *at = in + t->tap[j];
            as_vec x[AS_DENSE_PIXEL_VECTORS];
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                x[v] = load_pixels(at, v, vectors, last);
            if (ahead != 0) {
                __builtin_prefetch((const void *)ahead, 0, 2);
                ahead += ahead_step;
            }
            if (keep != NULL) {
                AS_UNROLL for (int v = 0; v < vectors; ++v)
                    as_store_aligned(keep + v * AS_LANES, x[v]);
                keep += vectors * AS_LANES;
            }
            AS_UNROLL for (int i = 0; i < count; ++i) {
                const as_vec weight = as_splat(weights[i]);
                AS_UNROLL for (int v = 0; v < vectors; ++v)
                    sum[i * vectors + v] += weight * x[v];
            }
        }
    }
    AS_UNROLL for (int i = 0; i < count; ++i) {
        AS_UNROLL for (int v = 0; v < vectors; ++v) {
            float *to = t->to + i * t->to_row_step + v * AS_LANES;
            const as_vec out = t->relu ? as_relu(sum[i * vectors + v]) : sum[i * vectors + v];
            if (v < vectors - 1 || last == AS_LANES)
                as_store(to, out);
            else
                as_store_first(to, out, last);
        }
    }
}

AS_INLINE void pixels_tile_of_any_width(const as_dense_tile *t, int count, int vectors)
{
    assert(1 <= t->last_lanes && t->last_lanes <= AS_LANES);
    if (t->last_lanes == AS_LANES)
        pixels_tile(t, count, vectors, AS_LANES);
    else
        pixels_tile(t, count, vectors, t->last_lanes);
}

/* ---- the copy of the input ---- */

/* With a constant step compilers turn this into loads and shuffles of whole vectors. */
AS_INLINE void sort_columns(const float *restrict from, int64_t count, int64_t step,
                            float *restrict to, int64_t to_step)
{
    const int64_t whole = count / step;
    for (int64_t i = 0; i < whole; ++i)
        for (int64_t p = 0; p < step; ++p) to[p * to_step + i] = from[i * step + p];
    for (int64_t p = 0; p < count - whole * step; ++p)
        to[p * to_step + whole] = from[whole * step + p];
}

static void sort(const float *from, int64_t count, int64_t step, float *to, int64_t to_step)
{
    if (step == 2)
        sort_columns(from, count, 2, to, to_step);
    else if (step == 4)
        sort_columns(from, count, 4, to, to_step);
    else
        sort_columns(from, count, step, to, to_step);
}

/* ---- the roof ---- */

static int64_t roof(int64_t steps, float *seen)
{
    enum { SUMS = 2 * AS_DENSE_MOST(AS_REGISTERS) };
    as_vec sum[SUMS];
    as_vec factor = as_splat(*seen);
    const as_vec other = as_splat(1.0f - *seen);
    AS_UNROLL for (int i = 0; i < SUMS; ++i)
        sum[i] = as_splat((float)i);
    for (int64_t j = 0; j < steps; ++j) {
        AS_UNROLL for (int i = 0; i < SUMS; ++i) {
            AS_OPAQUE_VECTOR(factor); /* or one product would do for all sums */
            sum[i] += factor * other;
        }
    }
    AS_UNROLL for (int i = 1; i < SUMS; ++i)
        sum[0] += sum[i];
    *seen = sum[0][0];
    return steps * SUMS * AS_LANES * 2;
}

/* ---- the tables ---- */

#define AS_DEFINE_CHANNELS(rows, count)                             \
    static void channels_##rows##x##count##x1(const as_dense_tile *t) \
    {                                                               \
        channels_tile(t, rows, count, 1);                           \
    }                                                               \
    static void channels_##rows##x##count##x2(const as_dense_tile *t) \
    {                                                               \
        channels_tile(t, rows, count, 2);                           \
    }
AS_DENSE_TILES(AS_DEFINE_CHANNELS)

#define AS_DEFINE_PIXELS(count)                             \
    static void pixels_##count##x1(const as_dense_tile *t)  \
    {                                                       \
        pixels_tile_of_any_width(t, count, 1);              \
    }                                                       \
    static void pixels_##count##x2(const as_dense_tile *t)  \
    {                                                       \
        pixels_tile_of_any_width(t, count, 2);              \
    }
#define AS_DEFINE_PIXELS_3(count)                           \
    static void pixels_##count##x3(const as_dense_tile *t)  \
    {                                                       \
        pixels_tile_of_any_width(t, count, 3);              \
    }
#define AS_DEFINE_PIXELS_4(count)                           \
    static void pixels_##count##x4(const as_dense_tile *t)  \
    {                                                       \
        pixels_tile_of_any_width(t, count, 4);              \
    }
AS_DENSE_COUNTS(AS_DEFINE_PIXELS)
AS_DENSE_COUNTS_OF_3(AS_DEFINE_PIXELS_3)
AS_DENSE_COUNTS_OF_4(AS_DEFINE_PIXELS_4)

#define AS_CHANNELS_1(rows, count) [rows][count] = channels_##rows##x##count##x1,
#define AS_CHANNELS_2(rows, count) [rows][count] = channels_##rows##x##count##x2,
#define AS_PIXELS_1(count) [count] = pixels_##count##x1,
#define AS_PIXELS_2(count) [count] = pixels_##count##x2,
#define AS_PIXELS_3(count) [count] = pixels_##count##x3,
#define AS_PIXELS_4(count) [count] = pixels_##count##x4,
extern const as_dense_direct_kernels AS_EXPORT(as_f32_dense_direct);
const as_dense_direct_kernels AS_EXPORT(as_f32_dense_direct) = {
    .channels = {[1] = {AS_DENSE_TILES(AS_CHANNELS_1)}, [2] = {AS_DENSE_TILES(AS_CHANNELS_2)}},
    .pixels = {[1] = {AS_DENSE_COUNTS(AS_PIXELS_1)},
               [2] = {AS_DENSE_COUNTS(AS_PIXELS_2)},
               [3] = {AS_DENSE_COUNTS_OF_3(AS_PIXELS_3)},
               [4] = {AS_DENSE_COUNTS_OF_4(AS_PIXELS_4)}},
    .planes = planes,
    .sort = sort,
    .roof = roof,
};
