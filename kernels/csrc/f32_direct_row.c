/* Direct sparse convolution, row schedule: the register blocks. Contract: microkernels.h. */
#include <assert.h>
#include <stddef.h>

#include "microkernels.h"
#include "simd.h"
#include "tiles.h"

/* A cache line: 64 bytes on every x86 with these sets and on most AArch64. */
enum { LINE_FLOATS = 16 };

/* `rows` and `vectors` are constants after inlining, so acc[] lives in registers. */
AS_INLINE void load_sums(const as_row_tile *t, int64_t k, int rows, int vectors, as_vec *acc)
{
    const float *from = t->from + (t->from ? k * t->from_step : 0);
    if (t->from == NULL) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            acc[i] = as_splat(t->start[k]);
    } else if (t->last_lanes == AS_LANES) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            acc[i] = as_load(from + i / vectors * t->from_pitch + i % vectors * AS_LANES);
    } else {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i) {
            const float *p = from + i / vectors * t->from_pitch + i % vectors * AS_LANES;
            acc[i] = i % vectors < vectors - 1 ? as_load(p) : as_load_first(p, t->last_lanes);
        }
    }
}

AS_INLINE void store_sums(const as_row_tile *t, int64_t k, int rows, int vectors, as_vec *acc)
{
    float *to = t->to + k * t->to_step;
    if (t->relu) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            acc[i] = as_relu(acc[i]);
    }
    if (t->last_lanes == AS_LANES) {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
            as_store(to + i / vectors * t->to_pitch + i % vectors * AS_LANES, acc[i]);
    } else {
        AS_UNROLL for (int i = 0; i < rows * vectors; ++i) {
            float *p = to + i / vectors * t->to_pitch + i % vectors * AS_LANES;
            if (i % vectors < vectors - 1)
                as_store(p, acc[i]);
            else
                as_store_first(p, acc[i], t->last_lanes);
        }
    }
}

/* Offsets are read AS_ROW_AHEAD nonzeros early and wait in integer registers, as in the lanes
 * schedules: an address that is known only just before its loads costs load slots. Lists follow one
 * another, so that those of the next one are there when it begins.
 *
 * A line that crosses into another one costs twice if it has to come from beyond the first level,
 * so there each vector's line is asked for one nonzero ahead; where input is near, that only takes
 * load slots. */
AS_INLINE void walk_lists(const as_row_tile *t, int rows, int vectors, int far)
{
    const int64_t pitch = t->in_pitch * (int64_t)sizeof(float);
    const float *in = t->in, *val = t->val;
    const int32_t *off = t->off;
    int64_t j = t->ptr[0];
    int64_t first = off[j], second = off[j + 1], third = off[j + 2], fourth = off[j + 3];
    const int64_t end_of_all = t->ptr[t->lists];
    const uintptr_t next = far ? (uintptr_t)t->next : 0;

    for (int64_t k = 0; k < t->lists; ++k) {
        as_vec acc[AS_MAX_ACCUMULATORS];
        load_sums(t, k, rows, vectors, acc);
        for (const int64_t end = t->ptr[k + 1]; j < end; ++j) {
            if (!far)
                AS_LOOP_BEGIN("row", rows, vectors);
            const char *at = (const char *)(in + first);
            AS_OPAQUE(at); /* a sum of two registers in each load would be one operation more */
            const uintptr_t then = j + 1 < end_of_all ? (uintptr_t)(in + second) : next;
            const uintptr_t ahead = then - (uintptr_t)at;
            first = second, second = third, third = fourth, fourth = off[j + AS_ROW_AHEAD];
            const as_vec weight = as_splat(val[j]);
            AS_UNROLL for (int h = 0; h < rows; ++h) {
                AS_UNROLL for (int v = 0; v < vectors; ++v) {
                    acc[h * vectors + v] += weight * as_load((const float *)at + v * AS_LANES);
                    if (far && v * AS_LANES % LINE_FLOATS == 0)
                        __builtin_prefetch((const void *)((uintptr_t)at + ahead +
                                                          v * sizeof(as_vec)));
                }
                if (h < rows - 1) {
                    at += pitch;
                    AS_OPAQUE(at);
                }
            }
            if (!far)
                AS_LOOP_END(first);
        }
        store_sums(t, k, rows, vectors, acc);
    }
}

AS_INLINE void run_tile(const as_row_tile *t, int rows, int vectors)
{
    assert(1 <= t->last_lanes && t->last_lanes <= AS_LANES);
    if (t->next != NULL)
        walk_lists(t, rows, vectors, 1);
    else
        walk_lists(t, rows, vectors, 0);
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
