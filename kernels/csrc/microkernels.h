/* Contracts of the microkernels, and what each instruction set's objects export. */
#ifndef ARCHSIM_MICROKERNELS_H
#define ARCHSIM_MICROKERNELS_H

#include <stdint.h>

enum { AS_MOST_ACCUMULATORS = 30, AS_TILE_SIDE = AS_MOST_ACCUMULATORS + 1 };

/* What the pipelined loop of the row tiles reads of `off` behind the last nonzero. */
enum { AS_ROW_AHEAD = 4 };

/* One register block of `lists` output channels, one after the other: rows x vectors accumulators
 * over the list of nonzeros of each.
 *
 *     acc[h][v] = from ? from[k * from_step ..][h][v] : start[k]
 *     for each nonzero j of list k, ptr[k] <= j < ptr[k + 1]:
 *         acc[h][v] += val[j] * in[off[j] + h * in_pitch + v * lanes .. + lanes)
 *     to[k * to_step ..][h][v] = relu ? max(acc, 0) : acc
 *
 * Layout    in, from and to point to the block's first element; rows are in_pitch, from_pitch and
 *           to_pitch floats apart, the vectors of a row are neighbours.
 * Edges     last_lanes (1 .. lanes) lanes of each row's last vector count; only those are read from
 *           `from` and written to `to`.
 * Over-read from `in` all vectors are read in full: behind the last column that counts, up to
 *           lanes - last_lanes more floats must be readable. Their values (NaN too) reach nothing.
 *           Of off, AS_ROW_AHEAD entries behind the last list must be readable; they reach nothing.
 * Prefetch  if next is not NULL, each nonzero's input is brought into the first level during the
 *           nonzero before it, and `next`, the first that is needed after this call, during the
 *           last. Addresses that nothing may be read from do no harm.
 * Alignment none beyond that of float. Aliasing: `from` may equal `to` (then with the same pitch
 *           and step); nothing else overlaps `to`.
 * NaN       propagates from `in` and `from`, through relu too. Lists may be empty.
 */
