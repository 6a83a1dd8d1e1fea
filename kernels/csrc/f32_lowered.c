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
    const int64_t n = t->n;
    const int32_t *off = t->off;
    const float *val = t->val, *in = t->in;

    AS_UNROLL for (int i = 0; i < vectors; ++i)
        acc[i] = as_splat(t->start);
    for (int64_t j = 0; j < n; ++j) {
        const float *at = in + off[j];
        const as_vec weight = as_splat(val[j]);
        AS_UNROLL for (int i = 0; i < vectors; ++i)
            acc[i] += weight * as_load_aligned(at + i * AS_LANES);
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
extern const as_lowered_kernels AS_EXPORT(as_f32_lowered);
const as_lowered_kernels AS_EXPORT(as_f32_lowered) = {.tile = {AS_COUNTS(AS_ENTRY)}};
