"""The file's numbers of caches and memory, from streams, chases and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from archsim.calibration import caches
from archsim.calibration.bench import Bench
from archsim.calibration.caches import Level, Overlap
from archsim.calibration.figures import Entry, cycles
from archsim.calibration.memory import allocates_on_write
from archsim.calibration.sampling import Figure
from archsim.kernels import isa_table, probes

if TYPE_CHECKING:
    from archsim.calibration.run import Calibration

_LINE: Final = probes.LINE_BYTES
#: a level counts as smaller than the system says from this share on
_SMALLER: Final = 0.75


def level_entries(
    found: Calibration, bench: Bench, levels: Sequence[Level], sizes: Sequence[int], isa: str
) -> list[Entry]:
    """Return the numbers of every level that was measured, memory last."""
    inside = [level for level in levels if level.name != "memory"]
    streams = [figure.value for figure in caches.figures_of(bench, levels, "read")]
    streams[0] = bench.figure(f"{isa}.load").value * _vectors(isa)  # as the model counts them
    updates = [figure.value for figure in caches.figures_of(bench, levels, "update")]
    waits = caches.figures_of(bench, levels, "chase_1")
    entries: list[Entry] = []
    rules: list[Overlap] = []
    for index in range(len(levels) - 1):
        entry, how = _overlap(bench, levels, index, streams, waits)
        entries.append(entry)
        rules.append(how)
    store = bench.figure(f"{isa}.store").value * _vectors(isa)
    reads = caches.read_steps(streams, rules)
    writes = caches.write_steps(updates, reads, rules, store)
    entries += _first_level(bench, levels[0], isa)
    entries += _second_level(bench, levels, isa, reads[0])
    for index, level in enumerate(inside):
        at = f"caches.{level.name}"
        entries.append(cycles(f"{at}.latency", waits[index]))
        if index:
            entries.append(
                _step(f"{at}.bandwidth", reads[index - 1], bench.figure(level.key("read")))
            )
            entries.append(
                _step(
                    f"{at}.write_bandwidth",
                    writes[index - 1],
                    bench.figure(level.key("update")),
                    hidden=writes[index - 1] <= store,
                )
            )
        if index + 1 < len(levels):
            most, seen = caches.outstanding(bench, levels, index)
            entries.append(
                Entry(f"{at}.outstanding", max(1, round(most)), note=f"{most:.1f}: {seen}")
            )
        size = _size(found, levels, index, sizes[index])
        if size is not None:
            entries.append(size)
    if len(levels) > len(inside):
        hidden = writes[-1] <= store
        entries += _memory_entries(found, bench, levels[-1], reads[-1], writes[-1], hidden=hidden)
    return [*entries, *_shared_entries(found, bench, inside)]


def _vectors(isa: str) -> float:
    """Return the vectors of a set that make a line."""
    lanes = next(info.lanes for info in isa_table() if info.name == isa)
    return _LINE / (4 * lanes)


def _first_level(bench: Bench, level: Level, isa: str) -> list[Entry]:
    """What the first level hands to the core: aligned loads and stores of the widest set."""
    width = _LINE / _vectors(isa)
    load, store = bench.figure(f"{isa}.load"), bench.figure(f"{isa}.store")
    return [
        Entry(f"caches.{level.name}.{key}", width / figure.value, "B/cycle", width / figure.high,
              width / figure.low, f"aligned {what} of {isa}", figure)
        for key, figure, what in (("bandwidth", load, "loads"), ("write_bandwidth", store,
                                                                "stores"))
    ]  # fmt: skip


def _second_level(bench: Bench, levels: Sequence[Level], isa: str, read: float) -> list[Entry]:
    """How stores, and loads across lines, get on with lines that come into the first level."""
    at = levels[1]
    stores = caches.hiding(*(_beside(bench, level, "store") for level in levels[:2]))
    across = bench.figure(at.key("read_across"))
    whole, parted = (bench.figure(f"{isa}.{key}").value for key in ("load", "load across lines"))
    lost = caches.split_step(across.value, (_vectors(isa) - 1) * whole + parted, read)
    note = (
        f"beside {stores.beside} stores to L1 a line, {stores.share:.0%} of the transfer from "
        f"{at.name} were hidden"
    )
    how = "overlapped" if stores.share > 0.5 else "serial"
    return [
        Entry("core.store_overlap", how, note=note),
        Entry("core.split_miss", lost, "cycles", lost, lost + across.high - across.low,
              f"lines of {at.name} under loads across lines {across.value:.3g} cycles", across),
    ]  # fmt: skip


def _step(path: str, step: float, stream: Figure, *, hidden: bool = False) -> Entry:
    """Return the rate of a step; it is as uncertain as the stream that it is taken from."""
    spread = stream.high - stream.low
    note = "hidden behind reading: the rate of the core's own stores; " if hidden else ""
    return Entry(
        path, _LINE / step, "B/cycle", _LINE / (step + spread), _LINE / step,
        f"{note}the stream itself: {_LINE / stream.value:.4g} B/cycle", stream,
    )  # fmt: skip


def _beside(bench: Bench, level: Level, what: str) -> dict[int, float]:
    """Return loads or products beside each line -> cycles of a line."""
    found = {0: bench.figure(level.key("read")).value}
    for count in caches.BESIDE:
        key = level.key(f"read_and_{what}_{count}")
        if key in bench.rounds:
            found[count] = bench.figure(key).value
    return found


def _overlap(
    bench: Bench, levels: Sequence[Level], index: int, streams: Sequence[float],
    waits: Sequence[Figure],
) -> tuple[Entry, Overlap]:  # fmt: skip
    """Return the overlap rule of a boundary, from loads of the first level beside a stream."""
    outer = levels[index + 1]
    loads, products = (
        caches.hiding(_beside(bench, levels[0], what), _beside(bench, outer, what))
        for what in ("load", "multiply")
    )
    how = caches.rule(loads.share, streams[index + 1], waits[index + 1].value)
    note = (
        f"beside {loads.beside} loads from L1 a line, {loads.share:.0%} of the transfer from "
        f"{outer.name} were hidden; beside {products.beside} products {products.share:.0%}"
    )
    return Entry(f"caches.{levels[index].name}.overlap", how, note=note), how


def _size(found: Calibration, levels: Sequence[Level], index: int, stated: int) -> Entry | None:
    """Return the size of a level where the curve shows less than the system states.

    Of the last level, which others use too, it is what is left; of a core's own level the stated
    size stays, for a neighbour on the same core comes and goes.
    """
    if index + 1 >= len(levels) or not found.facts.caches:
        return None
    here, outside = (
        found.figures[level.key("chase_1")].value for level in levels[index : index + 2]
    )
    end = caches.level_end(found.curve, here, outside)
    if end is None or end >= _SMALLER * stated:
        return None
    ordered = sorted(found.facts.caches, key=lambda cache: cache.level)
    way = ordered[index].line_bytes * ordered[index].ways
    size = float(max(way, round(end / way) * way))
    path = f"caches.{levels[index].name}.size"
    if 0 < index == len(ordered) - 1:
        note = f"where its latency ends; the system states {stated >> 10} KiB, others use it too"
        return Entry(path, size, "B", size, float(stated), note)
    note = f"its latency ended at {end / 1024:.0f} KiB: something else used it meanwhile"
    return Entry(path, float(stated), "B", size, float(stated), note)


def _memory_entries(
    found: Calibration, bench: Bench, level: Level, read: float, write: float, *, hidden: bool
) -> list[Entry]:
    """Memory as one core sees it, and as all cores together do."""
    at = "memory.DDR"
    wait = bench.figure(level.key("chase_1"), seconds=True)
    stream = bench.figure(level.key("read"), seconds=True)
    lines = {what: bench.figure(level.key(what)).value for what in ("read", "write", "update")}
    # seconds of a cycle while memory streams
    cycle = stream.value / lines["read"]
    alone = _LINE / stream.value
    most, best, how = _most_bytes(found, bench, level)
    return [
        Entry(f"{at}.latency", wait.value, "s", wait.low, wait.high, figure=wait),
        Entry(f"{at}.bandwidth", most / best.value, "B/s", most / best.high, most / best.low,
              how, best),
        Entry(f"{at}.core_bandwidth", _LINE / (read * cycle), "B/s",
              note=f"the step alone; the stream itself {alone / 1e9:.4g} GB/s"),
        Entry(f"{at}.core_write_bandwidth", _LINE / (write * cycle), "B/s",
              note="hidden behind reading: the rate of the core's own stores" if hidden
              else "the step alone"),
        Entry(f"{at}.write_allocate",
              allocates_on_write(lines["read"], lines["write"], lines["update"]),
              note="cycles of a line read {read:.3g}, written {write:.3g}, both {update:.3g}"
              .format(**lines)),
    ]  # fmt: skip


def _most_bytes(found: Calibration, bench: Bench, level: Level) -> tuple[float, Figure, str]:
    """Return the bytes of a line in the fastest stream of memory, its figure, and which it is."""
    rows = []
    for walk, moved in (("read", _LINE), ("update", 2 * _LINE)):
        rows.append((moved, bench.figure(level.key(walk), seconds=True), f"{walk} on one core"))
        for key, figure in found.figures.items():
            if key.startswith(f"memory.{walk} on "):
                rows.append((moved, figure, key.removeprefix("memory.")))
    told = "; ".join(f"{how} {moved / figure.value / 1e9:.4g} GB/s" for moved, figure, how in rows)
    moved, best, _ = max(rows, key=lambda row: row[0] / row[1].value)
    return moved, best, told


def _shared_entries(found: Calibration, bench: Bench, inside: Sequence[Level]) -> list[Entry]:
    """What the last cache feeds to all cores."""
    level = inside[-1]
    figure = found.figures.get(f"{level.name}.read on {found.facts.cores} cores")
    if figure is None:
        return []
    alone = bench.figure(level.key("read"))
    clock = alone.value / bench.figure(level.key("read"), seconds=True).value
    return [
        Entry(f"caches.{level.name}.shared_bandwidth", _LINE / (figure.value * clock), "B/cycle",
              _LINE / (figure.high * clock), _LINE / (figure.low * clock),
              f"streams of {found.facts.cores} cores; one alone {_LINE / alone.value:.4g} B/cycle",
              figure)
    ]  # fmt: skip
