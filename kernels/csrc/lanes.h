/* Microkernels of the lanes schedules: contracts, and what each instruction set's object exports.
 *
 * Lane layout: a vector holds one position of `lanes` far-apart pieces of the picture (or of as
 * many pictures). A shift by a kernel's row and column moves from vector to vector, never
 * inside one, so every vector is loaded where it is aligned.
 */
#ifndef ARCHSIM_LANES_H
#define ARCHSIM_LANES_H

#include <stdint.h>

#include "microkernels.h"

/* What the pipelined loop reads of `off` behind the last nonzero of a call. */
enum { AS_LANES_AHEAD = 4 };

/* One register block of `lists` output channels, one after the other: rows x vectors accumulators
 * over each channel's list of nonzeros.
 *
 *     for each list k:
 *         acc[h][v] = from ? from[k * from_step ..][h][v] : start[k]
 *         for each nonzero j of [ptr[k], ptr[k + 1]):
 *             acc[h][v] += val[j] * in[off[j] + h * in_pitch + v * lanes .. + lanes)
 *         to[k * to_step ..][h][v] = relu ? max(acc, 0) : acc
 *
 * Layout    rows of `in` are in_pitch floats apart; what is read of `from` and written to `to` of a
 *           list is rows * vectors whole vectors, one after the other. off counts bytes.
 * Edges     last_lanes 0: `to` is in lane layout, aligned, written in full. Else `to` is a row of
 *           pixels: not aligned, and of the last vector only last_lanes lanes are written.
 *           past_caches: whole, aligned vectors of pixels may be written past the caches, and the
 *           caller fences before others read them.
 * Over-read of off: AS_LANES_AHEAD entries behind the last list must be readable; they reach
 *           nothing. lists = 0 too reads those at ptr[0].
 * Alignment in + off[j], in_pitch, from and from_step to whole vectors. Aliasing: `from` may equal
 *           `to` if their steps are equal; nothing else overlaps `to`.
 * NaN       propagates from `in` and `from`, through relu too. Lists may be empty.
 */
typedef struct {
    const float *in;
    int64_t in_pitch;
    const int64_t *ptr; /* lists + 1 */
    int64_t lists;
    const int32_t *off;
    const float *val;
    const float *from; /* NULL: begin with start */
    int64_t from_step;
    const float *start;
    int relu;
    float *to;
    int64_t to_step;
    int last_lanes;
    int past_caches;
} as_lanes_tile;

typedef void (*as_lanes_tile_fn)(const as_lanes_tile *tile);

/* Into lane layout: to[i * lanes + l] = from[start[l] + i] for i < count, l < lanes.
 *
 * Over-read up to 3 floats behind the last one of each lane. `to` is aligned to the vector.
 */
typedef void (*as_lanes_in_fn)(const float *from, const int64_t *start, int64_t count, float *to);

/* Out of lane layout. A piece is what one lane writes of up to `lanes` neighbouring positions: of
 * lane `lane`, position i goes to out[place + i] where bit i is set. */
typedef struct {
    int64_t place; /* may be negative: bits are set only where place + i is inside */
    int32_t lane;
    uint32_t bits;
} as_lanes_piece;

/* Writes `count` pieces, ordered by lane, of the first `positions` (1 .. lanes) vectors of `from`.
 *
 * Pieces of lanes from `used` on are left out. Over-read: vectors of `from` up to the next multiple
 * of 4. `from` is aligned to the vector. Nothing but the set bits' places is written.
 */
typedef void (*as_lanes_out_fn)(const float *from, int64_t positions, const as_lanes_piece *piece,
                                int64_t count, int used, float *out);

/* From one layer to the next in lane layout: a vector of sums, its lanes in another order, is a
 * vector of a slab. */
typedef struct {
    int32_t from, to; /* floats from the begin of the channel's sums, and of its slab */
    int32_t order;    /* where the order begins in `order` */
} as_lanes_move;

/* to[move.to + l] = order[move.order + l] < 0 ? 0 : from[move.from + order[move.order + l]]
 * for l < lanes and `count` moves.
 *
 * from, to and what a move adds to them are whole, aligned vectors; orders are -1 .. lanes - 1.
 * NaN in a lane that no order names reaches nothing.
 */
typedef void (*as_lanes_spread_fn)(const float *from, const as_lanes_move *move, int64_t count,
                                 const int32_t *order, float *to);

/* to[i] = from[i * step] for i < count. */
typedef void (*as_lanes_pick_fn)(const float *from, int64_t step, int64_t count, float *to);

/* The limit of all these loops, for benchmarks: `repeats` walks over `count` vectors from
 * `from`, each loaded by one multiply-add, no weights and no offsets. count is a multiple of
 * 12; `from` need only be aligned as float. The sums' sum goes to *to. */
typedef void (*as_lanes_roof_fn)(const float *from, int64_t count, int64_t repeats, float *to);

typedef struct {
    as_lanes_tile_fn tile[AS_TILE_SIDE][AS_TILE_SIDE]; /* [rows][vectors]; NULL: does not fit */
    as_lanes_in_fn in;
    as_lanes_out_fn out;
    as_lanes_spread_fn spread;
    as_lanes_pick_fn pick;
    as_lanes_roof_fn roof;
} as_direct_lanes_kernels;

#endif
