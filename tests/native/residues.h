/* What a stride makes of a kernel: planes, in which weights move by whole positions. */
#ifndef ARCHSIM_RESIDUES_H
#define ARCHSIM_RESIDUES_H

#include "layers.h"

enum { MOST_RESIDUES = 8 };

/* One axis of the kernel: its residues modulo the stride, ascending, and how many positions of a
 * plane it moves by at most. */
typedef struct {
    int64_t count, residue[MOST_RESIDUES], reach, stride, dilation;
} axis;

static inline axis axis_of(int64_t kernel, int64_t stride, int64_t dilation)
{
    axis a = {.reach = (kernel - 1) * dilation / stride, .stride = stride, .dilation = dilation};
    for (int64_t residue = 0; residue < stride; ++residue)
        for (int64_t i = 0; i < kernel; ++i)
            if (i * dilation % stride == residue) {
                a.residue[a.count++] = residue;
                break;
            }
    return a;
}

static inline axis rows_of(const as_shape *s)
{
    return axis_of(s->kernel_h, s->stride_h, s->dilation_h);
}

static inline axis columns_of(const as_shape *s)
{
    return axis_of(s->kernel_w, s->stride_w, s->dilation_w);
}

/* Which of the axis' residues a kernel row or column has. */
static inline int64_t residue_of(const axis *a, int64_t i)
{
    int64_t index = 0;
    while (a->residue[index] != i * a->dilation % a->stride) ++index;
    return index;
}

/* The plane that kernel row r, column s looks at. */
static inline int64_t plane_of(const axis *rows, const axis *columns, int64_t r, int64_t s)
{
    return residue_of(rows, r) * columns->count + residue_of(columns, s);
}

/* The first row and column of each plane. */
static inline void place_residues(const axis *rows, const axis *columns, const int64_t **row,
                                  const int64_t **column)
{
    const int64_t planes = rows->count * columns->count;
    int64_t *r = check_zeros(planes * (int64_t)sizeof(int64_t), 0);
    int64_t *c = check_zeros(planes * (int64_t)sizeof(int64_t), 0);
    for (int64_t i = 0; i < planes; ++i)
        r[i] = rows->residue[i / columns->count], c[i] = columns->residue[i % columns->count];
    *row = r, *column = c;
}

#endif
