"""The clock, and what one core can start per cycle, all data in the first level."""

from __future__ import annotations

from statistics import median
from typing import Final

import numpy as np

from archsim.calibration.bench import Bench, Task
from archsim.calibration.figures import Entry, cycles, per_cycle
from archsim.calibration.sampling import Figure
from archsim.kernels import isa_table, probes

_SCALAR: Final = (
    "add_chain", "multiply_chain", "add", "nop", "load", "prefetch", "store", "branch",
    "branch_random",
)  # fmt: skip
_LINE: Final = probes.LINE_BYTES
_PAGE: Final = 4096
_PAGES_TOLERANCE: Final = 0.04  # rounds of it differ on a quiet core
_L1_BYTES: Final = 8 * 1024  # in any first level, with room for a neighbour


def tasks(isas: tuple[str, ...]) -> list[Task]:
    """Return the loops of the core: without vectors, and of each instruction set."""
    found = [Task(name, name) for name in _SCALAR]
    found.append(Task("chase", "chase_1", size_bytes=_L1_BYTES, chases=1))
    for isa in isas:
        found += _vector_tasks(isa)
    return found


def _vector_tasks(isa: str) -> list[Task]:
    half = 2 * _lanes(isa)  # bytes of half a vector
    found = [
        Task(f"{isa}.{name}", name, isa)
        for name in ("multiply", "add", "multiply_and_add", "multiply_chain", "add_chain", "fma",
                     "fma_chain", "folded", "load", "store", "broadcast", "gather", "load_chain",
                     "move_chain", "shuffle")
        if name in probes.loops(isa)
    ]  # fmt: skip
    found += [
        Task(f"{isa}.load unaligned", "load", isa, offset_bytes=4),
        Task(f"{isa}.load across lines", "load", isa, offset_bytes=_LINE - half),
        Task(
            f"{isa}.load across pages",
            "load_pages",
            isa,
            offset_bytes=_PAGE - half,
            tolerance=_PAGES_TOLERANCE,
        ),
        Task(f"{isa}.store across lines", "store", isa, offset_bytes=_LINE - half),
        Task(
            f"{isa}.store across pages",
            "store_pages",
            isa,
            offset_bytes=_PAGE - half,
            tolerance=_PAGES_TOLERANCE,
        ),
        Task(f"{isa}.update", "update", isa, size_bytes=_L1_BYTES),
    ]
    return found


def _lanes(isa: str) -> int:
    return next(info.lanes for info in isa_table() if info.name == isa)


def _fma(isa: str) -> bool:
    return next(info.fma for info in isa_table() if info.name == isa)


def entries(bench: Bench, isas: tuple[str, ...]) -> list[Entry]:
    """Return the file's numbers of the core, from the bench's rounds."""
    found = {key: bench.figure(key) for key in bench.rounds}
    widest = isas[-1]
    lines = [
        clock_entry("clock", bench, _SCALAR, "of a core that makes integer additions"),
        per_cycle("core.issue_width", found["nop"], "instructions without effect"),
        per_cycle("core.scalar", found["add"], "independent additions"),
        per_cycle("core.scalar_loads", found["load"]),
        per_cycle("core.early_lines", found["prefetch"], "lines in L1"),
        per_cycle("core.scalar_stores", found["store"], "one number each, side by side"),
        _vector_load_latency(found, widest),
        _mispredict(found),
    ]
    for isa in isas:
        lines += _isa_entries(bench, found, isa)
    return lines


def clock_entry(path: str, bench: Bench, keys: tuple[str, ...], what: str) -> Entry:
    """Return the clock during some tasks: the median of their rounds."""
    clocks = bench.clocks_hz(keys)
    return Entry(
        path, median(clocks), "Hz", float(np.quantile(clocks, 0.1)),
        float(np.quantile(clocks, 0.9)), f"{what}; median of {len(clocks)} rounds",
    )  # fmt: skip


def _vector_load_latency(found: dict[str, Figure], isa: str) -> Entry:
    """A load whose address the vector before holds, less half of a move there and back."""
    chain, move = found[f"{isa}.load_chain"], found[f"{isa}.move_chain"]
    value = chain.value - move.value / 2
    return Entry(
        "core.load_latency", value, "cycles", value - 1, max(value + 1, chain.high - move.low / 2),
        f"{isa}; a move from vector to integer register is taken to be half of one there and "
        "back, which may be a cycle off",
        chain,
    )  # fmt: skip


