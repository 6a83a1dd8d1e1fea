"""The points of a sweep, checked, and the cells of its arrays: a layer at a point."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

import archsim
from archsim.errors import InputError, input_error
from archsim.machine import Machine
from archsim.methods import METHODS, get_method
from archsim.methods.sharing import Partition
from archsim.network import Layer, Network, load_network
from archsim.predictors import MODELS
from archsim.request import (
    as_machine,
    as_partition,
    default_threads,
    isa_of,
    natural,
    thread_count,
    words,
)
from archsim.sparsity import Domain, LayerSparsities, Sparsity
from archsim.sweeps.axes import Axis, Given, count_axis, sparsity_axis, threads_axis, vary_axes
from archsim.variation import vary as varied

#: hypothetical machines, and cells (layers x points), at most: some minutes, some gigabytes
MOST_MACHINES: Final = 100_000
MOST_CELLS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same at every point."""

    model: str
    methods: tuple[str, ...]
    schedule: str
    partition: Partition
    clock: str
    isa: str | None
    seed: int


@dataclass(frozen=True)
class Space:
    """A checked sweep.

    Cells are places in arrays of :attr:`shape`: layer, machine, combination of what varies,
    sparsity, batch, threads; a point is a cell without its layer.

    Attributes
    ----------
    bases : tuple of Machine
        As they were given.
    machines : tuple of tuple of Machine
        Of each base every combination of what varies, the last axis fastest.
    """

    network: str
    layers: tuple[Layer, ...]
    bases: tuple[Machine, ...]
    vary: tuple[Axis, ...]
    machines: tuple[tuple[Machine, ...], ...]
    sparsities: tuple[LayerSparsities, ...]
    batches: tuple[int, ...]
    threads: tuple[int | None, ...]
    settings: Settings

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes of a cell."""
        return (len(self.layers), *self.point_shape)

    @property
    def point_shape(self) -> tuple[int, ...]:
        """Lengths of the axes of a point."""
        return (len(self.bases), len(self.machines[0]), len(self.sparsities), len(self.batches),
                len(self.threads))  # fmt: skip

    @property
    def points(self) -> int:
        """How many points there are."""
        return math.prod(self.point_shape)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Machine, what varies, sparsity, batch, threads: each with all its values."""
        labels = tuple(sparsity.label for sparsity in self.sparsities)
        names = tuple(machine.name for machine in self.bases)
        return (
            Axis("machine", names, names),
            *self.vary,
            Axis("sparsity", tuple(map(_share, self.sparsities)), labels),
            Axis("batch", self.batches, tuple(map(str, self.batches)), "images"),
            Axis("threads", self.threads, tuple("all" if t is None else str(t)
                                                for t in self.threads)),
        )  # fmt: skip

    def machine(self, point: tuple[int, ...]) -> Machine:
        """Return the machine of a point."""
        return self.machines[point[0]][point[1]]

    def threads_at(self, point: tuple[int, ...]) -> int:
        """Return how many threads work at a point."""
        asked = self.threads[point[4]]
        return default_threads(self.machine(point)) if asked is None else asked

    def sparsity(self, layer: int, point: tuple[int, ...]) -> Sparsity:
        """Return the sparsity of a layer, by its place, at a point."""
        return self.sparsities[point[2]][self.layers[layer].name]

    def varied(self, point: tuple[int, ...]) -> dict[str, Any]:
        """Return the values at a point of what varies, by the axis' name, in base units."""
        if not self.vary:
            return {}
        places = np.unravel_index(point[1], [len(axis) for axis in self.vary])
        return {
            axis.name: axis.values[int(place)]
            for axis, place in zip(self.vary, places, strict=True)
        }

    def digest(self, layer: int, base: int, sparsity: int) -> str:
        """Return a short name of everything that a cell's answer depends on beside its point."""
        key = (layer, base, sparsity)
        if key not in self._digests:
            # in the simulator layers find what those before them left
            alone = self.settings.model != "simulator"
            layers = (self.layers[layer],) if alone else self.layers
            parts = [self._common, self.layers[layer].name, self._numbers[base]]
            parts += map(repr, layers)
            parts += [self.sparsities[sparsity][y.name].pattern_key for y in layers]
            digest = hashlib.sha256("\0".join(parts).encode())
            self._digests[key] = digest.hexdigest()[:12]
        return self._digests[key]

    @cached_property
    def _digests(self) -> dict[tuple[int, int, int], str]:
        return {}

    @cached_property
    def _common(self) -> str:
        known = {"network": self.network, "archsim": archsim.__version__, **asdict(self.settings)}
        return json.dumps(known, sort_keys=True)

    @cached_property
    def _numbers(self) -> tuple[str, ...]:
        left_out = {"description", "sources", "base"}
        return tuple(
            f"{isa_of(machine, self.settings.isa)} "
            + json.dumps(machine.model_dump(exclude=left_out), sort_keys=True, default=str)
            for machine in self.bases
        )


