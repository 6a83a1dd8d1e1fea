/* Sparse products of Winograd's domain: several lists side by side. Contract: winograd.h. */
#include <stddef.h>

#include "simd.h"
#include "tiles.h"
#include "winograd.h"

/* `lists` and `vectors` are constants after inlining, so that the sums live in registers. Lists of a
 * group are equally long: one end of a loop, and so one branch that may be mispredicted, for all. */
AS_INLINE void run_lists(const as_winograd_lists *t, int lists, int vectors)
{
    const int64_t step = t->to_step;
    const int32_t *off = t->off + t->ptr[0], *row = t->row;
    const float *val = t->val + t->ptr[0];
    for (int64_t g = 0; g < t->groups; ++g, row += lists) {
        as_vec sum[AS_MAX_ACCUMULATORS];
        const int32_t *const end = t->off + t->ptr[g + 1];
        AS_UNROLL for (int l = 0; l < lists; ++l) {
            const float *from = t->to + row[l] * step;
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                sum[l * vectors + v] = t->add ? as_load_aligned(from + v * AS_LANES) : (as_vec){0};
        }
        for (; off != end; off += lists, val += lists) {
            AS_UNROLL for (int l = 0; l < lists; ++l) {
                const char *at = (const char *)t->in + off[l];
                AS_OPAQUE(at); /* a sum of two registers in each load would be one operation more */
                const as_vec weight = as_splat(val[l]);
                AS_UNROLL for (int v = 0; v < vectors; ++v)
                    sum[l * vectors + v] += weight * as_load_aligned((const float *)at + v * AS_LANES);
            }
        }
        AS_UNROLL for (int l = 0; l < lists; ++l) {
            float *to = t->to + row[l] * step;
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                as_store_aligned(to + v * AS_LANES, sum[l * vectors + v]);
        }
    }
}

#define AS_DEFINE(lists, vectors)                                     \
    static void lists_##lists##x##vectors(const as_winograd_lists *t) \
    {                                                                 \
        run_lists(t, lists, vectors);                                 \
    }
AS_LISTS(AS_DEFINE)

#define AS_ENTRY(lists, vectors) [lists][vectors] = lists_##lists##x##vectors,
extern const as_winograd_lists_kernels AS_EXPORT(as_f32_winograd_lists);
const as_winograd_lists_kernels AS_EXPORT(as_f32_winograd_lists) = {.run = {AS_LISTS(AS_ENTRY)}};
