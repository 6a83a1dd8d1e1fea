"""Two threads on one image: one copy of the input or a copy each: ``python -m benchmarks.copies``.

First what a line costs that the two cores hand to each other, and one that is copied inside the
second level; then layers, microseconds of a call: on one thread, on two that make one copy in
halves and meet, on two that each make their own (``plan.blocking["own_input"]``). In turns, the
median of each.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import numpy as np

import archsim
from archsim.calibration import handing
from archsim.calibration.bench import Bench
from archsim.kernels import (
    ConvShape,
    DenseDirect,
    DirectSparseRow,
    LoweredSparse,
    probes,
    supported_isas,
)
from archsim.machinefile import load_machine
from archsim.native import conv_shape, prepare
from archsim.network import load_network
from archsim.sparsity import Sparsity

LAYERS: Final = (
    ("googlenet", "inception_5a/1x1"), ("googlenet", "inception_4a/1x1"),
    ("resnet50", "res3b_branch2a"), ("resnet50", "res4b_branch2b"),
)  # fmt: skip
METHODS: Final = {
    "lowered_sparse": ("auto", LoweredSparse), "direct_sparse": ("row", DirectSparseRow),
    "dense_direct": ("auto", DenseDirect),
}  # fmt: skip
DENSITY: Final = 0.1
SECONDS: Final = 0.4  # of each layer and method
_COPIED_BYTES: Final = 256 * 1024


def lines() -> None:
    """Print nanoseconds of a line: handed over, and copied."""
    isa = supported_isas()[-1]
    size = int(load_machine("host").caches[0].size_bytes) * 4 // 3 // 4096 * 4096
    bench = Bench(probes.Probe(2**20), time.monotonic() + 10.0, 5, 2, lambda _: None)
    found = handing.measure(bench, isa, "write", size)
    source = np.zeros(_COPIED_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    times = []
    for _ in range(400):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    copied = float(np.median(times)) / (_COPIED_BYTES / probes.LINE_BYTES)
    print(
        f"a line: read after another core wrote it {found.read.value * 1e9:.1f} ns, written after "
        f"another core read it {found.write.value * 1e9:.1f} ns, copied {copied * 1e9:.1f} ns"
    )


def _run(network: str, name: str, method: str) -> None:
    layer = load_network(network)[name]
    schedule, kind = METHODS[method]
    pattern = Sparsity(DENSITY if "sparse" in method else 1.0).draw(layer).weights
    assert pattern is not None  # drawn
    given: dict[str, Any] = {"pattern": pattern} if "sparse" in method else {}
    x = np.random.default_rng(0).normal(size=(1, layer.C, layer.H, layer.W)).astype(np.float32)
    out = np.empty((1, layer.K, layer.P, layer.Q), np.float32)
    weights = pattern.astype(np.float32)
    shape: ConvShape = conv_shape(layer)
    contestants = []
    for threads, own in ((1, 0), (2, 0), (2, 1)):
        plan = archsim.make_plan(
            layer, "host", method=method, schedule=schedule, threads=threads, batch=1, **given
        )
        if threads == 1:
            contestants.append(prepare(plan, weights))
            continue
        if "own_input" not in plan.blocking:
            return  # nothing is copied, or nobody would copy for himself on this machine
        blocking = dict(plan.blocking) | {"own_input": own}
        contestants.append(
            kind(weights, shape, blocking=blocking, part_ptr=plan.part_ptr, threads=threads)
        )
    times: list[list[float]] = [[] for _ in contestants]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for kernel, found in zip(contestants, times, strict=True):
            for call in range(8):
                start = time.perf_counter()
                kernel.run(x, out)
                if call >= 4:  # whoever ran before left arrays of its own
                    found.append(time.perf_counter() - start)
    one, shared, each = (float(np.median(found)) * 1e6 for found in times)
    print(f"{network + ' ' + name:28} {method:15} {one:9.0f} {shared:15.0f} {each:17.0f}")


def main() -> None:
    """Print both tables."""
    if archsim.load_machine("host").total_cores < 2:
        sys.exit("copies: two cores are needed; this process may use one")
    lines()
    print(
        f"{'layer':28} {'method':15} {'one [us]':>9} {'two, one copy':>15} {'two, a copy each':>17}"
    )
    for network, name in LAYERS:
        for method in METHODS:
            _run(network, name, method)


if __name__ == "__main__":
    main()
