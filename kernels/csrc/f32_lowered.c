/* Sparse matrix x lowered (im2col) matrix: the register blocks. Contract: microkernels.h. */
#include <assert.h>

#include "microkernels.h"
#include "simd.h"
#include "tiles.h"

/* `vectors` is a constant after inlining, so acc[] lives in registers. */
AS_INLINE void run_tile(const as_lowered_tile *t, int vectors)
{
    assert(1 <= t->last_lanes && t->last_lanes <= AS_LANES);
    as_vec acc[AS_MAX_ACCUMULATORS];
    const int64_t n = t->n, taps = t->taps;
    const int32_t *off = t->off;
    const float *val = t->val, *in = t->in;
    /* read early, as in f32_direct_lanes.c: an address known late costs load slots */
    int64_t first = off[0], second = off[1], third = off[2], fourth = off[3];

    AS_UNROLL for (int i = 0; i < vectors; ++i)
        acc[i] = t->from ? as_load_aligned(t->from + i * AS_LANES) : as_splat(t->start);
    if (taps == 1) {
        for (int64_t j = 0; j < n; ++j) {
            AS_LOOP_BEGIN("lowered", 1, vectors);
            const float *at = in + first;
            first = second, second = third, third = fourth, fourth = off[j + AS_LOWERED_AHEAD];
            const as_vec weight = as_splat(val[j]);
            AS_UNROLL for (int i = 0; i < vectors; ++i)
                acc[i] += weight * as_load_aligned(at + i * AS_LANES);
            AS_LOOP_END(first);
        }
    } else {
        for (int64_t j = 0; j < n; ++j) {
            int64_t row = first;
            first = second, second = third, third = fourth, fourth = off[j + AS_LOWERED_AHEAD];
            for (const float *end = val + taps; val != end; ++val, row += t->pitch) {
                const as_vec weight = as_splat(*val);
                AS_UNROLL for (int i = 0; i < vectors; ++i)
                    acc[i] += weight * as_load_aligned(in + row + i * AS_LANES);
            }
        }
    }
    if (t->relu) {
        AS_UNROLL for (int i = 0; i < vectors; ++i)
            acc[i] = as_relu(acc[i]);
    }
    AS_UNROLL for (int i = 0; i < vectors - 1; ++i)
        as_store(t->to + i * AS_LANES, acc[i]);
    as_store_first(t->to + (vectors - 1) * AS_LANES, acc[vectors - 1], t->last_lanes);
}

#define AS_DEFINE(vectors)                               \
    static void tile_##vectors(const as_lowered_tile *t) \
    {                                                    \
        run_tile(t, vectors);                            \
    }
AS_COUNTS(AS_DEFINE)

#define AS_ENTRY(vectors) [vectors] = tile_##vectors,
typedef int32_t as_places __attribute__((vector_size(4 * AS_LANES), aligned(4), may_alias));

/* Row after row of the panel: in any other order the second level takes a third longer to write. */
static void copy_rows(const as_lowered_fill *f)
{
    const int64_t vectors = f->vectors, taps = f->taps;
    float *to = f->to;
    for (int64_t c = 0; c < f->channels; ++c) {
        const uint16_t *inside = f->inside;
        const uintptr_t picture = (uintptr_t)(f->in + c * f->in_step);
        for (int64_t t = 0; t < taps; ++t, inside += f->inside_step, to += f->to_step) {
            /* may lie before the picture, where nothing is chosen */
            const int64_t first = (int64_t)f->place[0] + f->tap[t];
            const uintptr_t at = picture + (uintptr_t)(first * (int64_t)sizeof(float));
            for (int64_t v = 0; v < vectors; ++v)
                as_store_aligned(to + v * AS_LANES,
                                 as_load_chosen(at + (uintptr_t)v * sizeof(as_vec), inside[v]));
        }
    }
}

static void gather_rows(const as_lowered_fill *f)
{
    const int64_t vectors = f->vectors, taps = f->taps;
    float *to = f->to;
    for (int64_t c = 0; c < f->channels; ++c) {
        const uint16_t *inside = f->inside;
        const float *picture = f->in + c * f->in_step;
        for (int64_t t = 0; t < taps; ++t, inside += f->inside_step, to += f->to_step) {
            const int32_t tap = f->tap[t];
            for (int64_t v = 0; v < vectors; ++v) {
                const as_mask at = *(const as_places *)(f->place + v * AS_LANES) + tap;
                as_store_aligned(to + v * AS_LANES, as_gather_chosen(picture, at, inside[v]));
            }
        }
    }
}

static void fill_rows(const as_lowered_fill *f)
{
    assert(1 <= f->vectors && f->vectors <= AS_MAX_ACCUMULATORS);
    (f->neighbours ? copy_rows : gather_rows)(f);
}

extern const as_lowered_kernels AS_EXPORT(as_f32_lowered);
const as_lowered_kernels AS_EXPORT(as_f32_lowered) = {.tile = {AS_COUNTS(AS_ENTRY)},
                                                       .fill = fill_rows};
