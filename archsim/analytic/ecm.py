"""ecm: execution-cache-memory model of a plan, white box, no coefficient fitted.

In-core cycles come from counted operations (:mod:`archsim.incore`).  A stream of a tile misses a
level when its reuse distance is above the thread's share of that level's capacity; the lines
that miss cost what the machine file says of the level outside.  How transfers combine with the
core's own loads is the machine's overlap rule:

* ``serial``: transfer cycles add to the load cycles, and their sum overlaps with arithmetic
  (Stengel, Treibig, Hager, Wellein, "Quantifying performance bottlenecks of stencil
  computations using the execution-cache-memory model", ICS 2015, section 2);
* ``overlapped``: transfers run beside everything else;
* ``latency``: a small in-order memory pipeline waits for each line.

Hardware threads of a core share its ports and its caches.  Memory is shared by all cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archsim.analytic.combine import Spent, by_chip, combine, seconds_of
from archsim.analytic.demand import Demand, barrier_cycles, demand, home_of
from archsim.analytic.rates import Costs, costs
from archsim.machine import Machine
from archsim.plan import Counts, Plan
from archsim.result import PhaseResult

_LISTED_SHARE = 0.05  # a resource is named in bound_by from this share of the phase's time on


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a plan, its phases, and the bytes that each level hands inwards."""

    seconds: float
    phases: tuple[PhaseResult, ...]
    bytes: dict[str, float]
    bound_by: tuple[str, ...]


def estimate(
    plan: Plan,
    machine: Machine,
    *,
    isa: str | None = None,
    clock: str = "sustained",
    memory: bool = True,
    joins: bool = True,
    counted: Mapping[str, tuple[Counts, Counts]] | None = None,
) -> Estimate:
    """Predict a plan on a machine; arguments as for :func:`evaluate`."""
    found = evaluate(
        plan, machine, isa=isa, clock=clock, memory=memory, joins=joins, counted=counted
    )
    names, phases = found.cost.terms, []
    for phase, time, column in zip(
        plan.phases, found.seconds.tolist(), found.parts.T.tolist(), strict=True
    ):
        phases.append(PhaseResult(phase.name, time, _ranked(names, column)))
    whole = found.parts.sum(axis=1)
    whole[-2:] += found.join_seconds, found.call_seconds
    levels = found.cost.levels if memory else found.cost.levels[:1]
    moved = dict(zip(levels, found.moved.sum(axis=0).tolist(), strict=False))
    seconds = float(found.seconds.sum()) + found.join_seconds + found.call_seconds
    return Estimate(seconds, tuple(phases), moved, _ranked(names, whole.tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All numbers behind an estimate.

    Attributes
    ----------
    asked, spent : Demand and Spent
        Loop by loop.
    seconds : ndarray of shape (phases,)
    parts : ndarray of shape (terms, phases)
        Seconds of each of ``cost.terms`` that show.
    busy : ndarray of shape (terms - 3, phases)
        Cycles of each term on the slowest core, shown or hidden.
    moved : ndarray of shape (phases, levels)
        Bytes that each level hands inwards, all threads.
    join_seconds : float
        For which all threads wait for each other once a call.
    call_seconds : float
        What the call costs besides its kernel.
    """

    cost: Costs
    asked: Demand
    spent: Spent
    seconds: Counts
    parts: Counts
    busy: Counts
    moved: Counts
    join_seconds: float
    call_seconds: float


def evaluate(
    plan: Plan,
    machine: Machine,
    *,
    isa: str | None = None,
    clock: str = "sustained",
    memory: bool = True,
    joins: bool = True,
    counted: Mapping[str, tuple[Counts, Counts]] | None = None,
) -> Evaluation:
    """Find what a plan's phases spend on a machine.

    Parameters
    ----------
    plan : Plan
        Made for this machine's target.
    machine : Machine
    isa : str, optional
        Instruction set (default: the one of the plan's target).
    clock : {"sustained", "nominal"}
    memory : bool
        False leaves out every transfer: data is in L1.
    joins : bool
        Whether the call ends here, all threads waiting for each other; False within a chain of
        layers.
    counted : mapping, optional
        Of phases by name, what :func:`archsim.analytic.demand.traffic` returns, found in another
        way.
    """
    cost = costs(machine, isa or plan.target.isa, clock, home_of(plan, machine), plan.threads)
    asked = demand(plan, machine, cost, memory=memory, counted=counted)
    spent = combine(asked.terms(cost.cycles), cost.rules, asked.cores)
    seconds, parts = seconds_of(spent, cost.hertz)
    busy, moved = spent.terms, asked.moved
    if len(asked.phases) > len(plan.phases):  # loops of a phase follow each other
        starts = [asked.phases.index(phase) for phase in range(len(plan.phases))]
        seconds, parts, busy = (
            np.add.reduceat(each, starts, axis=-1) for each in (seconds, parts, busy)
        )
        moved = np.add.reduceat(moved, starts, axis=0)
    seconds = by_chip(seconds, parts, moved[:, -1] / cost.chip_bytes_per_s, cost.home)
    parts[-2] = barrier_cycles(plan, machine) / cost.hertz
    seconds = seconds + parts[-2]
    join = cost.join_seconds if joins and plan.threads > 1 else 0.0
    call = cost.call_of(plan) if joins else 0.0
    return Evaluation(cost, asked, spent, seconds, parts, busy, moved, join, call)


def _ranked(names: tuple[str, ...], parts: list[float]) -> tuple[str, ...]:
    """Return the terms that a time consists of, the largest first."""
    terms: dict[str, float] = {}
    for name, part in zip(names, parts, strict=True):
        if part > 0.0:
            terms[name] = terms.get(name, 0.0) + part
    least = _LISTED_SHARE * sum(terms.values())
    listed = sorted(terms, key=lambda name: -terms[name])
    return tuple(name for name in listed if terms[name] >= least)
