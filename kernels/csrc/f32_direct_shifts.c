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

/* Which lanes of vector v are inside. */
static uint32_t bits_inside(const as_shifts_rows *r, int64_t v)
{
    const int64_t column = r->first + v * AS_LANES * r->step;
    uint32_t bits = 0;
    if (r->step == 1) {
        const int64_t right = r->width - column, end = right < AS_LANES ? right : AS_LANES;
        const int64_t begin = column < 0 ? -column : 0;
        return begin < end ? (1u << end) - (1u << begin) : 0;
    }
    for (int l = 0; l < AS_LANES; ++l) {
        const int64_t at = column + l * r->step;
        bits |= (uint32_t)(0 <= at && at < r->width) << l;
    }
    return bits;
}

/* Neighbouring pixels. `vectors` is a constant after inlining, so the masks stay in registers. */
AS_INLINE void copy_neighbours(const as_shifts_rows *r, float *to, int64_t vectors,
                               const uint32_t *bits)
{
    for (int64_t c = 0; c < r->channels; ++c) {
        const float *row = r->from + c * r->from_channel;
        float *at = zero_rows(to + c * r->to_channel, r->above * vectors);
        for (int64_t y = 0; y < r->rows; ++y, row += r->from_row)
            for (int64_t v = 0; v < vectors; ++v, at += AS_LANES)
                as_store_aligned(at, load_pixels(row, r->first + v * AS_LANES, 1, bits[v]));
        zero_rows(at, r->below * vectors);
    }
}

/* The same for long rows: most vectors are inside as a whole. */
static void copy_long(const as_shifts_rows *r, float *to, const uint32_t *bits)
{
    const uint32_t all = (uint32_t)((1ull << AS_LANES) - 1);
    const int64_t vectors = r->vectors;
    int64_t begin = 0, end;
    while (begin < vectors && bits[begin] != all) ++begin;
    for (end = begin; end < vectors && bits[end] == all; ++end) {
    }
    for (int64_t c = 0; c < r->channels; ++c) {
        const float *row = r->from + c * r->from_channel;
        float *at = zero_rows(to + c * r->to_channel, r->above * vectors);
        for (int64_t y = 0; y < r->rows; ++y, row += r->from_row, at += vectors * AS_LANES) {
            for (int64_t v = 0; v < begin; ++v)
                as_store_aligned(at + v * AS_LANES,
                                 load_pixels(row, r->first + v * AS_LANES, 1, bits[v]));
            for (int64_t v = begin; v < end; ++v)
                as_store_aligned(at + v * AS_LANES, as_load(row + r->first + v * AS_LANES));
            for (int64_t v = end; v < vectors; ++v)
                as_store_aligned(at + v * AS_LANES,
                                 load_pixels(row, r->first + v * AS_LANES, 1, bits[v]));
        }
        zero_rows(at, r->below * vectors);
    }
}

/* Every second pixel: of two vectors those with even numbers. */
static void copy_halves(const as_shifts_rows *r, float *to, const uint32_t *bits)
{
    uint32_t low[AS_TILE_SIDE], high[AS_TILE_SIDE];
    const int64_t vectors = r->vectors;
    for (int64_t v = 0; v < vectors; ++v) {
        low[v] = high[v] = 0;
        for (int l = 0; l < AS_LANES / 2; ++l) {
            low[v] |= (bits[v] >> l & 1u) << 2 * l;
            high[v] |= (bits[v] >> (l + AS_LANES / 2) & 1u) << 2 * l;
        }
    }
    for (int64_t c = 0; c < r->channels; ++c) {
        const float *row = r->from + c * r->from_channel;
        float *at = zero_rows(to + c * r->to_channel, r->above * vectors);
        for (int64_t y = 0; y < r->rows; ++y, row += r->from_row)
            for (int64_t v = 0; v < vectors; ++v, at += AS_LANES) {
                const int64_t first = r->first + 2 * v * AS_LANES;
                const as_vec a = load_pixels(row, first, 1, low[v]);
                const as_vec b = load_pixels(row, first + AS_LANES, 1, high[v]);
                as_store_aligned(at, AS_EVEN(a, b));
            }
        zero_rows(at, r->below * vectors);
    }
}

static void copy_apart(const as_shifts_rows *r, float *to, const uint32_t *bits)
{
    const int64_t vectors = r->vectors, step = r->step;
    for (int64_t c = 0; c < r->channels; ++c) {
        const float *row = r->from + c * r->from_channel;
        float *at = zero_rows(to + c * r->to_channel, r->above * vectors);
        for (int64_t y = 0; y < r->rows; ++y, row += r->from_row)
            for (int64_t v = 0; v < vectors; ++v, at += AS_LANES)
                as_store_aligned(at, load_pixels(row, r->first + v * AS_LANES * step, step, bits[v]));
        zero_rows(at, r->below * vectors);
    }
}

static void copy_rows(const as_shifts_rows *r, float *to)
{
    uint32_t bits[AS_TILE_SIDE];
    assert(r->vectors <= AS_TILE_SIDE);
    for (int64_t v = 0; v < r->vectors; ++v) bits[v] = bits_inside(r, v);
    if (r->step == 2)
        copy_halves(r, to, bits);
    else if (r->step > 2)
        copy_apart(r, to, bits);
    else if (r->vectors == 1)
        copy_neighbours(r, to, 1, bits);
    else if (r->vectors == 2)
        copy_neighbours(r, to, 2, bits);
    else if (r->vectors == 3)
        copy_neighbours(r, to, 3, bits);
    else if (r->vectors == 4)
        copy_neighbours(r, to, 4, bits);
    else
        copy_long(r, to, bits);
}

#define AS_ENTRY(vectors) [vectors] = tile_##vectors,
extern const as_direct_shifts_kernels AS_EXPORT(as_f32_direct_shifts);
const as_direct_shifts_kernels AS_EXPORT(as_f32_direct_shifts) = {
    .tile = {AS_COUNTS(AS_ENTRY)},
    .rows = copy_rows,
};
