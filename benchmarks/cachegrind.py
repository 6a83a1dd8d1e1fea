"""Counted misses beside those of cachegrind, which simulates caches under the running kernels.

    python -m benchmarks.cachegrind [METHOD[:SCHEDULE] ...]

Needs valgrind (``apt-get install valgrind``).  Kernels run with AVX2, one thread, some pictures;
what a picture misses is the difference between runs of few and of more calls.  Cachegrind has two
levels, both least recently used; it counts no write-backs, and a load that crosses a line and
misses twice as one miss.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import archsim
from archsim import native
from archsim.kernels import aligned_empty
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.plan import Plan, Target
from archsim.sparsity import Sparsity
from archsim.traffic.count import count
from archsim.traffic.known import script_of

ISA: Final = "avx2"
L1: Final = (32768, 8)  # bytes, ways
LAST: Final = (262144, 8)
LAYER: Final = ("alexnet", "conv3")
DENSITY: Final = 0.1
PICTURES: Final = 8
CALLS: Final = (1, 4)
KERNELS: Final = (
    "direct_sparse:row:fixed32", "direct_sparse:lanes:shifts", "direct_sparse:lanes:tiles",
    "lowered_sparse", "dense_direct", "winograd",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Misses:
    """Lines that a picture misses in both levels."""

    first: float
    last: float


def plan_of(kernel: str) -> tuple[Plan, Any]:
    """Return the plan of ``METHOD[:SCHEDULE]``, and weights for it."""
    method, _, schedule = kernel.partition(":")
    layer = load_network(LAYER[0])[LAYER[1]]
    target = Target(
        isa=ISA, lanes=8, registers=16, fma=True, line_bytes=64, page_bytes=4096,
        l1_bytes=L1[0], l1_sharers=1, l2_bytes=LAST[0], l2_sharers=1,
        last_bytes=LAST[0], threads_per_core=1,
    )  # fmt: skip
    drawn = Sparsity(DENSITY).draw(layer)
    dense = archsim.methods.get_method(method).dense
    plan = archsim.make_plan(
        layer, target, method=method, pattern=None if dense else drawn,
        schedule=schedule or "auto", batch=PICTURES, threads=1,
    )  # fmt: skip
    return plan, drawn.weights


def counted(kernel: str) -> Misses:
    """Count by replay."""
    machine = load_machine("generic-x86-64")
    caches = tuple(
        cache.model_copy(update={"size_bytes": float(size), "ways": ways, "shared_by": 1})
        for cache, (size, ways) in zip(machine.caches[:2], (L1, LAST), strict=True)
    )
    plan, _ = plan_of(kernel)
    found = count(plan, machine.model_copy(update={"caches": caches}), script_of(plan))
    lines = np.sum([read for read, _ in found.arrays.values()], axis=0) / 64
    return Misses(float(lines[0]), float(lines[1]))


def run(kernel: str, calls: int) -> None:
    """Run a kernel, under cachegrind."""
    plan, weights = plan_of(kernel)
    packed, layer = native.prepare(plan, weights), plan.layer
    x = aligned_empty((PICTURES, layer.C, layer.H, layer.W))
    x[:] = 1.0
    out = aligned_empty((PICTURES, layer.K, layer.P, layer.Q))
    out[:] = 0.0
    for _ in range(calls):
        packed.run(x, out=out)


def simulated(kernel: str) -> Misses:
    """Return what cachegrind sees."""
    few, more = (np.array(_cachegrind(kernel, calls)) for calls in CALLS)
    first, last = (more - few) / (CALLS[1] - CALLS[0]) / PICTURES
    return Misses(float(first), float(last))


def _cachegrind(kernel: str, calls: int) -> tuple[int, int]:
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--D1={L1[0]},{L1[1]},64",
        f"--LL={LAST[0]},{LAST[1]},64", "--cachegrind-out-file=/dev/null",
        sys.executable, "-m", "benchmarks.cachegrind", "--run", json.dumps([kernel, calls]),
    ]  # fmt: skip
    environment = dict(os.environ, ARCHSIM_ISA=ISA, OPENBLAS_NUM_THREADS="1", PYTHONHASHSEED="0")
    done = subprocess.run(  # noqa: S603 (our own command)
        command, capture_output=True, text=True, env=environment, check=False
    )
    found = [re.search(rf"{name}\s+misses:\s*([\d,]+)", done.stderr) for name in ("D1 ", "LLd")]
    if done.returncode or None in found:
        raise SystemExit(f"cachegrind failed:\n{done.stderr[-2000:]}")
    first, last = (int(match[1].replace(",", "")) for match in found if match)
    return first, last


def main(arguments: list[str]) -> None:
    """Print a row for each kernel."""
    if arguments[:1] == ["--run"]:
        run(*json.loads(arguments[1]))
        return
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is missing (apt-get install valgrind)")
        return
    print(f"{LAYER[1]} of {LAYER[0]}, density {DENSITY}, {ISA}; lines that a picture misses")
    for kernel in arguments or KERNELS:
        ours, theirs = counted(kernel), simulated(kernel)
        print(
            f"{kernel:28} L1 {theirs.first:9.0f} counted {ours.first:9.0f} "
            f"({ours.first / theirs.first - 1:+.1%})   "
            f"last {theirs.last:9.0f} counted {ours.last:9.0f} "
            f"({ours.last / theirs.last - 1:+.1%})",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
