/* Vectors of one instruction set, for the microkernels.
 *
 * GCC vector extensions give load, store, splat and multiply-add on every set; intrinsics appear
 * only where a part of a vector must be read or written without touching the rest. Everything is
 * static: an object compiled with wide flags must offer the linker nothing that baseline code
 * could pick up.
 *
 * The including file is compiled with -DAS_ISA=<name> -DAS_ISA_IS_<NAME> and that set's flags.
 */
#ifndef ARCHSIM_SIMD_H
#define ARCHSIM_SIMD_H

#include <stdint.h>

#include "isa_list.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(AS_ISA_IS_AVX512)
#if !defined(__AVX512F__) || !defined(__FMA__)
#error "avx512 needs -mavx512f -mfma"
#endif
#define AS_LANES 16
#define AS_REGISTERS 32
#elif defined(AS_ISA_IS_AVX2)
#if !defined(__AVX2__) || !defined(__FMA__)
#error "avx2 needs -mavx2 -mfma"
#endif
#define AS_LANES 8
#define AS_REGISTERS 16
#elif defined(AS_ISA_IS_NEON)
#define AS_LANES 4
#define AS_REGISTERS 32
#else
#define AS_LANES 4
#define AS_REGISTERS 16
#endif

/* Accumulators at most: one register stays for the splatted weight and one for a loaded vector. */
#define AS_MAX_ACCUMULATORS (AS_REGISTERS - 2)

#define AS_CAT_(a, b) a##__##b
#define AS_CAT(a, b) AS_CAT_(a, b)
/* as_f32_direct_row -> as_f32_direct_row__avx512 */
#define AS_EXPORT(name) AS_CAT(name, AS_ISA)

#define AS_OF_ISA_(name, isa) name##isa
#define AS_OF_ISA(name, isa) AS_OF_ISA_(name, isa)
_Static_assert(AS_LANES == AS_OF_ISA(AS_LANES_, AS_ISA), "isa_list.h disagrees with simd.h");
_Static_assert(AS_REGISTERS == AS_OF_ISA(AS_REGISTERS_, AS_ISA),
               "isa_list.h disagrees with simd.h");

#define AS_INLINE static inline __attribute__((always_inline))

/* The loops over accumulators must vanish, or the accumulators do not stay in registers. With a
 * check at each access that would be minutes of compiling, and there the time does not matter. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define AS_UNROLL
#elif defined(__clang__)
#define AS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AS_UNROLL _Pragma("GCC unroll 32")
#endif

/* Hides how a pointer was made. Without it compilers keep a register per row, run out and spill. */
#define AS_OPAQUE(pointer) __asm__("" : "+r"(pointer))

/* The same for a vector: what is made of it must be made again. */
#if defined(__x86_64__)
#define AS_OPAQUE_VECTOR(vector) __asm__("" : "+v"(vector))
#elif defined(__aarch64__)
#define AS_OPAQUE_VECTOR(vector) __asm__("" : "+w"(vector))
#else
#define AS_OPAQUE_VECTOR(vector) __asm__("" : "+m"(vector))
#endif

/* Marks around the body of a loop of rows x vectors accumulators, for a throughput analyser that reads
 * the assembly (archsim validate incore); nothing in any other build. `next` goes on into the next
 * turn: it must be where that one looks for it. */
#if defined(AS_MARK_LOOPS)
#define AS_LOOP_BEGIN(name, rows, vectors) \
    __asm__ volatile("# LLVM-MCA-BEGIN " name "-%c0x%c1" ::"i"(rows), "i"(vectors))
#define AS_LOOP_END(next) __asm__ volatile("# LLVM-MCA-END" : "+r"(next))
#else
#define AS_LOOP_BEGIN(name, rows, vectors) ((void)0)
#define AS_LOOP_END(next) ((void)0)
#endif

