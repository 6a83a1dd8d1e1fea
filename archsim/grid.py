"""predict_grid: one layer on many machines, densities, batches and threads, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.analytic.grid import Points, estimates
from archsim.errors import NotApplicableError, input_error
from archsim.machine import Machine
from archsim.methods import METHODS, Method, get_method
from archsim.methods.sharing import Partition
from archsim.network import Layer
from archsim.plan import Plan, Target
from archsim.request import (
    MAX_BATCH,
    as_layer,
    as_machine,
    as_partition,
    as_sparsity,
    default_threads,
    isa_of,
    positive,
    words,
)
from archsim.sparsity import Densities, Domain

AXES: Final = ("machine", "density", "batch", "threads")
_TOGETHER: Final = 1024  # densities of one plan: its arrays stay small
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Predictions of one layer; arrays have the axes of :data:`AXES`, in this order.

    Attributes
    ----------
    machines : tuple of Machine
    densities : ndarray of shape (densities,)
    batches : tuple of int
    threads : tuple of int or None
        None: every hardware thread of the machine.
    seconds : ndarray of shape (machines, densities, batches, threads)
        Time of the whole batch; NaN where a machine has fewer threads.
    method_index : ndarray of the same shape, int
        Place in ``methods`` of the method that was named, or the fastest; -1 where there is none.
    bound_by_index : ndarray of the same shape, int
        Place in ``limits`` of what takes the largest part of the time; -1 where there is none.
    schedule_index : ndarray of the same shape, int
        Place in ``schedules`` of the method's schedule there; -1 where there is none.
    """

    layer: Layer
    machines: tuple[Machine, ...]
    densities: Array
    batches: tuple[int, ...]
    threads: tuple[int | None, ...]
    methods: tuple[str, ...]
    limits: tuple[str, ...]
    seconds: Array
    method_index: NDArray[np.intp]
    bound_by_index: NDArray[np.intp]
    schedules: tuple[str, ...]
    schedule_index: NDArray[np.intp]

    @property
    def effective_flops_per_s(self) -> Array:
        """FLOP/s with the zeros counted as work done, same shape as ``seconds``."""
        rate: Array = self.layer.flop * np.array(self.batches, float)[:, None] / self.seconds
        return rate

    def method(self, *point: int) -> str | None:
        """Return the method at a point: its place on each axis."""
        place = int(self.method_index[point])
        return None if place < 0 else self.methods[place]

    def bound_by(self, *point: int) -> str | None:
        """Return what takes the largest part of the time at a point."""
        place = int(self.bound_by_index[point])
        return None if place < 0 else self.limits[place]

    def schedule(self, *point: int) -> str | None:
        """Return the full name of the method's schedule at a point."""
        place = int(self.schedule_index[point])
        return None if place < 0 else self.schedules[place]


def predict_grid(
    layer: Layer,
    machines: Machine | str | Path | Iterable[Machine | str | Path],
    *,
    densities: ArrayLike = (1.0,),
    batches: Iterable[int] = (1,),
    threads: Iterable[int | None] | int | None = None,
    method: str = "auto",
    density_domain: Domain = "spatial",
    schedule: str = "auto",
    partition: Partition = "nnz",
    clock: str = "sustained",
    isa: str | None = None,
) -> Grid:
    """Predict a layer at every point of machines x densities x batches x threads with ``ecm``.

    Every point is what :func:`archsim.predict` says of it.  Plans are made for all densities of
    one blocking at once, for each batch, number of threads and ``Target``; machines that share a
    target and the size of their caches are evaluated as one array.  A named schedule is fast;
    ``auto`` evaluates every schedule of a method, and ``direct_sparse`` tries blockings for each
    density by itself.

    Parameters
    ----------
    layer : Layer
    machines : Machine, name or file, or several of them
        :func:`archsim.vary` makes hypothetical ones from one.
    densities : array_like of shape (densities,)
        Shares of nonzeros, 0 to 1, uniformly random.
    batches : iterable of int
        Images.
    threads : int or iterable of int or None
        None: every hardware thread of the machine.
    method, density_domain, schedule, partition, clock, isa
        As for :func:`archsim.predict`.

    Returns
    -------
    Grid

    Raises
    ------
    InputError
        An argument is wrong.
    NotApplicableError
        The method cannot compute this layer.
    """
    as_layer(layer)
    words(method=method, schedule=schedule, clock=clock)
    several = [machines] if isinstance(machines, (Machine, str, Path)) else list(machines)
    axes = _Axes(
        layer,
        tuple(as_machine(machine) for machine in several),
        _densities(layer, densities, density_domain),
        tuple(positive("batches", batch, MAX_BATCH) for batch in batches),
        _threads(threads),
        schedule, as_partition(partition), clock, isa,
    )  # fmt: skip
    for name, axis in zip(AXES, axes.all(), strict=True):
        if not len(axis):
            raise input_error(f"predict_grid: axis {name}", "is empty")
    names = [method] if method != "auto" else list(METHODS)
    return _best(axes, [get_method(name) for name in names], named=method != "auto")


