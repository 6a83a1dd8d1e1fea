# Direct sparse convolution, shifts schedules.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_SHIFTS_AHEAD

    ctypedef struct as_shifts_block:
        pass

    ctypedef struct as_shifts_piece:
        pass

    ctypedef struct as_direct_shifts:
        as_shape shape, walk
        as_team team
        const as_isa *isa
        int relu, past_caches
        int64_t plane_count, reach_rows, slab_block, slab_blocks, slab_pitch, parts, block_count
        const int64_t *plane_row
        const int64_t *plane_column
        const as_shifts_block *block
        const as_shifts_piece *piece
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        int64_t most_vectors
        float **window
        float **sums

    int as_direct_shifts_run(as_direct_shifts *layer, const float *x, float *out, int64_t images,
                             as_seconds *seconds)


cdef class DirectShifts(SparseLayer):
    """A packed layer for the shifts schedules; `layout` is a ShiftsLayout."""

    cdef as_direct_shifts layer
    cdef const int64_t[::1] plane_row, plane_column
    cdef const int64_t[:, ::1] block, piece
    cdef Buffers window, sums

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,
        int isa_index,
        walk,
        layout,
        dict blocking,
        bint relu,
    ):
        cdef as_direct_shifts *d = &self.layer
        d.shape, d.walk, d.team, d.isa = self.shape, to_shape(walk), team.team, self.set
        d.relu, d.past_caches = relu, blocking["past_caches"]
        self.take(layout)
        d.slab_blocks = -(-d.shape.channels // d.shape.groups * d.plane_count // d.slab_block)
        if streams.off.shape[0] - streams.ptr[streams.ptr.shape[0] - 1] < AS_SHIFTS_AHEAD:
            raise ValueError("off: too few entries behind the last list")
        check_length(
            "ptr", streams.ptr.shape[0] - 1, d.slab_blocks * d.shape.out_channels * d.parts)
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        d.bias = &self.bias[0]
        sums = blocking["channels_of_part"] * layout.lanes * layout.most_vectors
        self.window = team.buffer_of_each_thread(layout.window)
        self.sums = team.buffer_of_each_thread(sums)
        d.window, d.sums = self.window.items, self.sums.items

    cdef int take(self, layout) except -1:
        cdef as_direct_shifts *d = &self.layer
        self.plane_row, self.plane_column = layout.plane_row, layout.plane_column
        self.block, self.piece = layout.block, layout.piece
        check_length("block", self.block.shape[1] * 8, sizeof(as_shifts_block))
        check_length("piece", self.piece.shape[1] * 8, sizeof(as_shifts_piece))
        d.plane_count, d.reach_rows = self.plane_row.shape[0], layout.reach_rows
        d.slab_block, d.slab_pitch = layout.slab_block, layout.slab_pitch
        d.parts, d.most_vectors = layout.parts, layout.most_vectors
        d.block_count = self.block.shape[0]
        d.plane_row, d.plane_column = &self.plane_row[0], &self.plane_column[0]
        d.block = <const as_shifts_block *> &self.block[0, 0]
        d.piece = <const as_shifts_piece *> &self.piece[0, 0]
        return 0

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_direct_shifts_run(&self.layer, x, out, images, seconds)
