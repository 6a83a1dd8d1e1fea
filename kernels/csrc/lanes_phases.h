/* Phases of a layer in lane layout, which chains run as well (run_direct_lanes.c). */
#ifndef ARCHSIM_LANES_PHASES_H
#define ARCHSIM_LANES_PHASES_H

#include "team.h"

/* The picture into lane layout; `layer` is an as_direct_lanes, not pointwise. */
void as_lanes_input(void *layer, const as_turn *turn);

/* The products of the turn's units, with the way in from the layer before and the way out. */
void as_lanes_products(void *layer, const as_turn *turn);

#endif
