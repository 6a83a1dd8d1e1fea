# The instruction sets, their limits as measured here, and the threads of this process.

from libc.stdint cimport int64_t

from archsim.kernels._capi cimport (
    as_isa,
    as_isa_at,
    as_isa_built,
    as_isa_count,
    as_isa_supported,
    as_pool_workers,
)


cdef extern from "archsim_native.h" nogil:
    int64_t as_roof_run(const as_isa *isa, int64_t steps, float *seen)
    double as_load_roof(const as_isa *isa, int64_t count, int64_t repeats, int64_t shift)


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
    cdef const as_isa *isa = runnable(isa_index)
    cdef float seen = 0.5
    cdef int64_t flop
    with nogil:
        flop = as_roof_run(isa, steps, &seen)
    return flop


def load_roof(int isa_index, int64_t vectors, int64_t repeats, bint aligned):
    """Seconds of `repeats` walks over so many vectors (a multiple of 12), a multiply-add each."""
    cdef const as_isa *isa = runnable(isa_index)
    cdef double seconds
    if vectors < 12 or vectors % 12 or vectors > 2**24 or repeats < 1:
        raise ValueError(f"vectors, repeats: got {vectors}, {repeats}")
    with nogil:
        seconds = as_load_roof(isa, vectors, repeats, 0 if aligned else 1)
    if seconds < 0:
        raise MemoryError(f"no memory for {vectors} vectors")
    return seconds
