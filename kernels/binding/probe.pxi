# Micro-benchmarks of this host: loops that each do one thing, timed in many short samples.

from libc.stdint cimport int64_t

from archsim.kernels._capi cimport (
    AS_ERR_MEMORY,
    AS_MOST_THREADS,
    AS_OK,
    as_alloc,
    as_free,
    as_isa,
)


cdef extern from "probe.h" nogil:
    enum:
        AS_PROBE_CHASES
        AS_PROBE_LINE
        AS_PROBE_BLOCK
        AS_PROBE_PAGE
        AS_PROBE_LEAST
        AS_PROBE_TIMES
        AS_PROBE_TEAM_TIMES

    ctypedef struct as_probe:
        int64_t size
        int64_t bytes
        int64_t position
        int64_t offset

    ctypedef struct as_probe_loop:
        const char *name
        int operations

    ctypedef struct as_probe_loops:
        const as_probe_loop *loop
        int count

    const as_probe_loops as_probe_scalar

    int as_probe_init(as_probe *probe, int64_t size)
    void as_probe_free(as_probe *probe)
    void as_probe_link(as_probe *probe, int64_t lines, int chases)
    double as_probe_tick()
    void as_probe_time(const as_probe_loop *loop, as_probe *probe, int64_t steps,
                       int64_t yardstick, int samples, double *times)
    int as_probe_time_team(const as_probe_loop *loop, as_probe **probes, int threads,
                           int64_t steps, int samples, double *times)
    int as_probe_hand(const as_probe_loop *write, const as_probe_loop *read,
                      const as_probe *probe, int samples, double *times)
    int as_probe_barriers(int threads, int64_t steps, int samples, double *seconds)

cdef extern from "archsim_native.h" nogil:
    ctypedef struct probe_isa "as_isa":
        const as_probe_loops *probe

PROBE_LINE = AS_PROBE_LINE
PROBE_BLOCK = AS_PROBE_BLOCK
PROBE_LEAST = AS_PROBE_LEAST
PROBE_CHASES = AS_PROBE_CHASES
PROBE_WRITING = (b"write", b"write_across", b"store", b"store_pages", b"branch", b"branch_random")
MOST_PROBE_STEPS = 2**40


cdef const as_probe_loops *probe_loop_list(int isa_index) except NULL:
    """The loops of a set; -1: those without vectors."""
    if isa_index == -1:
        return &as_probe_scalar
    return (<const probe_isa *> runnable(isa_index)).probe


def probe_loops(int isa_index):
    """Rows (name, operations of a step) of a set; -1: of the loops without vectors."""
    cdef const as_probe_loops *loops = probe_loop_list(isa_index)
    return [(loops.loop[i].name.decode("ascii"), loops.loop[i].operations)
            for i in range(loops.count)]


def probe_tick():
    """Seconds that reading the clock takes."""
    return as_probe_tick()


cdef const as_probe_loop *probe_loop(int isa_index, int loop) except NULL:
    cdef const as_probe_loops *loops = probe_loop_list(isa_index)
    if not 0 <= loop < loops.count:
        raise ValueError(f"loop: got {loop}; must be 0 to {loops.count - 1}")
    return &loops.loop[loop]


cdef int check_runs(int64_t steps, int64_t samples) except -1:
    if not (1 <= steps <= MOST_PROBE_STEPS and 1 <= samples <= 2**20):
        raise ValueError(f"steps, samples: got {steps}, {samples}")
    return 0


