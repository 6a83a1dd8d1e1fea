/* Direct sparse convolution with sums that slide: register blocks, and rows of input. Contract:
 * shifts.h.
 */
#include "shifts.h"

#include <assert.h>
#include <stddef.h>

#include "shuffle.h"
#include "simd.h"
#include "tiles.h"
#include "transpose.h"

/* Lanes 1 .. of a, then lane 0 of b. */
AS_INLINE as_vec slide(as_vec a, as_vec b)
{
#if AS_LANES == 16
    return AS_SHUFFLE(a, b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
#elif AS_LANES == 8
    return AS_SHUFFLE(a, b, 1, 2, 3, 4, 5, 6, 7, 8);
#else
    return AS_SHUFFLE(a, b, 1, 2, 3, 4);
#endif
}

AS_INLINE void store_sums(const as_shifts_tile *t, float *to, int vectors, const as_vec *acc)
{
    const as_shifts_piece *piece = t->piece;
    if (piece == NULL) {
        AS_UNROLL for (int i = 0; i < vectors; ++i)
            as_store_aligned(to + i * AS_LANES, acc[i]);
        return;
    }
    if (t->past_caches && (uintptr_t)(to + piece->place) % sizeof(as_vec) == 0) {
        AS_UNROLL for (int i = 0; i < vectors; ++i)
            as_store_past_caches(to + piece->place + i * AS_LANES, acc[i]);
        return;
    }
#if AS_LANES == 4 /* a part of a vector takes a loop there, which is not for every accumulator */
    as_vec sums[AS_MAX_ACCUMULATORS];
    AS_UNROLL for (int i = 0; i < vectors; ++i)
        sums[i] = acc[i];
    for (int i = 0; i < vectors; ++i)
        as_store_bits(to + piece[i].place, sums[i], (uint32_t)piece[i].bits);
#else
    AS_UNROLL for (int i = 0; i < vectors; ++i)
        as_store_bits(to + piece[i].place, acc[i], (uint32_t)piece[i].bits);
#endif
}

/* An address that is known only just before its loads costs 15-25 % of the load slots. So offsets
 * are read AS_SHIFTS_AHEAD nonzeros early and wait in integer registers, across the ends of parts
 * and lists; moving them along is free where registers are renamed. */
AS_INLINE void run_tile(const as_shifts_tile *t, int vectors)
{
    const char *in = (const char *)t->in;
    const int32_t *off = t->off;
    const float *val = t->val, *from = t->from;
    const int64_t *part = t->ptr;
    float *to = t->to;
    int64_t j = *part;
    int64_t first = off[j], second = off[j + 1], third = off[j + 2], fourth = off[j + 3];

    for (int64_t k = 0; k < t->lists; ++k, to += t->to_step) {
        as_vec acc[AS_MAX_ACCUMULATORS];
        AS_UNROLL for (int i = 0; i < vectors; ++i)
            acc[i] = (as_vec){0};
        for (const int64_t *last = part + t->parts;;) {
            for (const int64_t end = *++part; j < end; ++j) {
                AS_LOOP_BEGIN("shifts", 1, vectors);
                const char *at = in + first;
                AS_OPAQUE(at); /* a sum of two registers in each load would be one operation more */
                first = second, second = third, third = fourth, fourth = off[j + AS_SHIFTS_AHEAD];
                const as_vec weight = as_splat(val[j]);
                AS_UNROLL for (int i = 0; i < vectors; ++i)
                    acc[i] += weight * as_load_aligned((const float *)at + i * AS_LANES);
                AS_LOOP_END(first);
            }
            if (part == last)
                break;
            AS_UNROLL for (int i = 0; i < vectors - 1; ++i)
                acc[i] = slide(acc[i], acc[i + 1]);
            acc[vectors - 1] = slide(acc[vectors - 1], acc[vectors - 1]);
        }
        if (from == NULL) {
            AS_UNROLL for (int i = 0; i < vectors; ++i)
                acc[i] += as_splat(t->start[k]);
        } else {
            AS_UNROLL for (int i = 0; i < vectors; ++i)
                acc[i] += as_load_aligned(from + i * AS_LANES);
            from += t->from_step;
        }
        if (t->relu) {
            AS_UNROLL for (int i = 0; i < vectors; ++i)
                acc[i] = as_relu(acc[i]);
        }
        store_sums(t, to, vectors, acc);
    }
}

#define AS_DEFINE(vectors)                              \
    static void tile_##vectors(const as_shifts_tile *t) \
    {                                                   \
        run_tile(t, vectors);                           \
    }
AS_COUNTS(AS_DEFINE)

AS_INLINE float *zero_rows(float *to, int64_t vectors)
{
    for (int64_t i = 0; i < vectors; ++i) as_store_aligned(to + i * AS_LANES, (as_vec){0});
    return to + vectors * AS_LANES;
}

/* One vector of a row, of which `bits` lanes are inside. */
AS_INLINE as_vec load_pixels(const float *row, int64_t first, int64_t step, uint32_t bits)
{
    if (AS_LANES == 4 && step == 1 && bits == 15u) /* the others have masks */
        return as_load(row + first);
    if (step == 1)
        return as_load_bits(row, first, bits);
    as_vec v = {0};
    for (int l = 0; l < AS_LANES; ++l)
        if (bits >> l & 1u)
            v[l] = row[first + l * step];
    return v;
}

static void copy_rows(const as_shifts_rows *r, float *to)
{
    const int64_t vectors = r->vectors, step = r->step, advance = AS_LANES * step;
    uint32_t bits[AS_TILE_SIDE];
    assert(vectors <= AS_TILE_SIDE);
    for (int64_t v = 0; v < vectors; ++v) {
        bits[v] = 0;
        for (int l = 0; l < AS_LANES; ++l) {
            const int64_t column = r->first + v * advance + l * step;
            bits[v] |= (uint32_t)(0 <= column && column < r->width) << l;
        }
    }
    for (int64_t c = 0; c < r->channels; ++c) {
        const float *row = r->from + c * r->from_channel;
        float *at = zero_rows(to + c * r->to_channel, r->above * vectors);
        if (step == 1 && vectors == 1)
            for (int64_t y = 0; y < r->rows; ++y, row += r->from_row, at += AS_LANES)
                as_store_aligned(at, load_pixels(row, r->first, 1, bits[0]));
        else if (step == 1)
            for (int64_t y = 0; y < r->rows; ++y, row += r->from_row)
                for (int64_t v = 0; v < vectors; ++v, at += AS_LANES)
                    as_store_aligned(at, load_pixels(row, r->first + v * advance, 1, bits[v]));
        else
            for (int64_t y = 0; y < r->rows; ++y, row += r->from_row)
                for (int64_t v = 0; v < vectors; ++v, at += AS_LANES)
                    as_store_aligned(at, load_pixels(row, r->first + v * advance, step, bits[v]));
        zero_rows(at, r->below * vectors);
    }
}

#define AS_ENTRY(vectors) [vectors] = tile_##vectors,
extern const as_direct_shifts_kernels AS_EXPORT(as_f32_direct_shifts);
const as_direct_shifts_kernels AS_EXPORT(as_f32_direct_shifts) = {
    .tile = {AS_COUNTS(AS_ENTRY)},
    .rows = copy_rows,
};
