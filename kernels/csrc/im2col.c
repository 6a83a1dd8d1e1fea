#include <string.h>

#include "team.h"

/* What a row of the lowered matrix takes of each row of the image: output q meets pixel
 * q * stride + start, which lies inside the image for first <= q < last. */
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

/* One output row of a lowered row. `from` is the row of the image that it meets. */
static void lower_row(const as_shape *s, const span *columns, const float *from, float *to)
{
    const int64_t start = columns->start, first = columns->first, last = columns->last;
    zero(to, first);
    if (s->stride_w == 1 && first < last)
        memcpy(to + first, from + first + start, (size_t)(last - first) * sizeof(float));
    else
        for (int64_t q = first; q < last; ++q) to[q] = from[q * s->stride_w + start];
    zero(to + last, s->out_width - last);
}

void as_im2col(const as_shape *s, const float *image, float *lowered, int64_t pitch,
               int64_t first_row, int64_t last_row)
{
    for (int64_t row = first_row; row < last_row; ++row) {
        const int64_t c = row / (s->kernel_h * s->kernel_w);
        const int64_t r = row / s->kernel_w % s->kernel_h;
        const int64_t start_w = row % s->kernel_w * s->dilation_w - s->pad_w;
        const span columns = span_of(start_w, s->stride_w, s->width, s->out_width);
        for (int64_t p = 0; p < s->out_height; ++p) {
            const int64_t y = p * s->stride_h + r * s->dilation_h - s->pad_h;
            float *to = lowered + row * pitch + p * s->out_width;
            if (y < 0 || y >= s->height)
                zero(to, s->out_width);
            else
                lower_row(s, &columns, image + (c * s->height + y) * s->width, to);
        }
    }
}
