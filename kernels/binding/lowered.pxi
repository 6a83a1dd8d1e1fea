# Sparse convolution by lowering.

from libc.stdint cimport int32_t, int64_t, uint16_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team

from numpy import empty, int32, uint16


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_LOWERED_AHEAD

    ctypedef struct as_lowered:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t pixel_vectors
        int64_t taps
        int64_t channel_block
        int relu
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        const int32_t *place
        const int32_t *tap
        const uint16_t *inside
        float **lowered
        float **sums

    void as_lowered_places(const as_shape *shape, int64_t lanes, int32_t *place, int32_t *tap,
                           uint16_t *inside)
    int as_lowered_run(as_lowered *layer, const float *x, float *out, int64_t images,
                       as_seconds *seconds)


cdef class Lowered(SparseLayer):
    """A packed layer for im2col and sparse x dense; layouts as archsim_native.h says."""

    cdef as_lowered layer
    cdef Buffers lowered, sums
    cdef int32_t[::1] place, tap
    cdef uint16_t[::1] inside

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
        kernels = "channel_block" in blocking
        if d.taps != (d.shape.kernel_h * d.shape.kernel_w if kernels else 1):
            raise ValueError(f"val: got {d.taps} values an entry; must be 1 or those of a kernel")
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.bias = &self.bias[0]
        self.find_places()
        if kernels:
            d.channel_block = blocking["channel_block"]
            if d.channel_block < 1:
                raise ValueError(f"channel_block: got {d.channel_block}; must be at least 1")
            blocks = -(-(d.shape.channels // d.shape.groups) // d.channel_block)
            check_length("ptr", streams.ptr.shape[0], blocks * d.shape.out_channels + 1)
            self.lowered = team.buffer_of_each_thread(blocking["lowered_size"])
            self.sums = team.buffer_of_each_thread(blocking["sums_size"])
            d.sums = self.sums.items
        else:
            self.lowered = team.buffer_of_input(blocking["lowered_size"])
        d.lowered = self.lowered.items

    cdef find_places(self):
        """Fill what says where pixels stand."""
        cdef as_lowered *d = &self.layer
        vectors = -(-(d.shape.out_height * d.shape.out_width) // d.isa.lanes)
        taps = d.shape.kernel_h * d.shape.kernel_w
        self.place = empty(vectors * d.isa.lanes, int32)
        self.tap, self.inside = empty(taps, int32), empty(taps * vectors, uint16)
        d.place, d.tap, d.inside = &self.place[0], &self.tap[0], &self.inside[0]
        as_lowered_places(&d.shape, d.isa.lanes, &self.place[0], &self.tap[0], &self.inside[0])

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_lowered_run(&self.layer, x, out, images, seconds)
