"""Calibrates this host: measures, checks what was measured, makes the file's numbers."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from archsim.calibration import caches, consistency, memory, ports, siblings, threads
from archsim.calibration.bench import Bench, Progress
from archsim.calibration.caches import Level, Point
from archsim.calibration.figures import Entry
from archsim.calibration.handing import handed_entries
from archsim.calibration.levels import level_entries
from archsim.calibration.sampling import Figure
from archsim.host import machine_from_facts
from archsim.hostfacts import HostFacts, identity, read_facts
from archsim.kernels import isa_table, probes

#: seconds after which no more rounds of the core and of the caches are asked for, quick and full
_SECONDS: Final = {True: (3.5, 7.0), False: (18.0, 40.0)}
_THREAD_SECONDS: Final = {True: 1.0, False: 6.0}
_SAMPLES: Final = {True: 40, False: 80}
_ROUNDS: Final = {True: 2, False: 5}
_MIB: Final = 2**20


@dataclass
class Calibration:
    """What was measured on this host, and whether it may be believed.

    Attributes
    ----------
    entries : list of Entry
        Numbers of the machine file.
    figures : dict of str to Figure
        Every measurement, by key.
    curve : list of Point
        Latency and reading over working sets.
    disturbed, contradictions : list of str
        Reasons to refuse the file, with their evidence.
    left_out : list of str
        What could not be measured, and why.
    one_core : list of str
        Signs that two CPUs were hardware threads of one core for a while.
    stolen : float
        Share of the time measured on one core that went to others.
    """

    facts: HostFacts
    quick: bool
    entries: list[Entry] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    one_core: list[str] = field(default_factory=list)
    stolen: float = 0.0
    seconds: float = 0.0

    @property
    def identity(self) -> str:
        """Digest of the hardware."""
        return identity(self.facts)

    @property
    def trusted(self) -> bool:
        """Whether the file may be written without being forced."""
        return not self.disturbed and not self.contradictions


def calibrate(*, quick: bool = False, progress: Progress = lambda _: None) -> Calibration:
    """Measure this host.

    Parameters
    ----------
    quick : bool
        Some 10 seconds instead of a minute: fewer rounds, and fewer working sets.
    progress : callable
        Told what is being measured.

    Raises
    ------
    MemoryError
        There is no memory to measure caches in.
    """
    begin = time.monotonic()
    found = Calibration(read_facts(), quick)
    sizes = cache_sizes(found.facts)
    levels = levels_that_fit(found, sizes, memory.free_bytes())
    progress("taking memory")
    bench = Bench(
        probes.Probe(max(probes.LEAST_BYTES, *(level.size_bytes for level in levels))),
        deadline=begin + _SECONDS[quick][0],
        samples=_SAMPLES[quick],
        least_rounds=_ROUNDS[quick],
        progress=progress,
    )
    isas = _distinct_isas(found.facts)
    with on_one_cpu(found.facts, progress):
        _measure_core(found, bench, levels, isas)
    _measure_threads(found, bench, levels, isas)
    found.entries += level_entries(found, bench, levels, list(sizes.values()), isas[-1])
    _judge(found, bench, levels, isas)
    found.seconds = time.monotonic() - begin
    return found


def levels_that_fit(found: Calibration, sizes: Mapping[str, int], free: int) -> list[Level]:
    """Return the levels to measure with so many bytes free; say which are left out."""
    if not found.facts.caches:
        found.left_out.append("sizes of caches: the system tells none; the generic ones stay")
    *_, outermost = sizes.values()
    walked = memory.working_set(outermost, free)
    levels = caches.places(sizes, walked or probes.LEAST_BYTES)
    while len(levels) > 1 and (
        levels[-1].size_bytes > memory.SHARE_OF_FREE * free
        or (levels[-1].name == "memory" and not walked)
    ):
        name = levels.pop().name
        found.left_out.append(
            f"{name}: what would have to be walked does not fit into {free / _MIB:.0f} MiB that "
            "are free; its rates are assumed"
        )
    return levels


def cache_sizes(facts: HostFacts) -> dict[str, int]:
    """Return name -> bytes of the caches, inside out: the system's, or the generic machine's."""
    return {cache.name: int(cache.size_bytes) for cache in machine_from_facts(facts).caches}


def _distinct_isas(facts: HostFacts) -> tuple[str, ...]:
    """Return the instruction sets to measure, narrowest first."""
    lanes = {info.name: info.lanes for info in isa_table()}
    return tuple(sorted(facts.isas, key=lambda name: lanes[name]))


@contextmanager
def on_one_cpu(facts: HostFacts, progress: Progress) -> Iterator[None]:
    """Keep this thread on the CPU that others disturb least, for as long as the block runs."""
    before = os.sched_getaffinity(0)
    try:
        if len(facts.cpus) > 1:
            progress("looking for the quietest CPU")
            os.sched_setaffinity(0, {_quietest(facts.cpus)})
        yield
    finally:
        os.sched_setaffinity(0, before)


def _quietest(cpus: Sequence[int]) -> int:
    """Return the CPU on which a thread gets the largest share of some 100 ms.

    Shorter would not do: a thread that just came to a busy CPU gets a few milliseconds at once.
    """
    probe = probes.Probe(probes.LEAST_BYTES)
    steps = probe.steps_for("add_chain", None, 1e-3)
    samples = max(10, min(100, 1000 // len(cpus)))
    shares = {}
    for cpu in cpus[:64]:
        os.sched_setaffinity(0, {cpu})
        times = probe.time("add_chain", None, steps, samples)
        shares[cpu] = float(times[:, 5].sum() / times[:, :5].sum())
    return max(shares, key=lambda cpu: round(shares[cpu], 2))


def _measure_core(
    found: Calibration, bench: Bench, levels: Sequence[Level], isas: tuple[str, ...]
) -> None:
    found.figures |= bench.measure("core", ports.tasks(isas))
    first, last = _SECONDS[found.quick]
    bench.deadline += last - first
    tasks = caches.tasks(levels, isas[-1], quick=found.quick)
    found.figures |= bench.measure("caches", tasks)
    largest = bench.probe.size_bytes
    sizes = caches.curve_sizes(levels[0].size_bytes, largest, 2 if found.quick else 3)
    found.curve = caches.curve(bench, sizes, isas[-1], 1 if found.quick else 3)
    found.entries += ports.entries(bench, isas)


def _measure_calls(found: Calibration, bench: Bench) -> None:
    """Measure what a call costs, and one of BLAS besides; optional numbers."""
    call = threads.call_figure(bench, "direct_sparse", "row")
    blas = threads.call_figure(bench, "dense_gemm", "im2col")
    for key, figure in (("call", call), ("call of BLAS", blas)):
        if figure.settled:
            found.figures[key] = figure
        else:
            found.left_out += consistency.disturbed({key: figure}, 0.0)
    if not call.settled:
        return
    note = "next to nothing to compute"
    found.entries.append(Entry("call_overhead", call.value, "s", call.low, call.high, note, call))
    if blas.settled and blas.value > call.value:
        low, value, high = (max(0.0, x - call.value) for x in (blas.low, blas.value, blas.high))
        found.entries.append(Entry("blas_overhead", value, "s", low, high, note, blas))


def _measure_sustained(found: Calibration, bench: Bench, isas: tuple[str, ...]) -> None:
    """Measure what multiply-adds reach over milliseconds; an optional number of each set."""
    known = {entry.path: float(entry.value) for entry in found.entries if entry.unit}
    for isa in isas:
        at = f"core.isa.{isa}"
        if f"{isa}.fma" not in bench.rounds:
            continue
        figure = threads.sustained_figure(bench, isa, "fma")
        key = f"{isa}.fma sustained"
        if not figure.settled:
            found.left_out += consistency.disturbed({key: figure}, 0.0)
            continue
        found.figures[key] = figure
        value, low, high = (
            1.0 / (seconds * known[f"{at}.vector_clock"])
            for seconds in (figure.value, figure.high, figure.low)
        )
        note = f"{value / known[f'{at}.multiply']:.1%} of what the ports start"
        found.entries.append(
            Entry(f"{at}.sustained_multiply", value, "/cycle", low, high, note, figure)
        )


def _measure_products(found: Calibration, bench: Bench, isas: tuple[str, ...]) -> None:
    """Measure what the BLAS library's loops reach of the ports' rate; an optional number."""
    isa = isas[-1]  # the set that plans of products are made for
    loop = "fma" if f"{isa}.fma" in bench.rounds else "multiply"
    ports = next(entry for entry in found.entries if entry.path == f"core.isa.{isa}.multiply")
    lanes = next(info.lanes for info in isa_table() if info.name == isa)
    figure = threads.product_figure(bench, isa, lanes, loop)
    if not figure.settled or figure.low <= 0.0:
        found.left_out += consistency.disturbed({"products of BLAS": figure}, 0.0)
        return
    found.figures["products of BLAS"] = figure
    value, low, high = (float(ports.value) / x for x in (figure.value, figure.high, figure.low))
    note = f"{1 / figure.value:.0%} of what the ports start; packing left out"
    path = f"core.isa.{isa}.blas_multiply_adds"
    found.entries.append(Entry(path, value, "/cycle", low, high, note, figure))


def _measure_join(found: Calibration, bench: Bench) -> None:
    """Measure what a call on all cores costs more than one on one core."""
    cores, alone = found.facts.cores, found.figures.get("call")
    together = threads.call_figure(bench, "direct_sparse", "row", threads=cores)
    if alone is None or not together.settled:
        found.left_out += consistency.disturbed({f"call on {cores} cores": together}, 0.0)
        return
    low, value, high = (
        max(0.0, x - alone.value) for x in (together.low, together.value, together.high)
    )
    found.figures["fork_join"] = together
    note = f"a call on {cores} cores less one on one, next to nothing to compute"
    found.entries.append(Entry("fork_join", value, "s", low, high, note, together))


def _measure_threads(
    found: Calibration, bench: Bench, levels: Sequence[Level], isas: tuple[str, ...]
) -> None:
    cores = found.facts.cores
    bench.deadline = max(bench.deadline, time.monotonic()) + _THREAD_SECONDS[found.quick]
    _measure_pair(found, bench, isas[-1])
    _measure_calls(found, bench)
    _measure_sustained(found, bench, isas)
    _measure_products(found, bench, isas)
    if cores < 2:
        found.left_out.append("several cores: this process may use one; barriers are assumed")
        return
    clock = next(entry for entry in found.entries if entry.path == "clock")
    barrier = threads.pool_figure(bench, cores)
    found.figures["barrier"] = barrier
    scale = float(clock.value)
    found.entries.append(
        Entry("barrier", barrier.value * scale, "cycles", barrier.low * scale,
              barrier.high * scale, f"{cores} threads", barrier)
    )  # fmt: skip
    _measure_join(found, bench)
    found.entries += handed_entries(found, bench, levels, isas[-1], float(clock.value))
    for level in levels[-2:]:
        for walk in ("read", "update") if level.name == "memory" else ("read",):
            for shared in threads.shared_walks(bench, level, walk, isas[-1], cores):
                key = f"{level.name}.{walk} on {shared.cores} cores"
                if level.name == "memory" or shared.figure.settled:
                    found.figures[key] = shared.figure
                else:  # an optional number: better none than a wrong one, or no file
                    found.left_out += consistency.disturbed({key: shared.figure}, 0.0)


def _measure_pair(found: Calibration, bench: Bench, isa: str) -> None:
    """Look whether CPUs are the cores that the system says they are."""
    cpus = found.facts.cpus
    if len(cpus) < 2:
        return
    bench.progress("two CPUs at once")
    path = Path(f"/sys/devices/system/cpu/cpu{cpus[0]}/topology/thread_siblings_list")
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        found.left_out.append("hardware threads: the system does not tell which share a core")
        return
    sibling = siblings.sibling_of(cpus[0], cpus, text)
    pair = siblings.measure_pair((cpus[0], cpus[1] if sibling is None else sibling), isa)
    found.contradictions += siblings.contradictions(pair, stated_one_core=sibling is not None)
    if sibling is not None:
        found.entries.append(siblings.hides_stalls(pair))


def _judge(
    found: Calibration, bench: Bench, levels: Sequence[Level], isas: tuple[str, ...]
) -> None:
    """Look for disturbance and contradictions."""
    found.stolen = bench.stolen
    found.disturbed = [*found.one_core, *consistency.disturbed(found.figures, found.stolen)]
    streams = caches.figures_of(bench, levels, "read")
    names = [level.name for level in levels]
    waits = [bench.figure(level.key("chase_1")).value for level in levels]
    value = {entry.path: entry.value for entry in found.entries}
    rates = {
        e.path: float(e.value) for e in found.entries
        if e.unit == "/cycle" and e.path != "core.issue_width" and not e.path.endswith("gathers")
    }  # fmt: skip
    clocks = [e for e in found.entries if e.path.endswith("vector_clock")]
    vector = {e.path: float(e.value) for e in clocks}
    # a round of multiply-adds had one of the clocks that all its rounds were seen at
    highest = {e.path: max(float(e.value), e.high or 0.0) for e in clocks}
    clock = float(value["clock"])
    found.contradictions += [
        *consistency.yardstick(bench.figure("multiply_chain").value),
        *consistency.ordered("cycles of a line", names, [f.value for f in streams]),
        *consistency.ordered("latency, cycles", names, waits),
        *consistency.within_issue(rates, float(value["core.issue_width"])),
        *consistency.clocks(clock, _greatest_clock_hz(found.facts), vector),
    ]
    lanes = {info.name: info.lanes for info in isa_table()}
    for isa in isas:
        key = f"{isa}.fma" if f"{isa}.fma" in found.figures else f"{isa}.multiply"
        at = f"core.isa.{isa}"
        flops = 2 * lanes[isa] / bench.figure(key, seconds=True).value
        found.contradictions += consistency.peak(
            lanes[isa], float(value[f"{at}.multiply"]), highest[f"{at}.vector_clock"], flops
        )
    for level in levels[-2:]:
        for key, figure in found.figures.items():
            if key.startswith(f"{level.name}.read on "):
                cores = int(key.split()[2])
                one = probes.LINE_BYTES / bench.figure(level.key("read"), seconds=True).value
                found.contradictions += consistency.together(
                    level.name, cores, one, probes.LINE_BYTES / figure.value
                )


def _greatest_clock_hz(facts: HostFacts) -> float | None:
    """Return the clock that the system states as the greatest, where it states one."""
    path = Path(f"/sys/devices/system/cpu/cpu{facts.cpus[0]}/cpufreq/cpuinfo_max_freq")
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) * 1e3 if re.fullmatch(r"[1-9]\d*", text) else None
