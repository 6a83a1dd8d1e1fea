/* Layers of the lanes schedules, for those who put them together. */
#ifndef ARCHSIM_LANES_LAYERS_H
#define ARCHSIM_LANES_LAYERS_H

#include "residues.h"

typedef enum { FLAT, TILES, IMAGES, POINTWISE } lanes_mode;

/* The least row pitch of a flat plane. */
int64_t lanes_flat_pitch(const as_shape *shape);

/* Makes a layer with a random blocking; pitch: that of a flat plane's rows, 0 for a random one. */
void lanes_make(layer *made, lanes_mode mode, int64_t pitch, int may_take);

#endif