typedef struct {
    const float *in;
    int64_t in_pitch;
    const int64_t *ptr; /* lists + 1 values */
    int64_t lists;
    const int32_t *off;
    const float *val;
    const float *from; /* NULL: begin with start */
    int64_t from_pitch, from_step;
    const float *start;
    int relu;
    float *to;
    int64_t to_pitch, to_step;
    int last_lanes;
    const float *next;
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

/* Rows of `count` floats: to[r * to_pitch + i] = from[r * from_pitch + i]. No over-read, nothing else is
 * written. */
typedef void (*as_copy_fn)(const float *from, int64_t from_pitch, int64_t rows, int64_t count,
                           float *to, int64_t to_pitch);

/* What the taps of some channels meet at the pixels of a block: a row of the lowered panel each.
 *
 *     to[(c * taps + t) * to_step + i] = picture c at place[i] + tap[t] where bit i % lanes of
 *                                        inside[t * inside_step + i / lanes] is set, else 0;
 *     i < vectors * lanes, vectors <= accumulators of the set
 *
 * Layout    the picture of channel c is in[c * in_step ..]. With `neighbours` place[i] is
 *           place[0] + i wherever a bit of i is set.
 * Alignment to and to_step are aligned to the vector. No over-read.
 * NaN       is copied.
 */
typedef struct {
    const float *in;
    int64_t in_step, channels;
    const int32_t *place, *tap;
    const uint16_t *inside;
    int64_t inside_step, taps;
    int neighbours;
    int vectors;
    float *to;
    int64_t to_step;
} as_lowered_fill;

typedef void (*as_lowered_fill_fn)(const as_lowered_fill *fill);

/* What the pipelined loop of the lowered tiles reads of `off` behind the last nonzero. */
enum { AS_LOWERED_AHEAD = 4 };

/* One register block of one row of sparse matrix x lowered matrix: neighbouring pixels.
 *
 *     acc[v] = (from ? from[v] : start) + sum over the entries j and i < taps of
 *              val[j * taps + i] * in[off[j] + i * pitch + v * lanes .. + lanes)
 *     to[v] = relu ? max(acc, 0) : acc
 *
 * taps      1: an entry is a nonzero. Above: a run of rows `pitch` apart, as a whole kernel has.
 * Alignment in + off[j], pitch and from must be aligned to the vector; `to` need not be.
 * Edges     last_lanes (1 .. lanes) lanes of the last vector are written.
 * Over-read all vectors of `in` are read in full: rows must be padded to whole vectors. Of off,
 *           AS_LOWERED_AHEAD entries behind the list must be readable; they reach nothing.
 * NaN       propagates, through relu too; what the padding holds reaches nothing.
 * n = 0 is allowed. `to` overlaps nothing, but may be `from`.
 */
typedef struct {
    const float *in;
    const int32_t *off;
    const float *val;
    int64_t n, taps, pitch;
    const float *from; /* sums so far; NULL: start */
    float start;
    int relu;
    float *to;
    int last_lanes;
} as_lowered_tile;

typedef void (*as_lowered_tile_fn)(const as_lowered_tile *tile);

typedef struct {
    as_lowered_tile_fn tile[AS_TILE_SIDE]; /* [vectors]; NULL: does not fit */
    as_lowered_fill_fn fill;
} as_lowered_kernels;

/* Most numbers that a dense register block splats against some vectors: these take a register each,
 * the splatted number one, and the sums fill the rest (of 16: 6, 4, 2 against 2, 3, 4 vectors; of
 * 32: 14, 9, 6); not more against one than against two. */
#define AS_DENSE_MOST_OF(registers, vectors) (((registers)-1 - (vectors)) / (vectors))
#define AS_DENSE_MOST(registers) AS_DENSE_MOST_OF(registers, 2)
enum { AS_DENSE_VECTORS = 2, AS_DENSE_PIXEL_VECTORS = 4, AS_DENSE_SIDE = 14 + 1 };

/* One register block of dense convolution: neighbouring output pixels of neighbouring output
 * channels. One of the two lies in vectors ("lanes"), the other one is splatted.
 *
 * Channels in lanes (rows x count pixels, `vectors` vectors of channels):
 *     sum[h][i][v] = from ? from[..] : start[v * lanes ..]
 *     for each channel c, tap j:
 *         sum[h][i][v] += in[c * channel_step + tap[j] + h * in_row_step + i]
 *                         * weights[v * weight_step + c * weight_channel + j * lanes ..]
 *     to[h * to_row_step + (i * vectors + v) * lanes ..] = relu ? max(sum, 0) : sum
 * Pixels in lanes (`vectors` vectors of pixels of one row, `count` channels):
 *     sum[i][v] = from ? from[i * to_row_step + v * lanes ..] : start[i]
 *     for each channel c, tap j:
 *         sum[i][v] += weights[c * weight_channel + j * count + i]
 *                      * in[c * channel_step + tap[j] + v * lanes ..]
 *     to[i * to_row_step + v * lanes ..] = relu ? max(sum, 0) : sum
 *
 * Ahead     0, or one line is asked for with each product (pixels in lanes) or input channel
 *           (channels in lanes), that at `ahead` and so on in steps of ahead_step bytes. Any address
 *           will do.
 * Keep      with pixels in lanes: NULL, or where vectors of input go too, one after the other in the
 *           order of the products; lanes behind last_lanes are 0. Aligned to the vector.
 * Alignment with channels in lanes, start, weights, from and to are aligned to the vector.
 * Edges     with pixels in lanes, last_lanes (1 .. lanes) lanes of the last vector count.
 * Over-read none. Aliasing: `from` is NULL or equals `to`; nothing else overlaps `to`.
 * NaN       propagates from in and from, through relu too. taps = 0 is allowed.
 */
typedef struct {
    const float *in;
    int64_t in_row_step, channel_step;
    const int32_t *tap;
    int64_t taps, channels;
    const float *weights;
    int64_t weight_channel, weight_step;
    uintptr_t ahead;
    int64_t ahead_step;
    float *keep;
    const float *start;
    const float *from;
    float *to;
    int64_t to_row_step;
    int relu;
    int last_lanes;
} as_dense_tile;

typedef void (*as_dense_tile_fn)(const as_dense_tile *tile);

/* Channels-last sums to planes: to[k * to_step + i] = from[i * from_step + k] for i < pixels,
 * k < channels <= lanes. `from` is aligned to the vector and has whole vectors of channels. */
typedef void (*as_dense_planes_fn)(const float *from, int64_t from_step, int64_t pixels,
                                   int64_t channels, float *to, int64_t to_step);

/* As many multiply-adds as registers hold sums of a register block, `steps` times, no loads: what
 * the set can do at most. Returns the floating-point operations; *seen gets a sum of the results. */
typedef int64_t (*as_roof_fn)(int64_t steps, float *seen);

/* One row by its columns' rest modulo the step: to[p * to_step + i] = from[p + i * step] for all
 * p < step and p + i * step < count. No over-read; nothing overlaps. */
typedef void (*as_dense_sort_fn)(const float *from, int64_t count, int64_t step, float *to,
                                 int64_t to_step);

typedef struct {
    /* [vectors][rows][count] and [vectors][count]; NULL: does not fit */
    as_dense_tile_fn channels[AS_DENSE_VECTORS + 1][AS_DENSE_SIDE][AS_DENSE_SIDE];
    as_dense_tile_fn pixels[AS_DENSE_PIXEL_VECTORS + 1][AS_DENSE_SIDE];
    as_dense_planes_fn planes;
    as_dense_sort_fn sort;
    as_roof_fn roof;
} as_dense_direct_kernels;

#endif
