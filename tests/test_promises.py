"""What every packed layer promises, whatever plan it was made from."""

from __future__ import annotations

import os
import pickle
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

import archsim
from archsim import native
from archsim.kernels import active_isa, aligned_empty
from archsim.machinefile import load_machine
from archsim.network import Layer
from archsim.sparsity import Sparsity

PLAIN = Layer("plain", C=16, K=48, H=13, W=13, R=3, S=3, pad=(1, 1))
STRIDED = Layer("strided", C=3, K=20, H=31, W=29, R=5, S=5, stride=(2, 2), pad=(2, 2))
POINTWISE = Layer("pointwise", C=12, K=20, H=8, W=8)
PLANS = [
    (PLAIN, "dense_gemm", "auto"),
    (POINTWISE, "dense_gemm", "auto"),
    (PLAIN, "dense_direct", "auto"),
    (PLAIN, "lowered_sparse", "auto"),
    (PLAIN, "direct_sparse", "row"),
    (STRIDED, "direct_sparse", "row"),
    (PLAIN, "direct_sparse", "lanes:flat"),
    (PLAIN, "direct_sparse", "lanes:tiles"),
    (STRIDED, "direct_sparse", "lanes:images"),
    (POINTWISE, "direct_sparse", "pointwise"),
]
TIMEOUT_SECONDS = 60.0

every_plan = pytest.mark.parametrize(
    ("layer", "method", "schedule"), PLANS, ids=lambda value: getattr(value, "name", value)
)


def prepared(
    layer: Layer, method: str, schedule: str, *, threads: int = 1, batch: int = 2
) -> tuple[Any, Any]:
    """Return a packed layer and an input for it."""
    weights = Sparsity(0.2).draw(layer, seed=1).weights
    assert weights is not None
    plan = archsim.make_plan(
        layer, load_machine("host").target(active_isa()), method=method, schedule=schedule,
        pattern=weights, batch=batch, threads=threads, partition="dynamic",
    )  # fmt: skip
    x = aligned_empty((batch, layer.C, layer.H, layer.W))
    np.random.default_rng(2).standard_normal(dtype=np.float32, out=x)
    return native.prepare(plan, weights), x


@every_plan
def test_a_given_output_is_the_one_that_is_made(layer: Layer, method: str, schedule: str) -> None:
    packed, x = prepared(layer, method, schedule, threads=3)
    made = packed.run(x)
    given = np.full(made.shape, np.nan, dtype=np.float32)
    assert packed.run(x, out=given) is given
    np.testing.assert_array_equal(given, made)


@every_plan
def test_pickle(layer: Layer, method: str, schedule: str) -> None:
    packed, x = prepared(layer, method, schedule, threads=3)
    copy = pickle.loads(pickle.dumps(packed))
    assert repr(copy) == repr(packed)
    np.testing.assert_array_equal(copy.run(x), packed.run(x))


@every_plan
@pytest.mark.parametrize("threads", [1, 2])
def test_callers_of_one_object(layer: Layer, method: str, schedule: str, threads: int) -> None:
    packed, x = prepared(layer, method, schedule, threads=threads, batch=1)
    xs = [x, -x, 2.0 * x]
    right = [packed.run(one) for one in xs]

    def work(i: int) -> None:
        for _ in range(20):
            np.testing.assert_array_equal(packed.run(xs[i]), right[i])

    with ThreadPoolExecutor(3) as callers:
        list(callers.map(work, range(3)))


def wait_for(child: int) -> int:
    """Return a child's exit status; -1, and the child's end, if it takes too long."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


# Python 3.12 and later warn about forks of a process with threads; the pool is made for them.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe elsewhere")
@every_plan
@pytest.mark.parametrize("threads", [1, 2])
def test_fork_during_a_run(layer: Layer, method: str, schedule: str, threads: int) -> None:
    """The child has the object, but not the thread that runs it and holds its lock."""
    packed, x = prepared(layer, method, schedule, threads=threads, batch=8)
    right, stop = packed.run(x), Event()

    def run_on() -> None:
        while not stop.is_set():
            packed.run(x)

    other = Thread(target=run_on)
    other.start()
    try:
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(packed.run(x), right) else 1)
            assert wait_for(child) == 0
    finally:
        stop.set()
        other.join()


COUNTER = """
#include <stdatomic.h>
#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static atomic_long count;
long allocations(void) { return count; }
void *malloc(size_t n) { ++count; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { ++count; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { ++count; return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { ++count; return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { ++count; return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{
    ++count;
    *p = __libc_memalign(a, n);
    return *p ? 0 : 12;
}
"""
COUNTING = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from test_promises import PLANS, prepared
allocations = ctypes.CDLL(None).allocations
allocations.restype = ctypes.c_long
assert allocations() > 1000  # it counts: an interpreter has started
for layer, method, schedule in PLANS:
    for threads in (1, 2):
        packed, x = prepared(layer, method, schedule, threads=threads, batch=3)
        out = packed.run(x)
        for _ in range(5):
            packed.run(x, out)
        before = allocations()
        for _ in range(50):
            packed.run(x, out)
        print(layer.name, method, schedule, threads, allocations() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or shutil.which("cc") is None or "LD_PRELOAD" in os.environ,
    reason="needs a C compiler and the GNU C library",
)
def test_a_run_allocates_nothing(tmp_path: Path) -> None:
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    found = subprocess.run(
        [sys.executable, "-c", COUNTING, str(Path(__file__).parent)], capture_output=True,
        text=True, env={**os.environ, "LD_PRELOAD": str(library)}, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert len(lines) == 2 * len(PLANS)
    assert [line for line in lines if not line.endswith(" 0")] == []
