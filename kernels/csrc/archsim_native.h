/* What the Python binding may call. Nobody here allocates during a run, prints or aborts. */
#ifndef ARCHSIM_NATIVE_H
#define ARCHSIM_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "fc.h"
#include "lanes.h"
#include "microkernels.h"
#include "probe.h"
#include "shifts.h"
#include "winograd.h"

enum { AS_OK = 0, AS_ERR_THREADS = -1, AS_ERR_MEMORY = -2 };

/* Zeroed, 64-byte aligned memory of exactly this size, for as_free; NULL if there is none. */
void *as_alloc(size_t size_bytes);
void as_free(void *memory);

/* ---- instruction sets (dispatch.c), index 0 .. as_isa_count() - 1, worst to best ---- */

typedef struct {
    const char *name;
    int lanes, registers, fma;
    const as_direct_row_kernels *direct_row; /* NULL: not built */
    const as_lowered_kernels *lowered;
    const as_dense_direct_kernels *dense_direct;
    const as_direct_lanes_kernels *direct_lanes;
    const as_direct_shifts_kernels *direct_shifts;
    const as_fc_kernels *fc;
    const as_winograd_kernels *winograd;
    const as_winograd_products *winograd_products;
    const as_copy_fn *copy;
    const as_probe_loops *probe;
} as_isa;

int as_isa_count(void);
const as_isa *as_isa_at(int index);
int as_isa_built(int index);
int as_isa_supported(int index); /* built, and this CPU (and its system) can run it */

/* ---- a convolution: x (N, C, H, W) -> out (N, K, P, Q), float32, contiguous ---- */

typedef struct {
    int64_t channels, height, width;
    int64_t out_channels, out_height, out_width;
    int64_t kernel_h, kernel_w;
    int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int64_t groups;
} as_shape;

/* ---- the threads of a run (team.c) ----
 *
 * threads / per_image groups of per_image threads; left-over threads idle. Group g of G takes the
 * images g, g + G, g + 2G, ... In each the ranks of the group fill the input buffer together, wait
 * for one another, and then make the units of output, part by part; part i is the units
 * [part_ptr[i], part_ptr[i + 1]). Part r is made by rank r; or, if `dynamic`, the next part by
 * whoever is free, from first to last, and there may be any number of parts. With `own_input` each
 * rank fills an input buffer of its own, with the groups that it needs, and waits for nobody: some
 * cores take longer for a line that another one wrote than for making it.
 */
typedef struct {
    int threads, per_image;
    int parts; /* per_image, unless dynamic */
    int dynamic, own_input;
    const int64_t *part_ptr; /* parts + 1 values */
    struct as_team_state *state;
} as_team;

int as_team_init(as_team *team, int threads, int per_image, int parts, int dynamic, int own_input,
                 const int64_t *part_ptr);
void as_team_free(as_team *team);

/* Seconds in each phase, the largest of any thread; waiting for others is not counted. */
typedef struct {
    double input, products, output;
} as_seconds;

/* ---- direct sparse convolution, row schedule (run_direct_row.c) ----
 *
 * Padded input of one image. Rows are row_pitch >= width + pad_w floats apart: what follows a row,
 * the left pad of the next one included, is its right pad. A channel has height + pad_h rows, its
 * bottom pad is the top pad of the next channel; pad_h rows end the image. Element (c, y, x) is at
 *     (c * (height + pad_h) + y + pad_h) * row_pitch + pad_w + x.
 * Only those are written in a run, all else stays 0 from as_alloc on.
 *
 * The reads that count end at (last row, column width + 2 * pad_w - 1), at most pad_w floats into a
 * row that is not there; the last vector of a row of outputs reads up to lanes - 1 floats further:
 *     padded_size = (channels * (height + pad_h) + pad_h) * row_pitch + pad_w + lanes - 1.
 *
 * Weights: list (block, b, i) holds the nonzeros of output channel i of an output-channel block in
 * column block b; it is [ptr[l], ptr[l + 1]) of off and val, with
 *     l = (block * column_blocks + b) * oc_block + i.
 * Blocks count through all groups, ceil(out_channels / groups / oc_block) in each; the lists of
 * channels that the last block of a group lacks are empty and not visited. The offset of weight
 * (c, r, s), c within its group, is
 *     (c * (height + pad_h) + r * dilation_h) * row_pitch + s * dilation_w.
 * AS_ROW_AHEAD more entries follow the last list.
 * Unit of part_ptr: an output-channel block.
 */
typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int64_t oc_block, column_blocks, reg_rows, reg_vectors, row_pitch;
    int spill_to_output; /* partial sums between column blocks stay in the output, not in scratch */
    int vectorised;      /* 0: pixel by pixel; needed when a stride is above 1 */
    int prefetch;        /* input is mostly beyond the first level: see as_row_tile */
    int relu;
    const int64_t *ptr;
    const int32_t *off;
    const float *val;
    const float *bias;     /* one of each output channel */
    float *const *padded;  /* one of each group of threads */
    float *const *scratch; /* one of each thread: oc_block * out_height * roundup(out_width, 16) */
} as_direct_row;

int as_direct_row_run(as_direct_row *layer, const float *x, float *out, int64_t images,
                      as_seconds *seconds);

/* ---- direct sparse convolution, lanes schedules (run_direct_lanes.c) ----
 *
 * A stride's residues take the padded image apart: plane (a, b) holds the pixels of rows
 * a, a + stride_h, ... and columns b, b + stride_w, ..., so that in a plane every weight moves by
 * whole positions. A slab is one plane of one channel, first_row x first_column of plane i being
 * plane_row[i], plane_column[i]. Slabs count channel by channel.
 *
 * Lane layout of a turn's input, buffer x: position (y, c) of slab s is the vector at
 *     s * slab_pitch + (y * in_columns + c) * lanes,
 * lane l of which is float lane_start[l] + y * plane_pitch + c of the slab's padded plane. A
 * lane is a piece of the picture, or one of `images` pictures of a turn. The padded planes of
 * one channel stand in `planes` (image by image, plane by plane, plane_size floats each); what
 * lies outside the picture stays 0 from as_alloc on.
 *
 * Output positions are computed in blocks of rows x vectors; block i has its first input position
 * at block.in floats from a slab's begin, and chunks [first_chunk, last_chunk) bring it out of lane
 * layout: chunk j takes `positions` vectors from vector `vector` of the block, in pieces
 * [first_piece, last_piece).
 *
 * Pointwise (1x1, stride 1, no padding): a slab is a channel, a vector neighbouring pixels, and
 * x the image itself where it is aligned to whole vectors and slab_pitch = height * width; else
 * a copy of its rows. block.in is then also the pixel, last_lanes counts the pixels of its last
 * vector.
 *
 * Weights: list (group * slab_blocks + b) * (out_channels / groups) + k holds the nonzeros of
 * output channel k of a group in slab block b, which is slab_block slabs (the last one perhaps
 * less). off counts bytes from the slab block's first slab; AS_LANES_AHEAD more entries follow the
 * last list. Unit of part_ptr: an output channel.
 */
/* Vectors of finished sums, or one output channel more, that wait to leave lane layout: enough
 * channels to make little of the call (some 70 cycles), few enough to stay in the first level. */
enum { AS_LANES_READY = 128 };

typedef struct {
    int64_t in, rows, vectors, first_chunk, last_chunk, last_lanes;
} as_lanes_block;

typedef struct {
    int64_t vector, positions, first_piece, last_piece;
} as_lanes_chunk;

/* Between two layers of a chain. The moves [ptr[i], ptr[i + 1]) spread sums over a slab of the next
 * layer; what no move writes stays 0 from as_alloc on.
 *
 * whole:  `ready` holds whole slabs, pitch being the next layer's slab_pitch. Block i of the layer
 *         before makes its moves as soon as it has a channel's sums, which begin at 0.
 * else:   `ready` holds sums as they are computed, vectors of block i of the layer before from
 *         first[i] on. Block i of the next layer spreads each channel's, into what it looks at of
 *         the slabs, a slab block at a time.
 */
typedef struct {
    int whole;
    float *const *ready;  /* one of each group of threads: pitch floats of each channel */
    int64_t pitch;
    const int64_t *first; /* floats */
    const int64_t *ptr;
    const as_lanes_move *move;
    const int32_t *order;
} as_lanes_link;

typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int pointwise, relu;
    int past_caches; /* pointwise: write whole, aligned vectors of output past the caches */
    int64_t images, plane_count, plane_pitch, plane_size, fill_rows, fill_columns;
    int64_t in_rows, in_columns, slab_pitch, slab_block, slab_blocks, block_count;
    const int64_t *plane_row, *plane_column, *lane_start;
    const as_lanes_block *block;
    const as_lanes_chunk *chunk;
    const as_lanes_piece *piece;
    const int64_t *ptr;
    const int32_t *off;
    const float *val;
    const float *bias;
    int64_t most_vectors;  /* of a block */
    float *const *x;       /* one of each group of threads */
    float *const *planes;  /* one of each thread */
    float *const *sums;    /* one of each thread: most channels of a part * most_vectors vectors */
    float *const *ready;   /* one of each thread: AS_LANES_READY + most_vectors + 3 vectors */
    const as_lanes_link *before; /* in a chain: where the input is (x has none); NULL: none */
    const as_lanes_link *next;   /* in a chain: where the sums go; NULL: out of lane layout */
    float *const *window;        /* if `before` is not whole, one of each thread: slab_block slabs */
} as_direct_lanes;

