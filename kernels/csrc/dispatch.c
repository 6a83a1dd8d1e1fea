/* The table of instruction sets. Compiled, like the drivers, with baseline flags only. */
#include <stddef.h>

#include "archsim_native.h"
#include "isa_list.h"

/* Each set's kernels or, when this build lacks it, NULL; see add_isa in CMakeLists.txt. */
#define AS_DECLARE(name)                                          \
    extern const as_direct_row_kernels as_f32_direct_row__##name; \
    extern const as_lowered_kernels as_f32_lowered__##name;       \
    extern const as_dense_direct_kernels as_f32_dense_direct__##name; \
    extern const as_direct_lanes_kernels as_f32_direct_lanes__##name; \
    extern const as_direct_shifts_kernels as_f32_direct_shifts__##name; \
    extern const as_fc_kernels as_f32_fc__##name; \
    extern const as_winograd_kernels as_f32_winograd__##name; \
    extern const as_winograd_products as_f32_winograd_products__##name; \
    extern const as_copy_fn as_f32_copy__##name; \
    extern const as_probe_loops as_f32_probe__##name;
#define AS_KERNELS(name)                                  \
    &as_f32_direct_row__##name, &as_f32_lowered__##name, \
        &as_f32_dense_direct__##name, &as_f32_direct_lanes__##name, \
        &as_f32_direct_shifts__##name, &as_f32_fc__##name, &as_f32_winograd__##name, \
        &as_f32_winograd_products__##name, &as_f32_copy__##name, \
        &as_f32_probe__##name
#define AS_NO_KERNELS NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL

AS_DECLARE(baseline)
#define AS_KERNELS_baseline AS_KERNELS(baseline)

#ifdef AS_HAVE_SSE42
AS_DECLARE(sse42)
#define AS_KERNELS_sse42 AS_KERNELS(sse42)
#else
#define AS_KERNELS_sse42 AS_NO_KERNELS
#endif

#ifdef AS_HAVE_AVX2
AS_DECLARE(avx2)
#define AS_KERNELS_avx2 AS_KERNELS(avx2)
#else
#define AS_KERNELS_avx2 AS_NO_KERNELS
#endif

#ifdef AS_HAVE_AVX512
AS_DECLARE(avx512)
#define AS_KERNELS_avx512 AS_KERNELS(avx512)
#else
#define AS_KERNELS_avx512 AS_NO_KERNELS
#endif

#ifdef AS_HAVE_NEON
AS_DECLARE(neon)
#define AS_KERNELS_neon AS_KERNELS(neon)
#else
#define AS_KERNELS_neon AS_NO_KERNELS
#endif

#define AS_ROW(name, lanes, registers, fma) \
    [AS_ISA_##name] = {#name, lanes, registers, fma, AS_KERNELS_##name},
static const as_isa table[AS_ISA_COUNT] = {AS_ISA_LIST(AS_ROW)};

/* __builtin_cpu_supports also asks whether the operating system saves the wide registers. */
static int cpu_has(int index)
{
    switch (index) {
    case AS_ISA_baseline:
        return 1;
#if defined(__x86_64__)
    case AS_ISA_sse42:
        return __builtin_cpu_supports("sse4.2") != 0;
    case AS_ISA_avx2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case AS_ISA_avx512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    case AS_ISA_neon:
        return 1; /* mandatory on aarch64 */
#endif
    default:
        return 0;
    }
}

int as_isa_count(void)
{
    return AS_ISA_COUNT;
}

const as_isa *as_isa_at(int index)
{
    return &table[index];
}

int as_isa_built(int index)
{
    return table[index].direct_row != NULL;
}

int as_isa_supported(int index)
{
    return as_isa_built(index) && cpu_has(index);
}
