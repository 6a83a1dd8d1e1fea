/* Layers packed in C, with the float64 convolution that they are held against. */
#ifndef ARCHSIM_LAYERS_H
#define ARCHSIM_LAYERS_H

#include "check.h"
#include "products.h"

/* What is to be computed, by how many threads. */
typedef struct {
    const as_isa *isa;
    as_shape shape;
    const float *weights; /* (K, C / groups, R, S), zeros among them */
    const float *bias;
    int relu, threads, per_image;
} layer_spec;

typedef struct layer {
    layer_spec spec;
    as_team team;
    int (*run)(struct layer *layer, const float *x, float *out, int64_t images,
               as_seconds *seconds);
    /* NULL: the result is the convolution with the spec's weights */
    int (*is_right)(const struct layer *layer, const float *x, const float *out, int64_t images);
    const float *transformed; /* weights of another domain, if there are any */
    union {
        as_direct_row row;
        as_direct_lanes lanes;
        as_direct_shifts shifts;
        as_winograd winograd;
        as_fc_sparse fc_sparse;
        as_fc_dense fc_dense;
        as_lowered lowered;
        as_dense dense;
        as_structured structured;
        as_dense_direct direct;
    } of;
} layer;

/* One way to pack a layer: `fits` says whether it can, NULL: always. Blockings are random ones. */
typedef struct {
    const char *name;
    int (*fits)(const layer_spec *spec);
    void (*make)(layer *made);
} layer_method;

/* A list that ends with an entry without a name. */
extern const layer_method sparse_methods[], lanes_methods[], shifts_methods[], dense_methods[],
    fc_methods[], winograd_methods[];

enum { LAYER_METHOD_LISTS = 6 };
const layer_method *layer_methods(int list);

/* ---- for those who make layers ---- */

/* The layer's team. Its ranks share the units evenly or, at random, if they may, take parts. */
as_team layer_team(layer *made, int64_t units, int may_take);
int64_t layer_most_units(const layer *made); /* of a part */

/* `count` buffers of so many floats, zeroed. */
float *const *layer_buffers(int64_t count, int64_t floats, int aligned);

/* Which list a weight belongs to, and its offset. k counts through all groups, c in its own. */
typedef struct {
    int64_t list, off;
} layer_place;
typedef layer_place (*layer_place_fn)(const layer *made, int64_t k, int64_t c, int64_t r,
                                      int64_t s);

/* 1x1, stride 1, no padding: pixels may be taken as one row. */
int layer_is_pointwise(const layer_spec *spec);

/* One pixel, which is all that the kernel looks at. */
int layer_is_connected(const as_shape *shape);

/* The nonzeros in `lists` lists, in the order (k, c, r, s) inside each; `ahead` more entries. */
void layer_pack(const layer *made, int64_t lists, int64_t ahead, layer_place_fn place,
                const int64_t **ptr, const int32_t **off, const float **val);

static inline int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Channels of one group. */
static inline int64_t group_in(const as_shape *s)
{
    return s->channels / s->groups;
}

static inline int64_t group_out(const as_shape *s)
{
    return s->out_channels / s->groups;
}

/* Buffers of input, of a layer that may have one for each thread: drawn here. */
static inline int64_t buffers_of_input(as_team *team)
{
    team->own_input = (int)check_below(2);
    return team->own_input ? team->threads : team->threads / team->per_image;
}

static inline int64_t groups_of_threads(const layer_spec *spec)
{
    return spec->threads / spec->per_image;
}

/* ---- for those who run them ---- */

enum { LAYER_SHAPES = 16 };
as_shape layer_shape(int index);

/* Random weights (about half of them 0), bias and relu. */
layer_spec layer_random(const as_isa *isa, as_shape shape, int threads, int per_image);

layer *layer_make(const layer_method *method, const layer_spec *spec);
void layer_free(layer *made); /* what check_release does not know of */

int64_t layer_x_size(const as_shape *shape);
int64_t layer_out_size(const as_shape *shape);

/* Whether `out` is what the layer makes of `images` images x. */
int layer_is_right(const layer *made, const float *x, const float *out, int64_t images);

/* Where nonzero n of a row stands, rows in groups of `lists`: see as_fc_rows. */
int64_t fc_entry(const int64_t *ptr, int64_t rows, int64_t lists, int64_t row, int64_t n);

#endif
