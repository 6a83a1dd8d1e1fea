# Direct sparse convolution, row schedule.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_ROW_AHEAD

    ctypedef struct as_direct_row:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t oc_block, column_blocks, reg_rows, reg_vectors, row_pitch
        int spill_to_output, vectorised, prefetch, relu
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        float **padded
        float **scratch

    int as_direct_row_run(as_direct_row *layer, const float *x, float *out, int64_t images,
                          as_seconds *seconds)


cdef class DirectRow(SparseLayer):
    """A packed layer for the row schedule; sizes and layouts as archsim_native.h says."""

    cdef as_direct_row layer
    cdef Buffers padded, scratch

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
        cdef as_direct_row *d = &self.layer
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        if streams.off.shape[0] - streams.ptr[streams.ptr.shape[0] - 1] < AS_ROW_AHEAD:
            raise ValueError("off: too few entries behind the last list")
        d.oc_block, d.column_blocks = blocking["oc_block"], blocking["column_blocks"]
        d.reg_rows, d.reg_vectors = blocking["reg_rows"], blocking["reg_vectors"]
        d.row_pitch, d.vectorised = blocking["row_pitch"], blocking["vectorised"]
        d.prefetch = blocking["prefetch"]
        d.spill_to_output = blocking["spill"] == "output"
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.bias = &self.bias[0]
        self.padded = team.buffer_of_input(blocking["padded_size"])
        self.scratch = team.buffer_of_each_thread(blocking["scratch_size"])
        d.padded, d.scratch = self.padded.items, self.scratch.items

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_direct_row_run(&self.layer, x, out, images, seconds)
