"""SciPy's BLAS: its sgemm as a C function, and its own threads kept out of our way.

SciPy and threadpoolctl are imported at first use, so that the sparse kernels need neither.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from threading import Condition, Lock
from typing import Any


def load_sgemm() -> object:
    """Return the capsule that holds the address of sgemm."""
    return importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__["sgemm"]


class SingleThread:
    """While any thread is inside, BLAS runs each call on the thread that makes it.

    The setting belongs to the process: the first to enter saves what was set, the last to leave
    restores it. threadpoolctl's own context manager takes 21 us a call (threadpoolctl 3.8 with
    two copies of OpenBLAS 0.3.30, a 2.9 GHz Xeon, timeit); this takes 4, because it asks and sets
    one library and makes no report.

    A fork waits until nobody is inside: the child would have the locks of BLAS as they are in the
    middle of a product, and wait for them forever.
    """

    def __init__(self) -> None:
        self.libraries = _scipy_blas()
        self._free = Condition(Lock())
        self._inside = 0
        self._saved: list[int] = []

    def __enter__(self) -> None:
        with self._free:
            if self._inside == 0:
                self._saved = [library.get_num_threads() for library in self.libraries]
                for library, threads in zip(self.libraries, self._saved, strict=True):
                    if threads != 1:
                        library.set_num_threads(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._free:
            self._inside -= 1
            if self._inside == 0:
                for library, threads in zip(self.libraries, self._saved, strict=True):
                    if threads != 1:
                        library.set_num_threads(threads)
                self._free.notify_all()

    def keep_out(self) -> None:
        """Wait until nobody is inside, and let nobody in until `let_in`, by the same thread."""
        self._free.acquire()
        while self._inside:
            self._free.wait()

    def let_in(self) -> None:
        """End `keep_out`."""
        self._free.release()


_single_thread: SingleThread | None = None
_single_thread_lock = Lock()


def single_thread() -> SingleThread:
    """Return the one SingleThread of this process."""
    global _single_thread
    with _single_thread_lock:
        if _single_thread is None:
            _single_thread = SingleThread()
        return _single_thread


def _before_fork() -> None:
    _single_thread_lock.acquire()
    if _single_thread is not None:
        _single_thread.keep_out()


def _after_fork() -> None:
    if _single_thread is not None:
        _single_thread.let_in()
    _single_thread_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def isa_name() -> str:
    """Return ``blas:`` and the architecture that the library chose for itself, where it tells.

    The library knows nothing of ARCHSIM_ISA.
    """
    names = {getattr(lib, "architecture", None) for lib in single_thread().libraries}
    known = sorted(name.lower() for name in names if isinstance(name, str))
    return f"blas:{known[0]}" if known else "blas"


def _scipy_blas() -> list[Any]:
    """Return controllers of the library behind sgemm; of all BLAS libraries if in doubt."""
    importlib.import_module("scipy.linalg.cython_blas")
    controller = importlib.import_module("threadpoolctl").ThreadpoolController()
    libraries = [lib for lib in controller.lib_controllers if lib.user_api == "blas"]
    # Wheels of NumPy and of SciPy carry a copy each; SciPy's lies in the folder scipy.libs (or
    # scipy/.dylibs).
    scipys = [
        lib for lib in libraries if any("scipy" in p.name for p in Path(lib.filepath).parents)
    ]
    return scipys or libraries
