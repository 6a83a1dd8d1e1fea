# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
"""Binding of the C kernels.

Nothing here is public: the classes of direct_row.py, lowered.py, dense.py and dense_direct.py
decide and validate; these hold what C needs (arrays, buffers, the state of threads), check once
more whatever could make C leave its arrays, and run without the GIL. Runs of one object must not
overlap; the callers lock.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from archsim.kernels._capi cimport (
    AS_ERR_MEMORY,
    AS_ERR_THREADS,
    AS_LANES_AHEAD,
    AS_MOST_THREADS,
    AS_OK,
    as_alloc,
    as_dense,
    as_dense_direct,
    as_dense_direct_run,
    as_dense_run,
    as_direct_lanes,
    as_direct_lanes_run,
    as_direct_row,
    as_direct_row_run,
    as_free,
    as_isa,
    as_isa_at,
    as_isa_built,
    as_isa_count,
    as_isa_supported,
    as_load_roof,
    as_lanes_block,
    as_lanes_chunk,
    as_lanes_piece,
    as_lowered,
    as_lowered_run,
    as_pool_workers,
    as_roof_run,
    as_seconds,
    as_sgemm_fn,
    as_shape,
    as_team,
    as_team_free,
    as_team_init,
)

MOST_THREADS = AS_MOST_THREADS
MOST_FLOATS = 2**48  # of one buffer: beyond any machine's address space, far from overflow

# What C gets for a stream without entries: it is never read, but it is not NULL either.
cdef int32_t NO_OFFSET = 0
cdef float NO_VALUE = 0.0


def isa_rows():
    """Rows (name, lanes, registers, fma, built, supported), worst to best."""
    rows = []
    for i in range(as_isa_count()):
        isa = as_isa_at(i)
        rows.append((isa.name.decode("ascii"), isa.lanes, isa.registers, bool(isa.fma),
                     bool(as_isa_built(i)), bool(as_isa_supported(i))))
    return rows


def pool_workers():
    """Worker threads that this process has (the callers of runs are not among them)."""
    return as_pool_workers()


def run_roof(int isa_index, int64_t steps):
    """Do nothing but multiply-adds in registers; return the floating-point operations."""
    cdef float seen = 0.5
    cdef int64_t flop
    if not 0 <= isa_index < as_isa_count() or not as_isa_supported(isa_index):
        raise ValueError(f"isa_index: got {isa_index}; this set cannot run here")
    with nogil:
        flop = as_roof_run(as_isa_at(isa_index), steps, &seen)
    return flop


def load_roof(int isa_index, int64_t vectors, int64_t repeats, bint aligned):
    """Seconds of `repeats` walks over so many vectors (a multiple of 12), a multiply-add each."""
    cdef const as_isa *isa
    cdef double seconds
    if not (0 <= isa_index < as_isa_count() and as_isa_supported(isa_index)):
        raise ValueError(f"isa_index: got {isa_index}, which cannot run here")
    if vectors < 12 or vectors % 12 or vectors > 2**24 or repeats < 1:
        raise ValueError(f"vectors, repeats: got {vectors}, {repeats}")
    isa = as_isa_at(isa_index)
    with nogil:
        seconds = as_load_roof(isa, vectors, repeats, 0 if aligned else 1)
    if seconds < 0:
        raise MemoryError(f"no memory for {vectors} vectors")
    return seconds


cdef class Buffers:
    """`count` aligned, zeroed arrays of exactly `floats` float32 each."""

    cdef float **items
    cdef int count

    def __cinit__(self, int count, floats):
        if floats > MOST_FLOATS:
            raise MemoryError(f"no memory for a buffer of {floats} floats")
        self.items = <float **> as_alloc(count * sizeof(float *))
        if self.items == NULL:
            raise MemoryError(f"no memory for {count} buffers")
        self.count = count
        for i in range(count):
            self.items[i] = <float *> as_alloc(<size_t> floats * sizeof(float))
            if self.items[i] == NULL:
                raise MemoryError(f"no memory for {count} buffers of {floats} floats")

    def __dealloc__(self):
        if self.items != NULL:
            for i in range(self.count):
                as_free(self.items[i])
            as_free(self.items)


cdef class Team:
    """Threads of a run: `threads` in groups of `per_image`, and each rank's range of units."""

    cdef as_team team
    cdef const int64_t[::1] part_ptr

    def __cinit__(
        self,
        int threads,
        int per_image,
        const int64_t[::1] part_ptr,  # IN, per_image + 1
        int64_t units,
    ):
        if not 1 <= per_image <= threads <= AS_MOST_THREADS:
            raise ValueError(f"threads: got {threads} in groups of {per_image}")
        check_ptr("part_ptr", part_ptr, per_image + 1, units)
        self.part_ptr = part_ptr
        if as_team_init(&self.team, threads, per_image, &part_ptr[0]) != AS_OK:
            raise MemoryError(f"no memory for the state of {threads} threads")

    def __dealloc__(self):
        as_team_free(&self.team)


