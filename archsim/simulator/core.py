"""What a tile costs a core: busy ports, transfers by the machine's overlap rules, waits.

In-core cycles come from :mod:`archsim.incore`, bytes from :mod:`archsim.simulator.caches`.  As
in the closed form, transfers over a boundary add to the core's own loads (``serial``), run
beside everything (``overlapped``), or stop the core for each line (``latency``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from archsim.coherence import with_handed
from archsim.incore import incore
from archsim.machine import Machine
from archsim.plan import Counts, Plan, Work
from archsim.simulator.caches import Start, Traffic
from archsim.simulator.memory import core_bytes, home_of, link_rates

#: beside port 0: loads, serial transfers
PORTS: Final = ("arithmetic", "shuffle", "store", "issue", "scalar")


@dataclass(slots=True)
class Cost:
    """One tile of a kind, caches as crowded as they are: seconds at the machine's clock.

    Attributes
    ----------
    touched : bytes that come past the caches
    ports : (port, busy seconds) of the core; exposed transfers block all of them
    alone : seconds with the core for itself
    chain : seconds that the thread cannot be faster than
    wait : seconds that only this thread waits
    drawn : bytes from and to memory
    read, written : bytes over each boundary, (levels,)
    shares : what the seconds are spent on
    tiles, seconds, stall : how often it ran, for how long, and how long memory held it up besides
    """

    kind: int
    touched: float
    ports: tuple[tuple[int, float], ...]
    alone: float
    chain: float
    wait: float
    drawn: float
    read: Counts
    written: Counts
    shares: dict[str, float]
    tiles: float = 0.0
    seconds: float = 0.0
    stall: float = 0.0


class PhaseCosts:
    """Costs of the tiles of one phase, made when they are first met."""

    def __init__(self, index: int, plan: Plan, machine: Machine, isa: str, hertz: float) -> None:
        phase = plan.phases[index]
        home = machine.memory[home_of(plan, machine)]
        busy = incore(Work(with_handed(phase, plan, machine)), machine, isa)
        self.name = phase.name
        self.traffic = Traffic(phase, plan, machine, home)
        self.core_bytes = core_bytes(phase, plan)
        self.levels = [cache.name for cache in machine.caches[1:]] + [home.name]
        self.found: dict[tuple[int, ...], Cost] = {}
        self._rules = [cache.overlap for cache in machine.caches]
        self._split_miss = machine.core.split_miss_cycles or 0.0
        self._stores_wait = machine.core.store_overlap == "serial"
        self._rates = [
            link_rates(level, machine, home, hertz) for level in range(len(machine.caches))
        ]
        self._line = machine.caches[0].line_bytes
        self._hertz = hertz
        self.load, self._chain, self._stalls = busy.load, busy.latency, busy.stalls
        self.beside = {name: getattr(busy, name) for name in PORTS}
        self.idle_ports: frozenset[int] = frozenset()
        self._hides_stalls = machine.core.threads_hide_stalls

    def transfers(self, level: int, read: float, written: float) -> float:
        """Cycles of one core to move bytes over a boundary."""
        read_rate, write_rate, per_line = self._rates[level]
        cycles = read / self._line * per_line if per_line else read / read_rate
        return cycles + written / write_rate

    def cost(
        self, kind: int, ratios: list[float], sharers: list[int], first_turn: bool, start: Start
    ) -> Cost:
        """Return the cost of a tile; arguments as in :meth:`Traffic.of`."""
        read, written, split = self.traffic.of(
            kind, ratios, sharers, first_turn=first_turn, start=start
        )
        serial = {"load": float(self.load[kind]) + split / self._line * self._split_miss}
        beside = {name: float(cycles[kind]) for name, cycles in self.beside.items()}
        exposed: dict[str, float] = {}
        for level, rule in enumerate(self._rules):
            cycles = self.transfers(level, float(read[level]), float(written[level]))
            if self._stores_wait and rule == "serial":
                beside["store"] += cycles
                cycles = self.transfers(level, float(read[level]), 0.0)
            group = {"serial": serial, "overlapped": beside, "latency": exposed}[rule]
            group[self.levels[level]] = cycles
        chain, stalls = float(self._chain[kind]), float(self._stalls[kind])
        wait = stalls if self._hides_stalls else 0.0
        exposed["mispredict"] = stalls - wait
        blocked = sum(exposed.values())
        ports = [sum(serial.values()), *beside.values()]

        everywhere = (chain + blocked) / self._hertz
        longest = max(beside, key=lambda name: beside[name])
        if chain > beside[longest]:
            longest, beside["latency"] = "latency", chain
        parts = serial if ports[0] >= beside[longest] else {longest: beside[longest]}
        exposed["mispredict"] = stalls
        total = sum(parts.values()) + blocked + wait
        return Cost(
            kind=kind,
            touched=float(self.traffic.touched[kind]),
            ports=tuple(
                (port, (cycles + blocked) / self._hertz)
                for port, cycles in enumerate(ports)
                if port not in self.idle_ports and cycles + blocked > 0.0
            ),
            alone=max(max(ports) / self._hertz + blocked / self._hertz, everywhere)
            + wait / self._hertz,
            chain=everywhere,
            wait=wait / self._hertz,
            drawn=float(read[-1] + written[-1]),
            read=read,
            written=written,
            shares={
                name: cycles / total for name, cycles in (parts | exposed).items() if cycles > 0
            },
        )


def phase_costs(plan: Plan, machine: Machine, isa: str, hertz: float) -> list[PhaseCosts]:
    """Return the costs of each phase of a plan.

    A port that no tile of the plan keeps longer than the load port is never the last to be free,
    and is left out.
    """
    phases = [PhaseCosts(index, plan, machine, isa, hertz) for index in range(len(plan.phases))]
    idle = frozenset(
        1 + port
        for port, name in enumerate(PORTS)
        if all(bool(np.all(p.beside[name] <= p.load)) for p in phases)
    )
    for phase in phases:
        phase.idle_ports = idle
    return phases
