"""Two cores that hand lines to each other: what that costs more than the cache that both share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

import numpy as np

from archsim.calibration.bench import Bench
from archsim.calibration.caches import Level
from archsim.calibration.consistency import disturbed
from archsim.calibration.figures import Entry
from archsim.calibration.sampling import Figure, Round, settle
from archsim.calibration.threads import POOL_TOLERANCE
from archsim.kernels import probes

if TYPE_CHECKING:
    from archsim.calibration.run import Calibration

#: written at once, of the first level's size: a little more than it holds
_BLOCK: Final = 4 / 3
#: multiples of that at which writing is looked at again
_LONGER: Final = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_ROUNDS: Final = 8
_SAMPLES: Final = 60
_QUANTILE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Handing:
    """Seconds of a line: written after another core read it, read after another one wrote it."""

    write: Figure
    read: Figure


def measure(bench: Bench, isa: str, write: str, size_bytes: int) -> Handing:
    """Let one thread write so many bytes and another one read them, in turns.

    Parameters
    ----------
    write : {"write", "write_across"}
        Stores of whole lines, or such that lie across two.
    """
    probe = probes.Probe(max(size_bytes, probes.LEAST_BYTES))
    probe.walk(size_bytes)
    rounds: list[list[Round]] = [[], []]
    for number in range(_ROUNDS):
        bench.progress(f"{write} and read by another core: round {number + 1}")
        times = probes.hand_over(probe, isa, write, samples=_SAMPLES)
        for own, seconds in zip(rounds, times.T / (size_bytes // probes.LINE_BYTES), strict=True):
            value, middle = (float(np.quantile(seconds, q)) for q in (_QUANTILE, 0.5))
            own.append(Round(value, value, middle, middle, 0.0, 1.0, 0.0))
        if number >= 2 and (bench.late or all(_usual(own).settled for own in rounds)):
            break
    return Handing(*(_usual(own) for own in rounds))


def _usual(rounds: Sequence[Round]) -> Figure:
    """Return the figure of the rounds about the middle one; unsettled, unless they are most of all.

    Not of the fastest one: where a hypervisor puts both CPUs on one core, or on neighbours, for a
    moment, lines take less for that moment.
    """
    middle = float(np.median([each.cycles for each in rounds]))
    near = [each for each in rounds if abs(each.cycles / middle - 1.0) <= POOL_TOLERANCE / 2]
    if 2 * len(near) > len(rounds):
        return settle(near, POOL_TOLERANCE)
    return replace(settle(rounds, POOL_TOLERANCE), agreeing=0)


def handed_entries(
    found: Calibration, bench: Bench, levels: Sequence[Level], isa: str, clock_hz: float
) -> Iterator[Entry]:
    """Yield what a line costs more that cores hand to each other; optional numbers.

    Parameters
    ----------
    levels : sequence of Level
        With the cache that all cores share as the last but memory.
    """
    inside = [level for level in levels if level.name != "memory"]
    if len(inside) < 2:
        return
    last, first = inside[-1], levels[0]
    size = _blocks(3 * first.size_bytes * _BLOCK)  # walks of the first level take a third of it
    whole, across = (measure(bench, isa, how, size) for how in ("write", "write_across"))
    figures = {
        "line read after another core": whole.read, "line written after another core": whole.write,
        "line written across after another core": across.write,
    }  # fmt: skip
    if lines := disturbed(figures, 0.0):
        found.left_out += lines
        return
    found.figures |= figures
    shared = {how: bench.figure(last.key(how), seconds=True).value for how in ("read", "write")}
    if whole.read.value < shared["read"]:  # no line of another core is nearer than the shared cache
        found.one_core.append(
            f"a line that another core wrote took {whole.read.value * 1e9:.3g} ns, one of "
            f"{last.name} {shared['read'] * 1e9:.3g}: the two CPUs shared a core meanwhile"
        )
    for key, figure, how in (
        ("handed_read", whole.read, "read"), ("handed_write", whole.write, "write"),
        ("handed_split_write", across.write, "write"),
    ):  # fmt: skip
        low, value, high = (
            max(0.0, seconds - shared[how]) * clock_hz
            for seconds in (figure.low, figure.value, figure.high)
        )
        note = (
            f"{size >> 10} KiB at once: {figure.value * 1e9:.3g} ns a line, "
            f"of {last.name} {shared[how] * 1e9:.3g}"
        )
        yield Entry(f"core.{key}", value, "cycles", low, high, note, figure)
    yield from _reach(bench, isa, size, whole.write.value, shared["write"])


def _reach(bench: Bench, isa: str, size: int, near: float, far: float) -> Iterator[Entry]:
    """Yield how many bytes at once are as dear to write, where more are cheaper."""
    sizes = [_blocks(size * factor) for factor in _LONGER]
    seconds = [measure(bench, isa, "write", longer).write.value for longer in sizes]
    dear = list(takewhile(lambda each: each > (near + far) / 2, seconds))
    if len(dear) < len(seconds):
        most = [size, *sizes][len(dear)]
        shown = ", ".join(
            f"{longer >> 10} KiB {each * 1e9:.3g}"
            for longer, each in zip(sizes, seconds, strict=True)
        )
        yield Entry("core.handed_size", float(most), "B", note=f"ns of a line written: {shown}")


def _blocks(size_bytes: float) -> int:
    return max(1, round(size_bytes / probes.BLOCK_BYTES)) * probes.BLOCK_BYTES
