"""What a prepared call costs besides the kernel: a layer of one weight."""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

import numpy as np

import archsim
from archsim import native
from archsim.network import Layer
from archsim.sparsity import Sparsity

_CALLS: Final = 2000
_SAMPLES: Final = 25


def measure() -> dict[str, float]:
    """Return ``median_s`` and ``best_s`` of a call, each sample a mean over many."""
    layer = Layer("tiny", C=1, K=1)
    weights = Sparsity(1.0).draw(layer).weights
    assert weights is not None  # drawn
    plan = archsim.make_plan(layer, "host", method="direct_sparse", pattern=weights, threads=1)
    packed: Any = native.prepare(plan, weights)
    x = np.zeros((1, layer.C, layer.H, layer.W), dtype=np.float32)
    out = np.empty((1, layer.K, layer.P, layer.Q), dtype=np.float32)
    times = []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        for _ in range(_CALLS):
            packed.run(x, out=out)
        times.append((time.perf_counter() - start) / _CALLS)
    return {"median_s": statistics.median(times), "best_s": min(times)}
