/* Transposition of one square of a vector's lanes. Include after or instead of simd.h. */
#ifndef ARCHSIM_SHUFFLE_H
#define ARCHSIM_SHUFFLE_H

#include "simd.h"

/* Lanes of a (0 .. lanes - 1) and of b (lanes ..) in any order. */
#if defined(__clang__)
#define AS_SHUFFLE(a, b, ...) __builtin_shufflevector((a), (b), __VA_ARGS__)
#else
#define AS_SHUFFLE(a, b, ...) __builtin_shuffle((a), (b), (as_mask){__VA_ARGS__})
#endif

/* a0 b0 a1 b1 ...: of the lower halves, and of the upper ones. */
#if AS_LANES == 16
#define AS_ZIP_LOW(a, b) \
    AS_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define AS_ZIP_HIGH(a, b) \
    AS_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif AS_LANES == 8
#define AS_ZIP_LOW(a, b) AS_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define AS_ZIP_HIGH(a, b) AS_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define AS_ZIP_LOW(a, b) AS_SHUFFLE(a, b, 0, 4, 1, 5)
#define AS_ZIP_HIGH(a, b) AS_SHUFFLE(a, b, 2, 6, 3, 7)
#endif

/* Those of even numbers of both. */
#if AS_LANES == 16
#define AS_EVEN(a, b) \
    AS_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#elif AS_LANES == 8
#define AS_EVEN(a, b) AS_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#else
#define AS_EVEN(a, b) AS_SHUFFLE(a, b, 0, 2, 4, 6)
#endif

/* Each step zips the vectors of the first half with those of the second: it turns the bits of
 * (vector, lane) around by one place, and log2(lanes) steps exchange the two. */
AS_INLINE void as_transpose(as_vec *v)
{
    AS_UNROLL for (int step = 1; step < AS_LANES; step *= 2) {
        as_vec w[AS_LANES];
        AS_UNROLL for (int i = 0; i < AS_LANES / 2; ++i) {
            w[2 * i] = AS_ZIP_LOW(v[i], v[i + AS_LANES / 2]);
            w[2 * i + 1] = AS_ZIP_HIGH(v[i], v[i + AS_LANES / 2]);
        }
        AS_UNROLL for (int i = 0; i < AS_LANES; ++i)
            v[i] = w[i];
    }
}

#endif
