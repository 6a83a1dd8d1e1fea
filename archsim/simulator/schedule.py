"""Who takes which tile: the parts that the plan gives out, or parts that threads take.

``plan`` is what the native driver does: images in turn over groups of threads, each thread its
own part of the units, or, with the partition ``dynamic``, the next part that is left.  ``dynamic``
and ``stealing`` ask what another scheduler would do: threads (or, where each thread has images of
its own, threads with whole images) take the next chunk from one queue; or everybody starts with
his own part, and who has none left takes half of what the busiest has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import input_error
from archsim.plan import Phase, Plan

Take = Literal["plan", "dynamic", "stealing"]
TAKES: Final = ("plan", "dynamic", "stealing")
Run = tuple[int, float]  # kind, tiles; a slice of a large tile is a part of one

#: Hardware threads of a core alternate far more often than once a tile.  Where a thread has few
#: tiles in a phase they are cut into slices, so that it has about so many turns on the ports.
_TURNS: Final = 8

MOST_EVENTS: Final = 20_000_000


class Schedule:
    """Gives out turns (images, or vectors of them) to groups, and tiles to their threads.

    ``grain`` is the most tiles that one event stands for, per phase; ``runs`` the events that
    there will be.
    """

    def __init__(
        self, plan: Plan, *, take: Take, chunk: int, events: int | None, shared_cores: bool
    ) -> None:
        self.plan, self.take, self.chunk = plan, take, chunk
        self.sharers = plan.threads_per_image
        self.groups = plan.threads // self.sharers
        total = sum(int(phase.tiles.total.sum()) for phase in plan.phases)
        if total == 0:
            raise input_error(f"plan of {plan.layer.name}", "has no tiles: nothing to simulate")
        self._slices = shared_cores
        self.grain = 1 if events is None else max(1, -(-total // events))
        self.rows = [self._rows(phase) for phase in plan.phases]
        self._check(total)
        parts = plan.blocking.get("partition") == "dynamic" and len(plan.part_ptr) > 2
        self._shared = [
            phase.name == "products" and self.sharers > 1 and (take != "plan" or parts)
            for phase in plan.phases
        ]
        self.whole_turns = self.sharers == 1 and take != "plan"
        self._turns_left = plan.turns if self.whole_turns else 0
        self._queues: dict[tuple[int, int, int], deque[list[Run]]] = {}
        self._own: dict[tuple[int, int, int], list[deque[list[Run]]]] = {}
        self._static: dict[tuple[int, int], list[Run]] = {}

    def _rows(self, phase: Phase) -> list[NDArray[np.int64] | None]:
        """Tiles of each kind that each thread runs in one turn, None where it has none."""
        tiles, rows = phase.tiles, list[NDArray[np.int64] | None]()
        for thread in range(self.groups * self.sharers):
            of_class = int(tiles.thread_class[thread])
            turns = len(range(thread // self.sharers, self.plan.turns, self.groups))
            rows.append(tiles.count[of_class] // turns if of_class >= 0 and turns else None)
        return rows

    def _check(self, total: int) -> None:
        turns = self.plan.turns
        least = sum(
            int(np.count_nonzero(row)) * -(-turns // self.groups)
            for rows in self.rows
            for row in rows
            if row is not None
        )
        runs = max(least, total // self.grain)
        if runs > MOST_EVENTS:
            raise input_error(
                f"plan of {self.plan.layer.name}", "has too many tiles to simulate one by one",
                found=runs, allowed=f"{MOST_EVENTS}; a smaller batch has fewer",
            )  # fmt: skip

    def active_threads(self) -> list[int]:
        """Return the threads that have work."""
        return list(range(min(self.groups, self.plan.turns) * self.sharers))

    def turns(self, thread: int, goes_on: Callable[[], bool]) -> Iterator[int]:
        """Yield the turns of a thread; all threads of a group get the same ones.

        Whoever takes turns from the queue does so while he ``goes_on``.
        """
        if not self.whole_turns:
            yield from range(thread // self.sharers, self.plan.turns, self.groups)
            return
        # image after image from one queue, whether taken or stolen: an image is a chunk
        while self._turns_left and goes_on():
            self._turns_left -= 1
            yield self.plan.turns - self._turns_left - 1

    def runs(self, thread: int, phase: int, turn: int) -> Iterable[Run]:
        """Return what a thread runs of a phase in a turn; a list, or taken as one goes on."""
        if self._shared[phase]:
            return self._taken(thread, phase, turn)
        if self.whole_turns:
            thread = 0  # every image has the same tiles
        found = self._static.get((thread, phase))
        if found is None:
            row = self.rows[phase][thread]
            found = [] if row is None else self._cut(row)
            self._static[thread, phase] = found
        return found

    def is_taken(self, phase: int) -> bool:
        """Whether threads take the parts of a phase as they go on."""
        return self._shared[phase]

    def left(self) -> int:
        """Return how many parts nobody took."""
        queues = sum(len(queue) for queue in self._queues.values())
        return (
            self._turns_left
            + queues
            + sum(len(queue) for own in self._own.values() for queue in own)
        )

    def _cut(self, row: NDArray[np.int64]) -> list[Run]:
        """Return the runs of a row of counts: of up to a grain, or slices of tiles."""
        found: list[Run] = []
        slices = 1
        tiles = int(row.sum())
        while self._slices and 0 < tiles * slices < _TURNS:
            slices *= 2  # powers of two add up to whole tiles exactly
        for kind in np.flatnonzero(row):
            if slices > 1:
                found += [(int(kind), 1.0 / slices)] * (slices * int(row[kind]))
                continue
            whole, rest = divmod(int(row[kind]), self.grain)
            found += [(int(kind), self.grain)] * whole + [(int(kind), rest)] * (rest > 0)
        return found

    def _units(self, phase: int) -> NDArray[np.int64]:
        """Return the kind of each unit of an image, in the order of the output channels."""
        rows = self.rows[phase]
        first = next(i for i in range(0, len(rows), self.sharers) if rows[i] is not None)
        ranks = [row for row in rows[first : first + self.sharers] if row is not None]
        total = np.sum(ranks, axis=0)
        return np.repeat(np.arange(len(total)), total)

    def _parts(self, phase: int) -> list[list[Run]]:
        units = self._units(phase)
        if self.take == "plan":
            cuts = list(self.plan.part_ptr)
            if cuts[-1] != len(units):  # units of the plan are not tiles here: as many parts
                cuts = [len(units) * cut // cuts[-1] for cut in cuts]
        else:
            cuts = [*range(0, len(units), self.chunk), len(units)]
        return [
            [(int(kind), len(list(same))) for kind, same in groupby(units[a:b])]
            for a, b in pairwise(cuts)
            if b > a
        ]

    def _taken(self, thread: int, phase: int, turn: int) -> Iterator[Run]:
        key = (thread // self.sharers, phase, turn)
        if self.take == "stealing":
            yield from self._stolen(thread, key)
            return
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque(self._parts(phase))
        while queue:
            yield from queue.popleft()

    def _stolen(self, thread: int, key: tuple[int, int, int]) -> Iterator[Run]:
        own = self._own.get(key)
        if own is None:
            parts = self._parts(key[1])
            cuts = [len(parts) * rank // self.sharers for rank in range(self.sharers + 1)]
            own = self._own[key] = [deque(parts[a:b]) for a, b in pairwise(cuts)]
        mine = own[thread % self.sharers]
        while True:
            while mine:
                yield from mine.popleft()
            victim = max(own, key=len)
            if not victim:
                return
            mine.extend([victim.pop() for _ in range(-(-len(victim) // 2))][::-1])
