# Sparse convolution by lowering.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_LOWERED_AHEAD

    ctypedef struct as_lowered:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t pixel_vectors
        int64_t taps
        int relu
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        float **lowered

    int as_lowered_run(as_lowered *layer, const float *x, float *out, int64_t images,
                       as_seconds *seconds)


cdef class Lowered(SparseLayer):
    """A packed layer for im2col and sparse x dense; layouts as archsim_native.h says."""

    cdef as_lowered layer
    cdef Buffers lowered

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,
        int isa_index,
        dict blocking,
        bint relu,
    ):
        cdef as_lowered *d = &self.layer
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        if streams.off.shape[0] - streams.ptr[streams.ptr.shape[0] - 1] < AS_LOWERED_AHEAD:
            raise ValueError("off: too few entries behind the last list")
        d.pixel_vectors, d.taps = blocking["pixel_vectors"], streams.each
        if d.taps not in (1, d.shape.kernel_h * d.shape.kernel_w):
            raise ValueError(f"val: got {d.taps} values an entry; must be 1 or those of a kernel")
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.bias = &self.bias[0]
        self.lowered = team.buffer_of_each_group(blocking["lowered_size"])
        d.lowered = self.lowered.items

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_lowered_run(&self.layer, x, out, images, seconds)