def _mispredict(found: dict[str, Figure]) -> Entry:
    """Random branches against alternating ones: half of the random ones are mispredicted."""
    random, known = found["branch_random"], found["branch"]
    lost, low, high = (
        max(0.0, 2 * (cycles - known.value)) for cycles in (random.value, random.low, random.high)
    )
    return Entry(
        "core.mispredict", lost, "cycles", low, high,
        "random branches against alternating ones", random,
    )  # fmt: skip


def _isa_entries(bench: Bench, found: dict[str, Figure], isa: str) -> list[Entry]:
    at = f"core.isa.{isa}"
    fma = _fma(isa)
    multiply, add = ("fma", "fma") if fma else ("multiply", "add")
    busy = tuple(f"{isa}.{name}" for name in ("fma", "multiply", "add") if name in multiply + add)
    lines = [
        per_cycle(f"{at}.multiply", found[f"{isa}.{multiply}"]),
        per_cycle(f"{at}.add", found[f"{isa}.{add}"]),
        cycles(f"{at}.multiply_latency", found[f"{isa}.{multiply}_chain"]),
        cycles(f"{at}.add_latency", found[f"{isa}.{add}_chain"]),
        per_cycle(f"{at}.loads", found[f"{isa}.load"], _unaligned(found, isa)),
        *_operands(found, isa),
        per_cycle(f"{at}.shuffles", found[f"{isa}.shuffle"], "of two vectors"),
        per_cycle(f"{at}.stores", found[f"{isa}.store"]),
        cycles(f"{at}.line_crossing", found[f"{isa}.load across lines"]),
        cycles(f"{at}.page_crossing", found[f"{isa}.load across pages"], "4 KiB boundaries inside "
               "large pages where the system has them"),
        cycles(f"{at}.store_line_crossing", found[f"{isa}.store across lines"]),
        cycles(f"{at}.store_page_crossing", found[f"{isa}.store across pages"]),
        clock_entry(f"{at}.vector_clock", bench, busy, "while it does nothing but "
                    + ("multiply-adds" if fma else "multiplies and additions")),
    ]  # fmt: skip
    if not fma:
        lines += [
            shared_arithmetic(found, isa),
            Entry(
                f"{at}.pairs",
                0.5 / found[f"{isa}.multiply_and_add"].value,
                "/cycle",
                0.5 / found[f"{isa}.multiply_and_add"].high,
                0.5 / found[f"{isa}.multiply_and_add"].low,
                figure=found[f"{isa}.multiply_and_add"],
            ),
        ]
    if f"{isa}.gather" in found:
        lines.append(per_cycle(f"{at}.gathers", found[f"{isa}.gather"]))
    return lines


def _unaligned(found: dict[str, Figure], isa: str) -> str:
    inside = 1 / found[f"{isa}.load unaligned"].value
    broadcasts = 1 / found[f"{isa}.broadcast"].value
    return f"{inside:.3g} per cycle 4 bytes off; {broadcasts:.3g} broadcasts per cycle"


def _operands(found: dict[str, Figure], isa: str) -> list[Entry]:
    """Return what loads give to multiply-adds, for sets whose instructions can load.

    Others fill a register with one number by a load and shuffles, which is no rate of loads.
    """
    if f"{isa}.folded" not in found:
        return []
    at = f"core.isa.{isa}"
    return [
        per_cycle(f"{at}.broadcasts", found[f"{isa}.broadcast"]),
        per_cycle(f"{at}.folded_loads", found[f"{isa}.folded"], "multiply-adds, a load each"),
    ]


def shared_arithmetic(found: dict[str, Figure], isa: str) -> Entry:
    """Decide whether multiplies and additions, one for one, share ports.

    One after the other on shared ports their times add; on ports of their own the longer one
    counts.  The rule that comes nearer to the measured time is taken.
    """
    one, two = found[f"{isa}.multiply"].value, found[f"{isa}.add"].value
    pair = 2 * found[f"{isa}.multiply_and_add"].value
    shared = abs(pair - (one + two)) < abs(pair - max(one, two))
    return Entry(
        f"core.isa.{isa}.shared_arithmetic", shared,
        note=f"{1 / pair:.3g} pairs of a multiply and an addition per cycle: shared ports would "
        f"make {1 / (one + two):.3g}, separate ones {1 / max(one, two):.3g}",
    )  # fmt: skip
