/* Fully connected layers, packed as products.h says. */
#include "layers.h"

static int is_connected(const layer_spec *spec)
{
    const as_shape *s = &spec->shape;
    return layer_is_connected(s) && s->groups == 1;
}

/* ---- sparse ---- */

/* The lists of block b are a part's outputs in any order; this is where output k has its own. */
static void shuffle_rows(const layer *made, int32_t *row)
{
    const as_team *team = &made->team;
    for (int i = 0; i < team->parts; ++i)
        for (int64_t k = team->part_ptr[i]; k < team->part_ptr[i + 1]; ++k) {
            const int64_t other = check_from(team->part_ptr[i], k);
            row[k] = row[other], row[other] = (int32_t)k;
        }
}

/* Sorted by length: then a group's first list is its shortest. */
static void sort_rows(const layer *made, int64_t first_input, int64_t last_input, int32_t *row)
{
    const as_team *team = &made->team;
    const layer_spec *spec = &made->spec;
    for (int i = 0; i < team->parts; ++i)
        for (int64_t k = team->part_ptr[i] + 1; k < team->part_ptr[i + 1]; ++k)
            for (int64_t j = k; j > team->part_ptr[i]; --j) {
                int64_t longer = 0;
                for (int64_t c = first_input; c < last_input; ++c)
                    longer += (spec->weights[row[j - 1] * spec->shape.channels + c] != 0.0f) -
                              (spec->weights[row[j] * spec->shape.channels + c] != 0.0f);
                if (longer <= 0)
                    break;
                const int32_t here = row[j];
                row[j] = row[j - 1], row[j - 1] = here;
            }
}

/* The nonzeros of part i of the block whose first list is l. */
static void pack_part(const layer *made, int64_t unit, int64_t l, int i, const int64_t *ptr,
                      const int32_t *row, uint16_t *off, float *val)
{
    const as_fc_sparse *d = &made->of.fc_sparse;
    const int64_t inputs = d->shape.channels, begin = made->team.part_ptr[i];
    const int64_t rows = made->team.part_ptr[i + 1] - begin;
    const int64_t beside = d->x ? d->isa->fc->lists[d->images / d->isa->lanes] : 1;
    const int64_t first = l / d->shape.out_channels * d->input_block;
    const int64_t last = smaller(first + d->input_block, inputs);
    for (int64_t k = 0; k < rows; ++k) {
        int64_t n = 0;
        for (int64_t c = first; c < last; ++c) {
            const float weight = made->spec.weights[row[l + begin + k] * inputs + c];
            if (weight == 0.0f)
                continue;
            const int64_t at = fc_entry(ptr + l + begin, rows, beside, k, n++);
            off[at] = (uint16_t)((c - first) * unit), val[at] = weight;
        }
    }
}

static void pack_sparse(layer *made, int64_t unit)
{
    const layer_spec *spec = &made->spec;
    as_fc_sparse *d = &made->of.fc_sparse;
    const int64_t inputs = spec->shape.channels, outputs = spec->shape.out_channels;
    const int64_t lists = d->input_blocks * outputs;
    int64_t nonzeros = 0, n = 0;
    for (int64_t i = 0; i < inputs * outputs; ++i) nonzeros += spec->weights[i] != 0.0f;
    int64_t *ptr = check_zeros((lists + 1) * (int64_t)sizeof(int64_t), 0);
    int32_t *row = check_zeros(lists * (int64_t)sizeof(int32_t), 0);
    uint16_t *off = check_zeros(nonzeros * (int64_t)sizeof(uint16_t), 0);
    float *val = check_zeros(nonzeros * (int64_t)sizeof(float), 0);
    for (int64_t l = 0; l < lists; ++l) {
        const int64_t first = l / outputs * d->input_block;
        const int64_t last = smaller(first + d->input_block, inputs);
        if (l % outputs == 0) {
            for (int64_t k = 0; k < outputs; ++k) row[l + k] = (int32_t)k;
            if (d->x != NULL) {
                shuffle_rows(made, row + l);
                sort_rows(made, first, last, row + l);
            }
        }
        for (int64_t c = first; c < last; ++c) n += spec->weights[row[l] * inputs + c] != 0.0f;
        ptr[l + 1] = n;
    }
    for (int64_t l = 0; l < lists; l += outputs)
        for (int i = 0; i < made->team.parts; ++i)
            pack_part(made, unit, l, i, ptr, row, off, val);
    d->ptr = ptr, d->off = off, d->val = val, d->row = row;
}

