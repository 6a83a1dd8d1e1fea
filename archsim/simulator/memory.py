"""Memories of the simulator, and what it costs one core to move bytes between levels.

A memory is a server that all tiles of its socket draw on at once: as long as their demands fit
into its bandwidth nobody notices, beyond that all of them slow down alike.
"""

from __future__ import annotations

from functools import partial
from heapq import heappop, heappush
from typing import Any

import simpy

from archsim.machine import Machine
from archsim.machineblocks import Memory
from archsim.network import FLOAT_BYTES
from archsim.plan import Counts, Phase, Plan


def home_of(plan: Plan, machine: Machine) -> int:
    """Return the index of the memory that holds the data: the first one that it fits into."""
    layer = plan.layer
    footprint = plan.batch * (layer.input_bytes + layer.output_bytes) + layer.dense_bytes
    for index, memory in enumerate(machine.memory):
        if memory.size_bytes is None or footprint <= memory.size_bytes:
            return index
    return len(machine.memory) - 1


def link_rates(
    level: int, machine: Machine, home: Memory, hertz: float
) -> tuple[float, float, float]:
    """Return bytes per cycle read and written over a boundary by one core, and cycles per line.

    The last is 0 where transfers are paid by bandwidth; with the rule ``latency`` a line costs
    what the outer level's latency is above the inner one's.
    """
    inner = machine.caches[level]
    if level + 1 < len(machine.caches):
        outer = machine.caches[level + 1]
        read = outer.bandwidth_bytes_per_cycle
        written = outer.write_bytes_per_cycle or read
        latency = outer.latency_cycles
    else:
        # a stated rate of one core holds; without one its misses in flight set it (Little)
        limit = inner.outstanding * inner.line_bytes / home.latency_s
        read = written = (home.core_bandwidth_bytes_per_s or limit) / hertz
        latency = home.latency_s * hertz
    waits = max(0.0, latency - inner.latency_cycles) if inner.overlap == "latency" else 0.0
    return read, written, waits


def core_bytes(phase: Phase, plan: Plan) -> Counts:
    """Bytes per tile between the core and L1."""
    work, width = phase.work, plan.target.lanes * FLOAT_BYTES
    vectors = work.loads_aligned + work.loads_unaligned + work.stores
    total: Counts = (
        vectors * width
        + (work.broadcasts + work.gathered + work.scalar_loads + work.scalar_stores) * FLOAT_BYTES
    )
    return total


class MemoryServer:
    """A memory of one socket: tiles draw on it together, and slow down together.

    ``demand`` is what all tiles that are under way would draw if nothing held them up.  Above
    ``limit`` (the bandwidth less what others take) everybody goes on at the same share of his
    speed.  Progress is counted in unhindered seconds: ``progress`` is real time less ``lag``.
    """

    def __init__(self, env: simpy.Environment, name: str, bandwidth: float) -> None:
        self.env, self.name, self.bandwidth = env, name, bandwidth
        self.limit = bandwidth
        self.demand = 0.0
        self.speed = 1.0
        self.lag = 0.0
        self.served_bytes = 0.0
        self.busiest = 0.0  # greatest demand over limit
        self.slow_seconds = 0.0
        self.flows = 0  # tiles under way that draw
        self.meter: Any = None
        self._then = 0.0
        self._waiting: list[tuple[float, int, simpy.Event]] = []
        self._alarm = float("inf")
        self._count = 0

    def advance(self) -> None:
        """Book what happened since the last change."""
        now = self.env.now
        passed = now - self._then
        if passed > 0.0:
            moved = (self.demand if self.speed == 1.0 else self.limit) * passed
            self.served_bytes += moved
            if self.meter is not None:
                self.meter.memory(self.name, self._then, now, moved)
            if self.speed != 1.0:
                self.lag += passed * (1.0 - self.speed)
                self.slow_seconds += passed
            self._then = now

    def change(self, difference: float, flows: int = 0) -> None:
        """Let a tile begin (more demand) or end (less)."""
        self.advance()
        self.flows += flows
        self.demand = self.demand + difference if self.flows else 0.0
        self._pace()

    def restrict(self, limit: float) -> None:
        """Change what others leave of the bandwidth."""
        self.advance()
        self.limit = limit
        self._pace()

    def until(self, goal: float) -> simpy.Event:
        """Return an event for the time at which progress reaches ``goal``."""
        event = self.env.event()
        self._count += 1
        heappush(self._waiting, (goal, self._count, event))
        self._arm()
        return event

    def _pace(self) -> None:
        demand = self.demand
        if demand > self.limit:
            self.busiest = max(self.busiest, demand / self.limit)
            self.speed = self.limit / demand
        else:
            self.speed = 1.0
        if self._waiting:
            self._arm()

    def _arm(self) -> None:
        """Set the alarm for whoever is due first, unless one that is early enough is set."""
        now = self.env.now
        left = self._waiting[0][0] - (self._then - self.lag)
        due = max(now, self._then + max(0.0, left) / self.speed)
        if due < self._alarm:
            self._alarm = due
            alarm = self.env.timeout(due - now)
            assert alarm.callbacks is not None  # noqa: S101 - just made
            alarm.callbacks.append(partial(self._ring, due))

    def _ring(self, due: float, _alarm: simpy.Event) -> None:
        if due != self._alarm:
            return  # another one was set since
        self._alarm = float("inf")
        self.advance()
        reached = self.env.now - self.lag
        slack = 1e-12 * self.env.now
        while self._waiting and self._waiting[0][0] <= reached + slack:
            heappop(self._waiting)[2].succeed()
        if self._waiting:
            self._arm()
