/* Microkernels of the shifts schedule: contracts, and what each instruction set's object exports.
 *
 * Lanes are neighbouring pixels of a row, and rows are whole vectors. A shift by a kernel's row moves
 * from vector to vector. For its columns the sums move, not the picture: with A_s for what the
 * nonzeros of column s add up,
 *
 *     out[l] = sum over s of A_s[l + s],   so   out = A_0 + slide(A_1 + slide(A_2 + ...)),
 *
 * where slide moves sums down by one lane. So every vector is loaded where it is aligned, from one
 * copy of the padded rows, and sums leave as they are.
 */
#ifndef ARCHSIM_SHIFTS_H
#define ARCHSIM_SHIFTS_H

#include <stdint.h>

#include "microkernels.h"

/* What the pipelined loop reads of `off` behind the last nonzero of a call. */
enum { AS_SHIFTS_AHEAD = 4 };

/* Lane i of a vector goes to place + i where bit i is set. */
typedef struct {
    int64_t place; /* may be negative: bits are set only where place + i is inside */
    int64_t bits;
} as_shifts_piece;

/* One register block of `lists` output channels, one after the other: `vectors` accumulators over
 * each channel's nonzeros, which come in `parts`, the kernel's last column first.
 *
 *     for each list k:
 *         acc = 0
 *         for each part i:
 *             acc = slide(acc)
 *             for each nonzero j of [ptr[k * parts + i], ptr[k * parts + i + 1]):
 *                 acc[v] += val[j] * in[off[j] + v * lanes .. + lanes)
 *         acc += from ? from[k * from_step ..] : start[k]
 *         to[k * to_step ..] = relu ? max(acc, 0) : acc
 *
 * slide     lane l takes lane l + 1, the last lane the first one of the next vector, that of the
 *           last vector anything.
 * Layout    off counts bytes. piece NULL: `to` is whole vectors, aligned, one after the other.
 *           Else vector v goes to to[k * to_step + piece[v].place ..]; nothing but the set bits'
 *           places is written. past_caches: all bits of all pieces are set, vectors follow each
 *           other, and may be written past the caches where they are aligned; the caller fences
 *           before others read them.
 * Over-read of off: AS_SHIFTS_AHEAD entries behind the last list must be readable; they reach
 *           nothing.
 * Alignment in + off[j], from and from_step to whole vectors. Aliasing: `from` may equal `to` if
 *           their steps are equal; nothing else overlaps `to`.
 * NaN       propagates from `in` and `from`, through relu too. Parts may be empty.
 */
typedef struct {
    const float *in;
    const int64_t *ptr; /* lists * parts + 1 */
    int64_t lists, parts;
    const int32_t *off;
    const float *val;
    const float *from; /* NULL: begin with start */
    int64_t from_step;
    const float *start;
    int relu;
    float *to;
    int64_t to_step;
    const as_shifts_piece *piece;
    int past_caches;
} as_shifts_tile;

typedef void (*as_shifts_tile_fn)(const as_shifts_tile *tile);

/* Rows of pixels of some channels into whole vectors: channel c, row y, lane l of all vectors is
 *
 *     to[c * to_channel + y * vectors * lanes + l] =
 *         from[c * from_channel + (y - above) * from_row + first + l * step],
 *
 * or 0 where y - above is outside [0, rows), or first + l * step outside [0, width); the rows of
 * a channel are above + rows + below. `first` may be negative; vectors <= AS_TILE_SIDE. Nothing
 * outside [0, width) of a row is read. `to` is aligned to the vector, and so is to_channel.
 */
typedef struct {
    const float *from;
    int64_t from_channel, from_row, step, width, first;
    int64_t channels, above, rows, below, vectors;
    int64_t to_channel;
} as_shifts_rows;

typedef void (*as_shifts_rows_fn)(const as_shifts_rows *rows, float *to);

typedef struct {
    as_shifts_tile_fn tile[AS_TILE_SIDE]; /* [vectors]; NULL: does not fit */
    as_shifts_rows_fn rows;
} as_direct_shifts_kernels;

#endif