@dataclass(frozen=True, slots=True)
class _Axes:
    """The checked arguments."""

    layer: Layer
    machines: tuple[Machine, ...]
    densities: Densities
    batches: tuple[int, ...]
    threads: tuple[int | None, ...]
    schedule: str
    partition: Partition
    clock: str
    isa: str | None

    def all(self) -> tuple[Sequence[Any], ...]:
        """Return the four axes."""
        return self.machines, self.densities.density, self.batches, self.threads  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.all())


def _densities(layer: Layer, densities: ArrayLike, domain: Domain) -> Densities:
    try:
        values = np.atleast_1d(np.asarray(densities, dtype=np.float64))
    except (TypeError, ValueError):
        raise input_error("densities", "numbers are due", found=densities) from None
    if values.ndim != 1:
        raise input_error("densities", "must be a list of numbers", found=f"shape {values.shape}")
    wrong = values[~((values >= 0.0) & (values <= 1.0))]
    if wrong.size:
        raise input_error("densities", "must lie in 0..1", found=float(wrong[0]))
    as_sparsity(layer, 1.0, None, domain)  # refuses unknown domains
    return Densities(values[:, None], domain)


def _threads(threads: Iterable[int | None] | int | None) -> tuple[int | None, ...]:
    several = [threads] if threads is None or not isinstance(threads, Iterable) else list(threads)
    return tuple(None if each is None else positive("threads", each) for each in several)


