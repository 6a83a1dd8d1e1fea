"""Times of a network's layers by every method at a grid of sparsities, on one machine.

Predictions are made at some levels of the grid and wherever the straight line between two of them
misses the level in the middle by more than ``TOLERANCE``; the rest is that line.  Layers of equal
shape are asked for once.  A native table measures a few levels and draws lines between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.api import measure_together, predict
from archsim.errors import InputError, input_error
from archsim.grid import predict_grid
from archsim.machine import Machine
from archsim.methods import METHODS
from archsim.network import Layer, Network
from archsim.request import default_threads
from archsim.result import Result
from archsim.sparsity import Domain, Sparsity

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
TableModel = Literal["park", "ecm", "simulator", "native"]

MODELS: Final = ("park", "ecm", "simulator", "native")
LEVELS: Final = 100
#: how far the line between two predictions may miss the one in the middle (a choice)
TOLERANCE: Final = 0.01
#: sparsities at which predictions begin, and those that are measured
_FIRST: Final = (0.4, 0.65, 0.8, 0.9, 0.96)
_MEASURED: Final = (0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.94, 0.97, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class MethodTimes:
    """Seconds of one method; arrays of shape (levels,), the levels of the table above 0.

    Attributes
    ----------
    seconds : ndarray
        Of the whole batch.
    low, high : ndarray, optional
        Interval of ``seconds``, where the model has one.
    asked : ndarray of bool
        Predicted or measured; the others lie on the line between their neighbours.
    schedules : tuple of str
        Schedule at each level, by name where it has one that can be asked for, else ``auto``.
    """

    method: str
    domain: Domain
    seconds: Array
    asked: NDArray[np.bool_]
    schedules: tuple[str, ...]
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerTimes:
    """One layer: its best dense method, and every sparse one that applies.

    ``reason`` says why no sparse method applies, where none does.
    """

    layer: Layer
    dense_method: str
    dense_seconds: float
    dense_low: float | None = None
    dense_high: float | None = None
    sparse: tuple[MethodTimes, ...] = ()
    reason: str | None = None

    def best(self, domain: Domain, which: Literal["seconds", "low", "high"] = "seconds") -> Array:
        """Return the least seconds at each level in a domain; infinite where there is none.

        ``low`` and ``high`` are those of the method of least seconds.
        """
        rows = [m for m in self.sparse if m.domain == domain]
        if not rows:
            return np.empty(0)
        fastest = np.argmin([m.seconds for m in rows], axis=0)
        values = [getattr(m, which) if getattr(m, which) is not None else m.seconds for m in rows]
        found: Array = np.array(values)[fastest, np.arange(fastest.size)]
        return found

    def best_methods(self, domain: Domain) -> list[tuple[str, str]]:
        """Return method and schedule of :meth:`best` at each level."""
        rows = [m for m in self.sparse if m.domain == domain]
        if not rows:
            return []
        fastest = np.argmin([m.seconds for m in rows], axis=0)
        return [(rows[row].method, rows[row].schedules[n]) for n, row in enumerate(fastest)]

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Domains that sparse methods of the layer work in."""
        return tuple(dict.fromkeys(m.domain for m in self.sparse))

    @property
    def has_interval(self) -> bool:
        """Whether times come with intervals."""
        return self.dense_low is not None


@dataclass(frozen=True, slots=True, eq=False)
class TimeTable:
    """Times of a network on a machine.

    Attributes
    ----------
    sparsities : ndarray of shape (levels,)
        The grid, above 0.
    layers : mapping of name to LayerTimes
    """

    network: Network
    machine: str
    model: str
    batch: int
    threads: int
    sparsities: Array
    layers: Mapping[str, LayerTimes]
    notes: tuple[str, ...] = field(default=())

    def __iter__(self) -> Any:
        return iter(self.layers.values())

    @property
    def dense_seconds(self) -> float:
        """Seconds of the network, every layer by its best dense method."""
        return float(sum(times.dense_seconds for times in self.layers.values()))


def grid_levels(levels: int = LEVELS) -> Array:
    """Return ``levels`` sparsities from 0 (left out: dense) to just below 1."""
    found: Array = np.arange(1, levels) / levels
    return found


