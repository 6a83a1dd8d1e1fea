"""Published rates that follow the hardware, where a machine differs from the one they are of.

The one rule for machine files that start from another (``base:``) and for :func:`archsim.vary`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from archsim.machine import Machine
from archsim.units import UNITS, format_quantity


@dataclass(frozen=True, slots=True)
class ScaledRate:
    """A rate at a dotted path: ``value`` (base units) of the base, times ``ratio``."""

    path: str
    kind: str
    value: float
    ratio: float
    why: str

    def text(self, value: float) -> str:
        """Write a value of the base, scaled, with its unit."""
        return f"{value * self.ratio!r} {next(u for u, f in UNITS[self.kind].items() if f == 1.0)}"


def scaled_rates(machine: Machine, base: Machine) -> Iterator[ScaledRate]:
    """Yield the rates of ``base`` that another machine scales, unless it states them itself.

    The dense rate scales with the peak, vector clocks with the clock, STREAM with the memory's
    bandwidth.  Alpha has no such rule: it is dropped where :func:`other_compute` holds, and the
    in-core model gives it.
    """
    clock = machine.clock_hz / base.clock_hz
    peak = machine.peak_flops_per_s(clock="nominal") / base.peak_flops_per_s(clock="nominal")
    if peak != 1.0 or other_compute(machine, base):
        yield from _scaled("rates.sgemm", base.rates.sgemm_flops_per_s, peak, "flop rate", "peak")
    memory = _memory_rate(machine) / _memory_rate(base)
    if memory != 1.0:
        yield from _scaled(
            "rates.stream", base.rates.stream_bytes_per_s, memory, "bandwidth", "memory"
        )
    if clock != 1.0:
        for name, isa in base.core.isa.items():
            path = f"core.isa.{name}.vector_clock"
            yield from _scaled(path, isa.vector_clock_hz, clock, "frequency", "clock")


def _scaled(
    path: str, value: float | None, ratio: float, kind: str, what: str
) -> Iterator[ScaledRate]:
    if value is not None:
        yield ScaledRate(path, kind, value, ratio, f"{format_quantity(value, kind)}, times the "
                         f"{what}'s ratio {ratio:.4g}")  # fmt: skip


def other_compute(machine: Machine, base: Machine) -> bool:
    """Return whether cores, clock or SIMD units of two machines differ."""
    return _compute(machine) != _compute(base)


def _compute(machine: Machine) -> tuple[Any, ...]:
    isa = machine.instruction_set()
    return (
        machine.cores, machine.sockets, machine.clock_hz,
        isa.lanes, isa.fma, isa.multiply, isa.add,
    )  # fmt: skip


def _memory_rate(machine: Machine) -> float:
    return machine.memory[0].bandwidth_bytes_per_s * machine.sockets
