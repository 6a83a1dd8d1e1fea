"""Suites of cells, from layers.yaml and suites.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import archsim
from archsim.network import Layer
from archsim.sparsity import Domain, Sparsity, load_sparsity
from archsim.yamlfile import read_yaml

FOLDER: Final = Path(__file__).parent
DATA_VARIABLE: Final = "ARCHSIM_DATA"
_KEYS: Final = frozenset(
    ("about", "layers", "batch", "threads", "also", "isa", "dense", "sparse", "only_when_named")
)


class NoPatternError(Exception):
    """A real pattern is not here; the text says why."""


@dataclass(frozen=True)
class Suite:
    """Contestants, and the layers on which they meet.

    Attributes
    ----------
    threads : int
        Of every contestant; ``also`` are other numbers of threads for ours.
    isa : str
        Instruction set that is forced on ours, or empty: the widest.
    sparse : tuple of (contestants, patterns)
    only_when_named : bool
        Whether it is left out unless it is asked for.
    """

    name: str
    about: str
    layers: tuple[str, ...]
    batch: int = 1
    threads: int = 1
    also: tuple[int, ...] = ()
    isa: str = ""
    dense: tuple[str, ...] = ()
    sparse: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    only_when_named: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every pattern that some contestant meets, in order."""
        return tuple(dict.fromkeys(pattern for _, at in self.sparse for pattern in at))

    def contestants_at(self, pattern: str) -> tuple[str, ...]:
        """Who meets ``pattern``."""
        return tuple(name for who, at in self.sparse if pattern in at for name in who)


@dataclass(frozen=True)
class Cell:
    """One layer of a suite: what is timed together."""

    suite: Suite
    layer: str

    @property
    def name(self) -> str:
        """``suite/layer``."""
        return f"{self.suite.name}/{self.layer}"


def _suite(name: str, given: Mapping[str, Any]) -> Suite:
    unknown = given.keys() - _KEYS
    if unknown:
        raise ValueError(f"suite {name}: unknown key {', '.join(sorted(unknown))}")
    values = dict(given)
    values["sparse"] = tuple(
        (tuple(entry["who"]), tuple(_pattern_name(at) for at in entry["at"]))
        for entry in given.get("sparse", ())
    )
    for key in ("layers", "dense", "also"):
        values[key] = tuple(convolutions() if given.get(key) == "all" else given.get(key, ()))
    missing = [layer for layer in values["layers"] if layer not in layers()]
    if missing:
        raise ValueError(f"suite {name}: no such layer: {', '.join(missing)}")
    return Suite(name=name, **values)


def _pattern_name(given: str | float) -> str:
    return given if isinstance(given, str) else f"{given:g}"


@cache
def layers() -> dict[str, Layer]:
    """Layers by their short names."""
    found = {}
    for name, where in read_yaml(FOLDER / "layers.yaml").plain()["layers"].items():
        network, _, layer = where.partition("/")
        found[name] = archsim.load_network(network)[layer]
    return found


def convolutions() -> list[str]:
    """Names of all layers but the fully connected ones."""
    return [name for name, layer in layers().items() if layer.type == "conv"]


@cache
def suites() -> dict[str, Suite]:
    """Suites by name."""
    given = read_yaml(FOLDER / "suites.yaml").plain()["suites"]
    return {name: _suite(name, values) for name, values in given.items()}


def cells(wanted: Iterable[str] = ()) -> list[Cell]:
    """Return the cells of suites (``direct``) or single ones (``direct/conv3``).

    Nothing wanted: all that do not have to be named.

    Raises
    ------
    ValueError
        No such suite or layer in it.
    """
    chosen = list(wanted) or [s.name for s in suites().values() if not s.only_when_named]
    found = []
    for name in chosen:
        suite_name, _, layer = name.partition("/")
        suite = suites().get(suite_name)
        if suite is None or (layer and layer not in suite.layers):
            raise ValueError(f"no cells called {name}; suites: {', '.join(suites())}")
        found += [Cell(suite, each) for each in ([layer] if layer else suite.layers)]
    return found


def weights_of(layer: Layer, pattern: str, seed: int, domain: Domain = "spatial") -> Sparsity:
    """Return the weights of a layer: a random mask, a structured one, or a real pattern.

    Raises
    ------
    NoPatternError
        The folder of real patterns is not known, or has nothing for this layer; or the pattern is
        of another domain.
    """
    given = read_yaml(FOLDER / "layers.yaml").plain()
    real, structured = given["patterns"], given["structured"]
    if domain != "spatial" and pattern in (real | structured):
        raise NoPatternError(f"{pattern} is not of the {domain} domain")
    if pattern in structured:
        return Sparsity.structured(layer, seed=seed, **structured[pattern])
    if pattern not in real:
        return Sparsity(1.0 - float(pattern), domain=domain).draw(layer, seed=seed)
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise NoPatternError(f"{DATA_VARIABLE} is not set: no real patterns")
    network = archsim.load_network(real[pattern]["network"])
    path = Path(folder) / real[pattern]["file"]
    if not path.is_file():
        raise NoPatternError(f"{path} is missing")
    found = load_sparsity(path, network)
    if layer.name not in found:
        raise NoPatternError(f"{path.name} has no {layer.name}")
    return found[layer.name]
