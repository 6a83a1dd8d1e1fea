#include <string.h>

#include "team.h"

/* What a row of the lowered matrix takes of one axis of the image: output i meets pixel
 * i * stride + start, which lies inside the image for first <= i < last. */
typedef struct {
    int64_t start, first, last;
} span;

/* Divisions take as long as the copy of a short row, and there is little to divide by. */
static int64_t steps(int64_t n, int64_t stride)
{
    return stride == 1 ? n : as_div_up(n, stride);
}

static span span_of(int64_t start, int64_t stride, int64_t size, int64_t count)
{
    const int64_t begin = start >= 0 ? 0 : steps(-start, stride);
    const int64_t end = start >= size ? 0 : steps(size - start, stride);
    const int64_t first = as_min(begin, count), last = as_min(end, count);
    return (span){start, first, last < first ? first : last};
}

/* Input channel and tap of a row of the lowered matrix: (c * kernel_h + r) * kernel_w + s. */
typedef struct {
    int64_t c, r, s;
} weight_place;

static weight_place place_of(const as_shape *s, int64_t row)
{
    const int64_t tap = row % (s->kernel_h * s->kernel_w);
    return (weight_place){row / (s->kernel_h * s->kernel_w), tap / s->kernel_w, tap % s->kernel_w};
}

static void advance(const as_shape *s, weight_place *place)
{
    if (++place->s == s->kernel_w)
        place->s = 0, ++place->r;
    if (place->r == s->kernel_h)
        place->r = 0, ++place->c;
}

/* No set is asked for where BLAS multiplies: the best one that runs here. */
static as_copy_fn best_copy(void)
{
    int index = as_isa_count() - 1;
    while (index > 0 && !as_isa_supported(index)) --index;
    return *as_isa_at(index)->copy;
}

static void zero(float *to, int64_t count)
{
    if (count > 0)
        memset(to, 0, (size_t)count * sizeof(float));
}

/* Stride 1 and an output as wide as the image: all rows are one shifted copy. What the shift took
 * from neighbouring rows stands in the columns that meet padding, and is cleared. */
static void lower_shifted(const as_shape *s, span rows, span columns, const float *plane, float *to)
{
    const int64_t width = s->width;
    const int64_t inside = (rows.last - rows.first - 1) * width + columns.last - columns.first;
    memcpy(to + rows.first * width + columns.first,
           plane + (rows.first + rows.start) * width + columns.first + columns.start,
           (size_t)inside * sizeof(float));
    for (int64_t q = 0; q < columns.first; ++q)
        for (int64_t p = rows.first; p < rows.last; ++p) to[p * width + q] = 0.0f;
    for (int64_t q = columns.last; q < width; ++q)
        for (int64_t p = rows.first; p < rows.last; ++p) to[p * width + q] = 0.0f;
}

/* Any shape, row by row. */
static void lower_rows(const as_shape *s, as_copy_fn copy, span rows, span columns,
                       const float *plane, float *to)
{
    const int64_t step = s->stride_h * s->width, count = columns.last - columns.first;
    const float *from = plane + (rows.first * s->stride_h + rows.start) * s->width;
    float *row = to + rows.first * s->out_width;
    if (s->stride_w == 1)
        copy(from + columns.first + columns.start, step, rows.last - rows.first, count,
             row + columns.first, s->out_width);
    for (int64_t p = rows.first; p < rows.last; ++p, from += step, row += s->out_width) {
        zero(row, columns.first);
        if (s->stride_w > 1)
            for (int64_t q = columns.first; q < columns.last; ++q)
                row[q] = from[q * s->stride_w + columns.start];
        zero(row + columns.last, s->out_width - columns.last);
    }
}

static void lower_row(const as_shape *s, as_copy_fn copy, const float *image, weight_place w,
                      float *to)
{
    const int one_copy = s->stride_h == 1 && s->stride_w == 1 && s->out_width == s->width;
    const span rows = span_of(w.r * s->dilation_h - s->pad_h, s->stride_h, s->height, s->out_height);
    const span columns = span_of(w.s * s->dilation_w - s->pad_w, s->stride_w, s->width,
                                 s->out_width);
    const float *plane = image + w.c * s->height * s->width;
    if (rows.first == rows.last || columns.first == columns.last) {
        zero(to, s->out_height * s->out_width);
        return;
    }
    zero(to, rows.first * s->out_width);
    if (one_copy)
        lower_shifted(s, rows, columns, plane, to);
    else
        lower_rows(s, copy, rows, columns, plane, to);
    zero(to + rows.last * s->out_width, (s->out_height - rows.last) * s->out_width);
}

void as_im2col(const as_shape *s, const float *image, float *lowered, int64_t pitch,
               int64_t first_row, int64_t last_row)
{
    const as_copy_fn copy = best_copy();
    weight_place place = place_of(s, first_row);
    for (int64_t row = first_row; row < last_row; ++row, advance(s, &place))
        lower_row(s, copy, image, place, lowered + row * pitch);
}

void as_im2col_some(const as_shape *s, const float *image, const int64_t *rows, float *lowered,
                    int64_t pitch, int64_t first, int64_t last)
{
    const as_copy_fn copy = best_copy();
    for (int64_t i = first; i < last; ++i)
        lower_row(s, copy, image, place_of(s, rows[i]), lowered + i * pitch);
}
