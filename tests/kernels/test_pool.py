"""Threads: nested in nothing, at home in forks and spawns, and safe for several callers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, _native

SHAPE = ConvShape(6, 9, 9, 20, 3, 3, pad=(1, 1))
TIMEOUT_SECONDS = 60


def test_a_single_thread_needs_no_worker() -> None:
    code = """
import numpy as np
from archsim.kernels import ConvShape, DenseGemm, _native
one = np.ones((1, 1, 1, 1), dtype=np.float32)
shape = ConvShape(1, 1, 1, 1, 1, 1)
DenseGemm(one, shape, blocking={"threads_per_image": 1}, part_ptr=[0, 1]).run(one)
print(_native.pool_workers())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert run.stdout == b"0\n"


def test_the_pool_grows_to_what_is_asked(kit: Any) -> None:
    case = kit.case(SHAPE, batch=6)
    for threads in (2, 5, 3):
        case.assert_right(kit.pack("direct", case, threads=threads).run(case.x))
    assert _native.pool_workers() >= 4


def test_more_threads_than_images_or_cpus(kit: Any, method: str) -> None:
    case = kit.case(SHAPE, batch=2)
    for per_image in (1, 4, 7):
        layer = kit.pack(method, case, threads=16, threads_per_image=per_image)
        case.assert_right(layer.run(case.x))


def test_workers_wake_from_sleep(kit: Any) -> None:
    """Long enough between runs that they stopped spinning."""
    case = kit.case(SHAPE, batch=2)
    layer = kit.pack("direct", case, threads=2)
    for _ in range(5):
        case.assert_right(layer.run(case.x))
        time.sleep(0.005)


def test_many_runs_on_sharing_threads(kit: Any) -> None:
    case = kit.case(SHAPE, batch=3)
    layer = kit.pack("direct", case, threads=2, threads_per_image=2)
    right = layer.run(case.x)
    for _ in range(200):
        np.testing.assert_array_equal(layer.run(case.x), right)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinities here")
def test_affinity_is_obeyed_and_kept(kit: Any) -> None:
    """Workers may move away from one another, but only among the CPUs that they were given."""
    case = kit.case(SHAPE, batch=3)
    layer = kit.pack("direct", case, threads=3)
    layer.run(case.x)
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    one = {min(before[threads[0]])}
    try:
        for cpus in (one, before[threads[0]]):
            for thread in threads:
                os.sched_setaffinity(thread, cpus)
            for _ in range(20):
                case.assert_right(layer.run(case.x))
            assert all(os.sched_getaffinity(thread) == cpus for thread in threads)
    finally:
        for thread, cpus in before.items():
            os.sched_setaffinity(thread, cpus)


# Python 3.12 and later warn about forks of a process with threads; the pool is made for them.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe elsewhere")
def test_fork(kit: Any, method: str) -> None:
    """The child of a process that has workers makes its own."""
    case = kit.case(SHAPE, batch=4)
    layer = kit.pack(method, case, threads=2)
    here = layer.run(case.x)
    with multiprocessing.get_context("fork").Pool(2) as children:
        there = children.apply_async(layer.run, (case.x,)).get(TIMEOUT_SECONDS)
        workers = children.apply_async(_native.pool_workers).get(TIMEOUT_SECONDS)
    np.testing.assert_array_equal(there, here)
    assert workers in (0, 1)  # as the first child or the second answers
    np.testing.assert_array_equal(layer.run(case.x), here)


def test_spawn(kit: Any, method: str) -> None:
    case = kit.case(SHAPE, batch=4)
    layer = kit.pack(method, case, threads=2)
    with multiprocessing.get_context("spawn").Pool(1) as children:
        there = children.apply_async(layer.run, (case.x,)).get(TIMEOUT_SECONDS)
    np.testing.assert_array_equal(there, layer.run(case.x))


def test_four_callers_with_an_object_each(kit: Any, method: str) -> None:
    cases = [kit.case(SHAPE, batch=3, seed=seed) for seed in range(4)]
    layers = [kit.pack(method, case, threads=2) for case in cases]

    def work(i: int) -> None:
        for _ in range(20):
            cases[i].assert_right(layers[i].run(cases[i].x))

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(work, range(4)))


