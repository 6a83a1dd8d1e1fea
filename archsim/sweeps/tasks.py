"""Pieces of a sweep's work, and who answers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.api import predict
from archsim.errors import NotApplicableError
from archsim.grid import predict_grid
from archsim.network import Layer, Network
from archsim.request import isa_of
from archsim.result import Result
from archsim.simulation import simulate_network
from archsim.sweeps.space import Space

_DENSITIES: Final = 32  # of one task: an interrupt loses some seconds of work, not more
Places = NDArray[np.intp]
_Alike = tuple[Layer, tuple[int, ...], tuple[tuple[float, str], ...]]  # sparsities: places, values


@dataclass(frozen=True, slots=True)
class Task:
    """A block of cells: places on each axis of :attr:`Space.shape`, every combination of them."""

    layers: tuple[int, ...]
    base: int
    machines: tuple[int, ...]
    sparsities: tuple[int, ...]
    batches: tuple[int, ...]
    threads: tuple[int, ...]

    def cells(self, space: Space) -> Places:
        """Return the places of its cells in flat arrays, in the order of the axes."""
        axes = (self.layers, (self.base,), self.machines, self.sparsities, self.batches,
                self.threads)  # fmt: skip
        found: Places = np.ravel_multi_index(np.ix_(*axes), space.shape).ravel()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a task found: arrays with an entry for each of its cells, and names for places."""

    cells: Places
    seconds: NDArray[np.float64]
    names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # methods, schedules, limits
    places: NDArray[np.intp]  # (3, cells)


def make_tasks(space: Space) -> list[Task]:
    """Cut a sweep into pieces that take some seconds at most, where the model allows it.

    The closed form's are arrays of machines that share a target; the simulator's are points, for
    a layer finds the caches as the one before left them; the others' are cells.
    """
    all_of = [tuple(range(n)) for n in space.shape]
    if space.settings.model == "simulator":
        return [
            Task(all_of[0], base, (m,), (s,), (n,), (t,))
            for base, m, s, n, t in product(*all_of[1:])
        ]
    arrays: dict[_Alike, list[int]] = {}  # layers of one shape and one density are one
    tasks = []
    for layer in all_of[0]:
        for sparsities in _alike(space, layer):
            if space.settings.model == "ecm" and _uniform(space, layer, sparsities):
                shape = replace(space.layers[layer], name="shape", network="")
                here = [space.sparsities[place][space.layers[layer].name] for place in sparsities]
                alike = shape, sparsities, tuple((s.density, s.domain) for s in here)
                arrays.setdefault(alike, []).append(layer)
                continue
            tasks += [
                Task((layer,), base, (m,), (s,), (n,), (t,))
                for base, m, s, n, t in product(*all_of[1:3], sparsities, *all_of[4:])
            ]
    for base, ((_, sparsities, _), layers) in product(all_of[1], arrays.items()):
        tasks += [
            Task(tuple(layers), base, machines, sparsities, all_of[4], all_of[5])
            for machines in _targets(space, base)
        ]
    return tasks


def _alike(space: Space, layer: int) -> Iterator[tuple[int, ...]]:
    """Yield places of sparsities that one array may hold: uniform ones of one domain; or single."""
    name = space.layers[layer].name
    groups: dict[str, list[int]] = {}
    for place, sparsities in enumerate(space.sparsities):
        if sparsities[name].weights is not None:
            yield (place,)
        else:
            groups.setdefault(sparsities[name].domain, []).append(place)
    for found in groups.values():
        for start in range(0, len(found), _DENSITIES):
            yield tuple(found[start : start + _DENSITIES])


def _uniform(space: Space, layer: int, sparsities: tuple[int, ...]) -> bool:
    name = space.layers[layer].name
    return all(space.sparsities[place][name].weights is None for place in sparsities)


def _targets(space: Space, base: int) -> list[tuple[int, ...]]:
    """Return places of a base's machines, those of one target together: their plans are one."""
    groups: dict[object, list[int]] = {}
    for place, machine in enumerate(space.machines[base]):
        target = machine.target(isa_of(machine, space.settings.isa))
        groups.setdefault(target, []).append(place)
    return [tuple(places) for places in groups.values()]


def answer(space: Space, task: Task) -> Answer:
    """Find out the times of a task's cells.

    Raises
    ------
    NotApplicableError
        None of the methods computes a layer.
    """
    if space.settings.model == "simulator":
        return _simulated(space, task)
    layer = task.layers[0]
    if space.settings.model == "ecm" and _uniform(space, layer, task.sparsities):
        return _by_grid(space, task)
    point = (task.base, task.machines[0], task.sparsities[0], task.batches[0], task.threads[0])
    return _of_results(task.cells(space), [_at_point(space, layer, point)])


