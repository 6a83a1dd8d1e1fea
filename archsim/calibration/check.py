"""Whether a machine file still matches this host: a few of its numbers measured anew."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from archsim.calibration import caches, consistency, ports
from archsim.calibration.bench import Bench, Progress
from archsim.calibration.figures import Entry, cycles
from archsim.calibration.run import cache_sizes, on_one_cpu
from archsim.errors import HostMismatchError
from archsim.hostfacts import identity, read_facts
from archsim.kernels import probes
from archsim.machine import Machine
from archsim.machinepath import value_at

#: a number may leave the file's range by so much of it
TOLERANCE: Final = 0.05
_SECONDS: Final = 3.0
_SAMPLES: Final = 40


@dataclass(frozen=True, slots=True)
class Compared:
    """One number of the file and what it is now, base units."""

    path: str
    low: float
    high: float
    measured: float
    tolerance: float
    unit: str

    @property
    def matches(self) -> bool:
        """Whether it is still inside the file's range, widened by the tolerance."""
        low, high = self.low * (1 - self.tolerance), self.high * (1 + self.tolerance)
        return low <= self.measured <= high


@dataclass(frozen=True, slots=True)
class Checked:
    """Numbers compared, and what disturbed the measurement."""

    compared: tuple[Compared, ...]
    disturbed: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether all numbers match, and nothing disturbed them."""
        return not self.disturbed and all(item.matches for item in self.compared)


def check(machine: Machine, *, progress: Progress = lambda _: None) -> Checked:
    """Measure a few numbers of a file of this host again.

    Raises
    ------
    HostMismatchError
        The file is of other hardware.
    """
    facts = read_facts()
    if machine.identity != identity(facts):
        raise HostMismatchError(
            f"machine {machine.name!r} is of other hardware: its identity is {machine.identity}, "
            f"that of this host ({facts.model}) is {identity(facts)}"
        )
    isa = machine.default_isa
    sizes = cache_sizes(facts)
    own = list(sizes.values())[: max(1, min(2, len(sizes) - 1))]  # a core's own levels
    bench = Bench(
        probes.Probe(max(2 * own[-1], probes.LEAST_BYTES)),
        deadline=time.monotonic() + _SECONDS,
        samples=_SAMPLES,
        least_rounds=2,
        progress=progress,
    )
    levels = caches.places(sizes, probes.LEAST_BYTES)[: len(own)]
    waits = [task for task in caches.tasks(levels, isa, quick=True) if task.loop == "chase_1"]
    with on_one_cpu(facts, progress):
        figures = bench.measure("core", ports.tasks((isa,)))
        figures |= bench.measure("caches", waits)
    entries = ports.entries(bench, (isa,))
    entries += [
        cycles(f"caches.{level.name}.latency", figures[level.key("chase_1")]) for level in levels
    ]
    compared = [_compare(machine, entry) for entry in entries if entry.unit]
    return Checked(
        tuple(item for item in compared if item is not None),
        tuple(consistency.disturbed(figures, bench.stolen)),
    )


def _compare(machine: Machine, entry: Entry) -> Compared | None:
    where = machine.provenance.get(entry.path)
    if where is None or where.kind != "measured":
        return None
    value = float(value_at(machine, entry.path))
    low, high = where.low or value, where.high or value
    return Compared(entry.path, low, high, float(entry.value), TOLERANCE, entry.unit)