cdef class Streams:
    """Nonzeros in lists: list l is off, val [ptr[l], ptr[l + 1])."""

    cdef const int64_t[::1] ptr
    cdef const int32_t[::1] off
    cdef const float[::1] val

    def __cinit__(
        self,
        const int64_t[::1] ptr,  # IN, lists + 1
        const int32_t[::1] off,  # IN, nonzeros and `ahead` more
        const float[::1] val,    # IN, as many
        int64_t lists,
        int64_t last_offset,
        int64_t ahead=0,         # entries behind the last list, which nothing uses
    ):
        cdef Py_ssize_t i
        check_ptr("ptr", ptr, lists + 1, off.shape[0] - ahead)
        if val.shape[0] != off.shape[0]:
            raise ValueError(f"val: got {val.shape[0]} values for {off.shape[0]} offsets")
        for i in range(off.shape[0]):
            if not 0 <= off[i] <= last_offset:
                raise ValueError(f"off[{i}]: got {off[i]}; must be 0 to {last_offset}")
        self.ptr, self.off, self.val = ptr, off, val

    cdef const int32_t *offsets(self):
        return &self.off[0] if self.off.shape[0] else &NO_OFFSET

    cdef const float *values(self):
        return &self.val[0] if self.val.shape[0] else &NO_VALUE


cdef int check_ptr(str name, const int64_t[::1] ptr, int64_t length, int64_t end) except -1:
    cdef Py_ssize_t i
    if ptr.shape[0] != length:
        raise ValueError(f"{name}: got {ptr.shape[0]} values; must be {length}")
    if ptr[0] != 0 or ptr[length - 1] != end:
        raise ValueError(f"{name}: got {ptr[0]} to {ptr[length - 1]}; must be 0 to {end}")
    for i in range(1, length):
        if ptr[i] < ptr[i - 1]:
            raise ValueError(f"{name}: must not decrease")
    return 0


cdef as_shape to_shape(shape):
    cdef as_shape s
    s.channels, s.height, s.width = shape.channels, shape.height, shape.width
    s.out_channels, s.out_height, s.out_width = shape.out_channels, shape.out_h, shape.out_w
    s.kernel_h, s.kernel_w = shape.kernel_h, shape.kernel_w
    s.stride_h, s.stride_w = shape.stride
    s.pad_h, s.pad_w = shape.pad
    s.dilation_h, s.dilation_w = shape.dilation
    s.groups = shape.groups
    return s


cdef int check_length(str name, int64_t got, int64_t right) except -1:
    if got != right:
        raise ValueError(f"{name}: got {got} values; must be {right}")
    return 0


cdef int check_images(
    as_shape s, const float[:, :, :, ::1] x, float[:, :, :, ::1] out
) except -1:
    if (x.shape[0] < 1 or x.shape[1] != s.channels
            or x.shape[2] != s.height or x.shape[3] != s.width):
        raise ValueError("x: wrong shape")
    if (out.shape[0] != x.shape[0] or out.shape[1] != s.out_channels
            or out.shape[2] != s.out_height or out.shape[3] != s.out_width):
        raise ValueError("out: wrong shape")
    return 0


cdef tuple finish(int status, as_seconds seconds):
    if status == AS_ERR_THREADS:
        raise RuntimeError(
            "the system refused to start the threads of this run; nothing was computed")
    if status == AS_ERR_MEMORY:
        raise MemoryError("no memory for this run")
    return seconds.input, seconds.products, seconds.output


