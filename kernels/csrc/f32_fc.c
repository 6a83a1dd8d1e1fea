/* Fully connected layers: sparse rows, dense register blocks. Contracts: fc.h. */
#include "fc.h"

#include <string.h>

#include "shuffle.h"
#include "simd.h"
#include "tiles.h"

/* Nonzeros from a load to its prefetch: 4 KiB of weights and 2 KiB of offsets. The hardware's
 * prefetchers alone leave a gather loop waiting for its weights. */
enum { AHEAD = 1024 };

AS_INLINE void prefetch(const void *base, int64_t bytes)
{
    /* the address may lie outside of the array, where pointers must not be made */
    __builtin_prefetch((const void *)((uintptr_t)base + (uintptr_t)bytes));
}

/* Into the second level alone: fewer lines wait at the first while memory answers. */
AS_INLINE void prefetch_far(const void *base, int64_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)base + (uintptr_t)bytes), 0, 2);
}

AS_INLINE float relu_of(float x)
{
    return x < 0.0f ? 0.0f : x; /* NaN stays */
}

/* The offset in the lowest 16 bits, and the next one there: four take one load. */
AS_INLINE uint64_t next_of(uint64_t *four)
{
    const uint64_t here = *four & 0xffffu;
    *four >>= 16;
    AS_OPAQUE(*four); /* or each offset is taken from the four anew, by one operation more */
    return here;
}

/* A group: `lists` rows side by side, first as many nonzeros of each as the first row has. */
AS_INLINE void group_of(const as_fc_rows *t, int64_t i, int vectors, int lists)
{
    as_vec sum[AS_MAX_ACCUMULATORS];
    const float *in = t->in;
    const int64_t common = t->ptr[i + 1] - t->ptr[i];
    const uint16_t *off = t->off + t->ptr[i];
    const float *val = t->val + t->ptr[i];
    AS_UNROLL for (int l = 0; l < lists; ++l) {
        const int32_t row = t->row[i + l];
        AS_UNROLL for (int v = 0; v < vectors; ++v)
            sum[l * vectors + v] = t->start ? as_splat(t->start[row])
                                            : as_load_aligned(t->sums + row * t->step + v * AS_LANES);
    }
    for (int64_t j = 0; j < common; ++j, off += lists, val += lists) {
        prefetch_far(val, 2 * AHEAD * 4);
        prefetch_far(off, 2 * AHEAD * 2);
        uint64_t four = 0;
        AS_UNROLL for (int l = 0; l < lists; ++l) {
            if (lists % 4 == 0 && l % 4 == 0) /* the lowest is the first: little endian */
                memcpy(&four, off + l, sizeof four);
            const float *at = in + 2 * (lists % 4 == 0 ? next_of(&four) : off[l]);
            const as_vec weight = as_splat(val[l]);
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                sum[l * vectors + v] += weight * as_load_aligned(at + v * AS_LANES);
        }
    }
    AS_UNROLL for (int l = 0; l < lists; ++l) {
        const int32_t row = t->row[i + l];
        for (int64_t j = t->ptr[i + l + 1] - t->ptr[i + l]; j > common; --j, ++off, ++val) {
            const as_vec weight = as_splat(*val);
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                sum[l * vectors + v] += weight * as_load_aligned(in + 2 * *off + v * AS_LANES);
        }
        AS_UNROLL for (int v = 0; v < vectors; ++v) {
            const as_vec last = sum[l * vectors + v];
            as_store_aligned(t->sums + row * t->step + v * AS_LANES, t->relu ? as_relu(last) : last);
        }
    }
}

/* X(vectors, lists side by side): sums that hide the latency of the multiply-adds and fit registers. */
#if AS_REGISTERS == 32
#define AS_FC_LISTS(X) X(1, 16) X(2, 8) X(3, 8) X(4, 4)
#else
#define AS_FC_LISTS(X) X(1, 8) X(2, 4) X(3, 4) X(4, 2)
#endif

#define AS_SMALLER_GROUP(vectors, lists, n)   \
    if ((n) < (lists) && t->rows - i >= (n)) { \
        group_of(t, i, vectors, n);            \
        i += (n);                              \
    }
