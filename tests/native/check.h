/* What the checks share: numbers, memory with guards around it, comparison with float64. */
#ifndef ARCHSIM_CHECK_H
#define ARCHSIM_CHECK_H

#include <stdint.h>

#include "archsim_native.h"

enum { AS_CHECK_ALIGNMENT = 64 }; /* bytes; what as_alloc promises */

/* ---- the families of checks; each runs on one instruction set ---- */
void check_dispatch(void);
void check_replay(void);
void check_sparse_tiles(const as_isa *isa);
void check_lanes_tiles(const as_isa *isa);
void check_shifts_tiles(const as_isa *isa);
void check_dense_tiles(const as_isa *isa);
void check_fc_tiles(const as_isa *isa);
void check_winograd_tiles(const as_isa *isa);
void check_chains(const as_isa *isa);
void check_layers(const as_isa *isa);
void check_probes(const as_isa *isa);
void check_threads(const as_isa *isa);
void check_forks(const as_isa *isa);

/* ---- results ---- */
extern int64_t check_passed, check_failed;

/* Names the case that the next results belong to. */
void check_case(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes a crash name the case, too. */
void check_catch_crashes(void);

void check_that(int holds, const char *what);

/* A float32 result of adding up `terms` products, in any order, fused or not: its error is at most
 * (terms + 1) 2^-24 times the sum of the products' magnitudes, to first order; one more term makes
 * room for the rest, 1e-37 for numbers below the normal ones (Higham, Accuracy and Stability of
 * Numerical Algorithms, section 3.1). NaN must be NaN. */
int check_is_near(float got, double right, double magnitude, int64_t terms);

/* ---- random numbers, the same in every run ---- */
int64_t check_below(int64_t n); /* 0 .. n - 1 */
int64_t check_from(int64_t least, int64_t most);
float check_value(void); /* -1 .. 1, and never 0 */

/* ---- memory ----
 *
 * `count` floats, random ones, 64-byte aligned if `aligned`. Around them lie bytes that
 * check_release compares, and right around those pages that cannot be touched. What need not be
 * aligned ends where such a page begins. check_release frees everything.
 */
float *check_floats(int64_t count, int aligned);
void *check_zeros(int64_t size_bytes, int aligned);
void check_release(void);

/* From now on a cache line of memory follows each array, and what lies around it can be read: for
 * emulators that read masked lanes. */
void check_leave_room(void);

#endif
