"""Runs a plan's kernel on this host: the same blocking, real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.errors import input_error
from archsim.network import Layer
from archsim.plan import PHASES, Plan
from archsim.result import PhaseResult

if TYPE_CHECKING:
    from archsim.quiet import Watch

FloatArray = NDArray[np.float32]

_WARM_UP_CALLS: Final = 2
# Threads of a BLAS library spin for about 2^26 cycles after their last product (OpenBLAS,
# THREAD_TIMEOUT): warm up until they sleep.
_WARM_UP_SECONDS: Final = 0.03
_MIN_CALLS: Final = 7
_MAX_CALLS: Final = 500
_TURNS: Final = 5  # turns of each kernel in an interleaved run, about
#: calls below this are made once more after each look: it leaves caches, predictors and threads as
#: no call does, which costs the next one some 2 microseconds (docs/validation.md)
_SHORT_SECONDS: Final = 1e-3
#: untimed calls that begin a turn: as many, or as many as take so long.  Shared caches that keep a
#: line only once it has come back find the arrays of a large call after six to eight of them
#: (docs/validation.md)
_SETTLING_CALLS: Final = 8
_SETTLING_SECONDS: Final = 0.04
#: timed calls of a turn, unless they take longer than settling
_CALLS_OF_TURN: Final = 3
#: times ``min_seconds``, untimed calls among them, after which disturbed calls count, if too few
#: were not
_PATIENCE: Final = 12.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times of the whole batch, seconds: median, 5th and 95th percentile of the calls that count.

    ``disturbed``: somebody looked, and found too few calls that had their cores for themselves.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    phases: tuple[PhaseResult, ...]
    calls: int
    isa: str
    max_error: float | None
    disturbed: bool = False


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
    weights : ndarray of shape ``plan.weight_shape``, float32
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
    if plan.method == "dense_direct":
        return kernels.DenseDirect(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "structured" and plan.blocking["granularity"] == "kernel":
        return kernels.StructuredKernels(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "structured":
        return kernels.Structured(weights, shape, **common)
    if plan.method == "lowered_sparse":
        return kernels.LoweredSparse(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "fc_dense":
        return kernels.FcDense(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "fc_sparse":
        return kernels.FcSparse(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "direct_sparse" and "mode" in plan.blocking:
        return kernels.DirectSparseLanes(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "direct_sparse":
        return kernels.DirectSparseRow(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "winograd":
        return kernels.Winograd(weights, shape, isa=plan.target.isa, **common)
    if plan.method == "sparse_winograd":
        return kernels.SparseWinograd(weights, shape, isa=plan.target.isa, **common)
    raise input_error("method", "has no native kernel", found=plan.method)


@dataclass(frozen=True, slots=True)
class Job:
    """A plan, and the weights to run it with, of its ``weight_shape``, float32."""

    plan: Plan
    weights: FloatArray


def run(
    plan: Plan,
    weights: FloatArray,
    *,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
) -> Measurement:
    """Time a plan's kernel with random input; see :func:`run_interleaved`."""
    return run_interleaved([Job(plan, weights)], seed=seed, min_seconds=min_seconds, check=check)[0]


def run_interleaved(
    jobs: Sequence[Job],
    *,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
    watch: Watch | None = None,
) -> list[Measurement]:
    """Time kernels in turns, a few calls each, so that a change of the clock or other load on
    the machine meets all of them alike.

    Parameters
    ----------
    jobs : sequence of Job
    seed : int
        Of the inputs.
    min_seconds : float
        Each kernel is called for at least so long (and at least 7 times).
    check : bool
        Compare the first image with a float64 reference; ``max_error`` is then the largest
        difference over the largest reference value.
    watch : Watch, optional
        Looks before and after each call whether the cores are disturbed; only calls between two
        quiet looks count, unless there are too few of them.
    """
    kernels = [_Kernel(job, seed, watch) for job in jobs]
    time_in_turns([kernel.timed for kernel in kernels], min_seconds)
    return [kernel.measurement(check) for kernel in kernels]