#define AS_DEFINE_ROWS(vectors, lists)                                               \
    static void rows_##vectors(const as_fc_rows *t)                                  \
    {                                                                                \
        int64_t i = 0;                                                               \
        for (; i + (lists) <= t->rows; i += (lists)) group_of(t, i, vectors, lists); \
        AS_SMALLER_GROUP(vectors, lists, 8)                                          \
        AS_SMALLER_GROUP(vectors, lists, 4)                                          \
        AS_SMALLER_GROUP(vectors, lists, 2)                                          \
        AS_SMALLER_GROUP(vectors, lists, 1)                                          \
    }
AS_FC_LISTS(AS_DEFINE_ROWS)

/* One row of the gather form, from nonzero j to last, beginning with `sum`. */
#if AS_LANES == 16
AS_INLINE float gather_row(const as_fc_rows *t, int64_t j, int64_t last, float sum)
{
    __m512 a = _mm512_setzero_ps(), b = _mm512_setzero_ps();
    for (; j + 32 <= last; j += 32) {
        prefetch(t->val, (j + AHEAD) * 4);
        prefetch(t->val, (j + AHEAD) * 4 + 64);
        prefetch(t->off, (j + AHEAD) * 2);
        const __m512i at = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(t->off + j)));
        const __m512i to =
            _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(t->off + j + 16)));
        a = _mm512_fmadd_ps(_mm512_loadu_ps(t->val + j), _mm512_i32gather_ps(at, t->in, 4), a);
        b = _mm512_fmadd_ps(_mm512_loadu_ps(t->val + j + 16), _mm512_i32gather_ps(to, t->in, 4), b);
    }
    for (; j < last; j += 16) {
        const int64_t left = last - j;
        const __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1u) : (__mmask16)0xffffu;
        const __m512i at = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, t->off + j));
        const __m512 x = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, at, t->in, 4);
        a = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, t->val + j), x, a);
    }
    return sum + _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}
#elif AS_LANES == 8
AS_INLINE float gather_row(const as_fc_rows *t, int64_t j, int64_t last, float sum)
{
    __m256 a = _mm256_setzero_ps(), b = _mm256_setzero_ps();
    for (; j + 16 <= last; j += 16) {
        prefetch(t->val, (j + AHEAD) * 4);
        prefetch(t->off, (j + AHEAD) * 2);
        const __m256i at = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(t->off + j)));
        const __m256i to = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(t->off + j + 8)));
        a = _mm256_fmadd_ps(_mm256_loadu_ps(t->val + j), _mm256_i32gather_ps(t->in, at, 4), a);
        b = _mm256_fmadd_ps(_mm256_loadu_ps(t->val + j + 8), _mm256_i32gather_ps(t->in, to, 4), b);
    }
    for (; j < last; ++j) sum += t->val[j] * t->in[t->off[j]];
    const as_vec both = (as_vec)_mm256_add_ps(a, b);
    for (int i = 0; i < AS_LANES; ++i) sum += both[i];
    return sum;
}
#else
AS_INLINE float gather_row(const as_fc_rows *t, int64_t j, int64_t last, float sum)
{
    float more[3] = {0.0f, 0.0f, 0.0f};
    for (; j + 4 <= last; j += 4) {
        prefetch(t->val, (j + AHEAD) * 4);
        prefetch(t->off, (j + AHEAD) * 2);
        sum += t->val[j] * t->in[t->off[j]];
        AS_UNROLL for (int i = 0; i < 3; ++i)
            more[i] += t->val[j + 1 + i] * t->in[t->off[j + 1 + i]];
    }
    for (; j < last; ++j) sum += t->val[j] * t->in[t->off[j]];
    return sum + more[0] + (more[1] + more[2]);
}
#endif

static void gather(const as_fc_rows *t)
{
    for (int64_t i = 0; i < t->rows; ++i) {
        const float from = t->start ? t->start[i] : t->sums[i];
        const float sum = gather_row(t, t->ptr[i], t->ptr[i + 1], from);
        t->sums[i] = t->relu ? relu_of(sum) : sum;
    }
}

