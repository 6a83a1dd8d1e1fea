"""Runs the plans of a chain on this host, in turns with the same layers one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.native import (
    FloatArray,
    Job,
    Timed,
    conv_shape,
    phase_results,
    prepare,
    time_in_turns,
)
from archsim.result import PhaseResult


@dataclass(frozen=True, slots=True)
class ChainMeasurement:
    """Times of the whole batch, seconds: medians, 5th and 95th percentiles of calls."""

    seconds: float
    seconds_low: float
    seconds_high: float
    apart_seconds: float  # of the same layers, one by one
    layers: tuple[tuple[PhaseResult, ...], ...]
    calls: int
    isa: str
    max_error: float | None


def prepare_chain(jobs: Sequence[Job], *, relu: bool = True) -> Any:
    """Pack weights for the plans of a chain; the object's ``run(x, out=None)`` computes it.

    Parameters
    ----------
    jobs : sequence of Job
        Plans of :func:`archsim.methods.lanes_chain.plan`, in order.
    relu : bool
        Whether negative outputs between two layers become zero; those of the last one stay.
    """
    from archsim import kernels

    last = len(jobs) - 1
    return kernels.LanesChain(
        [
            kernels.DirectSparseLanes(
                job.weights, conv_shape(job.plan.layer), blocking=dict(job.plan.blocking),
                part_ptr=list(job.plan.part_ptr), threads=job.plan.threads,
                isa=job.plan.target.isa, relu=relu and index < last,
            )
            for index, job in enumerate(jobs)
        ],
        whole=[any(phase.name == "output" for phase in job.plan.phases) for job in jobs[:-1]],
    )  # fmt: skip


def run_chain(
    jobs: Sequence[Job],
    apart: Sequence[Job],
    *,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
) -> ChainMeasurement:
    """Time a chain with random input, and its layers one by one, in turns.

    Parameters
    ----------
    jobs : sequence of Job
        As in :func:`prepare_chain`.
    apart : sequence of Job
        The same layers by themselves, planned in any way.
    seed, min_seconds, check
        As in :func:`archsim.native.run_interleaved`; the reference has zeros for what is negative
        between layers, as the chain has. (The layers one by one have not: it takes no time.)
    """
    from archsim.kernels import aligned_empty

    chain = prepare_chain(jobs)
    first, batch = jobs[0].plan.layer, jobs[0].plan.batch
    x = aligned_empty((batch, first.C, first.H, first.W))
    np.random.default_rng(seed).standard_normal(dtype=np.float32, out=x)
    outs = [
        aligned_empty((batch, job.plan.layer.K, job.plan.layer.P, job.plan.layer.Q)) for job in jobs
    ]
    packed = [prepare(job.plan, job.weights) for job in apart]
    out = aligned_empty(outs[-1].shape)

    def one_by_one() -> None:
        given = x
        for layer, there in zip(packed, outs, strict=True):
            given = layer.run(given, out=there)

    threads = jobs[0].plan.threads
    whole = Timed(lambda: chain.run(x, out=out), lambda: chain.layer_seconds, threads=threads)
    single = Timed(one_by_one, lambda: None, threads=threads)
    time_in_turns([whole, single], min_seconds)
    low, median, high = whole.percentiles()
    return ChainMeasurement(
        seconds=median,
        seconds_low=low,
        seconds_high=high,
        apart_seconds=single.percentiles()[1],
        layers=tuple(phase_results(notes) for notes in zip(*whole.notes, strict=True)),
        calls=len(whole.calls),
        isa=str(chain.isa),
        max_error=_relative_error(jobs, x[:1], out[:1]) if check else None,
    )


def _relative_error(jobs: Sequence[Job], x: FloatArray, out: FloatArray) -> float:
    """Return the largest difference to a float64 reference over the largest reference value."""
    from archsim.kernels import conv2d

    right: Any = x
    for job in jobs[:-1]:
        right = conv2d(right, job.weights, conv_shape(job.plan.layer), relu=True)
    right = conv2d(right, jobs[-1].weights, conv_shape(jobs[-1].plan.layer))
    scale = float(np.abs(right).max()) or 1.0
    return float(np.abs(out - right).max()) / scale
