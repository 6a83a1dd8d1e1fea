/* Direct sparse convolution in lane layout: register blocks and transpositions. Contract: lanes.h.
 */
#include "lanes.h"

#include <assert.h>
#include <stddef.h>

#include "simd.h"
#include "tiles.h"
#include "transpose.h"

AS_INLINE void store_sums(const as_lanes_tile *t, float *to, int count, as_vec *acc)
{
    const int last_lanes = t->last_lanes;
    if (t->relu) {
        AS_UNROLL for (int i = 0; i < count; ++i)
            acc[i] = as_relu(acc[i]);
    }
    if (last_lanes == 0) {
        AS_UNROLL for (int i = 0; i < count; ++i)
            as_store_aligned(to + i * AS_LANES, acc[i]);
        return;
    }
    if (t->past_caches && last_lanes == AS_LANES && (uintptr_t)to % sizeof(as_vec) == 0) {
        AS_UNROLL for (int i = 0; i < count; ++i)
            as_store_past_caches(to + i * AS_LANES, acc[i]);
        return;
    }
    AS_UNROLL for (int i = 0; i < count - 1; ++i)
        as_store(to + i * AS_LANES, acc[i]);
    if (last_lanes == AS_LANES)
        as_store(to + (count - 1) * AS_LANES, acc[count - 1]);
    else
        as_store_first(to + (count - 1) * AS_LANES, acc[count - 1], last_lanes);
}

/* An address that is known only just before its loads costs 15-25 % of the load slots. So offsets
 * are read AS_LANES_AHEAD nonzeros early and wait in integer registers; moving them along is free
 * where registers are renamed. Lists follow one another, so that those of the next one are there
 * when it begins: entering a list costs its sums and, mostly, one mispredicted branch. */
AS_INLINE void run_tile(const as_lanes_tile *t, int rows, int vectors)
{
    assert(0 <= t->last_lanes && t->last_lanes <= AS_LANES);
    const char *in = (const char *)t->in;
    const int64_t pitch = t->in_pitch * (int64_t)sizeof(float);
    const int32_t *off = t->off;
    const float *val = t->val, *from = t->from;
    float *to = t->to;
    int64_t j = t->ptr[0];
    int64_t first = off[j], second = off[j + 1], third = off[j + 2], fourth = off[j + 3];

    for (int64_t k = 0; k < t->lists; ++k, to += t->to_step) {
        as_vec acc[AS_MAX_ACCUMULATORS];
        if (from == NULL) {
            AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
                acc[i] = as_splat(t->start[k]);
        } else {
            AS_UNROLL for (int i = 0; i < rows * vectors; ++i)
                acc[i] = as_load_aligned(from + i * AS_LANES);
            from += t->from_step;
        }
        for (const int64_t end = t->ptr[k + 1]; j < end; ++j) {
            AS_LOOP_BEGIN("lanes", rows, vectors);
            const char *at = in + first;
            AS_OPAQUE(at); /* a sum of two registers in each load would be one operation more */
            first = second, second = third, third = fourth, fourth = off[j + AS_LANES_AHEAD];
            const as_vec weight = as_splat(val[j]);
            AS_UNROLL for (int h = 0; h < rows; ++h) {
                AS_UNROLL for (int v = 0; v < vectors; ++v)
                    acc[h * vectors + v] +=
                        weight * as_load_aligned((const float *)at + v * AS_LANES);
                if (h < rows - 1) {
                    at += pitch;
                    AS_OPAQUE(at);
                }
            }
            AS_LOOP_END(first);
        }
        store_sums(t, to, rows * vectors, acc);
    }
}

#define AS_DEFINE(rows, vectors)                                \
    static void tile_##rows##x##vectors(const as_lanes_tile *t) \
    {                                                           \
        run_tile(t, rows, vectors);                             \
    }
AS_TILES(AS_DEFINE)

/* Four positions of all lanes at a time. */
static void into_lanes(const float *from, const int64_t *start, int64_t count, float *to)
{
    for (int64_t i = 0; i < count; i += 4) {
        as_vec four[4];
        as_load_fours_at(from + i, start, four);
        as_transpose_fours(four);
        const int64_t left = count - i < 4 ? count - i : 4;
        for (int64_t m = 0; m < left; ++m) as_store_aligned(to + (i + m) * AS_LANES, four[m]);
    }
}

