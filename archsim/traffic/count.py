"""Count what moves between the levels: scripts replayed by the threads that share a cache.

Replayed are the threads of the largest cache that few threads share (a core, a tile, a module);
levels beyond it have as many sets as is their share.  Of arrays that more threads read than are
replayed such a level holds a share of the lines; the others are found there, because another
reader has fetched them.  Pictures are warm as the closed form has it: before the turn that is
counted, the input and the output of every other turn of the thread were touched once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.kernels.replay import (
    ELSEWHERE,
    MOST_THREADS,
    SEGMENT,
    UPDATE,
    WRITE,
    Caches,
    Level,
    Moved,
    Segments,
    Steps,
    Walk,
)
from archsim.machine import Machine
from archsim.plan import PHASES, Phase, Plan
from archsim.traffic.script import Array, Script, touches

Counts = NDArray[np.float64]

#: most threads that are replayed, unless a first level has more
_FEW: Final = 8
_PAGE: Final = 4096  # arrays begin here, and a line later than the array before


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes per tile of each phase over each boundary, by kind; and in all, by array.

    Attributes
    ----------
    phases : mapping of a phase's name to (read, written), each of shape (boundaries, kinds)
    arrays : mapping of an array's name to (read, written) bytes of one turn of one thread, each
        of shape (boundaries,)
    touched : lines that a thread touches in a turn
    """

    phases: dict[str, tuple[Counts, Counts]]
    arrays: dict[str, tuple[Counts, Counts]]
    touched: float


