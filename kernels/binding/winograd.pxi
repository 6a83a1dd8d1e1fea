# Winograd convolution, dense and sparse.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "products.h" nogil:
    enum:
        AS_WINOGRAD_COUNT
        AS_WINOGRAD_LISTS
        AS_WINOGRAD_VECTORS

    ctypedef struct as_winograd_place:
        pass

    ctypedef struct as_winograd_piece:
        pass

    ctypedef struct as_winograd_window:
        pass

    ctypedef struct as_winograd:
        as_shape shape
        as_team team
        const as_isa *isa
        int variant, relu
        int64_t tile_outputs, tile, tile_rows, tile_columns, images
        int64_t chunk_vectors, reg_vectors, reg_lists, reg_count, in_block, out_block
        int64_t plane_pitch, plane_size, transformed_pitch, step_size, sums_pitch
        const int64_t *start
        const as_winograd_place *place
        const int64_t *whole
        const as_winograd_window *in_window
        const as_winograd_piece *out_piece
        const int64_t *in_kind
        const int64_t *out_kind
        const int64_t *ptr
        const int32_t *off
        const float *val
        const int32_t *row
        const float *weights
        const float *bias
        float **planes
        float **transformed
        float **sums
        float **scratch

    int as_winograd_run(as_winograd *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds)


cdef extern from *:
    """
    static int has_lists(const as_isa *isa, int lists, int vectors)
    {
        return isa->winograd_products->lists[lists][vectors] != NULL;
    }
    """
    int has_lists(const as_isa *isa, int lists, int vectors)


def winograd_lists_exist(int isa_index, int lists, int vectors):
    """Whether a set has a register block of so many lists side by side x vectors of tiles."""
    cdef const as_isa *isa = runnable(isa_index)
    return (1 <= lists <= AS_WINOGRAD_LISTS and 1 <= vectors <= AS_WINOGRAD_VECTORS
            and bool(has_lists(isa, lists, vectors)))


cdef checked_pieces(pieces, vectors, tile_outputs, size_bytes):
    rows = pieces.piece.view("i8").reshape(pieces.piece.shape + (-1,))
    check_length("piece", rows.shape[0] * rows.shape[1], vectors * tile_outputs)
    check_length("piece", rows.shape[2] * 8, size_bytes)
    check_length("kind", pieces.kind.shape[0], vectors)
    return rows, pieces.kind


cdef class TilesOfWinograd:
    """Tables and buffers of both kinds of layers; `layout` is a WinogradLayout."""

    cdef const int64_t[:, ::1] start
    cdef const int64_t[:, :, ::1] place
    cdef const int64_t[::1] whole, in_kind, out_kind
    cdef const int64_t[:, :, ::1] in_window, out_piece
    cdef Buffers planes, transformed, sums, scratch

    cdef int take(self, as_winograd *d, Team team, layout, dict blocking) except -1:
        self.start, self.whole = layout.start, layout.whole
        self.place = layout.place.view("i8").reshape(layout.start.shape + (-1,))
        vectors, lanes = self.start.shape[0], d.isa.lanes
        check_length("start", self.start.shape[1], lanes)
        check_length("place", self.place.shape[0] * self.place.shape[1], vectors * lanes)
        check_length("place", self.place.shape[2] * 8, sizeof(as_winograd_place))
        check_length("whole", self.whole.shape[0], vectors)
        if layout.into is not None:
            self.in_window, self.in_kind = checked_pieces(
                layout.into, vectors, layout.tile_outputs, sizeof(as_winograd_window)
            )
            d.in_window = <const as_winograd_window *> &self.in_window[0, 0, 0]
            d.in_kind = &self.in_kind[0]
        self.out_piece, self.out_kind = checked_pieces(
            layout.out_of, vectors, layout.tile_outputs, sizeof(as_winograd_piece)
        )
        d.out_piece = <const as_winograd_piece *> &self.out_piece[0, 0, 0]
        d.out_kind = &self.out_kind[0]
        if not 0 <= layout.variant < AS_WINOGRAD_COUNT:
            raise ValueError(f"variant: got {layout.variant}")
        d.variant, d.tile_outputs, d.tile = layout.variant, layout.tile_outputs, layout.tile
        d.tile_rows, d.tile_columns = layout.tile_rows, layout.tile_columns
        d.images = layout.images
        d.plane_pitch, d.plane_size = layout.plane_pitch, layout.plane_size
        d.transformed_pitch, d.sums_pitch = layout.transformed_pitch, layout.sums_pitch
        d.chunk_vectors, d.reg_vectors = blocking["chunk_vectors"], blocking["reg_vectors"]
        d.reg_count, d.out_block = blocking.get("reg_count", 0), blocking["out_block"]
        d.reg_lists, d.in_block = blocking.get("reg_lists", 0), blocking.get("in_block", 0)
        d.step_size = layout.step_size
        positions = layout.tile * layout.tile
        self.planes = team.buffer_of_each_thread(layout.images * layout.plane_size)
        self.transformed = team.buffer_of_each_thread(positions * layout.transformed_pitch)
        self.sums = team.buffer_of_each_thread(positions * layout.sums_pitch)
        self.scratch = team.buffer_of_each_thread(positions * lanes)
        d.start, d.whole = &self.start[0, 0], &self.whole[0]
        d.place = <const as_winograd_place *> &self.place[0, 0, 0]
        d.planes, d.transformed = self.planes.items, self.transformed.items
        d.sums, d.scratch = self.sums.items, self.scratch.items
        return 0


cdef class SparseWinograd(SparseLayer):
    """A packed layer of nonzeros in the Winograd domain."""

    cdef as_winograd layer
    cdef TilesOfWinograd tiles
    cdef const int32_t[::1] row

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,
        int isa_index,
        const int32_t[::1] row,  # IN, reg_lists of each group
        layout,
        dict blocking,
        bint relu,
    ):
        cdef as_winograd *d = &self.layer
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        self.tiles = TilesOfWinograd()
        self.tiles.take(d, team, layout, blocking)
        self.row = row
        check_length("row", row.shape[0], d.reg_lists * (streams.ptr.shape[0] - 1))
        check_length("ptr", streams.ptr.shape[0] - 1, layout.groups)
        for i in range(row.shape[0]):
            if not 0 <= row[i] <= d.out_block:
                raise ValueError(f"row[{i}]: got {row[i]}; must be 0 to {d.out_block}")
        for i in range(streams.ptr.shape[0]):
            if streams.ptr[i] % d.reg_lists:
                raise ValueError(f"ptr[{i}]: got {streams.ptr[i]}; groups are whole rounds")
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.row = &row[0]
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
