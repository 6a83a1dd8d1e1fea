"""One cell: everybody who can compute a layer, checked, then timed in turns."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import numpy as np

import archsim
from archsim import kernels
from archsim.kernels.winograd_matrices import VARIANTS
from archsim.network import Layer
from archsim.sparsity import DOMAINS, Domain
from benchmarks import dense_peers, ours, sparse_peers
from benchmarks.contest import Array, Contestant, Judge, WrongResultError, aligned, race
from benchmarks.deepsparse_peer import DeepSparse, WorkerError
from benchmarks.suites import Cell, NoPatternError, Suite, layers, weights_of

DEEPSPARSE: Final = "deepsparse"
#: what stands in the way of a contestant, without being a defect of ours
_OBSTACLES: Final = (
    archsim.NotApplicableError, ImportError, OSError, RuntimeError, WorkerError, WrongResultError,
)  # fmt: skip


class Peers(AbstractContextManager["Peers"]):
    """Peers that outlive a cell: the DeepSparse process, started when first wanted."""

    def __init__(self, allowed: Callable[[str], bool] = lambda _: True) -> None:
        self.allowed = allowed
        self._deepsparse: DeepSparse | None = None
        self._trouble: WorkerError | None = None

    def deepsparse(self) -> DeepSparse:
        """Return the worker process.

        Raises
        ------
        WorkerError
            It cannot be had.
        """
        if self._trouble is not None:
            raise self._trouble
        if self._deepsparse is None:
            try:
                self._deepsparse = DeepSparse()
            except WorkerError as error:
                self._trouble = error
                raise
        return self._deepsparse

    def forget(self) -> None:
        """Drop what was made for a cell."""
        if self._deepsparse is not None:
            try:
                self._deepsparse.forget()
            except WorkerError:  # it died: the next cell starts another one
                self._deepsparse.close()
                self._deepsparse = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._deepsparse is not None:
            self._deepsparse.close()


@dataclass
class _Field:
    """Who takes part, and who does not, by reason."""

    judge: Judge
    contestants: list[Contestant] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def admit(self, name: str, pattern: str, made: Iterable[Contestant]) -> None:
        """Check each; a name whose making fails is missing."""
        label = f"{name}@{pattern}" if pattern else name
        try:
            for contestant in made:
                contestant.notes |= self.judge.check(contestant)
                self.contestants.append(contestant)
        except _OBSTACLES as error:
            self.missing[label] = " ".join(f"{type(error).__name__}: {error}".split())[:300]


def measure(cell: Cell, peers: Peers, *, seconds: float, seed: int) -> dict[str, Any]:
    """Return a cell's part of the document.

    Parameters
    ----------
    seconds : float
        How long the rounds last, about (nine at least).
    seed : int
        Of pictures, weights, masks and the order of the turns.
    """
    suite, layer = cell.suite, layers()[cell.layer]
    x = aligned((suite.batch, layer.C, layer.H, layer.W))
    x[:] = np.random.default_rng(seed).standard_normal(x.shape)
    field_ = _Field(Judge(layer, x))
    _admit_dense(field_, cell, layer, x, peers, seed)
    nonzeros: dict[str, int] = {}
    for pattern, domain in _met(suite):
        try:
            weights = _weights(layer, pattern, seed, domain)
        except NoPatternError as error:
            field_.missing[pattern] = str(error)
            continue
        key = pattern if domain == "spatial" else f"{pattern}, {domain}"
        nonzeros[key] = int(np.count_nonzero(weights))
        # a density is drawn for F(4x4) or F(4x4, 5x5): the variant of its shape
        variant = _variant_of(weights) if domain == "winograd" else ""
        field_.judge.expect(weights, variant)
        for name in suite.contestants_at(pattern):
            if peers.allowed(name) and ours.domain_of(name) == domain:
                made = _sparse(name, layer, weights, x, pattern, cell, peers)
                field_.admit(name, pattern, made)
    if suite.patterns and not nonzeros:
        return {"failed": "; ".join(sorted(set(field_.missing.values())))}
    isa = kernels.active_isa()
    gc.collect()
    found = race(field_.contestants, isa=isa, seconds=seconds, seed=seed)
    peers.forget()
    return {
        "suite": suite.name,
        "layer": cell.layer,
        "shape": _shape_words(layer),
        "batch": suite.batch,
        "isa": isa,
        "dense_flop": layer.flop * suite.batch,
        "pixels": layer.P * layer.Q * suite.batch,
        "weights": layer.weights,
        "nonzeros": nonzeros,
        "missing": field_.missing,
        **found,
    }


def _weights(layer: Layer, pattern: str, seed: int, domain: Domain = "spatial") -> Array:
    found = weights_of(layer, pattern, seed, domain).weights
    assert found is not None  # drawn or read
    copy = aligned(found.shape)
    copy[:] = found
    return copy


def _met(suite: Suite) -> Iterator[tuple[str, Domain]]:
    """Patterns and domains that a suite's contestants meet."""
    for pattern in suite.patterns:
        wanted = {ours.domain_of(name) for name in suite.contestants_at(pattern)}
        yield from ((pattern, domain) for domain in DOMAINS if domain in wanted)


def _variant_of(weights: Array) -> str:
    """The variant whose tile is as large, F(4x4) before others."""
    return max((v for v in VARIANTS.values() if v.tile == len(weights)),
               key=lambda v: v.outputs).name  # fmt: skip


def _admit_dense(
    field_: _Field, cell: Cell, layer: Layer, x: Array, peers: Peers, seed: int
) -> None:
    if not cell.suite.dense:
        return
    weights = _weights(layer, "0", seed)
    field_.judge.expect(weights)
    for name in filter(peers.allowed, cell.suite.dense):
        if ours.is_ours(name):
            made = _ours(name, layer, weights, x, "", cell)
        else:
            made = dense_peers.PEERS[name](layer, weights, x, cell.suite.threads)
        field_.admit(name, "", made)


def _sparse(
    name: str, layer: Layer, weights: Array, x: Array, pattern: str, cell: Cell, peers: Peers
) -> Iterator[Contestant]:
    threads = cell.suite.threads
    if ours.is_ours(name):
        yield from _ours(name, layer, weights, x, pattern, cell)
    elif name == DEEPSPARSE:
        yield from peers.deepsparse().contestant(layer, weights, x, pattern, threads)
    else:
        yield from sparse_peers.PEERS[name](layer, weights, x, pattern, threads)


def _ours(
    name: str, layer: Layer, weights: Array, x: Array, pattern: str, cell: Cell
) -> Iterator[Contestant]:
    for threads in (cell.suite.threads, *cell.suite.also):
        yield ours.contestant(name, layer, weights, x, pattern=pattern, threads=threads)


def _shape_words(layer: Layer) -> str:
    """``256 -> 384, 13x13, 3x3``, and what is not usual about it."""
    words = f"{layer.C} -> {layer.K}, {layer.H}x{layer.W}, {layer.R}x{layer.S}"
    if layer.stride != (1, 1):
        words += f", stride {layer.stride[0]}"
    if layer.groups > 1:
        words += f", {layer.groups} groups"
    return words
