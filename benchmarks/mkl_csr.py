"""MKL's sparse BLAS for fully connected layers: inspector and executor, through ctypes.

A convolution goes through sparse_dot_mkl (sparse_peers.py).  Here the call is a matrix times a
vector or a few of them, so the handle is made and optimised once, as MKL's guide tells users to.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import sparse

from benchmarks.contest import Array, aligned

# of mkl_spblas.h
_PLAIN: Final = 10  # SPARSE_OPERATION_NON_TRANSPOSE
_ROW_MAJOR: Final = 101
_COLUMN_MAJOR: Final = 102
_GENERAL: Final = 20  # SPARSE_MATRIX_TYPE_GENERAL
_CALLS: Final = 100_000  # expected calls, for the inspector


class _Description(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("mode", ctypes.c_int), ("diag", ctypes.c_int)]


def _library() -> Any:
    """Load MKL, from the variable that sparse_dot_mkl reads too, or this environment.

    Raises
    ------
    OSError
        There is none.
    """
    found = sorted(map(str, (Path(sys.prefix) / "lib").glob("libmkl_rt.so*")))
    return ctypes.CDLL(os.environ.get("MKL_RT") or (found or ["libmkl_rt.so"])[0])


def _pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class Csr:
    """A K x C matrix in CSR with 32-bit indices, optimised for products with ``columns`` vectors.

    Raises
    ------
    RuntimeError
        MKL refuses.
    """

    def __init__(self, weights: Array, columns: int) -> None:
        self._mkl, self._columns = _library(), columns
        self._arrays = sparse.csr_matrix(weights)  # the handle points into it
        (self.rows, self.inner), csr = self._arrays.shape, self._arrays
        assert csr.indptr.dtype == csr.indices.dtype == np.int32
        self._handles: dict[int, ctypes.c_void_p] = {}
        self._description = _Description(_GENERAL, 0, 0)

    def _handle(self, layout: int) -> ctypes.c_void_p:
        """Make the handle for products in a layout (0: one vector)."""
        if layout in self._handles:
            return self._handles[layout]
        csr, handle = self._arrays, ctypes.c_void_p()
        starts = csr.indptr.ctypes.data
        self._ask(
            "create_csr", "s", ctypes.byref(handle), 0, self.rows, self.inner,
            ctypes.c_void_p(starts), ctypes.c_void_p(starts + 4), _pointer(csr.indices),
            _pointer(csr.data),
        )  # fmt: skip
        if layout:
            self._ask("set_mm_hint", "", handle, _PLAIN, self._description, layout, self._columns,
                      _CALLS)  # fmt: skip
        else:
            self._ask("set_mv_hint", "", handle, _PLAIN, self._description, _CALLS)
        self._ask("optimize", "", handle)
        self._handles[layout] = handle
        return handle

    def _ask(self, what: str, kind: str, *arguments: Any) -> None:
        name = "_".join(part for part in ("mkl_sparse", kind, what) if part)
        status = getattr(self._mkl, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: status {status}")

    def vector(self, x: Array, out: Array) -> Callable[[], None]:
        """Return a call that multiplies one vector, (C,) to (K,)."""
        run, handle = self._mkl.mkl_sparse_s_mv, self._handle(0)
        one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        given, to, description = _pointer(x), _pointer(out), self._description

        def call() -> None:
            run(_PLAIN, one, handle, description, given, zero, to)

        return call

    def vectors(self, x: Array, out: Array) -> tuple[str, Callable[[], None]]:
        """Return the faster of two ways to multiply the rows of x, (N, C) to (N, K).

        ``column-major`` takes them as they are; ``row-major`` turns them before and after, and the
        turning counts.
        """
        turned, sums = aligned((self.inner, len(x))), aligned((self.rows, len(x)))
        as_it_is = self._product(_COLUMN_MAJOR, x, self.inner, out, self.rows)
        product = self._product(_ROW_MAJOR, turned, len(x), sums, len(x))

        def turning() -> None:
            np.copyto(turned, x.T)
            product()
            np.copyto(out, sums.T)

        ways = {"column-major": as_it_is, "row-major": turning}
        way = min(ways, key=lambda name: _seconds(ways[name]))
        return way, ways[way]

    def _product(
        self, layout: int, x: Array, x_step: int, out: Array, out_step: int
    ) -> Callable[[], None]:
        run, handle = self._mkl.mkl_sparse_s_mm, self._handle(layout)
        one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        given, to, description = _pointer(x), _pointer(out), self._description
        columns = self._columns

        def call() -> None:
            run(_PLAIN, one, handle, description, layout, given, columns, x_step, zero, to,
                out_step)  # fmt: skip

        return call


def _seconds(way: Callable[[], None]) -> float:
    times = []
    for _ in range(4):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return min(times)
