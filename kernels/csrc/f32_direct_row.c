/* Direct sparse convolution, row schedule: the register blocks. Contract: microkernels.h. */
#include <assert.h>
#include <stddef.h>

#include "microkernels.h"
#include "simd.h"
#include "tiles.h"

/* `rows` and `vectors` are constants after inlining, so acc[] lives in registers. */
AS_INLINE void load_sums(const as_row_tile *t, int rows, int vectors, as_vec *acc)
{
    if (t->from == NULL) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            acc[i] = as_splat(t->start);
    } else if (t->last_lanes == AS_LANES) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            acc[i] = as_load(t->from + i / vectors * t->from_pitch + i % vectors * AS_LANES);
    } else {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i) {
            const float *p = t->from + i / vectors * t->from_pitch + i % vectors * AS_LANES;
            acc[i] = i % vectors < vectors - 1 ? as_load(p) : as_load_first(p, t->last_lanes);
        }
    }
}

AS_INLINE void store_sums(const as_row_tile *t, int rows, int vectors, as_vec *acc)
{
    if (t->relu) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            acc[i] = as_relu(acc[i]);
    }
    if (t->last_lanes == AS_LANES) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            as_store(t->to + i / vectors * t->to_pitch + i % vectors * AS_LANES, acc[i]);
    } else {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i) {
            float *p = t->to + i / vectors * t->to_pitch + i % vectors * AS_LANES;
            if (i % vectors < vectors - 1)
                as_store(p, acc[i]);
            else
                as_store_first(p, acc[i], t->last_lanes);
        }
    }
}

AS_INLINE void run_tile(const as_row_tile *t, int rows, int vectors)
{
    assert(1 <= t->last_lanes && t->last_lanes <= AS_LANES);
    as_vec acc[AS_MAX_ACCUMULATORS];
    const int64_t n = t->n, pitch = t->in_pitch;
    const int32_t *off = t->off;
    const float *val = t->val, *in = t->in;

    load_sums(t, rows, vectors, acc);
    for (int64_t j = 0; j < n; ++j) {
        const float *at = in + off[j];
        const as_vec weight = as_splat(val[j]);
        AS_UNROLL for (int h = 0; h < rows; ++h) {
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                acc[h * vectors + v] += weight * as_load(at + v * AS_LANES);
            if (h < rows - 1) {
                at += pitch;
                AS_OPAQUE(at);
            }
        }
    }
    store_sums(t, rows, vectors, acc);
}

#define AS_DEFINE(rows, vectors)                              \
    static void tile_##rows##x##vectors(const as_row_tile *t) \
    {                                                         \
        run_tile(t, rows, vectors);                           \
    }
AS_TILES(AS_DEFINE)

/* The form without vectors, for strides above 1. */
static void run_pixel(const as_row_pixel *x)
{
    for (int64_t k = 0; k < x->channels; ++k) {
        float sum = x->bias[k];
        for (int64_t i = 0; i < x->parts; ++i) {
            const int64_t *list = x->ptr + k + i * x->part_step;
            for (int64_t j = list[0]; j < list[1]; ++j) sum += x->val[j] * x->in[x->off[j]];
        }
        x->out[k * x->out_step] = x->relu && sum < 0.0f ? 0.0f : sum;
    }
}

#define AS_ENTRY(rows, vectors) [rows][vectors] = tile_##rows##x##vectors,
extern const as_direct_row_kernels AS_EXPORT(as_f32_direct_row);
const as_direct_row_kernels AS_EXPORT(as_f32_direct_row) = {
    .tile = {AS_TILES(AS_ENTRY)},
    .pixel = run_pixel,
};
