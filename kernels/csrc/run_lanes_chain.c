/* Layers that stay in lane layout: one conversion in, one out. */
#include <string.h>

#include "lanes_phases.h"
#include "pool.h"

static void input(void *arg, const as_turn *turn)
{
    const as_lanes_chain *chain = arg;
    const double start = as_now();
    as_lanes_input((void *)&chain->layer[0], turn);
    chain->seconds[turn->thread][0].input += as_now() - start;
}

static void layers(void *arg, const as_turn *turn)
{
    const as_lanes_chain *chain = arg;
    for (int64_t i = 0; i < chain->layer_count; ++i) {
        const as_direct_lanes *d = &chain->layer[i];
        as_seconds *seconds = &chain->seconds[turn->thread][i];
        double in = 0.0, output = 0.0;
        as_turn part = *turn;
        part.first_unit = d->team.part_ptr[turn->rank];
        part.last_unit = d->team.part_ptr[turn->rank + 1];
        part.input_seconds = &in;
        part.output_seconds = &output;
        if (i > 0 && turn->ranks > 1) /* what the colleagues wrote is read now */
            as_barrier_wait(turn->barrier);
        const double start = as_now();
        as_lanes_products((void *)d, &part);
        const double all = as_now() - start - in;
        output = output < all ? output : all; /* it is an estimate */
        seconds->input += in;
        seconds->products += all - output;
        seconds->output += output;
    }
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

int as_lanes_chain_run(as_lanes_chain *chain, const float *x, float *out, int64_t images,
                       as_seconds *seconds)
{
    const as_method method = {
        .input = input, .products = layers, .per_turn = chain->layer[0].images};
    const size_t bytes = (size_t)chain->layer_count * sizeof *seconds;
    for (int t = 0; t < chain->team.threads; ++t) memset(chain->seconds[t], 0, bytes);
    memset(seconds, 0, bytes);
    as_seconds unused;
    const int status = as_team_run(&chain->team, &method, chain, x, out, images, &unused);
    for (int t = 0; t < chain->team.threads; ++t) {
        for (int64_t i = 0; i < chain->layer_count; ++i) {
            const as_seconds s = chain->seconds[t][i];
            seconds[i].input = larger(seconds[i].input, s.input);
            seconds[i].products = larger(seconds[i].products, s.products);
            seconds[i].output = larger(seconds[i].output, s.output);
        }
    }
    return status;
}
