/* Products of Winograd's domain: sparse, several lists side by side, and dense. Contract: winograd.h. */
#include <stddef.h>

#include "simd.h"
#include "tiles.h"
#include "winograd.h"

enum { LINE = 64 }; /* bytes */

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

/* `count` and `vectors` are constants after inlining. */
AS_INLINE void run_block(const as_winograd_block *t, int count, int vectors)
{
    as_vec sum[AS_MAX_ACCUMULATORS];
    const int64_t in_step = t->in_step, to_step = t->to_step;
    const float *in = t->in, *weights = t->weights;
    const float *const end = weights + t->channels * count;
    uintptr_t ahead = t->ahead;
    AS_UNROLL for (int i = 0; i < count * vectors; ++i)
        sum[i] = (as_vec){0};
    for (; weights != end; weights += count, in += in_step, ahead += LINE) {
        as_vec x[AS_WINOGRAD_BLOCK_VECTORS];
        AS_UNROLL for (int v = 0; v < vectors; ++v)
            x[v] = as_load_aligned(in + v * AS_LANES);
        __builtin_prefetch((const void *)ahead);
        AS_UNROLL for (int i = 0; i < count; ++i) {
            const as_vec weight = as_splat(weights[i]);
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                sum[i * vectors + v] += weight * x[v];
        }
    }
    float *to = t->to;
    AS_UNROLL for (int i = 0; i < count; ++i) {
        AS_UNROLL for (int v = 0; v < vectors; ++v)
            as_store_aligned(to + i * to_step + v * AS_LANES, sum[i * vectors + v]);
    }
}

#define AS_DEFINE_BLOCKS(count)                               \
    static void block_##count##x1(const as_winograd_block *t) \
    {                                                         \
        run_block(t, count, 1);                               \
    }                                                         \
    static void block_##count##x2(const as_winograd_block *t) \
    {                                                         \
        run_block(t, count, 2);                               \
    }
AS_DENSE_COUNTS(AS_DEFINE_BLOCKS)

#define AS_ENTRY(lists, vectors) [lists][vectors] = lists_##lists##x##vectors,
#define AS_BLOCK_1(count) [count] = block_##count##x1,
#define AS_BLOCK_2(count) [count] = block_##count##x2,
extern const as_winograd_products AS_EXPORT(as_f32_winograd_products);
const as_winograd_products AS_EXPORT(as_f32_winograd_products) = {
    .lists = {AS_LISTS(AS_ENTRY)},
    .block = {[1] = {AS_DENSE_COUNTS(AS_BLOCK_1)}, [2] = {AS_DENSE_COUNTS(AS_BLOCK_2)}},
};
