"""Counted traffic against cachegrind: lines that the running kernels miss in two caches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from archsim.api import make_plan
from archsim.errors import NotApplicableError
from archsim.kernels import supported_isas
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods import METHODS
from archsim.network import Layer, load_network
from archsim.plan import Plan, Target
from archsim.sparsity import Sparsity
from archsim.traffic.count import count
from archsim.traffic.known import script_of
from archsim.validate.cachegrind import Level, levels_of, misses, program, write_job
from archsim.validate.points import Point, Suite

Progress = Callable[[str, int, int], None]

#: those with published measurements, and a hypothetical one of other lines
MACHINES: Final = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250", "xeon-phi-7250-1024bit")
LAYERS: Final = (("alexnet", "conv3"), ("resnet50", "res2a_branch2b"))
#: method, schedule
KERNELS: Final = (
    ("direct_sparse", "row"), ("direct_sparse", "lanes:shifts"), ("direct_sparse", "lanes:tiles"),
    ("lowered_sparse", "auto"), ("dense_direct", "auto"),
)  # fmt: skip
DENSITY: Final = 0.1
IMAGES: Final = 2
#: Where fewer references miss, what Python does between the calls is part of the difference.
SCORED_SHARE: Final = 0.01
TOLERANCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Job:
    machine: Machine
    isa: str
    layer: Layer
    method: str
    schedule: str
    seed: int


def traffic(
    machines: Sequence[str | Machine] = MACHINES,
    *,
    layers: Sequence[tuple[str, str]] = LAYERS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Suite:
    """Hold counted misses against those of cachegrind; some minutes.

    Kernels run on this host, on one thread, with the first two caches of each machine
    (:func:`archsim.validate.cachegrind.levels_of`) and the plan of just those.

    Parameters
    ----------
    machines : sequence of str or Machine
    layers : sequence of (network, layer)
    seed : int
        Of the patterns.
    progress : callable, optional
        Called with (what, done, total).

    Returns
    -------
    Suite
        Lines that one image misses in each level. Scored where more than 1 % of the references
        miss.

    Raises
    ------
    WitnessMissingError
        No valgrind.
    """
    program()
    jobs, notes = [], []
    for machine in (load_machine(m) if isinstance(m, str) else m for m in machines):
        isa = _isa_for(machine)
        if isa is None:
            notes.append(f"{machine.name} left out: valgrind runs none of its sets here")
            continue
        jobs += [
            _Job(machine, isa, load_network(network)[name], method, schedule, seed)
            for network, name in layers
            for method, schedule in KERNELS
        ]
    points: list[Point] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done, found in enumerate(pool.map(_points, jobs)):
            points += found
            if progress is not None:
                progress(jobs[done].machine.name, done + 1, len(jobs))
    notes.append("cachegrind counts no write-backs, and one miss for a load that misses two lines")
    return Suite("traffic", tuple(points), tuple(notes))


def _isa_for(machine: Machine) -> str | None:
    """Return the widest set of a machine that valgrind and this host run: it has no AVX-512."""
    here = [isa for isa in supported_isas() if isa != "avx512"]
    own = machine.default_isa
    if own in here:
        return own
    wide = machine.instruction_set().lanes > 8  # such a machine runs the narrower sets as well
    return here[-1] if wide and here else None


def _target(machine: Machine, isa: str, levels: tuple[Level, Level]) -> Target:
    """Return the target of one thread with these levels."""
    names = {"neon": "generic-aarch64"}
    unit = load_machine(names.get(isa, "generic-x86-64")).target(isa)
    return replace(
        unit, line_bytes=levels[0].line_bytes, page_bytes=machine.target().page_bytes,
        l1_bytes=levels[0].size_bytes, l1_sharers=1, l2_bytes=levels[1].size_bytes, l2_sharers=1,
        last_bytes=levels[1].size_bytes, threads_per_core=1,
    )  # fmt: skip


def _points(job: _Job) -> list[Point]:
    levels = levels_of(job.machine)
    drawn = Sparsity(DENSITY).draw(job.layer, job.seed)
    dense = METHODS[job.method].dense
    try:
        plan = make_plan(
            job.layer, _target(job.machine, job.isa, levels), method=job.method,
            pattern=None if dense else drawn, schedule=job.schedule, batch=IMAGES, threads=1,
        )  # fmt: skip
    except NotApplicableError:
        return []
    predicted = _counted(plan, job.machine, levels)
    weights = drawn.weights
    assert weights is not None  # noqa: S101 (drawn just above)
    with tempfile.TemporaryDirectory() as folder:
        write_job(plan, weights, Path(folder))
        found = misses(Path(folder), levels, IMAGES)
    seen = {"first": found.first, "last": found.last}
    return list(_compared(job, plan, predicted, seen, found.refs))


def _counted(plan: Plan, machine: Machine, levels: tuple[Level, Level]) -> dict[str, float]:
    """Return lines that an image misses by our own replay."""
    caches = tuple(
        cache.model_copy(update={"size_bytes": float(level.size_bytes), "ways": level.ways,
                                 "shared_by": 1})
        for cache, level in zip(machine.caches[:2], levels, strict=True)
    )  # fmt: skip
    alone = machine.model_copy(update={"caches": caches, "threads_per_core": 1})
    found = count(plan, alone, script_of(plan))
    lines = np.sum([read for read, _ in found.arrays.values()], axis=0) / levels[0].line_bytes
    return {"first": float(lines[0]), "last": float(lines[1])}


def _compared(
    job: _Job, plan: Plan, predicted: dict[str, float], seen: dict[str, float], refs: float
) -> Iterator[Point]:
    for level, name in (("first", "L1"), ("last", "L2")):
        yield Point(
            figure="cachegrind", machine=job.machine.name, network=job.layer.network,
            layer=job.layer.name, method=job.method,
            sparsity=0.0 if METHODS[job.method].dense else 1.0 - DENSITY,
            quantity=f"{name} misses", predicted=predicted[level], measured=seen[level],
            unit="lines", tolerance=TOLERANCE, tolerance_kind="relative",
            scored=seen[level] > SCORED_SHARE * refs, variant=job.isa, split="unseen",
            schedule=plan.schedule, batch=plan.batch, threads=1,
        )  # fmt: skip
