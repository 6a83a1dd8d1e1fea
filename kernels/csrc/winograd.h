/* Winograd's transformations: contracts, and what each instruction set's object exports.
 *
 * F(m x m, r x r) makes m x m outputs of an r x r kernel out of tiles of t x t inputs, t = m + r - 1:
 *
 *     out = A^T (sum over channels of U * (B^T d B)) A
 *
 * where U * V is taken position by position. A vector holds one position of `lanes` tiles. The
 * matrices stand in kernels/winograd_matrices.py; a position is (row of B^T) * t + (row of B^T).
 */
#ifndef ARCHSIM_WINOGRAD_H
#define ARCHSIM_WINOGRAD_H

#include <stdint.h>

/* The variants, X(name, m, t), in the order of the table in winograd_matrices.py. */
#define AS_WINOGRAD_VARIANTS(X) X(f2x2_3x3, 2, 4) X(f4x4_3x3, 4, 6) X(f4x4_5x5, 4, 8)

#define AS_WINOGRAD_INDEX(name, m, t) AS_WINOGRAD_##name,
enum { AS_WINOGRAD_VARIANTS(AS_WINOGRAD_INDEX) AS_WINOGRAD_COUNT };
#undef AS_WINOGRAD_INDEX

/* How lanes lie in memory, if they are neighbours there. A vector is m pieces of lanes / m tiles; row
 * i of piece p is what follows `first`, or from some tile on `second`: float f of the piece is at
 * first + f where bit f of first_bits and bit i of first_rows are set, at second + f where those of
 * second_bits and second_rows are, and nowhere if neither is so. A vector's kind is AS_WINOGRAD_PIECES
 * plus bit i for each piece i whose first_bits or first_rows are not all set; or AS_WINOGRAD_APART if
 * its lanes are no such neighbours. */
typedef struct {
    int64_t first, second;
    uint16_t first_bits, second_bits, first_rows, second_rows;
} as_winograd_piece;

enum { AS_WINOGRAD_APART, AS_WINOGRAD_PIECES = 16 };

/* The same for what tiles look at, where that may lie outside of the picture: float f of the columns
 * from j * m on of row i of a piece is the one at first + i * pitch + j * m + f where bit f of
 * first_bits[j] and bit i of first_rows are set, else the same of `second`, else 0. A vector's kind has
 * bit i set for each piece i with bits missing in `first`, and AS_WINOGRAD_EDGE if one has rows missing.
 */
typedef struct {
    int64_t first, second;
    uint16_t first_bits[2], second_bits[2];
    uint8_t first_rows, second_rows;
} as_winograd_window;

enum { AS_WINOGRAD_EDGE = 16 };

/* Tiles of one channel into the Winograd domain, for v < vectors and each lane l:
 *
 *     to[p * position_step + v * lanes + l] = (B^T d B)[p], d[i][j] = from[start[v * lanes + l]
 *                                                                         + i * pitch + j]
 *
 * or, if `window` is not NULL, d as windows say, of a picture without padding; only sets that
 * use pieces may have it. Then what the windows see next_step floats further is brought near.
 * Over-read by start: floats of a tile's rows up to the next multiple of 4. `to`, position_step and
 * scratch (t * t vectors) are aligned to the vector. NaN spreads inside its tile.
 */
typedef struct {
    const float *from;
    int64_t pitch;
    const int64_t *start;
    const as_winograd_window *window; /* m of each vector */
    const int64_t *kind;              /* of windows */
    int64_t next_step;                /* to the next channel */
    int64_t vectors;
    float *to;
    int64_t position_step;
    float *scratch;
} as_winograd_in;

/* Where a lane's tile goes in the plane of output channel 0: `rows` x `columns` (0 .. m) of it. */
typedef struct {
    int64_t place;
    int32_t rows, columns;
} as_winograd_place;

/* Sums of one output channel out of the Winograd domain, for v < vectors and each lane l:
 *
 *     y = relu?(A^T s A + bias), s[p] = from[p * position_step + v * lanes + l]
 *     out[place[v * lanes + l].place + a * row_step + b] = y[a][b] for a < rows, b < columns
 *
 * for the first `tiles` lanes of all vectors. whole[v]: all lanes of v have m x m outputs. Where
 * kind[v] is not APART pieces say the same as places. Nothing else is written. `from`, position_step
 * and scratch (t * m vectors) are aligned to the vector. NaN passes relu.
 */
typedef struct {
    const float *from;
    int64_t position_step;
    int64_t vectors, tiles;
    float bias;
    int relu;
    float *scratch;
    const as_winograd_place *place;
    const int64_t *whole;
    const as_winograd_piece *piece; /* m of each vector */
    const int64_t *kind;
    float *out;
    int64_t row_step;
    int64_t next_step; /* to the next output channel, whose lines are prefetched */
} as_winograd_out;

/* Sparse products of one position: groups of lists, one after the other; of each the sums of
 * `lists` output channels, side by side, over `vectors` vectors of tiles.
 *
 *     for each group g, list l of it:
 *         sum[v] = add ? to[row[g * lists + l] * to_step + v * lanes ..] : 0
 *         for each round j = 0, 1 .. of ptr[g] + j * lists < ptr[g + 1], e = ptr[g] + j * lists + l:
 *             sum[v] += val[e] * in[off[e] + v * lanes .. + lanes)
 *         to[row[g * lists + l] * to_step + v * lanes ..] = sum[v]
 *
 * Layout    off counts bytes; lists of a group are equally long: shorter ones are filled up with
 *           zeros that meet a vector of zeros. The rows of a group differ.
 * Alignment in + off, to and to_step to whole vectors. No over-read; `to` overlaps nothing.
 * NaN       propagates from in and, with `add`, from to. Lists may be empty.
 */
typedef struct {
    const float *in;
    const int64_t *ptr; /* groups + 1 */
    int64_t groups;
    const int32_t *off;
    const float *val;
    const int32_t *row;
    int add;
    float *to;
    int64_t to_step;
} as_winograd_lists;

/* Dense products of one position: `count` output channels over `vectors` vectors of tiles.
 *
 *     to[i * to_step + v * lanes ..] = sum over c < channels of
 *                                      weights[c * count + i] * in[c * in_step + v * lanes ..]
 *
 * Alignment of in, in_step, to and to_step to whole vectors. No over-read; `to` overlaps nothing.
 * Ahead     with each channel the line at `ahead` is brought near, and so on line
 *           by line: any address.
 * NaN       propagates from in.
 */
typedef struct {
    const float *in;
    int64_t in_step, channels;
    const float *weights;
    float *to;
    int64_t to_step;
    uintptr_t ahead;
} as_winograd_block;

enum { AS_WINOGRAD_LISTS = 8, AS_WINOGRAD_VECTORS = 14 };
enum { AS_WINOGRAD_MOST_COUNT = 14, AS_WINOGRAD_BLOCK_VECTORS = 2 };

typedef struct {
    /* [lists][vectors] and [vectors][count]; NULL: does not fit */
    void (*lists[AS_WINOGRAD_LISTS + 1][AS_WINOGRAD_VECTORS + 1])(const as_winograd_lists *lists);
    void (*block[AS_WINOGRAD_BLOCK_VECTORS + 1][AS_WINOGRAD_MOST_COUNT + 1])(
        const as_winograd_block *block);
} as_winograd_products;

typedef struct {
    void (*in[AS_WINOGRAD_COUNT])(const as_winograd_in *in);
    void (*out[AS_WINOGRAD_COUNT])(const as_winograd_out *out);
} as_winograd_kernels;

#endif
