# Direct sparse convolution, lanes schedules.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_LANES_AHEAD
        AS_LANES_READY

    ctypedef struct as_lanes_block:
        int64_t rows
        int64_t vectors

    ctypedef struct as_lanes_chunk:
        pass

    ctypedef struct as_lanes_piece:
        pass

    ctypedef struct as_lanes_move:
        pass

    ctypedef struct as_lanes_link:
        int whole
        float **ready
        int64_t pitch
        const int64_t *first
        const int64_t *ptr
        const as_lanes_move *move
        const int32_t *order

    ctypedef struct as_direct_lanes:
        as_shape shape
        as_team team
        const as_isa *isa
        int pointwise, relu, past_caches
        int64_t images, plane_count, plane_pitch, plane_size, fill_rows, fill_columns
        int64_t in_rows, in_columns, slab_pitch, slab_block, slab_blocks, block_count
        const int64_t *plane_row
        const int64_t *plane_column
        const int64_t *lane_start
        const as_lanes_block *block
        const as_lanes_chunk *chunk
        const as_lanes_piece *piece
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        int64_t most_vectors
        float **x
        float **planes
        float **sums
        float **ready
        const as_lanes_link *before
        const as_lanes_link *next
        float **window

    int as_direct_lanes_run(as_direct_lanes *layer, const float *x, float *out, int64_t images,
                            as_seconds *seconds)


cdef class LanesBuffers:
    """All that runs write, in floats: input of each group of threads, the rest of each thread."""

    cdef Buffers x, planes, sums, ready
    cdef dict floats

    def __cinit__(self, Team team, **floats):
        self.floats = floats
        self.x = team.buffer_of_each_group(floats["x"])
        self.planes = team.buffer_of_each_thread(floats["planes"])
        self.sums = team.buffer_of_each_thread(floats["sums"])
        self.ready = team.buffer_of_each_thread(floats["ready"])

    cdef int lend(self, as_direct_lanes *d) except -1:
        d.x, d.planes = self.x.items, self.planes.items
        d.sums, d.ready = self.sums.items, self.ready.items
        return 0


cdef class DirectLanes(SparseLayer):
    """A packed layer for the lanes schedules; `layout` is a LanesLayout."""

    cdef as_direct_lanes layer
    cdef const int64_t[::1] plane_row, plane_column, lane_start
    cdef const int64_t[:, ::1] block, chunk, piece
    cdef LanesBuffers buffers

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
        cdef as_direct_lanes *d = &self.layer
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        d.pointwise, d.past_caches = blocking["pointwise"], blocking["past_caches"]
        d.slab_block, d.slab_blocks = blocking["slab_block"], blocking["slab_blocks"]
        if streams.off.shape[0] - streams.ptr[streams.ptr.shape[0] - 1] < AS_LANES_AHEAD:
            raise ValueError("off: too few entries behind the last list")
        check_length("ptr", streams.ptr.shape[0] - 1, d.slab_blocks * d.shape.out_channels)
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.bias = &self.bias[0]
        self.take(layout)
        vector = layout.lanes * layout.most_vectors
        slabs = shape.channels * len(layout.plane_row)
        self.buffers = LanesBuffers(
            team,
            x=slabs * layout.slab_pitch,
            planes=layout.images * len(layout.plane_row) * layout.plane_size,
            sums=blocking["channels_of_part"] * vector,
            ready=(AS_LANES_READY + layout.most_vectors + 3) * layout.lanes,
        )
        self.buffers.lend(d)

    cdef int take(self, layout) except -1:
        cdef as_direct_lanes *d = &self.layer
        self.plane_row, self.plane_column = layout.plane_row, layout.plane_column
        self.lane_start, self.block, self.chunk = layout.lane_start, layout.block, layout.chunk
        self.piece = layout.piece.view("i8").reshape(-1, 2)
        check_length("lane_start", self.lane_start.shape[0], d.isa.lanes)
        check_length("block", self.block.shape[1] * 8, sizeof(as_lanes_block))
        check_length("chunk", self.chunk.shape[1] * 8, sizeof(as_lanes_chunk))
        check_length("piece", self.piece.shape[1] * 8, sizeof(as_lanes_piece))
        d.images, d.plane_count = layout.images, self.plane_row.shape[0]
        d.plane_pitch, d.plane_size = layout.plane_pitch, layout.plane_size
        d.fill_rows, d.fill_columns = layout.fill_rows, layout.fill_columns
        d.in_rows, d.in_columns = layout.in_rows, layout.in_columns
        d.slab_pitch, d.most_vectors = layout.slab_pitch, layout.most_vectors
        d.block_count = self.block.shape[0]
        d.plane_row, d.plane_column = &self.plane_row[0], &self.plane_column[0]
        d.lane_start, d.block = &self.lane_start[0], <const as_lanes_block *> &self.block[0, 0]
        if self.chunk.shape[0]:
            d.chunk = <const as_lanes_chunk *> &self.chunk[0, 0]
        if self.piece.shape[0]:
            d.piece = <const as_lanes_piece *> &self.piece[0, 0]
        return 0

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_direct_lanes_run(&self.layer, x, out, images, seconds)
