/* Fully connected layers: contracts of their microkernels, and of the drivers in run_fc.c. */
#ifndef ARCHSIM_FC_H
#define ARCHSIM_FC_H

#include <stdint.h>

/* Neighbouring rows of a sparse matrix times one column, or times a column of vectors.
 *
 *     sum = start ? start[row[i]] : sums[row[i] * step ..]
 *     for each nonzero j of [ptr[i], ptr[i + 1]):  sum += val[j] * in[at(off[j]) ..]
 *     sums[row[i] * step ..] = relu ? max(sum, 0) : sum                for i < rows
 *
 * Gather    a sum is one number; off counts floats; row is NULL for i itself, step is 1.
 * Vectors   a sum is `vectors` vectors, one number of each image; off counts pairs of floats.
 *           in and sums are aligned to the vector, step and all offsets are whole vectors. Rows
 *           come in groups of `lists` as long as there are so many, then perhaps one of half as many
 *           and so on down to 1: the first row of a group is its shortest, and the group's nonzeros,
 *           from ptr of the first row on, are first one of each row in turn, as many as the first row
 *           has, then what the other rows have beyond, row by row.
 * Over-read none; memory far behind off and val is prefetched, which touches nothing.
 * Aliasing  sums overlaps nothing. NaN propagates, through relu too. Empty rows are allowed.
 */
typedef struct {
    const float *in;
    const int64_t *ptr;
    const int32_t *row;
    const uint16_t *off;
    const float *val;
    int64_t rows;
    const float *start;
    float *sums;
    int64_t step;
    int relu;
} as_fc_rows;

typedef void (*as_fc_rows_fn)(const as_fc_rows *rows);

/* A register block of a dense product: `images` columns times `vectors` vectors of rows.
 *
 *     sum[i][v] = start[v * lanes ..] + sum over c < depth of
 *                     in[c * in_step + i] * weights[(c * vectors + v) * lanes ..]
 *     to[i * to_step + v * lanes ..] = relu ? max(sum, 0) : sum
 *
 * Alignment start and weights are aligned to the vector. Edges: `lanes` (1 .. vectors * lanes of the
 * set) numbers of each column are written. No over-read of in; `to` overlaps nothing; NaN
 * propagates from in, through relu too.
 */
typedef struct {
    const float *in;
    int64_t in_step, depth;
    const float *weights, *start;
    float *to;
    int64_t to_step, lanes;
    int relu;
} as_fc_tile;

typedef void (*as_fc_tile_fn)(const as_fc_tile *tile);

/* to[c * to_step + r] = from[r * from_step + c] for r < rows <= lanes, c < columns; nothing else is
 * read or written. No alignment; nothing overlaps. */
typedef void (*as_fc_turn_fn)(const float *from, int64_t from_step, int64_t rows, int64_t columns,
                              float *to, int64_t to_step);

enum { AS_FC_VECTORS = 4, AS_FC_DENSE_VECTORS = 8, AS_FC_IMAGES = 14 };

typedef struct {
    as_fc_rows_fn gather;
    as_fc_rows_fn rows[AS_FC_VECTORS + 1];                             /* [vectors] */
    int lists[AS_FC_VECTORS + 1]; /* [vectors]: rows of a group, a power of two */
    as_fc_tile_fn tile[AS_FC_IMAGES + 1][AS_FC_DENSE_VECTORS + 1]; /* [images][vectors]; or NULL */
    as_fc_turn_fn turn;
} as_fc_kernels;

#endif