def test_four_callers_of_one_object(kit: Any, method: str) -> None:
    layer = kit.pack(method, kit.case(SHAPE), threads=2, threads_per_image=2)
    xs = [kit.case(SHAPE, batch=2, seed=seed).x for seed in range(4)]
    right = [layer.run(x) for x in xs]

    def work(i: int) -> None:
        for _ in range(20):
            np.testing.assert_array_equal(layer.run(xs[i]), right[i])

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(work, range(4)))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are kept on Linux")
def test_a_system_that_refuses_threads_is_an_error_not_a_hang() -> None:
    code = """
import resource
import numpy as np
from archsim.kernels import ConvShape, LoweredSparse, isa_table, supported_isas
lanes = next(i.lanes for i in isa_table() if i.name == supported_isas()[0])
x = np.ones((1000, 1, 1, 1), dtype=np.float32)
layer = LoweredSparse(
    x[:1], ConvShape(1, 1, 1, 1, 1, 1), isa=supported_isas()[0], threads=1000, part_ptr=[0, 1],
    blocking={"lanes": lanes, "pixel_vectors": 1, "threads_per_image": 1, "partition": "nnz"})
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        layer.run(x)
    except RuntimeError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(layer.run(x).sum())
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert run.returncode == 0, run.stderr
    refusal = "the system refused to start the threads of this run; nothing was computed"
    assert run.stdout.splitlines() == [refusal, refusal, "1000.0"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe elsewhere")
def test_forks_while_others_run(kit: Any) -> None:
    """Whatever another thread is doing in the pool, the child finds it usable."""
    case = kit.case(SHAPE, batch=4)
    busy, layer = (kit.pack("direct", case, threads=n) for n in (3, 2))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            busy.run(case.x)

    other = threading.Thread(target=work)
    other.start()
    try:
        right = layer.run(case.x)
        for _ in range(20):
            child = os.fork()
            if child == 0:  # no pytest in here: say how it went by the status alone
                signal.alarm(TIMEOUT_SECONDS)
                os._exit(0 if (layer.run(case.x) == right).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        other.join()


@pytest.mark.skipif(sys.platform != "linux", reason="sends signals as Linux does")
def test_ctrl_c() -> None:
    """Ctrl-C while threads compute ends the loop, in the main thread, and nothing is broken."""
    code = """
import signal
import numpy as np
from archsim.kernels import ConvShape, DenseDirect, isa_table, supported_isas
info = next(i for i in isa_table() if i.name == supported_isas()[0])
shape = ConvShape(8, 12, 12, 8, 3, 3, pad=(1, 1))
layer = DenseDirect(
    np.ones(shape.weight_shape, dtype=np.float32), shape, isa=info.name, threads=3,
    part_ptr=[0, 2],
    blocking=dict(lanes=info.lanes, in_lanes="channels", source="padded", flat=0, reg_vectors=2,
                  reg_rows=1, reg_count=4, channel_block=8, band_rows=4, band_columns=12,
                  row_pitch=14, channel_pitch=14 * 14, threads_per_image=1))
x = np.ones((12, 8, 12, 12), dtype=np.float32)
right = layer.run(x)
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
# no lock of Python's own may be held when it comes, as an Event's would be
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
for _ in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while True:
            layer.run(x)
    except KeyboardInterrupt:
        pass
    assert (layer.run(x) == right).all()
print("done")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_signals_are_not_the_workers_business(kit: Any) -> None:
    """Workers block them all, so that the host program's handlers run on its own threads."""
    status = Path("/proc/self/task")
    if not status.exists():
        pytest.skip("no /proc here")
    before = {task.name for task in status.iterdir()}
    _run_with_more_workers(kit)
    blocked = [
        int(line.split()[1], 16)
        for task in status.iterdir()
        if task.name not in before
        for line in (task / "status").read_text(encoding="ascii").splitlines()
        if line.startswith("SigBlk")
    ]
    assert blocked
    for signals in blocked:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
            assert signals >> (number - 1) & 1


def _run_with_more_workers(kit: Any) -> None:
    threads = _native.pool_workers() + 3
    case = kit.case(SHAPE, batch=threads)
    case.assert_right(kit.pack("direct", case, threads=threads).run(case.x))


def test_a_process_ends_while_workers_wait(kit: Any) -> None:
    """Right after a run, when they still spin, and without joining anybody."""
    code = """
import numpy as np
from archsim.kernels import ConvShape, DenseGemm
one = np.ones((4, 1, 1, 1), dtype=np.float32)
shape = ConvShape(1, 1, 1, 1, 1, 1, stride=(2, 2))
layer = DenseGemm(
    one[:1], shape, blocking={"threads_per_image": 4}, threads=4, part_ptr=[0, 1, 1, 1, 1])
print(layer.run(one).sum())
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert (run.returncode, run.stdout) == (0, "4.0\n"), run.stderr
