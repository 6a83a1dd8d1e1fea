"""Useful window: the sparsities between which pruning a layer makes it faster.

It begins where the best sparse method first beats the best dense one.  It ends

* with ``park`` and a machine where memory takes over from arithmetic, the published bound x_lo
  (Park et al., ICLR 2017, section 2.2);
* else where halving the nonzeros that are left saves less than ``HALVING_SAVES``
  of the time, from there on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.api import predict
from archsim.machine import Machine
from archsim.pruning.table import LayerTimes, TimeTable
from archsim.sparsity import Domain

Array = NDArray[np.float64]

#: a compute-bound layer saves 0.5, one that waits for its pictures nearly nothing (a choice)
HALVING_SAVES: Final = 0.2
_WIDTH: Final = 1e-4  # of the interval in sparsity that bisection ends with


@dataclass(frozen=True, slots=True)
class Window:
    """Where pruning a layer pays.

    Attributes
    ----------
    pays_from : float or None
        Lowest sparsity at which a sparse method beats the best dense one; None: none does.
    gains_until : float or None
        Sparsity beyond which nothing more is gained; None: it gains to the end of the grid.
    pays_from_low, pays_from_high : float or None
        The same at the ends of the interval of sparse over dense time; None where the model has
        no interval, or where it does not pay anywhere on the grid.
    """

    pays_from: float | None
    gains_until: float | None
    pays_from_low: float | None = None
    pays_from_high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        interval = None
        if self.pays_from_low is not None:
            interval = [self.pays_from_low, self.pays_from_high]
        return {
            "pays_from": self.pays_from,
            "pays_from_interval": interval,
            "gains_until": self.gains_until,
        }


def find_window(
    times: LayerTimes, table: TimeTable, machine: Machine | None = None, domain: Domain = "spatial"
) -> Window:
    """Return the window of a layer.

    Parameters
    ----------
    times : LayerTimes
    table : TimeTable
        The grid and the circumstances of the times.
    machine : Machine, optional
        Refines both ends by bisection over predictions; without it (or for measurements) they lie
        on straight lines between the levels of the table.
    domain : {"spatial", "winograd"}
    """
    best = times.best(domain)
    known = np.isfinite(best)  # a table from a file may have fewer levels for a layer
    if not known.any():
        return Window(None, None)
    grid, best = table.sparsities[known], best[known]
    ask = None if machine is None or table.model == "native" else machine
    low = high = None
    if times.dense_low is not None and times.dense_high is not None:
        ends = times.best(domain, "low")[known], times.best(domain, "high")[known]
        less, more = _ratio_ends(best, ends, times.dense_seconds,
                                 (times.dense_low, times.dense_high))  # fmt: skip
        low = _first_below(grid, less, times.dense_seconds)
        high = _first_below(grid, more, times.dense_seconds)
    start = _first_below(grid, best, times.dense_seconds)
    if start is None:
        return Window(None, None, low, high)
    if ask is not None:
        start = _refined_start(times, table, ask, domain, start)
    end: float | None
    if ask is not None and table.model == "park":
        end = _memory_edge(times, table, ask)
    else:
        end = _halving_edge(grid, best)
    if end is not None and end < start:
        end = start
    # below the first level of the grid only the refined start is known
    low, high = low if low is None else min(low, start), high if high is None else max(high, start)
    return Window(start, end, low, high)


def _ratio_ends(
    best: Array, sparse: tuple[Array, Array], seconds: float, dense: tuple[float, float]
) -> tuple[Array, Array]:
    """Return the sparse seconds at both ends of the interval of the ratio to the dense ones.

    Errors of the two are taken as independent: their logarithms add up in squares.
    """
    with np.errstate(divide="ignore"):  # a lower end of zero: anything is possible
        down = np.hypot(np.log(best / sparse[0]), np.log(dense[1] / seconds))
        up = np.hypot(np.log(sparse[1] / best), np.log(seconds / dense[0]))
    less: Array = best * np.exp(-down)
    more: Array = best * np.exp(up)
    return less, more


def _first_below(grid: Array, seconds: Array, limit: float) -> float | None:
    """Return the lowest sparsity at which the line through ``seconds`` falls below ``limit``."""
    below = np.flatnonzero(seconds < limit)
    if below.size == 0:
        return None
    place = int(below[0])
    if place == 0:
        return float(grid[0])
    over, under = seconds[place - 1] - limit, limit - seconds[place]
    return float(grid[place - 1] + (grid[place] - grid[place - 1]) * over / (over + under))


def _refined_start(
    times: LayerTimes, table: TimeTable, machine: Machine, domain: Domain, about: float
) -> float:
    grid = table.sparsities
    place = int(np.searchsorted(grid, about - 1e-12))
    method, schedule = times.best_methods(domain)[place]
    left = float(grid[place - 1]) if place else 0.0

    def pays(sparsity: float) -> bool:
        found = predict(
            times.layer, machine, method=method, schedule=schedule, density=1.0 - sparsity,
            density_domain=domain, batch=table.batch, threads=table.threads,
            model=table.model, intervals=False,  # type: ignore[arg-type]
        )  # fmt: skip
        return found.seconds is not None and found.seconds < times.dense_seconds

    right = float(grid[place])
    if not pays(right):  # the table was a line there
        return about
    return _bisect(pays, left, right)


def _memory_edge(times: LayerTimes, table: TimeTable, machine: Machine) -> float | None:
    """Return where the published model says that memory holds the layer up."""
    method, _ = times.best_methods("spatial")[-1]

    def waits(sparsity: float) -> bool:
        found = predict(
            times.layer, machine, method=method, density=1.0 - sparsity, model="park",
            batch=table.batch, threads=table.threads,
        )  # fmt: skip
        return found.bound_by[:1] == ("memory",)

    if waits(0.0):  # reading the weights alone takes longer than their arithmetic
        return None
    end = 1.0 - 1e-6
    return _bisect(waits, 0.0, end) if waits(end) else None


def _halving_edge(grid: Array, best: Array) -> float | None:
    """Return the sparsity from which on halving what is left saves little."""
    density = 1.0 - grid
    inside = density / 2.0 >= density[-1] * (1.0 - 1e-9)
    if not inside.any():  # a grid too coarse to tell
        return None
    halved = np.interp(1.0 - density[inside] / 2.0, grid, best)
    saves = 1.0 - halved / best[inside] >= HALVING_SAVES
    places = np.flatnonzero(saves)
    if places.size == 0:
        return float(grid[0])
    last = int(places[-1])
    return None if last == saves.size - 1 else float(grid[last + 1])


def _bisect(test: Callable[[float], bool], left: float, right: float) -> float:
    """Return the sparsity where ``test`` turns true; it is true at ``right``."""
    while right - left > _WIDTH:
        middle = (left + right) / 2.0
        if test(middle):
            right = middle
        else:
            left = middle
    return right
