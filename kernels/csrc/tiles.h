/* The register blocks that exist: every rows x vectors that fits the accumulators of a set.
 *
 * AS_TILES(X) calls X(rows, vectors) once for each; the kernels, and through their tables the
 * dispatch and the tests, are made from this list alone. Include after simd.h.
 */
#ifndef ARCHSIM_TILES_H
#define ARCHSIM_TILES_H

#define AS_TILES_OF_14(X)                                                                         \
    X(1, 1)                                                                                       \
    X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12)    \
        X(1, 13) X(1, 14) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(3, 1) X(3, 2) \
            X(3, 3) X(3, 4) X(4, 1) X(4, 2) X(4, 3) X(5, 1) X(5, 2) X(6, 1) X(6, 2) X(7, 1)       \
                X(7, 2) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1) X(13, 1) X(14, 1)

/* More than 14, at most 30. */
#define AS_TILES_OF_30(X)                                                                       \
    X(1, 15)                                                                                    \
    X(1, 16) X(1, 17) X(1, 18) X(1, 19) X(1, 20) X(1, 21) X(1, 22) X(1, 23) X(1, 24) X(1, 25)   \
        X(1, 26) X(1, 27) X(1, 28) X(1, 29) X(1, 30) X(2, 8) X(2, 9) X(2, 10) X(2, 11) X(2, 12) \
            X(2, 13) X(2, 14) X(2, 15) X(3, 5) X(3, 6) X(3, 7) X(3, 8) X(3, 9) X(3, 10) X(4, 4) \
                X(4, 5) X(4, 6) X(4, 7) X(5, 3) X(5, 4) X(5, 5) X(5, 6) X(6, 3) X(6, 4) X(6, 5) \
                    X(7, 3) X(7, 4) X(8, 2) X(8, 3) X(9, 2) X(9, 3) X(10, 2) X(10, 3) X(11, 2)  \
                        X(12, 2) X(13, 2) X(14, 2) X(15, 1) X(15, 2) X(16, 1) X(17, 1) X(18, 1) \
                            X(19, 1) X(20, 1) X(21, 1) X(22, 1) X(23, 1) X(24, 1) X(25, 1)      \
                                X(26, 1) X(27, 1) X(28, 1) X(29, 1) X(30, 1)

#if AS_MAX_ACCUMULATORS == 14
#define AS_TILES(X) AS_TILES_OF_14(X)
#elif AS_MAX_ACCUMULATORS == 30
#define AS_TILES(X) AS_TILES_OF_14(X) AS_TILES_OF_30(X)
#else
#error "no list of tiles for this number of registers"
#endif

/* Lowered: rows of one vector list, so that the count alone chooses. */
#define AS_COUNTS_OF_14(X) \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define AS_COUNTS_OF_30(X) \
    X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30)

#if AS_MAX_ACCUMULATORS == 14
#define AS_COUNTS(X) AS_COUNTS_OF_14(X)
#else
#define AS_COUNTS(X) AS_COUNTS_OF_14(X) AS_COUNTS_OF_30(X)
#endif

/* Dense: rows x splatted numbers, at most AS_DENSE_MOST(AS_REGISTERS), against 1 or 2 vectors. */
#define AS_DENSE_TILES_OF_6(X)                                                           \
    X(1, 1)                                                                              \
    X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(2, 1) X(2, 2) X(2, 3) X(3, 1) X(3, 2) X(4, 1) \
        X(5, 1) X(6, 1)

#if AS_REGISTERS == 16
#define AS_DENSE_TILES(X) AS_DENSE_TILES_OF_6(X)
#define AS_DENSE_COUNTS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define AS_DENSE_COUNTS_OF_3(X) X(1) X(2) X(3) X(4)
#define AS_DENSE_COUNTS_OF_4(X) X(1) X(2)
#else
#define AS_DENSE_TILES(X) AS_TILES_OF_14(X)
#define AS_DENSE_COUNTS(X) AS_COUNTS_OF_14(X)
#define AS_DENSE_COUNTS_OF_3(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
#define AS_DENSE_COUNTS_OF_4(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif

/* Winograd: lists side by side x vectors of tiles, as many as sums at most as there are registers
 * beside a splatted number or two. */
#define AS_LISTS_OF_14(X)                                                                  \
    X(1, 1)                                                                                \
    X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12) \
        X(1, 13) X(1, 14) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(4, 1)  \
            X(4, 2) X(4, 3) X(8, 1)
#if AS_REGISTERS == 16
#define AS_LISTS(X) AS_LISTS_OF_14(X)
#else
#define AS_LISTS(X)                                                                       \
    AS_LISTS_OF_14(X)                                                                     \
    X(2, 8)                                                                               \
    X(2, 9) X(2, 10) X(2, 11) X(2, 12) X(2, 13) X(2, 14) X(4, 4) X(4, 5) X(4, 6) X(4, 7) \
        X(8, 2) X(8, 3)
#endif

#endif