cdef class DirectRow:
    """A packed layer for the row schedule; sizes and layouts as archsim_native.h says."""

    cdef as_direct_row layer
    cdef Team team
    cdef Streams streams
    cdef const float[::1] bias
    cdef Buffers padded, scratch

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,  # IN, out_channels
        int isa_index,
        dict blocking,
        bint relu,
    ):
        cdef as_direct_row *d = &self.layer
        self.team, self.streams, self.bias = team, streams, bias
        d.shape, d.team, d.isa = to_shape(shape), team.team, as_isa_at(isa_index)
        d.oc_block, d.column_blocks = blocking["oc_block"], blocking["column_blocks"]
        d.reg_rows, d.reg_vectors = blocking["reg_rows"], blocking["reg_vectors"]
        d.row_pitch, d.vectorised = blocking["row_pitch"], blocking["vectorised"]
        d.spill_to_output, d.relu = blocking["spill"] == "output", relu
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        check_length("bias", bias.shape[0], d.shape.out_channels)
        d.bias = &bias[0]
        self.padded = Buffers(team.team.threads // team.team.per_image, blocking["padded_size"])
        self.scratch = Buffers(team.team.threads, blocking["scratch_size"])
        d.padded, d.scratch = self.padded.items, self.scratch.items

    @property
    def isa(self):
        """Name of the instruction set whose kernels this layer calls."""
        return self.layer.isa.name.decode("ascii")

    def run(
        self,
        const float[:, :, :, ::1] x,  # IN
        float[:, :, :, ::1] out,      # OUT
    ):
        cdef as_seconds seconds
        cdef int status
        check_images(self.layer.shape, x, out)
        with nogil:
            status = as_direct_row_run(
                &self.layer, &x[0, 0, 0, 0], &out[0, 0, 0, 0], x.shape[0], &seconds)
        return finish(status, seconds)


cdef class DirectLanes:
    """A packed layer for the lanes schedules; `layout` is a LanesLayout."""

    cdef as_direct_lanes layer
    cdef Team team
    cdef Streams streams
    cdef const float[::1] bias
    cdef const int64_t[::1] plane_row, plane_column, lane_start
    cdef const int64_t[:, ::1] block, chunk, piece
    cdef Buffers x, planes, sums, ready

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,  # IN, out_channels
        int isa_index,
        layout,
        dict blocking,
        bint relu,
    ):
        cdef as_direct_lanes *d = &self.layer
        self.team, self.streams, self.bias = team, streams, bias
        d.shape, d.team, d.isa = to_shape(shape), team.team, as_isa_at(isa_index)
        d.pointwise, d.relu, d.slab_blocks = blocking["pointwise"], relu, blocking["slab_blocks"]
        d.past_caches = blocking["past_caches"]
        if streams.off.shape[0] - streams.ptr[streams.ptr.shape[0] - 1] < AS_LANES_AHEAD:
            raise ValueError("off: too few entries behind the last list")
        check_length("ptr", streams.ptr.shape[0] - 1, d.slab_blocks * d.shape.out_channels)
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        check_length("bias", bias.shape[0], d.shape.out_channels)
        d.bias = &bias[0]
        self.take(layout)
        groups, threads = team.team.threads // team.team.per_image, team.team.threads
        vector = layout.lanes * layout.most_vectors
        slabs = shape.channels * len(layout.plane_row)
        planes = layout.images * len(layout.plane_row) * layout.plane_size
        self.x = Buffers(groups, slabs * layout.slab_pitch)
        self.planes = Buffers(threads, planes)
        self.sums = Buffers(threads, blocking["channels_of_part"] * vector)
        self.ready = Buffers(threads, vector + 3 * layout.lanes)
        d.x, d.planes = self.x.items, self.planes.items
        d.sums, d.ready = self.sums.items, self.ready.items

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

    @property
    def isa(self):
        """Name of the instruction set whose kernels this layer calls."""
        return self.layer.isa.name.decode("ascii")

    def run(
        self,
        const float[:, :, :, ::1] x,  # IN
        float[:, :, :, ::1] out,      # OUT
    ):
        cdef as_seconds seconds
        cdef int status
        check_images(self.layer.shape, x, out)
        with nogil:
            status = as_direct_lanes_run(
                &self.layer, &x[0, 0, 0, 0], &out[0, 0, 0, 0], x.shape[0], &seconds)
        return finish(status, seconds)


