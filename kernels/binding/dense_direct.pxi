# Direct dense convolution.

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "archsim_native.h" nogil:
    ctypedef struct as_dense_direct:
        as_shape shape
        as_team team
        const as_isa *isa
        int pixel_lanes
        int64_t reg_vectors, reg_rows, reg_count
        int64_t channel_block
        int64_t band_rows, band_columns
        int64_t rows, columns
        int64_t row_pitch, channel_pitch, phase_pitch, row_step
        int relu
        const int32_t *tap
        const float *weights
        const float *bias
        float **padded
        float **panel
        float **sums

    int as_dense_direct_run(as_dense_direct *layer, const float *x, float *out, int64_t images,
                            as_seconds *seconds)


cdef class DenseDirect(Layer):
    """A packed layer for direct dense convolution; layouts as archsim_native.h says."""

    cdef as_dense_direct layer
    cdef const int32_t[::1] tap
    cdef Buffers weights, bias, padded, panel, sums

    def __cinit__(
        self,
        shape,
        Team team,
        const float[::1] weights,  # IN, packed; copied to where vectors are aligned
        const float[::1] bias,     # IN, as long as the output channels that weights have; copied
        const int32_t[::1] tap,    # IN, kernel_h * kernel_w
        int isa_index,
        dict blocking,
        bint relu,
    ):
        cdef as_dense_direct *d = &self.layer
        self.tap, self.set = tap, runnable(isa_index)
        d.shape, d.team, d.isa = self.shape, team.team, self.set
        d.pixel_lanes, d.relu = blocking["in_lanes"] == "pixels", relu
        d.reg_vectors, d.reg_rows = blocking["reg_vectors"], blocking["reg_rows"]
        d.reg_count, d.channel_block = blocking["reg_count"], blocking["channel_block"]
        d.band_rows, d.band_columns = blocking["band_rows"], blocking["band_columns"]
        d.rows, d.columns = blocking["rows"], blocking["columns"]
        d.row_pitch, d.channel_pitch = blocking["row_pitch"], blocking["channel_pitch"]
        d.phase_pitch, d.row_step = blocking["phase_pitch"], blocking["row_step"]
        check_length("tap", tap.shape[0], d.shape.kernel_h * d.shape.kernel_w)
        check_length("weights", weights.shape[0],
                     bias.shape[0] * (d.shape.channels // d.shape.groups) * tap.shape[0])
        check_length("outputs", d.rows * d.columns, d.shape.out_height * d.shape.out_width)
        self.weights, self.bias = copied(weights), copied(bias)
        d.tap, d.weights, d.bias = &tap[0], self.weights.items[0], self.bias.items[0]
        if blocking["padded_size"]:
            self.padded = team.buffer_of_input(blocking["padded_size"])
            d.padded = self.padded.items
        if blocking["panel_size"]:
            self.panel = team.buffer_of_each_thread(blocking["panel_size"])
            d.panel = self.panel.items
        self.sums = team.buffer_of_each_thread(blocking["sums_size"])
        d.sums = self.sums.items

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_dense_direct_run(&self.layer, x, out, images, seconds)


cdef Buffers copied(const float[::1] values):
    buffer = Buffers(1, values.shape[0])
    memcpy(buffer.items[0], &values[0], values.shape[0] * sizeof(float))
    return buffer
