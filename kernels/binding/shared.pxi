# What all layers share: buffers, threads, streams of nonzeros, and how a layer is run.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t, uintptr_t

from archsim.kernels._capi cimport (
    AS_ERR_MEMORY,
    AS_ERR_THREADS,
    AS_MOST_THREADS,
    AS_OK,
    as_alloc,
    as_free,
    as_isa,
    as_isa_at,
    as_isa_count,
    as_isa_supported,
    as_seconds,
    as_shape,
    as_team,
    as_team_free,
    as_team_init,
)

from numpy import ndarray

MOST_THREADS = AS_MOST_THREADS
MOST_PARTS = 2**30  # all ranks may count once beyond them, in an int
MOST_FLOATS = 2**48  # of one buffer: beyond any machine's address space, far from overflow

# Of a run: BLAS counts with int.
cdef enum:
    _MOST_IMAGES = 0x7FFFFFFF
MOST_IMAGES = _MOST_IMAGES

# What C gets for a stream without entries: it is never read, but it is not NULL either.
cdef int32_t NO_OFFSET = 0
cdef float NO_VALUE = 0.0


def floats_to_line(const float[::1] memory):
    """Floats from the begin of an array to the first multiple of 64 bytes."""
    return -<uintptr_t> &memory[0] % 64 // sizeof(float)


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
    """Threads of a run: `threads` in groups of `per_image`, and the parts of the units that each
    rank makes or, if `dynamic`, takes.
    """

    cdef as_team team
    cdef const int64_t[::1] part_ptr

    def __cinit__(
        self,
        int threads,
        int per_image,
        const int64_t[::1] part_ptr,  # IN, per_image + 1 or, if dynamic, any number of parts
        int64_t units,
        bint dynamic=False,
        bint own_input=False,
    ):
        cdef int64_t parts = part_ptr.shape[0] - 1 if dynamic else per_image
        if not 1 <= per_image <= threads <= AS_MOST_THREADS:
            raise ValueError(f"threads: got {threads} in groups of {per_image}")
        if not 1 <= parts <= MOST_PARTS:
            raise ValueError(f"part_ptr: got {parts} parts; must be 1 to {MOST_PARTS}")
        check_ptr("part_ptr", part_ptr, parts + 1, units)
        self.part_ptr = part_ptr
        if as_team_init(
            &self.team, threads, per_image, <int> parts, dynamic, own_input, &part_ptr[0]
        ) != AS_OK:
            raise MemoryError(f"no memory for the state of {threads} threads")

    def __dealloc__(self):
        as_team_free(&self.team)

    cdef Buffers buffer_of_each_group(self, floats):
        return Buffers(self.team.threads // self.team.per_image, floats)

    cdef Buffers buffer_of_input(self, floats):
        if self.team.own_input:
            return self.buffer_of_each_thread(floats)
        return self.buffer_of_each_group(floats)

    cdef Buffers buffer_of_each_thread(self, floats):
        return Buffers(self.team.threads, floats)


cdef class Streams:
    """Nonzeros in lists: list l is off, val [ptr[l], ptr[l + 1]), `each` values an offset."""

    cdef int64_t each
    cdef const int64_t[::1] ptr
    cdef const int32_t[::1] off
    cdef const float[::1] val

    def __cinit__(
        self,
        const int64_t[::1] ptr,  # IN, lists + 1
        const int32_t[::1] off,  # IN, nonzeros and `ahead` more
        const float[::1] val,    # IN, as many, or `each` times as many
        int64_t lists,
        int64_t last_offset,
        int64_t ahead=0,         # entries behind the last list, which nothing uses
        int64_t each=1,
    ):
        cdef Py_ssize_t i
        check_ptr("ptr", ptr, lists + 1, off.shape[0] - ahead)
        if each < 1 or val.shape[0] % each or val.shape[0] // each != off.shape[0]:
            raise ValueError(f"val: got {val.shape[0]} values for {off.shape[0]} offsets")
        for i in range(off.shape[0]):
            if not 0 <= off[i] <= last_offset:
                raise ValueError(f"off[{i}]: got {off[i]}; must be 0 to {last_offset}")
        self.ptr, self.off, self.val, self.each = ptr, off, val, each

    cdef const int32_t *offsets(self):
        return &self.off[0] if self.off.shape[0] else &NO_OFFSET

    cdef const float *values(self):
        return &self.val[0] if self.val.shape[0] else &NO_VALUE


cdef class Layer:
    """A packed layer. A kernel's class begins its arguments with these and has its own `call`."""

    cdef as_shape shape
    cdef Team team
    cdef const as_isa *set  # NULL: BLAS chose
    cdef as_seconds last

    def __cinit__(self, shape, Team team, *_):
        self.shape, self.team = to_shape(shape), team
        self.last.input = self.last.products = self.last.output = 0.0

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return AS_ERR_MEMORY  # never called

    @property
    def isa(self):
        """Name of the instruction set whose kernels this layer calls; None: what BLAS chose."""
        return None if self.set == NULL else self.set.name.decode("ascii")

    @property
    def seconds(self):
        """Seconds of the last run's phases input, products and output."""
        return self.last.input, self.last.products, self.last.output

    def run(self, x, out):
        """Run a batch, x (IN) to out (OUT), and return True.

        Return False, and run nothing, unless both are plain float32 arrays of the right shapes
        that share no memory. Why not is for the caller to find out: that takes longer.
        """
        cdef Py_buffer source, target
        cdef int status
        if not hold(&source, x, 0):
            return False
        try:
            if not hold(&target, out, PyBUF_WRITABLE):
                return False
            try:
                if not self.takes(&source, &target):
                    return False
                with nogil:
                    status = self.call(
                        <const float *> source.buf, <float *> target.buf, source.shape[0],
                        &self.last)
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        check_status(status)
        return True

    cdef bint takes(self, const Py_buffer *x, const Py_buffer *out) noexcept:
        cdef as_shape *s = &self.shape
        cdef const char *begin = <const char *> x.buf
        cdef const char *end = <const char *> out.buf
        return (
            1 <= x.shape[0] <= _MOST_IMAGES and out.shape[0] == x.shape[0]
            and x.shape[1] == s.channels and out.shape[1] == s.out_channels
            and x.shape[2] == s.height and out.shape[2] == s.out_height
            and x.shape[3] == s.width and out.shape[3] == s.out_width
            and (begin + x.len <= end or end + out.len <= begin)
        )


cdef bint hold(Py_buffer *view, array, int flags) except -1:
    """Whether `view` now holds a plain array (aligned, C-contiguous, float32, four axes)."""
    cdef bint plain
    if type(array) is not ndarray:
        return False
    try:
        PyObject_GetBuffer(array, view, flags | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    except (ValueError, BufferError):  # not contiguous, read-only, or of a type without a format
        return False
    plain = (
        view.ndim == 4 and view.format[0] == b"f" and view.format[1] == 0
        and <uintptr_t> view.buf % sizeof(float) == 0
    )
    if not plain:
        PyBuffer_Release(view)
    return plain


cdef int check_status(int status) except -1:
    if status == AS_ERR_THREADS:
        raise RuntimeError(
            "the system refused to start the threads of this run; nothing was computed")
    if status == AS_ERR_MEMORY:
        raise MemoryError("no memory for this run")
    return 0


cdef class SparseLayer(Layer):
    """A packed layer of nonzeros."""

    cdef Streams streams
    cdef const float[::1] bias

    def __cinit__(
        self,
        shape,
        Team team,
        Streams streams,
        const float[::1] bias,  # IN, out_channels
        int isa_index,
        *_,
    ):
        check_length("bias", bias.shape[0], self.shape.out_channels)
        self.streams, self.bias, self.set = streams, bias, runnable(isa_index)


cdef const as_isa *runnable(int isa_index) except NULL:
    if not (0 <= isa_index < as_isa_count() and as_isa_supported(isa_index)):
        raise ValueError(f"isa_index: got {isa_index}; this set cannot run here")
    return as_isa_at(isa_index)


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
