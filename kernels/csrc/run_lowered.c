/* Lowered sparse convolution: im2col, then CSR x dense in register blocks of pixels. */
#include "team.h"

static void lower(void *layer, const as_turn *turn)
{
    const as_lowered *d = layer;
    const as_shape *s = &d->shape;
    int64_t first, last;
    as_share(turn, s->channels * s->kernel_h * s->kernel_w, &first, &last);
    as_im2col(s, turn->x + turn->image * s->channels * s->height * s->width,
              d->lowered[turn->group], d->pitch, first, last);
}

/* Pixel block -> output channel -> nonzero: what a block needs of the lowered matrix stays near. */
static void products(void *layer, const as_turn *turn)
{
    const as_lowered *d = layer;
    const as_shape *s = &d->shape;
    const int64_t lanes = d->isa->lanes, pixels = s->out_height * s->out_width;
    const int64_t out_in_group = s->out_channels / s->groups;
    const int64_t group_size = s->channels / s->groups * s->kernel_h * s->kernel_w * d->pitch;
    float *out = turn->out + turn->image * s->out_channels * pixels;

    for (int64_t first = 0; first < pixels; first += d->pixel_vectors * lanes) {
        const int64_t count = as_min(d->pixel_vectors * lanes, pixels - first);
        const int64_t vectors = as_div_up(count, lanes);
        const as_lowered_tile_fn run = d->isa->lowered->tile[vectors];
        for (int64_t k = turn->first_unit; k < turn->last_unit; ++k) {
            const as_lowered_tile tile = {.in = d->lowered[turn->group] +
                                                k / out_in_group * group_size + first,
                                          .off = d->off + d->ptr[k],
                                          .val = d->val + d->ptr[k],
                                          .n = d->ptr[k + 1] - d->ptr[k],
                                          .start = d->bias[k],
                                          .relu = d->relu,
                                          .to = out + k * pixels + first,
                                          .last_lanes = (int)(count - (vectors - 1) * lanes)};
            run(&tile);
        }
    }
}

int as_lowered_run(as_lowered *layer, const float *x, float *out, int64_t images,
                   as_seconds *seconds)
{
    const as_method method = {.input = lower, .products = products};
    return as_team_run(&layer->team, &method, layer, x, out, images, seconds);
}
