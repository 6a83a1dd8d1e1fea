"""Plans in time: threads take their tiles one after the other, an event per run of equal tiles.

Threads are SimPy processes.  Those of one core take turns on its ports; all of them share caches
and memories (:mod:`archsim.simulator.caches`, :mod:`archsim.simulator.memory`); threads of an
image meet at barriers.  Layers follow each other on the same machine.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final

import simpy

from archsim.errors import input_error
from archsim.machine import Machine
from archsim.plan import Plan
from archsim.simulator.account import outcome
from archsim.simulator.caches import STARTS, Start
from archsim.simulator.core import PORTS, Cost
from archsim.simulator.layer import LayerRun, Meeting, Settings, ThreadState, stuck
from archsim.simulator.memory import MemoryServer
from archsim.simulator.outcome import Simulation
from archsim.simulator.scenario import Conditions, Scenario, SpeedProfile
from archsim.simulator.schedule import TAKES, Run, Take
from archsim.simulator.timeline import Recorder

EVENTS: Final = 16_384  # runs that a plan is cut into by default: tiles beyond that go together
_SAME: Final = 1e-9  # demands that differ by less are not booked anew
_Events = Generator[simpy.Event, Any, None]


def simulate(plan: Plan, machine: Machine, **settings: Any) -> Simulation:
    """Run one plan on a machine; settings as in :func:`simulate_all`."""
    return simulate_all([plan], machine, **settings)[0]


def simulate_all(
    plans: Sequence[Plan],
    machine: Machine,
    *,
    isa: str | None = None,
    clock: str = "sustained",
    start: Start = "warm",
    take: Take = "plan",
    chunk: int = 1,
    events: int | None = EVENTS,
    scenario: Scenario | None = None,
    recorder: Recorder | None = None,
    linked_start: Start = "chained",
    join_each: bool = True,
) -> tuple[Simulation, ...]:
    """Run plans one after the other on a machine.

    Parameters
    ----------
    plans : sequence of Plan
        Made for this machine's target; all threads meet after each of them.
    isa : str, optional
        Instruction set (default: the one of each plan's target).
    clock : {"sustained", "nominal"}
    start : {"warm", "chained", "cold"}
        What the caches hold when the first plan begins: all that a call before it left (as the
        closed form has it), only its input (and room for its output), or nothing.
    linked_start : {"chained", "warm", "cold"}
        The same for each later plan.
    take : {"plan", "dynamic", "stealing"}
        Who takes which tile: see :mod:`archsim.simulator.schedule`.
    chunk : int
        Units of an image that a thread takes at a time.
    events : int or None
        About as many events for each plan; equal tiles beyond that run as one.  None: one
        event for each tile.
    scenario : Scenario, optional
        What else happens on the machine.
    recorder : Recorder, optional
        Keeps the timeline; holds what was seen so far if the run is interrupted.
    join_each : bool
        Whether the threads meet after every plan, or only after the last.

    Raises
    ------
    InputError
        A plan without tiles, or with too many; a scenario that does not fit the machine.
    SimulationStuckError
        Threads wait for what never comes; the text says who for what.
    """
    _check(plans, (start, linked_start), take, chunk)
    conditions = Conditions.of(scenario, machine)
    settings = Settings(isa, clock, take, chunk, events)
    world = _World(machine, conditions, recorder)
    runs: list[LayerRun] = []
    complete = False
    try:
        for index, plan in enumerate(plans):
            state = start if index == 0 else linked_start
            run = LayerRun(plan, machine, conditions.cores, settings, state)
            runs.append(run)
            world.run(run, join=join_each or index == len(plans) - 1)
        complete = True
    finally:
        world.close(complete=complete)
    return tuple(outcome(run, machine) for run in runs)


def _check(plans: Sequence[Plan], starts: Sequence[str], take: str, chunk: int) -> None:
    for state in starts:
        if state not in STARTS:
            raise input_error("start", "unknown state", found=state, allowed=", ".join(STARTS))
    if take not in TAKES:
        raise input_error("take", "unknown rule", found=take, allowed=", ".join(TAKES))
    if chunk < 1:
        raise input_error("chunk", "must be at least 1", found=chunk)
    if not plans:
        raise input_error("plans", "there is none to simulate")


class _World:
    """The machine in time: clock, ports, memories; in an object, so that runs do not meet."""

    def __init__(self, machine: Machine, conditions: Conditions, recorder: Recorder | None) -> None:
        self.machine, self.conditions, self.recorder = machine, conditions, recorder
        self.env = simpy.Environment()
        ports = 1 + len(PORTS) + sum(cache.overlap == "overlapped" for cache in machine.caches)
        self.free = [[0.0] * ports for _ in range(machine.total_cores)]
        self.servers = [
            [MemoryServer(self.env, self._name(memory.name, socket),
                          memory.bandwidth_bytes_per_s) for socket in range(machine.sockets)]
            for memory in machine.memory
        ]  # fmt: skip
        for memory, servers in zip(machine.memory, self.servers, strict=True):
            for server in servers:
                if recorder is not None:
                    server.meter = recorder
                    recorder.bandwidths[server.name] = server.bandwidth
                steps = conditions.limits(memory)
                if steps:
                    self.env.process(_restrict(self.env, server, steps))

    def _name(self, memory: str, socket: int) -> str:
        return memory if self.machine.sockets == 1 else f"{memory} of socket {socket}"

    def run(self, layer: LayerRun, *, join: bool) -> None:
        """Run one layer from now on until its last thread is done."""
        env = self.env
        layer.begin(env, self.servers, self.conditions.off_from)
        if self.recorder is not None:
            self.recorder.begin(layer, env.now)
        for thread in layer.threads:
            env.process(self._thread(layer, thread))
        while layer.left and env.peek() != float("inf"):
            env.step()
        if layer.left or layer.schedule.left():
            raise stuck(layer, env.now)
        barrier = layer.join_seconds if join else 0.0
        if barrier:
            env.run(until=env.now + barrier)
        layer.finish(env.now, barrier)

    def close(self, *, complete: bool) -> None:
        """Book what memories served until now."""
        for servers in self.servers:
            for server in servers:
                server.advance()
        if self.recorder is not None:
            self.recorder.end(self.env.now, complete=complete)

    def _thread(self, layer: LayerRun, me: ThreadState) -> _Events:
        """Go through the turns and phases of one thread."""
        schedule, first = layer.schedule, True
        for turn in schedule.turns(me.thread, lambda: self.env.now < me.off_from):
            for phase, meets in enumerate(layer.meets):
                if meets:
                    yield from self._meet(layer, me)
                me.phase = phase
                yield from self._phase(layer, me, phase, turn)
                if me.stopped:
                    self._draw(me, 0.0)
                    me.work(self.env.now, -1)
                    return
            if layer.meets_after:
                yield from self._meet(layer, me)
            if first:
                first = me.first_turn = False
                me.forget()
        self._draw(me, 0.0)
        me.work(self.env.now, -1)
        me.done(self.env.now)
        layer.left -= 1

    def _phase(self, layer: LayerRun, me: ThreadState, phase: int, turn: int) -> _Events:
        """Run tiles; the innermost loop of the simulator."""
        env, recorder, server = self.env, self.recorder, me.server
        known, windows, alone = me.known[phase], me.windows, me.alone
        free, busy, speed = self.free[me.core], me.busy, self.conditions.speeds.get(me.core)
        runs = layer.schedule.runs(me.thread, phase, turn)
        taking = layer.taking_seconds if layer.schedule.is_taken(phase) else 0.0
        began = me.since_work
        if me.off_from < float("inf"):
            runs = self._while_on(layer, me, phase, runs)
        for kind, count in runs:
            cost = known.get(kind)
            if cost is None:
                cost = known[kind] = me.cost(phase, kind)
            now = env.now
            if windows:
                moved = False
                for window in windows:
                    if window.seen != window.cache.changes:
                        moved |= window.look(now, now - began, cost.touched * count)
                if moved:
                    me.forget()
                    cost = known[kind] = me.cost(phase, kind)
            if speed is not None:
                natural = _hindered(cost, count, now, free, busy, speed) + taking
            elif alone:
                natural = cost.alone * count + taking
                busy[0] += natural
            else:
                natural = _on_ports(cost, count, now, free, busy) + taking
            if cost.drawn > 0.0:
                demand = cost.drawn * count / natural
                if abs(demand - me.drawing) > _SAME * demand:
                    self._draw(me, demand)
                if server.speed == 1.0:
                    lag = server.lag
                    yield env.timeout(natural)
                    if server.speed != 1.0 or server.lag != lag:
                        server.advance()
                        goal = now - lag + natural
                        if env.now - server.lag < goal - 1e-12 * env.now:
                            yield server.until(goal)
                else:
                    server.advance()
                    yield server.until(now - server.lag + natural)
                stall = env.now - now - natural
                cost.stall += stall
                me.stalled += stall
            else:
                if me.drawing:
                    self._draw(me, 0.0)
                yield env.timeout(natural)
            cost.tiles += count
            cost.seconds += natural
            me.working += natural
            me.alone_seconds += cost.alone * count
            me.runs += 1
            me.kind = kind
            if recorder is not None:
                recorder.run(me, phase, kind, count, now, env.now)

    def _while_on(
        self, layer: LayerRun, me: ThreadState, phase: int, runs: Iterable[Run]
    ) -> Iterator[Run]:
        """Yield runs until the core goes off; what is the thread's own then stays undone."""
        left = iter(runs)
        if layer.schedule.whole_turns:
            yield from left
        while self.env.now < me.off_from:
            run = next(left, None)
            if run is None:
                return
            yield run
        if not layer.schedule.is_taken(phase):
            undone = sum(count for _, count in left)
            name = layer.plan.phases[phase].name
            if undone:
                me.stopped = f"core {me.core} is off, {undone} tiles of {name} are its own"

    def _draw(self, me: ThreadState, demand: float) -> None:
        """Let a thread draw on memory at another rate."""
        flows = (demand > 0.0) - (me.drawing > 0.0)
        if flows or demand != me.drawing:
            me.server.change(demand - me.drawing, flows)
            me.drawing = demand

    def _meet(self, layer: LayerRun, me: ThreadState) -> _Events:
        """Wait for all threads of the image."""
        self._draw(me, 0.0)
        meeting: Meeting = me.meeting
        me.came = self.env.now
        me.work(me.came, -1)
        if meeting.all_here(me):
            if layer.barrier_seconds:
                yield self.env.timeout(layer.barrier_seconds)
            link = meeting.open(self.env, me)
        else:
            link = yield meeting.opened
        me.leave(self.env.now, link)
        me.work(self.env.now, 1)


def _on_ports(cost: Cost, count: float, now: float, free: list[float], busy: list[float]) -> float:
    """Seconds of a run on a core whose ports other threads use as well, first come first served."""
    end = now + cost.chain * count
    for port, seconds in cost.ports:
        seconds *= count
        begin = free[port]
        if begin < now:
            begin = now
        begin += seconds
        free[port] = begin
        busy[port] += seconds
        if begin > end:
            end = begin
    return end - now + cost.wait * count


def _hindered(
    cost: Cost, count: float, now: float, free: list[float], busy: list[float], speed: SpeedProfile
) -> float:
    """Seconds of a run on a core whose clock changes; its links slow down with it."""
    end = speed.finish(now, cost.chain * count)
    for port, seconds in cost.ports:
        begin = max(free[port], now)
        free[port] = speed.finish(begin, seconds * count)
        busy[port] += free[port] - begin
        end = max(end, free[port])
    return speed.finish(end, cost.wait * count) - now


def _restrict(
    env: simpy.Environment, server: MemoryServer, steps: Sequence[tuple[float, float]]
) -> _Events:
    """Change what others leave of a memory, at its times."""
    for at, limit in steps:
        if at > env.now:
            yield env.timeout(at - env.now)
        server.restrict(limit)