def _best(axes: _Axes, methods: list[Method], *, named: bool) -> Grid:
    """Run one method, or all that apply and keep the fastest at each point."""
    names = _Names({}, {})
    seconds = np.full(axes.shape, np.nan)
    chosen, bound_by, schedule = (np.full(axes.shape, -1, dtype=np.intp) for _ in range(3))
    reasons = []
    for index, method in enumerate(methods):
        try:
            found, term, way = _of_method(axes, method, names)
        except NotApplicableError as error:
            reasons.append(error)
            continue
        faster = (found < seconds) | (np.isnan(seconds) & ~np.isnan(found))
        np.copyto(seconds, found, where=faster)
        np.copyto(bound_by, term, where=faster)
        np.copyto(schedule, way, where=faster)
        chosen[faster] = index
    if len(reasons) == len(methods):
        raise reasons[0] if named else NotApplicableError(f"no method applies: {reasons[0]}")
    return Grid(
        axes.layer, axes.machines, axes.densities.density[:, 0].copy(), axes.batches, axes.threads,
        tuple(method.name for method in methods), tuple(names.limits), seconds, chosen, bound_by,
        tuple(names.schedules), schedule,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Names:
    """What the places in arrays stand for; both grow."""

    limits: dict[str, int]
    schedules: dict[str, int]


def _of_method(
    axes: _Axes, method: Method, names: _Names
) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """Return the seconds of one method, and the places of limits and schedules in ``names``."""
    seconds = np.full(axes.shape, np.nan)
    bound_by, schedule = (np.full(axes.shape, -1, dtype=np.intp) for _ in range(2))
    for rows, densities, batch, column, plan, points in _points(axes, method):
        at = np.ix_(rows, densities, [batch], [column])
        found = points.seconds.reshape(len(rows), -1, 1, 1)
        lookup = np.array([_place(names.limits, term) for term in points.terms])
        faster = ~(seconds[at] <= found)  # or nothing there yet
        seconds[at] = np.where(faster, found, seconds[at])
        term = lookup[points.bound_by].reshape(len(rows), -1, 1, 1)
        bound_by[at] = np.where(faster, term, bound_by[at])
        way = _place(names.schedules, plan.schedule)
        schedule[at] = np.where(faster, way, schedule[at])
    wrong = np.argwhere(np.isinf(seconds))
    if len(wrong):
        raise input_error(
            f"machine {axes.machines[wrong[0, 0]].name}",
            f"its numbers give {method.name} of layer {axes.layer.name} no finite time",
        )
    return seconds, bound_by, schedule


def _place(names: dict[str, int], name: str) -> int:
    return names.setdefault(name, len(names))


def _points(
    axes: _Axes, method: Method
) -> Iterator[tuple[list[int], list[int], int, int, Plan, Points]]:
    """Yield places on the axes of machines, densities, batches and threads, plan and points.

    A place comes once for each candidate of the schedule (:mod:`archsim.choice`).
    """
    schedule = axes.schedule
    if schedule not in method.schedules and any(schedule in m.schedules for m in METHODS.values()):
        schedule = "auto"  # another method's schedule
    for team, (place, batch) in product(_teams(axes), enumerate(axes.batches)):
        machines = [axes.machines[row] for row in team.rows]
        for densities, plan in _plans(axes, method, schedule, team, batch):
            for points in estimates(plan, machines, team.isa, axes.clock):
                rows = [team.rows[number] for number in points.machines]
                yield rows, densities, place, team.column, plan, points


def _plans(
    axes: _Axes, method: Method, schedule: str, team: _Team, batch: int
) -> Iterator[tuple[list[int], Plan]]:
    """Yield the places of densities, and their plan, of each candidate that is possible."""
    values, domain = axes.densities.density, axes.densities.domain
    given: dict[str, Any] = {"batch": batch, "threads": team.threads, "target": team.target}
    candidates = method.candidates(axes.layer, schedule, **given)
    refused = []
    for candidate in candidates:
        try:
            for start in range(0, len(values), _TOGETHER):
                plans = method.plan_densities(
                    axes.layer, Densities(values[start : start + _TOGETHER], domain),
                    schedule=candidate.schedule, partition=axes.partition,
                    blocks_for=candidate.blocks_for, **given,
                )  # fmt: skip
                yield from (([start + place for place in places], plan) for places, plan in plans)
        except NotApplicableError as error:
            refused.append(error)
    if len(refused) == len(candidates):
        raise refused[0]


@dataclass(frozen=True, slots=True)
class _Team:
    """Machines of one target, by their places, and how many of their threads work."""

    target: Target
    isa: str
    threads: int
    column: int  # place on the axis of threads
    rows: list[int]


def _teams(axes: _Axes) -> list[_Team]:
    """Group the machines for each number of threads; those that have fewer are left out."""
    teams = []
    for column, asked in enumerate(axes.threads):
        found: dict[tuple[Target, int], list[int]] = {}
        for row, machine in enumerate(axes.machines):
            isa = isa_of(machine, axes.isa)
            machine.clock_for(isa, axes.clock)  # refuses unknown names
            threads = default_threads(machine) if asked is None else asked
            if threads <= machine.total_threads:
                found.setdefault((machine.target(isa), threads), []).append(row)
        teams += [_Team(t, t.isa, n, column, rows) for (t, n), rows in found.items()]
    return teams
