"""Our methods and schedules as contestants, through their plans."""

from __future__ import annotations

from typing import Any

import archsim
from archsim import kernels, native
from archsim.kernels.isa import find_isa
from archsim.methods import METHODS
from archsim.network import Layer
from archsim.sparsity import Domain
from benchmarks.contest import Array, Contestant, aligned


def is_ours(name: str) -> bool:
    """Whether a name is a method of ours (``METHOD`` or ``METHOD=SCHEDULE``)."""
    return name.partition("=")[0] in METHODS


def domain_of(name: str) -> Domain:
    """Where the zeros of a contestant's weights are counted."""
    return "winograd" if name.partition("=")[0] == "sparse_winograd" else "spatial"


def contestant(
    name: str, layer: Layer, weights: Array, x: Array, *, pattern: str, threads: int
) -> Contestant:
    """Pack a layer for one of our methods.

    ``weights`` are of the method's domain.

    Raises
    ------
    archsim.NotApplicableError
        The method or schedule cannot compute this layer, or would do so pixel by pixel.
    """
    method, _, schedule = name.partition("=")
    _refuse(schedule, layer, len(x))
    plan = archsim.make_plan(
        layer, "host", method=method, schedule=schedule or "auto",
        pattern=None if METHODS[method].dense else weights,
        batch=len(x), threads=threads, isa=kernels.active_isa(),
    )  # fmt: skip
    packed: Any = native.prepare(plan, weights)
    out = aligned((len(x), layer.K, layer.P, layer.Q))
    notes = {
        "schedule": plan.schedule, "isa": packed.isa, "nonzeros": packed.nnz,
        "flop": plan.actual_flop,
    }  # fmt: skip

    def call() -> None:
        packed.run(x, out=out)

    return Contestant(
        name=name, kind="ours", call=call, result=lambda: out, pattern=pattern, threads=threads,
        phases=lambda: packed.phase_seconds, variant=str(plan.blocking.get("variant", "")),
        notes=notes,
    )  # fmt: skip


def _refuse(schedule: str, layer: Layer, batch: int) -> None:
    if schedule == "row" and layer.stride != (1, 1):
        raise archsim.NotApplicableError("row with a stride goes pixel by pixel: minutes")
    if schedule == "lanes:images" and batch < find_isa(None).lanes:
        raise archsim.NotApplicableError("fewer images than lanes: most would be empty")