def make_table(
    network: Network,
    machine: Machine,
    *,
    model: TableModel = "ecm",
    batch: int | None = None,
    threads: int | None = None,
    levels: int = LEVELS,
    winograd: Iterable[str] = (),
    layers: Sequence[str] | None = None,
    min_seconds: float = 0.02,
    progress: Progress | None = None,
) -> TimeTable:
    """Predict or measure a network.

    Parameters
    ----------
    network : Network
    machine : Machine
    model : {"ecm", "park", "simulator", "native"}
        ``native`` measures, which the host alone can do.
    batch : int, optional
        By default one image per thread.
    threads : int, optional
        By default every hardware thread; on the host the physical cores.
    levels : int
        Levels of the grid, dense among them.
    winograd : iterable of str
        Layers whose times are wanted for sparsities of the Winograd domain, too.
    layers : sequence of str, optional
        Only these.
    min_seconds : float
        Of each native measurement.
    progress : callable, optional
        Called with (what, done, total).

    Raises
    ------
    InputError
        An unknown model, or too few levels.
    """
    if model not in MODELS:
        raise input_error("model", "unknown model", found=model, allowed=", ".join(MODELS),
                          near=(str(model), MODELS))  # fmt: skip
    if levels < 2 or levels > 10_000:
        raise input_error("levels", "must lie in 2..10000", found=levels)
    threads = threads or default_threads(machine)
    batch = batch or threads
    grid = grid_levels(levels)
    ask = _Ask(machine, model, batch, threads, grid, min_seconds)
    picked = [network[name] for name in layers] if layers else list(network)
    also = set(winograd)
    known: dict[tuple[Layer, bool], LayerTimes] = {}
    found: dict[str, LayerTimes] = {}
    for done, layer in enumerate(picked):
        if progress is not None:
            progress(f"{machine.name} {layer.name}", done, len(picked))
        shape = replace(layer, name="shape", network=""), layer.name in also
        if shape not in known:
            known[shape] = _layer_times(ask, layer, winograd=layer.name in also)
        found[layer.name] = replace(known[shape], layer=layer)
    return TimeTable(network, machine.name, model, batch, threads, grid, found)


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    """Who answers, and under which circumstances."""

    machine: Machine
    model: TableModel
    batch: int
    threads: int
    grid: Array
    min_seconds: float

    def predict(
        self, layer: Layer, method: str, sparsity: Sparsity, *, intervals: bool = True
    ) -> Result:  # fmt: skip
        assert self.model != "native"  # noqa: S101 - asked for in turns, below
        return predict(
            layer, self.machine, method=method, pattern=sparsity, model=self.model,
            batch=self.batch, threads=self.threads, intervals=intervals,
        )  # fmt: skip

    def dense(self, layer: Layer) -> Result:
        """Return the best dense method."""
        dense = [name for name, method in METHODS.items() if method.dense]
        if self.model == "native":
            results = measure_together(
                layer, [(name, Sparsity(1.0)) for name in dense], self.machine, batch=self.batch,
                threads=self.threads, min_seconds=self.min_seconds,
            )  # fmt: skip
        else:
            results = [self.predict(layer, name, Sparsity(1.0)) for name in dense]
        possible = [r for r in results if r.seconds]
        if not possible:
            raise InputError(f"layer {layer.name}: no dense method applies: {results[0].reason}")
        return min(possible, key=lambda r: r.seconds or 0.0)


def dense_seconds(
    layer: Layer, machine: Machine, *, model: TableModel, batch: int, threads: int
) -> float:
    """Return the seconds of a layer by its best dense method."""
    found = _Ask(machine, model, batch, threads, np.empty(0), 0.02).dense(layer)
    return found.seconds or 0.0


def _layer_times(ask: _Ask, layer: Layer, *, winograd: bool) -> LayerTimes:
    domains: list[Domain] = ["spatial", "winograd"] if winograd else ["spatial"]
    reasons, cases = [], []
    for name, method in METHODS.items():
        if method.dense:
            continue
        for domain in domains:
            why = method.reason(layer, Sparsity(0.5, domain=domain))
            if why is None:
                cases.append((name, domain))
            elif name != "structured":
                reasons.append(why)
    if ask.model == "native":
        return _measured(ask, layer, cases, reasons)
    dense = ask.dense(layer)
    cases.sort(key=lambda case: case[0] != "direct_sparse")  # nothing is lowered without a gain
    rows = [row for name, domain in cases if (row := _predicted(ask, layer, name, domain))]
    return LayerTimes(
        layer, dense.method, dense.seconds or 0.0, dense.seconds_low, dense.seconds_high,
        tuple(rows), None if rows else "; ".join(dict.fromkeys(reasons)),
    )  # fmt: skip


def _predicted(ask: _Ask, layer: Layer, method: str, domain: Domain) -> MethodTimes | None:
    """Predict a method at the levels that are needed; None where it does not apply."""
    if ask.model == "ecm" and method != "direct_sparse":
        return _at_once(ask, layer, method, domain)
    grid = ask.grid
    names = METHODS[method].schedules if ask.model != "park" else ()
    known: dict[int, Result] = {}

    def at(place: int) -> float:
        if place not in known:
            known[place] = _ask_level(ask, layer, method, domain, place)
        return known[place].seconds or np.nan

    starts = _starts(grid)
    if np.isnan(at(starts[0])):
        return None
    for place in starts:
        at(place)
    work = list(pairwise(starts))
    while work:
        left, right = work.pop()
        if right - left < 2:
            continue
        middle = (left + right) // 2
        share = (grid[middle] - grid[left]) / (grid[right] - grid[left])
        line = at(left) + share * (at(right) - at(left))
        if abs(line - at(middle)) > TOLERANCE * at(middle):
            work += [(left, middle), (middle, right)]
    return _method_times(grid, method, domain, known, names)


