"""ecm on arrays: plans of many densities on many machines, point by point as in :mod:`.ecm`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.analytic.combine import by_chip, combine, first_largest, seconds_of
from archsim.analytic.demand import barrier_share, demand, home_of
from archsim.analytic.rates import Costs
from archsim.analytic.rates import costs as costs_at
from archsim.analytic.seats import placement
from archsim.machine import Machine
from archsim.plan import Counts, Plan

_MOST = 2**18  # numbers of an array that is worked on at a time: they stay in the caches


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What a plan takes on machines: arrays of shape (machines, densities).

    ``bound_by`` is a place in :attr:`terms`: the term that takes the largest part of the time.
    """

    machines: list[int]
    seconds: Counts
    bound_by: NDArray[np.intp]
    terms: tuple[str, ...]


def estimates(plan: Plan, machines: Sequence[Machine], isa: str, clock: str) -> Iterator[Points]:
    """Predict a plan, of one or of many densities, on machines that all have its target.

    Machines whose caches hold the same are worked on together.
    """
    costs = [costs_at(m, isa, clock, home_of(plan, m), plan.threads) for m in machines]
    groups: dict[object, list[int]] = {}
    for place, (machine, cost) in enumerate(zip(machines, costs, strict=True)):
        alike = (
            placement(plan.threads, machine), machine.total_cores, machine.total_threads,
            machine.memory[home_of(plan, machine)].write_allocate, str(cost.rules), cost.terms,
            cost.threads_hide_stalls,
        )  # fmt: skip
        groups.setdefault(alike, []).append(place)
    for places in groups.values():
        here = [machines[place] for place in places]
        yield _together(plan, here, [costs[place] for place in places], places)


def _together(plan: Plan, machines: list[Machine], costs: list[Costs], places: list[int]) -> Points:
    asked = demand(plan, machines[0], costs[0])
    densities = asked.of_cores.shape[0] if asked.of_cores.ndim > 3 else 1
    hertz = np.array([cost.hertz for cost in costs])[:, None]
    rate = np.array([cost.chip_bytes_per_s for cost in costs])[:, None]
    barrier = np.array([m.barrier_cycles for m in machines])[:, None] / hertz
    once = np.array(
        [[cost.join_seconds * (plan.threads > 1), cost.call_of(plan)] for cost in costs]
    )
    share = barrier_share(plan, machines[0])
    cycles = np.stack([cost.cycles for cost in costs], axis=1)  # (terms, machines, rows)
    (terms, _, rows), levels = cycles.shape, asked.moved.shape[-1]
    seconds = np.empty((len(machines), densities))
    bound_by = np.empty((len(machines), densities), dtype=np.intp)
    step = max(1, _MOST // (terms * densities * len(asked.cores)))
    for start in range(0, len(machines), step):
        some = slice(start, start + step)
        parts = np.zeros((terms + 3, len(hertz[some]), densities))
        total = np.zeros(parts.shape[1:])
        for phase, here in enumerate(plan.phases):
            took, shown = np.zeros(total.shape), np.zeros(parts.shape)
            chip = np.zeros(total.shape)
            for loop in [place for place, of in enumerate(asked.phases) if of == phase]:
                of_cores = asked.of_cores.reshape(densities, -1, rows, len(asked.cores))[:, loop]
                found = cycles[:, some].reshape(-1, rows) @ of_cores.transpose(1, 2, 0).reshape(
                    rows, -1
                )
                found = found.reshape(terms, -1, len(asked.cores), densities).swapaxes(1, 2)
                chip += asked.moved.reshape(densities, -1, levels)[:, loop, -1] / rate[some]
                each = seconds_of(combine(found, costs[0].rules, asked.cores), hertz[some])
                took, shown = took + each[0], shown + each[1]
            took = by_chip(took, shown, chip, costs[0].home)
            shown[-2] = share * here.barriers * barrier[some]
            total += took + shown[-2]
            parts += shown
        total += once[some].sum(axis=1, keepdims=True)
        parts[-2:] += once[some].T[:, :, None]
        seconds[some], bound_by[some] = total, _largest(parts, costs[0].terms)
    return Points(places, seconds, bound_by, costs[0].terms)


def _largest(parts: Counts, terms: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the place of the largest part; terms of one name count together."""
    for place, name in enumerate(terms):
        first = terms.index(name)
        if first != place:
            parts[first] += parts[place]
    return first_largest(parts)