int as_direct_lanes_run(as_direct_lanes *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds);

/* ---- a chain of lanes layers (run_lanes_chain.c) ----
 *
 * Each layer's output is the next one's input and stays in lane layout. Layers are those above,
 * flat, tiles or images, with stride 1 and the same height, width, lanes, tile positions and
 * (flat) plane_pitch; all but the last have `next`, all but the first `before`. Turns are walked as
 * by as_direct_lanes_run; in each the ranks of a group wait for one another between layers. Every
 * layer's own part_ptr cuts its output channels; the chain's is not used. Links may share `ready` if
 * they are not neighbours (a layer reads the one before it while it writes the next one), and, if
 * they are whole, the same vectors of it stay 0.
 */
typedef struct {
    as_team team;
    int64_t layer_count;
    const as_direct_lanes *layer;
    as_seconds *const *seconds; /* one array of each thread: layer_count */
} as_lanes_chain;

/* seconds: those of each layer; the time to spread is input of the next layer, or output of the
 * one before if the link is whole. */
int as_lanes_chain_run(as_lanes_chain *chain, const float *x, float *out, int64_t images,
                       as_seconds *seconds);

/* ---- direct sparse convolution, shifts schedules (run_direct_shifts.c) ----
 *
 * Planes and slabs are those of the lanes schedules: a stride's residues. Lanes are neighbouring
 * pixels. Output positions are computed in blocks of rows x vectors; block i begins at output row
 * `top`, column `left`. Just before its products, what it looks at of a slab block is copied into
 * `window`: slab by slab, slab_pitch floats each, rows + reach_rows rows of `vectors` vectors, from
 * position (top, left) of the padded plane on. The last lanes of a row are what the kernel
 * reaches beyond the block's outputs. Vector v of a block leaves as piece first_piece + v; `whole`
 * says that all these are whole vectors that follow each other.
 *
 * `walk` is the shape that the loops walk: that of the layer, or (1x1, stride 1, no padding) one
 * that has all its pixels in one row.
 *
 * Weights: list ((group * slab_blocks + b) * (out_channels / groups) + k) * parts + i holds the
 * nonzeros of output channel k of a group in slab block b, part i; a part is those that move by
 * the same number of columns of a plane, parts - 1 - i. off counts bytes from the window's begin;
 * AS_SHIFTS_AHEAD more entries follow the last list. Unit of part_ptr: an output channel.
 */
typedef struct {
    int64_t rows, vectors, top, left, first_piece, whole;
} as_shifts_block;

typedef struct {
    as_shape shape, walk;
    as_team team;
    const as_isa *isa;
    int relu;
    int past_caches; /* write whole, aligned vectors of output past the caches */
    int64_t plane_count, reach_rows, slab_block, slab_blocks, slab_pitch, parts, block_count;
    const int64_t *plane_row, *plane_column;
    const as_shifts_block *block;
    const as_shifts_piece *piece;
    const int64_t *ptr;
    const int32_t *off;
    const float *val;
    const float *bias;
    int64_t most_vectors;  /* of a block */
    float *const *window;  /* one of each thread: slab_block * slab_pitch */
    float *const *sums;    /* one of each thread: most channels of a part * most_vectors vectors */
} as_direct_shifts;

int as_direct_shifts_run(as_direct_shifts *layer, const float *x, float *out, int64_t images,
                         as_seconds *seconds);

/* Seconds of `repeats` walks over `count` vectors that begin `shift` floats behind an aligned
 * one, one multiply-add each; < 0: no memory. count is a multiple of 12. */
double as_load_roof(const as_isa *isa, int64_t count, int64_t repeats, int64_t shift);

/* ---- lowering (im2col.c) ----
 *
 * Row (c * kernel_h + r) * kernel_w + s of the lowered matrix holds what weight (c, r, s) meets at
 * each output pixel. Rows are `pitch` floats apart; behind out_height * out_width nothing is
 * written. This makes the rows [first_row, last_row).
 */
void as_im2col(const as_shape *shape, const float *image, float *lowered, int64_t pitch,
               int64_t first_row, int64_t last_row);