@dataclass(frozen=True, slots=True)
class Together:
    """The replayed threads, and where they live."""

    ranks: tuple[int, ...]  # of each replayed thread among those of its image
    groups: tuple[int, ...]  # which image it works on
    sharers: tuple[int, ...]  # threads on one instance of each level
    own: int  # levels that are not cut to the share of the replayed threads
    first_shared: int  # the first level where threads beyond the replayed ones leave data

    @property
    def threads(self) -> int:
        return len(self.ranks)

    def instances(self, level: int) -> list[int]:
        """Return the instance of a level that each replayed thread uses."""
        return [thread // self.sharers[level] for thread in range(self.threads)]


def threads_of(plan: Plan, machine: Machine) -> Together:
    """Return who is replayed: the threads of the outermost cache that few threads share."""
    cores = min(plan.threads, machine.total_cores)
    per_core = ceil(plan.threads / machine.total_cores)
    sharers = []
    for cache in machine.caches:
        instances = max(1, machine.total_cores // cache.shared_by)
        sharers.append(min(cache.shared_by, ceil(cores / instances)) * per_core)
    few = [level for level, count in enumerate(sharers) if count <= _FEW]
    own = max(few, default=0)
    count = min(sharers[own], MOST_THREADS)
    # beyond it, a level that has no more sharers is theirs too
    levels = 1 + max(level for level, n in enumerate(sharers) if n <= sharers[own])
    team = plan.threads_per_image
    return Together(
        ranks=tuple(thread % team for thread in range(count)),
        groups=tuple(thread // team for thread in range(count)),
        sharers=tuple(sharers),
        own=levels,
        first_shared=next(
            (
                level
                for level, cache in enumerate(machine.caches)
                if cache.shared_by * per_core > count
            ),
            len(machine.caches),
        ),
    )


def own_share(array: Array, team: int, together: Together, level: int) -> float:
    """Return the part of an array's lines that a level, cut to the replayed threads, holds."""
    here, all_here = together.threads, together.sharers[level]
    if level < together.own or array.shared == "no" or all_here <= here:
        return 1.0
    if array.shared == "part":  # a copy for each part
        copies, replayed = min(team, all_here), min(team, here)
    else:  # a copy for each image
        copies, replayed = ceil(all_here / team), ceil(here / team)
    return min(1.0, copies / replayed * here / all_here)


def caches(script: Script, plan: Plan, machine: Machine, together: Together) -> Caches:
    """Return the machine's levels, those beyond the replayed threads cut to their share."""
    levels = []
    for index, cache in enumerate(machine.caches):
        sets = cache.size_bytes / cache.line_bytes / cache.ways
        if index >= together.own:
            sets *= min(1.0, together.threads / together.sharers[index])
            instance = [0] * together.threads
        else:
            instance = together.instances(index)
        team = plan.threads_per_image
        share = [own_share(array, team, together, index) for array in script.arrays]
        levels.append(Level(max(1, round(sets)), int(cache.ways), instance, share))
    several = plan.threads_per_image > 1
    written = [
        i
        for i, array in enumerate(script.arrays)
        if several and array.owner == "group" and array.shared == "image"
    ]
    return Caches(
        levels,
        line_bytes=int(machine.caches[0].line_bytes),
        write_allocate=all(memory.write_allocate for memory in machine.memory),
        first_shared=together.first_shared,
        together=written,
    )


class _Places:
    """Where each thread's arrays begin: bases of shape (arrays,), by turn."""

    def __init__(self, script: Script, together: Together, turns: int) -> None:
        self._arrays, self._together, self._turns = script.arrays, together, turns
        self._begin: dict[tuple[int, int, int], int] = {}
        self._end = [0] * len(script.arrays)

    def base(self, thread: int, turn: int) -> NDArray[np.int64]:
        """Return where the arrays of a thread begin in a turn."""
        found = np.zeros(len(self._arrays), dtype=np.int64)
        for index, array in enumerate(self._arrays):
            group = self._together.groups[thread]
            key = {
                "layer": (index, 0, 0),
                "turn": (index, group, turn),
                "group": (index, group, 0),
                "thread": (index, thread, 0),
            }[array.owner]
            if key not in self._begin:
                # every array has an address space of its own: only sets and offsets matter
                self._begin[key] = self._end[index] + 64 * 37 * index % _PAGE
                size = array.size + _PAGE + 64 * 5
                self._end[index] += -(-size // _PAGE) * _PAGE
            found[index] = self._begin[key]
        return found

    def beyond(self, index: int) -> int:
        """Return where nothing of an array has begun."""
        return self._end[index] + _PAGE


def count(plan: Plan, machine: Machine, script: Script) -> Counted:
    """Replay a plan's script on a machine's caches and count.

    Parameters
    ----------
    plan : Plan
        With a pattern, where its method knows zeros.
    machine : Machine
    script : Script
        Of this plan.
    """
    together = threads_of(plan, machine)
    state = caches(script, plan, machine, together)
    teams = max(1, plan.threads // plan.threads_per_image)
    turns = max(1, ceil(plan.turns / teams))
    run = _Run(script, plan, together, state, turns)
    outermost = machine.caches[-1].size_bytes * together.threads / together.sharers[-1]
    room = min(outermost, machine.caches[-1].size_bytes)
    moved = run.steady(room)
    line = int(machine.caches[0].line_bytes)
    phases = {
        phase.name: _per_tile(phase, plan, together, moved, line, turns) for phase in plan.phases
    }
    return Counted(phases, _by_array(script, moved, line), float(moved.touched.mean()))


class _Run:
    """Turns of a script, one after the other."""

    def __init__(
        self, script: Script, plan: Plan, together: Together, state: Caches, turns: int
    ) -> None:
        self.script, self.plan, self.together = script, plan, together
        self.state, self.turns = state, turns
        self.steps = Steps(script.steps)
        self.places = _Places(script, together, turns)

    def steady(self, room: float) -> Moved:
        """Return what a turn moves when the same batch comes again and again.

        ``room`` is the capacity of the outermost level.
        """
        pictures = sum(array.size for array in self.script.arrays if array.owner == "turn")
        held = pictures * self.together.threads / self.plan.threads_per_image
        if self.turns > 2 and held * (self.turns - 1) > 2 * room:
            # no picture of a turn is left when it comes back
            self.age(self.turns - 2, room)
            self.turn(0)
            return self.counted(1)
        self.turn(0)
        if self.turns > 2:
            self.age(self.turns - 2, room)
        if self.turns > 1:
            self.turn(1)
        return self.counted(0)

    def counted(self, turn: int) -> Moved:
        before = self.state.moved()
        self._turn(turn)
        return self.state.moved().since(before)

    def turn(self, turn: int) -> None:
        """Replay one turn of every thread, and what comes between two calls.

        Outputs that were written around the caches are near no more; the next layer reads them.
        """
        self._turn(turn)
        if self.plan.blocking.get("past_caches"):
            ranks = self.plan.threads_per_image
            walks = []
            for thread, rank in enumerate(self.together.ranks):
                index = self.script.place("output")
                each = self.script.arrays[index].size // ranks
                read = touches(index, 0, offset=rank * each, width=each)
                walks.append(Walk(read.reshape(1), self.steps, self.places.base(thread, turn)))
            self.state.run(walks)

    def _turn(self, turn: int) -> None:
        threads = range(self.together.threads)
        bases = [self.places.base(thread, turn) for thread in threads]
        nothing = np.zeros(0, dtype=SEGMENT)
        for stage in self.script.stages:
            if stage.meets:
                self._elsewhere(stage.make, bases)
            ranks = sorted(set(self.together.ranks))
            for step in zip_longest(*(stage.make(rank) for rank in ranks), fillvalue=nothing):
                of_rank = dict(zip(ranks, step, strict=True))
                self.state.run(
                    [
                        Walk(of_rank[rank], self.steps, base)
                        for rank, base in zip(self.together.ranks, bases, strict=True)
                    ]
                )

    def _elsewhere(
        self, make: Callable[[int], Iterator[Segments]], bases: list[NDArray[np.int64]]
    ) -> None:
        """Let the ranks that are not replayed write their parts of what all of them read."""
        shared = [
            i
            for i, array in enumerate(self.script.arrays)
            if array.owner == "group" and array.shared == "image"
        ]
        here = {
            (group, rank)
            for group, rank in zip(self.together.groups, self.together.ranks, strict=True)
        }
        nothing = np.zeros(0, dtype=SEGMENT)
        for group in sorted(set(self.together.groups)):
            thread = self.together.groups.index(group)
            for rank in range(self.plan.threads_per_image):
                if (group, rank) in here:
                    continue
                for segments in make(rank):
                    wrote = np.isin(segments["array"], shared) & np.isin(
                        segments["touch"], (WRITE, UPDATE)
                    )
                    others = segments[wrote].copy()
                    others["touch"] = ELSEWHERE
                    walks = [Walk(nothing, self.steps, base) for base in bases]
                    walks[thread] = Walk(others, self.steps, bases[thread])
                    self.state.run(walks)

    def age(self, turns: int, room: float) -> None:
        """Touch the pictures of other turns, as far as the outermost level remembers them."""
        threads = self.together.threads
        pictures = [i for i, array in enumerate(self.script.arrays) if array.owner == "turn"]
        sizes = [self.script.arrays[i].size * turns / self.plan.threads_per_image for i in pictures]
        total = sum(sizes) * threads
        scale = min(1.0, 2.0 * room / total) if total > 0 else 0.0
        bases = [self.places.base(thread, 0) for thread in range(threads)]
        pieces = max(1, ceil(scale * max(sizes, default=0.0) / _PAGE))
        walks = []
        for thread in range(threads):
            parts = []
            base = bases[thread].copy()
            for index, size in zip(pictures, sizes, strict=True):
                each = ceil(scale * size / pieces / 64) * 64
                base[index] = self.places.beyond(index) + thread * each * pieces
                written = self.script.arrays[index].name == "output"
                parts.append(
                    touches(
                        index, 0, offset=np.arange(pieces) * each, width=each,
                        touch=UPDATE if written else 0,
                    )
                )  # fmt: skip
            if parts:
                walks.append(Walk(np.stack(parts, axis=1).reshape(-1), self.steps, base))
        if walks:
            self.state.run(walks)


def _per_tile(
    phase: Phase, plan: Plan, together: Together, moved: Moved, line: int, turns: int
) -> tuple[Counts, Counts]:
    """Return bytes per tile and kind: the phase's total, spread like its memory operations."""
    names = [p.name for p in plan.phases]
    index = [PHASES.index(phase.name)]
    if phase.name == "products":  # what belongs to a phase that the plan has not
        index += [i for i, name in enumerate(PHASES) if name not in names]
    work = phase.work
    weight = work.loads_aligned + work.loads_unaligned + work.stores + work.gathered
    weight = weight + work.scalar_loads + work.broadcasts
    tiles = _tiles(phase, plan, together, turns)
    if not (tiles @ weight) > 0:
        weight = np.ones_like(weight)
    total = tiles @ weight
    share = weight / total if total > 0 else np.zeros_like(weight)
    read = line * moved.fetched[:, index].sum(axis=(1, 2)).astype(np.float64)
    written = line * moved.written[:, index].sum(axis=(1, 2)).astype(np.float64)
    return read[:, None] * share, written[:, None] * share


def _tiles(phase: Phase, plan: Plan, together: Together, turns: int) -> Counts:
    """Return the tiles of each kind that the replayed threads run in one turn."""
    kinds = phase.tiles.count.shape[1]
    found = np.zeros(kinds)
    for group, rank in zip(together.groups, together.ranks, strict=True):
        del group
        own = int(phase.tiles.thread_class[rank])  # the first threads have the most turns
        if own >= 0:
            found += phase.tiles.count[own] / turns
    del plan
    return found


def _by_array(script: Script, moved: Moved, line: int) -> dict[str, tuple[Counts, Counts]]:
    threads = len(moved.touched)
    found: dict[str, tuple[Counts, Counts]] = {}
    for index, array in enumerate(script.arrays):
        read, written = found.get(array.name, (np.zeros(1), np.zeros(1)))
        found[array.name] = (
            read + line * moved.fetched[:, :, index].sum(axis=1) / threads,
            written + line * moved.written[:, :, index].sum(axis=1) / threads,
        )
    return found