cdef class Probe:
    """Memory that loops walk, in large pages where the system gives them."""

    cdef as_probe *probe
    cdef int chases  # side by side, that memory is linked for

    def __cinit__(self, int64_t size):
        if not AS_PROBE_LEAST <= size <= 2**48:
            raise ValueError(f"size: got {size}; must be {AS_PROBE_LEAST} or more")
        self.probe = <as_probe *> as_alloc(sizeof(as_probe))
        if self.probe == NULL or as_probe_init(self.probe, size) != AS_OK:
            raise MemoryError(f"no memory for a probe of {size} bytes")

    def __dealloc__(self):
        if self.probe != NULL:
            as_probe_free(self.probe)
            as_free(self.probe)

    @property
    def size(self):
        """Bytes."""
        return self.probe.size

    def walk(self, int64_t size_bytes, int64_t offset=0):
        """Set how much is walked, a multiple of PROBE_BLOCK, and where loads begin in a line."""
        if size_bytes % AS_PROBE_BLOCK or not AS_PROBE_BLOCK <= size_bytes <= self.probe.size:
            raise ValueError(f"size_bytes: got {size_bytes} of {self.probe.size}")
        if offset % 4 or not 0 <= offset < AS_PROBE_PAGE:
            raise ValueError(f"offset: got {offset}; a multiple of 4 below {AS_PROBE_PAGE} is due")
        self.probe.bytes, self.probe.offset = size_bytes, offset
        self.probe.position %= size_bytes  # a large walk goes on where it was

    def link(self, int64_t lines, int chases):
        """Link the first lines into one cycle without order, for so many chases side by side."""
        if not 1 <= chases <= AS_PROBE_CHASES:
            raise ValueError(f"chases: got {chases}; must be 1 to {AS_PROBE_CHASES}")
        if not chases <= lines <= self.probe.size // AS_PROBE_LINE:
            raise ValueError(f"lines: got {lines} in {self.probe.size} bytes")
        with nogil:
            as_probe_link(self.probe, lines, chases)
        self.chases = chases

    def time(
        self,
        int isa_index,
        int loop,
        int64_t steps,
        int64_t yardstick,
        double[:, ::1] times,  # OUT, (samples, 6)
    ):
        """Time a loop on this thread; see as_probe_time. Chases need `link` for as many before."""
        cdef const as_probe_loop *what = probe_loop(isa_index, loop)
        check_runs(steps, times.shape[0])
        check_runs(yardstick, 1)
        check_length("times", times.shape[1], AS_PROBE_TIMES)
        self.check_steps(what, steps)
        with nogil:
            as_probe_time(what, self.probe, steps, yardstick, <int> times.shape[0], &times[0, 0])

    cdef int check_steps(self, const as_probe_loop *what, int64_t steps) except -1:
        if what.name.startswith(b"branch") and steps > AS_PROBE_LEAST:
            raise ValueError(f"steps: got {steps}; must be at most {AS_PROBE_LEAST}")
        if what.name.startswith(b"chase") and self.chases < what.operations:
            raise ValueError(f"loop: {what.operations} chases; linked for {self.chases}")
        if what.name in PROBE_WRITING:
            self.chases = 0  # the links are gone
        return 0


def probe_team(
    list probes,
    int isa_index,
    int loop,
    int64_t steps,
    double[:, :, ::1] times,  # OUT, (samples, threads, 3)
):
    """Time a loop on as many threads as there are probes; see as_probe_time_team."""
    cdef const as_probe_loop *what = probe_loop(isa_index, loop)
    cdef int threads = len(probes), status
    cdef Probe probe
    check_runs(steps, times.shape[0])
    check_length("times", times.shape[1], threads)
    check_length("times", times.shape[2], AS_PROBE_TEAM_TIMES)
    if not 1 <= threads <= AS_MOST_THREADS:
        raise ValueError(f"probes: got {threads}")
    cdef as_probe **list_of = <as_probe **> as_alloc(threads * sizeof(as_probe *))
    if list_of == NULL:
        raise MemoryError(f"no memory for {threads} probes")
    try:
        for i in range(threads):
            probe = probes[i]
            probe.check_steps(what, steps)
            list_of[i] = probe.probe
        with nogil:
            status = as_probe_time_team(what, list_of, threads, steps, <int> times.shape[0],
                                        &times[0, 0, 0])
    finally:
        as_free(list_of)
    check_status(status)


def probe_hand(
    Probe probe,
    int isa_index,
    int write,
    int read,
    double[:, ::1] times,  # OUT, (samples, 2)
):
    """Time one thread that writes, then another one that reads the same; see as_probe_hand."""
    cdef const as_probe_loop *writes = probe_loop(isa_index, write)
    cdef const as_probe_loop *reads = probe_loop(isa_index, read)
    cdef int status
    check_runs(1, times.shape[0])
    check_length("times", times.shape[1], 2)
    probe.check_steps(reads, 1)
    probe.check_steps(writes, 1)
    with nogil:
        status = as_probe_hand(writes, reads, probe.probe, <int> times.shape[0], &times[0, 0])
    check_status(status)


def probe_barriers(int threads, int64_t steps, double[::1] seconds):
    """Seconds of a barrier in each of len(seconds) samples."""
    cdef int status
    check_runs(steps, seconds.shape[0])
    if not 1 <= threads <= AS_MOST_THREADS:
        raise ValueError(f"threads: got {threads}")
    with nogil:
        status = as_probe_barriers(threads, steps, <int> seconds.shape[0], &seconds[0])
    check_status(status)
