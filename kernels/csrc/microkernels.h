/* Contracts of the microkernels, and what each instruction set's objects export. */
#ifndef ARCHSIM_MICROKERNELS_H
#define ARCHSIM_MICROKERNELS_H

#include <stdint.h>

enum { AS_MOST_ACCUMULATORS = 30, AS_TILE_SIDE = AS_MOST_ACCUMULATORS + 1 };

/* One register block of one output channel: rows x vectors accumulators over one list of nonzeros.
 *
 *     acc[h][v] = from ? from[h][v] : start
 *     for each nonzero j:  acc[h][v] += val[j] * in[off[j] + h * in_pitch + v * lanes .. + lanes)
 *     to[h][v] = relu ? max(acc, 0) : acc
 *
 * Layout    in, from and to point to the block's first element; rows are in_pitch, from_pitch and
 *           to_pitch floats apart, the vectors of a row are neighbours.
 * Edges     last_lanes (1 .. lanes) lanes of each row's last vector count; only those are read from
 *           `from` and written to `to`.
 * Over-read from `in` all vectors are read in full: behind the last column that counts, up to
 *           lanes - last_lanes more floats must be readable. Their values (NaN too) reach nothing.
 * Alignment none beyond that of float. Aliasing: `from` may equal `to` (then with the same pitch);
 *           nothing else overlaps `to`.
 * NaN       propagates from `in` and `from`, through relu too. n = 0 is allowed.
 */
typedef struct {
    const float *in;
    int64_t in_pitch;
    const int32_t *off;
    const float *val;
    int64_t n;
    const float *from; /* NULL: begin with start */
    int64_t from_pitch;
    float start;
    int relu;
    float *to;
    int64_t to_pitch;
    int last_lanes;
} as_row_tile;

typedef void (*as_row_tile_fn)(const as_row_tile *tile);

/* One output pixel of neighbouring output channels, one scalar at a time. Serves every stride.
 *
 *     out[k * out_step] = relu?(bias[k] + sum of val[j] * in[off[j]] over the nonzeros j of k)
 *
 * Layout    the nonzeros of channel k are `parts` lists: list i is [ptr[l], ptr[l + 1]) with
 *           l = k + i * part_step.
 * No over-read; NaN propagates, through relu too; out overlaps nothing.
 */
typedef struct {
    const float *in; /* what the pixel's first weight meets */
    const int64_t *ptr;
    int64_t parts, part_step;
    const int32_t *off;
    const float *val;
    const float *bias;
    int relu;
    int64_t channels;
    float *out;
    int64_t out_step;
} as_row_pixel;

typedef void (*as_row_pixel_fn)(const as_row_pixel *pixel);

typedef struct {
    as_row_tile_fn tile[AS_TILE_SIDE][AS_TILE_SIDE]; /* [rows][vectors]; NULL: does not fit */
    as_row_pixel_fn pixel;
} as_direct_row_kernels;

/* One register block of one row of sparse matrix x lowered matrix: neighbouring pixels.
 *
 *     acc[v] = start + sum over the nonzeros j of val[j] * in[off[j] + v * lanes .. + lanes)
 *     to[v] = relu ? max(acc, 0) : acc
 *
 * Alignment in + off[j] must be aligned to the vector for every j; `to` need not be.
 * Edges     last_lanes (1 .. lanes) lanes of the last vector are written.
 * Over-read all vectors of `in` are read in full: rows must be padded to whole vectors.
 * NaN       propagates, through relu too; what the padding holds reaches nothing.
 * n = 0 is allowed. `to` overlaps nothing.
 */
typedef struct {
    const float *in;
    const int32_t *off;
    const float *val;
    int64_t n;
    float start;
    int relu;
    float *to;
    int last_lanes;
} as_lowered_tile;

typedef void (*as_lowered_tile_fn)(const as_lowered_tile *tile);

typedef struct {
    as_lowered_tile_fn tile[AS_TILE_SIDE]; /* [vectors]; NULL: does not fit */
} as_lowered_kernels;

#endif