/* Of the listed rows alone: row i of lowered is row rows[i] of the whole, for first <= i < last. */
void as_im2col_some(const as_shape *shape, const float *image, const int64_t *rows, float *lowered,
                    int64_t pitch, int64_t first, int64_t last);

/* ---- lowered sparse convolution (run_lowered.c) ----
 *
 * A panel is what a block of pixel_vectors vectors of output pixels needs of the lowered matrix of
 * one group; row i stands at i * pitch, pitch = pixel_vectors * lanes. Threads that share an image
 * make the panels of all groups together, one behind the other, and have two such sets in turn:
 * `lowered` has room for that. The entries of output channel k are [ptr[k], ptr[k + 1]); an
 * offset is (row in the group) * pitch. AS_LOWERED_AHEAD more entries of off follow the last list.
 *
 * Column blocks: `sums` is not NULL. Then an entry is a kernel, taps = kernel_h * kernel_w values
 * that meet as many rows from its offset on; list block * out_channels + k has those of output
 * channel k in a block of channel_block input channels of the group, and offsets count from the
 * block's first row. Every thread lowers such a block for itself, multiplies it, and leaves the
 * sums of output channel k at k * pitch of its `sums` for the next one.
 * place, tap and inside: of all vectors of output pixels, see as_lowered_fill, inside_step is their
 * number; as_lowered_places makes them.
 * Unit of part_ptr: an output channel.
 */
typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int64_t pixel_vectors;
    int64_t taps; /* 1, or values of an entry */
    int64_t channel_block;
    int relu;
    const int64_t *ptr;
    const int32_t *off;
    const float *val; /* taps of each entry */
    const float *bias;
    const int32_t *place, *tap;
    const uint16_t *inside;
    float *const *lowered; /* one of each group of threads; column blocks: of each thread */
    float *const *sums;    /* one of each thread, or NULL */
} as_lowered;

/* place: int32 of each lane of vectors = ceil(out_height * out_width / lanes); tap: of each tap;
 * inside: taps x vectors. */
void as_lowered_places(const as_shape *shape, int64_t lanes, int32_t *place, int32_t *tap,
                       uint16_t *inside);

int as_lowered_run(as_lowered *layer, const float *x, float *out, int64_t images,
                   as_seconds *seconds);

/* ---- direct dense convolution (run_dense_direct.c) ----
 *
 * Input of one image: the image itself (row_pitch = width; needs pad 0 and stride_w 1), or a copy
 * with its padding and with the columns of a row sorted by their rest modulo stride_w, so that
 * neighbouring outputs meet neighbouring inputs at every stride. Padded column x of padded row y of
 * channel c is at
 *     c * channel_pitch + y * row_pitch + (x % stride_w) * phase_pitch + x / stride_w
 * and tap (r, s) of the kernel looks tap[r * kernel_w + s] floats further than the output's corner.
 * The output has rows x columns pixels: out_height x out_width, or one row of all of them where a
 * pixel's number alone says where it looks. row_step floats of input lie between two such rows.
 *
 * With pixels in lanes, 1x1 kernels that see the output as one row may keep a panel: a band's first
 * products copy its input, [register block][channel of the group][whole vectors of pixels], for those
 * of the other output channels. Planes are far apart: in place each channel is on pages of its own.
 *
 * Channels in lanes: unit of part_ptr is a vector of output channels (the last one of a group may
 * be part empty); weights are [unit][channel of the group][tap][lanes], bias [unit][lanes], empty
 * lanes 0. Sums of a band wait in `sums`: band_rows * band_columns * reg_vectors * lanes floats.
 * Pixels in lanes: unit is a block of reg_count output channels, the last one of a group perhaps
 * smaller; weights are [unit][channel of the group][tap][channels of the unit]; sums wait in out.
 */
typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int pixel_lanes;
    int64_t reg_vectors, reg_rows, reg_count;
    int64_t channel_block;           /* input channels between two visits of the sums */
    int64_t band_rows, band_columns; /* of output; one row, or whole rows */
    int64_t rows, columns;           /* of output */
    int64_t row_pitch, channel_pitch, phase_pitch, row_step;
    int relu;
    const int32_t *tap;
    const float *weights;
    const float *bias;
    float *const *padded; /* one of each group of threads; NULL: the image itself */
    float *const *panel;  /* one of each thread; NULL: none */
    float *const *sums;   /* one of each thread */
} as_dense_direct;

int as_dense_direct_run(as_dense_direct *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds);

/* Runs the set's multiply-add loop; see as_roof_fn. */
int64_t as_roof_run(const as_isa *isa, int64_t steps, float *seen);

/* ---- the pool (pool.c) ---- */
int as_pool_workers(void);

#endif