cdef class Lowered:
    """A packed layer for im2col and sparse x dense; layouts as archsim_native.h says."""

    cdef as_lowered layer
    cdef Team team
    cdef Streams streams
    cdef const float[::1] bias
    cdef Buffers lowered

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,  # IN, out_channels
        int isa_index,
        dict blocking,
        bint relu,
    ):
        cdef as_lowered *d = &self.layer
        self.team, self.streams, self.bias = team, streams, bias
        d.shape, d.team, d.isa = to_shape(shape), team.team, as_isa_at(isa_index)
        d.pixel_vectors, d.pitch, d.relu = blocking["pixel_vectors"], blocking["pitch"], relu
        d.ptr, d.off, d.val = &streams.ptr[0], streams.offsets(), streams.values()
        check_length("bias", bias.shape[0], d.shape.out_channels)
        d.bias = &bias[0]
        self.lowered = Buffers(team.team.threads // team.team.per_image, blocking["lowered_size"])
        d.lowered = self.lowered.items

    @property
    def isa(self):
        """Name of the instruction set whose kernels this layer calls."""
        return self.layer.isa.name.decode("ascii")

    def run(
        self,
        const float[:, :, :, ::1] x,  # IN
        float[:, :, :, ::1] out,      # OUT
    ):
        cdef as_seconds seconds
        cdef int status
        check_images(self.layer.shape, x, out)
        with nogil:
            status = as_lowered_run(
                &self.layer, &x[0, 0, 0, 0], &out[0, 0, 0, 0], x.shape[0], &seconds)
        return finish(status, seconds)


# sgemm with 32-bit integers, in the words of SciPy's capsule; the name of its float type varies.
cdef bytes SGEMM_BEGINS = b"void (char *, char *, int *, int *, int *, "


cdef class Dense:
    """A layer for BLAS. `lowered_size` 0: the image itself is the lowered matrix."""

    cdef as_dense layer
    cdef Team team
    cdef const float[:, :, :, ::1] weights
    cdef const float[::1] bias
    cdef Buffers lowered
    cdef object sgemm

    def __cinit__(
        self,
        shape,
        Team team,
        const float[:, :, :, ::1] weights,  # IN
        const float[::1] bias,              # IN, out_channels; or None
        sgemm,
        int64_t pitch,
        lowered_size,
        bint fully_connected,
        bint relu,
    ):
        cdef as_dense *d = &self.layer
        cdef const char *name = PyCapsule_GetName(sgemm)
        if name == NULL or not (<bytes> name).startswith(SGEMM_BEGINS):
            raise RuntimeError("SciPy's sgemm must take 32-bit integers; this build's does not")
        self.team, self.weights, self.bias, self.sgemm = team, weights, bias, sgemm
        d.shape, d.team = to_shape(shape), team.team
        d.sgemm = <as_sgemm_fn> PyCapsule_GetPointer(sgemm, name)
        d.fully_connected, d.pitch, d.relu = fully_connected, pitch, relu
        check_length("weights", weights.shape[0] * weights.shape[1] * weights.shape[2]
                     * weights.shape[3], shape.weight_count)
        d.weights = &weights[0, 0, 0, 0]
        if bias is not None:
            check_length("bias", bias.shape[0], d.shape.out_channels)
            d.bias = &bias[0]
        if lowered_size:
            self.lowered = Buffers(team.team.threads // team.team.per_image, lowered_size)
            d.lowered = self.lowered.items

    def run(
        self,
        const float[:, :, :, ::1] x,  # IN
        float[:, :, :, ::1] out,      # OUT
    ):
        cdef as_seconds seconds
        cdef int status
        check_images(self.layer.shape, x, out)
        with nogil:
            status = as_dense_run(
                &self.layer, &x[0, 0, 0, 0], &out[0, 0, 0, 0], x.shape[0], &seconds)
        return finish(status, seconds)


cdef class DenseDirect:
    """A packed layer for direct dense convolution; layouts as archsim_native.h says."""

    cdef as_dense_direct layer
    cdef Team team
    cdef const int32_t[::1] tap
    cdef Buffers weights, bias, padded, sums

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
        cdef int groups = team.team.threads // team.team.per_image
        self.team, self.tap = team, tap
        d.shape, d.team, d.isa = to_shape(shape), team.team, as_isa_at(isa_index)
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
            self.padded = Buffers(groups, blocking["padded_size"])
            d.padded = self.padded.items
        self.sums = Buffers(team.team.threads, blocking["sums_size"])
        d.sums = self.sums.items

    @property
    def isa(self):
        """Name of the instruction set whose kernels this layer calls."""
        return self.layer.isa.name.decode("ascii")

    def run(
        self,
        const float[:, :, :, ::1] x,  # IN
        float[:, :, :, ::1] out,      # OUT
    ):
        cdef as_seconds seconds
        cdef int status
        check_images(self.layer.shape, x, out)
        with nogil:
            status = as_dense_direct_run(
                &self.layer, &x[0, 0, 0, 0], &out[0, 0, 0, 0], x.shape[0], &seconds)
        return finish(status, seconds)


cdef Buffers copied(const float[::1] values):
    buffer = Buffers(1, values.shape[0])
    memcpy(buffer.items[0], &values[0], values.shape[0] * sizeof(float))
    return buffer