class Timed:
    """What is timed call by call.

    Parameters
    ----------
    call : callable
        One call of it.
    note : callable
        What to remember of each call, asked for when it is over.
    threads : int
        That a call wakes.
    watch : Watch, optional
        See :func:`run_interleaved`.
    """

    def __init__(
        self,
        call: Callable[[], object],
        note: Callable[[], Any],
        *,
        threads: int,
        watch: Watch | None = None,
    ) -> None:
        self._call, self._note, self._threads, self._watch = call, note, threads, watch
        self.calls: list[float] = []
        self._settling = 0.0  # seconds of untimed calls
        self._notes: list[Any] = []
        self._quiet: list[bool] = []

    def warm_up(self, min_seconds: float) -> None:
        """Call until nothing is cold, and nobody spins."""
        quiet = _WARM_UP_SECONDS if self._threads > 1 and min_seconds > 0 else 0.0
        begin, calls = time.perf_counter(), 0
        while calls < _WARM_UP_CALLS or time.perf_counter() - begin < quiet:
            self._call()
            calls += 1

    def done(self, min_seconds: float) -> bool:
        """Whether there are calls enough."""
        good = self.calls if self._watch is None else self._of(self.calls)
        if len(good) >= _MIN_CALLS and (sum(good) >= min_seconds or len(good) >= _MAX_CALLS):
            return True
        if self._watch is None or len(self.calls) < _MIN_CALLS:
            return False
        # looks take longer than short calls: those are not waited for by their seconds alone
        spent = sum(self.calls) + self._settling
        return spent >= _PATIENCE * min_seconds or len(self.calls) >= 2 * _MAX_CALLS

    def turn(self, seconds: float) -> None:
        """Call a few times, and for ``seconds``.

        And untimed before: whoever had the turn before left the caches full of its arrays, and a
        call is to find its own where calls of its own leave them. So does a look, by a little.
        """
        self._settle()
        begin, calls = time.perf_counter(), 0
        before = self._watch is None or self._watch.quiet()
        while True:
            if self._watch is not None and self._short:
                self._call()
            start = time.perf_counter()
            self._call()
            end = time.perf_counter()
            after = self._watch is None or self._watch.quiet()
            self.calls.append(end - start)
            self._notes.append(self._note())
            self._quiet.append(before and after)
            before = after
            calls += 1
            few = calls < _CALLS_OF_TURN and end - begin < _SETTLING_SECONDS
            if end - begin >= seconds and not few:
                return

    def _settle(self) -> None:
        begin, calls = time.perf_counter(), 0
        while not calls or (
            calls < _SETTLING_CALLS and time.perf_counter() - begin < _SETTLING_SECONDS
        ):
            self._call()
            calls += 1
        self._settling += time.perf_counter() - begin

    @property
    def _short(self) -> bool:
        return not self.calls or self.calls[-1] < _SHORT_SECONDS

    @property
    def disturbed(self) -> bool:
        """Whether too few calls were between two quiet looks: all of them count then."""
        return sum(self._quiet) < min(_MIN_CALLS, len(self.calls))

    @property
    def notes(self) -> list[Any]:
        """Notes of the calls that count."""
        return self._counting(self._notes)

    def percentiles(self) -> tuple[float, float, float]:
        """Return the 5th, 50th and 95th percentile of the calls that count, seconds."""
        low, median, high = np.percentile(self._counting(self.calls), (5, 50, 95))
        return float(low), float(median), float(high)

    def _counting(self, values: list[Any]) -> list[Any]:
        return values if self.disturbed else self._of(values)

    def _of(self, values: list[Any]) -> list[Any]:
        return [value for value, quiet in zip(values, self._quiet, strict=True) if quiet]


def time_in_turns(contestants: Sequence[Timed], min_seconds: float) -> None:
    """Time each for at least so long, a few calls at a time."""
    from threadpoolctl import threadpool_limits

    # threads of a BLAS library that NumPy or others woke would hold a core that ours need
    with threadpool_limits(limits=1):
        for contestant in contestants:
            contestant.warm_up(min_seconds)
        while waiting := [c for c in contestants if not c.done(min_seconds)]:
            for contestant in waiting:
                contestant.turn(min_seconds / _TURNS)


class _Kernel:
    """A packed kernel with its input."""

    def __init__(self, job: Job, seed: int, watch: Watch | None = None) -> None:
        from archsim.kernels import aligned_empty

        layer, batch = job.plan.layer, job.plan.batch
        self._job = job
        self._packed = prepare(job.plan, job.weights)
        rng = np.random.default_rng(seed)
        self._x = aligned_empty((batch, layer.C, layer.H, layer.W))
        rng.standard_normal(dtype=np.float32, out=self._x)
        self._out = aligned_empty((batch, layer.K, layer.P, layer.Q))
        self.timed = Timed(
            lambda: self._packed.run(self._x, out=self._out),
            lambda: self._packed.phase_seconds,
            threads=job.plan.threads,
            watch=watch,
        )

    def measurement(self, check: bool) -> Measurement:
        low, median, high = self.timed.percentiles()
        plan, weights = self._job.plan, self._job.weights
        return Measurement(
            seconds=median,
            seconds_low=low,
            seconds_high=high,
            phases=phase_results(self.timed.notes),
            calls=len(self.timed.notes),
            isa=str(self._packed.isa),
            max_error=self._error(plan, weights) if check else None,
            disturbed=self.timed.disturbed,
        )

    def _error(self, plan: Plan, weights: FloatArray) -> float:
        variant = None if plan.tile is None else str(plan.blocking["variant"])
        return relative_error(plan.layer, self._x[:1], weights, self._out[:1], variant)


def phase_results(notes: Sequence[Mapping[str, float]]) -> tuple[PhaseResult, ...]:
    """Return the median of each phase's seconds; phases that take no time are left out."""
    return tuple(
        PhaseResult(name, float(np.median([seconds[name] for seconds in notes])))
        for name in PHASES
        if any(seconds.get(name, 0.0) > 0.0 for seconds in notes)
    )


def relative_error(
    layer: Layer, x: FloatArray, weights: FloatArray, out: FloatArray, variant: str | None = None
) -> float:
    """Return the largest difference to a float64 reference over the largest reference value.

    With a Winograd ``variant`` the weights are of its domain.
    """
    from archsim.kernels import conv2d, conv2d_winograd

    shape = conv_shape(layer)
    if variant is None:
        reference = conv2d(x, weights, shape)
    else:
        reference = conv2d_winograd(x, weights, shape, variant)
    scale = float(np.abs(reference).max()) or 1.0
    return float(np.abs(out - reference).max()) / scale