def _by_grid(space: Space, task: Task) -> Answer:
    """Predict a block of cells as arrays, method by method, and keep the fastest."""
    settings, layer = space.settings, space.layers[task.layers[0]]
    here = [space.sparsities[place][layer.name] for place in task.sparsities]
    best: Answer | None = None
    reasons: list[str] = []
    cells = task.cells(space)
    for name in settings.methods:
        try:
            grid = predict_grid(
                layer, [space.machines[task.base][place] for place in task.machines],
                densities=[s.density for s in here], density_domain=here[0].domain,
                batches=[space.batches[place] for place in task.batches],
                threads=[space.threads[place] for place in task.threads],
                method=name, schedule=settings.schedule, partition=settings.partition,
                clock=settings.clock, isa=settings.isa,
            )  # fmt: skip
        except NotApplicableError as error:
            reasons.append(str(error))
            continue
        places = (grid.method_index, grid.schedule_index, grid.bound_by_index)
        count = len(task.layers)
        found = Answer(
            cells, np.tile(grid.seconds.ravel(), count),
            (grid.methods, grid.schedules, grid.limits),
            np.tile([each.ravel() for each in places], (1, count)),
        )  # fmt: skip
        best = found if best is None else _faster(best, found)
    if best is None:
        raise _none_applies(space, task.layers[0], reasons)
    return best


def _faster(one: Answer, two: Answer) -> Answer:
    """Return the faster of two answers cell by cell, the first where they are equal."""
    better = two.seconds < one.seconds
    names = tuple((*a, *b) for a, b in zip(one.names, two.names, strict=True))
    moved = two.places + np.array([[len(a)] for a in one.names])
    return Answer(
        one.cells, np.where(better, two.seconds, one.seconds), names,  # type: ignore[arg-type]
        np.where(better, moved, one.places),
    )  # fmt: skip


def _at_point(space: Space, layer: int, point: tuple[int, ...]) -> Result:
    """Predict one cell: the closed form's fastest method, its time by the sweep's model."""
    settings = space.settings
    common: dict[str, Any] = {
        "pattern": space.sparsity(layer, point), "schedule": settings.schedule,
        "partition": settings.partition, "batch": space.batches[point[3]],
        "threads": space.threads[point[4]], "clock": settings.clock, "isa": settings.isa,
        "seed": settings.seed, "intervals": False,
    }  # fmt: skip
    machine = space.machine(point)
    found = [
        predict(space.layers[layer], machine, method=name, traffic="rule", **common)
        for name in settings.methods
    ]
    possible = [result for result in found if result.seconds is not None]
    if not possible:
        raise _none_applies(space, layer, [result.reason or "" for result in found])
    best = min(possible, key=lambda result: result.seconds or 0.0)
    if settings.model == "ecm":
        return best
    return predict(space.layers[layer], machine, method=best.method, traffic="counted", **common)


def _simulated(space: Space, task: Task) -> Answer:
    """Simulate the layers at one point, one after the other."""
    settings = space.settings
    point = (task.base, task.machines[0], task.sparsities[0], task.batches[0], task.threads[0])
    network = Network(space.network, space.layers)
    found = simulate_network(
        network, space.machine(point), sparsity=space.sparsities[point[2]],
        methods=settings.methods, schedule=settings.schedule, partition=settings.partition,
        batch=space.batches[point[3]], threads=space.threads[point[4]], clock=settings.clock,
        isa=settings.isa, seed=settings.seed,
    )  # fmt: skip
    return _of_results(task.cells(space), found.results)


def _of_results(cells: Places, results: Sequence[Result]) -> Answer:
    names = (
        tuple(r.method for r in results),
        tuple(r.schedule for r in results),
        tuple(r.bound_by[0] if r.bound_by else "" for r in results),
    )
    seconds = np.array([r.seconds for r in results], dtype=np.float64)
    return Answer(cells, seconds, names, np.tile(np.arange(len(results)), (3, 1)))


def _none_applies(space: Space, layer: int, reasons: list[str]) -> NotApplicableError:
    name = space.layers[layer].name
    return NotApplicableError(
        f"layer {name}: none of {', '.join(space.settings.methods)} applies: "
        f"{'; '.join(dict.fromkeys(reasons))}; name the layers to sweep, or more methods"
    )
