"""Contestants, the check of what they compute, and the rounds in which they are timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim import kernels, native
from archsim.kernels import reference
from archsim.network import Layer

Array = NDArray[np.float32]

#: largest difference to the reference over the largest reference value: single precision over
#: sums of some thousand products leaves 1e-6, Winograd transforms of peers 1e-5
TOLERANCE: Final = 1e-4

LEAST_ROUNDS: Final = 9
MOST_ROUNDS: Final = 25
CALLS_IN_TURN: Final = 8
#: short calls are repeated inside a turn for about so long
TURN_SECONDS: Final = 1.5e-3
#: Threads of the last one spin for a while and would hold the next one's cores: OpenBLAS's for
#: about 2^26 cycles (THREAD_TIMEOUT), others less.
QUIET_SECONDS: Final = 0.03


class WrongResultError(Exception):
    """A contestant computes something else."""


@dataclass
class Contestant:
    """Someone who can compute a layer.

    Attributes
    ----------
    name : str
        ``METHOD`` or ``METHOD=SCHEDULE`` of ours, or a peer's name.
    kind : {"ours", "dense", "sparse"}
        Ours, or a peer that does or does not look at zeros.
    pattern : str
        Of its weights; empty: dense.
    call : callable
        Computes once; returns the seconds if it has timed itself, else None.
    result : callable
        The output of the last call, (N, K, P, Q) float32.
    phases : callable, optional
        Seconds of the last call by phase.
    variant : str
        Of Winograd's, whose rounding errors have a bound of their own; empty: none.
    notes : dict
        For the document.
    """

    name: str
    kind: Literal["ours", "dense", "sparse"]
    call: Callable[[], float | None]
    result: Callable[[], Any]
    pattern: str = ""
    threads: int = 1
    phases: Callable[[], dict[str, float]] | None = None
    variant: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


def aligned(shape: tuple[int, ...]) -> Array:
    """Return zeros that begin at a cache line, as the peers' own arrays do."""
    array = kernels.aligned_empty(shape)
    array[...] = 0.0
    return array


class Judge:
    """Compares results with the float64 reference, first and last picture of the batch."""

    def __init__(self, layer: Layer, x: Array) -> None:
        self._layer, self._pictures = layer, sorted({0, len(x) - 1})
        self._shape = native.conv_shape(layer)
        self._x = x[self._pictures]
        self._lowered = reference.im2col(self._x.astype(np.float64), self._shape)

    def expect(self, weights: Array, variant: str = "") -> None:
        """Take the weights of those that come next; with a ``variant`` of the Winograd domain."""
        layer = self._layer
        self._weights = weights
        if variant:
            self._right = kernels.conv2d_winograd(self._x, weights, self._shape, variant)
            return
        matrix = weights.astype(np.float64).reshape(layer.groups, layer.K // layer.groups, -1)
        self._right = np.matmul(matrix, self._lowered).reshape(-1, layer.K, layer.P, layer.Q)

    def check(self, contestant: Contestant) -> dict[str, float]:
        """Let it compute once.

        Returns
        -------
        dict
            ``error``, the largest difference over the largest reference value; of our Winograd also
            ``error_of_bound``, the largest difference in units of its bound there.

        Raises
        ------
        WrongResultError
            The error is above the tolerance, or above the bound.
        """
        contestant.call()
        found = np.asarray(contestant.result())[self._pictures]
        if found.shape != self._right.shape:
            raise WrongResultError(f"wrong shape: {found.shape}, not {self._right.shape}")
        off = np.abs(found - self._right)
        errors = {"error": float(off.max() / (np.abs(self._right).max() or 1.0))}
        if contestant.variant:
            errors["error_of_bound"] = float((off / self._bound(contestant.variant)).max())
            if not errors["error_of_bound"] <= 1.0:
                raise WrongResultError(f"off by {errors['error_of_bound']:.1e} times its bound")
        elif not errors["error"] < TOLERANCE:  # nor is NaN
            raise WrongResultError(f"wrong result: off by {errors['error']:.1e}")
        return errors

    def _bound(self, variant: str) -> NDArray[np.float64]:
        weights = self._weights
        if weights.shape == self._layer.weight_shape:
            weights = kernels.transform_weights(weights, variant)
        return kernels.error_bound(self._x, weights, self._shape, variant)


@dataclass
class _Times:
    calls: list[float] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)


def _timed(contestant: Contestant) -> float:
    start = time.perf_counter()
    told = contestant.call()
    taken = time.perf_counter() - start
    return taken if told is None else told


def race(
    contestants: Sequence[Contestant], *, isa: str, seconds: float, seed: int
) -> dict[str, Any]:
    """Time everybody in turns.

    Each turn begins with a call that is not timed: the one before left its data in the caches.

    Parameters
    ----------
    isa : str
        Whose roofs are measured, once a round.
    seconds : float
        Rounds go on for about so long, within ``LEAST_ROUNDS`` and ``MOST_ROUNDS``.
    seed : int
        Of the order in a round.

    Returns
    -------
    dict
        ``rounds``, ``roofs_flop_per_s`` (one thread; median over rounds) and ``entries``.
    """
    order = np.random.default_rng(seed)
    times = [_Times() for _ in contestants]
    repeats = [_repeats(contestant) for contestant in contestants]
    quiet = QUIET_SECONDS if any(c.threads > 1 for c in contestants) else 0.0
    roofs: dict[str, list[float]] = {"aligned": [], "unaligned": [], "registers": []}
    begin, rounds = time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() - begin < seconds):
        rounds += 1
        for name, value in _roofs(isa).items():
            roofs[name].append(value)
        for i in order.permutation(len(contestants)):
            time.sleep(quiet)
            _turn(contestants[i], times[i], repeats[i])
    return {
        "rounds": rounds,
        "roofs_flop_per_s": {name: statistics.median(values) for name, values in roofs.items()},
        "entries": [_entry(c, t) for c, t in zip(contestants, times, strict=True)],
    }


def _roofs(isa: str) -> dict[str, float]:
    """What this core can do now: multiply-adds that load, and that do not."""
    return {
        "aligned": max(kernels.load_roof(isa) for _ in range(3)),
        "unaligned": max(kernels.load_roof(isa, aligned=False) for _ in range(3)),
        "registers": max(kernels.multiply_add_roof(isa, steps=20_000) for _ in range(3)),
    }


def _repeats(contestant: Contestant) -> int:
    quickest = min(_timed(contestant) for _ in range(2))
    return max(1, min(CALLS_IN_TURN, round(TURN_SECONDS / max(quickest, 1e-7))))


def _turn(contestant: Contestant, times: _Times, repeats: int) -> None:
    contestant.call()
    for _ in range(repeats):
        times.calls.append(_timed(contestant))
        if contestant.phases is not None:
            times.phases.append(contestant.phases())


def _entry(contestant: Contestant, times: _Times) -> dict[str, Any]:
    low, high = np.percentile(times.calls, (5, 95))
    entry = {
        "name": contestant.name,
        "kind": contestant.kind,
        "pattern": contestant.pattern,
        "threads": contestant.threads,
        "calls": len(times.calls),
        "median_s": statistics.median(times.calls),
        "best_s": min(times.calls),
        "low_s": float(low),
        "high_s": float(high),
        **contestant.notes,
    }
    if times.phases:
        entry["phases_s"] = {
            name: statistics.median(phases[name] for phases in times.phases)
            for name in times.phases[0]
        }
    return entry