AS_INLINE void run_tile(const as_fc_tile *t, int images, int vectors)
{
    as_vec sum[AS_FC_IMAGES][AS_FC_DENSE_VECTORS];
    AS_UNROLL for (int i = 0; i < images; ++i)
        AS_UNROLL for (int v = 0; v < vectors; ++v)
            sum[i][v] = as_load_aligned(t->start + v * AS_LANES);
    const float *in = t->in, *weights = t->weights;
    for (int64_t c = 0; c < t->depth; ++c) {
        AS_UNROLL for (int v = 0; v < vectors; ++v)
            prefetch(weights, 4096 + v * (int)sizeof(as_vec));
        AS_UNROLL for (int i = 0; i < images; ++i) {
            const as_vec x = as_splat(in[i]);
            AS_UNROLL for (int v = 0; v < vectors; ++v)
                sum[i][v] += x * as_load_aligned(weights + v * AS_LANES);
        }
        in += t->in_step;
        weights += vectors * AS_LANES;
    }
    AS_UNROLL for (int i = 0; i < images; ++i) {
        float *to = t->to + i * t->to_step;
        AS_UNROLL for (int v = 0; v < vectors; ++v) {
            const int64_t left = t->lanes - v * AS_LANES;
            const as_vec last = t->relu ? as_relu(sum[i][v]) : sum[i][v];
            if (left >= AS_LANES)
                as_store(to + v * AS_LANES, last);
            else if (left > 0)
                as_store_first(to + v * AS_LANES, last, (int)left);
        }
    }
}

/* Sums, a vector of weights or two, and a splatted number fit the registers. */
#if AS_REGISTERS == 32
#define AS_FC_TILES(X)                                                                          \
    X(1, 1)                                                                                     \
    X(1, 2) X(1, 4) X(1, 8) X(2, 1) X(2, 2) X(2, 4) X(2, 8) X(3, 1) X(3, 2) X(3, 4) X(4, 1) X(4, 2) \
        X(4, 4) X(5, 1) X(5, 2) X(5, 4) X(6, 1) X(6, 2) X(6, 4) X(7, 1) X(7, 2) X(8, 1) X(8, 2)     \
            X(9, 1) X(9, 2) X(10, 1) X(10, 2) X(11, 1) X(11, 2) X(12, 1) X(12, 2) X(13, 1) X(13, 2) \
                X(14, 1) X(14, 2)
#else
#define AS_FC_TILES(X)                                                                             \
    X(1, 1)                                                                                        \
    X(1, 2) X(1, 4) X(1, 8) X(2, 1) X(2, 2) X(2, 4) X(3, 1) X(3, 2) X(4, 1) X(4, 2) X(5, 1) X(5, 2) \
        X(6, 1) X(6, 2)
#endif

#define AS_DEFINE_TILE(images, vectors)                            \
    static void tile_##images##_##vectors(const as_fc_tile *t)     \
    {                                                              \
        run_tile(t, images, vectors);                              \
    }
AS_FC_TILES(AS_DEFINE_TILE)

static void turn(const float *from, int64_t from_step, int64_t rows, int64_t columns, float *to,
                 int64_t to_step)
{
    int64_t c = 0;
    for (; c + AS_LANES <= columns; c += AS_LANES) {
        as_vec square[AS_LANES] = {{0}};
        for (int64_t r = 0; r < rows; ++r) square[r] = as_load(from + r * from_step + c);
        as_transpose(square);
        for (int i = 0; i < AS_LANES; ++i) {
            if (rows == AS_LANES)
                as_store(to + (c + i) * to_step, square[i]);
            else
                as_store_first(to + (c + i) * to_step, square[i], (int)rows);
        }
    }
    for (; c < columns; ++c)
        for (int64_t r = 0; r < rows; ++r) to[c * to_step + r] = from[r * from_step + c];
}

#define AS_LISTS_ENTRY(vectors, lists) [vectors] = lists,
#define AS_TILE_ENTRY(images, vectors) [images][vectors] = tile_##images##_##vectors,
extern const as_fc_kernels AS_EXPORT(as_f32_fc);
const as_fc_kernels AS_EXPORT(as_f32_fc) = {
    .gather = gather,
    .rows = {[1] = rows_1, [2] = rows_2, [3] = rows_3, [4] = rows_4},
    .lists = {AS_FC_LISTS(AS_LISTS_ENTRY)},
    .tile = {AS_FC_TILES(AS_TILE_ENTRY)},
    .turn = turn,
};
