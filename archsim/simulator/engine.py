"""A plan in time: threads take their tiles one after the other, one event per tile.

Each core is a SimPy resource that its hardware threads take turns on; a tile holds its core for
its in-core cycles.  Threads that share an image meet at a barrier between phases.  There are no
caches: all data is in L1, so this is the limit that the closed form has without memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import simpy

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
    per_core = ceil(plan.threads / machine.total_cores)
    cores = [simpy.Resource(env) for _ in range(ceil(plan.threads / per_core))]
    cycles = [incore(phase.work, machine, isa).cycles / hertz for phase in plan.phases]
    sharers = plan.threads_per_image
    groups = plan.threads // sharers
    barriers = [_Barrier(env, sharers) for _ in range(groups)]
    turns = ceil(plan.batch / plan.images_per_turn)
    images = [len(range(group, turns, groups)) for group in range(groups)]
    state = _State(env, cycles, np.zeros(len(plan.phases)), np.zeros(len(cores)))
    for thread in range(groups * sharers):
        group = thread // sharers
        if images[group]:
            core = thread // per_core
            tiles = [_tiles(phase, thread, images[group]) for phase in plan.phases]
            env.process(_thread(state, cores[core], core, tiles, images[group], barriers[group]))
    env.run()
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


def _tiles(phase: Phase, thread: int, images: int) -> list[tuple[int, int]]:
    """Return (kind, count) of one image of a thread."""
    row = phase.tiles.count[phase.tiles.thread_class[thread]]
    return [(int(kind), int(row[kind]) // images) for kind in np.flatnonzero(row)]


def _thread(
    state: _State,
    core: simpy.Resource,
    core_index: int,
    phases: list[list[tuple[int, int]]],
    images: int,
    barrier: _Barrier,
) -> Generator[simpy.Event, Any, None]:
    for _ in range(images):
        for index, tiles in enumerate(phases):
            for seconds in _each(tiles, state.seconds_of_kind[index]):
                with core.request() as turn:
                    yield turn
                    yield state.env.timeout(seconds)
                state.phase_seconds[index] += seconds
                state.core_busy[core_index] += seconds
                state.tiles += 1
            yield barrier.wait()


def _each(tiles: list[tuple[int, int]], seconds: Any) -> Iterator[float]:
    for kind, count in tiles:
        for _ in range(count):
            yield float(seconds[kind])
