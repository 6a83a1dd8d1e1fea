"""A plan in time: threads take their tiles one after the other, one event per tile.

Each core is a SimPy resource that its hardware threads take turns on; a tile holds its core for
its in-core cycles.  Threads that share an image meet at a barrier between phases.  There are no
caches: all data is in L1, so this is the limit that the closed form has without memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from archsim.incore import incore
from archsim.machine import Machine
from archsim.plan import Phase, Plan
from archsim.result import PhaseResult


@dataclass(frozen=True, slots=True)
class Simulation:
    """Outcome of a run: seconds, phases, tiles executed, busy share of each core."""

    seconds: float
    phases: tuple[PhaseResult, ...]
    tiles: int
    core_busy: tuple[float, ...]


class _Barrier:
    """All of ``parties`` threads wait until the last one has come."""

    def __init__(self, env: simpy.Environment, parties: int) -> None:
        self._env, self._parties, self._waiting = env, parties, 0
        self._open = env.event()

    def wait(self) -> simpy.Event:
        self._waiting += 1
        event = self._open
        if self._waiting == self._parties:
            self._waiting, self._open = 0, self._env.event()
            event.succeed()
        return event


def simulate(
    plan: Plan, machine: Machine, *, isa: str | None = None, clock: str = "sustained"
) -> Simulation:
    """Run a plan on a machine.

    Parameters
    ----------
    plan : Plan
        Made for this machine's target.
    machine : Machine
    isa : str, optional
        Instruction set (default: the one of the plan's target).
    clock : {"sustained", "nominal"}
    """
    isa = isa or plan.target.isa
    hertz = machine.clock_for(isa, clock)
    env = simpy.Environment()
    core_of_thread = plan.core_of_thread(machine.total_cores)
    cores = [simpy.Resource(env) for _ in range(int(core_of_thread.max()) + 1)]
    cycles = [incore(phase.work, machine, isa).cycles / hertz for phase in plan.phases]
    state = _State(env, cycles, np.zeros(len(plan.phases)), np.zeros(len(cores)))
    sharers = plan.threads_per_image
    islands = _islands(plan, core_of_thread)
    for island in islands:
        for group in island.groups:
            barrier, turns = _Barrier(env, sharers), _turns(plan, group)
            for thread in range(group * sharers, (group + 1) * sharers):
                core = int(core_of_thread[thread])
                tiles = [_tiles(phase, thread, turns) for phase in plan.phases]
                env.process(_thread(state, cores[core], core, tiles, turns, barrier, island.copies))
    env.run()
    for island in islands:  # cores that did the same were as busy
        for copy in island.core_copies:
            state.core_busy[copy] = state.core_busy[island.cores]
    seconds = float(env.now)
    used = sum(state.phase_seconds) or 1.0
    phases = tuple(
        PhaseResult(phase.name, seconds * float(spent) / used, ("core",))
        for phase, spent in zip(plan.phases, state.phase_seconds, strict=True)
    )
    busy = tuple(float(b) / seconds if seconds else 0.0 for b in state.core_busy)
    return Simulation(seconds, phases, state.tiles, busy)


@dataclass
class _State:
    """What a run adds up; in an object, so that runs do not meet."""

    env: simpy.Environment
    seconds_of_kind: list[Any]
    phase_seconds: Any
    core_busy: Any
    tiles: int = 0


@dataclass(frozen=True, slots=True)
class _Island:
    """Groups of threads that share images, and cores, with each other and with nobody else.

    Islands whose threads do the same have the same timeline: one of them runs, for all.
    """

    groups: list[int]
    cores: list[int]
    core_copies: list[list[int]]

    @property
    def copies(self) -> int:
        """How many islands do the same, this one included."""
        return len(self.core_copies) + 1


def _turns(plan: Plan, group: int) -> int:
    """Return the turns of a group of threads."""
    return len(range(group, plan.turns, plan.threads // plan.threads_per_image))


def _islands(plan: Plan, core_of_thread: NDArray[np.int64]) -> list[_Island]:
    """Return the islands that must run, those of one timeline taken together."""
    sharers = plan.threads_per_image
    groups = [g for g in range(plan.threads // sharers) if _turns(plan, g)]
    cores_of = {g: core_of_thread[g * sharers : (g + 1) * sharers].tolist() for g in groups}
    found: dict[object, _Island] = {}
    for island in _connected(cores_of):
        cores = list(dict.fromkeys(core for group in island for core in cores_of[group]))
        place = {core: index for index, core in enumerate(cores)}
        timeline = tuple(
            (
                _turns(plan, group),
                tuple(place[core] for core in cores_of[group]),
                *(
                    phase.tiles.thread_class[group * sharers : (group + 1) * sharers].tobytes()
                    for phase in plan.phases
                ),
            )
            for group in island
        )
        if timeline in found:
            found[timeline].core_copies.append(cores)
        else:
            found[timeline] = _Island(island, cores, [])
    return list(found.values())


def _connected(cores_of: dict[int, list[int]]) -> list[list[int]]:
    """Cut groups into sets that share no core."""
    island_of_core: dict[int, list[int]] = {}
    for group, cores in cores_of.items():
        merged = [group]
        for other in {id(i): i for c in cores if (i := island_of_core.get(c))}.values():
            merged += other
        merged.sort()
        for member in merged:
            for core in cores_of[member]:
                island_of_core[core] = merged
    return list({id(island): island for island in island_of_core.values()}.values())


def _tiles(phase: Phase, thread: int, turns: int) -> list[tuple[int, int]]:
    """Return (kind, count) of one turn of a thread."""
    row = phase.tiles.count[phase.tiles.thread_class[thread]]
    return [(int(kind), int(row[kind]) // turns) for kind in np.flatnonzero(row)]


def _thread(
    state: _State,
    core: simpy.Resource,
    core_index: int,
    phases: list[list[tuple[int, int]]],
    turns: int,
    barrier: _Barrier,
    copies: int,
) -> Generator[simpy.Event, Any, None]:
    for _ in range(turns):
        for index, tiles in enumerate(phases):
            for seconds in _each(tiles, state.seconds_of_kind[index]):
                with core.request() as turn:
                    yield turn
                    yield state.env.timeout(seconds)
                state.phase_seconds[index] += seconds * copies
                state.core_busy[core_index] += seconds
                state.tiles += copies
            yield barrier.wait()


def _each(tiles: list[tuple[int, int]], seconds: Any) -> Iterator[float]:
    for kind, count in tiles:
        for _ in range(count):
            yield float(seconds[kind])