def _at_once(ask: _Ask, layer: Layer, method: str, domain: Domain) -> MethodTimes | None:
    """Predict all levels as one array, which pays where a plan does not choose among schedules."""
    found = predict_grid(
        layer, ask.machine, densities=1.0 - ask.grid, batches=(ask.batch,), threads=ask.threads,
        method=method, density_domain=domain,
    ).seconds[0, :, 0, 0]  # fmt: skip
    if np.isnan(found).any():
        return None
    everywhere = np.ones(ask.grid.size, dtype=np.bool_)
    known = {p: _ask_level(ask, layer, method, domain, p) for p in _starts(ask.grid)}
    low, high = _ends(ask.grid, known)
    return MethodTimes(
        method, domain, found, everywhere, ("auto",) * ask.grid.size,
        None if low is None else found * low, None if high is None else found * high,
    )  # fmt: skip


def _starts(grid: Array) -> list[int]:
    """Return the levels that are asked for first."""
    return sorted({int(np.abs(grid - s).argmin()) for s in (grid[0], *_FIRST, grid[-1])})


def _ask_level(ask: _Ask, layer: Layer, method: str, domain: Domain, place: int) -> Result:
    sparsity = Sparsity(1.0 - float(ask.grid[place]), domain=domain)
    return ask.predict(layer, method, sparsity, intervals=place in _starts(ask.grid))


def _method_times(
    grid: Array, method: str, domain: Domain, known: Mapping[int, Result], names: Sequence[str]
) -> MethodTimes | None:
    """Draw lines between the levels that are known; None where one of them has no time."""
    places = sorted(known)
    values = [known[place].seconds for place in places]
    if any(value is None for value in values):
        return None
    seconds = np.interp(grid, grid[places], np.array(values, dtype=np.float64))
    asked = np.zeros(grid.size, dtype=np.bool_)
    asked[places] = True
    nearest = np.maximum(np.searchsorted(places, np.arange(grid.size), side="right") - 1, 0)
    schedules = [known[places[int(n)]].schedule for n in nearest]
    low, high = _ends(grid, known)
    return MethodTimes(
        method, domain, seconds, asked,
        tuple(name if name in names else "auto" for name in schedules),
        None if low is None else seconds * low, None if high is None else seconds * high,
    )  # fmt: skip


def _ends(grid: Array, known: Mapping[int, Result]) -> tuple[Array | None, Array | None]:
    """Return an interval's ends over the seconds, on lines between the levels that have them."""
    found = []
    for key in ("seconds_low", "seconds_high"):
        pairs = [(place, value / (result.seconds or np.nan)) for place, result in known.items()
                 if (value := getattr(result, key)) is not None]  # fmt: skip
        if not pairs:
            return None, None
        places, shares = zip(*sorted(pairs), strict=True)
        found.append(np.interp(grid, grid[list(places)], shares))
    return found[0], found[1]


def _measured(
    ask: _Ask, layer: Layer, cases: list[tuple[str, Domain]], reasons: list[str]
) -> LayerTimes:
    """Time all methods and a few levels in turns, so that they can be compared."""
    grid = ask.grid
    places = sorted({int(np.abs(grid - s).argmin()) for s in (*_MEASURED, grid[-1])})
    dense = [(name, Sparsity(1.0)) for name, method in METHODS.items() if method.dense]
    points = [
        (name, Sparsity(1.0 - float(grid[place]), domain=domain))
        for name, domain in cases
        for place in places
    ]
    results = measure_together(
        layer, [*dense, *points], ask.machine, batch=ask.batch, threads=ask.threads,
        min_seconds=ask.min_seconds,
    )  # fmt: skip
    first = min((r for r in results[: len(dense)] if r.seconds), key=lambda r: r.seconds or 0.0)
    rows = []
    for index, (name, domain) in enumerate(cases):
        start = len(dense) + index * len(places)
        known = dict(zip(places, results[start : start + len(places)], strict=True))
        row = _method_times(grid, name, domain, known, METHODS[name].schedules)
        if row is not None:
            rows.append(row)
    return LayerTimes(
        layer, first.method, first.seconds or 0.0, first.seconds_low, first.seconds_high,
        tuple(rows), None if rows else "; ".join(dict.fromkeys(reasons)),
    )  # fmt: skip
