/* What the Python binding may call, continued: layers that are matrix products, by BLAS, with their
 * pixels left out, or position by position of a transformation. */
#ifndef ARCHSIM_PRODUCTS_H
#define ARCHSIM_PRODUCTS_H

#include "archsim_native.h"

/* ---- dense matrix product (run_dense.c) ----
 *
 * sgemm is the Fortran BLAS function; it must be safe to call from several threads at once. Unit of
 * part_ptr: an output channel.
 *
 * fully_connected (height = width = kernel = 1, no pad): one product over the whole batch. The team
 * is then one group of all threads, and the batch its only turn.
 */
typedef void (*as_sgemm_fn)(char *trans_a, char *trans_b, int *m, int *n, int *k, float *alpha,
                            float *a, int *lda, float *b, int *ldb, float *beta, float *c,
                            int *ldc);

typedef struct {
    as_shape shape;
    as_team team;
    as_sgemm_fn sgemm;
    int fully_connected;
    int64_t pitch; /* of the lowered matrix */
    int relu;
    const float *weights;  /* (K, C / groups, R, S) */
    const float *bias;     /* NULL: none */
    float *const *lowered; /* one of each group of threads; NULL: the image is the lowered matrix */
} as_dense;

int as_dense_run(as_dense *layer, const float *x, float *out, int64_t images, as_seconds *seconds);

/* ---- the smaller dense product of structured sparsity (run_structured.c) ----
 *
 * Kept rows of the lowered matrix, group by group and rising: group g has row
 * [row_ptr[g], row_ptr[g + 1]). Output channel k is kept where kept_ptr[k + 1] > kept_ptr[k]; those
 * before it are kept_ptr[k]. A group's matrix, kept channels x kept rows, begins at weight_ptr[g].
 * Channels that are not kept are bias alone. Unit of part_ptr: an output channel, kept or not.
 */
typedef struct {
    as_shape shape;
    as_team team;
    as_sgemm_fn sgemm;
    int64_t pitch; /* of the lowered rows */
    int relu;
    const int64_t *row, *row_ptr, *kept_ptr, *weight_ptr;
    const float *weights;
    const float *bias;     /* one of each output channel; NULL: none */
    float *const *lowered; /* one of each group of threads: kept rows * pitch */
} as_structured;

int as_structured_run(as_structured *layer, const float *x, float *out, int64_t images,
                      as_seconds *seconds);

/* ---- fully connected layers (run_fc.c): height = width = kernel = 1, no pad, one group ----
 *
 * All threads of a group work on the same images, `images` of them a turn.
 *
 * Sparse: list b * out_channels + i of ptr, off and val holds the nonzeros of output row[that list]
 * in the b-th block of input_block inputs. The lists [part_ptr[r], part_ptr[r + 1]) of a block are
 * rank r's outputs in any order, with images in lanes in groups as as_fc_rows says. Unit of part_ptr: an output.
 *   Gather (x NULL, images 1): offsets are inputs of the block; lists are in the order of outputs.
 *   Images in lanes: images is a number of vectors, at most AS_FC_VECTORS; buffer x is
 *   [input][image] and sums [output][image]; offsets are (input of the block) * images / 2.
 * Dense: weights [unit][input][reg_vectors * lanes outputs], bias [unit][outputs], zeros behind the
 * last output; buffer x is [block of reg_images images][input][image of the block], or NULL where
 * images is 1. Unit of part_ptr: reg_vectors vectors of outputs.
 */
typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int64_t images, input_block, input_blocks;
    int relu;
    const int64_t *ptr;
    const int32_t *row;
    const uint16_t *off;
    const float *val;
    const float *bias;
    float *const *x;    /* one of each group of threads: channels * images; NULL: gather */
    float *const *sums; /* one of each group of threads: out_channels * images */
} as_fc_sparse;

int as_fc_sparse_run(as_fc_sparse *layer, const float *x, float *out, int64_t images,
                     as_seconds *seconds);

typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int64_t images, reg_images, reg_vectors;
    int relu;
    const float *weights;
    const float *bias;
    float *const *x; /* one of each group of threads: channels * roundup(images, reg_images) */
} as_fc_dense;

int as_fc_dense_run(as_fc_dense *layer, const float *x, float *out, int64_t images,
                    as_seconds *seconds);

/* ---- Winograd convolution, dense and sparse (run_winograd.c) ----
 *
 * Stride 1, no dilation; the variant's kernel. An output plane is tile_rows x tile_columns tiles of
 * tile_outputs x tile_outputs, made of tile x tile inputs each. The tiles of a turn's `images`
 * pictures, picture by picture and row by row, fill vectors. What they look at is read where it is
 * (in_window, counted from a channel of the turn's first picture); or, and where the last turn has fewer
 * pictures, in padded planes of one channel: lane l of vector v begins at float start[v * lanes + l]
 * (`planes`: plane_size floats for each picture, rows plane_pitch apart, padding 0 from as_alloc on).
 * place[v * lanes + l] says where its outputs go, counted from the turn's first picture; lanes without
 * a tile go nowhere.
 *
 * A thread takes chunks of chunk_vectors vectors through all phases, in steps of reg_vectors. Of a
 * group, element (position q, input channel c, vector v) of the transformed input is the vector
 *     transformed + q * transformed_pitch + v / reg_vectors * step_size
 *                 + (slot of c * reg_vectors + v % reg_vectors) * lanes
 * and (q, output channel k of a block of out_block, v) of the sums
 *     sums + q * sums_pitch + (k * chunk_vectors + v) * lanes.
 * Channels have their own numbers as slots where they are dense (in_block 0); else blocks of in_block
 * channels begin anew in each group, and behind each block is a slot that stays 0 from as_alloc on.
 *
 * Weights, sparse: lists of one position, output channel and block of input channels, in groups of
 * reg_lists. Group by group of the convolution, block by block of output channels: [position][block
 * of input channels][group of lists]; group i is the entries [ptr[i], ptr[i + 1]), round by round the
 * reg_lists entries of a round, row[i * reg_lists + l] the output channel in its block, or the
 * block's size for a list that is there to fill the group. off counts bytes from the block's first
 * vector of a step. Dense (`weights` is not NULL), one block of output channels after the other,
 * [position][register block of up to reg_count channels][input channel][channel].
 * Unit of part_ptr: a chunk of a turn.
 */
typedef struct {
    as_shape shape;
    as_team team;
    const as_isa *isa;
    int variant, relu;
    int64_t tile_outputs, tile, tile_rows, tile_columns, images;
    int64_t chunk_vectors, reg_vectors, reg_lists, reg_count, in_block, out_block;
    int64_t plane_pitch, plane_size, transformed_pitch, step_size, sums_pitch;
    const int64_t *start;
    const as_winograd_place *place;
    const int64_t *whole; /* one of each vector */
    const as_winograd_window *in_window; /* tile_outputs of each vector; NULL: through planes */
    const as_winograd_piece *out_piece;  /* tile_outputs of each vector */
    const int64_t *in_kind, *out_kind;   /* one of each vector */
    const int64_t *ptr;
    const int32_t *off;
    const float *val;
    const int32_t *row;
    const float *weights;
    const float *bias;
    float *const *planes; /* these are one of each thread */
    float *const *transformed;
    float *const *sums;
    float *const *scratch; /* tile * tile vectors */
} as_winograd;

int as_winograd_run(as_winograd *layer, const float *x, float *out, int64_t images,
                    as_seconds *seconds);

#endif