/* p[i] = v[i] where bit i of four is set. */
AS_INLINE void store_quarter(float *p, as_quarter v, uint32_t bits)
{
#if defined(__AVX512VL__)
    _mm_mask_storeu_ps(p, (__mmask8)bits, (__m128)v);
#else
    if (bits == 15u)
        *(as_quarter *)p = v;
    else
        for (int i = 0; i < 4; ++i)
            if (bits >> i & 1u)
                p[i] = v[i];
#endif
}

/* Pieces of up to four positions: those of lane 4 k + i are quarter k of vector i. */
static void out_of_few(const float *from, const as_lanes_piece *piece, int64_t count, int used,
                       float *out)
{
    as_vec four[4];
    AS_UNROLL for (int i = 0; i < 4; ++i)
        four[i] = as_load_aligned(from + i * AS_LANES);
    as_transpose_fours(four);
    const float *quarters = (const float *)four;
    for (const as_lanes_piece *p = piece; p < piece + count && p->lane < used; ++p) {
        const float *at = quarters + p->lane % 4 * AS_LANES + p->lane / 4 * 4;
        store_quarter(out + p->place, as_load_quarter(at), (uint32_t)p->bits);
    }
}

/* Quarters of vectors that stay empty are not put in: `positions` is a constant after inlining. */
AS_INLINE void out_of_many(const float *from, int64_t positions, const as_lanes_piece *piece,
                           int64_t count, int used, float *out)
{
    as_vec of_lane[AS_LANES];
    AS_UNROLL for (int l = 0; l < AS_LANES; l += 4) {
        as_load_fours(from + l, AS_LANES, positions, of_lane + l);
        as_transpose_fours(of_lane + l);
    }
    for (const as_lanes_piece *p = piece; p < piece + count && p->lane < used; ++p)
        as_store_bits(out + p->place, of_lane[p->lane], p->bits);
}

static void out_of_lanes(const float *from, int64_t positions, const as_lanes_piece *piece,
                         int64_t count, int used, float *out)
{
    if (positions <= 4)
        out_of_few(from, piece, count, used, out);
    else if (positions <= 8)
        out_of_many(from, 8, piece, count, used, out);
    else if (positions <= 12)
        out_of_many(from, 12, piece, count, used, out);
    else
        out_of_many(from, 16, piece, count, used, out);
}

static void spread(const float *from, const as_lanes_move *move, int64_t count,
                   const int32_t *order, float *to)
{
    for (int64_t i = 0; i < count; ++i)
        as_store_aligned(to + move[i].to, as_reorder(from + move[i].from, order + move[i].order));
}

/* The usual strides as constants, which compilers make vectors of. */
static void pick(const float *from, int64_t step, int64_t count, float *to)
{
    if (step == 2) {
        for (int64_t i = 0; i < count; ++i) to[i] = from[i * 2];
    } else if (step == 4) {
        for (int64_t i = 0; i < count; ++i) to[i] = from[i * 4];
    } else {
        for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
    }
}

static void roof(const float *from, int64_t count, int64_t repeats, float *to)
{
    enum { SUMS = 12 };
    as_vec acc[SUMS] = {{0}}, sum = {0};
    const as_vec weight = as_splat(0.5f);
    assert(count % SUMS == 0);
    for (int64_t r = 0; r < repeats; ++r) {
        const float *at = from;
        AS_OPAQUE(at); /* each walk loads anew */
        for (int64_t j = 0; j < count; j += SUMS, at += SUMS * AS_LANES) {
            AS_UNROLL for (int i = 0; i < SUMS; ++i)
                acc[i] += weight * as_load(at + i * AS_LANES);
        }
    }
    AS_UNROLL for (int i = 0; i < SUMS; ++i)
        sum += acc[i];
    *to = 0.0f;
    for (int i = 0; i < AS_LANES; ++i) *to += sum[i];
}

#define AS_ENTRY(rows, vectors) [rows][vectors] = tile_##rows##x##vectors,
extern const as_direct_lanes_kernels AS_EXPORT(as_f32_direct_lanes);
const as_direct_lanes_kernels AS_EXPORT(as_f32_direct_lanes) = {
    .tile = {AS_TILES(AS_ENTRY)},
    .in = into_lanes,
    .out = out_of_lanes,
    .spread = spread,
    .pick = pick,
    .roof = roof,
};
