/* The one list of instruction sets, worst to best on each architecture.
 *
 *   X(name, lanes, registers, fma)
 *
 * lanes: floats in a vector register; registers: vector registers; fma: whether multiply-add is one
 * instruction. The dispatch table, the checks in simd.h and the Python table all come from these
 * lines. What a set needs of the CPU stands in dispatch.c, its compiler flags in CMakeLists.txt.
 */
#ifndef ARCHSIM_ISA_LIST_H
#define ARCHSIM_ISA_LIST_H

/* "baseline" is what every CPU of the architecture has; on aarch64 that includes multiply-add. */
#if defined(__aarch64__)
#define AS_BASELINE_FMA 1
#else
#define AS_BASELINE_FMA 0
#endif

#define AS_ISA_LIST(X)                  \
    X(baseline, 4, 16, AS_BASELINE_FMA) \
    X(sse42, 4, 16, 0)                  \
    X(avx2, 8, 16, 1)                   \
    X(avx512, 16, 32, 1)                \
    X(neon, 4, 32, 1)

/* AS_LANES_avx512, AS_REGISTERS_avx512, ... as constants. */
#define AS_ISA_CONSTANTS(name, lanes, registers, fma) \
    AS_LANES_##name = (lanes), AS_REGISTERS_##name = (registers),
enum { AS_ISA_LIST(AS_ISA_CONSTANTS) };
#undef AS_ISA_CONSTANTS

#define AS_ISA_INDEX(name, lanes, registers, fma) AS_ISA_##name,
enum { AS_ISA_LIST(AS_ISA_INDEX) AS_ISA_COUNT };
#undef AS_ISA_INDEX

#endif
