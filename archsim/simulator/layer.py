"""One plan as the engine runs it: its threads, and where they meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2

import numpy as np
import simpy

from archsim.errors import ArchsimError
from archsim.machine import Machine
from archsim.plan import Plan
from archsim.simulator.caches import CacheInstance, Seats, Start, Window
from archsim.simulator.core import Cost, phase_costs
from archsim.simulator.memory import MemoryServer, home_of
from archsim.simulator.schedule import Schedule, Take


class SimulationStuckError(ArchsimError):
    """Threads wait for what never comes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller asks of every plan."""

    isa: str | None
    clock: str
    take: Take
    chunk: int
    events: int | None


class Link:
    """A stretch of time that somebody had to wait for, and what came before it."""

    __slots__ = ("before", "end", "kind", "length", "phase", "start", "thread")

    def __init__(self, before: Link | None, me: ThreadState, end: float) -> None:
        self.before, self.thread, self.phase, self.kind = before, me.thread, me.phase, me.kind
        self.start, self.end = me.since, end
        self.length: int = 1 + (before.length if before else 0)


class Meeting:
    """A barrier: all its threads wait until the last one has come."""

    def __init__(self, env: simpy.Environment, group: int, threads: range) -> None:
        self.group, self.threads = group, threads
        self.here: set[int] = set()
        self.opened = env.event()

    def all_here(self, me: ThreadState) -> bool:
        """Come; tell whether this is the last one."""
        self.here.add(me.thread)
        return len(self.here) == len(self.threads)

    def open(self, env: simpy.Environment, last: ThreadState) -> Link:
        """Let everybody go on."""
        opened, self.opened = self.opened, env.event()
        self.here.clear()
        link = Link(last.path, last, last.came)
        opened.succeed(link)
        return link


class ThreadState:
    """One hardware thread within a layer."""

    def __init__(self, layer: LayerRun, thread: int, alone: bool) -> None:
        seats = layer.seats
        self.layer, self.thread, self.alone = layer, thread, alone
        self.core = int(seats.core[thread])
        self.sharers = [int(n) for n in seats.sharers[:, thread]]
        self.phase = self.kind = 0
        self.first_turn = True
        self.known: list[dict[int, Cost]] = [{} for _ in layer.costs]
        self.windows: list[Window] = []
        self.ratios = [1.0] * len(self.sharers)
        self.drawing = 0.0
        self.runs = self.meets = 0
        self.off_from = float("inf")
        self.working = self.alone_seconds = self.stalled = self.waiting = 0.0
        self.since = self.came = self.end = self.since_work = 0.0
        self.path: Link | None = None
        self.stopped = ""
        self.finished = False
        self.server: MemoryServer
        self.busy: list[float]
        self.meeting: Meeting

    def cost(self, phase: int, kind: int) -> Cost:
        """Return what a tile costs now, with the caches as crowded as they are."""
        costs, ratios = self.layer.costs[phase], self.ratios
        for window in self.windows:
            ratios[window.level] = window.ratio
        crowding = [
            costs.traffic.crowding(kind, level, ratio, sharers)
            for level, (ratio, sharers) in enumerate(zip(ratios, self.sharers, strict=True))
        ]
        key = (kind, self.first_turn, *self.sharers, *crowding)
        found = costs.found.get(key)
        if found is None:
            found = costs.found[key] = costs.cost(
                kind, ratios, self.sharers, self.first_turn, self.layer.start
            )
        return found

    def forget(self) -> None:
        """Look costs up anew: caches are fuller or emptier than they were."""
        for known in self.known:
            known.clear()

    def work(self, now: float, threads: int) -> None:
        """Go to work on the caches (1) or leave (-1)."""
        for window in self.windows:
            window.cache.change(now, threads)

    def leave(self, now: float, link: Link | None) -> None:
        """Go on from a barrier."""
        self.waiting += now - self.came
        self.meets += 1
        self.since, self.path = now, link
        self.since_work = self.layer.began + self.waiting

    def done(self, now: float) -> None:
        """Have no work left."""
        self.end, self.finished = now, True
        self.path = Link(self.path, self, now)


class LayerRun:
    """A plan on its way through the simulator."""

    def __init__(
        self, plan: Plan, machine: Machine, cores: tuple[int, ...], settings: Settings, start: Start
    ) -> None:
        isa = settings.isa or plan.target.isa
        hertz = machine.clock_for(isa, settings.clock)
        self.plan, self.start = plan, start
        self.costs = phase_costs(plan, machine, isa, hertz)
        self.seats = Seats.of(plan, machine, cores)
        self.schedule = Schedule(
            plan, take=settings.take, chunk=settings.chunk, events=settings.events,
            shared_cores=int(np.bincount(self.seats.core).max()) > 1,
        )  # fmt: skip
        self.home = home_of(plan, machine)
        sharers = plan.threads_per_image
        self.meets = tuple(phase.barriers > 0 and sharers > 1 for phase in plan.phases)
        turns = -(-plan.turns * sharers // plan.threads)
        # a second barrier in each turn keeps the next turn from overwriting what is still read
        self.meets_after = any(phase.barriers > turns for phase in plan.phases) and sharers > 1
        # a tree over fewer threads is so much flatter
        share = log2(sharers) / log2(max(2, machine.total_threads)) if sharers > 1 else 0.0
        self.barrier_seconds = min(share, 1.0) * machine.barrier_cycles / hertz
        self.join_seconds = machine.barrier_cycles / hertz if plan.threads > 1 else 0.0
        # the queue's counter moves from core to core through the last cache
        self.taking_seconds = machine.caches[-1].latency_cycles / hertz
        self.threads: list[ThreadState] = []
        self.left = 0
        self.began = self.ended = self.joined = 0.0
        self.served: list[tuple[MemoryServer, float, float]] = []

    def begin(
        self,
        env: simpy.Environment,
        servers: list[list[MemoryServer]],
        off_from: Mapping[int, float],
    ) -> None:
        """Seat the threads."""
        self.began = env.now
        sharers, active = self.plan.threads_per_image, self.schedule.active_threads()
        meetings = {
            group: Meeting(env, group, range(group * sharers, (group + 1) * sharers))
            for group in {thread // sharers for thread in active}
        }
        on_core: dict[int, int] = {}
        for thread in active:
            core = int(self.seats.core[thread])
            on_core[core] = on_core.get(core, 0) + 1
        busy = {core: [0.0] * 16 for core in on_core}
        caches: dict[tuple[int, int], CacheInstance] = {}
        for thread in active:
            core = int(self.seats.core[thread])
            me = ThreadState(self, thread, on_core[core] == 1)
            me.since = me.since_work = env.now
            me.off_from = off_from.get(core, float("inf"))
            me.busy, me.meeting = busy[core], meetings[thread // sharers]
            me.server = servers[self.home][int(self.seats.socket[thread])]
            for level, threads in enumerate(me.sharers):
                me.ratios[level] = float(threads)
                if threads > 1:
                    place = (level, int(self.seats.instance[level, thread]))
                    cache = caches.setdefault(place, CacheInstance())
                    capacity = self.costs[0].traffic.capacity[level]
                    me.windows.append(Window(level, capacity, cache, threads))
            me.work(env.now, 1)
            self.threads.append(me)
        for me in self.threads:
            for window in me.windows:
                window.begin(env.now, 0.0)
        self.left = len(self.threads)
        for server in servers[self.home]:
            server.advance()
            self.served.append((server, server.served_bytes, server.slow_seconds))

    def finish(self, now: float, join: float) -> None:
        """Note the end; memories are as they are now."""
        self.ended, self.joined = now, join
        used = []
        for server, served, slow in self.served:
            server.advance()
            used.append((server, server.served_bytes - served, server.slow_seconds - slow))
        self.served = used


def stuck(layer: LayerRun, now: float) -> SimulationStuckError:
    """Say who waits for whom."""
    stopped = [f"thread {me.thread}: {me.stopped}" for me in layer.threads if me.stopped]
    meetings = {id(me.meeting): me.meeting for me in layer.threads if not me.finished}
    waits = []
    for meeting in meetings.values():
        absent = sorted(set(meeting.threads) - meeting.here)
        if meeting.here and absent:
            waits.append(
                f"{len(meeting.here)} threads wait at the barrier of group {meeting.group} for "
                f"thread {', '.join(map(str, absent[:4]))}{'...' if len(absent) > 4 else ''}"
            )
    if not stopped and layer.schedule.left():
        stopped = [f"{layer.schedule.left()} parts are left that nobody takes"]
    return SimulationStuckError(
        f"the simulation of {layer.plan.layer.name} can make no progress after {now:.6g} s: "
        + "; ".join([*waits[:4], *stopped[:4]])
    )
