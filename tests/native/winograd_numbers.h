/* Winograd's transformations in float64, by their matrices, with the magnitudes of all terms. */
#ifndef ARCHSIM_WINOGRAD_NUMBERS_H
#define ARCHSIM_WINOGRAD_NUMBERS_H

#include "layers.h"

enum { WINOGRAD_SIDE = 8 }; /* the largest t */

/* Numbers of a tile, row by row without gaps. */
typedef struct {
    double value[WINOGRAD_SIDE * WINOGRAD_SIDE];
    double magnitude[WINOGRAD_SIDE * WINOGRAD_SIDE];
} winograd_tile;

int winograd_outputs(int variant); /* m */
int winograd_side(int variant);    /* t */

/* B^T d B, and A^T s A; for magnitudes, those of the matrices. */
void winograd_into(int variant, winograd_tile *tile);
void winograd_out_of(int variant, winograd_tile *tile);

/* Most roundings that a number meets in both: a row with n numbers costs at most n. */
int64_t winograd_roundings(int variant);

/* The m pieces of a vector whose tiles are at place[0 ..]; returns their kind. */
int64_t winograd_pieces(const as_winograd_place *place, int64_t lanes, int64_t m,
                        as_winograd_piece *piece);

/* Where tiles stand: `across` in a row, in_image in a picture, pictures image_step floats apart. */
typedef struct {
    int variant;
    int64_t lanes, across, in_image, tiles; /* tiles: of all pictures */
    int64_t pad_h, pad_w, height, width, image_step;
} winograd_picture;

/* The windows of a vector of tiles from `first` on; returns its kind. */
int64_t winograd_windows(const winograd_picture *picture, int64_t first, as_winograd_window *window);

#endif
