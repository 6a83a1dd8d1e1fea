"""Where a plan's threads sit: on as many cores as there are, evenly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from archsim.machine import Machine
from archsim.machineblocks import Cache
from archsim.plan import Counts, Plan, core_of_thread


@dataclass(frozen=True, slots=True)
class Placement:
    """Cores in use, and what a thread may count on of each cache."""

    cores: int  # in use
    capacities: tuple[float, ...]  # bytes of each level that one thread may count on
    sharers: tuple[int, ...]  # threads on one instance of each level


def placement(threads: int, machine: Machine) -> Placement:
    """Return how so many threads sit on a machine."""
    total = machine.total_cores
    cores, per_core = min(threads, total), ceil(threads / total)
    capacities, sharers = [], []
    for cache in machine.caches:
        sharers.append(cores_on(cache, machine, cores) * per_core)
        capacities.append(cache.size_bytes / sharers[-1])
    return Placement(cores, tuple(capacities), tuple(sharers))


def cores_on(cache: Cache, machine: Machine, cores: int) -> int:
    """Return how many of so many cores in use share one instance of a cache."""
    instances = max(1, machine.total_cores // cache.shared_by)
    return min(cache.shared_by, ceil(cores / instances))


@dataclass(frozen=True, slots=True, eq=False)
class Seats:
    """The threads of each core, cores that have the same ones taken together.

    A core of kind ``u`` has the entries from ``starts[u]`` on: ``threads[i]`` threads of class
    ``classes[i]`` each.

    Attributes
    ----------
    classes, threads : ndarray of shape (entries,)
    starts : ndarray of shape (core kinds,)
    cores : ndarray of shape (core kinds,)
        Cores of each kind.
    """

    classes: NDArray[np.int64]
    threads: Counts
    starts: NDArray[np.int64]
    cores: Counts

    def sums(self, per_thread: Counts) -> Counts:
        """Add up over the threads of a core: (..., classes) to (..., core kinds)."""
        taken: Counts = per_thread[..., self.classes] * self.threads
        if len(self.starts) == len(self.classes):  # threads of a core are of one class
            return taken
        found: Counts = np.add.reduceat(taken, self.starts, axis=-1)
        return found

    def longest(self, per_thread: Counts) -> Counts:
        """Take the largest of a core's threads: (..., classes) to (..., core kinds)."""
        taken: Counts = per_thread[..., self.classes] * (self.threads > 0)
        if len(self.starts) == len(self.classes):
            return taken
        found: Counts = np.maximum.reduceat(taken, self.starts, axis=-1)
        return found


def seats(plan: Plan, total_cores: int) -> tuple[Seats, ...]:
    """Return the seats of each phase, the core kinds being the same in all of them."""
    return _seats(
        tuple(phase.tiles.thread_class.tobytes() for phase in plan.phases),
        plan.threads, plan.threads_per_image, total_cores,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _seats(
    classes: tuple[bytes, ...], threads: int, threads_per_image: int, total_cores: int
) -> tuple[Seats, ...]:
    core = core_of_thread(threads, threads_per_image, total_cores)
    cores = min(threads, total_cores)
    order = np.argsort(core, kind="stable")
    first = np.searchsorted(core[order], np.arange(cores))
    column = np.arange(threads) - first[core[order]]
    most = int(column.max()) + 1
    # a row a core: the classes of its threads in each phase, sorted; -1 where there is none
    rows = np.full((cores, len(classes), most), -1, dtype=np.int64)
    for phase, text in enumerate(classes):
        rows[core[order], phase, column] = np.frombuffer(text, dtype=np.int64)[order]
    rows.sort(axis=2)
    kinds, count = np.unique(rows.reshape(cores, -1), axis=0, return_counts=True)
    kinds = kinds.reshape(len(kinds), len(classes), most)
    return tuple(_of_phase(kinds[:, i], count) for i in range(len(classes)))


def _of_phase(kinds: NDArray[np.int64], cores: NDArray[np.int64]) -> Seats:
    # one entry for each run of equal classes, and for each core kind at least one
    begins = np.ones(kinds.shape, dtype=np.bool_)
    begins[:, 1:] = kinds[:, 1:] != kinds[:, :-1]
    places = np.flatnonzero(begins)
    classes = kinds.ravel()[places]
    threads = np.diff(places, append=kinds.size) * (classes >= 0)
    starts = np.searchsorted(places, np.arange(len(kinds)) * kinds.shape[1])
    return Seats(np.maximum(classes, 0), threads.astype(float), starts, cores.astype(float))
