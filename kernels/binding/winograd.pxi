# Winograd convolution, dense and sparse.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_WINOGRAD_COUNT

    ctypedef struct as_winograd_place:
        pass

    ctypedef struct as_winograd:
        as_shape shape
        as_team team
        const as_isa *isa
        int variant, relu
        int64_t tile_outputs, tile, tile_rows, tile_columns, images
        int64_t chunk_vectors, reg_vectors, reg_count, out_block
        int64_t plane_pitch, plane_size, transformed_pitch, sums_pitch
        const int64_t *start
        const as_winograd_place *place
        const int64_t *whole
        const float *nothing
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *weights
        const float *bias
        float **planes
        float **transformed
        float **sums
        float **scratch

    int as_winograd_run(as_winograd *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds)


cdef class TilesOfWinograd:
    """Tables and buffers of both kinds of layers; `layout` is a WinogradLayout."""

    cdef const int64_t[:, ::1] start
    cdef const int64_t[:, :, ::1] place
    cdef const int64_t[::1] whole
    cdef Buffers planes, transformed, sums, scratch, nothing

    cdef int take(self, as_winograd *d, Team team, layout, dict blocking) except -1:
        self.start, self.whole = layout.start, layout.whole
        self.place = layout.place.view("i8").reshape(layout.start.shape + (-1,))
        vectors, lanes = self.start.shape[0], d.isa.lanes
        check_length("start", self.start.shape[1], lanes)
        check_length("place", self.place.shape[0] * self.place.shape[1], vectors * lanes)
        check_length("place", self.place.shape[2] * 8, sizeof(as_winograd_place))
        check_length("whole", self.whole.shape[0], vectors)
        if not 0 <= layout.variant < AS_WINOGRAD_COUNT:
            raise ValueError(f"variant: got {layout.variant}")
        d.variant, d.tile_outputs, d.tile = layout.variant, layout.tile_outputs, layout.tile
        d.tile_rows, d.tile_columns = layout.tile_rows, layout.tile_columns
        d.images = layout.images
        d.plane_pitch, d.plane_size = layout.plane_pitch, layout.plane_size
        d.transformed_pitch, d.sums_pitch = layout.transformed_pitch, layout.sums_pitch
        d.chunk_vectors, d.reg_vectors = blocking["chunk_vectors"], blocking["reg_vectors"]
        d.reg_count, d.out_block = blocking.get("reg_count", 0), blocking["out_block"]
        positions = layout.tile * layout.tile
        self.planes = team.buffer_of_each_thread(layout.images * layout.plane_size)
        self.transformed = team.buffer_of_each_thread(positions * layout.transformed_pitch)
        self.sums = team.buffer_of_each_thread(positions * layout.sums_pitch)
        self.scratch = team.buffer_of_each_thread(positions * lanes)
        self.nothing = Buffers(1, d.out_block)
        d.nothing = self.nothing.items[0]
        d.start, d.whole = &self.start[0, 0], &self.whole[0]
        d.place = <const as_winograd_place *> &self.place[0, 0, 0]
        d.planes, d.transformed = self.planes.items, self.transformed.items
        d.sums, d.scratch = self.sums.items, self.scratch.items
        return 0


cdef class SparseWinograd(SparseLayer):
    """A packed layer of nonzeros in the Winograd domain."""

    cdef as_winograd layer
    cdef TilesOfWinograd tiles

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,
        int isa_index,
        layout,
        dict blocking,
        bint relu,
    ):
        cdef as_winograd *d = &self.layer
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        self.tiles = TilesOfWinograd()
        self.tiles.take(d, team, layout, blocking)
        if streams.off.shape[0] - streams.ptr[streams.ptr.shape[0] - 1] < AS_LANES_AHEAD:
            raise ValueError("off: too few entries behind the last list")
        check_length("ptr", streams.ptr.shape[0] - 1, d.tile * d.tile * d.shape.out_channels)
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.bias = &self.bias[0]

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_winograd_run(&self.layer, x, out, images, seconds)


cdef class Winograd(Layer):
    """A packed layer of all weights in the Winograd domain."""

    cdef as_winograd layer
    cdef TilesOfWinograd tiles
    cdef Buffers weights, bias

    def __cinit__(
        self,
        shape,
        Team team,
        const float[::1] weights,  # IN, packed; copied to where vectors are aligned
        const float[::1] bias,     # IN, out_channels; copied
        int isa_index,
        layout,
        dict blocking,
        bint relu,
    ):
        cdef as_winograd *d = &self.layer
        self.set = runnable(isa_index)
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        self.tiles = TilesOfWinograd()
        self.tiles.take(d, team, layout, blocking)
        check_length("bias", bias.shape[0], d.shape.out_channels)
        check_length("weights", weights.shape[0], d.tile * d.tile * d.shape.out_channels
                     * (d.shape.channels // d.shape.groups))
        self.weights, self.bias = copied(weights), copied(bias)
        d.weights, d.bias = self.weights.items[0], self.bias.items[0]

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_winograd_run(&self.layer, x, out, images, seconds)
