/* Winograd's transformations of tiles in lanes. Contract: winograd.h. */
#include "winograd.h"

#include <stddef.h>
#include <string.h>

#include "simd.h"
#include "transpose.h"
#include "winograd_pieces.h"

enum {
    MOST_TILE = 8, /* t of the largest variant */
    WAITING = AS_REGISTERS >= 32 ? 24 : 8, /* vectors between two dimensions that registers hold */
    AHEAD = 2      /* vectors from a store to its prefetch: the next channel */
};

/* ---- one dimension: v = B^T d, and y = A^T s; even and odd terms apart where they recur ---- */

AS_INLINE void into_f2x2_3x3(const as_vec *d, as_vec *v)
{
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
}

AS_INLINE void out_of_f2x2_3x3(const as_vec *s, as_vec *y)
{
    y[0] = s[0] + s[1] + s[2];
    y[1] = s[1] - s[2] - s[3];
}

AS_INLINE void into_f4x4_3x3(const as_vec *d, as_vec *v)
{
    const as_vec even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
    const as_vec near = d[4] - d[2], twice = 2.0f * (d[3] - d[1]);
    v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = near + twice;
    v[4] = near - twice;
    v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

AS_INLINE void out_of_f4x4_3x3(const as_vec *s, as_vec *y)
{
    const as_vec sum1 = s[1] + s[2], less1 = s[1] - s[2];
    const as_vec sum2 = s[3] + s[4], less2 = s[3] - s[4];
    y[0] = s[0] + sum1 + sum2;
    y[1] = less1 + 2.0f * less2;
    y[2] = sum1 + 4.0f * sum2;
    y[3] = less1 + 8.0f * less2 + s[5];
}

AS_INLINE void into_f4x4_5x5(const as_vec *d, as_vec *v)
{
    const as_vec even1 = d[2] + d[6] - 4.25f * d[4], odd1 = d[1] + d[5] - 4.25f * d[3];
    const as_vec even2 = d[6] + 0.25f * d[2] - 1.25f * d[4];
    const as_vec odd2 = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
    const as_vec even3 = d[6] + 4.0f * d[2] - 5.0f * d[4];
    const as_vec odd3 = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
    v[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
    v[1] = even1 + odd1;
    v[2] = even1 - odd1;
    v[3] = even2 + odd2;
    v[4] = even2 - odd2;
    v[5] = even3 + odd3;
    v[6] = even3 - odd3;
    v[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
}

AS_INLINE void out_of_f4x4_5x5(const as_vec *s, as_vec *y)
{
    const as_vec sum1 = s[1] + s[2], less1 = s[1] - s[2];
    const as_vec sum2 = s[3] + s[4], less2 = s[3] - s[4];
    const as_vec sum3 = s[5] + s[6], less3 = s[5] - s[6];
    y[0] = s[0] + sum1 + sum2 + 8.0f * sum3;
    y[1] = less1 + 2.0f * less2 + 4.0f * less3;
    y[2] = sum1 + 4.0f * sum2 + 2.0f * sum3;
    y[3] = less1 + 8.0f * less2 + less3 + s[7];
}

/* Brings what will be written soon into the first level: each vector goes to t * t places. The address
 * may lie outside of the array, where pointers must not be made. */
AS_INLINE void prefetch(const float *base, int64_t floats)
{
    __builtin_prefetch((const void *)((uintptr_t)base + (uintptr_t)floats * sizeof(float)));
}

typedef void (*one_dimension)(const as_vec *from, as_vec *to);

/* ---- input ---- */

/* How a vector's rows are loaded. */
enum { BY_START, WHOLE, CUT, EDGE };

/* Row i of a vector of tiles: its t columns. */
AS_INLINE void load_columns(const as_winograd_in *w, int64_t n, int i, int m, int t, int how,
                            as_vec *d)
{
    const int64_t row = i * w->pitch;
    if (AS_HAVE_PIECES && how != BY_START) {
        const as_winograd_window *window = w->window + n * m;
        const int cut = how == WHOLE ? 0 : (int)w->kind[n];
        AS_UNROLL for (int k = 0; k < m; ++k)
            prefetch(w->from, row + window[k].first + w->next_step);
        AS_UNROLL for (int j = 0; j < t / m + (t % m != 0); ++j)
            as_load_windows(w->from, row, window, i, j, m, cut, how == EDGE, d + j * m);
        return;
    }
    AS_UNROLL for (int j = 0; j < t; j += 4)
        as_load_fours_at(w->from + row + j, w->start + n * AS_LANES, d + j);
    AS_UNROLL for (int j = 0; j < t; j += 4)
        as_transpose_fours(d + j);
}

/* Rows, then columns; between them the numbers wait in scratch, for registers hold half of them. */
AS_INLINE void transform_vector(const as_winograd_in *w, int64_t n, int m, int t, int how,
                                one_dimension into)
{
    as_vec d[MOST_TILE], v[MOST_TILE];
    for (int i = 0; i < t; ++i) {
        load_columns(w, n, i, m, t, how, d);
        into(d, v);
        AS_UNROLL for (int j = 0; j < t; ++j)
            as_store_aligned(w->scratch + (j * t + i) * AS_LANES, v[j]);
    }
    for (int j = 0; j < t; ++j) {
        float *to = w->to + n * AS_LANES + j * w->position_step;
        AS_UNROLL for (int i = 0; i < t; ++i)
            d[i] = as_load_aligned(w->scratch + (j * t + i) * AS_LANES);
        into(d, v);
        AS_UNROLL for (int i = 0; i < t; ++i) {
            prefetch(to + i * t * w->position_step, AHEAD * AS_LANES);
            as_store_aligned(to + i * t * w->position_step, v[i]);
        }
    }
}

AS_INLINE void transform_in(const as_winograd_in *w, int m, int t, one_dimension into)
{
    for (int64_t n = 0; n < w->vectors; ++n) {
        if (AS_HAVE_PIECES && w->window != NULL) {
            if (w->kind[n] == 0)
                transform_vector(w, n, m, t, WHOLE, into);
            else if (w->kind[n] < AS_WINOGRAD_EDGE)
                transform_vector(w, n, m, t, CUT, into);
            else
                transform_vector(w, n, m, t, EDGE, into);
        } else {
            transform_vector(w, n, m, t, BY_START, into);
        }
    }
}

/* ---- output ---- */

/* Quarter k of a vector. */
AS_INLINE as_quarter quarter(as_vec v, int k)
{
#if AS_LANES == 16
    const __m512 whole = (__m512)v;
    return (as_quarter)(k == 0   ? _mm512_castps512_ps128(whole)
                        : k == 1 ? _mm512_extractf32x4_ps(whole, 1)
                        : k == 2 ? _mm512_extractf32x4_ps(whole, 2)
                                 : _mm512_extractf32x4_ps(whole, 3));
#elif AS_LANES == 8
    return (as_quarter)(k == 0 ? _mm256_castps256_ps128((__m256)v)
                               : _mm256_extractf128_ps((__m256)v, 1));
#else
    (void)k;
    return (as_quarter)v;
#endif
}

/* The first two floats, then the others. */
typedef float pair __attribute__((vector_size(8), aligned(4), may_alias));

AS_INLINE void store_piece(float *to, as_quarter piece, int m, int64_t row_step)
{
    if (m == 4) {
        *(as_quarter *)to = piece;
    } else {
        *(pair *)to = (pair){piece[0], piece[1]};
        *(pair *)(to + row_step) = (pair){piece[2], piece[3]};
    }
}

/* What is inside of up to four floats, which are 4 / m rows of a tile from row a on. */
AS_INLINE void store_part(const as_winograd_place *place, float *to, as_quarter piece, int a,
                          int m, int64_t row_step)
{
    for (int i = 0; i < 4; ++i)
        if (a + i / m < place->rows && i % m < place->columns)
            to[i / m * row_step + i % m] = piece[i];
}

/* The rows a .. a + 4 / m of one vector of tiles: four columns of all lanes, m of each row. */
AS_INLINE void store_rows(const as_winograd_out *w, int64_t n, int a, int m, as_vec four[4])
{
    const as_winograd_place *place = w->place + n * AS_LANES;
    float *out = w->out + a * w->row_step;
    const int64_t tiles = w->tiles - n * AS_LANES;
    if (AS_HAVE_PIECES && w->kind[n] != AS_WINOGRAD_APART && tiles >= AS_LANES) {
        AS_UNROLL for (int i = 0; i < 4 / m; ++i) {
            float *row = out + i * w->row_step;
            AS_UNROLL for (int j = 0; j < m; ++j)
                prefetch(row, w->piece[n * m + j].first + w->next_step);
            as_store_pieces(row, w->piece + n * m, a + i, m, (int)w->kind[n], four + i * m);
        }
        return;
    }
    as_transpose_fours(four);
    if (w->whole[n] && tiles >= AS_LANES) {
        AS_UNROLL for (int k = 0; k < AS_LANES / 4; ++k) {
            AS_UNROLL for (int i = 0; i < 4; ++i)
                store_piece(out + place[4 * k + i].place, quarter(four[i], k), m, w->row_step);
        }
        return;
    }
    AS_UNROLL for (int k = 0; k < AS_LANES / 4; ++k) {
        AS_UNROLL for (int i = 0; i < 4; ++i) {
            const as_winograd_place *p = place + 4 * k + i;
            float *to = out + p->place;
            if (4 * k + i >= tiles)
                continue;
            if (p->columns == m && a + 4 / m <= p->rows)
                store_piece(to, quarter(four[i], k), m, w->row_step);
            else
                store_part(p, to, quarter(four[i], k), a, m, w->row_step);
        }
    }
}

/* The rows a .. a + 4 / m out of the sums of their columns, t of each row. */
AS_INLINE void finish_rows(const as_winograd_out *w, int64_t n, int a, int m, int t,
                           const as_vec *half, one_dimension out_of)
{
    const as_vec bias = as_splat(w->bias);
    as_vec y[4];
    AS_UNROLL for (int i = 0; i < 4 / m; ++i)
        out_of(half + i * t, y + i * m);
    AS_UNROLL for (int i = 0; i < 4; ++i)
        y[i] = w->relu ? as_relu(y[i] + bias) : y[i] + bias;
    store_rows(w, n, a, m, y);
}

AS_INLINE void sum_column(const as_winograd_out *w, int64_t n, int j, int t, one_dimension out_of,
                          as_vec *y)
{
    const float *from = w->from + n * AS_LANES + j * w->position_step;
    as_vec s[MOST_TILE];
    AS_UNROLL for (int i = 0; i < t; ++i)
        s[i] = as_load_aligned(from + i * t * w->position_step);
    out_of(s, y);
}

/* Columns, then rows; between them the numbers wait in registers, or in scratch if these hold half of
 * them. */
AS_INLINE void transform_sums(const as_winograd_out *w, int64_t n, int m, int t,
                              one_dimension out_of)
{
    as_vec half[WAITING], y[4];
    if (m * t <= WAITING) {
        AS_UNROLL for (int j = 0; j < t; ++j) {
            sum_column(w, n, j, t, out_of, y);
            AS_UNROLL for (int i = 0; i < m; ++i)
                half[i * t + j] = y[i];
        }
        AS_UNROLL for (int a = 0; a < m; a += 4 / m)
            finish_rows(w, n, a, m, t, half + a * t, out_of);
        return;
    }
    for (int j = 0; j < t; ++j) {
        sum_column(w, n, j, t, out_of, y);
        AS_UNROLL for (int i = 0; i < m; ++i)
            as_store_aligned(w->scratch + (i * t + j) * AS_LANES, y[i]);
    }
    for (int a = 0; a < m; a += 4 / m) {
        AS_UNROLL for (int j = 0; j < 4 / m * t; ++j)
            half[j] = as_load_aligned(w->scratch + (a * t + j) * AS_LANES);
        finish_rows(w, n, a, m, t, half, out_of);
    }
}

AS_INLINE void transform_out(const as_winograd_out *w, int m, int t, one_dimension out_of)
{
    for (int64_t n = 0; n < w->vectors; ++n) transform_sums(w, n, m, t, out_of);
}

/* ---- the table ---- */

#define AS_DEFINE(name, m, t)                        \
    static void in_##name(const as_winograd_in *w)   \
    {                                                \
        transform_in(w, m, t, into_##name);             \
    }                                                \
    static void out_##name(const as_winograd_out *w) \
    {                                                \
        transform_out(w, m, t, out_of_##name);       \
    }
AS_WINOGRAD_VARIANTS(AS_DEFINE)

#define AS_IN(name, m, t) [AS_WINOGRAD_##name] = in_##name,
#define AS_OUT(name, m, t) [AS_WINOGRAD_##name] = out_##name,
extern const as_winograd_kernels AS_EXPORT(as_f32_winograd);
const as_winograd_kernels AS_EXPORT(as_f32_winograd) = {
    .in = {AS_WINOGRAD_VARIANTS(AS_IN)},
    .out = {AS_WINOGRAD_VARIANTS(AS_OUT)},
};