def _share(sparsity: LayerSparsities) -> float | str:
    """Return the share of zeros where it is one for all layers, else the label."""
    one = sparsity.default
    return sparsity.label if one is None or sparsity.layers else one.sparsity


def make_space(
    network: Network | str | Path,
    machines: Machine | str | Path | Iterable[Machine | str | Path],
    *,
    layers: Iterable[str] | None = None,
    vary: Mapping[str, Given] | Iterable[str] | None = None,
    sparsities: Any = None,
    batches: Given = 1,
    threads: Given | None = None,
    methods: str | Iterable[str] = "auto",
    model: str = "ecm",
    density_domain: Domain | None = None,
    schedule: str = "auto",
    partition: Partition = "nnz",
    clock: str = "sustained",
    isa: str | None = None,
    seed: int = 0,
) -> Space:
    """Check the arguments of a sweep (:func:`archsim.sweep`) and make its machines."""
    chosen = network if isinstance(network, Network) else load_network(network)
    given = [machines] if isinstance(machines, (Machine, str, Path)) else machines
    bases = tuple(as_machine(machine) for machine in given)
    if not bases:
        raise input_error("sweep: machines", "none is given")
    names = [machine.name for machine in bases]
    if len(set(names)) < len(names):
        raise input_error("sweep: machines", "two have one name", found=names)
    words(schedule=schedule, clock=clock)
    settings = Settings(_model(model), _methods(methods), schedule, as_partition(partition), clock,
                        isa, natural("seed", seed))  # fmt: skip
    picked = [chosen[name] for name in dict.fromkeys(layers)] if layers else list(chosen)
    axes = vary_axes(vary, bases)
    space = _Lengths(
        len(picked), len(bases), math.prod(len(axis) for axis in axes),
        sparsity_axis(sparsities, chosen, density_domain), count_axis("batch", batches),
        threads_axis(threads),
    )  # fmt: skip
    space.check()
    made = Space(
        chosen.name, tuple(picked), bases, axes, tuple(_combinations(base, axes) for base in bases),
        space.sparsities, space.batches, space.threads, settings,
    )  # fmt: skip
    for machine in (machine for row in made.machines for machine in row):
        machine.clock_for(isa_of(machine, isa), clock)  # refuses unknown names
        for count in made.threads:
            thread_count(machine, count)
    return made


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Lengths of axes, before machines are made."""

    layers: int
    bases: int
    combinations: int
    sparsities: tuple[LayerSparsities, ...]
    batches: tuple[int, ...]
    threads: tuple[int | None, ...]

    def check(self) -> None:
        """Refuse what would take for ever."""
        machines = self.bases * self.combinations
        if machines > MOST_MACHINES:
            raise input_error("sweep", "too many machines", found=machines,
                              allowed=f"1..{MOST_MACHINES}")  # fmt: skip
        others = len(self.sparsities) * len(self.batches) * len(self.threads)
        cells = self.layers * machines * others
        if cells > MOST_CELLS:
            raise input_error("sweep", "too many points (counted for each layer)", found=cells,
                              allowed=f"1..{MOST_CELLS}")  # fmt: skip


def _combinations(base: Machine, axes: tuple[Axis, ...]) -> tuple[Machine, ...]:
    """Return every combination of what varies; one value of a joint axis is set at all its paths.

    A machine whose numbers are all as the base has them is still a hypothetical one.
    """
    if not axes:
        return (base,)
    made: list[Machine] = []
    for places in np.ndindex(*(len(axis) for axis in axes)):
        paths = {
            path: axis.values[place]
            for axis, place in zip(axes, places, strict=True)
            for path in axis.paths
        }
        try:
            made += varied(base, {path: [value] for path, value in paths.items()})
        except InputError as error:
            shown = ", ".join(f"{a.name}={a.texts[p]}" for a, p in zip(axes, places, strict=True))
            raise InputError(f"sweep: at {shown}: {error}; 'A+B=...' varies A and B "
                             "together") from None  # fmt: skip
    return tuple(made)


def _model(model: str) -> str:
    if model not in MODELS:
        raise input_error("model", "unknown model of a sweep", found=model,
                          allowed=", ".join(MODELS), near=(str(model), MODELS))  # fmt: skip
    return model


def _methods(methods: str | Iterable[str]) -> tuple[str, ...]:
    """Return the methods of which the fastest is taken; ``auto``: all."""
    if methods in ("auto", "all"):
        return tuple(METHODS)
    names = [methods] if isinstance(methods, str) else list(methods)
    if not names:
        raise input_error("methods", "none is given")
    return tuple(dict.fromkeys(get_method(name).name for name in names))
