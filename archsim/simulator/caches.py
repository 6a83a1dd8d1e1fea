"""Caches of the simulator: which bytes of a tile each of them still has.

A block is what one stream of a tile touches.  LRU still has it if no more than the cache holds
came past since its last use: the thread's own bytes, which are the plan's reuse distance, and as
much from each thread that was at work on the same cache meanwhile.  So threads that wait or are
done leave their room to the others, and the last one has a shared cache for itself.  A written
block that does not stay is written back.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.machine import Machine
from archsim.machineblocks import Memory
from archsim.plan import Counts, Phase, Plan

Array = NDArray[np.float64]
Start = Literal["warm", "chained", "cold"]
STARTS: Final = ("warm", "chained", "cold")

#: arrays that a layer gets from the one before it and leaves to the one after it
_PICTURES: Final = ("input", "output")
_MOVED: Final = 1e-3
_NOISE: Final = 1.0 + 1e-9  # a distance that equals a capacity fits


@dataclass(frozen=True, slots=True)
class Seats:
    """Where a plan's threads sit: spread evenly over the cores that are on, so over all caches.

    ``instance[l, t]`` is the cache of level l that thread t is on; ``sharers[l, t]`` counts the
    threads on it.
    """

    core: NDArray[np.int64]  # (threads,)
    socket: NDArray[np.int64]
    instance: NDArray[np.int64]  # (levels, threads)
    sharers: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, machine: Machine, cores: tuple[int, ...]) -> Seats:
        """Seat the threads of ``plan`` on ``cores`` (numbers of those that are on)."""
        seat = plan.core_of_thread(len(cores))
        used = int(seat.max()) + 1
        # of more cores than are needed, every n-th
        core = np.array(cores)[np.arange(used) * len(cores) // used][seat]
        instance = np.stack([core // cache.shared_by for cache in machine.caches])
        sharers = np.stack([np.bincount(row)[row] for row in instance])
        return cls(core, core // machine.cores, instance, sharers)


class CacheInstance:
    """One cache that threads share: how many are at work on it, and that added up over time."""

    __slots__ = ("_sum", "_then", "active", "changes")

    def __init__(self) -> None:
        self.active = self.changes = 0
        self._sum = self._then = 0.0

    def thread_seconds(self, now: float) -> float:
        """Return the sum over the threads of the seconds that each was at work until now."""
        return self._sum + self.active * (now - self._then)

    def change(self, now: float, threads: int) -> None:
        """Let threads come to work (above zero) or leave."""
        self._sum, self._then = self.thread_seconds(now), now
        self.active += threads
        self.changes += 1


class Window:
    """How crowded a shared cache was while one thread touched about as much as it holds.

    ``ratio`` is the mean number of threads at work, this one among them; ``seen`` is the change
    of the cache since when nothing moved, -1 while something does.
    """

    __slots__ = (
        "_began", "_busy_then", "_sum_then", "cache", "capacity", "level", "own", "ratio", "seen",
        "sharers",
    )  # fmt: skip

    def __init__(self, level: int, capacity: float, cache: CacheInstance, sharers: int) -> None:
        self.level, self.capacity, self.cache, self.sharers = level, capacity, cache, sharers
        self.ratio = float(sharers)
        self.own = self._busy_then = self._sum_then = 0.0
        self._began = self.seen = -1

    def begin(self, now: float, busy_seconds: float) -> None:
        """Begin a window; the thread was at work for so long until now."""
        self.own, self._busy_then = 0.0, busy_seconds
        self._sum_then = self.cache.thread_seconds(now)
        self._began, self.seen = self.cache.changes, -1

    def look(self, now: float, busy_seconds: float, touched: float) -> bool:
        """Go on by bytes that the thread is about to touch; tell whether the ratio moved."""
        if self.seen >= 0:  # the first change after a quiet time
            self.begin(now, busy_seconds)
        before = self.ratio
        if self.own * before >= self.capacity:
            busy = busy_seconds - self._busy_then
            quiet = self._began == self.cache.changes
            if quiet or busy > 0.0:
                passed = self.cache.thread_seconds(now) - self._sum_then
                ratio = float(self.cache.active) if quiet else passed / busy
                self.ratio = min(max(1.0, ratio), float(self.sharers))
            self.begin(now, busy_seconds)
            if quiet:
                self.seen = self.cache.changes
        self.own += touched
        return abs(self.ratio - before) > _MOVED * before


class Traffic:
    """Bytes of a tile over each boundary of a phase, by how crowded each cache is.

    Boundary l lies outside cache l.  All arrays end in (rows, kinds); a row is one stream at one
    reuse distance.
    """

    def __init__(self, phase: Phase, plan: Plan, machine: Machine, home: Memory) -> None:
        streams = phase.streams
        rows = [len(stream.bytes) for stream in streams]
        self.moved = np.concatenate([stream.bytes for stream in streams])
        self.distance = np.concatenate([stream.reuse_distance_bytes for stream in streams])
        readers = {
            "no": 1, "image": plan.threads_per_image, "part": plan.threads // plan.threads_per_image
        }  # fmt: skip
        self.readers = np.repeat([readers[stream.shared] for stream in streams], rows)
        self.reads = np.repeat([stream.access != "write" for stream in streams], rows)
        self.writes = np.repeat([stream.access != "read" for stream in streams], rows)
        self.handed = np.repeat([stream.handed for stream in streams], rows)
        self.crossing = np.repeat([stream.crossing for stream in streams], rows)
        self.team = plan.threads_per_image
        self.capacity = [cache.size_bytes for cache in machine.caches]
        self.write_allocate = home.write_allocate
        self.touched: Counts = self.moved.sum(axis=0)
        self.first_use = _first_uses(phase, plan)
        self.pictures = np.repeat([stream.array in _PICTURES for stream in streams], rows)
        self._steps: dict[tuple[int, int, int], list[float]] = {}

    def crowding(self, kind: int, level: int, ratio: float, sharers: int) -> int:
        """Return a number that changes where, with more foreign bytes, one more row misses."""
        steps = self._steps.get((kind, level, sharers))
        if steps is None:
            distance = self.distance[:, kind]
            copies = np.minimum(self.readers, sharers)
            fits = (distance <= self.capacity[level]) & (distance > 0)
            limits = self.capacity[level] * copies[fits] / distance[fits] * _NOISE
            steps = sorted(set(limits.tolist()))
            self._steps[kind, level, sharers] = steps
        return bisect_left(steps, ratio)

    def of(
        self,
        kind: int,
        ratios: list[float],
        sharers: list[int],
        *,
        first_turn: bool,
        start: Start,
    ) -> tuple[Array, Array, float]:
        """Return bytes of a tile read and written back over each boundary, (levels,) each.

        And the bytes that loads across lines bring into L1.

        ``ratios`` is the threads at work on each cache, ``sharers`` those that sit on it.
        """
        distance, moved = self.distance[:, kind], self.moved[:, kind]
        cold = np.zeros(len(moved), dtype=bool)
        if start != "warm":
            cold = self.first_use[:, kind] & (first_turn & ~self.pictures)
        if start == "cold":
            cold |= self.first_use[:, kind] & self.pictures
        read, written, split = np.zeros(len(ratios)), np.zeros(len(ratios)), 0.0
        inside = np.ones(len(moved), dtype=bool)
        for level, (ratio, threads) in enumerate(zip(ratios, sharers, strict=True)):
            copies = np.minimum(self.readers, threads)
            seen = distance * np.maximum(1.0, ratio / copies)
            # what an inner cache still has, nobody asks for outside
            inside &= cold | (seen > self.capacity[level] * _NOISE)
            elsewhere = 1.0 - min(self.team, threads) / self.team
            anew = self.handed * np.where(self.writes, elsewhere > 0.0, elsewhere)
            lines = np.maximum(inside, anew) * moved / copies
            last = level == len(ratios) - 1
            fetched = self.reads if last and not self.write_allocate else self.reads | self.writes
            read[level], written[level] = lines @ fetched, lines @ self.writes
            if level == 0:
                split = float(lines @ (fetched * self.crossing))
        return read, written, split


def _first_uses(phase: Phase, plan: Plan) -> NDArray[np.bool_]:
    """Return which rows touch an array before anything else in a turn did, (rows, kinds).

    Of an array's rows in the first phase that touches it these are the ones of the greatest
    distance; where the phase writes it, the writes.
    """
    before: set[str] = set()
    for other in plan.phases:
        if other is phase:
            break
        before |= {stream.array for stream in other.streams}
    written = {s.array for s in phase.streams if s.access in ("write", "update")}
    far: dict[str, Any] = {}
    for stream in phase.streams:
        if stream.array not in written or stream.access == "write":
            most = stream.reuse_distance_bytes.max(axis=0)
            far[stream.array] = np.maximum(far.get(stream.array, 0.0), most)
    found = []
    for stream in phase.streams:
        first = stream.array not in before and (
            stream.array not in written or stream.access == "write"
        )
        found.append(
            (stream.reuse_distance_bytes == far[stream.array])
            & (stream.bytes > 0)
            & (stream.access != "update")
            if first
            else np.zeros(stream.bytes.shape, dtype=bool)
        )
    return np.concatenate(found)