typedef float as_vec __attribute__((vector_size(4 * AS_LANES)));
typedef int32_t as_mask __attribute__((vector_size(4 * AS_LANES)));
/* The same vector anywhere in an array of float. */
typedef float as_vec_anywhere __attribute__((vector_size(4 * AS_LANES), aligned(4), may_alias));

AS_INLINE as_vec as_load(const float *p)
{
    return *(const as_vec_anywhere *)p;
}

AS_INLINE void as_store(float *p, as_vec v)
{
    *(as_vec_anywhere *)p = v;
}

/* p must be aligned to the vector. */
AS_INLINE as_vec as_load_aligned(const float *p)
{
    return *(const as_vec *)__builtin_assume_aligned(p, 4 * AS_LANES);
}

/* p must be aligned to the vector. */
AS_INLINE void as_store_aligned(float *p, as_vec v)
{
    *(as_vec *)__builtin_assume_aligned(p, 4 * AS_LANES) = v;
}

/* p must be aligned to the vector. Writes to memory, past the caches, where the set can; the thread
 * must call a store fence before others may rely on it. */
AS_INLINE void as_store_past_caches(float *p, as_vec v)
{
#if AS_LANES == 16
    _mm512_stream_ps(p, (__m512)v);
#elif AS_LANES == 8
    _mm256_stream_ps(p, (__m256)v);
#elif defined(__x86_64__)
    _mm_stream_ps(p, (__m128)v);
#else
    as_store_aligned(p, v);
#endif
}

AS_INLINE as_vec as_splat(float x)
{
    return x - (as_vec){0}; /* not "+": -0.0f + 0.0f would be 0.0f */
}

/* Negative lanes become 0; NaN stays NaN. */
AS_INLINE as_vec as_relu(as_vec v)
{
    const as_mask negative = v < (as_vec){0};
    return (as_vec)((as_mask)v & ~negative);
}

/* The first `count` lanes, 1 <= count <= AS_LANES; nothing behind them is read, the rest is 0. */
AS_INLINE as_vec as_load_first(const float *p, int count)
{
#if AS_LANES == 16
    return (as_vec)_mm512_maskz_loadu_ps((__mmask16)(0xffffu >> (16 - count)), p);
#elif AS_LANES == 8
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (as_vec)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
#else
    as_vec v = {0};
    for (int i = 0; i < count; ++i) v[i] = p[i];
    return v;
#endif
}

/* Lane l of the vector at this address where bit l is set; nothing else is read, the rest is 0. */
AS_INLINE as_vec as_load_chosen(uintptr_t address, uint32_t bits)
{
    const float *p = (const float *)address;
#if AS_LANES == 16
    return (as_vec)_mm512_maskz_loadu_ps((__mmask16)bits, p);
#elif AS_LANES == 8
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)bits), bit);
    return (as_vec)_mm256_maskload_ps(p, _mm256_cmpeq_epi32(set, bit));
#else
    if (bits == 15u)
        return as_load(p);
    as_vec v = {0};
    for (int i = 0; i < AS_LANES; ++i)
        if (bits >> i & 1u)
            v[i] = p[i];
    return v;
#endif
}

/* Lane l is p[index[l]] where bit l is set, else 0 and not read. */
AS_INLINE as_vec as_gather_chosen(const float *p, as_mask index, uint32_t bits)
{
#if AS_LANES == 16
    return (as_vec)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), (__mmask16)bits, (__m512i)index,
                                            p, 4);
#else
    as_vec v = {0};
    for (int i = 0; i < AS_LANES; ++i)
        if (bits >> i & 1u)
            v[i] = p[index[i]];
    return v;
#endif
}

/* Writes the first `count` lanes, 1 <= count <= AS_LANES, and nothing behind them. */
AS_INLINE void as_store_first(float *p, as_vec v, int count)
{
#if AS_LANES == 16
    _mm512_mask_storeu_ps(p, (__mmask16)(0xffffu >> (16 - count)), (__m512)v);
#elif AS_LANES == 8
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane), (__m256)v);
#else
    for (int i = 0; i < count; ++i) p[i] = v[i];
#endif
}

#endif
