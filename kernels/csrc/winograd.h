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

/* Tiles of one channel into the Winograd domain, for v < vectors and each lane l:
 *
 *     to[p * position_step + v * lanes + l] = (B^T d B)[p], d[i][j] = from[start[v * lanes + l]
 *                                                                         + i * pitch + j]
 *
 * Over-read floats of a tile's rows up to the next multiple of 4. `to`, position_step and scratch
 * (t * t vectors) are aligned to the vector. NaN spreads inside its tile.
 */
typedef struct {
    const float *from;
    int64_t pitch;
    const int64_t *start;
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
 * for the first `tiles` lanes of all vectors. whole[v]: all lanes of v have m x m outputs. Nothing
 * else is written. `from`, position_step and scratch (t * m vectors) are aligned to the vector. NaN passes
 * relu.
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
    float *out;
    int64_t row_step;
} as_winograd_out;

/* Rows of `count` floats: to[r * to_pitch + i] = from[r * from_pitch + i]. */
typedef void (*as_winograd_copy_fn)(const float *from, int64_t from_pitch, int64_t rows,
                                    int64_t count, float *to, int64_t to_pitch);

typedef struct {
    void (*in[AS_WINOGRAD_COUNT])(const as_winograd_in *in);
    void (*out[AS_WINOGRAD_COUNT])(const as_winograd_out *out);
    as_winograd_copy_fn copy;
} as_winograd_kernels;

#endif
