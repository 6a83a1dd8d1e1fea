# Caches as numbers: address streams replayed, lines counted. No kernel uses this.

from libc.stdint cimport int16_t, int32_t, int64_t, uint64_t

from archsim.kernels._capi cimport as_alloc, as_free


cdef extern from "replay.h" nogil:
    enum:
        AS_REPLAY_LEVELS
        AS_REPLAY_THREADS
        AS_REPLAY_ARRAYS
        AS_REPLAY_PHASES

    ctypedef struct as_segment:
        pass

    ctypedef struct as_replay_level:
        int64_t sets, ways
        int instances
        int instance[64]
        int32_t share[32]
        uint64_t *line

    ctypedef struct as_replay:
        int levels, threads, arrays, line_bits, write_allocate, first_shared
        uint64_t together
        as_replay_level level[4]
        int64_t touched[64]
        int64_t fetched[4][3][32]
        int64_t written[4][3][32]

    ctypedef struct as_replay_walk:
        const as_segment *segment
        int64_t segments
        const int64_t *steps
        const int64_t *base

    void as_replay_empty(as_replay *replay)
    int64_t as_replay_check(const as_replay *replay, const as_replay_walk *walk, int64_t steps,
                            int64_t low, int64_t high)
    void as_replay_run(as_replay *replay, const as_replay_walk *walk)

SEGMENT_WORDS = sizeof(as_segment) // sizeof(int64_t)
REPLAY_LEVELS, REPLAY_THREADS = AS_REPLAY_LEVELS, AS_REPLAY_THREADS
REPLAY_ARRAYS, REPLAY_PHASES = AS_REPLAY_ARRAYS, AS_REPLAY_PHASES


cdef class ReplaySteps:
    """A table of steps, in bytes, with its least and its greatest entry."""

    cdef const int64_t[::1] steps
    cdef int64_t low, high

    def __cinit__(self, const int64_t[::1] steps):  # IN, not empty
        cdef Py_ssize_t i
        if steps.shape[0] < 1:
            raise ValueError("steps: there are none")
        self.steps = steps
        self.low = self.high = steps[0]
        for i in range(1, steps.shape[0]):
            self.low = min(self.low, steps[i])
            self.high = max(self.high, steps[i])


cdef class Replay:
    """The state of caches, and what has moved; see replay.h and archsim.kernels.replay."""

    cdef as_replay replay

    def __cinit__(
        self,
        const int64_t[:, ::1] sizes,      # IN, (levels, 3): sets, ways, instances
        const int64_t[:, ::1] instance,   # IN, (levels, threads)
        const int64_t[:, ::1] share,      # IN, (levels, arrays), of 65536
        int line_bits,
        bint write_allocate,
        int first_shared,
        uint64_t together,
    ):
        cdef as_replay *r = &self.replay
        cdef as_replay_level *level
        cdef int depth, i
        r.levels, r.threads = <int> sizes.shape[0], <int> instance.shape[1]
        r.arrays = <int> share.shape[1]
        r.line_bits, r.write_allocate = line_bits, write_allocate
        r.first_shared, r.together = first_shared, together
        if not 1 <= sizes.shape[0] <= AS_REPLAY_LEVELS or sizes.shape[1] != 3:
            raise ValueError("sizes: wrong shape")
        if instance.shape[0] != r.levels or not 1 <= instance.shape[1] <= AS_REPLAY_THREADS:
            raise ValueError("instance: wrong shape")
        if share.shape[0] != r.levels or not 1 <= share.shape[1] <= AS_REPLAY_ARRAYS:
            raise ValueError("share: wrong shape")
        if not (4 <= line_bits <= 12 and 0 <= first_shared <= r.levels):
            raise ValueError("line_bits or first_shared: out of range")
        for depth in range(r.levels):
            level = &r.level[depth]
            level.sets, level.ways = sizes[depth, 0], sizes[depth, 1]
            if not (1 <= sizes[depth, 0] <= 2**40 and 1 <= sizes[depth, 1] <= 2**20
                    and 1 <= sizes[depth, 2] <= r.threads):
                raise ValueError(f"sizes[{depth}]: out of range")
            level.instances = <int> sizes[depth, 2]
            for i in range(r.threads):
                if not 0 <= instance[depth, i] < level.instances:
                    raise ValueError(f"instance[{depth}, {i}]: out of range")
                level.instance[i] = <int> instance[depth, i]
            for i in range(r.arrays):
                if not 0 <= share[depth, i] <= 65536:
                    raise ValueError(f"share[{depth}, {i}]: out of range")
                level.share[i] = <int32_t> share[depth, i]
            lines = int(sizes[depth, 0]) * int(sizes[depth, 1]) * int(sizes[depth, 2])
            bytes_ = lines * sizeof(uint64_t)
            if bytes_ > 2**34:
                raise MemoryError(f"no memory for the lines of a cache: {bytes_} bytes")
            level.line = <uint64_t *> as_alloc(bytes_)
            if level.line == NULL:
                raise MemoryError(f"no memory for the lines of a cache: {bytes_} bytes")
        as_replay_empty(r)

    def __dealloc__(self):
        for depth in range(AS_REPLAY_LEVELS):
            as_free(self.replay.level[depth].line)

    def run(
        self,
        list segments,  # IN, of each thread: int64 (n, SEGMENT_WORDS)
        list steps,     # IN, of each thread: ReplaySteps
        list base,      # IN, of each thread: int64, of each array
    ):
        """Replay one walk a thread."""
        cdef as_replay_walk walk[64]
        cdef const int64_t[:, ::1] s
        cdef const int64_t[::1] b
        cdef ReplaySteps j
        cdef int t
        if not len(segments) == len(steps) == len(base) == self.replay.threads:
            raise ValueError("segments, steps, base: one for each thread is due")
        for t in range(self.replay.threads):
            s, j, b = segments[t], steps[t], base[t]
            if s.shape[1] != SEGMENT_WORDS or b.shape[0] != self.replay.arrays:
                raise ValueError(f"thread {t}: wrong shape")
            walk[t].segment = <const as_segment *> &s[0, 0] if s.shape[0] else NULL
            walk[t].segments = s.shape[0]
            walk[t].steps, walk[t].base = &j.steps[0], &b[0]
            bad = as_replay_check(&self.replay, &walk[t], j.steps.shape[0], j.low,
                                  j.high)
            if bad >= 0:
                raise ValueError(f"thread {t}, segment {bad}: out of range")
        with nogil:
            as_replay_run(&self.replay, walk)

    def counts(self):
        """Return lines fetched and written back, [level][phase][array], and touched by thread."""
        cdef as_replay *r = &self.replay
        fetched = [[[r.fetched[depth][p][a] for a in range(r.arrays)]
                    for p in range(AS_REPLAY_PHASES)] for depth in range(r.levels)]
        written = [[[r.written[depth][p][a] for a in range(r.arrays)]
                    for p in range(AS_REPLAY_PHASES)] for depth in range(r.levels)]
        return fetched, written, [r.touched[t] for t in range(r.threads)]
