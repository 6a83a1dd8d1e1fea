#include <string.h>

#include "team.h"

/* What a row of the lowered matrix takes of one axis of the image: output i meets pixel
 * i * stride + start, which lies inside the image for first <= i < last. */
typedef struct {
    int64_t start, first, last;
} span;

static span span_of(int64_t start, int64_t stride, int64_t size, int64_t count)
{
    const int64_t begin = start >= 0 ? 0 : as_div_up(-start, stride);
    const int64_t end = start >= size ? 0 : as_div_up(size - start, stride);
    const int64_t first = as_min(begin, count), last = as_min(end, count);
    return (span){start, first, last < first ? first : last};
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
static void lower_rows(const as_shape *s, span rows, span columns, const float *plane, float *to)
{
    for (int64_t p = rows.first; p < rows.last; ++p) {
        const float *from = plane + (p * s->stride_h + rows.start) * s->width;
        float *row = to + p * s->out_width;
        zero(row, columns.first);
        if (s->stride_w == 1)
            memcpy(row + columns.first, from + columns.first + columns.start,
                   (size_t)(columns.last - columns.first) * sizeof(float));
        else
            for (int64_t q = columns.first; q < columns.last; ++q)
                row[q] = from[q * s->stride_w + columns.start];
        zero(row + columns.last, s->out_width - columns.last);
    }
}

/* One row of the lowered matrix: (c * kernel_h + r) * kernel_w + s. */
static void lower_row(const as_shape *s, const float *image, int64_t row, float *to)
{
    const int one_copy = s->stride_h == 1 && s->stride_w == 1 && s->out_width == s->width;
    const int64_t c = row / (s->kernel_h * s->kernel_w);
    const int64_t r = row / s->kernel_w % s->kernel_h;
    const span rows = span_of(r * s->dilation_h - s->pad_h, s->stride_h, s->height, s->out_height);
    const span columns = span_of(row % s->kernel_w * s->dilation_w - s->pad_w, s->stride_w,
                                 s->width, s->out_width);
    const float *plane = image + c * s->height * s->width;
    if (rows.first == rows.last || columns.first == columns.last) {
        zero(to, s->out_height * s->out_width);
        return;
    }
    zero(to, rows.first * s->out_width);
    if (one_copy)
        lower_shifted(s, rows, columns, plane, to);
    else
        lower_rows(s, rows, columns, plane, to);
    zero(to + rows.last * s->out_width, (s->out_height - rows.last) * s->out_width);
}

void as_im2col(const as_shape *s, const float *image, float *lowered, int64_t pitch,
               int64_t first_row, int64_t last_row)
{
    for (int64_t row = first_row; row < last_row; ++row)
        lower_row(s, image, row, lowered + row * pitch);
}

void as_im2col_some(const as_shape *s, const float *image, const int64_t *rows, float *lowered,
                    int64_t pitch, int64_t first, int64_t last)
{
    for (int64_t i = first; i < last; ++i) lower_row(s, image, rows[i], lowered + i * pitch);
}