static int run_sparse(layer *made, const float *x, float *out, int64_t images,
                      as_seconds *seconds)
{
    return as_fc_sparse_run(&made->of.fc_sparse, x, out, images, seconds);
}

/* vectors 0: gather. */
static void make_sparse(layer *made, int64_t vectors)
{
    const layer_spec *spec = &made->spec;
    as_fc_sparse *d = &made->of.fc_sparse;
    const int64_t inputs = spec->shape.channels, images = vectors * spec->isa->lanes;
    *d = (as_fc_sparse){.shape = spec->shape, .isa = spec->isa, .relu = spec->relu,
                        .bias = spec->bias, .images = vectors ? images : 1,
                        .team = layer_team(made, spec->shape.out_channels, 0),
                        .input_block = check_from(1, inputs)};
    d->input_blocks = div_up(inputs, d->input_block);
    if (vectors > 0) {
        d->x = layer_buffers(groups_of_threads(spec), inputs * images, 1);
        d->sums = layer_buffers(groups_of_threads(spec), spec->shape.out_channels * images, 1);
    }
    pack_sparse(made, vectors ? images / 2 : 1);
    made->run = run_sparse;
}

static void make_gather(layer *made)
{
    make_sparse(made, 0);
}

static void make_images(layer *made)
{
    make_sparse(made, check_from(1, AS_FC_VECTORS));
}

/* ---- dense ---- */

static void pack_dense(layer *made)
{
    const layer_spec *spec = &made->spec;
    as_fc_dense *d = &made->of.fc_dense;
    const int64_t inputs = spec->shape.channels, outputs = spec->shape.out_channels;
    const int64_t wide = d->reg_vectors * d->isa->lanes, units = div_up(outputs, wide);
    float *weights = check_zeros(units * wide * inputs * (int64_t)sizeof(float), 1);
    float *bias = check_zeros(units * wide * (int64_t)sizeof(float), 1);
    for (int64_t k = 0; k < outputs; ++k) {
        bias[k] = spec->bias[k];
        for (int64_t c = 0; c < inputs; ++c)
            weights[(k / wide * inputs + c) * wide + k % wide] = spec->weights[k * inputs + c];
    }
    d->weights = weights, d->bias = bias;
}

static int run_dense(layer *made, const float *x, float *out, int64_t images, as_seconds *seconds)
{
    return as_fc_dense_run(&made->of.fc_dense, x, out, images, seconds);
}

static void make_dense(layer *made)
{
    const layer_spec *spec = &made->spec;
    const as_isa *isa = spec->isa;
    as_fc_dense *d = &made->of.fc_dense;
    *d = (as_fc_dense){.shape = spec->shape, .isa = isa, .relu = spec->relu};
    do {
        d->reg_images = check_from(1, AS_FC_IMAGES);
        d->reg_vectors = check_from(1, AS_FC_DENSE_VECTORS);
    } while (isa->fc->tile[d->reg_images][d->reg_vectors] == NULL);
    d->images = d->reg_images + check_below(2) * check_below(20);
    d->team = layer_team(made, div_up(spec->shape.out_channels, d->reg_vectors * isa->lanes), 0);
    if (d->images > 1)
        d->x = layer_buffers(
            groups_of_threads(spec),
            spec->shape.channels * div_up(d->images, d->reg_images) * d->reg_images, 0);
    pack_dense(made);
    made->run = run_dense;
}

const layer_method fc_methods[] = {{"fully connected, gather", is_connected, make_gather},
                                   {"fully connected, images in lanes", is_connected, make_images},
                                   {"fully connected, dense", is_connected, make_dense},
                                   {NULL, NULL, NULL}};
