/* Rows of neighbouring tiles to columns in lanes and back, by whole vectors: a tile's m columns stand
 * beside the next tile's. Include after winograd.h and simd.h.
 *
 * Two numbers of any lane of two vectors meet in one shuffle only with AVX-512; elsewhere quarters of
 * vectors (transpose.h) are no worse.
 */
#ifndef ARCHSIM_WINOGRAD_PIECES_H
#define ARCHSIM_WINOGRAD_PIECES_H

#include "shuffle.h"
#include "winograd.h"

enum { AS_HAVE_PIECES = AS_LANES == 16 };

#if AS_LANES == 16
/* `row` is where the row of a tile that begins at 0 would stand; it may not be in the array. */
AS_INLINE uintptr_t as_row_at(const float *row, int64_t floats)
{
    return (uintptr_t)row + (uintptr_t)floats * sizeof(float);
}

/* Columns from j * m on of row i, which begins `row` floats behind `from`. */
AS_INLINE as_vec as_load_window(const float *from, int64_t row, const as_winograd_window *w, int i,
                                int j, int m, int cut, int edge)
{
    const float *first = (const float *)as_row_at(from, row + w->first + j * m);
    if (!cut)
        return as_load(first);
    unsigned bits = w->first_bits[j], more = w->second_bits[j];
    if (edge) {
        bits &= 0u - (w->first_rows >> i & 1u);
        more &= 0u - (w->second_rows >> i & 1u);
    }
    const __m512 v = _mm512_maskz_loadu_ps((__mmask16)bits, first);
    if (!w->second_bits[j])
        return (as_vec)v;
    return (as_vec)_mm512_mask_loadu_ps(v, (__mmask16)more,
                                        (const float *)as_row_at(from, row + w->second + j * m));
}

/* Row i of the piece; `row` is where that of a tile that begins at 0 stands. */
AS_INLINE void as_store_piece(float *row, const as_winograd_piece *p, int i, int cut, as_vec v)
{
    float *first = (float *)as_row_at(row, p->first);
    if (!cut) {
        as_store(first, v);
        return;
    }
    if (p->first_rows >> i & 1)
        _mm512_mask_storeu_ps(first, (__mmask16)p->first_bits, (__m512)v);
    if (p->second_rows >> i & 1)
        _mm512_mask_storeu_ps((float *)as_row_at(row, p->second), (__mmask16)p->second_bits,
                              (__m512)v);
}

/* Lower halves of both; upper ones. */
#define AS_LOWER(a, b) \
    AS_SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define AS_UPPER(a, b) \
    AS_SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
/* Columns c and c + 1 of eight tiles of four columns. */
#define AS_TWO_OF_FOUR(a, b, c)                                                                  \
    AS_SHUFFLE(a, b, c, c + 4, c + 8, c + 12, c + 16, c + 20, c + 24, c + 28, c + 1, c + 5, c + 9, \
               c + 13, c + 17, c + 21, c + 25, c + 29)
/* Column c of sixteen tiles of two columns. */
#define AS_ONE_OF_TWO(a, b, c)                                                             \
    AS_SHUFFLE(a, b, c, c + 2, c + 4, c + 6, c + 8, c + 10, c + 12, c + 14, c + 16, c + 18, \
               c + 20, c + 22, c + 24, c + 26, c + 28, c + 30)
/* Four columns of the tiles t .. t + 3, from two halves of columns in a and two in b. */
#define AS_FOUR_TILES(a, b, t)                                                              \
    AS_SHUFFLE(a, b, t, t + 8, t + 16, t + 24, t + 1, t + 9, t + 17, t + 25, t + 2, t + 10, \
               t + 18, t + 26, t + 3, t + 11, t + 19, t + 27)

/* m columns of all lanes' tiles, from j * m on; bit k of `cut`: piece k is not whole. */
AS_INLINE void as_load_windows(const float *from, int64_t row, const as_winograd_window *w, int i,
                               int j, int m, int cut, int edge, as_vec *column)
{
    const as_vec a = as_load_window(from, row, w, i, j, m, cut & 1, edge);
    const as_vec b = as_load_window(from, row, w + 1, i, j, m, cut & 2, edge);
    if (m == 2) {
        column[0] = AS_ONE_OF_TWO(a, b, 0);
        column[1] = AS_ONE_OF_TWO(a, b, 1);
        return;
    }
    const as_vec c = as_load_window(from, row, w + 2, i, j, m, cut & 4, edge);
    const as_vec d = as_load_window(from, row, w + 3, i, j, m, cut & 8, edge);
    const as_vec left = AS_TWO_OF_FOUR(a, b, 0), more_left = AS_TWO_OF_FOUR(c, d, 0);
    const as_vec right = AS_TWO_OF_FOUR(a, b, 2), more_right = AS_TWO_OF_FOUR(c, d, 2);
    column[0] = AS_LOWER(left, more_left);
    column[1] = AS_UPPER(left, more_left);
    column[2] = AS_LOWER(right, more_right);
    column[3] = AS_UPPER(right, more_right);
}

AS_INLINE void as_store_pieces(float *row, const as_winograd_piece *p, int i, int m, int cut,
                               const as_vec *column)
{
    if (m == 2) {
        as_store_piece(row, p, i, cut & 1, AS_ZIP_LOW(column[0], column[1]));
        as_store_piece(row, p + 1, i, cut & 2, AS_ZIP_HIGH(column[0], column[1]));
        return;
    }
    const as_vec left = AS_LOWER(column[0], column[1]), right = AS_LOWER(column[2], column[3]);
    const as_vec more_left = AS_UPPER(column[0], column[1]);
    const as_vec more_right = AS_UPPER(column[2], column[3]);
    as_store_piece(row, p, i, cut & 1, AS_FOUR_TILES(left, right, 0));
    as_store_piece(row, p + 1, i, cut & 2, AS_FOUR_TILES(left, right, 4));
    as_store_piece(row, p + 2, i, cut & 4, AS_FOUR_TILES(more_left, more_right, 0));
    as_store_piece(row, p + 3, i, cut & 8, AS_FOUR_TILES(more_left, more_right, 4));
}
#else
AS_INLINE void as_load_windows(const float *from, int64_t row, const as_winograd_window *w, int i,
                               int j, int m, int cut, int edge, as_vec *column)
{
    (void)from, (void)row, (void)w, (void)i, (void)j, (void)m, (void)cut, (void)edge, (void)column;
}

AS_INLINE void as_store_pieces(float *row, const as_winograd_piece *p, int i, int m, int cut,
                               const as_vec *column)
{
    (void)row, (void)p, (void)i, (void)m, (void)cut, (void)column;
}
#endif

#endif
