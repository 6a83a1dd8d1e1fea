"""What a sweep found: arrays over its cells, rows, totals, and what each axis does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import archsim
from archsim.methods import METHODS
from archsim.sweeps.axes import Axis
from archsim.sweeps.space import Space
from archsim.sweeps.tasks import Answer

SCHEMA: Final = 1
KIND: Final = "sweep"
#: a value of an axis is good enough from where on the total is this close to the axis' best
CLOSE: Final = 0.05
_MAP: Final = 60  # values of an axis in the map, at most
_LISTED: Final = 24  # points that a summary lists one by one, at most
Array = NDArray[np.float64]


@dataclass(eq=False)
class Cells:
    """Answers so far, in arrays of the shape of a sweep's cells; NaN and -1: not yet known."""

    space: Space
    seconds: Array = field(init=False)
    places: NDArray[np.int32] = field(init=False)  # (3, *shape): method, schedule, limit
    names: tuple[list[str], list[str], list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = np.full(self.space.shape, np.nan)
        self.places = np.full((3, *self.space.shape), -1, dtype=np.int32)
        self.names = ([], [], [])

    def put(self, answer: Answer) -> None:
        """Take up an answer; whenever it is interrupted, a cell is known whole or not at all."""
        flat = self.places.reshape(3, -1)
        for kind, (known, names) in enumerate(zip(self.names, answer.names, strict=True)):
            known += [name for name in dict.fromkeys(names) if name not in known]
            lookup = np.array([known.index(name) for name in names])
            flat[kind, answer.cells] = lookup[answer.places[kind]]
        self.seconds.reshape(-1)[answer.cells] = answer.seconds

    def known(self, cells: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which of some cells are known."""
        found: NDArray[np.bool_] = ~np.isnan(self.seconds.reshape(-1)[cells])
        return found

    def name(self, kind: int, cell: tuple[int, ...]) -> str:
        """Return the method (0), schedule (1) or limit (2) of a cell."""
        return self.names[kind][int(self.places[(kind, *cell)])]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Times of a network's layers at every point of a sweep.

    Attributes
    ----------
    axes : tuple of Axis
        ``machine``, what varies of the hardware, ``sparsity``, ``batch``, ``threads``: name, values
        in base units and unit, and the same as people write them.
    seconds : ndarray of shape (layers, len(axis) for each axis)
        Of the whole batch, by the fastest method.
    """

    cells: Cells
    command: str = ""

    @property
    def space(self) -> Space:
        """The points."""
        return self.cells.space

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes, whether they vary or not."""
        return self.space.axes

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(layer.name for layer in self.space.layers)

    @property
    def seconds(self) -> Array:
        """Seconds of each layer at each point."""
        found: Array = self.cells.seconds.reshape(
            len(self.space.layers), *(len(axis) for axis in self.axes)
        )
        return found

    @cached_property
    def total_seconds(self) -> Array:
        """Seconds of all layers together; the shape has the axes alone."""
        found: Array = self.seconds.sum(axis=0)
        return found

    @cached_property
    def seconds_per_image(self) -> Array:
        """Seconds of all layers over the images of the batch."""
        found: Array = self.total_seconds / np.array(self.space.batches)[:, None]
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each point and layer, layers together; a data frame takes them."""
        for point in np.ndindex(*self.space.point_shape):
            for layer in range(len(self.space.layers)):
                yield row_of(self.cells, (layer, *point))

    def totals(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each point: the sums over the layers."""
        for point in np.ndindex(*self.space.point_shape):
            yield self._total(point)

    def _total(self, point: tuple[int, ...]) -> dict[str, Any]:
        space, cells = self.space, self.cells
        seconds = float(sum(cells.seconds[(n, *point)] for n in range(len(space.layers))))
        batch = space.batches[point[3]]
        flop = sum(layer.flop for layer in space.layers) * batch
        bound, share = self._limit(point)
        return {
            **place_of(space, point), "layers": len(space.layers), "seconds": seconds,
            "seconds_per_image": seconds / batch, "images_per_s": batch / seconds,
            "effective_gflops": flop / seconds / 1e9, "bound_by": bound, "bound_share": share,
        }  # fmt: skip

    def _limit(self, point: tuple[int, ...]) -> tuple[str, float]:
        """Return what bounds the layers that take most of the time, and their share of it."""
        shares: dict[str, float] = {}
        for layer in range(len(self.space.layers)):
            name = self.cells.name(2, (layer, *point))
            shares[name] = shares.get(name, 0.0) + float(self.cells.seconds[(layer, *point)])
        most = max(shares, key=lambda name: shares[name])
        return most, shares[most] / sum(shares.values())

    def best(self, machine: int | None = None) -> tuple[int, ...]:
        """Return the place on each axis of the point of most images a second; of one machine."""
        found = self.seconds_per_image if machine is None else self.seconds_per_image[[machine]]
        place = [int(n) for n in np.unravel_index(int(np.argmin(found)), found.shape)]
        return tuple(place if machine is None else [machine, *place[1:]])

    def as_document(self, *, total: bool = False, rows: bool = True) -> dict[str, Any]:
        """Return the JSON document: settings, axes, rows (or totals of points), and the summary.

        Tables and pages need no ``rows``.
        """
        space = self.space
        results = self.totals() if total else self.rows()
        settings = space.settings
        return {
            "schema": SCHEMA, "kind": KIND, "archsim": archsim.__version__,
            "command": self.command, "network": space.network, "layers": list(self.layers),
            "model": settings.model, "methods": list(settings.methods),
            "schedule": settings.schedule, "partition": settings.partition,
            "clock": settings.clock, "isa": settings.isa, "seed": settings.seed,
            "axes": [_axis(axis) for axis in self.axes],
            "points": space.points, "rows_of": "points" if total else "layers",
            "results": list(results) if rows else [],
            "summary": self.summary(),
        }  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return the best point, that of each machine, and what moves the total around it."""
        machines = [self._around(place) for place in range(len(self.space.bases))]
        best = self.best()
        places = np.ndindex(*(len(axis) for axis in self.axes))
        listed = [self._told(place) for place in places] if self.space.points <= _LISTED else None
        return {
            "best": self._best(best), "machines": machines, "points": listed,
            "map": self._map(best),
        }  # fmt: skip

    def _told(self, place: tuple[int, ...]) -> dict[str, Any]:
        """Return a total with the point's values as people write them."""
        texts = {a.name: a.texts[p] for a, p in zip(self.axes, place, strict=True)}
        return {**self._total(self._point(place)), "texts": texts}

    def _best(self, place: tuple[int, ...]) -> dict[str, Any]:
        layers = range(len(self.layers))
        point = self._point(place)
        return {**self._told(place), "by_layer": [row_of(self.cells, (n, *point)) for n in layers]}

    def _around(self, machine: int) -> dict[str, Any]:
        """Return the best point of a machine, and each axis with the others as they are there."""
        best = self.best(machine)
        axes = []
        for number, axis in enumerate(self.axes[1:], start=1):
            if len(axis) < 2:
                continue
            places = [(*best[:number], n, *best[number + 1 :]) for n in range(len(axis))]
            steps = [
                {"value": axis.values[n], "text": axis.texts[n], **self._step(places[n], best)}
                for n in range(len(axis))
            ]
            axes.append({"name": axis.name, "unit": axis.unit, "steps": steps,
                         "close_from": _close_from(steps)})  # fmt: skip
        return {"machine": self.space.bases[machine].name, "best": self._best(best), "axes": axes}

    def _step(self, place: tuple[int, ...], best: tuple[int, ...]) -> dict[str, Any]:
        total = self._total(self._point(place))
        kept = ("seconds", "seconds_per_image", "images_per_s", "bound_by", "bound_share")
        over = float(self.seconds_per_image[place] / self.seconds_per_image[best])
        return {**{key: total[key] for key in kept}, "over_best": over}

    def _point(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """Return a point: a place on each axis, those of what varies as one."""
        count = len(self.space.vary)
        lengths = [len(axis) for axis in self.space.vary]
        inner = int(np.ravel_multi_index(place[1 : 1 + count], lengths)) if count else 0
        return (place[0], inner, *place[1 + count :])

    def _map(self, best: tuple[int, ...]) -> dict[str, Any] | None:
        """Return seconds an image over the two axes that move it most, others as at the best."""
        per_image = self.seconds_per_image
        moves = []
        for number, axis in enumerate(self.axes):
            line = np.moveaxis(per_image, number, -1)[(*best[:number], *best[number + 1 :])]
            if number and len(axis) > 1:
                moves.append((float(line.max() / line.min()), -number))
        if len(moves) < 2:
            return None
        one, two = sorted(-number for _, number in sorted(moves)[-2:])
        picks = [_thin(len(self.axes[number])) for number in (one, two)]
        rows = [
            [float(per_image[tuple(m if n == one else k if n == two else p
                                   for n, p in enumerate(best))]) for k in picks[1]]
            for m in picks[0]
        ]  # fmt: skip
        chosen = [
            {"name": self.axes[n].name, "texts": [self.axes[n].texts[p] for p in pick]}
            for n, pick in zip((one, two), picks, strict=True)
        ]
        machine = self.space.bases[best[0]].name
        return {"machine": machine, "y": chosen[0], "x": chosen[1], "seconds_per_image": rows}


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.name, "unit": axis.unit, "values": list(axis.values),
            "texts": list(axis.texts)}  # fmt: skip


def _thin(count: int) -> list[int]:
    found = np.unique(np.linspace(0, count - 1, min(count, _MAP)).round().astype(int))
    return [int(place) for place in found]


def _close_from(steps: list[dict[str, Any]]) -> str | None:
    """Return the first value from which on the total stays close to the axis' best."""
    limit = (1.0 + CLOSE) * min(step["over_best"] for step in steps)
    close = [step["over_best"] <= limit for step in steps]
    first = len(close)
    while first and close[first - 1]:
        first -= 1
    return steps[first]["text"] if 0 < first < len(close) - 1 else None


def place_of(space: Space, point: tuple[int, ...]) -> dict[str, Any]:
    """Return what tells a point: network, machine, what varies, sparsity, batch, threads."""
    return {
        "network": space.network, "machine": space.bases[point[0]].name, **space.varied(point),
        "sparsity": space.sparsities[point[2]].label, "batch": space.batches[point[3]],
        "threads": space.threads_at(point), "model": space.settings.model,
    }  # fmt: skip


def row_of(cells: Cells, cell: tuple[int, ...]) -> dict[str, Any]:
    """Return the row of a cell that is known."""
    space, (layer, *rest) = cells.space, cell
    point = tuple(rest)
    method, schedule, limit = (cells.name(kind, cell) for kind in range(3))
    seconds = float(cells.seconds[cell])
    sparsity = space.sparsity(layer, point)
    dense = METHODS[method].dense  # computes the zeros, too
    flop = space.layers[layer].flop * space.batches[point[3]]
    return {
        **place_of(space, point), "layer": space.layers[layer].name, "method": method,
        "schedule": schedule, "density": 1.0 if dense else sparsity.density,
        "density_domain": "spatial" if dense else sparsity.domain, "seconds": seconds,
        "effective_gflops": flop / seconds / 1e9, "bound_by": limit,
        "settings": space.digest(layer, point[0], point[2]),
    }  # fmt: skip
