/* Transpositions between rows of pixels and lane layout, four columns at a time.
 *
 * A vector is lanes / 4 quarters of four floats. Row 4 k + i gives quarter k of vector i;
 * exchanging the four vectors' floats inside each quarter then makes vector m hold column m of
 * all rows. The quarters are put together by loads, so that only 2 shuffles per vector remain.
 * Include after simd.h.
 */
#ifndef ARCHSIM_TRANSPOSE_H
#define ARCHSIM_TRANSPOSE_H

typedef float as_quarter __attribute__((vector_size(16), aligned(4), may_alias));

AS_INLINE as_vec as_join(as_quarter a, as_quarter b, as_quarter c, as_quarter d)
{
#if AS_LANES == 16
    __m512 v = _mm512_castps128_ps512((__m128)a);
    v = _mm512_insertf32x4(v, (__m128)b, 1);
    v = _mm512_insertf32x4(v, (__m128)c, 2);
    return (as_vec)_mm512_insertf32x4(v, (__m128)d, 3);
#elif AS_LANES == 8
    (void)c, (void)d;
    return (as_vec)_mm256_insertf128_ps(_mm256_castps128_ps256((__m128)a), (__m128)b, 1);
#else
    (void)b, (void)c, (void)d;
    return (as_vec)a;
#endif
}

AS_INLINE as_quarter as_load_quarter(const float *p)
{
    return *(const as_quarter *)p;
}

/* Row r, four floats of it, begins at from + start[r]. */
AS_INLINE void as_load_fours_at(const float *from, const int64_t *start, as_vec four[4])
{
    AS_UNROLL for (int i = 0; i < 4; ++i) {
        as_quarter part[4] = {{0}};
        AS_UNROLL for (int k = 0; k < AS_LANES / 4; ++k)
            part[k] = as_load_quarter(from + start[4 * k + i]);
        four[i] = as_join(part[0], part[1], part[2], part[3]);
    }
}

/* Row r begins at from + r * pitch; of the AS_LANES rows only `rows`, in whole fours, are read. */
AS_INLINE void as_load_fours(const float *from, int64_t pitch, int64_t rows, as_vec four[4])
{
    AS_UNROLL for (int i = 0; i < 4; ++i) {
        as_quarter part[4] = {{0}};
        AS_UNROLL for (int k = 0; k < AS_LANES / 4; ++k)
            if (4 * k < rows)
                part[k] = as_load_quarter(from + (4 * k + i) * pitch);
        four[i] = as_join(part[0], part[1], part[2], part[3]);
    }
}

AS_INLINE void as_transpose_fours(as_vec four[4])
{
#if AS_LANES == 16
#define AS_EACH_QUARTER(a, b, c, d)                                                           \
    {a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, \
     d + 12}
#elif AS_LANES == 8
#define AS_EACH_QUARTER(a, b, c, d) {a, b, c, d, a + 4, b + 4, c + 4, d + 4}
#else
#define AS_EACH_QUARTER(a, b, c, d) {a, b, c, d}
#endif
    enum { N = AS_LANES };
    const as_mask low = AS_EACH_QUARTER(0, N, 1, N + 1), high = AS_EACH_QUARTER(2, N + 2, 3, N + 3);
    const as_mask left = AS_EACH_QUARTER(0, 1, N, N + 1);
    const as_mask right = AS_EACH_QUARTER(2, 3, N + 2, N + 3);
    const as_vec a = __builtin_shuffle(four[0], four[1], low);
    const as_vec b = __builtin_shuffle(four[0], four[1], high);
    const as_vec c = __builtin_shuffle(four[2], four[3], low);
    const as_vec d = __builtin_shuffle(four[2], four[3], high);
    four[0] = __builtin_shuffle(a, c, left);
    four[1] = __builtin_shuffle(a, c, right);
    four[2] = __builtin_shuffle(b, d, left);
    four[3] = __builtin_shuffle(b, d, right);
#undef AS_EACH_QUARTER
}

/* p[at + i] where bit i is set, else 0; nothing else is read. */
AS_INLINE as_vec as_load_bits(const float *p, int64_t at, uint32_t bits)
{
#if AS_LANES == 16
    return (as_vec)_mm512_maskz_loadu_ps((__mmask16)bits, p + at);
#elif AS_LANES == 8
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)bits), bit);
    return (as_vec)_mm256_maskload_ps(p + at, _mm256_cmpeq_epi32(set, bit));
#else
    as_vec v = {0};
    for (int i = 0; i < AS_LANES; ++i)
        if (bits >> i & 1u)
            v[i] = p[at + i];
    return v;
#endif
}

/* Lane l is p[order[l]], or 0 where that is negative; p is aligned to the vector. */
AS_INLINE as_vec as_reorder(const float *p, const int32_t *order)
{
#if AS_LANES == 16
    const __m512i lane = _mm512_loadu_si512(order);
    return (as_vec)_mm512_maskz_permutexvar_ps(_knot_mask16(_mm512_movepi32_mask(lane)), lane,
                                               (__m512)as_load_aligned(p));
#elif AS_LANES == 8
    const __m256i lane = _mm256_loadu_si256((const __m256i *)order);
    const __m256 moved = _mm256_permutevar8x32_ps((__m256)as_load_aligned(p), lane);
    return (as_vec)_mm256_andnot_ps((__m256)_mm256_srai_epi32(lane, 31), moved);
#elif defined(__SSE4_1__)
    /* bytes 4 l .. 4 l + 3; of -1 all four have their sign set, which makes them 0 */
    const __m128i lane = _mm_loadu_si128((const __m128i *)order);
    const __m128i byte = _mm_add_epi32(_mm_mullo_epi32(lane, _mm_set1_epi32(0x04040404)),
                                       _mm_set1_epi32(0x03020100));
    return (as_vec)_mm_shuffle_epi8((__m128i)as_load_aligned(p), byte);
#else
    as_vec v = {0};
    for (int l = 0; l < AS_LANES; ++l)
        v[l] = order[l] < 0 ? 0.0f : p[order[l]];
    return v;
#endif
}

/* p[i] = v[i] where bit i is set; nothing else is touched. */
AS_INLINE void as_store_bits(float *p, as_vec v, uint32_t bits)
{
#if AS_LANES == 16
    _mm512_mask_storeu_ps(p, (__mmask16)bits, (__m512)v);
#elif AS_LANES == 8
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)bits), bit);
    _mm256_maskstore_ps(p, _mm256_cmpeq_epi32(set, bit), (__m256)v);
#else
    if (bits == 15u)
        as_store(p, v);
    else
        for (int i = 0; i < AS_LANES; ++i)
            if (bits >> i & 1u)
                p[i] = v[i];
#endif
}

#endif
