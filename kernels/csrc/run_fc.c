/* Fully connected layers, x (N, C) -> out (N, K): sparse and dense. */
#include "products.h"
#include "team.h"

/* ---- sparse ---- */

/* Images of this turn. */
static int64_t images_of(const as_turn *turn, int64_t most)
{
    return as_min(most, turn->images - turn->image * most);
}

/* x to [input][image]: each rank its part of the inputs. */
static void into_lanes(void *layer, const as_turn *turn)
{
    const as_fc_sparse *d = layer;
    const int64_t inputs = d->shape.channels, lanes = d->isa->lanes;
    const int64_t images = images_of(turn, d->images);
    const float *x = turn->x + turn->image * d->images * inputs;
    float *to = d->x[turn->group];
    int64_t first, last;
    as_share(turn, inputs, 1, &first, &last);
    for (int64_t i = 0; i < images; i += lanes)
        d->isa->fc->turn(x + i * inputs + first, inputs, as_min(lanes, images - i), last - first,
                         to + first * d->images + i, d->images);
}

/* Block of inputs -> output -> nonzero, this rank's outputs. */
static void sparse_products(void *layer, const as_turn *turn)
{
    const as_fc_sparse *d = layer;
    const int64_t outputs = d->shape.out_channels;
    const int in_lanes = d->x != NULL;
    /* lists are packed for this number of vectors, whether the last turn fills them or not */
    const as_fc_rows_fn run =
        in_lanes ? d->isa->fc->rows[d->images / d->isa->lanes] : d->isa->fc->gather;
    const int64_t first = turn->first_unit, column = d->input_block * d->images;
    const float *in = in_lanes ? d->x[turn->group] : turn->x + turn->image * d->shape.channels;
    float *sums = in_lanes ? d->sums[turn->group] : turn->out + turn->image * outputs + first;
    for (int64_t b = 0; b < d->input_blocks; ++b) {
        const as_fc_rows rows = {.in = in + b * column,
                                 .ptr = d->ptr + b * outputs + first,
                                 .row = in_lanes ? d->row + b * outputs + first : NULL,
                                 .off = d->off,
                                 .val = d->val,
                                 .rows = turn->last_unit - first,
                                 .start = b > 0     ? NULL
                                          : in_lanes ? d->bias
                                                     : d->bias + first,
                                 .sums = sums,
                                 .step = d->images,
                                 .relu = d->relu && b == d->input_blocks - 1};
        run(&rows);
    }
}

/* Sums [output][image] to out, this rank's outputs. */
static void out_of_lanes(void *layer, const as_turn *turn)
{
    const as_fc_sparse *d = layer;
    const int64_t outputs = d->shape.out_channels, lanes = d->isa->lanes;
    const int64_t images = images_of(turn, d->images);
    float *out = turn->out + turn->image * d->images * outputs;
    for (int64_t k = turn->first_unit; k < turn->last_unit; k += lanes)
        d->isa->fc->turn(d->sums[turn->group] + k * d->images, d->images,
                         as_min(lanes, turn->last_unit - k), images, out + k, outputs);
}

int as_fc_sparse_run(as_fc_sparse *layer, const float *x, float *out, int64_t images,
                     as_seconds *seconds)
{
    const as_method method = {.input = layer->x ? into_lanes : NULL,
                              .products = sparse_products,
                              .end = layer->x ? out_of_lanes : NULL,
                              .per_turn = layer->images};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}

/* ---- dense ---- */

/* x to [block of images][input][image of the block]: each rank its part of the inputs. */
static void into_blocks(void *layer, const as_turn *turn)
{
    const as_fc_dense *d = layer;
    const int64_t inputs = d->shape.channels, lanes = d->isa->lanes;
    const int64_t images = images_of(turn, d->images);
    const float *x = turn->x + turn->image * d->images * inputs;
    int64_t first, last;
    as_share(turn, inputs, 1, &first, &last);
    for (int64_t block = 0; block < images; block += d->reg_images) {
        const int64_t count = as_min(d->reg_images, images - block);
        float *to = d->x[turn->group] + block * inputs + first * d->reg_images;
        for (int64_t i = 0; i < count; i += lanes)
            d->isa->fc->turn(x + (block + i) * inputs + first, inputs, as_min(lanes, count - i),
                             last - first, to + i, d->reg_images);
    }
}

/* Unit of outputs -> block of images -> input. */
static void dense_products(void *layer, const as_turn *turn)
{
    const as_fc_dense *d = layer;
    const int64_t inputs = d->shape.channels, outputs = d->shape.out_channels;
    const int64_t wide = d->reg_vectors * d->isa->lanes;
    const int64_t images = images_of(turn, d->images);
    const float *x = d->x ? d->x[turn->group] : turn->x + turn->image * inputs;
    float *out = turn->out + turn->image * d->images * outputs;
    for (int64_t unit = turn->first_unit; unit < turn->last_unit; ++unit)
        for (int64_t i = 0; i < images; i += d->reg_images) {
            const int64_t count = as_min(d->reg_images, images - i);
            const as_fc_tile tile = {.in = x + i * inputs,
                                     .in_step = d->reg_images,
                                     .depth = inputs,
                                     .weights = d->weights + unit * wide * inputs,
                                     .start = d->bias + unit * wide,
                                     .to = out + i * outputs + unit * wide,
                                     .to_step = outputs,
                                     .lanes = as_min(wide, outputs - unit * wide),
                                     .relu = d->relu};
            d->isa->fc->tile[count][d->reg_vectors](&tile);
        }
}

int as_fc_dense_run(as_fc_dense *layer, const float *x, float *out, int64_t images,
                    as_seconds *seconds)
{
    const as_method method = {.input = layer->x ? into_blocks : NULL,
                              .products = dense_products,
                              .per_turn = layer->images};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
