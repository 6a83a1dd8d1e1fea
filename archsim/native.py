"""Runs a plan's kernel on this host: the same blocking, real time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.errors import input_error
from archsim.network import Layer
from archsim.plan import PHASES, Plan
from archsim.result import PhaseResult

FloatArray = NDArray[np.float32]

_WARM_UP_CALLS: Final = 2
# Threads of a BLAS library spin for about 2^26 cycles after their last product (OpenBLAS,
# THREAD_TIMEOUT) and would hold a core that ours need: wait until they sleep.
_WARM_UP_SECONDS: Final = 0.03
_MIN_CALLS: Final = 7
_MAX_CALLS: Final = 500


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times of the whole batch, seconds: median, 5th and 95th percentile of single calls."""

    seconds: float
    seconds_low: float
    seconds_high: float
    phases: tuple[PhaseResult, ...]
    calls: int
    isa: str
    max_error: float | None


def conv_shape(layer: Layer) -> Any:
    """Return the kernels' own description of a layer."""
    from archsim.kernels import ConvShape

    return ConvShape(
        channels=layer.C, height=layer.H, width=layer.W, out_channels=layer.K,
        kernel_h=layer.R, kernel_w=layer.S, stride=layer.stride, pad=layer.pad,
        dilation=layer.dilation, groups=layer.groups,
    )  # fmt: skip


def prepare(plan: Plan, weights: FloatArray) -> Any:
    """Pack ``weights`` for the plan's kernel; the object's ``run(x, out=None)`` computes it.

    Parameters
    ----------
    plan : Plan
        Made for an instruction set that this host has.
    weights : ndarray of shape (K, C / groups, R, S), float32
    """
    from archsim import kernels

    common: dict[str, Any] = {
        "blocking": dict(plan.blocking),
        "part_ptr": list(plan.part_ptr),
        "threads": plan.threads,
    }
    shape = conv_shape(plan.layer)
    if plan.method == "dense_gemm":
        return kernels.DenseGemm(weights, shape, **common)
    if plan.method == "lowered_sparse":
        return kernels.LoweredSparse(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "direct_sparse" and "mode" in plan.blocking:
        return kernels.DirectSparseLanes(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "direct_sparse":
        return kernels.DirectSparseRow(weights, shape, isa=plan.target.isa, **common)
    raise input_error("method", "has no native kernel", found=plan.method)


def run(
    plan: Plan,
    weights: FloatArray,
    *,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
) -> Measurement:
    """Time a plan's kernel with random input.

    Parameters
    ----------
    plan : Plan
    weights : ndarray of shape (K, C / groups, R, S), float32
    seed : int
        Of the input.
    min_seconds : float
        Calls are repeated for at least so long (and at least 7 times).
    check : bool
        Compare the first image with a float64 reference; ``max_error`` is then the largest
        difference over the largest reference value.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # only our own threads may run beside us
        return _run(plan, weights, seed=seed, min_seconds=min_seconds, check=check)


def _run(
    plan: Plan, weights: FloatArray, *, seed: int, min_seconds: float, check: bool
) -> Measurement:
    layer = plan.layer
    packed = prepare(plan, weights)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((plan.batch, layer.C, layer.H, layer.W), dtype=np.float32)
    out = np.empty((plan.batch, layer.K, layer.P, layer.Q), dtype=np.float32)
    begin, warm = time.perf_counter(), 0
    quiet = _WARM_UP_SECONDS if plan.threads > 1 and min_seconds > 0 else 0.0
    while warm < _WARM_UP_CALLS or time.perf_counter() - begin < quiet:
        packed.run(x, out=out)
        warm += 1
    calls: list[float] = []
    phases: list[dict[str, float]] = []
    begin = time.perf_counter()
    while len(calls) < _MAX_CALLS:
        start = time.perf_counter()
        packed.run(x, out=out)
        calls.append(time.perf_counter() - start)
        phases.append(packed.phase_seconds)
        if len(calls) >= _MIN_CALLS and time.perf_counter() - begin >= min_seconds:
            break
    low, median, high = np.percentile(calls, (5, 50, 95))
    return Measurement(
        seconds=float(median),
        seconds_low=float(low),
        seconds_high=float(high),
        phases=tuple(
            PhaseResult(name, float(np.median([p[name] for p in phases])))
            for name in PHASES
            if any(p.get(name, 0.0) > 0.0 for p in phases)
        ),
        calls=len(calls),
        isa=str(packed.isa),
        max_error=relative_error(layer, x[:1], weights, out[:1]) if check else None,
    )


def relative_error(layer: Layer, x: FloatArray, weights: FloatArray, out: FloatArray) -> float:
    """Return the largest difference to a float64 reference over the largest reference value."""
    from archsim.kernels.reference import conv2d

    reference = conv2d(x, weights, conv_shape(layer))
    scale = float(np.abs(reference).max()) or 1.0
    return float(np.abs(out - reference).max()) / scale
