# The smaller dense product of structured sparsity, by BLAS.

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport int64_t

from archsim.kernels._capi cimport as_seconds, as_shape, as_team


cdef extern from "products.h" nogil:
    ctypedef struct as_structured:
        as_shape shape
        as_team team
        as_sgemm_fn sgemm
        int64_t pitch
        int relu
        const int64_t *row
        const int64_t *row_ptr
        const int64_t *kept_ptr
        const int64_t *weight_ptr
        const float *weights
        const float *bias
        float **lowered

    int as_structured_run(as_structured *layer, const float *x, float *out, int64_t images,
                          as_seconds *seconds)


cdef class Structured(Layer):
    """A packed layer of structured sparsity; layouts as products.h says."""

    cdef as_structured layer
    cdef const int64_t[::1] row, row_ptr, kept_ptr, weight_ptr
    cdef const float[::1] weights, bias
    cdef Buffers lowered
    cdef object sgemm

    def __cinit__(
        self,
        shape,
        Team team,
        const int64_t[::1] row,         # IN, kept rows of the lowered matrix
        const int64_t[::1] row_ptr,     # IN, groups + 1
        const int64_t[::1] kept_ptr,    # IN, out_channels + 1
        const int64_t[::1] weight_ptr,  # IN, groups + 1
        const float[::1] weights,       # IN, kept channels x kept rows, group by group
        const float[::1] bias,          # IN, out_channels; or None
        sgemm,
        int64_t pitch,
        bint relu,
    ):
        cdef as_structured *d = &self.layer
        cdef const char *name = PyCapsule_GetName(sgemm)
        cdef int64_t g, i, lowered_rows, in_group
        if name == NULL or not (<bytes> name).startswith(SGEMM_BEGINS):
            raise RuntimeError("SciPy's sgemm must take 32-bit integers; this build's does not")
        self.sgemm = sgemm
        d.shape, d.team, d.pitch, d.relu = self.shape, team.team, pitch, relu
        d.sgemm = <as_sgemm_fn> PyCapsule_GetPointer(sgemm, name)
        in_group = d.shape.out_channels // d.shape.groups
        lowered_rows = d.shape.channels * d.shape.kernel_h * d.shape.kernel_w
        check_ptr("row_ptr", row_ptr, d.shape.groups + 1, row.shape[0])
        check_length("kept_ptr", kept_ptr.shape[0], d.shape.out_channels + 1)
        check_ptr("kept_ptr", kept_ptr, kept_ptr.shape[0], kept_ptr[d.shape.out_channels])
        check_ptr("weight_ptr", weight_ptr, d.shape.groups + 1, weights.shape[0])
        for i in range(row.shape[0]):
            if not 0 <= row[i] < lowered_rows:
                raise ValueError(f"row[{i}]: got {row[i]}; must be below {lowered_rows}")
        for i in range(d.shape.out_channels):
            if kept_ptr[i + 1] > kept_ptr[i] + 1:
                raise ValueError("kept_ptr: must not rise by more than 1")
        for g in range(d.shape.groups):
            check_length("weights of a group", weight_ptr[g + 1] - weight_ptr[g],
                         (row_ptr[g + 1] - row_ptr[g])
                         * (kept_ptr[(g + 1) * in_group] - kept_ptr[g * in_group]))
        if pitch < d.shape.out_height * d.shape.out_width:
            raise ValueError(f"pitch: got {pitch}; must hold the pixels of a row")
        self.row, self.row_ptr, self.kept_ptr = row, row_ptr, kept_ptr
        self.weight_ptr, self.weights, self.bias = weight_ptr, weights, bias
        d.row_ptr, d.kept_ptr, d.weight_ptr = &row_ptr[0], &kept_ptr[0], &weight_ptr[0]
        d.weights = &NO_VALUE
        if row.shape[0]:
            d.row = &row[0]
        if weights.shape[0]:
            d.weights = &weights[0]
        if bias is not None:
            check_length("bias", bias.shape[0], d.shape.out_channels)
            d.bias = &bias[0]
        self.lowered = team.buffer_of_each_group(len(row) * pitch)
        d.lowered = self.lowered.items

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_structured_run(&self.layer, x, out, images, seconds)
